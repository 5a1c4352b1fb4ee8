//! The thread that writes snapshots while the server goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use ostler_node::SharedState;
use ostler_storage::{Identity, Origin, SnapshotError, SnapshotMeta, SnapshotStore};
use ostler_tree::snapshot::{Progress, SnapshotWalk};
use ostler_types::{LogIndex, Term, Zxid};

use crate::clock;
use crate::config::DataConfig;
use crate::core::CoreEvent;
use crate::metrics::Series;

/// Slots of the tree walked under one hold of the read lock: well under a millisecond.
const SLICE_SLOTS: u32 = 1_000;
/// With purging off (ZooKeeper's default) every snapshot stays, but the log only back to the newest and the one
/// before it, which is started from if the newest turns out to be damaged.
const FALLBACKS_WITHOUT_PURGING: usize = 2;

/// A walk that the core has begun.
pub(crate) struct SnapshotRequest {
    pub(crate) term: Term,
    pub(crate) index: LogIndex,
    pub(crate) zxid: Zxid,
    pub(crate) walk: SnapshotWalk,
}

/// What is counted about snapshots, for the metrics.
#[derive(Debug, Default)]
pub(crate) struct SnapshotStats {
    /// Writing each that was finished.
    pub(crate) time: Series,
    failed: AtomicU64,
}

impl SnapshotStats {
    /// How many could not be written.
    pub(crate) fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    pub(crate) fn reset(&self) {
        self.time.reset();
        self.failed.store(0, Ordering::Relaxed);
    }
}

/// See the module's documentation.
pub(crate) struct SnapshotWriter {
    store: SnapshotStore,
    identity: Identity,
    state: SharedState,
    core: Sender<CoreEvent>,
    stats: Arc<SnapshotStats>,
    /// Snapshots that the log must reach back to.
    retain: usize,
    purge_interval: Option<Duration>,
}

impl SnapshotWriter {
    pub(crate) fn new(
        store: SnapshotStore,
        identity: Identity,
        state: SharedState,
        core: Sender<CoreEvent>,
        stats: Arc<SnapshotStats>,
        config: &DataConfig,
    ) -> SnapshotWriter {
        let purge_interval = config.purge_interval;
        let retain = match purge_interval {
            Some(_) => config.purge_retain.get() as usize,
            None => FALLBACKS_WITHOUT_PURGING,
        };
        SnapshotWriter { store, identity, state, core, stats, retain, purge_interval }
    }

    /// Writes what is asked for, until the core is gone.
    pub(crate) fn run(self, requests: Receiver<SnapshotRequest>) {
        self.purge();
        let mut purged = Instant::now();
        loop {
            let request = match self.purge_interval {
                Some(interval) => requests.recv_timeout(interval.saturating_sub(purged.elapsed())),
                None => requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match request {
                Ok(request) => {
                    let index = request.index;
                    let log_may_go = match self.write(request) {
                        Ok(()) => self.log_may_go_up_to(),
                        Err(error) => {
                            self.stats.failed.fetch_add(1, Ordering::Relaxed);
                            tracing::error!(
                                %error,
                                %index,
                                "snapshot failed; the log keeps everything and the next snapshot is tried later"
                            );
                            None
                        }
                    };
                    if self.core.send(CoreEvent::SnapshotDone { log_may_go_up_to: log_may_go }).is_err() {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.purge();
                    purged = Instant::now();
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn write(&self, request: SnapshotRequest) -> Result<(), SnapshotError> {
        let SnapshotRequest { term, index, zxid, mut walk } = request;
        let started = Instant::now();
        let meta = SnapshotMeta {
            identity: self.identity,
            index: index.0,
            term: term.0,
            zxid: zxid.0,
            created_ms: clock::wall_ms() as u64,
            origin: Origin::Local,
            // An ensemble of one: the node of `identity` is its only voter.
            conf_state: Vec::new(),
        };
        let (records, digest) = (walk.znodes(), walk.agreement_digest());
        let written = self.stream(&meta, &mut walk).and_then(|writer| writer.finish(records, digest.into()));
        // Only the hand-over needs the lock; what the walk leaves behind is dropped without it.
        let remains = self.state.write().end_snapshot_walk();
        drop(remains);
        let info = written?;
        let took = started.elapsed();
        self.stats.time.record(took);
        tracing::info!(
            %index,
            %zxid,
            znodes = records,
            bytes = info.file_bytes,
            took_ms = took.as_millis() as u64,
            "snapshot written"
        );
        Ok(())
    }

    fn stream(
        &self,
        meta: &SnapshotMeta,
        walk: &mut SnapshotWalk,
    ) -> Result<ostler_storage::SnapshotWriter, SnapshotError> {
        let mut writer = self.store.create(meta)?;
        let mut slice = Vec::new();
        loop {
            slice.clear();
            let progress = self.state.read().walk_slice(walk, SLICE_SLOTS, &mut slice);
            writer.push(&slice)?;
            match progress {
                Progress::More => {}
                Progress::Done => return Ok(writer),
                Progress::Ended => unreachable!("the core begins one walk at a time"),
            }
        }
    }

    fn log_may_go_up_to(&self) -> Option<u64> {
        self.store.log_may_go_up_to(self.retain).unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot list the snapshots; the log keeps everything until the next one");
            None
        })
    }

    fn purge(&self) {
        if self.purge_interval.is_none() {
            return;
        }
        match self.store.purge(self.retain) {
            Ok(_) => tracing::debug!(retain = self.retain, "purged old snapshots"),
            Err(error) => tracing::warn!(%error, "cannot purge old snapshots"),
        }
    }
}
