//! The thread that owns the log: one write and one fsync for everything that waits.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use ostler_replication::{HardState, LogEntry};
use ostler_storage::{AppendError, Batch, Entry, Log, Space};

use crate::admission::Gate;
use crate::core::CoreEvent;

/// How often a full disk is looked at again.
const RETRY: Duration = Duration::from_millis(500);
/// Bytes of entries written with one call at most.
const MAX_APPEND_BYTES: usize = 8 << 20;

/// What the log is asked to do.
pub(crate) enum LogRequest {
    /// Make a round durable and report its number.
    Append { number: u64, entries: Vec<LogEntry>, hard_state: Option<HardState>, must_sync: bool },
    /// A snapshot covers everything up to this index.
    Purge { up_to: u64 },
}

/// How the core reaches the log.
pub(crate) struct LogWriterHandle {
    requests: Sender<LogRequest>,
}

impl LogWriterHandle {
    pub(crate) fn send(&self, request: LogRequest) {
        // The writer ends only when this handle is gone, or with the process.
        let _ = self.requests.send(request);
    }
}

/// What is counted about the log, for `mntr`.
#[derive(Debug, Default)]
pub(crate) struct LogStats {
    pub(crate) fsyncs: AtomicU64,
    pub(crate) fsync_total_us: AtomicU64,
    pub(crate) fsync_max_us: AtomicU64,
    pub(crate) slow_fsyncs: AtomicU64,
}

/// See the module's documentation.
pub(crate) struct LogWriter {
    log: Log,
    requests: Receiver<LogRequest>,
    core: Sender<CoreEvent>,
    gate: Arc<Gate>,
    stats: Arc<LogStats>,
    fsync_warning: Duration,
}

impl LogWriter {
    pub(crate) fn new(
        log: Log,
        core: Sender<CoreEvent>,
        gate: Arc<Gate>,
        stats: Arc<LogStats>,
        fsync_warning: Duration,
    ) -> (LogWriter, LogWriterHandle) {
        let (sender, requests) = std::sync::mpsc::channel();
        let writer = LogWriter { log, requests, core, gate, stats, fsync_warning };
        (writer, LogWriterHandle { requests: sender })
    }

    /// Runs until the core is gone and everything it asked for is done.
    pub(crate) fn run(mut self) {
        let mut batches = Vec::new();
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
                    LogRequest::Append { number: n, entries, hard_state, must_sync } => {
                        number = Some(n);
                        bytes += entries.iter().map(|e| e.data.len()).sum::<usize>();
                        batches.push(to_batch(entries, hard_state, must_sync));
                    }
                    LogRequest::Purge { up_to } => self.purge(up_to),
                }
                next = if bytes < MAX_APPEND_BYTES { self.requests.try_recv().ok() } else { None };
            }
            if let Some(number) = number {
                if !self.append(&batches) {
                    return;
                }
                batches.clear();
                // Before the answers: whoever has his must find the door closed if there is no room left.
                self.watch_space();
                if self.core.send(CoreEvent::Persisted(number)).is_err() {
                    break;
                }
            }
        }
        if let Err(error) = self.log.sync() {
            crate::die(crate::EXIT_DATA, format_args!("the last fsync failed: {error}"));
        }
    }

    /// Makes the batches durable, however long the disk stays full; false if the server is stopped before.
    /// Nothing of them is acknowledged.
    fn append(&mut self, batches: &[Batch]) -> bool {
        let started = Instant::now();
        let mut told = false;
        loop {
            match self.log.append(batches) {
                Ok(()) => break,
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
                    if self.gate.is_stopping() {
                        tracing::error!(%error, "stopping without what the full disk did not take; nobody was told it was done");
                        // The core may be gone already.
                        let _ = self.core.send(CoreEvent::LogGivenUp);
                        return false;
                    }
                    std::thread::sleep(RETRY);
                }
            }
        }
        let took = started.elapsed();
        let took_us = took.as_micros() as u64;
        self.stats.fsyncs.fetch_add(1, Ordering::Relaxed);
        self.stats.fsync_total_us.fetch_add(took_us, Ordering::Relaxed);
        self.stats.fsync_max_us.fetch_max(took_us, Ordering::Relaxed);
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
            match space {
                Space::Ok => tracing::info!("the disk of dataLogDir has space again: writes are accepted"),
                Space::Low | Space::Full => tracing::error!(
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
            // Tried again with the next snapshot, and at the next start.
            Err(error) => tracing::warn!(%error, "cannot purge the log"),
        }
    }
}

fn to_batch(entries: Vec<LogEntry>, hard_state: Option<HardState>, must_sync: bool) -> Batch {
    Batch {
        log_start: None,
        entries: entries
            .into_iter()
            .map(|e| Entry { term: e.term.0, index: e.index.0, kind: 0, data: e.data })
            .collect(),
        hard_state: hard_state.map(|hs| ostler_storage::HardState {
            term: hs.term,
            vote: hs.vote,
            commit: hs.commit,
        }),
        must_sync,
    }
}
