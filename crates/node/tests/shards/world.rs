//! One server's decisions on one thread and in virtual time: a replica, its consensus, n shards, and clients
//! that are byte strings.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ostler_node::{
    Admission, AuthSettings, CleanerSettings, ConnId, ConnectionEnd, Core, CoreEffect, CoreSettings, Effect,
    Inbox, Lease, Millis, News, Replica, ReplicaSettings, SessionEnd, Shard, ShardId, ShardRequests,
    ShardSettings, ShardStats, SharedState,
};
use ostler_replication::{Membership, Recovered, Replicator, Settings as ConsensusSettings};
use ostler_tree::{Member, Settings, State};
use ostler_types::member::ServerSpec;
use ostler_types::{ErrorCode, EventType, SessionId, Xid, Zxid, open_acl};
use ostler_wire::{
    AclEntry, ConnectRequest, ConnectResponse, Create, CreateForm, Limits, OpCode, ReplyHeader, Request,
    Response, WatchEvent, frame,
};

/// Virtual time between two turns of every loop.
const TURN_MS: Millis = 50;
/// Bytes taken from one socket in a turn, as a worker does.
const READ_BYTES: usize = 64 << 10;

/// Settings of a world that a test may care about.
pub struct Options {
    pub shards: usize,
    pub max_frame: usize,
    pub outstanding_limit: usize,
    pub unsent_limit: usize,
    /// Whether it is an ensemble that has one server so far, and anybody may change that.
    pub is_ensemble: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            shards: 2,
            max_frame: 1 << 20,
            outstanding_limit: 1000,
            unsent_limit: 256 << 20,
            is_ensemble: false,
        }
    }
}

/// Whether the log has room, as the disk tells it.
pub struct Room(AtomicBool);

impl Admission for Room {
    fn writes_allowed(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn connect_allowed(&self, _renew: bool, _now: Millis) -> bool {
        true
    }
}

/// A client's end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer(pub usize);

struct Socket {
    shard: usize,
    id: ConnId,
    to_server: VecDeque<u8>,
    from_server: Vec<u8>,
    /// How many bytes the client takes in each slice of virtual time, and how many are left of them now.
    takes: usize,
    budget: usize,
    closed: Option<ConnectionEnd>,
    /// It is looked at in the next turn: something has arrived, or the shard has asked for it. As with a worker,
    /// a socket that could not be read then is forgotten until one of these happens again.
    ready: bool,
}

/// A session as its client knows it.
#[derive(Clone, Copy, Debug)]
pub struct Session {
    pub peer: Peer,
    pub id: SessionId,
    pub password: [u8; 16],
    pub timeout_ms: i32,
}

/// A frame from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub xid: i32,
    pub zxid: i64,
    pub err: i32,
    pub body: Vec<u8>,
}

impl Frame {
    pub fn event(&self) -> Option<(EventType, String)> {
        if self.xid != Xid::NOTIFICATION.0 {
            return None;
        }
        let event = WatchEvent::decode(&self.body).unwrap();
        Some((event.kind, event.path.into_owned()))
    }

    pub fn response(&self, op: OpCode) -> Response {
        assert_eq!(self.err, 0, "{self:?}");
        Response::decode(op, &self.body).unwrap()
    }
}

/// See the module's documentation.
pub struct World {
    pub now: Millis,
    pub state: SharedState,
    pub core: Core,
    pub shards: Vec<Shard>,
    pub stats: Vec<Arc<ShardStats>>,
    /// Shards whose thread does not run.
    pub asleep: Vec<bool>,
    sockets: Vec<Socket>,
    /// While set, nothing becomes durable.
    pub hold_disk: bool,
    at_disk: Vec<u64>,
    mail: Vec<ShardRequests>,
    pub room: Arc<Room>,
    pub ended: Vec<SessionEnd>,
    busy: bool,
}

impl World {
    pub fn new() -> World {
        World::with(&Options::default())
    }

    pub fn with(options: &Options) -> World {
        let now = 1_000_000;
        let state: SharedState = Arc::new(parking_lot::RwLock::new(State::with_index_seed(7)));
        let room = Arc::new(Room(AtomicBool::new(true)));
        let lease = Arc::new(Lease::new(800));
        let (mut shards, mut inboxes, mut all_stats) = (vec![], vec![], vec![]);
        for index in 0..options.shards {
            let (inbox, stats) = (Arc::new(Inbox::default()), Arc::new(ShardStats::default()));
            let mut secrets = 0u128;
            let settings = ShardSettings {
                server: 1,
                max_frame: options.max_frame,
                limits: Limits { max_field_bytes: options.max_frame + 1024 },
                session_timeout_ms: 1_000..=40_000,
                outstanding_limit: options.outstanding_limit,
                unsent_limit: options.unsent_limit,
                sessionless_timeout_ms: 10_000,
                auth: AuthSettings::default(),
                admission: room.clone(),
                lease: lease.clone(),
                read_only_mode: false,
                draw_secret: Box::new(move || {
                    secrets += 1;
                    (secrets << 8 | index as u128).to_be_bytes()
                }),
            };
            shards.push(Shard::new(
                ShardId(index as u16),
                settings,
                state.clone(),
                inbox.clone(),
                stats.clone(),
                now,
            ));
            inboxes.push(inbox);
            all_stats.push(stats);
        }
        let settings = ReplicaSettings { server: 1, nonce: 7, snap_count: 100_000, snap_bytes: None };
        let replica = Replica::new(settings, state.clone(), inboxes);
        let alone = Membership { voters: vec![1], learners: vec![] };
        let replicator = Replicator::new(ConsensusSettings::new(1), Recovered::default(), &alone).unwrap();
        let settings = CoreSettings {
            replicated: Settings {
                extended_types_enabled: true,
                reconfig_enabled: options.is_ensemble,
                skip_acl: options.is_ensemble,
                standalone_enabled: !options.is_ensemble,
                ..Settings::default()
            },
            cleaner: CleanerSettings::default(),
            own_members: options.is_ensemble.then(own_member).into_iter().collect(),
        };
        let core = Core::new(settings, replicator, replica, lease, shards.len(), now);
        let mut world = World {
            now,
            state,
            core,
            asleep: vec![false; shards.len()],
            shards,
            stats: all_stats,
            sockets: vec![],
            hold_disk: false,
            at_disk: vec![],
            mail: vec![],
            room,
            ended: vec![],
            busy: false,
        };
        world.settle();
        assert!(world.core.is_serving());
        world
    }

    pub fn set_room(&mut self, has_room: bool) {
        self.room.0.store(has_room, Ordering::Relaxed);
    }

    /// A new socket to `shard`.
    pub fn open(&mut self, shard: usize) -> Peer {
        let id = self.shards[shard].open("127.0.0.1:4000".parse().unwrap(), self.now);
        let (to_server, from_server) = (VecDeque::new(), vec![]);
        self.sockets.push(Socket {
            shard,
            id,
            to_server,
            from_server,
            takes: usize::MAX,
            budget: usize::MAX,
            closed: None,
            ready: false,
        });
        Peer(self.sockets.len() - 1)
    }

    /// The client's socket breaks: nothing it had not sent arrives, nothing is received any more.
    pub fn cut(&mut self, peer: Peer) {
        let socket = &mut self.sockets[peer.0];
        if socket.closed.is_none() {
            socket.closed = Some(ConnectionEnd::PeerClosed);
            self.shards[socket.shard].remove(socket.id, ConnectionEnd::PeerClosed, self.now);
        }
    }

    pub fn closed(&self, peer: Peer) -> Option<ConnectionEnd> {
        self.sockets[peer.0].closed
    }

    /// How many bytes a client takes from its socket in every 50 ms.
    pub fn takes(&mut self, peer: Peer, bytes: usize) {
        (self.sockets[peer.0].takes, self.sockets[peer.0].budget) = (bytes, bytes);
    }

    /// Bytes the client has sent and the server has not read.
    pub fn unread(&self, peer: Peer) -> usize {
        self.sockets[peer.0].to_server.len()
    }

    /// Bytes the server has for the client and the client has not taken.
    pub fn unsent(&mut self, peer: Peer) -> usize {
        let Socket { shard, id, .. } = self.sockets[peer.0];
        self.shards[shard].output(id).map_or(0, |output| output.unsent().len())
    }

    pub fn send(&mut self, peer: Peer, bytes: &[u8]) {
        self.sockets[peer.0].to_server.extend(bytes);
        self.sockets[peer.0].ready = true;
    }

    pub fn ask(&mut self, peer: Peer, xid: i32, request: &Request<'_>) {
        let mut bytes = vec![];
        request.encode(Xid(xid), &mut bytes);
        self.send(peer, &bytes);
    }

    /// A frame of any opcode and body.
    pub fn ask_raw(&mut self, peer: Peer, xid: i32, op: i32, body: &[u8]) {
        let length = (8 + body.len()) as i32;
        self.send(peer, &[&length.to_be_bytes()[..], &xid.to_be_bytes(), &op.to_be_bytes(), body].concat());
    }

    /// Everything that has arrived at the client since the last call.
    pub fn frames(&mut self, peer: Peer) -> Vec<Frame> {
        let bytes = std::mem::take(&mut self.sockets[peer.0].from_server);
        let (mut at, mut frames) = (0, vec![]);
        while let frame::Scan::Frame(range) = frame::scan(&bytes[at..], usize::MAX) {
            let payload = &bytes[at..][range.clone()];
            let (ReplyHeader { xid, zxid, err }, body) = ReplyHeader::decode(payload).unwrap();
            frames.push(Frame { xid: xid.0, zxid: zxid.0, err, body: body.to_vec() });
            at += range.end;
        }
        self.sockets[peer.0].from_server = bytes[at..].to_vec();
        frames
    }

    /// The payload of the one frame that has arrived: a handshake's answer.
    pub fn handshake_answer(&mut self, peer: Peer) -> Option<(SessionId, i32, Option<Vec<u8>>)> {
        let bytes = &mut self.sockets[peer.0].from_server;
        let frame::Scan::Frame(range) = frame::scan(bytes, usize::MAX) else { return None };
        let end = range.end;
        let answer = ConnectResponse::decode(&bytes[range]).unwrap();
        let answer = (answer.session, answer.timeout_ms, answer.password.map(<[u8]>::to_vec));
        bytes.drain(..end);
        Some(answer)
    }

    pub fn ask_session(&mut self, peer: Peer, timeout_ms: i32, resume: Option<&Session>) {
        let (zeros, mut bytes) = ([0; 16], vec![]);
        ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: Zxid::ZERO,
            timeout_ms,
            session: resume.map_or(SessionId::NONE, |s| s.id),
            password: Some(resume.map_or(&zeros, |s| &s.password)),
            read_only: Some(false),
        }
        .encode(&mut bytes);
        self.send(peer, &bytes);
    }

    /// A new session on `shard`.
    pub fn connect(&mut self, shard: usize, timeout_ms: i32) -> Session {
        let peer = self.open(shard);
        self.ask_session(peer, timeout_ms, None);
        self.settle();
        let (id, timeout_ms, password) = self.handshake_answer(peer).expect("a handshake is answered");
        assert!(timeout_ms > 0);
        Session { peer, id, password: password.unwrap().try_into().unwrap(), timeout_ms }
    }

    /// The session on a new connection to `shard`.
    pub fn resume(&mut self, shard: usize, session: &Session) -> Option<Session> {
        let peer = self.open(shard);
        self.ask_session(peer, session.timeout_ms, Some(session));
        self.settle();
        let (id, timeout_ms, _) = self.handshake_answer(peer)?;
        (timeout_ms > 0).then(|| {
            assert_eq!(id, session.id);
            Session { peer, timeout_ms, ..*session }
        })
    }

    /// Runs every loop until there is nothing left to do at this moment.
    pub fn settle(&mut self) {
        loop {
            self.busy = false;
            self.turn();
            if !self.busy {
                return;
            }
        }
    }

    /// Lets virtual time pass, every loop turning as it does.
    pub fn advance(&mut self, ms: Millis) {
        let until = self.now + ms;
        while self.now < until {
            self.now = until.min(self.now + TURN_MS);
            for socket in &mut self.sockets {
                socket.budget = socket.takes;
            }
            self.core.tick(self.now);
            self.settle();
        }
    }

    /// Time passes and nothing of the server runs.
    pub fn stall(&mut self, ms: Millis) {
        self.now += ms;
    }

    /// Time passes and every loop turns once.
    pub fn turn_after(&mut self, ms: Millis) {
        self.now += ms;
        self.core.tick(self.now);
        self.turn();
    }

    fn turn(&mut self) {
        for shard in 0..self.shards.len() {
            if !self.asleep[shard] {
                self.turn_shard(shard);
            }
        }
        self.turn_core();
    }

    /// One turn of a worker's loop.
    fn turn_shard(&mut self, index: usize) {
        let now = self.now;
        for socket in &mut self.sockets {
            let shard = &mut self.shards[index];
            if socket.shard != index || socket.closed.is_some() {
                continue;
            }
            let count = socket.to_server.len().min(READ_BYTES);
            if std::mem::take(&mut socket.ready) && count > 0 && shard.wants_read(socket.id) {
                let bytes: Vec<u8> = socket.to_server.drain(..count).collect();
                socket.ready = !socket.to_server.is_empty();
                shard.receive(socket.id, &bytes, now);
                self.busy = true;
            }
            // The socket has become writable.
            flush(shard, socket, now, &mut self.busy);
        }
        self.shards[index].process_inbox(now);
        self.shards[index].tick(now);
        loop {
            let effects = self.shards[index].take_effects();
            if effects.is_empty() {
                break;
            }
            for effect in effects {
                match effect {
                    Effect::Flush(id) => {
                        let found = self
                            .sockets
                            .iter_mut()
                            .find(|s| s.shard == index && s.id == id && s.closed.is_none());
                        if let Some(socket) = found {
                            flush(&mut self.shards[index], socket, now, &mut self.busy);
                        }
                    }
                    // Reading goes on with the next turn.
                    Effect::Resume(id) => {
                        let found = self
                            .sockets
                            .iter_mut()
                            .find(|s| s.shard == index && s.id == id && s.closed.is_none());
                        if let Some(socket) = found {
                            socket.ready = true;
                        }
                        self.busy = true;
                    }
                    Effect::Text(token, _) => self.shards[index].answer_text(token, b"answer"),
                }
            }
        }
        let everything_read = self.sockets.iter().all(|s| {
            s.shard != index
                || s.closed.is_some()
                || s.to_server.is_empty()
                || !self.shards[index].wants_read(s.id)
        });
        if everything_read && let Some(requests) = self.shards[index].take_requests(now, now) {
            self.busy |= !requests.commands.is_empty() || !requests.handshakes.is_empty();
            self.mail.push(requests);
        }
    }

    /// One turn of the core's loop.
    fn turn_core(&mut self) {
        let now = self.now;
        let wall_ms = 1_700_000_000_000 + now as i64;
        for requests in std::mem::take(&mut self.mail) {
            self.core.receive(requests, now);
        }
        if !self.hold_disk {
            for number in std::mem::take(&mut self.at_disk) {
                self.core.persisted(number);
            }
        }
        self.core.advance(now, wall_ms).unwrap();
        for effect in self.core.take_effects() {
            self.busy = true;
            match effect {
                CoreEffect::Persist(round) => self.at_disk.push(round.number),
                CoreEffect::News(News::SessionEnded(end)) => self.ended.push(end),
                CoreEffect::News(_) | CoreEffect::Wake(_) => {}
                CoreEffect::WriteSnapshot { .. } => self.core.snapshot_failed(),
                CoreEffect::Send { .. } | CoreEffect::FetchSnapshot { .. } | CoreEffect::Discard(_) => {
                    panic!("there is one server")
                }
            }
        }
        self.busy |= !self.at_disk.is_empty() && !self.hold_disk;
    }

    // What tests say most often.

    pub fn exists(&self, path: &str) -> bool {
        self.state.read().lookup(path).is_some()
    }

    pub fn has_session(&self, session: &Session) -> bool {
        self.state.read().session(session.id).is_some()
    }

    /// Sends a request, lets everything settle, and returns what arrived.
    pub fn call(&mut self, peer: Peer, xid: i32, request: &Request<'_>) -> Vec<Frame> {
        self.ask(peer, xid, request);
        self.settle();
        self.frames(peer)
    }

    /// A request that must succeed with nothing else arriving.
    pub fn must(&mut self, peer: Peer, request: &Request<'_>) -> Frame {
        let mut frames = self.call(peer, 77, request);
        assert_eq!(frames.len(), 1, "{frames:?}");
        assert_eq!((frames[0].xid, frames[0].err), (77, 0));
        frames.remove(0)
    }
}

/// The server as a member of its ensemble.
fn own_member() -> (u8, Member) {
    (1, Member { node: Some(1), spec: ServerSpec::parse("10.0.0.1:2888:3888;2181").unwrap() })
}

/// Writes what the client takes, and closes what is to be closed.
fn flush(shard: &mut Shard, socket: &mut Socket, now: Millis, busy: &mut bool) {
    let Some(output) = shard.output(socket.id) else { return };
    let count = output.unsent().len().min(socket.budget);
    socket.budget -= if socket.takes == usize::MAX { 0 } else { count };
    socket.from_server.extend_from_slice(&output.unsent()[..count]);
    output.advance(count);
    *busy |= count > 0;
    shard.output_progress(socket.id, now);
    if shard.is_finished(socket.id) {
        let closed = shard.remove(socket.id, ConnectionEnd::PeerClosed, now).unwrap();
        socket.closed = Some(closed.end);
        *busy = true;
    }
}

pub fn create<'a>(path: &'a str, flags: i32) -> Request<'a> {
    create_with(path, b"", flags)
}

pub fn create_with<'a>(path: &'a str, data: &'a [u8], flags: i32) -> Request<'a> {
    let acl = open_acl();
    let entry = AclEntry::from(&acl[0]);
    let entry = AclEntry {
        perms: entry.perms,
        scheme: entry.scheme.map(|s| s.into_owned().into()),
        id: entry.id.map(|s| s.into_owned().into()),
    };
    Request::Create(Create {
        form: CreateForm::Create,
        path: path.into(),
        data: Some(data),
        acl: Some(vec![entry]),
        flags,
    })
}

pub fn set<'a>(path: &'a str, data: &'a [u8]) -> Request<'a> {
    Request::SetData { path: path.into(), data: Some(data), version: -1 }
}

pub fn delete(path: &str) -> Request<'_> {
    Request::Delete { path: path.into(), version: -1 }
}

pub fn get(path: &str, watch: bool) -> Request<'_> {
    Request::GetData { path: path.into(), watch }
}

pub fn data_of(frame: &Frame) -> Vec<u8> {
    let Response::DataAndStat { data, .. } = frame.response(OpCode::GetData) else { panic!("{frame:?}") };
    data.unwrap_or_default()
}

pub const EPHEMERAL: i32 = 1;

pub fn code(error: ErrorCode) -> i32 {
    error.code()
}
