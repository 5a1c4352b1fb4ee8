//! The thread that writes snapshots while the server goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use bytes::{Buf as _, BufMut as _, BytesMut};
use ostler_node::SharedState;
use ostler_replication::{Membership, SnapshotOffer};
use ostler_storage::{
    Identity, IncomingSnapshot, Origin, SnapshotError, SnapshotInfo, SnapshotMeta, SnapshotStore,
    SnapshotTicket,
};
use ostler_tree::State;
use ostler_tree::snapshot::{Progress, SnapshotWalk};
use ostler_types::{LogIndex, Term, Zxid};

use crate::clock;
use crate::config::DataConfig;
use crate::core::CoreEvent;
use crate::metrics::Series;
use crate::recovery::{self, RecoveryError};

/// Slots of the tree walked under one hold of the read lock: well under a millisecond.
const SLICE_SLOTS: u32 = 1_000;
/// With purging off (ZooKeeper's default) every snapshot stays, but the log only back to the newest and the one
/// before it, which is started from if the newest turns out to be damaged.
const FALLBACKS_WITHOUT_PURGING: usize = 2;

/// What the core asks for.
pub(crate) enum SnapshotJob {
    /// Write a snapshot.
    Write(SnapshotRequest),
    /// Verify a snapshot that was fetched from another server, make it this server's, and restore it.
    Restore {
        /// What it must be.
        ticket: SnapshotTicket,
        /// The file.
        file: Box<IncomingSnapshot>,
    },
    /// Drop a state, which takes long.
    Discard(Box<State>),
}

/// A walk that the core has begun.
pub(crate) struct SnapshotRequest {
    pub(crate) term: Term,
    pub(crate) index: LogIndex,
    pub(crate) zxid: Zxid,
    pub(crate) membership: Membership,
    pub(crate) walk: SnapshotWalk,
}

/// What a follower that is far behind is offered: where the snapshot stands, and in the ticket what it needs to fetch it.
pub(crate) fn offer(
    ticket: &SnapshotTicket,
    index: LogIndex,
    term: Term,
    membership: Membership,
) -> SnapshotOffer {
    let SnapshotTicket { file_bytes, digest, .. } = ticket;
    let mut bytes = BytesMut::with_capacity(TICKET_BYTES);
    bytes.put_u64(*file_bytes);
    bytes.put_u128(*digest);
    let Membership { voters, learners } = membership;
    SnapshotOffer { index, term, voters, learners, ticket: bytes.freeze() }
}

/// The reverse of [`offer`]; `None` if it makes no sense.
pub(crate) fn ticket_from(offer: &SnapshotOffer) -> Option<SnapshotTicket> {
    let mut bytes = &offer.ticket[..];
    (bytes.len() == TICKET_BYTES).then(|| SnapshotTicket {
        index: offer.index.0,
        term: offer.term.0,
        file_bytes: bytes.get_u64(),
        digest: bytes.get_u128(),
    })
}

/// Bytes of a ticket: the file's length and the state's digest.
const TICKET_BYTES: usize = 8 + 16;

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
    pub(crate) fn run(self, jobs: Receiver<SnapshotJob>) {
        self.purge();
        let mut purged = Instant::now();
        loop {
            let job = match self.purge_interval {
                Some(interval) => jobs.recv_timeout(interval.saturating_sub(purged.elapsed())),
                None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let done = match job {
                Ok(SnapshotJob::Write(request)) => self.written(request),
                Ok(SnapshotJob::Restore { ticket, file }) => self.restored(&ticket, *file),
                Ok(SnapshotJob::Discard(state)) => {
                    drop(state);
                    continue;
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.purge();
                    purged = Instant::now();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if self.core.send(done).is_err() {
                return;
            }
        }
    }

    /// Writes a snapshot and says what has become of it.
    fn written(&self, request: SnapshotRequest) -> CoreEvent {
        let (index, term, membership) = (request.index, request.term, request.membership.clone());
        match self.write(request) {
            Ok(None) => {
                tracing::info!(%index, "snapshot given up: the leader's has replaced the state");
                CoreEvent::SnapshotDone { offer: None, log_may_go_up_to: None }
            }
            Ok(Some(info)) => CoreEvent::SnapshotDone {
                offer: Some(offer(&info.ticket(), index, term, membership)),
                log_may_go_up_to: self.log_may_go_up_to(),
            },
            Err(error) => {
                self.stats.failed.fetch_add(1, Ordering::Relaxed);
                tracing::error!(
                    %error,
                    %index,
                    "snapshot failed; the log keeps everything and the next snapshot is tried later"
                );
                CoreEvent::SnapshotDone { offer: None, log_may_go_up_to: None }
            }
        }
    }

    /// Takes over a snapshot that was fetched. Nothing of it counts before consensus has been told.
    fn restored(&self, ticket: &SnapshotTicket, file: IncomingSnapshot) -> CoreEvent {
        let started = Instant::now();
        let index = LogIndex(ticket.index);
        let restored = file
            .adopt(self.identity, ticket)
            .map_err(RecoveryError::from)
            .and_then(|info| recovery::restore(self.store.read(&info)?, &info));
        let restored = restored.and_then(|state| {
            if state.applied_index() == index {
                Ok(state)
            } else {
                let held = state.applied_index();
                Err(RecoveryError::Inconsistent(format!("it says index {index} and holds index {held}")))
            }
        });
        match restored {
            Ok(state) => {
                let took_ms = started.elapsed().as_millis() as u64;
                tracing::info!(%index, bytes = ticket.file_bytes, took_ms, "the leader's snapshot is read");
                CoreEvent::SnapshotRestored { index, state: Some(Box::new(state)) }
            }
            Err(error) => {
                tracing::error!(%error, %index, "the leader's snapshot cannot be used; it offers another");
                CoreEvent::SnapshotRestored { index, state: None }
            }
        }
    }

    fn write(&self, request: SnapshotRequest) -> Result<Option<SnapshotInfo>, SnapshotError> {
        let SnapshotRequest { term, index, zxid, mut walk, .. } = request;
        let started = Instant::now();
        let meta = SnapshotMeta {
            identity: self.identity,
            index: index.0,
            term: term.0,
            zxid: zxid.0,
            created_ms: clock::wall_ms() as u64,
            origin: Origin::Local,
            // The state itself holds the membership.
            conf_state: Vec::new(),
        };
        let (records, digest) = (walk.znodes(), walk.agreement_digest());
        let written = self
            .stream(&meta, &mut walk)
            .and_then(|writer| writer.map(|writer| writer.finish(records, digest.into())).transpose());
        // Only the hand-over needs the lock; what the walk leaves behind is dropped without it.
        let remains = self.state.write().end_snapshot_walk();
        drop(remains);
        let Some(info) = written? else { return Ok(None) };
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
        Ok(Some(info))
    }

    fn stream(
        &self,
        meta: &SnapshotMeta,
        walk: &mut SnapshotWalk,
    ) -> Result<Option<ostler_storage::SnapshotWriter>, SnapshotError> {
        let mut writer = self.store.create(meta)?;
        let mut slice = Vec::new();
        loop {
            slice.clear();
            let progress = self.state.read().walk_slice(walk, SLICE_SLOTS, &mut slice);
            writer.push(&slice)?;
            match progress {
                Progress::More => {}
                Progress::Done => return Ok(Some(writer)),
                // The state is another one now.
                Progress::Ended => return Ok(None),
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
