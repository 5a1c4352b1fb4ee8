//! What nodes say to each other about consensus, in bytes of our own: the library's protobuf never reads
//! anything that came from a network (format: `docs/peer-protocol.md`, "Consensus messages").

use bytes::{Buf, BufMut, Bytes, BytesMut};
use ostler_types::{LogIndex, Term};
use raft::eraftpb::{ConfState, Message, MessageType, Snapshot};

use crate::entry::{EntryKind, LogEntry, from_raft, to_raft};

/// Version of the encoding.
const VERSION: u8 = 1;
/// version, type, flags, then eight numbers.
const FIXED: usize = 3 + 9 * 8;
const FLAG_REJECT: u8 = 1;
const FLAG_SNAPSHOT: u8 = 2;

/// A consensus message on its way to another node. Opaque: consensus makes it and consensus reads it.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerMessage(pub(crate) Message);

/// A message that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed consensus message: {0}")]
pub struct MessageError(&'static str);

/// A snapshot in a message: where it stands and what its receiver needs to fetch it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotOffer {
    /// Index of the last entry it covers.
    pub index: LogIndex,
    /// Term of that entry.
    pub term: Term,
    /// Who voted at that index.
    pub voters: Vec<u64>,
    /// Who listened at that index.
    pub learners: Vec<u64>,
    /// What the owner of the snapshot says about it; consensus does not read it.
    pub ticket: Bytes,
}

impl PeerMessage {
    /// The node it is for.
    pub fn to(&self) -> u64 {
        self.0.to
    }

    /// The node it is from.
    pub fn from(&self) -> u64 {
        self.0.from
    }

    /// The snapshot it offers, if it does. It must be fetched, verified and durable before the message is handed to
    /// [`Replicator::receive`](crate::Replicator::receive).
    pub fn snapshot(&self) -> Option<SnapshotOffer> {
        (self.0.get_msg_type() == MessageType::MsgSnapshot).then(|| offer(self.0.get_snapshot()))
    }

    /// Whether it carries entries or a snapshot: what may be dropped when there is too much, because consensus will
    /// notice and send it again.
    pub fn is_bulk(&self) -> bool {
        !self.0.entries.is_empty()
    }

    /// Appends its bytes to `out`.
    pub fn encode(&self, out: &mut BytesMut) {
        let m = &self.0;
        let has_snapshot = m.get_msg_type() == MessageType::MsgSnapshot;
        let data: usize = m.entries.iter().map(|e| 21 + e.data.len()).sum();
        out.reserve(FIXED + 8 + m.context.len() + data);
        out.put_u8(VERSION);
        out.put_u8(m.get_msg_type() as u8);
        out.put_u8(if m.reject { FLAG_REJECT } else { 0 } | if has_snapshot { FLAG_SNAPSHOT } else { 0 });
        for number in [m.to, m.from, m.term, m.log_term, m.index, m.commit, m.commit_term] {
            out.put_u64(number);
        }
        out.put_u64(m.reject_hint);
        out.put_u64(m.request_snapshot);
        out.put_u32(m.context.len() as u32);
        out.put_slice(&m.context);
        out.put_u32(m.entries.len() as u32);
        for entry in &m.entries {
            let entry = from_raft(entry);
            out.put_u64(entry.term.0);
            out.put_u64(entry.index.0);
            out.put_u8(entry.kind as u8);
            out.put_u32(entry.data.len() as u32);
            out.put_slice(&entry.data);
        }
        if has_snapshot {
            let SnapshotOffer { index, term, voters, learners, ticket } = offer(m.get_snapshot());
            out.put_u64(index.0);
            out.put_u64(term.0);
            for nodes in [voters, learners] {
                out.put_u16(nodes.len() as u16);
                nodes.into_iter().for_each(|node| out.put_u64(node));
            }
            out.put_u32(ticket.len() as u32);
            out.put_slice(&ticket);
        }
    }

    /// Reads what [`encode`](Self::encode) wrote. Data is shared with `bytes`, not copied.
    ///
    /// # Errors
    /// Unknown version or type, cut short, or something after the end.
    pub fn decode(mut bytes: Bytes) -> Result<PeerMessage, MessageError> {
        if bytes.len() < FIXED {
            return Err(MessageError("cut short"));
        }
        if bytes.get_u8() != VERSION {
            return Err(MessageError("unknown version"));
        }
        let mut m = Message::default();
        m.set_msg_type(message_type(bytes.get_u8()).ok_or(MessageError("unknown type"))?);
        let flags = bytes.get_u8();
        if flags & !(FLAG_REJECT | FLAG_SNAPSHOT) != 0 {
            return Err(MessageError("unknown flags"));
        }
        m.reject = flags & FLAG_REJECT != 0;
        for field in [
            &mut m.to,
            &mut m.from,
            &mut m.term,
            &mut m.log_term,
            &mut m.index,
            &mut m.commit,
            &mut m.commit_term,
        ] {
            *field = bytes.get_u64();
        }
        m.reject_hint = bytes.get_u64();
        m.request_snapshot = bytes.get_u64();
        m.context = take(&mut bytes)?;
        let count = bytes.try_get_u32().map_err(|_| MessageError("cut short"))?;
        for _ in 0..count {
            if bytes.len() < 17 {
                return Err(MessageError("an entry is cut short"));
            }
            let (term, index) = (Term(bytes.get_u64()), LogIndex(bytes.get_u64()));
            let kind =
                EntryKind::from_code(bytes.get_u8()).map_err(|_| MessageError("unknown kind of entry"))?;
            let data = take(&mut bytes)?;
            let entry = to_raft(LogEntry { term, index, kind, data });
            m.entries.push(entry.map_err(|_| MessageError("a membership entry cannot be read"))?);
        }
        if (flags & FLAG_SNAPSHOT != 0) != (m.get_msg_type() == MessageType::MsgSnapshot) {
            return Err(MessageError("a snapshot where none belongs"));
        }
        if flags & FLAG_SNAPSHOT != 0 {
            let cut = |_| MessageError("a snapshot is cut short");
            let (index, term) = (bytes.try_get_u64().map_err(cut)?, bytes.try_get_u64().map_err(cut)?);
            let mut lists = [Vec::new(), Vec::new()];
            for nodes in &mut lists {
                for _ in 0..bytes.try_get_u16().map_err(cut)? {
                    nodes.push(bytes.try_get_u64().map_err(cut)?);
                }
            }
            let [voters, learners] = lists;
            let ticket = take(&mut bytes)?;
            if index == 0 {
                return Err(MessageError("a snapshot of nothing"));
            }
            m.set_snapshot(snapshot(&SnapshotOffer {
                index: LogIndex(index),
                term: Term(term),
                voters,
                learners,
                ticket,
            }));
        }
        if !bytes.is_empty() {
            return Err(MessageError("bytes after the end"));
        }
        Ok(PeerMessage(m))
    }
}

fn take(bytes: &mut Bytes) -> Result<Bytes, MessageError> {
    let length = bytes.try_get_u32().map_err(|_| MessageError("cut short"))? as usize;
    if bytes.len() < length {
        return Err(MessageError("cut short"));
    }
    Ok(bytes.split_to(length))
}

/// Only what travels between nodes.
fn message_type(code: u8) -> Option<MessageType> {
    use MessageType::*;
    [
        MsgAppend,
        MsgAppendResponse,
        MsgRequestVote,
        MsgRequestVoteResponse,
        MsgSnapshot,
        MsgHeartbeat,
        MsgHeartbeatResponse,
        MsgTransferLeader,
        MsgTimeoutNow,
        MsgReadIndex,
        MsgReadIndexResp,
        MsgRequestPreVote,
        MsgRequestPreVoteResponse,
    ]
    .into_iter()
    .find(|&known| known as u8 == code)
}

fn offer(snapshot: &Snapshot) -> SnapshotOffer {
    let metadata = snapshot.get_metadata();
    SnapshotOffer {
        index: LogIndex(metadata.index),
        term: Term(metadata.term),
        voters: metadata.get_conf_state().voters.clone(),
        learners: metadata.get_conf_state().learners.clone(),
        ticket: snapshot.data.clone(),
    }
}

pub(crate) fn snapshot(offer: &SnapshotOffer) -> Snapshot {
    let mut snapshot = Snapshot::default();
    let metadata = snapshot.mut_metadata();
    (metadata.index, metadata.term) = (offer.index.0, offer.term.0);
    metadata.set_conf_state(ConfState {
        voters: offer.voters.clone(),
        learners: offer.learners.clone(),
        ..Default::default()
    });
    snapshot.data = offer.ticket.clone();
    snapshot
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{MembershipEntry, Step};

    fn append() -> PeerMessage {
        let mut m =
            Message { to: 2, from: 1, term: 5, log_term: 4, index: 9, commit: 8, ..Default::default() };
        m.set_msg_type(MessageType::MsgAppend);
        let change = MembershipEntry { step: Step::AddVoter, node: 3, context: Bytes::from_static(b"c") };
        for entry in [
            LogEntry {
                term: Term(5),
                index: LogIndex(10),
                data: Bytes::from_static(b"data"),
                ..Default::default()
            },
            LogEntry {
                term: Term(5),
                index: LogIndex(11),
                kind: EntryKind::Membership,
                data: change.encode(),
            },
        ] {
            m.entries.push(to_raft(entry).unwrap());
        }
        PeerMessage(m)
    }

    fn with_snapshot() -> PeerMessage {
        let mut m = Message { to: 2, from: 1, term: 5, ..Default::default() };
        m.set_msg_type(MessageType::MsgSnapshot);
        m.set_snapshot(snapshot(&SnapshotOffer {
            index: LogIndex(7),
            term: Term(3),
            voters: vec![1, 2],
            learners: vec![9],
            ticket: Bytes::from_static(b"ticket"),
        }));
        PeerMessage(m)
    }

    fn encoded(message: &PeerMessage) -> Bytes {
        let mut out = BytesMut::new();
        message.encode(&mut out);
        out.freeze()
    }

    #[test]
    fn messages_come_back_as_they_went() {
        for message in [append(), with_snapshot()] {
            assert_eq!(PeerMessage::decode(encoded(&message)).unwrap(), message);
        }
        assert_eq!(with_snapshot().snapshot().unwrap().learners, [9]);
    }

    #[test]
    fn the_encoding_stays() {
        let bytes = encoded(&append());
        assert_eq!(bytes[..3], [1, 3, 0]);
        assert_eq!(bytes[3..11], 2u64.to_be_bytes());
        assert_eq!(bytes.len(), 75 + 4 + 4 + (21 + 4) + (21 + 11));
    }

    #[test]
    fn whatever_arrives_is_read_or_refused() {
        for message in [append(), with_snapshot()] {
            let whole = encoded(&message);
            for cut in 0..whole.len() {
                assert!(PeerMessage::decode(whole.slice(..cut)).is_err(), "{cut}");
            }
            for at in 0..whole.len() {
                for value in [0, 1, 0x7f, 0xff] {
                    let mut bytes = whole.to_vec();
                    bytes[at] = value;
                    // Must not panic, nor allocate by what a length claims.
                    let _ = PeerMessage::decode(bytes.into());
                }
            }
        }
    }
}
