//! From a data directory to a state that can go on: newest usable snapshot, then the log after it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ostler_replication::{EntryKind, HardState, LogEntry};
use ostler_storage::{
    DataDir, DataDirError, DiskError, ExpectIdentity, Identity, Log, LogOptions, Origin, RealDisk,
    RecoverError, SnapshotError, SnapshotInfo, SnapshotMeta, SnapshotReader, SnapshotStore,
};
use ostler_tree::snapshot::{Progress, RestoreError, Restorer};
use ostler_tree::{Member, State};
use ostler_types::{LogIndex, Term};

use crate::clock;
use crate::config::DataConfig;

/// Why the data directory cannot be served from. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// It is in use, or holds somebody else's files.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// A directory is missing and must not be made.
    #[error("{} does not exist and datadir.autocreate is false; create it, or correct dataDir or dataLogDir", .0.display())]
    Missing(PathBuf),
    /// Log or snapshots are damaged or do not fit together.
    #[error(transparent)]
    Damaged(#[from] RecoverError),
    /// The snapshot passed its checksums but cannot be understood.
    #[error("{}: {source}", file.display())]
    Snapshot {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        source: RestoreError,
    },
    /// The snapshot could not be read.
    #[error(transparent)]
    Read(#[from] SnapshotError),
    /// The disk could not be read.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The directory of a server that is not born yet cannot be written.
    #[error("cannot prepare {} for joining or founding a cluster: {source}", dir.display())]
    Birth {
        /// The directory.
        dir: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Log and state contradict each other although each is intact.
    #[error("{0}; restore dataDir and dataLogDir from the same moment")]
    Inconsistent(String),
}

/// Everything a server goes on from.
pub(crate) struct Recovered {
    /// Holds the directories' locks.
    pub(crate) data_dir: DataDir,
    pub(crate) identity: Identity,
    pub(crate) state: State,
    pub(crate) log: Log,
    pub(crate) log_tail: ostler_replication::Recovered,
    pub(crate) snapshots: SnapshotStore,
    /// The snapshot the state was restored from, which others can be offered.
    pub(crate) snapshot: Option<SnapshotInfo>,
}

/// Where snapshots and log live: beside anything ZooKeeper has there.
pub(crate) fn directories(config: &DataConfig) -> (PathBuf, PathBuf) {
    let under = |dir: &Path| dir.join(ostler_storage::SUBDIRECTORY);
    (under(&config.data_dir), under(&config.data_log_dir))
}

/// Takes the data directories, and makes them if they are missing and may be made.
pub(crate) fn open(config: &DataConfig) -> Result<DataDir, RecoveryError> {
    if !config.create_missing {
        for dir in [&config.data_dir, &config.data_log_dir] {
            if !dir.is_dir() {
                return Err(RecoveryError::Missing(dir.clone()));
            }
        }
    }
    Ok(DataDir::open(Arc::new(RealDisk), &config.data_dir, &config.data_log_dir)?)
}

/// A new disk's identity.
pub(crate) fn new_identity() -> Identity {
    Identity { cluster_id: random_id(), node_id: random_id() }
}

/// Makes the data of a cluster's founder: the state that knows the members, as a snapshot at index 1.
pub(crate) fn found(
    data_dir: &DataDir,
    identity: Identity,
    members: BTreeMap<u8, Member>,
    config: &DataConfig,
) -> Result<(), RecoveryError> {
    let voters =
        members.values().filter(|member| member.spec.votes()).filter_map(|member| member.node).collect();
    let mut state = State::founded(random_id(), members, voters, clock::wall_ms());
    write_founding(data_dir, identity, &mut state, config)
}

/// Makes data that begins with `state`, whatever index that is at.
pub(crate) fn write_founding(
    data_dir: &DataDir,
    identity: Identity,
    state: &mut State,
    config: &DataConfig,
) -> Result<(), RecoveryError> {
    let data = data_dir.recover(ExpectIdentity::OrCreate(identity), log_options(config))?;
    let meta = SnapshotMeta {
        identity,
        index: state.applied_index().0,
        term: state.applied_term().0,
        zxid: state.last_zxid().0,
        created_ms: clock::wall_ms() as u64,
        // The log goes on from it as from one that came from elsewhere.
        origin: Origin::Received,
        conf_state: Vec::new(),
    };
    let mut walk = state.begin_snapshot_walk();
    let mut writer = data.snapshots.create(&meta).map_err(SnapshotError::from)?;
    let (records, digest) = (walk.znodes(), walk.agreement_digest());
    let mut slice = Vec::new();
    loop {
        slice.clear();
        let progress = state.walk_slice(&mut walk, u32::MAX, &mut slice);
        writer.push(&slice).map_err(SnapshotError::from)?;
        if progress != Progress::More {
            break;
        }
    }
    writer.finish(records, digest.into())?;
    state.end_snapshot_walk();
    Ok(())
}

fn log_options(config: &DataConfig) -> LogOptions {
    let segment_bytes = config.segment_bytes.get();
    // What is in flight when the disk turns out to be full has a promise and must still fit, and the sessions
    // opened, moved and ended until there is space again, too.
    LogOptions { segment_bytes, reserve_bytes: segment_bytes / 2 }
}

/// Checks and reads the data directory, or begins a new one with this identity.
pub(crate) fn recover(
    data_dir: DataDir,
    fresh: Identity,
    config: &DataConfig,
) -> Result<Recovered, RecoveryError> {
    let data = data_dir.recover(ExpectIdentity::OrCreate(fresh), log_options(config))?;
    for error in &data.unusable {
        tracing::warn!(%error, "a snapshot is damaged; an older one and the log make up for it");
    }
    if let Some(cut) = &data.recovered.cut {
        tracing::warn!(
            file = %cut.file.display(),
            offset = cut.offset,
            bytes = cut.bytes,
            "cut a write that a crash had interrupted; nothing in it was acknowledged"
        );
    }
    let state = match &data.snapshot {
        Some(info) => restore(data.snapshots.read(info)?, info)?,
        None => State::with_index_seed(random_id()),
    };
    if let Some(info) = &data.snapshot
        && state.applied_index().0 != info.meta.index
    {
        return Err(RecoveryError::Inconsistent(format!(
            "snapshot {} says index {} but holds index {}",
            info.path.display(),
            info.meta.index,
            state.applied_index()
        )));
    }
    let recovered = data.recovered;
    let hard_state = recovered.hard_state.unwrap_or_default();
    let entries = recovered.entries.len();
    let log_tail = ostler_replication::Recovered {
        snapshot: data.snapshot.as_ref().map_or((0, 0), |s| (s.meta.index, s.meta.term)),
        hard_state: HardState { term: hard_state.term, vote: hard_state.vote, commit: hard_state.commit },
        entries: recovered
            .entries
            .into_iter()
            .map(|e| {
                let kind = EntryKind::from_code(e.kind).map_err(|error| {
                    RecoveryError::Inconsistent(format!("log entry {}: {error}", e.index))
                })?;
                Ok(LogEntry { term: Term(e.term), index: LogIndex(e.index), kind, data: e.data })
            })
            .collect::<Result<_, RecoveryError>>()?,
    };
    tracing::info!(
        identity = %recovered.identity,
        snapshot_index = log_tail.snapshot.0,
        entries,
        created = recovered.created,
        "data directory opened"
    );
    Ok(Recovered {
        data_dir,
        identity: recovered.identity,
        state,
        log: data.log,
        log_tail,
        snapshots: data.snapshots,
        snapshot: data.snapshot,
    })
}

/// Time between two lines about how far a restore is, milliseconds.
const PROGRESS_MS: ostler_node::Millis = 2_000;

pub(crate) fn restore(mut reader: SnapshotReader, info: &SnapshotInfo) -> Result<State, RecoveryError> {
    let wrap = |source| RecoveryError::Snapshot { file: info.path.clone(), source };
    let mut restorer = Restorer::new(random_id());
    let (mut bytes, mut tell_at) = (0u64, clock::now() + PROGRESS_MS);
    loop {
        let block = reader.next_block()?;
        if block.is_empty() {
            break;
        }
        bytes += block.len() as u64;
        if clock::now() >= tell_at {
            tell_at = clock::now() + PROGRESS_MS;
            let (read_mib, file_mib) = (bytes >> 20, info.file_bytes >> 20);
            tracing::info!(file = %info.path.display(), read_mib, file_mib, "reading a snapshot; the file is compressed");
        }
        restorer.feed(block).map_err(wrap)?;
    }
    restorer.finish().map_err(wrap)
}

/// Reads a snapshot without holding the directory's lock, for `ostler check`.
pub(crate) fn read_snapshot(info: &SnapshotInfo) -> Result<State, RecoveryError> {
    restore(SnapshotReader::open(&RealDisk, &info.path)?, info)
}

/// A random number that is not 0, which stands for "none" in raft.
pub(crate) fn random_id() -> u64 {
    loop {
        let id = getrandom::u64().expect("the operating system has random numbers");
        if id != 0 {
            return id;
        }
    }
}
