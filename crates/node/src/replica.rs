//! The part of a server that applies the log: sessions, expiry, the container cleaner, snapshot timing.

mod cleaner;
mod expiry;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use ostler_tree::{
    Change, Command, EndCause, EndCondition, Outcome, QuotaExceeded, Settings, State, Verdict,
};
use ostler_types::{Generation, LogIndex, SessionId, Term, Zxid};

use crate::command::{AuthCache, Batch, BatchBuilder, CommandBuffer, DecodedCommand};
use crate::inbox::{Inbox, Publication, Published};
use crate::operation::to_operation;
use crate::{CommandError, ConnToken, Millis, ShardId, SharedState};
use cleaner::Cleaner;
use expiry::Expiry;

pub use cleaner::CleanerSettings;

/// Commands applied under one hold of the state's write lock. At one to three microseconds each, readers
/// wait a fraction of a millisecond.
const SLICE_COMMANDS: usize = 64;
/// Bytes of entries in one proposal; a single entry may overshoot it. Bounds what one round writes and holds.
const MAX_PROPOSAL_BYTES: usize = 16 << 20;
/// Sessions one boot can number: what fits below the boot in a session id.
const LANE_NUMBERS: u64 = u32::MAX as u64;
/// A ConnectRequest that has waited longer than this, or a third of its timeout, is discarded (design, 5a).
const STALE_HANDSHAKE_MS: Millis = 5_000;

/// What the replica needs to know; what is replicated comes as [`Settings`].
#[derive(Clone, Debug)]
pub struct ReplicaSettings {
    /// This server's number, 1 to 254: the top byte of the session ids it hands out.
    pub server: u8,
    /// The settings apply is to use from now on; logged if they differ from those in the state.
    pub replicated: Settings,
    /// Transactions after which a snapshot is due (`snapCount`); taken at a point between half and all of it.
    pub snap_count: u64,
    /// Bytes of log after which a snapshot is due, likewise (`snapSizeLimitInKb`); none is no limit.
    pub snap_bytes: Option<u64>,
    /// The container and TTL cleaner.
    pub cleaner: CleanerSettings,
}

/// What a shard has for the replica.
#[derive(Debug)]
pub struct ShardRequests {
    /// Which shard.
    pub shard: ShardId,
    /// Numbered writes and closes, in order.
    pub commands: CommandBuffer,
    /// Connections that want a session.
    pub handshakes: Vec<Handshake>,
    /// Sessions heard from, and when.
    pub touches: Vec<(SessionId, Millis)>,
    /// Everything that had arrived by then is in this message or an earlier one.
    pub heard_through: Millis,
}

/// A ConnectRequest that passed the shard's checks.
#[derive(Debug)]
pub enum Handshake {
    /// A new session.
    Create {
        /// For whom.
        connection: ConnToken,
        /// Negotiated.
        timeout_ms: u32,
        /// Hash of the secret the shard drew.
        secret_hash: [u8; 32],
        /// When the request was read.
        received: Millis,
    },
    /// An existing session, whose secret was right.
    Attach {
        /// For whom.
        connection: ConnToken,
        /// Which.
        session: SessionId,
        /// The generation the shard saw when it checked.
        seen: Generation,
        /// Negotiated.
        timeout_ms: u32,
        /// When the request was read.
        received: Millis,
    },
}

/// Entries to propose.
#[derive(Debug)]
pub struct Proposal {
    /// One log entry each.
    pub entries: Vec<Bytes>,
}

/// The end of a session, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionEnd {
    /// Which.
    pub session: SessionId,
    /// Why.
    pub cause: EndCause,
    /// zxid of the end.
    pub zxid: Zxid,
    /// Negotiated timeout; unknown for one that ended during recovery.
    pub timeout_ms: Option<u32>,
    /// How long it had not been heard when it ended; unknown for one that ended during recovery.
    pub silent_ms: Option<u64>,
    /// How much of that was credited because this server itself stood still; unknown likewise.
    pub stalled_ms: Option<u64>,
    /// How many ephemeral znodes went with it.
    pub ephemerals: usize,
}

#[derive(Clone, Copy, Debug)]
struct Waiter {
    shard: ShardId,
    connection: ConnToken,
}

/// This server's way of numbering the sessions it creates (design, 5b).
#[derive(Debug, Default)]
struct Lane {
    boot: u32,
    last_number: u64,
}

/// See the module's documentation.
pub struct Replica {
    settings: ReplicaSettings,
    state: SharedState,
    inboxes: Vec<Arc<Inbox>>,
    auth_cache: AuthCache,
    expiry: Expiry,
    cleaner: Cleaner,
    lane: Lane,
    serving: bool,
    /// Commands of the replica itself.
    own: CommandBuffer,
    batch: BatchBuilder,
    /// Handshakes in `batch`, by entry and position.
    batched: Vec<(usize, u32, Waiter)>,
    /// Handshakes in the log, by index and position, in order.
    logged: VecDeque<(Term, LogIndex, u32, Waiter)>,
    /// Creates that came before the lane was registered.
    early: Vec<(ShardId, Handshake)>,
    /// Handshakes that came too late to be handled.
    stale: Vec<(ShardId, ConnToken)>,
    changes: Vec<Change>,
    published: Vec<Vec<Published>>,
    ended: Vec<SessionEnd>,
    over_quota: Vec<QuotaExceeded>,
    since_snapshot: u64,
    bytes_since_snapshot: u64,
    snapshot_threshold: u64,
}

impl Replica {
    /// A replica over a recovered state, with one inbox per shard.
    pub fn new(settings: ReplicaSettings, state: SharedState, inboxes: Vec<Arc<Inbox>>, now: Millis) -> Self {
        let published = inboxes.iter().map(|_| Vec::new()).collect();
        let mut replica = Replica {
            expiry: Expiry::new(inboxes.len(), now),
            cleaner: Cleaner::new(settings.cleaner.clone(), now),
            settings,
            state,
            inboxes,
            auth_cache: AuthCache::default(),
            lane: Lane::default(),
            serving: false,
            own: CommandBuffer::default(),
            batch: BatchBuilder::default(),
            batched: Vec::new(),
            logged: VecDeque::new(),
            early: Vec::new(),
            stale: Vec::new(),
            changes: Vec::new(),
            published,
            ended: Vec::new(),
            over_quota: Vec::new(),
            since_snapshot: 0,
            bytes_since_snapshot: 0,
            snapshot_threshold: 0,
        };
        replica.snapshot_taken();
        replica
    }

    /// Whether recovery is complete and sessions can be served.
    pub fn is_serving(&self) -> bool {
        self.serving
    }

    /// Takes what a shard has.
    pub fn receive(&mut self, mut requests: ShardRequests, now: Millis) {
        for (session, at) in requests.touches {
            self.expiry.touch(session, at);
        }
        self.expiry.heard_through(requests.shard, requests.heard_through);
        if !requests.commands.is_empty() {
            self.batch.append(&mut requests.commands);
        }
        for handshake in requests.handshakes {
            self.handshake(requests.shard, handshake, now);
        }
    }

    fn handshake(&mut self, shard: ShardId, handshake: Handshake, now: Millis) {
        if !self.serving {
            self.early.push((shard, handshake));
            return;
        }
        let (Handshake::Create { connection, timeout_ms, received, .. }
        | Handshake::Attach { connection, timeout_ms, received, .. }) = handshake;
        // The client has given up on this connection by now, and its next one must not be deposed by it.
        if now.saturating_sub(received) > STALE_HANDSHAKE_MS.min(Millis::from(timeout_ms) / 3) {
            self.stale.push((shard, connection));
            return;
        }
        let mut buffer = CommandBuffer::default();
        match handshake {
            Handshake::Create { secret_hash, .. } => {
                if self.lane.last_number == LANE_NUMBERS {
                    // The numbers of this boot are used up. The next boot's begin behind its registration,
                    // which is in the log before the session that needs it.
                    self.lane = Lane { boot: self.lane.boot + 1, last_number: 0 };
                    buffer.push_command(&self.registration());
                    self.batch.append(&mut buffer);
                }
                self.lane.last_number += 1;
                buffer.push_command(&Command::CreateSession {
                    server: self.settings.server,
                    boot: self.lane.boot,
                    number: self.lane.last_number,
                    timeout_ms,
                    secret_hash,
                });
            }
            Handshake::Attach { session, seen, .. } => {
                let server = self.settings.server;
                buffer.push_command(&Command::Attach { session, seen, timeout_ms, server });
            }
        }
        let (entry, position) = self.batch.append(&mut buffer);
        self.batched.push((entry, position, Waiter { shard, connection }));
    }

    /// Time has passed. Wall time is Unix milliseconds.
    pub fn tick(&mut self, now: Millis, wall_ms: i64) {
        self.expiry.observe(now);
        if !self.serving {
            return;
        }
        self.expiry.propose_due(now, wall_ms, self.settings.server, &mut self.own);
        if self.cleaner.next_deadline().is_some_and(|at| at <= now) {
            let state = self.state.read();
            self.cleaner.propose_due(now, wall_ms, &state, &mut self.own);
        }
        if !self.own.is_empty() {
            self.batch.append(&mut self.own);
        }
    }

    /// Tells the shards of handshakes that were discarded, outside of any entry.
    pub fn publish_stale(&mut self, woken: &mut Vec<ShardId>) {
        if self.stale.is_empty() {
            return;
        }
        for (shard, connection) in std::mem::take(&mut self.stale) {
            self.published[shard.0 as usize].push(Published::AttachRefused { connection, exists: true });
        }
        let shared = self.state.clone();
        self.publish(&shared.write(), woken);
    }

    /// When [`tick`](Self::tick) has something to do next.
    pub fn next_deadline(&self) -> Option<Millis> {
        [self.expiry.next_deadline(), self.cleaner.next_deadline()].into_iter().flatten().min()
    }

    /// Ends a session whatever it is doing.
    pub fn kill(&mut self, session: SessionId, now: Millis, wall_ms: i64) {
        let (condition, cause) = (EndCondition::Always, EndCause::Killed);
        self.expiry.push_end(session, condition, cause, now, wall_ms, self.settings.server, &mut self.own);
        self.batch.append(&mut self.own);
    }

    /// The oldest of what was received and not yet proposed, as log entries: as much as one round carries.
    pub fn take_proposal(&mut self, wall_ms: i64) -> Option<Proposal> {
        if self.batch.is_empty() {
            return None;
        }
        Some(Proposal { entries: self.batch.take(MAX_PROPOSAL_BYTES, wall_ms) })
    }

    /// The last proposal, of `count` entries, went into the log, its first entry at `first`.
    pub fn proposed(&mut self, term: Term, first: LogIndex, count: usize) {
        for (entry, position, waiter) in std::mem::take(&mut self.batched) {
            match entry.checked_sub(count) {
                Some(later) => self.batched.push((later, position, waiter)),
                None => {
                    let index = LogIndex(first.0 + entry as u64);
                    self.logged.push_back((term, index, position, waiter));
                }
            }
        }
    }

    /// Applies a committed entry and tells the shards; `woken` receives those that must be woken.
    ///
    /// # Errors
    /// The entry cannot be read. Nothing after it may be applied: the server must stop.
    pub fn apply(
        &mut self,
        term: Term,
        index: LogIndex,
        data: &[u8],
        now: Millis,
        woken: &mut Vec<ShardId>,
    ) -> Result<(), CommandError> {
        let shared = self.state.clone();
        if data.is_empty() {
            // The entry that opens a term.
            let mut state = shared.write();
            let time = state.time_ms();
            state.begin_entry(term, index, time);
            self.publish(&state, woken);
            return Ok(());
        }
        self.bytes_since_snapshot += data.len() as u64;
        let mut batch = Batch::parse(data)?;
        let mut position = 0;
        let mut finished = false;
        while !finished {
            let mut state = shared.write();
            if position == 0 {
                state.begin_entry(term, index, batch.time_ms);
            }
            let recording = self.inboxes.iter().any(|inbox| inbox.is_watching());
            for _ in 0..SLICE_COMMANDS {
                let Some(command) = batch.next(&mut self.auth_cache)? else {
                    finished = true;
                    break;
                };
                self.apply_one(&mut state, command, (term, index, position), recording, now)?;
                position += 1;
            }
            self.publish(&state, woken);
        }
        Ok(())
    }

    fn apply_one(
        &mut self,
        state: &mut State,
        command: DecodedCommand<'_>,
        at: (Term, LogIndex, u32),
        recording: bool,
        now: Millis,
    ) -> Result<(), CommandError> {
        let zxid_before = state.last_zxid();
        let outcome = match &command {
            DecodedCommand::Plain(command) => state.apply(command, recorder(recording, &mut self.changes)),
            DecodedCommand::Write { session, generation, sequence, auth, request } => {
                let Some(operation) = to_operation(request) else {
                    return Err(CommandError::Malformed("operation kind"));
                };
                let (session, generation, sequence) = (*session, *generation, *sequence);
                let command = Command::Write { session, generation, sequence, auth, operation };
                state.apply(&command, recorder(recording, &mut self.changes))
            }
        };
        if state.last_zxid() != zxid_before {
            self.since_snapshot += 1;
        }
        self.publish_changes();
        let waiter = self.waiter(at);
        match (command, outcome) {
            (
                DecodedCommand::Write { session, generation, sequence, .. }
                | DecodedCommand::Plain(
                    Command::Refused { session, generation, sequence, .. }
                    | Command::EndSession {
                        session,
                        condition: EndCondition::InSequence(generation, sequence),
                        ..
                    },
                ),
                Outcome::Write(verdict),
            ) => self.reply(session, generation, sequence, verdict),
            (_, Outcome::Reconfigured { session, generation, sequence, zxid, result }) => {
                let verdict = Verdict::Applied { zxid, result, over_quota: Vec::new() };
                self.reply(session, generation, sequence, verdict);
            }
            (
                _,
                Outcome::SessionCreated { session, generation, timeout_ms, .. }
                | Outcome::Attached { session, generation, timeout_ms, .. },
            ) => {
                // A new session has no older connection.
                if let Some(shard) = self.expiry.attached_to(session) {
                    self.published[shard.0 as usize].push(Published::SessionMoved { session, generation });
                }
                self.expiry.add(session, generation, timeout_ms, now, waiter.map(|w| w.shard));
                self.tell(waiter, |connection| Published::SessionReady {
                    connection,
                    session,
                    generation,
                    timeout_ms,
                });
            }
            (_, Outcome::AttachRefused { current, .. }) => {
                let exists = current.is_some();
                self.tell(waiter, |connection| Published::AttachRefused { connection, exists });
            }
            (command, Outcome::SessionEnded { session, zxid, cause, ephemerals, .. }) => {
                let closed_by = match command {
                    DecodedCommand::Plain(Command::EndSession {
                        condition: EndCondition::InSequence(generation, sequence),
                        ..
                    }) => Some((generation, sequence)),
                    _ => None,
                };
                let silent_ms = self.expiry.silent_ms(session, now);
                let stalled_ms = self.expiry.stalled_ms_of(session);
                let timeout_ms = self.expiry.timeout_ms(session);
                if let Some(shard) = self.expiry.attached_to(session) {
                    self.published[shard.0 as usize].push(Published::SessionEnded {
                        session,
                        cause,
                        zxid,
                        closed_by,
                    });
                }
                self.expiry.remove(session);
                self.ended.push(SessionEnd {
                    session,
                    cause,
                    zxid,
                    timeout_ms,
                    silent_ms,
                    stalled_ms,
                    ephemerals,
                });
            }
            (
                DecodedCommand::Plain(Command::EndSession {
                    session,
                    condition: EndCondition::InSequence(generation, sequence),
                    ..
                }),
                Outcome::EndVoid { reason, .. },
            ) => self.reply(session, generation, sequence, Verdict::Void(reason)),
            // The session was attached meanwhile: look at it again when it is due.
            (_, Outcome::EndVoid { session, .. }) => self.expiry.end_was_void(session, now),
            (DecodedCommand::Plain(Command::RegisterBoot { server, boot, .. }), _)
                if !self.serving && server == self.settings.server && boot == self.lane.boot =>
            {
                self.start_serving(state, now);
            }
            // Nobody must be left waiting for a session that will not come.
            (_, Outcome::Ignored(_)) => {
                self.tell(waiter, |connection| Published::AttachRefused { connection, exists: true });
            }
            _ => {}
        }
        Ok(())
    }

    fn reply(
        &mut self,
        session: SessionId,
        generation: Generation,
        sequence: ostler_types::Sequence,
        mut verdict: Verdict,
    ) {
        if let Verdict::Applied { over_quota, .. } = &mut verdict {
            self.over_quota.append(over_quota);
        }
        if let Some(shard) = self.expiry.attached_to(session) {
            self.published[shard.0 as usize].push(Published::Replied {
                session,
                generation,
                sequence,
                verdict,
            });
        }
    }

    /// Tells the connection that asked for a session what became of it, if it is one of this server's.
    fn tell(&mut self, waiter: Option<Waiter>, what: impl FnOnce(ConnToken) -> Published) {
        if let Some(Waiter { shard, connection }) = waiter {
            self.published[shard.0 as usize].push(what(connection));
        }
    }

    fn publish_changes(&mut self) {
        for change in self.changes.drain(..) {
            let change = Arc::new(change);
            for (inbox, items) in self.inboxes.iter().zip(&mut self.published) {
                if inbox.is_watching() {
                    items.push(Published::Changed(change.clone()));
                }
            }
        }
    }

    /// Hands the slice to the shards. The borrow of the state proves that the lock is held.
    fn publish(&mut self, state: &State, woken: &mut Vec<ShardId>) {
        for (shard, (inbox, items)) in self.inboxes.iter().zip(&mut self.published).enumerate() {
            if !items.is_empty() {
                let items = std::mem::take(items);
                if inbox.push(Publication { zxid: state.last_zxid(), items }) {
                    woken.push(ShardId(shard as u16));
                }
            }
        }
    }

    fn waiter(&mut self, at: (Term, LogIndex, u32)) -> Option<Waiter> {
        while let Some(&(term, index, position, waiter)) = self.logged.front() {
            if (index, position) > (at.1, at.2) {
                return None;
            }
            self.logged.pop_front();
            if (term, index, position) == at {
                return Some(waiter);
            }
        }
        None
    }

    /// This node leads and everything in the log before its term is applied: register this boot and bring
    /// the replicated settings up to date. Serving starts when that is applied.
    pub fn lead(&mut self) {
        let state = self.state.read();
        self.lane =
            Lane { boot: state.lane(self.settings.server).map_or(0, |(boot, _)| boot) + 1, last_number: 0 };
        let differs = *state.settings() != self.settings.replicated;
        drop(state);
        if differs {
            self.own.push_command(&Command::Configure(self.settings.replicated));
        }
        self.own.push_command(&self.registration());
        self.batch.append(&mut self.own);
    }

    fn registration(&self) -> Command<'static> {
        Command::RegisterBoot { server: self.settings.server, boot: self.lane.boot, nonce: 0 }
    }

    fn start_serving(&mut self, state: &State, now: Millis) {
        self.serving = true;
        for (session, row) in state.sessions() {
            self.expiry.add(session, row.generation, row.timeout_ms, now, None);
        }
        self.expiry.grant_grace(now);
        for (shard, handshake) in std::mem::take(&mut self.early) {
            self.handshake(shard, handshake, now);
        }
    }

    /// Sessions that ended since the last call.
    pub fn take_ended(&mut self) -> Vec<SessionEnd> {
        std::mem::take(&mut self.ended)
    }

    /// Quotas that writes went over since the last call.
    pub fn take_over_quota(&mut self) -> Vec<QuotaExceeded> {
        std::mem::take(&mut self.over_quota)
    }

    /// The cleaner's alarm, once when it rises: stamped time runs ahead of elapsed time by this many
    /// milliseconds, so nothing is removed by age.
    pub fn take_clock_alarm(&mut self) -> Option<i64> {
        self.cleaner.take_alarm()
    }

    /// Total time credited to sessions for stalls of this server, milliseconds.
    pub fn stalled_ms(&self) -> u64 {
        self.expiry.stalled_ms()
    }

    /// A gap in this loop that made clients give up, milliseconds, once: sessions were given time to come back.
    pub fn take_long_stall(&mut self) -> Option<Millis> {
        self.expiry.take_long_stall()
    }

    /// Whether enough has been applied since the last snapshot for another.
    pub fn snapshot_due(&self) -> bool {
        self.since_snapshot >= self.snapshot_threshold
            || self.settings.snap_bytes.is_some_and(|bytes| self.bytes_since_snapshot >= bytes)
    }

    /// A snapshot has been started at the current index.
    pub fn snapshot_taken(&mut self) {
        self.since_snapshot = 0;
        self.bytes_since_snapshot = 0;
        // Between half and all of snapCount, so that the servers of an ensemble do not all write at once.
        let half = (self.settings.snap_count / 2).max(1);
        let spread = self.state.read().applied_index().0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        self.snapshot_threshold = half + (spread + u64::from(self.settings.server) * 7919) % half;
    }

    /// Sessions with the time until they expire, for `dump`.
    pub fn deadlines(&self) -> Vec<(Millis, SessionId)> {
        self.expiry.deadlines()
    }
}

/// Nobody watching, nothing is recorded.
fn recorder(recording: bool, changes: &mut Vec<Change>) -> Option<&mut Vec<Change>> {
    recording.then_some(changes)
}
