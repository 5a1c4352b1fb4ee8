//! The thread that owns the log: one write and one fsync for everything that waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ostler_replication::{HardState, LogEntry};
use ostler_storage::{AppendError, Batch, Entry, Log, LogStart, Space};
use ostler_types::{LogIndex, Term};

use crate::admission::Gate;
use crate::core::CoreEvent;
use crate::metrics::Series;
use crate::peers::{Delivery, Peers};

/// How often a full disk is looked at again.
const RETRY: Duration = Duration::from_millis(500);
/// Bytes of entries written with one call at most.
const MAX_APPEND_BYTES: usize = 8 << 20;

/// What the log is asked to do.
pub(crate) enum LogRequest {
    /// Make a round durable and report its number.
    Append {
        number: u64,
        /// The log goes on from a snapshot of this index and term.
        install: Option<(LogIndex, Term)>,
        entries: Vec<LogEntry>,
        hard_state: Option<HardState>,
        must_sync: bool,
        /// Frames for other nodes that say that it is durable.
        then_send: Vec<(u64, Bytes)>,
    },
    /// Snapshots make up for everything up to this index.
    Purge { up_to: u64 },
}

/// How the core reaches the log.
pub(crate) struct LogWriterHandle {
    requests: Sender<LogRequest>,
    stop: Arc<AtomicBool>,
}

impl LogWriterHandle {
    pub(crate) fn send(&self, request: LogRequest) {
        // The writer ends only when this handle is gone, or with the process.
        let _ = self.requests.send(request);
    }

    /// Nobody waits for answers any more: what finds no room on the disk is given up, and
    /// [`CoreEvent::LogGivenUp`] says so.
    pub(crate) fn give_up_if_full(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// What is counted about the log, for the metrics.
#[derive(Debug, Default)]
pub(crate) struct LogStats {
    /// Each fsync with the write before it.
    pub(crate) fsync: Series,
    slow_fsyncs: AtomicU64,
}

impl LogStats {
    /// How many were slower than `fsync.warningthresholdms`.
    pub(crate) fn slow(&self) -> u64 {
        self.slow_fsyncs.load(Ordering::Relaxed)
    }

    pub(crate) fn reset(&self) {
        self.fsync.reset();
        self.slow_fsyncs.store(0, Ordering::Relaxed);
    }
}

/// See the module's documentation.
pub(crate) struct LogWriter {
    log: Log,
    requests: Receiver<LogRequest>,
    core: Sender<CoreEvent>,
    /// For what other servers may hear only when it is durable.
    peers: Option<Arc<Peers>>,
    gate: Arc<Gate>,
    stats: Arc<LogStats>,
    fsync_warning: Duration,
    stop: Arc<AtomicBool>,
}

impl LogWriter {
    pub(crate) fn new(
        log: Log,
        core: Sender<CoreEvent>,
        peers: Option<Arc<Peers>>,
        gate: Arc<Gate>,
        stats: Arc<LogStats>,
        fsync_warning: Duration,
    ) -> (LogWriter, LogWriterHandle) {
        let (sender, requests) = std::sync::mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let writer = LogWriter { log, requests, core, peers, gate, stats, fsync_warning, stop: stop.clone() };
        (writer, LogWriterHandle { requests: sender, stop })
    }

    /// Runs until the core is gone and everything it asked for is done, or given up.
    pub(crate) fn run(mut self) {
        let (mut batches, mut frames) = (Vec::new(), Vec::new());
        loop {
            let first = match self.requests.recv_timeout(RETRY) {
                Ok(request) => request,
                Err(RecvTimeoutError::Timeout) => {
                    self.watch_space();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let mut number = None;
            let mut bytes = 0;
            let mut next = Some(first);
            while let Some(request) = next {
                match request {
                    LogRequest::Append { number: n, install, entries, hard_state, must_sync, then_send } => {
                        number = Some(n);
                        bytes += entries.iter().map(|e| e.data.len()).sum::<usize>();
                        frames.extend(then_send);
                        batches.push(to_batch(install, entries, hard_state, must_sync));
                    }
                    LogRequest::Purge { up_to } => self.purge(up_to),
                }
                next = if bytes < MAX_APPEND_BYTES { self.requests.try_recv().ok() } else { None };
            }
            if let Some(number) = number {
                let done = self.append(&batches);
                batches.clear();
                if done {
                    self.send(std::mem::take(&mut frames));
                }
                // Before the answers: whoever has his must find the door closed if there is no room left.
                self.watch_space();
                let report = if done { CoreEvent::Persisted(number) } else { CoreEvent::LogGivenUp };
                if self.core.send(report).is_err() || !done {
                    break;
                }
            }
        }
        if let Err(error) = self.log.sync() {
            crate::die(crate::EXIT_DATA, format_args!("the last fsync failed: {error}"));
        }
    }

    /// Sends what depended on the rounds that are durable now. What finds no room is lost, as on a bad network.
    fn send(&self, frames: Vec<(u64, Bytes)>) {
        let Some(peers) = &self.peers else { return };
        for (node, frame) in frames {
            peers.send(node, vec![frame], Delivery::MayDrop);
        }
    }

    /// Makes the batches durable, however long the disk stays full; nothing of them is acknowledged before.
    /// Returns whether it did: when the server stops, what has no room is given up.
    fn append(&mut self, batches: &[Batch]) -> bool {
        let syncs = self.log.syncs();
        let mut told = false;
        let took = loop {
            // What a full disk makes us wait for is no measure of its fsyncs.
            let started = Instant::now();
            match self.log.append(batches) {
                Ok(()) => break started.elapsed(),
                Err(AppendError::Fatal { cause }) => {
                    // Nobody knows what a failed fsync left on the disk, and a second one would lie.
                    crate::die(
                        crate::EXIT_DATA,
                        format_args!(
                            "the log cannot be made durable: {cause}; stopping so that nothing is acknowledged \
                             that may be lost. Check the disk before starting again"
                        ),
                    );
                }
                Err(error @ (AppendError::NotContiguous { .. } | AppendError::TooLarge { .. })) => {
                    crate::die(crate::EXIT_FAILURE, format_args!("consensus and log disagree: {error}"));
                }
                Err(error @ AppendError::Full { .. }) => {
                    if !told {
                        told = true;
                        self.gate.set_log_has_room(false);
                        tracing::error!(%error, "the disk of dataLogDir is full: nothing can be written until there is space");
                    }
                    if self.stop.load(Ordering::Relaxed) {
                        tracing::warn!(
                            "stopping with a full disk: the last writes, none of them acknowledged, are given up"
                        );
                        return false;
                    }
                    std::thread::sleep(RETRY);
                }
            }
        };
        if self.log.syncs() > syncs {
            self.stats.fsync.record(took);
        }
        if took > self.fsync_warning {
            self.stats.slow_fsyncs.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(
                took_ms = took.as_millis() as u64,
                "writing the log took longer than fsync.warningthresholdms: the disk is slow or busy, and every \
                 write waited for it"
            );
        }
        true
    }

    /// Turns writes away while only the reserve is left, and lets them in again when there is space.
    fn watch_space(&mut self) {
        let space = self.log.space();
        if self.gate.set_log_has_room(space == Space::Ok) {
            let problem = self.log.space_problem();
            match space {
                Space::Ok => tracing::info!("the disk of dataLogDir has space again: writes are accepted"),
                Space::Low | Space::Full => tracing::error!(
                    problem,
                    "the disk of dataLogDir is full: writes are refused (THROTTLEDOP, not executed), reads, \
                     heartbeats and reconnects go on; free some space and writes resume by themselves"
                ),
            }
        }
        if space != Space::Ok {
            // The thread that prepares segments is at it too; this clears what a failed append left.
            let _ = self.log.prepare_spare();
        }
    }

    fn purge(&mut self, up_to: u64) {
        match self.log.purge(up_to) {
            Ok(0) => {}
            Ok(segments) => tracing::debug!(segments, up_to, "purged log segments covered by a snapshot"),
            // Tried again with the next snapshot.
            Err(error) => tracing::warn!(%error, "cannot purge the log"),
        }
    }
}

fn to_batch(
    install: Option<(LogIndex, Term)>,
    entries: Vec<LogEntry>,
    hard_state: Option<HardState>,
    must_sync: bool,
) -> Batch {
    Batch {
        log_start: install.map(|(index, term)| LogStart { index: index.0, term: term.0 }),
        entries: entries
            .into_iter()
            .map(|e| Entry { term: e.term.0, index: e.index.0, kind: e.kind as u8, data: e.data })
            .collect(),
        hard_state: hard_state.map(|hs| ostler_storage::HardState {
            term: hs.term,
            vote: hs.vote,
            commit: hs.commit,
        }),
        must_sync,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    use ostler_node::Admission as _;
    use ostler_storage::{DataDir, ExpectIdentity, Identity, LogOptions, SimDisk};

    /// A log writer on a disk of its own, its handle, and what it tells the core.
    struct Desk {
        disk: SimDisk,
        gate: Arc<Gate>,
        stats: Arc<LogStats>,
        writer: LogWriter,
        handle: LogWriterHandle,
        core: Receiver<CoreEvent>,
    }

    fn desk() -> Desk {
        let disk = SimDisk::new(1);
        let data_dir = DataDir::open(Arc::new(disk.clone()), Path::new("/d"), Path::new("/d")).unwrap();
        let me = ExpectIdentity::OrCreate(Identity { cluster_id: 1, node_id: 2 });
        let log = data_dir.recover(me, LogOptions::with_segment_bytes(64 << 10)).unwrap().log;
        let config = crate::config::standalone_default(&crate::config::Overrides::default()).unwrap().config;
        let (gate, stats) = (Arc::new(Gate::new(&config.listen, 0)), Arc::new(LogStats::default()));
        let (sender, core) = std::sync::mpsc::channel();
        let (writer, handle) =
            LogWriter::new(log, sender, None, gate.clone(), stats.clone(), config.data.fsync_warning);
        Desk { disk, gate, stats, writer, handle, core }
    }

    fn round(number: u64, bytes: usize, must_sync: bool) -> LogRequest {
        let data = vec![1; bytes].into();
        let entry = LogEntry { term: Term(1), index: LogIndex(number), data, ..Default::default() };
        let (entries, then_send) = (vec![entry], Vec::new());
        LogRequest::Append { number, install: None, entries, hard_state: None, must_sync, then_send }
    }

    #[test]
    fn a_stop_gives_up_what_a_full_disk_has_no_room_for() {
        let Desk { disk, gate, writer, handle, core, .. } = desk();
        handle.send(round(1, 100, true));
        let thread = std::thread::spawn(move || writer.run());
        assert!(matches!(core.recv(), Ok(CoreEvent::Persisted(1))));
        disk.set_capacity(Some(disk.used()));
        // More than a segment.
        handle.send(round(2, 100 << 10, true));
        while gate.writes_allowed() {
            std::thread::yield_now();
        }
        handle.give_up_if_full();
        assert!(matches!(core.recv(), Ok(CoreEvent::LogGivenUp)));
        thread.join().unwrap();
    }

    #[test]
    fn only_rounds_that_were_synced_count_as_fsyncs() {
        let Desk { stats, writer, handle, core, .. } = desk();
        let thread = std::thread::spawn(move || writer.run());
        for (number, must_sync, fsyncs) in [(1, true, 1), (2, false, 1), (3, false, 1), (4, true, 2)] {
            handle.send(round(number, 10, must_sync));
            assert!(matches!(core.recv(), Ok(CoreEvent::Persisted(n)) if n == number));
            assert_eq!(stats.fsync.distribution().count, fsyncs, "round {number}");
        }
        drop(handle);
        thread.join().unwrap();
    }
}
