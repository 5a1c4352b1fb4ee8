//! Snapshot files: the whole state at one log index, written as a stream and read as a stream.

pub(crate) mod format;
mod incoming;
mod reader;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub use format::{Origin, SnapshotMeta};
pub use incoming::{IncomingSnapshot, SnapshotFile, SnapshotTicket};
pub use reader::SnapshotReader;
pub use writer::SnapshotWriter;

use crate::disk::Disk;
use crate::error::{Damage, DiskError, IoContext};

/// Why a snapshot cannot be used or was not made.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// A file operation failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Bytes that are not what was written.
    #[error(transparent)]
    Damage(#[from] Damage),
    /// Written by a later release.
    #[error("{} was written by a newer Ostler (snapshot version {version})", file.display())]
    Newer {
        /// The file.
        file: PathBuf,
        /// The version in it.
        version: u32,
    },
}

impl SnapshotError {
    /// True if making room would cure it.
    pub fn is_full(&self) -> bool {
        matches!(self, SnapshotError::Disk(e) if e.is_full())
    }
}

/// What a snapshot file says about itself.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct SnapshotInfo {
    /// The file.
    pub path: PathBuf,
    /// What it is of.
    pub meta: SnapshotMeta,
    /// Records in it, as its writer counted.
    pub records: u64,
    /// The state's digest, as its writer computed it.
    #[serde(serialize_with = "hexadecimal")]
    pub digest: u128,
    /// Bytes of the records before compression.
    pub raw_bytes: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
}

fn hexadecimal<S: serde::Serializer>(digest: &u128, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{digest:032x}"))
}

/// The newest snapshot that can be used, and newer ones that cannot.
#[derive(Debug)]
pub struct Newest {
    /// Completely read and found good; `None` if there is none.
    pub usable: Option<SnapshotInfo>,
    /// Newer files, newest first, and what is wrong with each.
    pub unusable: Vec<SnapshotError>,
}

/// The snapshots in one directory, one file each, named after their index.
#[derive(Clone)]
pub struct SnapshotStore {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// Files begun to be received: one that is given up and its successor must not have one name.
    received: Arc<AtomicU64>,
}

const EXTENSION: &str = ".snap";
const TMP: &str = ".snap.tmp";

impl SnapshotStore {
    /// Opens the store in `dir`, which exists. Removes unfinished files and makes sure that the finished ones are
    /// there to stay.
    ///
    /// # Errors
    /// The directory cannot be read or written.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<SnapshotStore, DiskError> {
        for name in disk.list(dir).on("list", dir)? {
            if name.ends_with(TMP) {
                let path = dir.join(name);
                disk.remove(&path).on("remove", &path)?;
            }
        }
        disk.sync_dir(dir).on("sync", dir)?;
        Ok(SnapshotStore { disk, dir: dir.to_owned(), received: Arc::default() })
    }

    /// Begins a snapshot. It replaces one with the same index when it is finished.
    ///
    /// # Errors
    /// The file cannot be made or written; a snapshot at this index is being written already.
    ///
    /// # Panics
    /// If `conf_state` is longer than 1 MiB.
    pub fn create(&self, meta: &SnapshotMeta) -> Result<SnapshotWriter, DiskError> {
        assert!(meta.conf_state.len() <= format::MAX_CONF_STATE, "conf_state is the owner's and small");
        let temporary = self.dir.join(format!("{:016x}{TMP}", meta.index));
        let target = self.dir.join(format!("{:016x}{EXTENSION}", meta.index));
        SnapshotWriter::begin(Arc::clone(&self.disk), self.dir.clone(), temporary, target, meta)
    }

    /// Begins to receive the file of a snapshot at `index` from another server.
    ///
    /// # Errors
    /// The file cannot be made.
    pub fn receive(&self, index: u64) -> Result<IncomingSnapshot, DiskError> {
        let number = self.received.fetch_add(1, Ordering::Relaxed);
        let temporary = self.dir.join(format!("{index:016x}.received-{number}{TMP}"));
        let target = self.dir.join(format!("{index:016x}{EXTENSION}"));
        IncomingSnapshot::begin(Arc::clone(&self.disk), self.dir.clone(), temporary, target)
    }

    /// Opens the file of one of the snapshots, to be sent as it is; `None` if there is none that `ticket` means.
    ///
    /// # Errors
    /// It cannot be read, or header or footer are damaged.
    pub fn open_file(&self, ticket: &SnapshotTicket) -> Result<Option<SnapshotFile>, SnapshotError> {
        let path = self.dir.join(format!("{:016x}{EXTENSION}", ticket.index));
        let reader = match SnapshotReader::open(&*self.disk, &path) {
            Err(SnapshotError::Disk(e)) if e.source.kind() == std::io::ErrorKind::NotFound => {
                return Ok(None);
            }
            other => other?,
        };
        let info = reader.info();
        Ok((info.ticket() == *ticket).then(|| SnapshotFile { file: reader.into_file(), info }))
    }

    /// The snapshot files, newest first. Of each, only header and footer are read.
    ///
    /// # Errors
    /// The directory cannot be listed. What is wrong with a single file is in its place in the list.
    pub fn list(&self) -> Result<Vec<Result<SnapshotInfo, SnapshotError>>, DiskError> {
        let paths = files(&*self.disk, &self.dir)?;
        Ok(paths.iter().map(|path| SnapshotReader::open(&*self.disk, path).map(|r| r.info())).collect())
    }

    /// Finds the newest snapshot that is good from the first byte to the last.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub fn newest(&self) -> Result<Newest, DiskError> {
        let mut unusable = Vec::new();
        for path in files(&*self.disk, &self.dir)? {
            match SnapshotReader::open(&*self.disk, &path).and_then(SnapshotReader::verify) {
                Ok(info) => return Ok(Newest { usable: Some(info), unusable }),
                Err(e) => unusable.push(e),
            }
        }
        Ok(Newest { usable: None, unusable })
    }

    /// Opens one of the snapshots for reading.
    ///
    /// # Errors
    /// It is gone or damaged.
    pub fn read(&self, info: &SnapshotInfo) -> Result<SnapshotReader, SnapshotError> {
        SnapshotReader::open(&*self.disk, &info.path)
    }

    /// Opens the newest good snapshot; `None` if there is none. Damaged newer ones are passed over, which is right
    /// only if the log reaches back to what is returned: a server uses [`crate::DataDir::recover`], which checks.
    ///
    /// # Errors
    /// The directory or the file cannot be read.
    pub fn open_newest_valid(&self) -> Result<Option<SnapshotReader>, SnapshotError> {
        match self.newest()?.usable {
            Some(info) => self.read(&info).map(Some),
            None => Ok(None),
        }
    }

    /// The index up to which the log may go so that each of the newest `keep` (at least two) snapshots can still
    /// be started from, should those after it turn out to be damaged. `None` if all of the log must stay: there
    /// are fewer than two.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn log_may_go_up_to(&self, keep: usize) -> Result<Option<u64>, DiskError> {
        let paths = files(&*self.disk, &self.dir)?;
        let readable = paths.iter().filter_map(|path| SnapshotReader::open(&*self.disk, path).ok());
        let indexes: Vec<u64> = readable.take(keep.max(2)).map(|reader| reader.meta().index).collect();
        Ok(indexes.last().copied().filter(|_| indexes.len() >= 2))
    }

    /// Removes all but the newest `keep` (at least one) snapshots, and damaged files older than those; returns the
    /// index of the oldest one kept. For the log see [`log_may_go_up_to`](Self::log_may_go_up_to).
    ///
    /// # Errors
    /// The directory cannot be read or written.
    pub fn purge(&self, keep: usize) -> Result<Option<u64>, DiskError> {
        let mut kept = Vec::new();
        let mut removed = false;
        for path in files(&*self.disk, &self.dir)? {
            if kept.len() < keep.max(1) {
                if let Ok(reader) = SnapshotReader::open(&*self.disk, &path) {
                    kept.push(reader.meta().index);
                }
            } else {
                self.disk.remove(&path).on("remove", &path)?;
                removed = true;
            }
        }
        if removed {
            self.disk.sync_dir(&self.dir).on("sync", &self.dir)?;
        }
        Ok(kept.last().copied())
    }
}

/// The snapshot files in `dir`, newest first.
pub(crate) fn files(disk: &dyn Disk, dir: &Path) -> Result<Vec<PathBuf>, DiskError> {
    let mut names = disk.list(dir).on("list", dir)?;
    names.retain(|name| name.len() == 16 + EXTENSION.len() && name.ends_with(EXTENSION));
    names.sort_by(|a, b| b.cmp(a));
    Ok(names.iter().map(|name| dir.join(name)).collect())
}
