//! What goes into a log and what comes out of it.

use std::path::PathBuf;

use bytes::Bytes;

use super::segment::SEGMENT_STEP;
use crate::Identity;
use crate::error::OpenError;

/// One raft entry. Storage looks at term and index only.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// The raft term it was proposed in.
    pub term: u64,
    /// Its place in the log, from 1.
    pub index: u64,
    /// What `data` is; the owner's business.
    pub kind: u8,
    /// The content, at most [`crate::MAX_ENTRY_BYTES`].
    pub data: Bytes,
}

/// What raft calls hard state: promises that must survive a crash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct HardState {
    /// The newest term this server has seen.
    pub term: u64,
    /// The node it voted for in that term, 0 for nobody.
    pub vote: u64,
    /// The last index known to be committed; never beyond the last entry.
    pub commit: u64,
}

/// The log continues after a snapshot received from another server: entries up to `index` are in the snapshot,
/// entries of the own log, earlier or later, are void.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStart {
    /// The snapshot's index; the next entry is `index + 1`.
    pub index: u64,
    /// The term of the entry at `index`.
    pub term: u64,
}

/// What one raft `Ready` has to make durable, in the order in which it is written: a batch that survives a crash
/// in part never holds a hard state without the entries it speaks of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Set when a received snapshot has been installed.
    pub log_start: Option<LogStart>,
    /// Contiguous; the first may be at or before the log's last index and then replaces everything from there on.
    pub entries: Vec<Entry>,
    /// Written after the entries.
    pub hard_state: Option<HardState>,
    /// False if nothing waits for this batch to be durable (only the commit index moved, say).
    pub must_sync: bool,
}

/// Sizes of the log's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// Bytes of a new segment; zoo.cfg `preAllocSize`. A multiple of 4096 from 4 KiB to 1 GiB, 64 MiB by default.
    /// Existing segments keep the size they were made with.
    pub segment_bytes: u64,
    /// How much of the current segment is kept for session commands when no further segment can be made, in
    /// bytes; see [`Space`]. A sixteenth of `segment_bytes` by default.
    pub reserve_bytes: u64,
}

impl LogOptions {
    /// Segments of `segment_bytes`, everything else by default.
    pub fn with_segment_bytes(segment_bytes: u64) -> LogOptions {
        LogOptions { segment_bytes, reserve_bytes: segment_bytes / 16 }
    }

    pub(super) fn check(&self) -> Result<(), OpenError> {
        let bytes = self.segment_bytes;
        if (SEGMENT_STEP..=1 << 30).contains(&bytes) && bytes.is_multiple_of(SEGMENT_STEP) {
            Ok(())
        } else {
            Err(OpenError::SegmentBytes { segment_bytes: bytes })
        }
    }
}

impl Default for LogOptions {
    fn default() -> LogOptions {
        LogOptions::with_segment_bytes(64 << 20)
    }
}

/// Whether the log has room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// Room for anything.
    Ok,
    /// No further segment can be made, and of the current one only the reserve is left: refuse clients' writes,
    /// let session commands through.
    Low,
    /// Next to nothing is left: refuse everything.
    Full,
}

/// A write that a crash interrupted, found and removed at start. Nothing in it was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct TornTail {
    /// The segment.
    pub file: PathBuf,
    /// Where the log ends now, in bytes from the start of the file.
    pub offset: u64,
    /// Bytes after `offset` that were not zero.
    pub bytes: u64,
}

/// What [`crate::Log::open`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Whose log it is.
    pub identity: Identity,
    /// True if the directory was empty and a new log was made.
    pub created: bool,
    /// The newest hard state; `None` if none was ever written.
    pub hard_state: Option<HardState>,
    /// The entries from the first needed index on, contiguous. All of them are durable.
    pub entries: Vec<Entry>,
    /// The first index that the log could hold: everything before is only in snapshots.
    pub first_index: u64,
    /// The last index in the log. Less than the first needed index minus 1 if a received snapshot is ahead of it.
    pub last_index: u64,
    /// The term at the index before the first needed one, where the log knows it; it must be the snapshot's.
    pub term_before: Option<u64>,
    /// The torn write that was removed, if there was one.
    pub cut: Option<TornTail>,
}
