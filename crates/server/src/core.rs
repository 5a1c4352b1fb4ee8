//! The thread that decides: consensus, apply, expiry. It touches neither a socket nor a disk.

use std::collections::VecDeque;

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender};

use ostler_node::{Millis, Replica, ShardId, ShardRequests, SharedState};
use ostler_replication::{LogEntry, ProposeError, Replicator};
use ostler_types::{LogIndex, SessionId, Term};

use crate::clock;
use crate::events::QuotaLog;
use crate::log_writer::{LogRequest, LogWriterHandle};
use crate::snapshots::SnapshotRequest;
use crate::worker::WorkerHandle;

/// The unit of raft's clock (design, "Fast failover").
const TICK_MS: Millis = 50;
/// While this many rounds wait for the disk, further requests are collected: they become one entry.
const MAX_ROUNDS_AT_DISK: usize = 2;
/// Events handled before the log and the shards have their turn.
const MAX_EVENTS_PER_TURN: usize = 4096;

/// What reaches the core.
pub(crate) enum CoreEvent {
    /// A shard has something.
    Shard(ShardRequests),
    /// Rounds up to this number are durable.
    Persisted(u64),
    /// The log writer was told to stop and found the disk full; it has ended.
    LogGivenUp,
    /// A snapshot is durable and validated, or failed; the next one may be begun.
    SnapshotDone {
        /// Enough snapshots make up for the log up to this index.
        log_may_go_up_to: Option<u64>,
    },
    /// When sessions expire, for `dump`: milliseconds from now.
    Deadlines(SyncSender<Vec<(Millis, SessionId)>>),
    /// Every worker has ended; finish what is in the log and end.
    Stop,
}

/// What the core is made of.
pub(crate) struct CoreParts {
    pub(crate) events: Receiver<CoreEvent>,
    pub(crate) replicator: Replicator,
    pub(crate) replica: Replica,
    pub(crate) log: LogWriterHandle,
    pub(crate) snapshots: Sender<SnapshotRequest>,
    pub(crate) state: SharedState,
    /// One per shard, by its id.
    pub(crate) workers: Vec<WorkerHandle>,
    /// Told once, when sessions can be served.
    pub(crate) serving: SyncSender<()>,
}

/// See the module's documentation.
pub(crate) struct Core {
    events: Receiver<CoreEvent>,
    replicator: Replicator,
    replica: Replica,
    log: LogWriterHandle,
    snapshots: Sender<SnapshotRequest>,
    state: SharedState,
    workers: Vec<WorkerHandle>,
    /// Told once, when sessions can be served.
    serving: Option<SyncSender<()>>,
    rounds: Rounds,
    log_given_up: bool,
    snapshot_running: bool,
    led: bool,
    woken: Vec<ShardId>,
    quota_log: QuotaLog,
}

impl Core {
    pub(crate) fn new(parts: CoreParts) -> Core {
        let CoreParts { events, replicator, replica, log, snapshots, state, workers, serving } = parts;
        Core {
            events,
            replicator,
            replica,
            log,
            snapshots,
            state,
            workers,
            serving: Some(serving),
            rounds: Rounds::default(),
            log_given_up: false,
            snapshot_running: false,
            led: false,
            woken: Vec::new(),
            quota_log: QuotaLog::default(),
        }
    }

    /// Runs until told to stop.
    pub(crate) fn run(mut self) {
        self.replicator.campaign();
        let mut next_tick = clock::now() + TICK_MS;
        let mut stopping = false;
        loop {
            let mut now = clock::now();
            if now >= next_tick {
                self.replicator.tick();
                // After a stall the ticks that were missed stay missed: catching up would depose a leader.
                next_tick = now + TICK_MS;
            }
            self.replica.tick(now, clock::wall_ms());
            if let Some(gap_ms) = self.replica.take_long_stall()
                && self.replica.is_serving()
            {
                tracing::warn!(
                    gap_ms,
                    "this server stood still: the machine was suspended or is overloaded; sessions get the time back"
                );
            }
            self.advance(now);
            if stopping && (self.rounds.are_durable() || self.log_given_up) {
                return;
            }
            let deadline = self.replica.next_deadline().map_or(next_tick, |at| at.clamp(now + 1, next_tick));
            match self.events.recv_timeout(clock::until(deadline, now)) {
                Ok(first) => {
                    now = clock::now();
                    stopping |= self.handle(first, now);
                    for _ in 0..MAX_EVENTS_PER_TURN {
                        let Ok(event) = self.events.try_recv() else { break };
                        stopping |= self.handle(event, now);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Handles one event; returns whether it is time to stop.
    fn handle(&mut self, event: CoreEvent, now: Millis) -> bool {
        match event {
            CoreEvent::Shard(requests) => self.replica.receive(requests, now),
            CoreEvent::Persisted(number) => {
                let durable = self.rounds.persisted(number);
                self.replicator.persisted(durable);
            }
            CoreEvent::SnapshotDone { log_may_go_up_to } => {
                self.snapshot_running = false;
                if let Some(up_to) = log_may_go_up_to {
                    self.log.send(LogRequest::Purge { up_to });
                }
            }
            CoreEvent::Deadlines(reply) => {
                let deadlines = self.replica.deadlines();
                let from_now = deadlines.into_iter().map(|(at, session)| (at.saturating_sub(now), session));
                // Whoever asked may have given up.
                let _ = reply.send(from_now.collect());
            }
            CoreEvent::Stop => {
                self.log.give_up_if_full();
                return true;
            }
            CoreEvent::LogGivenUp => self.log_given_up = true,
        }
        false
    }

    /// Proposes, hands rounds to the disk, applies what is committed.
    fn advance(&mut self, now: Millis) {
        if self.rounds.at_disk() < MAX_ROUNDS_AT_DISK
            && self.replicator.is_leader()
            && let Some(proposal) = self.replica.take_proposal(clock::wall_ms())
        {
            let count = proposal.entries.len();
            match self.replicator.propose(proposal.entries) {
                Ok((term, first)) => self.replica.proposed(term, first, count),
                Err(error @ (ProposeError::NotLeader | ProposeError::Dropped)) => {
                    // The only voter leads from its first round on and sets no limit on proposals.
                    crate::die(
                        crate::EXIT_FAILURE,
                        format_args!("a single voter refused a proposal: {error}"),
                    );
                }
            }
        }
        while let Some(output) = self.replicator.poll() {
            let number = output.number;
            if output.needs_disk() {
                self.rounds.sent(number);
                self.log.send(LogRequest::Append {
                    number,
                    entries: output.append,
                    hard_state: output.hard_state,
                    must_sync: output.must_sync,
                });
            } else if self.rounds.skipped(number) {
                self.replicator.persisted(number);
            }
            self.apply(&output.committed, now);
        }
        self.replica.publish_stale(&mut self.woken);
        for shard in self.woken.drain(..) {
            self.workers[shard.0 as usize].wake();
        }
        let ended = self.replica.take_ended();
        // While the log is replayed these are old news, which an earlier run has told.
        if self.replica.is_serving() {
            ended.iter().for_each(crate::events::session_ended);
        }
        let over_quota = self.replica.take_over_quota();
        if self.replica.is_serving() {
            self.quota_log.exceeded(&over_quota, now);
        }
        if let Some(ahead_ms) = self.replica.take_clock_alarm() {
            tracing::error!(
                ahead_ms,
                "the wall clock runs ahead of elapsed time: TTL and unused container znodes are not removed \
                 until it agrees again or the server is restarted"
            );
        }
    }

    fn apply(&mut self, committed: &[LogEntry], now: Millis) {
        let Some(last) = committed.last() else { return };
        for entry in committed {
            if let Err(error) = self.replica.apply(entry.term, entry.index, &entry.data, now, &mut self.woken)
            {
                crate::die(crate::EXIT_DATA, format_args!("cannot apply log entry {}: {error}", entry.index));
            }
        }
        self.replicator.applied(last.index);
        if !self.led && last.term == self.replicator.term() {
            self.led = true;
            self.replica.lead();
        }
        if self.replica.is_serving()
            && let Some(serving) = self.serving.take()
        {
            // The main thread waits for this and for nothing else.
            let _ = serving.send(());
        }
        if self.replica.snapshot_due() && !self.snapshot_running {
            self.start_snapshot(last.term, last.index);
        }
    }

    fn start_snapshot(&mut self, term: Term, index: LogIndex) {
        self.snapshot_running = true;
        self.replica.snapshot_taken();
        // From here on apply keeps what the walk has not reached.
        let mut state = self.state.write();
        let request =
            SnapshotRequest { term, index, zxid: state.last_zxid(), walk: state.begin_snapshot_walk() };
        drop(state);
        // The snapshot thread ends after this one.
        let _ = self.snapshots.send(request);
    }
}

/// Rounds that are not yet reported as durable, in order. One that has nothing for the disk is durable with the
/// one before it: reporting it earlier would report that one too.
#[derive(Debug, Default)]
struct Rounds {
    /// Number, and whether the disk has it.
    waiting: VecDeque<(u64, bool)>,
}

impl Rounds {
    fn are_durable(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many the disk has to do.
    fn at_disk(&self) -> usize {
        self.waiting.iter().filter(|(_, at_disk)| *at_disk).count()
    }

    /// `number` goes to the disk.
    fn sent(&mut self, number: u64) {
        self.waiting.push_back((number, true));
    }

    /// `number` has nothing for the disk. Returns whether it is durable at once.
    fn skipped(&mut self, number: u64) -> bool {
        if self.waiting.is_empty() {
            return true;
        }
        self.waiting.push_back((number, false));
        false
    }

    /// The disk has done everything up to `number`. Returns the last round that is durable by that.
    fn persisted(&mut self, number: u64) -> u64 {
        let mut durable = number;
        while let Some(&(next, at_disk)) = self.waiting.front()
            && (next <= number || !at_disk)
        {
            durable = durable.max(next);
            self.waiting.pop_front();
        }
        durable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_without_work_for_the_disk_is_durable_with_the_one_before_it() {
        let mut rounds = Rounds::default();
        assert!(rounds.skipped(1));
        rounds.sent(2);
        assert!(!rounds.skipped(3));
        rounds.sent(4);
        assert!(!rounds.skipped(5));
        assert_eq!(rounds.at_disk(), 2);
        assert_eq!(rounds.persisted(2), 3);
        assert_eq!((rounds.at_disk(), rounds.are_durable()), (1, false));
        assert_eq!(rounds.persisted(4), 5);
        assert!(rounds.are_durable());
    }
}
