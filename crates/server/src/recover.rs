//! `ostler recover --new-cluster`: one surviving directory becomes the first server of a new cluster, when a majority
//! of the old one's disks is gone.
//!
//! The state is that after the last entry on this disk, acknowledged or not. It is written as the founding snapshot of
//! a new identity into a directory beside the old one; then the two change places in one step of the file system, and
//! the old one is kept. A crash before that leaves the old data as it was; after it, the next run tidies up.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ostler_node::SharedState;
use ostler_storage::{DataDir, Identity, SUBDIRECTORY};
use ostler_tree::Member;
use ostler_types::member::Role;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::Serialize;

use crate::config::{self, DataConfig, Overrides};
use crate::recovery::{self, RecoveryError};

/// Beside `ostler`, while the new data is made and until the old data has its last name.
const WORK: &str = "ostler.recovering";
/// In the work directory of dataDir: everything is durable, and the directories may change places.
const READY: &str = "ready";
/// In each new `ostler` directory: which recovery made it.
const MARK: &str = "recovered";

/// Why nothing was recovered. The data is as it was unless it says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// There is no data to start from.
    #[error("{} holds no data of a server", .0.display())]
    NoData(PathBuf),
    /// The settings for the directory cannot be made.
    #[error(transparent)]
    Config(#[from] config::ConfigError),
    /// It cannot be read, or is in use.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// The log cannot be applied.
    #[error(transparent)]
    Log(#[from] ostler_node::CoreError),
    /// What was written reads differently.
    #[error("the new data differs from what was written: digest {found:016x}, not {expected:016x}")]
    Differs {
        /// What it should be.
        expected: u64,
        /// What it is.
        found: u64,
    },
    /// The system refused something.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// What there is, and what will become of it. Prints as text for people.
#[derive(Clone, Debug, Serialize)]
pub struct RecoverReport {
    /// The directory.
    pub data_dir: PathBuf,
    /// The cluster it belongs to, in hex.
    pub cluster_id: String,
    /// The server it was, if it was one of an ensemble.
    pub server: Option<u8>,
    /// All servers of the ensemble.
    pub members: Vec<u8>,
    /// The last entry of the log.
    pub index: u64,
    /// The last transaction, in hex.
    pub zxid: String,
    /// When it was made, by the leader's clock: milliseconds since 1970.
    pub time_ms: i64,
    /// Entries at the end of which this server did not know whether they were agreed on. They are kept.
    pub undecided_entries: u64,
    /// Znodes, the built-in ones included.
    pub znodes: usize,
    /// Sessions.
    pub sessions: usize,
}

/// What was done.
#[derive(Clone, Debug, Serialize)]
pub struct NewCluster {
    /// The new cluster, in hex.
    pub cluster_id: String,
    /// Where the old data is now.
    pub kept: Vec<PathBuf>,
}

/// A directory that has been read and is held.
pub struct Survivor {
    report: RecoverReport,
    config: DataConfig,
    state: SharedState,
    old: recovery::Recovered,
}

/// Finishes what an interrupted recovery had begun to put in place, if there was one; returns what was done.
///
/// # Errors
/// The system refused something. It can be tried again.
pub fn finish_interrupted(data_dir: &Path, data_log_dir: &Path) -> Result<Option<NewCluster>, RecoverError> {
    let places = Places::new(data_dir, data_log_dir);
    match fs::read_to_string(places.ready()) {
        Ok(mark) => places.finish(mark.trim()).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(RecoverError::Io { what: "read", path: places.ready(), source }),
    }
}

/// Reads a directory that no server uses, up to the last entry on it.
///
/// # Errors
/// It cannot be used.
pub fn examine(data_dir: &Path, data_log_dir: &Path) -> Result<Survivor, RecoverError> {
    for dir in [data_dir, data_log_dir] {
        if !dir.join(SUBDIRECTORY).is_dir() {
            return Err(RecoverError::NoData(dir.to_owned()));
        }
    }
    let overrides = Overrides { data_dir: Some(data_dir.to_owned()), ..Overrides::default() };
    let mut config = config::standalone_default(&overrides)?.config.data;
    config.data_log_dir = data_log_dir.to_owned();
    let directory = recovery::open(&config)?;
    if directory.is_fresh().map_err(RecoveryError::from)? {
        return Err(RecoverError::NoData(data_dir.to_owned()));
    }
    let mut old = recovery::recover(directory, recovery::new_identity(), &config)?;
    let empty = ostler_tree::State::with_index_seed(recovery::random_id());
    let state: SharedState = Arc::new(parking_lot::RwLock::new(std::mem::replace(&mut old.state, empty)));
    ostler_node::replay(&state, &old.log_tail.entries)?;
    let report = {
        let state = state.read();
        let membership = state.membership();
        let index = state.applied_index().0;
        RecoverReport {
            data_dir: data_dir.to_owned(),
            cluster_id: format!("{:016x}", old.identity.cluster_id),
            server: membership.server_of(old.identity.node_id),
            members: membership.members.keys().copied().collect(),
            index,
            zxid: state.last_zxid().to_string(),
            time_ms: state.time_ms(),
            undecided_entries: index
                .saturating_sub(old.log_tail.hard_state.commit.max(old.log_tail.snapshot.0)),
            znodes: state.node_count() - 1,
            sessions: state.sessions().len(),
        }
    };
    Ok(Survivor { report, config, state, old })
}

impl Survivor {
    /// What there is.
    pub fn report(&self) -> &RecoverReport {
        &self.report
    }

    /// Makes it the data of a new cluster, whose only server this is.
    ///
    /// # Errors
    /// Something could not be written; the old data is as it was, or the next run finishes.
    pub fn found_new_cluster(self) -> Result<NewCluster, RecoverError> {
        let places = Places::new(&self.config.data_dir, &self.config.data_log_dir);
        places.clear()?;
        let identity = recovery::new_identity();
        let members = {
            let state = self.state.read();
            let membership = state.membership();
            let own = self.report.server.and_then(|server| Some((server, membership.members.get(&server)?)));
            own.map(|(server, member)| {
                let mut spec = member.spec.clone();
                spec.role = Role::Participant;
                (server, Member { node: Some(identity.node_id), spec })
            })
            .into_iter()
            .collect()
        };
        self.state.write().refound(members);
        let digest = self.write(identity)?;
        let found = self.read_back(identity)?;
        if found != digest {
            return Err(RecoverError::Differs { expected: digest, found });
        }
        let mark = format!("{:016x}", identity.cluster_id);
        places.mark(&mark)?;
        let done = places.finish(&mark)?;
        // Until here nobody else may use the old data.
        drop(self.old);
        Ok(done)
    }

    fn new_config(&self) -> DataConfig {
        let work = |dir: &Path| dir.join(WORK);
        DataConfig {
            data_dir: work(&self.config.data_dir),
            data_log_dir: work(&self.config.data_log_dir),
            create_missing: true,
            ..self.config.clone()
        }
    }

    fn write(&self, identity: Identity) -> Result<u64, RecoverError> {
        let directory = recovery::open(&self.new_config())?;
        let mut state = self.state.write();
        recovery::write_founding(&directory, identity, &mut state, &self.config)?;
        Ok(state.agreement_digest())
    }

    /// Opens it as a server would, which also completes the log.
    fn read_back(&self, identity: Identity) -> Result<u64, RecoverError> {
        let config = self.new_config();
        let directory: DataDir = recovery::open(&config)?;
        Ok(recovery::recover(directory, identity, &config)?.state.agreement_digest())
    }
}

/// The directories that change places. The log's comes first, dataDir is the last; they may be the same.
struct Places {
    dirs: Vec<PathBuf>,
}

impl Places {
    fn new(data_dir: &Path, data_log_dir: &Path) -> Places {
        let mut dirs = vec![data_log_dir.to_owned(), data_dir.to_owned()];
        dirs.dedup();
        Places { dirs }
    }

    fn ready(&self) -> PathBuf {
        self.dirs.last().expect("there is dataDir").join(WORK).join(READY)
    }

    /// Removes what a run has left that was interrupted before anything changed places.
    fn clear(&self) -> Result<(), RecoverError> {
        for dir in &self.dirs {
            let work = dir.join(WORK);
            match fs::remove_dir_all(&work) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(RecoverError::Io { what: "remove", path: work, source: error });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// From here on the new data is complete.
    fn mark(&self, mark: &str) -> Result<(), RecoverError> {
        for dir in &self.dirs {
            write_durably(&dir.join(WORK).join(SUBDIRECTORY).join(MARK), mark)?;
            sync(&dir.join(WORK))?;
            sync(dir)?;
        }
        write_durably(&self.ready(), mark)
    }

    /// Puts the new data in the old one's place and gives the old one its last name. Whatever of it has been done
    /// already is not done again.
    fn finish(&self, mark: &str) -> Result<NewCluster, RecoverError> {
        for dir in &self.dirs {
            let (current, new) = (dir.join(SUBDIRECTORY), dir.join(WORK).join(SUBDIRECTORY));
            let is_new = fs::read_to_string(current.join(MARK)).is_ok_and(|text| text.trim() == mark);
            if !is_new {
                renameat_with(CWD, &current, CWD, &new, RenameFlags::EXCHANGE).map_err(|error| {
                    RecoverError::Io {
                        what: "exchange the old data for the new in",
                        path: dir.clone(),
                        source: error.into(),
                    }
                })?;
                sync(&dir.join(WORK))?;
                sync(dir)?;
            }
        }
        let mut kept = Vec::new();
        for dir in &self.dirs {
            let (old, to) = (dir.join(WORK).join(SUBDIRECTORY), dir.join(format!("ostler.before-{mark}")));
            match fs::rename(&old, &to) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(RecoverError::Io {
                        what: "keep the old data of",
                        path: dir.clone(),
                        source: error,
                    });
                }
                _ => kept.push(to),
            }
            sync(dir)?;
        }
        // That of dataDir, which says that there is something to finish, goes last.
        self.clear()?;
        Ok(NewCluster { cluster_id: mark.to_owned(), kept })
    }
}

fn write_durably(path: &Path, text: &str) -> Result<(), RecoverError> {
    let write = || {
        fs::write(path, format!("{text}\n"))?;
        File::open(path)?.sync_all()
    };
    write().map_err(|source| RecoverError::Io { what: "write", path: path.to_owned(), source })?;
    sync(path.parent().unwrap_or(Path::new("/")))
}

fn sync(dir: &Path) -> Result<(), RecoverError> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(|source| RecoverError::Io { what: "sync", path: dir.to_owned(), source })
}

impl RecoverReport {
    /// As a line of JSON, for scripts.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a report is plain data")
    }
}

impl NewCluster {
    /// As a line of JSON, for scripts.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a report is plain data")
    }
}

impl fmt::Display for RecoverReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: cluster {}", self.data_dir.display(), self.cluster_id)?;
        match self.server {
            Some(server) => writeln!(f, "  server {server} of {:?}", self.members)?,
            None => writeln!(f, "  a server alone")?,
        }
        let ago = crate::clock::wall_ms().saturating_sub(self.time_ms) / 1000;
        writeln!(
            f,
            "  last entry {}, zxid {}, made {ago} seconds ago; {} znodes, {} sessions",
            self.index, self.zxid, self.znodes, self.sessions
        )?;
        writeln!(
            f,
            "  of the last {} entries it is not known here whether they were agreed on; they are kept",
            self.undecided_entries
        )?;
        writeln!(
            f,
            "It becomes the only server of a new cluster.\n\
             LOST is every write that the other servers acknowledged without this one: everything after zxid {}.\n\
             Servers of the old cluster cannot join the new one with the data they have. Make sure that none of them \
             runs any more: clients could still use it.",
            self.zxid
        )
    }
}

impl fmt::Display for NewCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Done: this is the first server of cluster {}.", self.cluster_id)?;
        for kept in &self.kept {
            writeln!(
                f,
                "The old data is kept in {}; remove it when it is not needed any more.",
                kept.display()
            )?;
        }
        write!(
            f,
            "Start the server with its configuration; then start others with empty directories and add each with \
             `ostler reconfig --add`."
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: &str = "00000000000000ab";

    /// Directories with old data, and new data that is complete.
    fn prepared(dirs: &[PathBuf]) -> Places {
        for dir in dirs {
            for (at, text) in [(dir.join(SUBDIRECTORY), "old"), (dir.join(WORK).join(SUBDIRECTORY), "new")] {
                fs::create_dir_all(&at).unwrap();
                fs::write(at.join("data"), text).unwrap();
            }
        }
        let places = Places { dirs: dirs.to_vec() };
        places.mark(NEW).unwrap();
        places
    }

    fn assert_finished(places: &Places) {
        for dir in &places.dirs {
            assert_eq!(fs::read_to_string(dir.join(SUBDIRECTORY).join("data")).unwrap(), "new");
            let old = dir.join(format!("ostler.before-{NEW}")).join("data");
            assert_eq!(fs::read_to_string(old).unwrap(), "old");
            assert!(!dir.join(WORK).exists());
        }
    }

    fn exchange(dir: &Path) {
        let (current, new) = (dir.join(SUBDIRECTORY), dir.join(WORK).join(SUBDIRECTORY));
        renameat_with(CWD, current, CWD, new, RenameFlags::EXCHANGE).unwrap();
    }

    fn keep(dir: &Path) {
        fs::rename(dir.join(WORK).join(SUBDIRECTORY), dir.join(format!("ostler.before-{NEW}"))).unwrap();
    }

    /// A crash after each step: what is left to do is done by the next run.
    #[test]
    fn an_interrupted_change_of_places_is_finished() {
        let steps: [fn(&[PathBuf]); 6] = [
            |_| {},
            |dirs| exchange(&dirs[0]),
            |dirs| exchange(&dirs[1]),
            |dirs| keep(&dirs[0]),
            |dirs| keep(&dirs[1]),
            |dirs| fs::remove_dir_all(dirs[0].join(WORK)).unwrap(),
        ];
        for crash_after in 0..steps.len() {
            let root = tempfile::tempdir().unwrap();
            let dirs = ["log", "data"].map(|name| root.path().join(name));
            let places = prepared(&dirs);
            for step in &steps[..=crash_after] {
                step(&dirs);
            }
            let done = finish_interrupted(&dirs[1], &dirs[0]).unwrap().unwrap();
            assert_eq!((done.cluster_id.as_str(), done.kept.len()), (NEW, 2));
            assert_finished(&places);
            assert!(finish_interrupted(&dirs[1], &dirs[0]).unwrap().is_none(), "there is nothing left to do");
        }
    }

    #[test]
    fn one_directory_for_both_changes_places_once() {
        let root = tempfile::tempdir().unwrap();
        let places = prepared(&[root.path().to_owned()]);
        finish_interrupted(root.path(), root.path()).unwrap().unwrap();
        assert_finished(&places);
    }

    #[test]
    fn before_everything_is_durable_nothing_changes_places() {
        let root = tempfile::tempdir().unwrap();
        let places = prepared(&[root.path().to_owned()]);
        fs::remove_file(places.ready()).unwrap();
        assert!(finish_interrupted(root.path(), root.path()).unwrap().is_none());
        places.clear().unwrap();
        assert_eq!(fs::read_to_string(root.path().join(SUBDIRECTORY).join("data")).unwrap(), "old");
        assert!(!root.path().join(WORK).exists());
    }

    #[test]
    fn a_directory_without_data_is_refused_and_stays_empty() {
        let root = tempfile::tempdir().unwrap();
        assert!(matches!(examine(root.path(), root.path()), Err(RecoverError::NoData(_))));
        assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    }
}
