//! A simulated server: what `ostler-server` puts around the core and the shards, on a simulated disk.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;

use ostler_node::{
    Admission, AuthSettings, CleanerSettings, Core, CoreSettings, Inbox, Lease, Millis, Persist, Replica,
    ReplicaSettings, Shard, ShardId, ShardRequests, ShardSettings, ShardStats, SharedState,
};
use ostler_replication::{EntryKind, LogEntry, Membership, Replicator, SnapshotOffer};
use ostler_storage::{
    Batch, DataDir, Entry, ExpectIdentity, Identity, Log, LogOptions, LogStart, Origin, SimDisk,
    SnapshotMeta, SnapshotReader, SnapshotStore,
};
use ostler_tree::snapshot::{Progress, Restorer, SnapshotWalk};
use ostler_tree::{Member, Settings, State};
use ostler_types::member::ServerSpec;
use ostler_types::{LogIndex, SessionId, Term};
use ostler_wire::Limits;

use crate::{Clock, Micros, Random};

/// The unit of consensus' clock, as on a real server.
pub(crate) const TICK_MS: Millis = 50;
/// Longest time before an election begins: what a real server passes for 50 ms and 8 ticks.
pub(crate) const ELECTION_MS: Millis = 800;
/// Small, so that segments change often.
const SEGMENT_BYTES: u64 = 64 << 10;
const CLUSTER: u64 = 0xc1;

/// Session timeouts a server agrees to, milliseconds.
pub(crate) const SESSION_TIMEOUT_MS: std::ops::RangeInclusive<u32> = 2_000..=40_000;

/// A machine with a disk and a clock; the process may be running or not.
pub(crate) struct Server {
    /// myid.
    pub(crate) id: u8,
    pub(crate) node: u64,
    pub(crate) disk: SimDisk,
    pub(crate) clock: Clock,
    /// Counts processes: what was meant for an earlier one is dropped.
    pub(crate) life: u64,
    pub(crate) process: Option<Process>,
    /// When the process was started last.
    pub(crate) started: Micros,
    /// Nothing of it runs until then.
    pub(crate) paused_until: Micros,
    /// Each fsync takes this much longer, until then.
    pub(crate) slow_disk: (Micros, Micros),
    /// Dies after performing so many more effects.
    pub(crate) dies_after: Option<u64>,
}

/// What reaches the core.
pub(crate) enum Mail {
    Shard(ShardRequests),
    Persisted(u64),
    Frame { node: u64, bytes: bytes::Bytes },
    LinkUp { peer: usize, epoch: u64 },
    LinkDown { peer: usize, is_gone: bool },
    Unreachable { node: u64 },
    SnapshotWritten(SnapshotOffer),
    SnapshotFailed,
    Fetched { index: LogIndex, state: Box<State> },
    FetchFailed(LogIndex),
    HandOver,
}

/// One of the threads that have sockets.
pub(crate) struct Worker {
    pub(crate) shard: Shard,
    /// World's socket behind each connection.
    pub(crate) sockets: BTreeMap<u32, usize>,
    pub(crate) ready: Vec<usize>,
    pub(crate) turn_at: Option<Micros>,
}

pub(crate) struct Walking {
    pub(crate) walk: SnapshotWalk,
    pub(crate) writer: Option<ostler_storage::SnapshotWriter>,
    pub(crate) term: Term,
    pub(crate) index: LogIndex,
    pub(crate) membership: Membership,
}

/// A snapshot on its way.
pub(crate) struct Fetch {
    pub(crate) from: u64,
    pub(crate) offer: SnapshotOffer,
}

/// A running server.
pub(crate) struct Process {
    pub(crate) core: Core,
    pub(crate) state: SharedState,
    pub(crate) lease: Arc<Lease>,
    pub(crate) workers: Vec<Worker>,
    pub(crate) mail: VecDeque<Mail>,
    pub(crate) turn_at: Option<Micros>,
    pub(crate) next_tick: Millis,
    pub(crate) log: Log,
    pub(crate) store: SnapshotStore,
    pub(crate) log_queue: Vec<Persist>,
    pub(crate) at_disk: Vec<Persist>,
    pub(crate) walking: Option<Walking>,
    pub(crate) fetches: BTreeMap<u64, Fetch>,
    /// The epoch of the link to each peer that the core knows to be up.
    pub(crate) links: BTreeMap<usize, u64>,
    /// What the log holds, as far as it was handed to the disk: term and a hash of each entry.
    pub(crate) mirror: BTreeMap<u64, (u64, u64)>,
    /// Entries up to here have been compared with the other servers'.
    pub(crate) compared: u64,
    /// Whom its sockets heard, on this server's clock and on the world's, oldest first.
    pub(crate) heard: VecDeque<(Millis, Micros, SessionId)>,
    pub(crate) stopping: bool,
    _data_dir: DataDir,
}

struct Always;

impl Admission for Always {
    fn writes_allowed(&self) -> bool {
        true
    }

    fn connect_allowed(&self, _renew: bool, _now: Millis) -> bool {
        true
    }
}

fn options() -> LogOptions {
    LogOptions::with_segment_bytes(SEGMENT_BYTES)
}

fn directory() -> &'static Path {
    Path::new("/data")
}

/// What an entry is, in one number.
pub(crate) fn hash_entry(kind: EntryKind, data: &[u8]) -> u64 {
    data.iter().fold(0xcbf2_9ce4_8422_2325 ^ kind as u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

impl Server {
    pub(crate) fn new(id: u8, random: &mut Random) -> Server {
        Server {
            id,
            node: 0x1000 + u64::from(id) * 0x111,
            disk: SimDisk::new(random.number()),
            clock: Clock::new(random),
            life: 0,
            process: None,
            started: 0,
            paused_until: 0,
            slow_disk: (0, 0),
            dies_after: None,
        }
    }

    fn identity(&self) -> Identity {
        Identity { cluster_id: CLUSTER, node_id: self.node }
    }

    /// Writes the data directory of a founding member.
    pub(crate) fn found(&self, members: &BTreeMap<u8, u64>) {
        let disk = Arc::new(self.disk.clone());
        let data_dir = DataDir::open(disk, directory(), directory()).expect("a new disk can be taken");
        let data = data_dir
            .recover(ExpectIdentity::OrCreate(self.identity()), options())
            .expect("a new disk can be used");
        let specs = members
            .iter()
            .map(|(&id, &node)| {
                let spec =
                    ServerSpec::parse(&format!("127.0.0.{id}:2888:3888;2181")).expect("is well-formed");
                (id, Member { node: Some(node), spec })
            })
            .collect();
        let voters: BTreeSet<u64> = members.values().copied().collect();
        let mut state = State::founded(7, specs, voters, 1_699_999_999_000);
        let mut walk = state.begin_snapshot_walk();
        let (records, digest) = (walk.znodes(), walk.agreement_digest());
        let meta = self.meta(LogIndex(1), Term(1), 0, Origin::Received);
        let mut writer = data.snapshots.create(&meta).expect("there is room");
        let mut slice = Vec::new();
        while state.walk_slice(&mut walk, 1_000, &mut slice) == Progress::More {}
        writer.push(&slice).expect("there is room");
        writer.finish(records, digest.into()).expect("there is room");
    }

    /// Writes the data directory of a server that is about to join.
    pub(crate) fn prepare_to_join(&self) {
        let disk = Arc::new(self.disk.clone());
        let data_dir = DataDir::open(disk, directory(), directory()).expect("a new disk can be taken");
        let identity = ExpectIdentity::OrCreate(self.identity());
        data_dir.recover(identity, options()).expect("a new disk can be used");
    }

    pub(crate) fn meta(&self, index: LogIndex, term: Term, zxid: i64, origin: Origin) -> SnapshotMeta {
        SnapshotMeta {
            identity: self.identity(),
            index: index.0,
            term: term.0,
            zxid,
            conf_state: Vec::new(),
            created_ms: 0,
            origin,
        }
    }

    /// Starts the process on what is durable.
    ///
    /// # Errors
    /// It refuses to start.
    pub(crate) fn start(
        &mut self,
        shards: usize,
        replicated: Settings,
        random: &mut Random,
        at: Micros,
    ) -> Result<(), String> {
        let disk = Arc::new(self.disk.clone());
        let data_dir = DataDir::open(disk, directory(), directory()).map_err(|e| e.to_string())?;
        let data = data_dir
            .recover(ExpectIdentity::Exactly(self.identity()), options())
            .map_err(|error| error.to_string())?;
        // Without a snapshot it has joined and not heard of anything yet.
        let (state, snapshot) = match data.snapshot.clone() {
            Some(info) => {
                let reader = data.snapshots.read(&info).map_err(|error| error.to_string())?;
                (restore(reader)?, (info.meta.index, info.meta.term))
            }
            None => (State::with_index_seed(7), (0, 0)),
        };
        let recovered = data.recovered;
        let hard_state = recovered.hard_state.unwrap_or_default();
        let mut mirror = BTreeMap::new();
        let mut entries = Vec::new();
        for Entry { term, index, kind, data } in recovered.entries {
            let kind = EntryKind::from_code(kind).map_err(|error| error.to_string())?;
            mirror.insert(index, (term, hash_entry(kind, &data)));
            entries.push(LogEntry { term: Term(term), index: LogIndex(index), kind, data });
        }
        let tail = ostler_replication::Recovered {
            snapshot,
            hard_state: ostler_replication::HardState {
                term: hard_state.term,
                vote: hard_state.vote,
                commit: hard_state.commit,
            },
            entries,
        };
        let members = state.membership();
        let membership = Membership {
            voters: members.voters.iter().copied().collect(),
            learners: members.learners.iter().copied().collect(),
        };
        let consensus = ostler_replication::Settings {
            seed: random.number(),
            // Little enough that whoever was away for long needs a snapshot.
            keep_bytes: random.pick(&[500, 5_000, 1 << 20]),
            ..ostler_replication::Settings::new(self.node)
        };
        let replicator = Replicator::new(consensus, tail, &membership).map_err(|error| error.to_string())?;
        let compared = state.applied_index().0;
        let now = self.clock.now(at);
        let state: SharedState = Arc::new(parking_lot::RwLock::new(state));
        let lease = Arc::new(Lease::new(ELECTION_MS));
        let (mut workers, mut inboxes) = (Vec::new(), Vec::new());
        for number in 0..shards {
            let inbox = Arc::new(Inbox::default());
            let mut secrets = Random::new(random.number());
            let settings = ShardSettings {
                server: self.id,
                max_frame: 1 << 20,
                limits: Limits { max_field_bytes: 1 << 20 },
                session_timeout_ms: SESSION_TIMEOUT_MS,
                outstanding_limit: 1_000,
                unsent_limit: 64 << 20,
                sessionless_timeout_ms: 10_000,
                auth: AuthSettings::default(),
                admission: Arc::new(Always),
                lease: lease.clone(),
                read_only_mode: false,
                draw_secret: Box::new(move || {
                    let (high, low) = (u128::from(secrets.number()), u128::from(secrets.number()));
                    (high << 64 | low).to_be_bytes()
                }),
            };
            let stats = Arc::new(ShardStats::default());
            let id = ShardId(number as u16);
            workers.push(Worker {
                shard: Shard::new(id, settings, state.clone(), inbox.clone(), stats, now),
                sockets: BTreeMap::new(),
                ready: Vec::new(),
                turn_at: None,
            });
            inboxes.push(inbox);
        }
        let settings = ReplicaSettings {
            server: self.id,
            nonce: random.number(),
            snap_count: random.pick(&[60, 200, 100_000]),
            snap_bytes: None,
        };
        let replica = Replica::new(settings, state.clone(), inboxes);
        let settings =
            CoreSettings { replicated, cleaner: CleanerSettings::default(), own_members: BTreeMap::new() };
        let core = Core::new(settings, replicator, replica, lease.clone(), shards, now);
        self.process = Some(Process {
            core,
            state,
            lease,
            workers,
            mail: VecDeque::new(),
            turn_at: None,
            next_tick: now + TICK_MS,
            log: data.log,
            store: data.snapshots,
            log_queue: Vec::new(),
            at_disk: Vec::new(),
            walking: None,
            fetches: BTreeMap::new(),
            links: BTreeMap::new(),
            mirror,
            compared,
            heard: VecDeque::new(),
            stopping: false,
            _data_dir: data_dir,
        });
        Ok(())
    }
}

impl Process {
    /// The rounds become durable.
    ///
    /// # Errors
    /// The disk fails.
    pub(crate) fn write_log(&mut self, rounds: &[Persist]) -> Result<(), String> {
        let batches: Vec<Batch> = rounds.iter().map(to_batch).collect();
        self.log.append(&batches).map_err(|error| error.to_string())
    }

    /// Remembers what the log will hold.
    pub(crate) fn mirror(&mut self, round: &Persist) {
        if let Some((index, _)) = round.install {
            self.mirror.clear();
            self.compared = self.compared.max(index.0);
        }
        if let Some(first) = round.entries.first() {
            self.mirror.split_off(&first.index.0);
        }
        for entry in &round.entries {
            self.mirror.insert(entry.index.0, (entry.term.0, hash_entry(entry.kind, &entry.data)));
        }
    }
}

fn to_batch(round: &Persist) -> Batch {
    Batch {
        log_start: round.install.map(|(index, term)| LogStart { index: index.0, term: term.0 }),
        entries: round
            .entries
            .iter()
            .map(|entry| Entry {
                term: entry.term.0,
                index: entry.index.0,
                kind: entry.kind as u8,
                data: entry.data.clone(),
            })
            .collect(),
        hard_state: round.hard_state.map(|hard_state| ostler_storage::HardState {
            term: hard_state.term,
            vote: hard_state.vote,
            commit: hard_state.commit,
        }),
        must_sync: round.must_sync,
    }
}

/// Reads a whole snapshot.
pub(crate) fn restore(mut reader: SnapshotReader) -> Result<State, String> {
    let mut restorer = Restorer::new(7);
    loop {
        let block = reader.next_block().map_err(|error| error.to_string())?;
        if block.is_empty() {
            return restorer.finish().map_err(|error| error.to_string());
        }
        restorer.feed(block).map_err(|error| error.to_string())?;
    }
}
