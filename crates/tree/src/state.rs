//! The replicated state: applying commands to it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ostler_types::{ErrorCode, Generation, LogIndex, Sequence, SessionId, Term, Zxid};

use crate::command::{Command, EndCause, EndCondition, Operation};
use crate::digest::{self, TREE_DIGEST_VERSION};
use crate::membership::{Member, Membership};
use crate::nodes::{NodeId, Owner, PathCursor};
use crate::outcome::{Change, Ignored, MultiResult, OpResult, Outcome, Verdict, Void};
use crate::session::{Lanes, LastWrite, Session, SessionTable};
use crate::settings::Settings;
use crate::transaction::{Requester, Transaction};
use crate::tree::Tree;

/// Everything that applying the log reads and writes. Two states that were given the same entries are equal,
/// whatever servers they live on and whatever snapshots they were restored from.
///
/// It is written by one thread and read by many: every reading method takes `&self` and allocates nothing
/// unless it returns something owned.
pub struct State {
    pub(crate) tree: Tree,
    pub(crate) sessions: SessionTable,
    pub(crate) lanes: Lanes,
    pub(crate) settings: Settings,
    pub(crate) membership: Membership,
    pub(crate) position: Position,
    pub(crate) tree_digests: VecDeque<TreeDigest>,
    /// Counts snapshot walks, so that a handle of an ended one is recognised.
    pub(crate) walks: u64,
}

/// Where in the log the state stands, and what the log says about zxid and time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) term: Term,
    pub(crate) index: LogIndex,
    pub(crate) zxid: Zxid,
    pub(crate) time_ms: i64,
}

/// ZooKeeper's digest of the tree after a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeDigest {
    /// The transaction.
    pub zxid: Zxid,
    /// Version of the algorithm.
    pub version: i32,
    /// The digest.
    pub digest: u64,
}

/// ZooKeeper keeps the tree digest of every zxid that is a multiple of this
/// (`DataTree.DIGEST_LOG_INTERVAL`) ...
const TREE_DIGEST_INTERVAL: i64 = 128;
/// ... and of these the newest (`DataTree.DIGEST_LOG_LIMIT`).
pub(crate) const TREE_DIGEST_LIMIT: usize = 1024;

/// Start zxids beyond this are refused: 65,536 epochs are left above it, so counting on cannot overflow.
const MAX_BOOTSTRAP_ZXID: Zxid = Zxid(0x7fff_0000_0000_0000);

/// Seed of the in-memory index when nobody gives another.
const DEFAULT_INDEX_SEED: u64 = 0x6f73_746c_6572;

impl Default for State {
    fn default() -> Self {
        State::new()
    }
}

impl State {
    /// The state before the first log entry: ZooKeeper's built-in znodes, no sessions, default settings.
    pub fn new() -> State {
        State::with_index_seed(DEFAULT_INDEX_SEED)
    }

    /// As [`State::new`], with a seed for the hash index of names. It changes no result, so each server may
    /// draw its own and clients cannot choose names that collide.
    pub fn with_index_seed(index_seed: u64) -> State {
        State {
            tree: Tree::built_in(index_seed),
            sessions: SessionTable::default(),
            lanes: Lanes::default(),
            settings: Settings::default(),
            membership: Membership::default(),
            position: Position::default(),
            tree_digests: VecDeque::new(),
            walks: 0,
        }
    }

    /// The state of an ensemble's founding snapshot: as if one entry, of term 1, had made `members` and brought
    /// the log's clock to `time_ms`. Nodes of members that are not among `voters` are learners. The first epoch
    /// begins with the first entry of a later term.
    pub fn founded(
        index_seed: u64,
        members: BTreeMap<u8, Member>,
        voters: BTreeSet<u64>,
        time_ms: i64,
    ) -> State {
        let mut state = State::with_index_seed(index_seed);
        state.position = Position { term: Term(1), index: LogIndex(1), zxid: Zxid::ZERO, time_ms };
        let nodes: BTreeSet<u64> = members.values().filter_map(|member| member.node).collect();
        let learners = nodes.difference(&voters).copied().collect();
        state.membership = Membership { version: Zxid::ZERO, members, voters, learners, pending: None };
        state.put_config(Zxid::ZERO, None);
        state
    }

    /// From here on this is the state of another cluster, whose nodes are those of `members`; without any, of a server
    /// alone. Everything else stays, so that sessions and zxids go on.
    pub fn refound(&mut self, members: BTreeMap<u8, Member>) {
        let nodes = |votes: bool| {
            let of_role = members.values().filter(move |member| member.spec.votes() == votes);
            of_role.filter_map(|member| member.node).collect()
        };
        let (voters, learners) = (nodes(true), nodes(false));
        let version = self.position.zxid;
        self.membership = Membership { version, members, voters, learners, pending: None };
        self.put_config(version, None);
    }

    /// What a restore fills in.
    pub(crate) fn without_znodes(index_seed: u64) -> State {
        State { tree: Tree::empty(index_seed), ..State::with_index_seed(index_seed) }
    }

    /// Begins the next log entry, whose commands follow through [`State::apply`]. The first entry of a term
    /// begins a new epoch of zxids (10a); time never goes backwards (14). An entry without commands (a term
    /// opening, a membership change) is begun too.
    pub fn begin_entry(&mut self, term: Term, index: LogIndex, time_ms: i64) {
        self.position.index = index;
        self.position.time_ms = self.position.time_ms.max(time_ms);
        if term > self.position.term {
            self.position.term = term;
            self.position.zxid = self.position.zxid.next_epoch();
            self.date_founding();
        }
    }

    /// Applies one command. It never fails: what the command cannot do is part of its outcome.
    ///
    /// Changes are appended to `changes` in ZooKeeper's trigger order; nothing is spent on them if nobody
    /// watches and it is `None`.
    pub fn apply(&mut self, command: &Command<'_>, changes: Option<&mut Vec<Change>>) -> Outcome {
        match command {
            Command::Write { session, generation, sequence, auth, operation } => {
                let who = Requester { session: *session, auth };
                Outcome::Write(self.write(who, *generation, *sequence, operation, changes))
            }
            Command::Refused { session, generation, sequence, error } => {
                Outcome::Write(self.refused(*session, *generation, *sequence, *error))
            }
            Command::RegisterBoot { server, boot, nonce } => match self.lanes.register(*server, *boot) {
                Ok(()) => Outcome::BootRegistered { server: *server, boot: *boot, nonce: *nonce },
                Err(ignored) => Outcome::Ignored(ignored),
            },
            Command::CreateSession { server, boot, number, timeout_ms, secret_hash } => {
                match self.lanes.advance(*server, *boot, *number) {
                    Ok(session) => self.create_session(session, *server, *timeout_ms, *secret_hash),
                    Err(ignored) => Outcome::Ignored(ignored),
                }
            }
            Command::Attach { session, seen, timeout_ms, server } => {
                self.attach(*session, *seen, *timeout_ms, *server)
            }
            Command::EndSession { session, condition, cause, last_heard_ms, owner } => {
                let evidence = Evidence { cause: *cause, last_heard_ms: *last_heard_ms, owner: *owner };
                self.end_session(*session, *condition, evidence, changes)
            }
            Command::Clean { path, czxid, mzxid } => self.clean(path, *czxid, *mzxid, changes),
            Command::Configure(settings) => {
                self.settings = *settings;
                Outcome::Configured
            }
            Command::Bootstrap { zxid } => {
                if *zxid < self.position.zxid || *zxid > MAX_BOOTSTRAP_ZXID {
                    return Outcome::Ignored(Ignored::ZxidOutOfRange);
                }
                self.position.zxid = *zxid;
                Outcome::Bootstrapped { zxid: *zxid }
            }
            Command::AdoptMembers { members } => self.adopt_members(members, changes),
            Command::FinishReconfig { begun } => self.finish_reconfig(*begun, changes),
            Command::AbandonReconfig { begun, error } => self.abandon_reconfig(*begun, *error),
            Command::BeginReplace { server, node } => self.begin_replace(*server, *node),
        }
    }

    fn write(
        &mut self,
        who: Requester<'_>,
        generation: Generation,
        sequence: Sequence,
        operation: &Operation<'_>,
        changes: Option<&mut Vec<Change>>,
    ) -> Verdict {
        if let Err(void) = self.sessions.judge(who.session, generation, sequence) {
            return Verdict::Void(void);
        }
        if let Operation::Reconfig(request) = operation {
            return match self.begin_reconfig(who, generation, sequence, request) {
                Ok(()) => Verdict::Pending,
                Err(error) => self.fail(who.session, generation, sequence, error),
            };
        }
        let mut transaction = self.transaction(changes);
        let result = transaction.run(who, operation);
        let (zxid, over_quota) = (transaction.zxid, transaction.over_quota);
        let error = match &result {
            Ok(OpResult::Multi(results)) => results.iter().find_map(|result| match result {
                MultiResult::Failed(error) => Some(error.code()),
                MultiResult::Done(_) | MultiResult::RolledBack => None,
            }),
            Ok(_) => None,
            Err(error) => Some(error.code()),
        };
        self.consume(who.session, LastWrite { generation, sequence, zxid, error: error.unwrap_or(0) });
        self.commit(zxid);
        Verdict::Applied { zxid, result, over_quota }
    }

    fn refused(
        &mut self,
        session: SessionId,
        generation: Generation,
        sequence: Sequence,
        error: ErrorCode,
    ) -> Verdict {
        match self.sessions.judge(session, generation, sequence) {
            Ok(()) => self.fail(session, generation, sequence, error),
            Err(void) => Verdict::Void(void),
        }
    }

    /// A write that is next in its session's order takes its number and a zxid, and changes nothing else.
    fn fail(
        &mut self,
        session: SessionId,
        generation: Generation,
        sequence: Sequence,
        error: ErrorCode,
    ) -> Verdict {
        let zxid = self.position.zxid.next();
        self.consume(session, LastWrite { generation, sequence, zxid, error: error.code() });
        self.commit(zxid);
        Verdict::Applied { zxid, result: Err(error), over_quota: Vec::new() }
    }

    fn create_session(
        &mut self,
        session: SessionId,
        server: u8,
        timeout_ms: u32,
        secret_hash: [u8; 32],
    ) -> Outcome {
        let generation = Generation(1);
        let row =
            Session { timeout_ms, secret_hash, server, generation, sequence: Sequence(0), last_write: None };
        self.sessions.put(session, row);
        let zxid = self.position.zxid.next();
        self.commit(zxid);
        Outcome::SessionCreated { session, generation, timeout_ms, zxid }
    }

    fn attach(&mut self, session: SessionId, seen: Generation, timeout_ms: u32, server: u8) -> Outcome {
        let current = self.sessions.get(session).map(|row| row.generation);
        if current != Some(seen) {
            return Outcome::AttachRefused { session, current };
        }
        let generation = Generation(seen.0.saturating_add(1));
        self.sessions.update(session, |row| {
            row.generation = generation;
            row.sequence = Sequence(0);
            row.timeout_ms = timeout_ms;
            row.server = server;
        });
        Outcome::Attached { session, generation, timeout_ms, server }
    }

    fn end_session(
        &mut self,
        session: SessionId,
        condition: EndCondition,
        evidence: Evidence,
        changes: Option<&mut Vec<Change>>,
    ) -> Outcome {
        let Some(row) = self.sessions.get(session) else {
            return Outcome::EndVoid { session, reason: Void::NoSession };
        };
        let (generation, timeout_ms) = (row.generation, row.timeout_ms);
        let holds = match condition {
            EndCondition::Always => Ok(()),
            EndCondition::StillGeneration(expected) if expected == generation => Ok(()),
            EndCondition::StillGeneration(_) => Err(Void::Moved),
            EndCondition::InSequence(generation, sequence) => {
                self.sessions.judge(session, generation, sequence)
            }
        };
        if let Err(reason) = holds {
            return Outcome::EndVoid { session, reason };
        }
        let mut owned: Vec<(String, NodeId)> =
            self.tree.ephemerals(session).map(|id| (self.tree.nodes.path(id), id)).collect();
        owned.sort_unstable();
        let mut transaction = self.transaction(changes);
        for (path, id) in &owned {
            transaction.delete_node(path, *id);
        }
        let zxid = transaction.zxid;
        self.sessions.remove(session);
        self.commit(zxid);
        let Evidence { cause, last_heard_ms, owner } = evidence;
        Outcome::SessionEnded {
            session,
            generation,
            timeout_ms,
            zxid,
            cause,
            last_heard_ms,
            owner,
            ephemerals: owned.len(),
        }
    }

    fn clean(&mut self, path: &str, czxid: Zxid, mzxid: Zxid, changes: Option<&mut Vec<Change>>) -> Outcome {
        let found = self.tree.nodes.lookup(path).filter(|&id| {
            let meta = self.tree.nodes.get(id).meta;
            meta.czxid == czxid && meta.mzxid == mzxid && self.is_idle(id, self.position.time_ms)
        });
        let Some(id) = found else { return Outcome::Ignored(Ignored::NotIdle) };
        let mut transaction = self.transaction(changes);
        transaction.delete_node(path, id);
        let zxid = transaction.zxid;
        self.commit(zxid);
        Outcome::Cleaned { zxid }
    }

    /// Whether the cleaner may delete a znode at `now_ms` (semantics, "Special node kinds"): a container that
    /// has had children, or none for long enough if that is set; a TTL znode older than its TTL.
    pub(crate) fn is_idle(&self, id: NodeId, now_ms: i64) -> bool {
        let node = self.tree.nodes.get(id);
        let age_ms = now_ms.saturating_sub(node.meta.mtime);
        let never_used_ms = self.settings.container_max_never_used_ms;
        node.child_count() == 0
            && match node.meta.owner {
                // Not `> 0`: the counter wraps (see `transaction`).
                Owner::Container if node.meta.cversion != 0 => true,
                Owner::Container => never_used_ms > 0 && age_ms > never_used_ms,
                Owner::Ttl(ttl_ms) => age_ms > ttl_ms,
                Owner::Persistent | Owner::Ephemeral(_) => false,
            }
    }

    pub(crate) fn transaction<'s, 'c>(
        &'s mut self,
        changes: Option<&'c mut Vec<Change>>,
    ) -> Transaction<'s, 'c> {
        Transaction {
            tree: &mut self.tree,
            settings: &self.settings,
            zxid: self.position.zxid.next(),
            time_ms: self.position.time_ms,
            changes,
            over_quota: Vec::new(),
        }
    }

    /// A request took its number, whether it succeeded or not.
    pub(crate) fn consume(&mut self, session: SessionId, write: LastWrite) {
        self.sessions.update(session, |row| {
            row.sequence = write.sequence;
            row.last_write = Some(write);
        });
    }

    /// A transaction is complete.
    pub(crate) fn commit(&mut self, zxid: Zxid) {
        self.position.zxid = zxid;
        if zxid.0 % TREE_DIGEST_INTERVAL == 0 && self.settings.digest_enabled {
            if self.tree_digests.len() == TREE_DIGEST_LIMIT {
                self.tree_digests.pop_front();
            }
            self.tree_digests.push_back(TreeDigest {
                zxid,
                version: TREE_DIGEST_VERSION,
                digest: self.tree_digest(),
            });
        }
    }

    /// The agreement digest: 64 bits over everything apply reads. Equal on all servers at equal applied index
    /// (invariant 4).
    pub fn agreement_digest(&self) -> u64 {
        self.combine_digests(self.tree.sums().agreement, self.sessions.digest())
    }

    /// ZooKeeper's digest of the tree (semantics, "Tree digest").
    pub fn tree_digest(&self) -> u64 {
        self.tree.sums().tree
    }

    /// Both digests (agreement, tree) computed from scratch, by reading every znode: a check of the kept ones.
    pub fn recompute_digests(&self) -> (u64, u64) {
        let mut sums = digest::Sums::default();
        let mut cursor = PathCursor::at_root();
        loop {
            let (id, path) = cursor.node();
            sums.add(self.tree.recompute_sums(id, path));
            if !cursor.advance(&self.tree.nodes) {
                break;
            }
        }
        let sessions =
            self.sessions.iter().fold(0u64, |sum, (id, row)| sum.wrapping_add(digest::of_session(id, row)));
        (self.combine_digests(sums.agreement, sessions), sums.tree)
    }

    fn combine_digests(&self, znodes: u64, sessions: u64) -> u64 {
        let membership = digest::of_membership(&self.membership);
        digest::agreement(znodes, sessions, &self.position, &self.settings, &self.lanes, membership)
    }
}

/// What an end of session says about itself.
struct Evidence {
    cause: EndCause,
    last_heard_ms: i64,
    owner: u8,
}
