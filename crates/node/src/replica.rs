//! The part of a server that applies the log, and that carries its clients' commands there.
//!
//! It is the same on every server of an ensemble: which of them leads is [`Core`](crate::Core)'s affair. What a shard
//! has for the log waits in [`Pending`] until apply has judged it, whoever leads meanwhile.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use ostler_tree::{Change, Command, EndCause, EndCondition, Outcome, QuotaExceeded, State, Verdict, Void};
use ostler_types::{Generation, LogIndex, SessionId, Term, Zxid};

use crate::command::{AuthCache, Batch, CommandBuffer, DecodedCommand};
use crate::inbox::{Inbox, Publication, Published};
use crate::leader::Leader;
use crate::operation::to_operation;
use crate::pending::{Key, Pending, Waiter};
use crate::{CommandError, ConnToken, Millis, ShardId, SharedState};

/// Commands applied under one hold of the state's write lock. At one to three microseconds each, readers
/// wait a fraction of a millisecond.
const SLICE_COMMANDS: usize = 64;
/// Sessions one boot can number: what fits below the boot in a session id.
const LANE_NUMBERS: u64 = u32::MAX as u64;
/// A ConnectRequest that has waited longer than this, or a third of its timeout, is discarded (design, 5a).
const STALE_HANDSHAKE_MS: Millis = 5_000;
/// Servers compare their digests after entries whose index is a multiple of this.
const CHECKPOINT_ENTRIES: u64 = 64;
/// Checkpoints kept for comparison.
const CHECKPOINTS: usize = 256;

/// What the replica needs to know.
#[derive(Clone, Debug)]
pub struct ReplicaSettings {
    /// This server's number, 1 to 254: the top byte of the session ids it hands out.
    pub server: u8,
    /// A random number of this run of the server, which tells its lanes from those of other runs.
    pub nonce: u64,
    /// Transactions after which a snapshot is due (`snapCount`); taken at a point between half and all of it.
    pub snap_count: u64,
    /// Bytes of log after which a snapshot is due, likewise (`snapSizeLimitInKb`); none is no limit.
    pub snap_bytes: Option<u64>,
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
    /// The newest of the shard's barriers that something waits for: it is passed when everything that was committed
    /// anywhere before now is applied here.
    pub barrier: Option<u64>,
    /// How many [`SnapshotInstalled`](Published::SnapshotInstalled) the shard had seen.
    pub installs: u64,
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

/// The end of a session, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionEnd {
    /// Which.
    pub session: SessionId,
    /// Why.
    pub cause: EndCause,
    /// zxid of the end.
    pub zxid: Zxid,
    /// The server that held it.
    pub owner: u8,
    /// Negotiated timeout; unknown for one that ended during recovery.
    pub timeout_ms: Option<u32>,
    /// How long it had not been heard when its end was proposed, by the leader's wall clock.
    pub silent_ms: u64,
    /// How much of that was credited because the leader itself stood still; known to the leader only.
    pub stalled_ms: Option<u64>,
    /// How many ephemeral znodes went with it.
    pub ephemerals: usize,
}

/// This server's way of numbering the sessions it creates (design, 5b).
#[derive(Debug, Default)]
enum Lane {
    /// No boot of this run is in the log.
    #[default]
    Closed,
    /// A registration is pending.
    Registering,
    /// Creates are numbered.
    Open { boot: u32, last_number: u64 },
}

/// See the module's documentation.
pub struct Replica {
    settings: ReplicaSettings,
    state: SharedState,
    inboxes: Vec<Arc<Inbox>>,
    auth_cache: AuthCache,
    lane: Lane,
    pending: Pending,
    /// Sessions whose connection is here: who owns it, and which shard has it.
    attached: HashMap<SessionId, (Generation, ShardId), FixedState>,
    /// Handshakes that came before they could be numbered.
    early: VecDeque<(ShardId, Handshake)>,
    changes: Vec<Change>,
    published: Vec<Vec<Published>>,
    ended: Vec<SessionEnd>,
    /// How many snapshots have replaced the state, or are about to.
    installs: u64,
    over_quota: Vec<QuotaExceeded>,
    checkpoints: VecDeque<(LogIndex, u64)>,
    since_snapshot: u64,
    bytes_since_snapshot: u64,
    snapshot_threshold: u64,
}

impl Replica {
    /// A replica over a recovered state, with one inbox per shard.
    pub fn new(settings: ReplicaSettings, state: SharedState, inboxes: Vec<Arc<Inbox>>) -> Self {
        let published = inboxes.iter().map(|_| Vec::new()).collect();
        let mut replica = Replica {
            settings,
            state,
            inboxes,
            auth_cache: AuthCache::default(),
            lane: Lane::Closed,
            pending: Pending::default(),
            attached: HashMap::default(),
            early: VecDeque::new(),
            changes: Vec::new(),
            published,
            ended: Vec::new(),
            installs: 0,
            over_quota: Vec::new(),
            checkpoints: VecDeque::new(),
            since_snapshot: 0,
            bytes_since_snapshot: 0,
            snapshot_threshold: 0,
        };
        replica.snapshot_taken();
        replica
    }

    /// Whether this run's boot is in the log, so that sessions can be opened.
    pub(crate) fn is_registered(&self) -> bool {
        matches!(self.lane, Lane::Open { .. })
    }

    /// Sees to it that sessions can be opened: registers this boot if that is neither done nor under way. To be
    /// called when what was in the log before this server took part is applied.
    pub(crate) fn register(&mut self) {
        if !matches!(self.lane, Lane::Closed) {
            return;
        }
        let boot = self.state.read().lane(self.settings.server).map_or(0, |(boot, _)| boot) + 1;
        self.lane = Lane::Registering;
        let (server, nonce) = (self.settings.server, self.settings.nonce);
        self.push_pending(&Command::RegisterBoot { server, boot, nonce }, None);
    }

    fn push_pending(&mut self, command: &Command<'_>, waiter: Option<Waiter>) {
        let mut buffer = CommandBuffer::default();
        buffer.push_command(command);
        self.pending.push(buffer.take_bytes(), waiter);
    }

    /// Takes numbered commands and handshakes of a shard.
    pub(crate) fn receive(
        &mut self,
        shard: ShardId,
        mut commands: CommandBuffer,
        handshakes: Vec<Handshake>,
        installs: u64,
        now: Millis,
    ) {
        // Numbered or asked for on connections that a snapshot has ended: what came before on them was given up, so it
        // could be judged never, and all that comes after would wait behind it.
        if installs != self.installs {
            return;
        }
        if !commands.is_empty() {
            self.pending.push(commands.take_bytes(), None);
        }
        for handshake in handshakes {
            self.early.push_back((shard, handshake));
        }
        self.number_handshakes(now);
    }

    /// Numbers the handshakes that can be.
    fn number_handshakes(&mut self, now: Millis) {
        while self.is_registered()
            && let Some((shard, handshake)) = self.early.pop_front()
        {
            self.number(shard, handshake, now);
        }
    }

    fn number(&mut self, shard: ShardId, handshake: Handshake, now: Millis) {
        let (Handshake::Create { connection, timeout_ms, received, .. }
        | Handshake::Attach { connection, timeout_ms, received, .. }) = handshake;
        let waiter = Waiter { shard, connection };
        // The client has given up on this connection by now, and its next one must not be deposed by it.
        if now.saturating_sub(received) > STALE_HANDSHAKE_MS.min(Millis::from(timeout_ms) / 3) {
            return self.tell(waiter, |connection| Published::AttachRefused { connection, exists: true });
        }
        let server = self.settings.server;
        match handshake {
            Handshake::Create { secret_hash, .. } => {
                let Lane::Open { boot, last_number } = &mut self.lane else {
                    unreachable!("handshakes are numbered when there is a lane");
                };
                *last_number += 1;
                let (boot, number) = (*boot, *last_number);
                let create = Command::CreateSession { server, boot, number, timeout_ms, secret_hash };
                self.push_pending(&create, Some(waiter));
                if number == LANE_NUMBERS {
                    // The numbers of this boot are used up. The next boot's begin behind its registration.
                    self.lane = Lane::Closed;
                    self.register_after(boot);
                }
            }
            Handshake::Attach { session, seen, .. } => {
                self.push_pending(&Command::Attach { session, seen, timeout_ms, server }, Some(waiter));
            }
        }
    }

    fn register_after(&mut self, boot: u32) {
        self.lane = Lane::Registering;
        let (server, nonce) = (self.settings.server, self.settings.nonce);
        self.push_pending(&Command::RegisterBoot { server, boot: boot + 1, nonce }, None);
    }

    /// Numbered commands that have not been passed on to the present leader.
    pub(crate) fn take_new_commands(&mut self, window_bytes: usize) -> impl Iterator<Item = Bytes> {
        self.pending.take_new(window_bytes)
    }

    pub(crate) fn has_new_commands(&self) -> bool {
        self.pending.has_new()
    }

    /// Everything pending is to be passed on again, oldest first.
    pub(crate) fn pass_on_again(&mut self) {
        self.pending.pass_on_again();
    }

    /// Bytes and number of the groups of commands that wait for the log.
    pub fn pending(&self) -> (usize, usize) {
        (self.pending.bytes(), self.pending.len())
    }

    /// Whether nothing of this server's clients waits for the log.
    pub fn is_settled(&self) -> bool {
        self.pending.len() == 0
    }

    /// Hands what was not caused by an entry to the shards: refused handshakes, barriers.
    pub(crate) fn publish_now(&mut self, woken: &mut Vec<ShardId>) {
        if self.published.iter().any(|items| !items.is_empty()) {
            let shared = self.state.clone();
            self.publish(&shared.write(), woken);
        }
    }

    /// A barrier of a shard is passed.
    pub(crate) fn pass_barrier(&mut self, shard: ShardId, ticket: u64) {
        self.published[shard.0 as usize].push(Published::BarrierPassed(ticket));
    }

    /// Applies a committed entry of commands and tells the shards; `woken` receives those that must be woken.
    ///
    /// # Errors
    /// The entry cannot be read. Nothing after it may be applied: the server must stop.
    pub(crate) fn apply(
        &mut self,
        (term, index): (Term, LogIndex),
        data: &[u8],
        mut leader: Option<&mut Leader>,
        now: Millis,
        woken: &mut Vec<ShardId>,
    ) -> Result<(), CommandError> {
        let shared = self.state.clone();
        if data.is_empty() {
            // The entry that opens a term.
            let mut state = shared.write();
            let time = state.time_ms();
            state.begin_entry(term, index, time);
            self.end_entry(&state, index, woken);
            return Ok(());
        }
        self.bytes_since_snapshot += data.len() as u64;
        let mut batch = Batch::parse(data)?;
        let mut begun = false;
        let mut finished = false;
        while !finished {
            let mut state = shared.write();
            if !begun {
                begun = true;
                state.begin_entry(term, index, batch.time_ms);
            }
            let recording = self.inboxes.iter().any(|inbox| inbox.is_watching());
            for _ in 0..SLICE_COMMANDS {
                let Some(command) = batch.next(&mut self.auth_cache)? else {
                    finished = true;
                    break;
                };
                self.apply_one(&mut state, command, leader.as_deref_mut(), recording, now)?;
            }
            if finished {
                self.end_entry(&state, index, woken);
            } else {
                self.publish(&state, woken);
            }
        }
        self.number_handshakes(now);
        Ok(())
    }

    /// A change of membership is applied.
    pub(crate) fn apply_membership(
        &mut self,
        (term, index): (Term, LogIndex),
        change: ostler_tree::MembershipChange,
        server: Option<u8>,
        woken: &mut Vec<ShardId>,
    ) {
        let shared = self.state.clone();
        let mut state = shared.write();
        let time = state.time_ms();
        state.begin_entry(term, index, time);
        state.apply_membership(change, server);
        self.end_entry(&state, index, woken);
    }

    fn end_entry(&mut self, state: &State, index: LogIndex, woken: &mut Vec<ShardId>) {
        if index.0.is_multiple_of(CHECKPOINT_ENTRIES) {
            if self.checkpoints.len() == CHECKPOINTS {
                self.checkpoints.pop_front();
            }
            self.checkpoints.push_back((index, state.agreement_digest()));
        }
        self.publish(state, woken);
    }

    /// The agreement digest after an entry, if it is one that servers compare and not long ago.
    pub(crate) fn checkpoint(&self, index: LogIndex) -> Option<u64> {
        let at = self.checkpoints.binary_search_by_key(&index, |&(at, _)| at).ok()?;
        Some(self.checkpoints[at].1)
    }

    /// The newest checkpoint.
    pub(crate) fn last_checkpoint(&self) -> Option<(LogIndex, u64)> {
        self.checkpoints.back().copied()
    }

    fn apply_one(
        &mut self,
        state: &mut State,
        command: DecodedCommand<'_>,
        leader: Option<&mut Leader>,
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
        // A gap is no judgement: what is missing comes, and then this comes again.
        let is_gap = matches!(
            outcome,
            Outcome::Write(Verdict::Void(Void::Gap)) | Outcome::EndVoid { reason: Void::Gap, .. }
        );
        let ours = Key::of(&command).filter(|_| !is_gap).and_then(|key| self.pending.judged(key));
        let waiter = ours.flatten();
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
            ) if ours.is_some() => self.reply(session, generation, sequence, verdict),
            (_, Outcome::Reconfigured { session, generation, sequence, zxid, result }) => {
                let verdict = Verdict::Applied { zxid, result, over_quota: Vec::new() };
                self.reply(session, generation, sequence, verdict);
            }
            (
                _,
                Outcome::SessionCreated { session, generation, timeout_ms, .. }
                | Outcome::Attached { session, generation, timeout_ms, .. },
            ) => self.session_owned(state, session, generation, timeout_ms, waiter, leader, now),
            (_, Outcome::AttachRefused { current, .. }) => {
                if let Some(waiter) = waiter {
                    let exists = current.is_some();
                    self.tell(waiter, |connection| Published::AttachRefused { connection, exists });
                }
            }
            (
                command,
                Outcome::SessionEnded {
                    session,
                    timeout_ms,
                    zxid,
                    cause,
                    last_heard_ms,
                    owner,
                    ephemerals,
                    ..
                },
            ) => {
                let closed_by = match command {
                    DecodedCommand::Plain(Command::EndSession {
                        condition: EndCondition::InSequence(generation, sequence),
                        ..
                    }) => Some((generation, sequence)),
                    _ => None,
                };
                if let Some((_, shard)) = self.attached.remove(&session) {
                    let ended = Published::SessionEnded { session, cause, zxid, closed_by };
                    self.published[shard.0 as usize].push(ended);
                }
                let stalled_ms = leader.and_then(|leader| {
                    let stalled = leader.expiry.stalled_ms_of(session);
                    leader.expiry.remove(session);
                    stalled
                });
                self.ended.push(SessionEnd {
                    session,
                    cause,
                    zxid,
                    owner,
                    timeout_ms: Some(timeout_ms),
                    silent_ms: u64::try_from(state.time_ms() - last_heard_ms).unwrap_or(0),
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
            ) if ours.is_some() => self.reply(session, generation, sequence, Verdict::Void(reason)),
            // The session was attached meanwhile: look at it again when it is due.
            (
                DecodedCommand::Plain(Command::EndSession {
                    condition: EndCondition::StillGeneration(_),
                    ..
                }),
                Outcome::EndVoid { session, .. },
            ) => {
                if let Some(leader) = leader {
                    leader.expiry.end_was_void(session, now);
                }
            }
            (DecodedCommand::Plain(Command::RegisterBoot { boot, .. }), outcome) if ours.is_some() => {
                if let Outcome::BootRegistered { .. } = outcome {
                    self.lane = Lane::Open { boot, last_number: 0 };
                } else {
                    // Another run of this server took the number.
                    let last = state.lane(self.settings.server).map_or(0, |(boot, _)| boot);
                    self.register_after(last);
                }
            }
            // Nobody must be left waiting for a session that will not come.
            (_, Outcome::Ignored(_)) => {
                if let Some(waiter) = waiter {
                    self.tell(waiter, |connection| Published::AttachRefused { connection, exists: true });
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A session has a new owner: a connection of this server, or of another.
    #[expect(clippy::too_many_arguments, reason = "one outcome's facts")]
    fn session_owned(
        &mut self,
        state: &State,
        session: SessionId,
        generation: Generation,
        timeout_ms: u32,
        waiter: Option<Waiter>,
        leader: Option<&mut Leader>,
        now: Millis,
    ) {
        let before = match waiter {
            Some(waiter) => self.attached.insert(session, (generation, waiter.shard)),
            None => self.attached.remove(&session),
        };
        if let Some((_, shard)) = before {
            self.published[shard.0 as usize].push(Published::SessionMoved { session, generation });
        }
        if let Some(leader) = leader {
            let server = state.session(session).map_or(self.settings.server, |row| row.server);
            leader.expiry.add(session, generation, timeout_ms, server, now);
        }
        if let Some(waiter) = waiter {
            self.tell(waiter, |connection| Published::SessionReady {
                connection,
                session,
                generation,
                timeout_ms,
            });
        }
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
        if let Some(&(owner, shard)) = self.attached.get(&session)
            && owner == generation
        {
            self.published[shard.0 as usize].push(Published::Replied {
                session,
                generation,
                sequence,
                verdict,
            });
        }
    }

    /// Tells a connection of this server that asked for a session what became of it.
    fn tell(&mut self, Waiter { shard, connection }: Waiter, what: impl FnOnce(ConnToken) -> Published) {
        self.published[shard.0 as usize].push(what(connection));
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

    /// A snapshot is about to replace the state: what is pending will not be answered here, so its clients are told
    /// first to come again (design, 6b).
    pub(crate) fn begin_install(&mut self, woken: &mut Vec<ShardId>) {
        self.installs += 1;
        self.pending.give_up();
        self.early.clear();
        self.attached.clear();
        self.lane = Lane::Closed;
        for items in &mut self.published {
            items.push(Published::SnapshotInstalled);
        }
        self.publish_now(woken);
    }

    /// The state becomes that of a snapshot. Returns the old one, which may take long to drop.
    pub(crate) fn install(&mut self, state: State) -> State {
        self.checkpoints.clear();
        self.auth_cache = AuthCache::default();
        let old = std::mem::replace(&mut *self.state.write(), state);
        self.snapshot_taken();
        old
    }

    /// Sessions that ended since the last call.
    pub(crate) fn take_ended(&mut self) -> Vec<SessionEnd> {
        std::mem::take(&mut self.ended)
    }

    /// Quotas that writes went over since the last call.
    pub(crate) fn take_over_quota(&mut self) -> Vec<QuotaExceeded> {
        std::mem::take(&mut self.over_quota)
    }

    /// The replicated state.
    pub(crate) fn state(&self) -> &SharedState {
        &self.state
    }

    /// This server's number.
    pub(crate) fn server(&self) -> u8 {
        self.settings.server
    }

    /// Whether enough has been applied since the last snapshot for another.
    pub(crate) fn snapshot_due(&self) -> bool {
        self.since_snapshot >= self.snapshot_threshold
            || self.settings.snap_bytes.is_some_and(|bytes| self.bytes_since_snapshot >= bytes)
    }

    /// A snapshot has been started at the current index.
    pub(crate) fn snapshot_taken(&mut self) {
        self.since_snapshot = 0;
        self.bytes_since_snapshot = 0;
        // Between half and all of snapCount, so that the servers of an ensemble do not all write at once.
        let half = (self.settings.snap_count / 2).max(1);
        let spread = self.state.read().applied_index().0.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        self.snapshot_threshold = half + (spread + u64::from(self.settings.server) * 7919) % half;
    }
}

/// Nobody watching, nothing is recorded.
fn recorder(recording: bool, changes: &mut Vec<Change>) -> Option<&mut Vec<Change>> {
    recording.then_some(changes)
}
