//! Consensus: proposes batches, says what must be made durable, and hands out what is committed.
//!
//! This is the only crate that names the `raft` library. Everything goes through [`Replicator`], which is
//! sans-io: the caller tells it that time passed, that a message came, that a batch was proposed or that a write
//! reached the disk, and performs the [`Output`] it gets back.
//!
//! The order of one round is the contract of the library (its "async ready" mode):
//!
//! ```
//! use ostler_replication::{Membership, Recovered, Replicator, Settings};
//! use bytes::Bytes;
//!
//! let alone = Membership { voters: vec![7], learners: vec![] };
//! let mut replicator = Replicator::new(Settings::new(7), Recovered::default(), &alone).unwrap();
//! replicator.campaign();
//! let mut committed = Vec::new();
//! replicator.propose(vec![Bytes::from_static(b"batch")]).unwrap();
//! while let Some(output) = replicator.poll() {
//!     // ... send output.messages, write output.append to disk and fsync it, send output.persisted_messages, then:
//!     replicator.persisted(output.number);
//!     committed.extend(output.committed);
//! }
//! assert_eq!(committed.last().unwrap().data, "batch");
//! ```

mod entry;
mod log_view;
mod message;

use bytes::Bytes;
use ostler_types::{LogIndex, Term};
use raft::eraftpb::{ConfState, Entry, Message, MessageType};
use raft::{Config, ProgressState, RawNode, SnapshotStatus, StateRole};

use entry::from_raft;
use log_view::LogView;

pub use entry::{EntryError, EntryKind, LogEntry, MembershipEntry, Step};
pub use message::{MessageError, PeerMessage, SnapshotOffer};

/// Most bytes of log entries in one round handed out as committed.
const MAX_ROUND_BYTES: u64 = 16 << 20;
/// Most bytes of log entries in one message; a single entry may overshoot it. Small enough that a heartbeat never
/// waits long behind one.
const MAX_MESSAGE_BYTES: u64 = 1 << 20;
/// Messages with entries on their way to one follower at a time.
const MAX_INFLIGHT_MESSAGES: usize = 64;
/// While a follower is being brought up by a snapshot, this many times as many applied entries are kept as otherwise,
/// so that it does not need another one afterwards.
const KEEP_TIMES_CATCHING_UP: usize = 16;

/// What of the log survives a restart beside its entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// Newest term seen.
    pub term: u64,
    /// Whom this node voted for in it; 0 is nobody.
    pub vote: u64,
    /// Highest log index known to be committed.
    pub commit: u64,
}

/// Who takes part in consensus, by node id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// Those whose majority decides.
    pub voters: Vec<u64>,
    /// Those that only get the log.
    pub learners: Vec<u64>,
}

/// How a node behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The disk's identity; not 0.
    pub node_id: u64,
    /// Ticks without a leader before an election; each time drawn between this and twice as many.
    pub election_ticks: usize,
    /// Ticks between a leader's heartbeats; fewer than `election_ticks`.
    pub heartbeat_ticks: usize,
    /// What the election timeouts are drawn from. The same seed gives the same timeouts.
    pub seed: u64,
    /// Applied entries kept in memory for followers that are a little behind, bytes of data. Whoever needs older ones
    /// gets a snapshot.
    pub keep_bytes: usize,
}

/// What the disk gave back at start.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// Index and term up to which the state was restored from a snapshot; zeros without one.
    pub snapshot: (u64, u64),
    /// The last hard state written, if any.
    pub hard_state: HardState,
    /// Every entry after the snapshot, in order and without gaps.
    pub entries: Vec<LogEntry>,
}

/// One round of work for the caller. Append first, apply later: a committed entry may be handed to apply
/// before this round's own append is durable, because it was made durable by an earlier round.
#[derive(Debug, Default)]
pub struct Output {
    /// Number to pass to [`Replicator::persisted`] once `append` is durable. Rounds must be reported in
    /// order; reporting one reports all before it.
    pub number: u64,
    /// To be sent at once.
    pub messages: Vec<PeerMessage>,
    /// A snapshot, fetched and durable already, that the log goes on from: written before the entries, and the
    /// state replaced by the snapshot's when this round is durable.
    pub install: Option<(LogIndex, Term)>,
    /// Entries to append, overwriting any entry of the same or a higher index.
    pub append: Vec<LogEntry>,
    /// Hard state to append after the entries.
    pub hard_state: Option<HardState>,
    /// Whether an fsync must happen before the round counts as durable. A round without it, without entries and
    /// without hard state has nothing for the disk at all.
    pub must_sync: bool,
    /// To be sent when this round, and every round before it, is durable.
    pub persisted_messages: Vec<PeerMessage>,
    /// Entries that are committed and durable here, to be applied in this order.
    pub committed: Vec<LogEntry>,
    /// Rounds of confirmation that are complete: what was passed to [`Replicator::confirm_leadership`], and the
    /// commit index at that time.
    pub confirmed: Vec<(u64, LogIndex)>,
}

/// Why a proposal was not taken. Nothing of it entered the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// This node does not lead.
    #[error("not the leader")]
    NotLeader,
    /// The log takes no proposals at this moment; try again.
    #[error("proposal dropped")]
    Dropped,
}

/// Why the recovered log cannot be continued.
#[derive(Debug, thiserror::Error)]
#[error("the recovered log is inconsistent: {0}")]
pub struct RecoverError(String);

/// A message that shows that some server's log is not what it was: going on would make two histories of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// This node has lost a part of its log that it had acknowledged.
    #[error(transparent)]
    LostLog(#[from] LostLog),
    /// The leader's log contradicts what was committed here.
    #[error(
        "the leader's log has an entry of term {theirs} at index {index}, where one of term {ours} was committed here: \
         another server was started with an old copy of its data directory, and what was acknowledged since may be \
         missing there. Decide which servers have the right data before any of them goes on; the others' data \
         directories are to be emptied (myid stays)"
    )]
    Contradicted {
        /// Where.
        index: LogIndex,
        /// The term of the entry here.
        ours: Term,
        /// The term of the leader's.
        theirs: Term,
    },
}

/// What a node with this much of a log has lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the leader knows this server's log up to entry {acknowledged}, but it ends at {last}: data that was acknowledged \
     is gone, as after restoring an old copy of the data directory"
)]
pub struct LostLog {
    /// What this node had acknowledged.
    pub acknowledged: LogIndex,
    /// Where its log ends.
    pub last: LogIndex,
}

/// How far a peer is, as the leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerProgress {
    /// Its node id.
    pub node: u64,
    /// The last entry known to be in its log.
    pub matched: LogIndex,
    /// Whether it votes.
    pub voter: bool,
    /// Whether it was heard within the last election timeout.
    pub active: bool,
    /// Whether it is being brought up by a snapshot.
    pub in_snapshot: bool,
}

/// One node's part in consensus.
pub struct Replicator {
    node: RawNode<LogView>,
    settings: Settings,
    /// A hard state in which only the commit index moved. It need not be durable, as a restart finds it out
    /// again, so it travels with the next entries instead of costing a round of its own.
    unwritten: Option<HardState>,
    applied: u64,
    /// A snapshot that is being installed: the round that carries it, and its index. Until that round is durable the
    /// library counts nothing of the snapshot as applied, and cannot stand for election: it would look for entries to
    /// apply which the snapshot has replaced.
    installing: Option<(u64, u64)>,
}

impl Settings {
    /// The default timing (design, "Fast failover": a tick is 50 ms) for `node_id`.
    pub fn new(node_id: u64) -> Settings {
        Settings { node_id, election_ticks: 8, heartbeat_ticks: 2, seed: node_id, keep_bytes: 32 << 20 }
    }
}

impl Output {
    /// Whether the disk has anything to do for this round.
    pub fn needs_disk(&self) -> bool {
        self.must_sync || !self.append.is_empty() || self.hard_state.is_some() || self.install.is_some()
    }
}

impl Replicator {
    /// A node that goes on from `recovered`. `membership` is the one at the recovered snapshot; without any voters
    /// the node takes no part until a leader brings it a membership.
    ///
    /// # Errors
    /// The recovered entries do not continue the snapshot, or the hard state speaks of entries that are not
    /// there.
    pub fn new(
        settings: Settings,
        recovered: Recovered,
        membership: &Membership,
    ) -> Result<Self, RecoverError> {
        let (snapshot_index, _) = recovered.snapshot;
        let view = LogView::new(recovered, membership).map_err(RecoverError)?;
        let config = Config {
            id: settings.node_id,
            election_tick: settings.election_ticks,
            heartbeat_tick: settings.heartbeat_ticks,
            applied: snapshot_index,
            max_size_per_msg: MAX_MESSAGE_BYTES,
            max_inflight_msgs: MAX_INFLIGHT_MESSAGES,
            check_quorum: true,
            pre_vote: true,
            max_committed_size_per_ready: MAX_ROUND_BYTES,
            ..Default::default()
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let node = RawNode::new(&config, view, &logger).map_err(|e| RecoverError(e.to_string()))?;
        let mut replicator =
            Replicator { node, settings, unwritten: None, applied: snapshot_index, installing: None };
        replicator.draw_timeout();
        Ok(replicator)
    }

    /// Stands for election now instead of waiting for a timeout. The only voter wins at once. One that has been assured
    /// of a majority and waits for its votes goes on waiting.
    pub fn campaign(&mut self) {
        if self.installing.is_some() || self.node.raft.state == StateRole::Candidate {
            return;
        }
        // Refused only while membership entries wait to be applied; the timeout tries again.
        let _ = self.node.campaign();
        self.draw_timeout();
    }

    /// The leader's process has ended: an election is held without waiting for its lease to run out.
    pub fn leader_is_gone(&mut self) {
        let term = self.node.raft.term;
        self.node.raft.become_follower(term, raft::INVALID_ID);
        self.draw_timeout();
    }

    /// One tick has passed.
    pub fn tick(&mut self) {
        if self.installing.is_some() {
            return;
        }
        self.node.tick();
        self.draw_timeout();
    }

    /// Takes a message of another node. One that offers a snapshot only when that is fetched, verified and durable.
    ///
    /// # Errors
    /// This node's log is shorter than what it has acknowledged, or contradicts the leader's where it is committed. It
    /// must stop.
    pub fn receive(&mut self, message: PeerMessage) -> Result<(), HistoryError> {
        let message = message.0;
        let last = self.node.raft.raft_log.last_index();
        // The leader tells each follower only of entries that it has acknowledged.
        if message.get_msg_type() == MessageType::MsgHeartbeat
            && message.term >= self.node.raft.term
            && message.commit > last
        {
            return Err(LostLog { acknowledged: LogIndex(message.commit), last: LogIndex(last) }.into());
        }
        if message.get_msg_type() == MessageType::MsgAppend && message.term >= self.node.raft.term {
            self.check_history(&message)?;
        }
        // Nobody can have more of a leader's log than the leader. Whoever says so has another history and counts for
        // nothing; it finds out itself (`check_history`), or by its digest.
        if message.get_msg_type() == MessageType::MsgAppendResponse
            && message.term == self.node.raft.term
            && self.is_leader()
            && !message.reject
            && message.index > last
        {
            return Ok(());
        }
        // What makes this node stand for election.
        if message.get_msg_type() == MessageType::MsgTimeoutNow && self.installing.is_some() {
            return Ok(());
        }
        // Answers of nodes that are no members (any more) are refused; that is all there can be.
        let _ = self.node.step(message);
        self.draw_timeout();
        Ok(())
    }

    /// What is committed here must be what the leader has there.
    fn check_history(&self, message: &Message) -> Result<(), HistoryError> {
        let log = &self.node.raft.raft_log;
        let previous = std::iter::once((message.index, message.log_term));
        let entries = message.entries.iter().map(|entry| (entry.index, entry.term));
        for (index, theirs) in previous.chain(entries).take_while(|&(index, _)| index <= log.committed) {
            // What is not in memory any more was compared when it came.
            if let Ok(ours) = log.term(index)
                && index > 0
                && ours != 0
                && ours != theirs
            {
                let (ours, theirs) = (Term(ours), Term(theirs));
                return Err(HistoryError::Contradicted { index: LogIndex(index), ours, theirs });
            }
        }
        Ok(())
    }

    /// Whether this node leads and so may propose.
    pub fn is_leader(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    /// Whether [`propose`](Self::propose) takes something now: a leader that is handing over, or is no member any
    /// more, does not.
    pub fn may_propose(&self) -> bool {
        self.is_leader()
            && self.node.raft.lead_transferee.is_none()
            && self.node.raft.prs().get(self.settings.node_id).is_some()
    }

    /// Whether it leads and an entry of its own term is committed: only then can it be confirmed as the leader.
    pub fn has_committed_in_term(&self) -> bool {
        self.is_leader() && self.node.raft.commit_to_current_term()
    }

    /// The leader of the current term, as far as known here.
    pub fn leader(&self) -> Option<u64> {
        Some(self.node.raft.leader_id).filter(|&id| id != raft::INVALID_ID)
    }

    /// The current term.
    pub fn term(&self) -> Term {
        Term(self.node.raft.term)
    }

    /// This node's own id.
    pub fn node_id(&self) -> u64 {
        self.settings.node_id
    }

    /// Highest log index known to be committed.
    pub fn committed(&self) -> LogIndex {
        LogIndex(self.node.raft.raft_log.committed)
    }

    /// Last entry of the log and its term.
    pub fn last(&self) -> (LogIndex, Term) {
        let log = &self.node.raft.raft_log;
        (LogIndex(log.last_index()), Term(log.last_term()))
    }

    /// Who takes part, as far as applied.
    pub fn membership(&self) -> Membership {
        let state = self.node.raft.prs().conf().to_conf_state();
        let mut membership = Membership { voters: state.voters, learners: state.learners };
        membership.voters.sort_unstable();
        membership.learners.sort_unstable();
        membership
    }

    /// Whether this node is the only one there is.
    pub fn is_alone(&self) -> bool {
        let conf = self.node.raft.prs().conf();
        conf.learners().is_empty() && conf.to_conf_state().voters == [self.settings.node_id]
    }

    /// How far every other node is; empty unless this one leads.
    pub fn progress(&self) -> Vec<PeerProgress> {
        if !self.is_leader() {
            return Vec::new();
        }
        let prs = self.node.raft.prs();
        let voters = prs.conf().to_conf_state().voters;
        let mut all: Vec<PeerProgress> = prs
            .iter()
            .filter(|&(&node, _)| node != self.settings.node_id)
            .map(|(&node, progress)| PeerProgress {
                node,
                matched: LogIndex(progress.matched),
                voter: voters.contains(&node),
                active: progress.recent_active,
                in_snapshot: progress.state == ProgressState::Snapshot,
            })
            .collect();
        all.sort_unstable_by_key(|progress| progress.node);
        all
    }

    /// Appends one entry per batch to the log, all in one step.
    ///
    /// Returns the term and the index of the first; the others follow without gaps. A proposal that was
    /// taken may still be lost by a leader change: what applies at that index decides.
    ///
    /// # Errors
    /// Not the leader, or the log is not taking proposals now.
    pub fn propose(&mut self, batches: Vec<Bytes>) -> Result<(Term, LogIndex), ProposeError> {
        if !self.is_leader() {
            return Err(ProposeError::NotLeader);
        }
        let first = self.node.raft.raft_log.last_index() + 1;
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = self.node.raft.id;
        message.entries =
            batches.into_iter().map(|data| Entry { data, ..Default::default() }).collect::<Vec<_>>().into();
        self.node.step(message).map_err(|_| ProposeError::Dropped)?;
        Ok((self.term(), LogIndex(first)))
    }

    /// Proposes a step of membership. It takes effect when it is applied; while another one is not, it is silently
    /// replaced by an empty entry, so the caller looks at what applies.
    ///
    /// # Errors
    /// Not the leader, or the log is not taking proposals now.
    pub fn propose_membership(&mut self, change: &MembershipEntry) -> Result<(), ProposeError> {
        if !self.is_leader() {
            return Err(ProposeError::NotLeader);
        }
        self.node.propose_conf_change(Vec::new(), change.to_library()).map_err(|_| ProposeError::Dropped)
    }

    /// A committed membership entry is being applied. To be called for each of them, in order.
    ///
    /// # Errors
    /// The entry cannot be read.
    pub fn apply_membership(&mut self, entry: &LogEntry) -> Result<MembershipEntry, EntryError> {
        let change = MembershipEntry::decode(&entry.data)?;
        // Refused are steps that would leave no voter; they then change nothing here or anywhere.
        let _ = self.node.apply_conf_change(&change.to_library());
        if self.is_leader() && !self.membership().voters.contains(&self.settings.node_id) {
            // The library would let it go on, but whoever has no vote cannot be asked to lead: the voters elect another.
            let term = self.node.raft.term;
            self.node.raft.become_follower(term, raft::INVALID_ID);
        }
        self.draw_timeout();
        Ok(change)
    }

    /// Asks a majority whether this node still leads. `number` must never have been used before; the answer comes in
    /// [`Output::confirmed`], or not at all: ask again with a new number.
    pub fn confirm_leadership(&mut self, number: u64) {
        if self.has_committed_in_term() {
            let mut context = self.settings.node_id.to_be_bytes().to_vec();
            context.extend_from_slice(&number.to_be_bytes());
            self.node.read_index(context);
        }
    }

    /// Hands leadership to `node`, a voter. It may fail, and is over after an election timeout at the latest.
    pub fn transfer_leadership(&mut self, node: u64) {
        self.node.transfer_leader(node);
    }

    /// A message to `node` was dropped.
    pub fn unreachable(&mut self, node: u64) {
        self.node.report_unreachable(node);
    }

    /// Whether `node` gave up on the snapshot it was offered, or has not been heard of for too long while it was to
    /// fetch it.
    pub fn snapshot_failed(&mut self, node: u64) {
        self.node.report_snapshot(node, SnapshotStatus::Failure);
    }

    /// A follower needs a snapshot at this index or later, and none that will do has been
    /// [offered](Self::offer_snapshot).
    pub fn wanted_snapshot(&self) -> Option<LogIndex> {
        self.node.store().wanted_snapshot()
    }

    /// A snapshot that can be sent, replacing the one before.
    pub fn offer_snapshot(&mut self, offer: SnapshotOffer) {
        if self.node.store().offered().is_none_or(|index| index < offer.index) {
            self.node.mut_store().offer(offer);
        }
    }

    /// First index of the log that is in memory.
    pub fn first_in_memory(&self) -> LogIndex {
        LogIndex(self.node.store().first())
    }

    /// The next round of work, or nothing until something else happens.
    pub fn poll(&mut self) -> Option<Output> {
        if !self.node.has_ready() {
            return None;
        }
        let mut ready = self.node.ready();
        let messages = ready.take_messages().into_iter().map(PeerMessage).collect();
        let install = (!ready.snapshot().is_empty()).then(|| {
            let metadata = ready.snapshot().get_metadata().clone();
            let conf_state: ConfState = metadata.get_conf_state().clone();
            self.node.mut_store().install(metadata.index, metadata.term, conf_state);
            self.installing = Some((ready.number(), metadata.index));
            (LogIndex(metadata.index), Term(metadata.term))
        });
        let entries = ready.take_entries();
        let append: Vec<LogEntry> = entries.iter().map(from_raft).collect();
        // The library reads these entries back through the view from here on.
        self.node.mut_store().append(entries);
        let committed = ready.take_committed_entries().iter().map(from_raft).collect();
        let persisted_messages = ready.take_persisted_messages().into_iter().map(PeerMessage).collect();
        let confirmed = ready
            .take_read_states()
            .into_iter()
            .filter_map(|state| {
                let (node, number) = state.request_ctx.split_first_chunk::<8>()?;
                let number = u64::from_be_bytes(number.try_into().ok()?);
                (*node == self.settings.node_id.to_be_bytes()).then_some((number, LogIndex(state.index)))
            })
            .collect();
        let number = ready.number();
        let must_sync = ready.must_sync();
        let changed = ready.hs().map(|hs| HardState { term: hs.term, vote: hs.vote, commit: hs.commit });
        let mut hard_state = changed.or(self.unwritten.take());
        if append.is_empty() && !must_sync {
            self.unwritten = hard_state.take();
        }
        self.node.advance_append_async(ready);
        self.draw_timeout();
        Some(Output {
            number,
            messages,
            install,
            append,
            hard_state,
            must_sync,
            persisted_messages,
            committed,
            confirmed,
        })
    }

    /// Round `number`, and every round before it, is durable.
    pub fn persisted(&mut self, number: u64) {
        self.node.on_persist_ready(number);
        if let Some((_, index)) = self.installing.take_if(|&mut (round, _)| round <= number) {
            self.applied = self.applied.max(index);
            self.node.advance_apply_to(self.applied);
        }
        self.draw_timeout();
    }

    /// Every entry up to `index` has been applied. What followers may still need stays in memory, within bounds; the
    /// disk keeps its own until a snapshot covers it.
    pub fn applied(&mut self, index: LogIndex) {
        // A snapshot may have overtaken what was being applied.
        self.applied = self.applied.max(index.0);
        self.node.advance_apply_to(self.applied);
        let keep = if self.is_alone() {
            0
        } else if self.is_leader() && self.progress().iter().any(|p| p.in_snapshot) {
            self.settings.keep_bytes.saturating_mul(KEEP_TIMES_CATCHING_UP)
        } else {
            self.settings.keep_bytes
        };
        self.node.mut_store().release(self.applied, keep);
    }

    /// The library draws election timeouts from a random number generator of its own; ours come from the seed, so
    /// that a simulation can be repeated. One node's differ from term to term, and from the other nodes'.
    fn draw_timeout(&mut self) {
        let Settings { node_id, election_ticks, seed, .. } = self.settings;
        let mut mixed =
            seed ^ node_id.rotate_left(32) ^ self.node.raft.term.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let timeout = election_ticks + (mixed % election_ticks as u64) as usize;
        self.node.raft.set_randomized_election_timeout(timeout);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alone() -> Membership {
        Membership { voters: vec![1], learners: vec![] }
    }

    fn of(voters: &[u64]) -> Membership {
        Membership { voters: voters.to_vec(), learners: vec![] }
    }

    /// Carries messages between nodes 1, 2, ... until there are no more; everything is durable at once and applied.
    fn exchange(nodes: &mut [Replicator]) {
        let mut is_busy = true;
        while std::mem::take(&mut is_busy) {
            for at in 0..nodes.len() {
                while let Some(output) = nodes[at].poll() {
                    is_busy = true;
                    nodes[at].persisted(output.number);
                    for entry in &output.committed {
                        if entry.kind == EntryKind::Membership {
                            nodes[at].apply_membership(entry).unwrap();
                        }
                        nodes[at].applied(entry.index);
                    }
                    for message in output.messages.into_iter().chain(output.persisted_messages) {
                        nodes[message.to() as usize - 1].receive(message).unwrap();
                    }
                }
            }
        }
    }

    #[test]
    fn a_snapshot_under_way_keeps_its_node_from_elections_and_is_applied_when_it_is_durable() {
        let mut node = Replicator::new(Settings::new(2), Recovered::default(), &of(&[1, 2])).unwrap();
        let offer = SnapshotOffer {
            index: LogIndex(50),
            term: Term(3),
            voters: vec![1, 2],
            learners: vec![],
            ticket: Bytes::new(),
        };
        let mut message = Message { to: 2, from: 1, term: 3, ..Default::default() };
        message.set_msg_type(MessageType::MsgSnapshot);
        message.set_snapshot(message::snapshot(&offer));
        node.receive(PeerMessage(message)).unwrap();
        let output = node.poll().unwrap();
        assert_eq!(output.install, Some((LogIndex(50), Term(3))));
        // The leader has gone, or wants this node to lead, while the snapshot is not durable.
        let mut take_over = Message { to: 2, from: 1, term: 3, ..Default::default() };
        take_over.set_msg_type(MessageType::MsgTimeoutNow);
        node.receive(PeerMessage(take_over)).unwrap();
        node.leader_is_gone();
        node.campaign();
        (0..100).for_each(|_| node.tick());
        assert_eq!(node.term(), Term(3));
        node.persisted(output.number);
        assert_eq!(node.node.raft.raft_log.applied(), 50);
        node.campaign();
        let asked: Vec<u64> = std::iter::from_fn(|| node.poll())
            .flat_map(|output| output.messages.into_iter().chain(output.persisted_messages))
            .filter(|message| message.0.get_msg_type() == MessageType::MsgRequestPreVote)
            .map(|message| message.to())
            .collect();
        assert_eq!(asked, [1]);
    }

    #[test]
    fn a_leader_that_is_no_member_any_more_gives_up_leading() {
        let mut nodes: Vec<Replicator> = (1..=2)
            .map(|id| Replicator::new(Settings::new(id), Recovered::default(), &of(&[1, 2])).unwrap())
            .collect();
        nodes[0].campaign();
        exchange(&mut nodes);
        assert!(nodes[0].may_propose());
        let change = MembershipEntry { step: Step::Remove, node: 1, context: Bytes::new() };
        nodes[0].propose_membership(&change).unwrap();
        exchange(&mut nodes);
        assert_eq!(nodes[0].membership().voters, [2]);
        assert!(!nodes[0].is_leader(), "it could not be asked for anything");
        nodes[1].leader_is_gone();
        nodes[1].campaign();
        exchange(&mut nodes);
        assert!(nodes[1].may_propose());
    }

    #[test]
    fn a_leader_that_contradicts_what_is_committed_is_not_followed() {
        let entries =
            (1..=3).map(|index| LogEntry { term: Term(1), index: LogIndex(index), ..Default::default() });
        let hard_state = HardState { term: 1, vote: 0, commit: 3 };
        let recovered = Recovered { hard_state, entries: entries.collect(), ..Default::default() };
        let mut node = Replicator::new(Settings::new(1), recovered, &of(&[1, 2])).unwrap();
        let mut append = Message { from: 2, to: 1, term: 2, index: 2, log_term: 1, ..Default::default() };
        append.set_msg_type(MessageType::MsgAppend);
        assert_eq!(node.receive(PeerMessage(append.clone())), Ok(()));
        append.entries.push(Entry { index: 3, term: 2, ..Default::default() });
        let contradicted = HistoryError::Contradicted { index: LogIndex(3), ours: Term(1), theirs: Term(2) };
        assert_eq!(node.receive(PeerMessage(append.clone())), Err(contradicted));
        // Of a term that is over nothing counts.
        append.term = 1;
        assert_eq!(node.receive(PeerMessage(append)), Ok(()));
    }

    #[test]
    fn nobody_has_more_of_a_leaders_log_than_the_leader() {
        let mut nodes: Vec<Replicator> = (1..=2)
            .map(|id| Replicator::new(Settings::new(id), Recovered::default(), &of(&[1, 2])).unwrap())
            .collect();
        nodes[0].campaign();
        exchange(&mut nodes);
        let last = nodes[0].last().0;
        let mut answer =
            Message { from: 2, to: 1, term: nodes[0].term().0, index: last.0 + 5, ..Default::default() };
        answer.set_msg_type(MessageType::MsgAppendResponse);
        nodes[0].receive(PeerMessage(answer)).unwrap();
        assert_eq!(nodes[0].progress()[0].matched, last);
    }

    /// Runs until nothing is left to do, making every round durable at once.
    fn settle(replicator: &mut Replicator) -> (Vec<LogEntry>, Vec<LogEntry>, HardState) {
        let (mut appended, mut committed, mut hard_state) = (vec![], vec![], HardState::default());
        while let Some(output) = replicator.poll() {
            appended.extend(output.append);
            hard_state = output.hard_state.unwrap_or(hard_state);
            committed.extend(output.committed);
            replicator.persisted(output.number);
        }
        (appended, committed, hard_state)
    }

    #[test]
    fn nothing_commits_before_it_is_durable() {
        let mut replicator = Replicator::new(Settings::new(1), Recovered::default(), &alone()).unwrap();
        replicator.campaign();
        settle(&mut replicator);
        let (term, index) = replicator.propose(vec![Bytes::from_static(b"x")]).unwrap();
        let output = replicator.poll().unwrap();
        assert_eq!((output.append.len(), output.must_sync), (1, true));
        assert_eq!(output.append[0].index, index);
        assert!(output.committed.is_empty());
        assert!(replicator.poll().is_none());
        replicator.persisted(output.number);
        let (_, committed, _) = settle(&mut replicator);
        assert_eq!(
            committed,
            [LogEntry { term, index, data: Bytes::from_static(b"x"), ..Default::default() }]
        );
    }

    #[test]
    fn a_restart_hands_out_every_entry_after_the_snapshot_in_a_newer_term() {
        let mut first = Replicator::new(Settings::new(1), Recovered::default(), &alone()).unwrap();
        first.campaign();
        let (mut entries, _, _) = settle(&mut first);
        first.propose(vec![Bytes::from_static(b"a"), Bytes::from_static(b"b")]).unwrap();
        let (more, _, hard_state) = settle(&mut first);
        entries.extend(more);
        let old_term = first.term();

        // The last hard state may trail the log: what was durable then still commits now.
        let hard_state = HardState { commit: 1, ..hard_state };
        let recovered = Recovered { snapshot: (0, 0), hard_state, entries };
        let mut second = Replicator::new(Settings::new(1), recovered, &alone()).unwrap();
        second.campaign();
        let (_, committed, _) = settle(&mut second);
        assert!(second.term() > old_term);
        let data: Vec<_> = committed.iter().map(|e| &e.data[..]).collect();
        assert_eq!(data, [&b""[..], b"a", b"b", b""]);
    }

    #[test]
    fn recovery_continues_from_a_snapshot() {
        let recovered = Recovered {
            snapshot: (10, 3),
            hard_state: HardState { term: 3, vote: 1, commit: 9 },
            entries: vec![LogEntry {
                term: Term(3),
                index: LogIndex(11),
                data: Bytes::from_static(b"k"),
                ..Default::default()
            }],
        };
        let mut replicator = Replicator::new(Settings::new(1), recovered, &alone()).unwrap();
        replicator.campaign();
        let (_, committed, _) = settle(&mut replicator);
        let indexes: Vec<_> = committed.iter().map(|e| e.index.0).collect();
        assert_eq!(indexes, [11, 12]);
        replicator.applied(LogIndex(12));
        replicator.propose(vec![Bytes::from_static(b"z")]).unwrap();
        assert_eq!(settle(&mut replicator).1[0].index, LogIndex(13));
    }

    #[test]
    fn the_commit_index_alone_is_no_work_for_the_disk() {
        let mut replicator = Replicator::new(Settings::new(1), Recovered::default(), &alone()).unwrap();
        replicator.campaign();
        settle(&mut replicator);
        replicator.propose(vec![Bytes::from_static(b"a")]).unwrap();
        let write = replicator.poll().unwrap();
        assert!(write.needs_disk());
        replicator.persisted(write.number);
        let commit = replicator.poll().unwrap();
        assert_eq!((commit.committed.len(), commit.needs_disk()), (1, false));
        replicator.persisted(commit.number);
        // It is written with the next entries.
        replicator.propose(vec![Bytes::from_static(b"b")]).unwrap();
        let next = replicator.poll().unwrap();
        assert_eq!(next.hard_state.unwrap().commit, commit.committed[0].index.0);
    }

    #[test]
    fn a_log_that_does_not_continue_its_snapshot_is_refused() {
        let entry = LogEntry { term: Term(3), index: LogIndex(12), ..Default::default() };
        let recovered = Recovered { snapshot: (10, 3), entries: vec![entry], ..Default::default() };
        let Err(error) = Replicator::new(Settings::new(1), recovered, &alone()) else {
            panic!("must be refused")
        };
        assert!(error.to_string().contains("11"), "{error}");

        let hard_state = HardState { term: 3, vote: 1, commit: 20 };
        let recovered = Recovered { snapshot: (10, 3), hard_state, entries: vec![] };
        assert!(Replicator::new(Settings::new(1), recovered, &alone()).is_err());
    }
}
