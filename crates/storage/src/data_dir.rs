//! The directories of one server: whose they are, that nobody else uses them, and that log and snapshots fit
//! together.
//!
//! ```text
//! <dataDir>/ostler/identity           whose data this is; proves that there was data once
//! <dataDir>/ostler/lock               held while a server runs; its pid, for people
//! <dataDir>/ostler/<index>.snap       snapshots
//! <dataLogDir>/ostler/lock            if dataLogDir is another directory
//! <dataLogDir>/ostler/<number>.wal    the log
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, DiskLock, LockError, OpenMode, read_full};
use crate::error::{AppendError, DiskError, IoContext, OpenError};
use crate::log::{Batch, HardState, Log, LogOptions, LogStart, Recovered, has_segments};
use crate::snapshot::{Origin, SnapshotError, SnapshotInfo, SnapshotStore, files};
use crate::{ExpectIdentity, Identity};

/// The directory below dataDir and dataLogDir in which everything of ours lies.
pub const SUBDIRECTORY: &str = "ostler";
const LOCK: &str = "lock";
const IDENTITY: &str = "identity";

/// Why the directories could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// A file operation failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Another server runs on them.
    #[error(
        "{} is in use by another server ({holder}). Remedy: stop that server, or give this one its own dataDir and \
         dataLogDir", dir.display()
    )]
    InUse {
        /// Our directory below dataDir or dataLogDir.
        dir: PathBuf,
        /// Who holds the lock, as it says.
        holder: String,
    },
    /// Data of Apache ZooKeeper and none of ours.
    #[error(
        "{} is data of Apache ZooKeeper, which Ostler cannot read yet (an importer comes in a later release), and \
         starting empty beside it would look like losing it. Remedy: point dataDir and dataLogDir to fresh \
         directories", file.display()
    )]
    ZooKeeperData {
        /// One of ZooKeeper's files.
        file: PathBuf,
    },
}

/// Why a server's data could not be recovered. Every case but [`OpenError::Disk`] needs a person.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// The log cannot be opened, or does not fit.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// Snapshots are damaged, and the log alone does not reach back to an older one.
    #[error("no usable snapshot fits the log. {}. {log}", list(unusable))]
    NoUsableSnapshot {
        /// What is wrong with each damaged one.
        unusable: Vec<SnapshotError>,
        /// What the log is missing.
        log: OpenError,
    },
    /// This disk made the snapshot from its own log, and the log no longer holds what it was made of.
    #[error(
        "{} was made here at index {index} of term {term}, but the log in {} {what}: a part of the log has been \
         lost. {}", snapshot.display(), log_dir.display(), crate::error::REMEDY
    )]
    LogLostEntries {
        /// The snapshot.
        snapshot: PathBuf,
        /// Its index.
        index: u64,
        /// Its term.
        term: u64,
        /// The log's directory.
        log_dir: PathBuf,
        /// "ends at index 5" or "has term 3 there".
        what: String,
    },
    /// `identity` is not what Ostler wrote.
    #[error(
        "{} cannot be understood. Remedy: if the log in dataLogDir is this server's, remove this one file, it is \
         made again from there; otherwise restore both directories from a backup", file.display()
    )]
    IdentityFile {
        /// The file.
        file: PathBuf,
    },
    /// The log has no room to note that a received snapshot is installed.
    #[error(transparent)]
    Append(#[from] AppendError),
}

fn list(errors: &[SnapshotError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join(". ")
}

/// The directories of one server, locked for as long as this lives.
pub struct DataDir {
    disk: Arc<dyn Disk>,
    snapshot_dir: PathBuf,
    log_dir: PathBuf,
    _locks: Vec<Box<dyn DiskLock>>,
}

/// Everything that was durable, ready to go on.
pub struct RecoveredData {
    /// The log, open for appending.
    pub log: Log,
    /// What the log held after the snapshot.
    pub recovered: Recovered,
    /// The snapshots.
    pub snapshots: SnapshotStore,
    /// The snapshot to load first; `None` means the log begins at index 1.
    pub snapshot: Option<SnapshotInfo>,
    /// Newer snapshots that were damaged; the log reaches back far enough to do without them. Worth a warning.
    pub unusable: Vec<SnapshotError>,
    /// True if the installation of a received snapshot, interrupted by a crash, was completed.
    pub completed_install: bool,
}

impl DataDir {
    /// Creates the directories if needed and takes them.
    ///
    /// # Errors
    /// See [`DataDirError`].
    pub fn open(disk: Arc<dyn Disk>, data_dir: &Path, data_log_dir: &Path) -> Result<DataDir, DataDirError> {
        let (snapshot_dir, log_dir) = subdirectories(data_dir, data_log_dir);
        if !has_segments(&*disk, &log_dir).on("list", &log_dir)? {
            for dir in [data_dir, data_log_dir] {
                if let Some(file) = zookeeper_file(&*disk, dir)? {
                    return Err(DataDirError::ZooKeeperData { file });
                }
            }
        }
        let mut locks = Vec::new();
        for dir in [&snapshot_dir, &log_dir] {
            if !locks.is_empty() && snapshot_dir == log_dir {
                break;
            }
            disk.create_dir_all(dir).on("create", dir)?;
            let path = dir.join(LOCK);
            let note = format!("pid {}\n", std::process::id());
            locks.push(disk.lock(&path, &note).map_err(|e| match e {
                LockError::Held { holder } => DataDirError::InUse { dir: dir.clone(), holder },
                LockError::Io(e) => DiskError::new("lock", &path, e).into(),
            })?);
        }
        Ok(DataDir { disk, snapshot_dir, log_dir, _locks: locks })
    }

    /// Where the snapshots are.
    pub fn snapshot_dir(&self) -> &Path {
        &self.snapshot_dir
    }

    /// Where the log is.
    pub fn log_dir(&self) -> &Path {
        &self.log_dir
    }

    /// True if there is no data at all, as on a server's first start.
    ///
    /// # Errors
    /// A directory cannot be listed.
    pub fn is_fresh(&self) -> Result<bool, DiskError> {
        let log = has_segments(&*self.disk, &self.log_dir).on("list", &self.log_dir)?;
        let names = self.disk.list(&self.snapshot_dir).on("list", &self.snapshot_dir)?;
        Ok(!log && !names.iter().any(|n| n == IDENTITY) && files(&*self.disk, &self.snapshot_dir)?.is_empty())
    }

    /// Finds the newest good snapshot, opens the log and sees that the two belong together without a gap. In
    /// fresh directories it makes a new log, if `identity` allows.
    ///
    /// A damaged snapshot is passed over if the log reaches back to an older one. Data that is gone altogether
    /// (snapshots without a log, say, because dataLogDir is not mounted) is refused, never replaced by an empty
    /// log.
    ///
    /// # Errors
    /// See [`RecoverError`].
    pub fn recover(
        &self,
        identity: ExpectIdentity,
        options: LogOptions,
    ) -> Result<RecoveredData, RecoverError> {
        let fresh = self.is_fresh().map_err(OpenError::from)?;
        let marker = self.read_identity()?;
        let snapshots =
            SnapshotStore::open(Arc::clone(&self.disk), &self.snapshot_dir).map_err(OpenError::from)?;
        let newest = snapshots.newest().map_err(OpenError::from)?;
        let snapshot = newest.usable;

        let identity_path = self.snapshot_dir.join(IDENTITY);
        let claims = marker
            .map(|found| (identity_path.clone(), found))
            .into_iter()
            .chain(snapshot.as_ref().map(|s| (s.path.clone(), s.meta.identity)));
        let mut expected = identity;
        for (file, found) in claims {
            match expected.required() {
                Some(required) if required != found => {
                    return Err(OpenError::WrongIdentity { file, found, expected: required }.into());
                }
                _ => expected = ExpectIdentity::Exactly(found),
            }
        }
        if !fresh
            && !has_segments(&*self.disk, &self.log_dir).on("list", &self.log_dir).map_err(OpenError::from)?
        {
            return Err(OpenError::NoLog { dir: self.log_dir.clone() }.into());
        }

        let needed = snapshot.as_ref().map_or(1, |s| s.meta.index + 1);
        let opened = Log::open(Arc::clone(&self.disk), &self.log_dir, expected, options, needed);
        let (log, recovered) = match opened {
            Ok(opened) => opened,
            Err(log) if newest.unusable.is_empty() || matches!(log, OpenError::Disk(_)) => {
                return Err(log.into());
            }
            Err(log) => return Err(RecoverError::NoUsableSnapshot { unusable: newest.unusable, log }),
        };
        if marker.is_none() {
            // After the log: a log without this file is whole, this file without a log means the log is lost.
            self.write_identity(recovered.identity).map_err(OpenError::from)?;
        }
        let mut data = RecoveredData {
            log,
            recovered,
            snapshots,
            snapshot,
            unusable: newest.unusable,
            completed_install: false,
        };
        if let Some(snapshot) = data.snapshot.clone() {
            self.join(&mut data, &snapshot)?;
        }
        Ok(data)
    }

    /// Makes sure that the log goes on from the snapshot.
    fn join(&self, data: &mut RecoveredData, snapshot: &SnapshotInfo) -> Result<(), RecoverError> {
        let meta = &snapshot.meta;
        let last = data.recovered.last_index;
        let what = match data.recovered.term_before {
            _ if last < meta.index => format!("ends at index {last}"),
            Some(term) if term != meta.term => format!("has term {term} there"),
            _ => return Ok(()),
        };
        if meta.origin == Origin::Local {
            return Err(RecoverError::LogLostEntries {
                snapshot: snapshot.path.clone(),
                index: meta.index,
                term: meta.term,
                log_dir: self.log_dir.clone(),
                what,
            });
        }
        // A received snapshot became durable, and the process died before the log could say so.
        let old = data.recovered.hard_state.unwrap_or_default();
        // Nobody was voted for in a term that the log has not heard of.
        let hard_state = HardState {
            term: old.term.max(meta.term),
            vote: if old.term < meta.term { 0 } else { old.vote },
            commit: meta.index,
        };
        let start = LogStart { index: meta.index, term: meta.term };
        data.log.append(&[Batch {
            log_start: Some(start),
            entries: Vec::new(),
            hard_state: Some(hard_state),
            must_sync: true,
        }])?;
        data.recovered.hard_state = Some(hard_state);
        data.recovered.entries.clear();
        data.recovered.first_index = meta.index + 1;
        data.recovered.last_index = meta.index;
        data.recovered.term_before = Some(meta.term);
        data.completed_install = true;
        Ok(())
    }

    fn read_identity(&self) -> Result<Option<Identity>, RecoverError> {
        let path = self.snapshot_dir.join(IDENTITY);
        match read_identity(&*self.disk, &path).map_err(OpenError::from)? {
            None => Ok(None),
            Some(Some(identity)) => Ok(Some(identity)),
            Some(None) => Err(RecoverError::IdentityFile { file: path }),
        }
    }

    fn write_identity(&self, identity: Identity) -> Result<(), DiskError> {
        let path = self.snapshot_dir.join(IDENTITY);
        let temporary = self.snapshot_dir.join("identity.tmp");
        match self.disk.remove(&temporary) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e).on("remove", &temporary),
            _ => {}
        }
        let file = self.disk.open(&temporary, OpenMode::CreateNew).on("create", &temporary)?;
        file.write_all_at(identity_text(identity).as_bytes(), 0).on("write", &temporary)?;
        file.sync_data().on("sync", &temporary)?;
        self.disk.rename(&temporary, &path).on("rename", &temporary)?;
        self.disk.sync_dir(&self.snapshot_dir).on("sync", &self.snapshot_dir)
    }
}

/// Where snapshots and log lie below dataDir and dataLogDir.
pub(crate) fn subdirectories(data_dir: &Path, data_log_dir: &Path) -> (PathBuf, PathBuf) {
    (data_dir.join(SUBDIRECTORY), data_log_dir.join(SUBDIRECTORY))
}

/// Who holds the directories now, without taking them.
pub(crate) fn in_use_by(
    disk: &dyn Disk,
    snapshot_dir: &Path,
    log_dir: &Path,
) -> Result<Option<String>, DiskError> {
    for dir in [snapshot_dir, log_dir] {
        let path = dir.join(LOCK);
        if let Some(holder) = disk.lock_holder(&path).on("examine", &path)? {
            return Ok(Some(holder));
        }
    }
    Ok(None)
}

/// The identity file: `None` if there is none, `Some(None)` if it is not what was written.
pub(crate) fn read_identity(disk: &dyn Disk, path: &Path) -> Result<Option<Option<Identity>>, DiskError> {
    let file = match disk.open(path, OpenMode::Read) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.on("open", path)?,
    };
    let mut bytes = [0; 256];
    let n = read_full(&*file, &mut bytes, 0).on("read", path)?;
    Ok(Some(parse_identity(&bytes[..n])))
}

/// The path of the identity file.
pub(crate) fn identity_path(snapshot_dir: &Path) -> PathBuf {
    snapshot_dir.join(IDENTITY)
}

fn identity_text(identity: Identity) -> String {
    let content =
        format!("ostler identity 1\ncluster {:016x}\nnode {:016x}\n", identity.cluster_id, identity.node_id);
    format!("{content}crc32c {:08x}\n", crc32c::crc32c(content.as_bytes()))
}

fn parse_identity(bytes: &[u8]) -> Option<Identity> {
    let text = std::str::from_utf8(bytes).ok()?;
    let word = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        u64::from_str_radix(line, 16).ok()
    };
    let identity = Identity { cluster_id: word("cluster ")?, node_id: word("node ")? };
    (text == identity_text(identity)).then_some(identity)
}

/// A snapshot or log of Apache ZooKeeper below `dir`, if there is one.
fn zookeeper_file(disk: &dyn Disk, dir: &Path) -> Result<Option<PathBuf>, DiskError> {
    let version_2 = dir.join("version-2");
    let names = match disk.list(&version_2) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        other => other.on("list", &version_2)?,
    };
    let theirs = names.into_iter().find(|n| n.starts_with("snapshot.") || n.starts_with("log."));
    Ok(theirs.map(|name| version_2.join(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_file_reads_back_and_nothing_else_does() {
        let identity = Identity { cluster_id: 0xc1, node_id: u64::MAX };
        let text = identity_text(identity);
        assert_eq!(parse_identity(text.as_bytes()), Some(identity));
        for i in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[i] ^= 1;
            assert_eq!(parse_identity(&bytes), None, "byte {i}");
            assert_eq!(parse_identity(&text.as_bytes()[..i]), None, "cut at {i}");
        }
    }
}
