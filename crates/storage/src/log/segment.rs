//! The header of a segment file, its name, and making one of zeros.
//!
//! ```text
//!   0  magic           "OSTLRWAL"
//!   8  version         u32   1
//!  12  has_hard_state  u32   0 or 1
//!  16  segment_seq     u64   as in the file's name
//!  24  cluster_id      u64
//!  32  node_id         u64
//!  40  first_index     u64   last index of the log when this segment began, plus 1
//!  48  previous_term   u64   term of that last index (0 if the log is empty)
//!  56  previous_end    u64   bytes used of the segment before this one; 0 in the first segment of a log
//!  64  term, vote, commit  3 x u64  the newest hard state when this segment began
//!  88  segment_bytes   u64   bytes the file was made with; it is never shorter
//!  96  zeros
//! 120  header_crc      u32   CRC-32C of bytes 0..120, no seed: the identity must be readable to be compared
//! 124  zeros
//! 127  end mark        u8    0xa5
//! 128  records
//! ```

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::HardState;
use crate::Identity;
use crate::bytes_at::{u32_at, u64_at};
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::error::{DiskError, IoContext};

/// Bytes before the first record. Less than a sector, so the header is written whole or not at all.
pub(crate) const SEGMENT_HEADER: usize = 128;
/// Positions within a segment are 32-bit in records; no segment is longer, whatever its file claims.
pub(crate) const MAX_SEGMENT_FILE: u64 = 2 << 30;
/// Segments are made with a multiple of this many bytes, and appear under their name only when they have them.
pub(crate) const SEGMENT_STEP: u64 = 4096;
const MAGIC: &[u8; 8] = b"OSTLRWAL";
const VERSION: u32 = 1;
const CRC_AT: usize = SEGMENT_HEADER - 8;
const END_MARK: [u8; 4] = [0, 0, 0, 0xa5];

/// A file that is being made; removed when found at start.
pub(crate) const TMP: &str = "wal.tmp";
/// A purged segment that waits for its next use; removed when found at start.
pub(crate) const FREE: &str = "wal.free";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) seq: u64,
    pub(crate) identity: Identity,
    pub(crate) first_index: u64,
    pub(crate) previous_term: u64,
    pub(crate) previous_end: u64,
    pub(crate) hard_state: Option<HardState>,
    pub(crate) segment_bytes: u64,
}

/// What the first bytes of a segment file are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HeaderSlot {
    Whole(SegmentHeader),
    /// Zeros, or cut off in the middle with nothing but zeros behind: never completely written.
    Absent,
    Newer(u32),
    Damaged(&'static str),
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; SEGMENT_HEADER] {
        let mut out = [0; SEGMENT_HEADER];
        let state = self.hard_state.unwrap_or_default();
        out[0..8].copy_from_slice(MAGIC);
        out[8..12].copy_from_slice(&VERSION.to_le_bytes());
        out[12..16].copy_from_slice(&u32::from(self.hard_state.is_some()).to_le_bytes());
        let words = [
            self.seq,
            self.identity.cluster_id,
            self.identity.node_id,
            self.first_index,
            self.previous_term,
            self.previous_end,
            state.term,
            state.vote,
            state.commit,
            self.segment_bytes,
        ];
        for (i, word) in words.iter().enumerate() {
            out[16 + i * 8..24 + i * 8].copy_from_slice(&word.to_le_bytes());
        }
        let crc = crc32c::crc32c(&out[..CRC_AT]);
        out[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        out[CRC_AT + 4..].copy_from_slice(&END_MARK);
        out
    }

    pub(crate) fn read(file: &[u8]) -> HeaderSlot {
        let mut head = [0; SEGMENT_HEADER];
        let present = SEGMENT_HEADER.min(file.len());
        head[..present].copy_from_slice(&file[..present]);
        let cut_off = head[SEGMENT_HEADER - 1] == 0 && file[present..].iter().all(|b| *b == 0);
        if cut_off || head == [0; SEGMENT_HEADER] {
            return HeaderSlot::Absent;
        }
        if &head[..8] != MAGIC {
            return HeaderSlot::Damaged("this is not an Ostler log segment");
        }
        if u32_at(&head, CRC_AT) != crc32c::crc32c(&head[..CRC_AT]) || head[CRC_AT + 4..] != END_MARK {
            return HeaderSlot::Damaged("the segment's header does not match its checksum");
        }
        let version = u32_at(&head, 8);
        if version != VERSION {
            return HeaderSlot::Newer(version);
        }
        let word = |i: usize| u64_at(&head, 16 + i * 8);
        let state = HardState { term: word(6), vote: word(7), commit: word(8) };
        HeaderSlot::Whole(SegmentHeader {
            seq: word(0),
            identity: Identity { cluster_id: word(1), node_id: word(2) },
            first_index: word(3),
            previous_term: word(4),
            previous_end: word(5),
            hard_state: (u32_at(&head, 12) != 0).then_some(state),
            segment_bytes: word(9),
        })
    }
}

/// The path of segment `seq`: 16 hexadecimal digits and `.wal`, so that names sort as numbers do.
pub(crate) fn path(dir: &Path, seq: u64, extension: &str) -> PathBuf {
    dir.join(format!("{seq:016x}.{extension}"))
}

/// The number in a segment's file name; `None` for any other file.
pub(crate) fn parse_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".wal")?;
    let plain = digits.len() == 16 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if plain { u64::from_str_radix(digits, 16).ok() } else { None }
}

/// Leftovers of an interrupted create, recycle or purge.
pub(crate) fn is_leftover(name: &str) -> bool {
    name.ends_with(TMP) || name.ends_with(FREE)
}

/// Zeros are written and synced in steps of this, so that preparing a spare never hands the disk a flood that the
/// next log sync has to wait behind.
const ZERO_STEP: usize = 1 << 20;

/// Makes `range` of the file durable zeros.
pub(crate) fn zero_fill(file: &dyn DiskFile, range: std::ops::Range<u64>) -> io::Result<()> {
    let mut at = range.start;
    while at < range.end {
        let step = at..range.end.min(at + ZERO_STEP as u64);
        at = step.end;
        write_zeros(file, step)?;
        file.sync_data()?;
    }
    Ok(())
}

/// Writes zeros without syncing them.
pub(crate) fn write_zeros(file: &dyn DiskFile, range: std::ops::Range<u64>) -> io::Result<()> {
    let zeros = vec![0; ZERO_STEP.min(range.end.saturating_sub(range.start) as usize)];
    let mut at = range.start;
    while at < range.end {
        let step = (range.end - at).min(ZERO_STEP as u64);
        file.write_all_at(&zeros[..step as usize], at)?;
        at += step;
    }
    Ok(())
}

/// Takes back what lies in `range`, which begins at a record position or at 0, without syncing. Its first header
/// goes first, in one short write: whoever reads the file after a crash in the middle of this finds no record
/// there, rather than one with a hole in it.
pub(crate) fn clear(file: &dyn DiskFile, range: std::ops::Range<u64>) -> io::Result<()> {
    let head = range.end.min(range.start + SEGMENT_HEADER as u64);
    write_zeros(file, range.start..head)?;
    write_zeros(file, head..range.end)
}

/// Makes a segment file of `bytes` durable zeros under the name `seq`, out of a purged one if there is one. The
/// name appears only when the zeros are durable. On failure nothing is left behind (as far as the disk permits).
pub(crate) fn make(
    disk: &dyn Disk,
    dir: &Path,
    seq: u64,
    bytes: u64,
    recycle: Option<PathBuf>,
    header: Option<&SegmentHeader>,
) -> Result<Arc<dyn DiskFile>, DiskError> {
    let target = path(dir, seq, "wal");
    let (source, mode) = match recycle {
        Some(free) => (free, OpenMode::Write),
        None => (path(dir, seq, TMP), OpenMode::CreateNew),
    };
    let attempt = || -> Result<Arc<dyn DiskFile>, DiskError> {
        let file: Arc<dyn DiskFile> = disk.open(&source, mode).on("create", &source)?.into();
        if file.len().on("examine", &source)? > bytes {
            file.set_len(bytes).on("shorten", &source)?;
        }
        zero_fill(&*file, 0..bytes).on("write zeros to", &source)?;
        if let Some(header) = header {
            file.write_all_at(&header.encode(), 0).on("write", &source)?;
            file.sync_data().on("sync", &source)?;
        }
        disk.rename(&source, &target).on("rename", &source)?;
        disk.sync_dir(dir).on("sync", dir)?;
        Ok(file)
    };
    attempt().inspect_err(|_| {
        // Whatever could not be removed now is removed at the next start.
        let _ = disk.remove(&source);
        let _ = disk.remove(&target);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader {
            seq: 3,
            identity: Identity { cluster_id: 1, node_id: 2 },
            first_index: 100,
            previous_term: 7,
            previous_end: 4096,
            hard_state: Some(HardState { term: 7, vote: 2, commit: 99 }),
            segment_bytes: 65536,
        }
    }

    #[test]
    fn a_header_reads_back_and_any_flipped_bit_is_noticed() {
        for header in [header(), SegmentHeader { hard_state: None, ..header() }] {
            let bytes = header.encode();
            assert_eq!(SegmentHeader::read(&bytes), HeaderSlot::Whole(header));
            for bit in 0..SEGMENT_HEADER * 8 {
                let mut flipped = bytes;
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(matches!(SegmentHeader::read(&flipped), HeaderSlot::Damaged(_)), "bit {bit}");
            }
        }
    }

    #[test]
    fn a_header_that_was_never_completely_written_is_absent() {
        let bytes = header().encode();
        for cut in 0..SEGMENT_HEADER - 1 {
            let mut torn = bytes;
            torn[cut..].fill(0);
            assert_eq!(SegmentHeader::read(&torn), HeaderSlot::Absent, "cut at {cut}");
            assert_eq!(SegmentHeader::read(&bytes[..cut]), HeaderSlot::Absent, "file of {cut} bytes");
        }
    }

    #[test]
    fn a_later_version_says_so() {
        let mut bytes = header().encode();
        bytes[8] = 2;
        let crc = crc32c::crc32c(&bytes[..CRC_AT]);
        bytes[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(SegmentHeader::read(&bytes), HeaderSlot::Newer(2));
    }

    #[test]
    fn names_are_strict() {
        assert_eq!(parse_name("00000000000000ff.wal"), Some(255));
        for other in
            ["ff.wal", "00000000000000FF.wal", "00000000000000ff.wal.tmp", "+0000000000000ff.wal", "lock"]
        {
            assert_eq!(parse_name(other), None, "{other}");
        }
        assert!(is_leftover("00000000000000ff.wal.tmp") && is_leftover("00000000000000ff.wal.free"));
    }
}
