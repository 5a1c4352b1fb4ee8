//! Consensus: proposes batches, says what must be made durable, and hands out what is committed.
//!
//! This is the only crate that names the `raft` library. Everything goes through [`Replicator`], which is
//! sans-io: the caller tells it that time passed, that a batch was proposed or that a write reached the disk,
//! and performs the [`Output`] it gets back. Today an ensemble has one voter; the message side of the
//! protocol arrives with the ensemble and is deliberately absent here.
//!
//! The order of one round is the contract of the library (its "async ready" mode):
//!
//! ```
//! use ostler_replication::{Recovered, Replicator};
//! use bytes::Bytes;
//!
//! let mut replicator = Replicator::single_voter(7, Recovered::default()).unwrap();
//! replicator.campaign();
//! let mut committed = Vec::new();
//! replicator.propose(vec![Bytes::from_static(b"batch")]).unwrap();
//! while let Some(output) = replicator.poll() {
//!     committed.extend(output.committed);
//!     // ... write output.append to disk and fsync it, then:
//!     replicator.persisted(output.number);
//! }
//! assert_eq!(committed.last().unwrap().data, "batch");
//! ```

mod log_view;

use bytes::Bytes;
use ostler_types::{LogIndex, Term};
use raft::eraftpb::{ConfState, Entry, EntryType, Message, MessageType};
use raft::{Config, RawNode, StateRole};

use log_view::LogView;

/// Ticks without a leader before an election, with a tick of 50 ms (design, "Fast failover").
const ELECTION_TICKS: usize = 8;
/// Ticks between a leader's heartbeats.
const HEARTBEAT_TICKS: usize = 2;
/// Most bytes of log entries per message and per round handed out as committed. One entry is at most 1 MiB
/// of commands plus one oversized request, so a round stays in the tens of MiB.
const MAX_ROUND_BYTES: u64 = 16 << 20;

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

/// One entry of the replicated log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Term of the leader that proposed it.
    pub term: Term,
    /// Its position.
    pub index: LogIndex,
    /// The batch of commands; empty for the entry that opens a term.
    pub data: Bytes,
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
    /// Entries to append, overwriting any entry of the same or a higher index.
    pub append: Vec<LogEntry>,
    /// Hard state to append after the entries.
    pub hard_state: Option<HardState>,
    /// Whether an fsync must happen before the round counts as durable. A round without it, without entries and
    /// without hard state has nothing for the disk at all.
    pub must_sync: bool,
    /// Entries that are committed and durable here, to be applied in this order.
    pub committed: Vec<LogEntry>,
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

/// One node's part in consensus.
pub struct Replicator {
    node: RawNode<LogView>,
    /// A hard state in which only the commit index moved. It need not be durable, as a restart finds it out
    /// again, so it travels with the next entries instead of costing a round of its own.
    unwritten: Option<HardState>,
}

impl Output {
    /// Whether the disk has anything to do for this round.
    pub fn needs_disk(&self) -> bool {
        self.must_sync || !self.append.is_empty() || self.hard_state.is_some()
    }
}

impl Replicator {
    /// A node whose ensemble is itself. `node_id` is the disk's identity and must not be 0.
    ///
    /// # Errors
    /// The recovered entries do not continue the snapshot, or the hard state speaks of entries that are not
    /// there.
    pub fn single_voter(node_id: u64, recovered: Recovered) -> Result<Self, RecoverError> {
        let conf_state = ConfState { voters: vec![node_id], ..Default::default() };
        let (snapshot_index, _) = recovered.snapshot;
        let view = LogView::new(recovered, conf_state).map_err(RecoverError)?;
        let config = Config {
            id: node_id,
            election_tick: ELECTION_TICKS,
            heartbeat_tick: HEARTBEAT_TICKS,
            applied: snapshot_index,
            max_size_per_msg: MAX_ROUND_BYTES,
            max_inflight_msgs: 256,
            check_quorum: true,
            pre_vote: true,
            max_committed_size_per_ready: MAX_ROUND_BYTES,
            ..Default::default()
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let node = RawNode::new(&config, view, &logger).map_err(|e| RecoverError(e.to_string()))?;
        Ok(Replicator { node, unwritten: None })
    }

    /// Stands for election now instead of waiting for a timeout. The only voter wins at once.
    pub fn campaign(&mut self) {
        self.node.campaign().expect("a single voter can always campaign");
    }

    /// One tick (50 ms) has passed.
    pub fn tick(&mut self) {
        self.node.tick();
    }

    /// Whether this node leads and so may propose.
    pub fn is_leader(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    /// The current term.
    pub fn term(&self) -> Term {
        Term(self.node.raft.term)
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

    /// The next round of work, or nothing until something else happens.
    pub fn poll(&mut self) -> Option<Output> {
        if !self.node.has_ready() {
            return None;
        }
        let mut ready = self.node.ready();
        debug_assert!(
            ready.messages().is_empty() && ready.persisted_messages().is_empty(),
            "a single voter has nobody to talk to"
        );
        let entries = ready.take_entries();
        let append: Vec<LogEntry> = entries.iter().map(to_log_entry).collect();
        // The library reads these entries back through the view from here on.
        self.node.mut_store().append(entries);
        let committed: Vec<LogEntry> = ready
            .take_committed_entries()
            .iter()
            .inspect(|entry| {
                assert_eq!(
                    entry.get_entry_type(),
                    EntryType::EntryNormal,
                    "an ensemble of one writes no membership entries"
                );
            })
            .map(to_log_entry)
            .collect();
        let number = ready.number();
        let must_sync = ready.must_sync();
        let changed = ready.hs().map(|hs| HardState { term: hs.term, vote: hs.vote, commit: hs.commit });
        let mut hard_state = changed.or(self.unwritten.take());
        if append.is_empty() && !must_sync {
            self.unwritten = hard_state.take();
        }
        self.node.advance_append_async(ready);
        Some(Output { number, append, hard_state, must_sync, committed })
    }

    /// Round `number`, and every round before it, is durable.
    pub fn persisted(&mut self, number: u64) {
        self.node.on_persist_ready(number);
    }

    /// Every entry up to `index` has been applied. A single voter never reads them again, so the memory
    /// copy is let go; the disk keeps its own until a snapshot covers it.
    pub fn applied(&mut self, index: LogIndex) {
        self.node.advance_apply_to(index.0);
        self.node.mut_store().release(index.0);
    }
}

fn to_log_entry(entry: &Entry) -> LogEntry {
    LogEntry { term: Term(entry.term), index: LogIndex(entry.index), data: entry.data.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let mut replicator = Replicator::single_voter(1, Recovered::default()).unwrap();
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
        assert_eq!(committed, [LogEntry { term, index, data: Bytes::from_static(b"x") }]);
    }

    #[test]
    fn a_restart_hands_out_every_entry_after_the_snapshot_in_a_newer_term() {
        let mut first = Replicator::single_voter(1, Recovered::default()).unwrap();
        first.campaign();
        let (mut entries, _, _) = settle(&mut first);
        first.propose(vec![Bytes::from_static(b"a"), Bytes::from_static(b"b")]).unwrap();
        let (more, _, hard_state) = settle(&mut first);
        entries.extend(more);
        let old_term = first.term();

        // The last hard state may trail the log: what was durable then still commits now.
        let hard_state = HardState { commit: 1, ..hard_state };
        let recovered = Recovered { snapshot: (0, 0), hard_state, entries };
        let mut second = Replicator::single_voter(1, recovered).unwrap();
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
            entries: vec![LogEntry { term: Term(3), index: LogIndex(11), data: Bytes::from_static(b"k") }],
        };
        let mut replicator = Replicator::single_voter(1, recovered).unwrap();
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
        let mut replicator = Replicator::single_voter(1, Recovered::default()).unwrap();
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
        let entry = LogEntry { term: Term(3), index: LogIndex(12), data: Bytes::new() };
        let recovered = Recovered { snapshot: (10, 3), entries: vec![entry], ..Default::default() };
        let Err(error) = Replicator::single_voter(1, recovered) else { panic!("must be refused") };
        assert!(error.to_string().contains("11"), "{error}");

        let hard_state = HardState { term: 3, vote: 1, commit: 20 };
        let recovered = Recovered { snapshot: (10, 3), hard_state, entries: vec![] };
        assert!(Replicator::single_voter(1, recovered).is_err());
    }
}
