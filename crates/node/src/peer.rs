//! What the cores of two servers say to each other, in bytes (format: `docs/peer-protocol.md`).

use bytes::{Buf, BufMut, Bytes, BytesMut};
use ostler_replication::{MessageError, PeerMessage};
use ostler_types::{LogIndex, SessionId, Term};

use crate::command::{CommandBuffer, CommandError};

/// Version of the layout of every frame here.
const VERSION: u8 = 1;

mod kind {
    pub(super) const CONSENSUS: u8 = 1;
    pub(super) const FORWARD: u8 = 2;
    pub(super) const NOT_LEADING: u8 = 3;
    pub(super) const REPORT: u8 = 4;
    pub(super) const REPORT_ACK: u8 = 5;
    pub(super) const SNAPSHOT_FAILED: u8 = 6;
    pub(super) const DIVERGED: u8 = 7;
}

/// One frame between two cores.
#[derive(Clone, Debug, PartialEq)]
pub enum PeerFrame {
    /// A message of consensus.
    Consensus(PeerMessage),
    /// Commands of the sender's clients, for the leader of `term`.
    Forward {
        /// The term in which the receiver leads, as the sender knows it; in any other they are refused.
        term: Term,
        /// The commands, as in a log entry.
        commands: Bytes,
    },
    /// The receiver's commands were not taken: the sender does not lead in that term.
    NotLeading {
        /// Of the refused frame.
        term: Term,
    },
    /// Whom the sender has heard, for the leader.
    Report(Report),
    /// The leader has counted a report and was confirmed as the leader after that.
    ReportAck {
        /// Of the report.
        number: u64,
        /// The commit index at the confirmation.
        commit: LogIndex,
    },
    /// The snapshot that was offered could not be fetched.
    SnapshotFailed {
        /// Its index.
        index: LogIndex,
    },
    /// The receiver's state differs from what most servers have.
    Diverged {
        /// After which entry.
        index: LogIndex,
        /// What the others have there.
        expected: u64,
    },
}

/// Who was heard from, and how far the sender is. Times are ages at the time of sending: no two servers share a
/// clock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Counts the sender's reports.
    pub number: u64,
    /// How long ago the moment lies before which everything that had arrived is in this report or an earlier one.
    pub heard_through_age_ms: u32,
    /// Last entry applied.
    pub applied: LogIndex,
    /// Agreement digest after some entry, if there is a new one.
    pub checkpoint: Option<(LogIndex, u64)>,
    /// Sessions heard from, and how long ago.
    pub touches: Vec<(SessionId, u32)>,
}

/// A frame that cannot be read. Nothing of it has had any effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Unknown version or kind, or cut short.
    #[error("malformed frame: {0}")]
    Malformed(&'static str),
    /// A malformed consensus message.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// Forwarded commands that cannot enter the log.
    #[error("forwarded commands: {0}")]
    Commands(#[from] CommandError),
}

impl PeerFrame {
    /// The frame's bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(VERSION);
        match self {
            PeerFrame::Consensus(message) => {
                out.put_u8(kind::CONSENSUS);
                message.encode(&mut out);
            }
            PeerFrame::Forward { term, commands } => {
                out.reserve(9 + commands.len());
                out.put_u8(kind::FORWARD);
                out.put_u64(term.0);
                out.put_slice(commands);
            }
            PeerFrame::NotLeading { term } => {
                out.put_u8(kind::NOT_LEADING);
                out.put_u64(term.0);
            }
            PeerFrame::Report(report) => {
                out.reserve(40 + 12 * report.touches.len());
                out.put_u8(kind::REPORT);
                out.put_u64(report.number);
                out.put_u32(report.heard_through_age_ms);
                out.put_u64(report.applied.0);
                let (index, digest) = report.checkpoint.unwrap_or_default();
                out.put_u64(index.0);
                out.put_u64(digest);
                for &(session, age_ms) in &report.touches {
                    out.put_i64(session.0);
                    out.put_u32(age_ms);
                }
            }
            PeerFrame::ReportAck { number, commit } => {
                out.put_u8(kind::REPORT_ACK);
                out.put_u64(*number);
                out.put_u64(commit.0);
            }
            PeerFrame::SnapshotFailed { index } => {
                out.put_u8(kind::SNAPSHOT_FAILED);
                out.put_u64(index.0);
            }
            PeerFrame::Diverged { index, expected } => {
                out.put_u8(kind::DIVERGED);
                out.put_u64(index.0);
                out.put_u64(*expected);
            }
        }
        out.freeze()
    }

    /// Reads a frame.
    ///
    /// # Errors
    /// See [`FrameError`].
    pub fn decode(mut bytes: Bytes) -> Result<PeerFrame, FrameError> {
        if bytes.len() < 2 {
            return Err(FrameError::Malformed("cut short"));
        }
        if bytes.get_u8() != VERSION {
            return Err(FrameError::Malformed("unknown version"));
        }
        let cut = |_| FrameError::Malformed("cut short");
        let frame = match bytes.get_u8() {
            kind::CONSENSUS => return Ok(PeerFrame::Consensus(PeerMessage::decode(bytes)?)),
            kind::FORWARD => {
                let term = Term(bytes.try_get_u64().map_err(cut)?);
                CommandBuffer::check_forwarded(&bytes)?;
                return Ok(PeerFrame::Forward { term, commands: bytes });
            }
            kind::NOT_LEADING => PeerFrame::NotLeading { term: Term(bytes.try_get_u64().map_err(cut)?) },
            kind::REPORT => {
                let number = bytes.try_get_u64().map_err(cut)?;
                let heard_through_age_ms = bytes.try_get_u32().map_err(cut)?;
                let applied = LogIndex(bytes.try_get_u64().map_err(cut)?);
                let index = bytes.try_get_u64().map_err(cut)?;
                let digest = bytes.try_get_u64().map_err(cut)?;
                if !bytes.len().is_multiple_of(12) {
                    return Err(FrameError::Malformed("a touch is cut short"));
                }
                let mut touches = Vec::with_capacity(bytes.len() / 12);
                while bytes.has_remaining() {
                    touches.push((SessionId(bytes.get_i64()), bytes.get_u32()));
                }
                let checkpoint = (index != 0).then_some((LogIndex(index), digest));
                PeerFrame::Report(Report { number, heard_through_age_ms, applied, checkpoint, touches })
            }
            kind::REPORT_ACK => PeerFrame::ReportAck {
                number: bytes.try_get_u64().map_err(cut)?,
                commit: LogIndex(bytes.try_get_u64().map_err(cut)?),
            },
            kind::SNAPSHOT_FAILED => {
                PeerFrame::SnapshotFailed { index: LogIndex(bytes.try_get_u64().map_err(cut)?) }
            }
            kind::DIVERGED => PeerFrame::Diverged {
                index: LogIndex(bytes.try_get_u64().map_err(cut)?),
                expected: bytes.try_get_u64().map_err(cut)?,
            },
            _ => return Err(FrameError::Malformed("unknown kind")),
        };
        if bytes.has_remaining() {
            return Err(FrameError::Malformed("bytes after the end"));
        }
        Ok(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ostler_tree::Command;
    use ostler_types::{ErrorCode, Generation, Sequence};

    fn frames() -> Vec<PeerFrame> {
        let mut commands = CommandBuffer::default();
        let (session, generation) = (SessionId(1), Generation(1));
        let (sequence, error) = (Sequence(1), ErrorCode::BadArguments);
        commands.push_command(&Command::Refused { session, generation, sequence, error });
        vec![
            PeerFrame::Forward { term: Term(3), commands: commands.take_bytes() },
            PeerFrame::NotLeading { term: Term(3) },
            PeerFrame::Report(Report {
                number: 7,
                heard_through_age_ms: 3,
                applied: LogIndex(9),
                checkpoint: Some((LogIndex(8), 0xfeed)),
                touches: vec![(SessionId(1), 5), (SessionId(-2), 6)],
            }),
            PeerFrame::ReportAck { number: 7, commit: LogIndex(9) },
            PeerFrame::SnapshotFailed { index: LogIndex(4) },
            PeerFrame::Diverged { index: LogIndex(4), expected: 1 },
        ]
    }

    #[test]
    fn frames_come_back_as_they_went() {
        for frame in frames() {
            assert_eq!(PeerFrame::decode(frame.encode()).unwrap(), frame);
        }
    }

    #[test]
    fn whatever_arrives_is_read_or_refused() {
        for frame in frames() {
            let whole = frame.encode();
            for cut in 0..whole.len() {
                // A report is still one with fewer touches, and a forward with fewer commands.
                let read = PeerFrame::decode(whole.slice(..cut));
                assert!(
                    read.is_err() || matches!(read, Ok(PeerFrame::Report(_) | PeerFrame::Forward { .. }))
                );
            }
            for at in 0..whole.len() {
                for value in [0, 1, 0x7f, 0xff] {
                    let mut bytes = whole.to_vec();
                    bytes[at] = value;
                    let _ = PeerFrame::decode(bytes.into());
                }
            }
        }
    }

    #[test]
    fn the_encoding_stays() {
        let report = &frames()[2];
        let bytes = report.encode();
        assert_eq!(bytes[..2], [1, 4]);
        assert_eq!(bytes.len(), 2 + 8 + 4 + 8 + 8 + 8 + 2 * 12);
        assert_eq!(PeerFrame::NotLeading { term: Term(2) }.encode()[..], [1, 3, 0, 0, 0, 0, 0, 0, 0, 2]);
    }
}
