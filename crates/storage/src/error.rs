//! Why durable data could not be opened or written. One type per question a caller can act on.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::Identity;

/// What an operator can do about damaged files; ends every message about them.
pub(crate) const REMEDY: &str = "Nothing was changed. Remedy: if the disk is failing, copy the files elsewhere \
     first; then restore dataDir and dataLogDir together from one backup, or, in an ensemble with a healthy \
     majority, move both directories away and let this server rejoin empty (it gets a new node id). \
     `ostler check` lists what is still readable";

/// A file whose bytes cannot be what Ostler wrote.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Damage {
    /// The file.
    pub file: PathBuf,
    /// Where in the file, in bytes from its start.
    pub offset: u64,
    /// What was found there, as a sentence without a full stop.
    pub found: String,
}

impl Damage {
    pub(crate) fn new(file: &Path, offset: u64, found: impl Into<String>) -> Damage {
        Damage { file: file.to_owned(), offset, found: found.into() }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is damaged at offset {}: {}", self.file.display(), self.offset, self.found)
    }
}

impl std::error::Error for Damage {}

/// A failed file operation, with what was attempted and on which file.
#[derive(Debug, thiserror::Error)]
#[error("cannot {op} {}: {source}", path.display())]
pub struct DiskError {
    /// The operation, as a verb: "read", "create", "sync".
    pub op: &'static str,
    /// The file or directory.
    pub path: PathBuf,
    /// The operating system's answer.
    pub source: io::Error,
}

impl DiskError {
    pub(crate) fn new(op: &'static str, path: &Path, source: io::Error) -> DiskError {
        DiskError { op, path: path.to_owned(), source }
    }

    /// True if making room would cure it.
    pub fn is_full(&self) -> bool {
        crate::disk::is_full(&self.source)
    }
}

/// Adds the operation and the file to an [`io::Error`].
pub(crate) trait IoContext<T> {
    fn on(self, op: &'static str, path: &Path) -> Result<T, DiskError>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn on(self, op: &'static str, path: &Path) -> Result<T, DiskError> {
        self.map_err(|source| DiskError::new(op, path, source))
    }
}

/// Why a log could not be opened. Except for [`OpenError::Disk`], every case means that going on could lose or
/// repeat acknowledged data, so the server must not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file operation failed; the log itself may be fine.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Bytes that are not what was written, where a torn last write cannot explain them.
    #[error("{0}. {REMEDY}")]
    Damage(#[from] Damage),
    /// A segment between others is not there.
    #[error("log segment {} is missing, but later ones exist. {REMEDY}", missing.display())]
    MissingSegment {
        /// The file that should be there.
        missing: PathBuf,
    },
    /// The log does not reach back far enough to continue from the newest usable snapshot.
    #[error(
        "the log in {} begins at index {first} but index {needed} is needed: entries are missing between the \
         newest usable snapshot and the log. {REMEDY}",
        dir.display()
    )]
    Gap {
        /// The log's directory.
        dir: PathBuf,
        /// The first index that the log can hold.
        first: u64,
        /// The first index that no snapshot covers.
        needed: u64,
    },
    /// The files belong to another cluster or another disk.
    #[error(
        "{} belongs to {found}, but this server is {expected}. Remedy: point dataDir and dataLogDir to this \
         server's own directories; never copy one server's files to another", file.display()
    )]
    WrongIdentity {
        /// The file.
        file: PathBuf,
        /// What the file says.
        found: Identity,
        /// What it should say.
        expected: Identity,
    },
    /// No log where there must be one.
    #[error(
        "there is no log in {}, but there must be one. Remedy: check that dataLogDir is right and its disk is \
         mounted", dir.display()
    )]
    NoLog {
        /// The log's directory.
        dir: PathBuf,
    },
    /// Written by a later release.
    #[error(
        "{} was written by a newer Ostler (at offset {offset}: {what}). Remedy: run the newer release again",
        file.display()
    )]
    Newer {
        /// The file.
        file: PathBuf,
        /// Where in the file.
        offset: u64,
        /// What this release does not know.
        what: String,
    },
    /// [`crate::LogOptions`] out of range.
    #[error("segment_bytes is {segment_bytes}; it must be a multiple of 4096 from 4096 to 1073741824")]
    SegmentBytes {
        /// The value given.
        segment_bytes: u64,
    },
}

/// Why [`crate::Log::append`] did not append.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// There is no room. The log is as if the append had not been tried; try again when [`crate::Log::space`]
    /// says so.
    #[error("the log disk has no room: {cause}")]
    Full {
        /// What failed.
        cause: String,
    },
    /// A write or sync failed, so nobody knows what is durable. The process must stop; every later append fails
    /// the same way.
    #[error("the log cannot go on: {cause}")]
    Fatal {
        /// What failed.
        cause: String,
    },
    /// The caller's mistake: an entry does not follow what is in the log. Nothing was written.
    #[error("entry {got} cannot follow a log that reaches from {first} to {last}")]
    NotContiguous {
        /// The index given.
        got: u64,
        /// The first index that may be overwritten.
        first: u64,
        /// The last index before this entry.
        last: u64,
    },
    /// The caller's mistake: an entry above [`crate::MAX_ENTRY_BYTES`], or one append above 1 GiB. Nothing was
    /// written.
    #[error("{bytes} bytes are too many for {what}")]
    TooLarge {
        /// "an entry" or "one append".
        what: &'static str,
        /// Its size.
        bytes: u64,
    },
}
