//! A stock client: it keeps one session alive over whatever connections it takes, and remembers what it saw.

mod workload;

use std::collections::{BTreeMap, VecDeque};

use ostler_types::{SessionId, Xid, Zxid};
use ostler_wire::{ConnectRequest, ConnectResponse, ReplyHeader, Request, SetWatches, frame};

use crate::promises::watches::Watched;
use crate::server::ELECTION_MS;
use crate::world::{Event, World};
use crate::{Micros, Random};
pub(crate) use workload::What;

/// Requests under way at a time.
const PIPELINE: usize = 4;
/// Longest time before a client looks at its clock again.
const LOOK_US: Micros = 200_000;

/// How it is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    /// Not; it tries again at this time.
    Down { retry: Micros },
    /// A ConnectRequest is under way since then.
    Asking { socket: usize, since: Micros },
    /// It has its session.
    Up { socket: usize },
}

#[derive(Clone, Copy, Debug)]
struct Session {
    id: SessionId,
    password: [u8; 16],
}

/// A request that is not answered.
#[derive(Debug)]
struct Sent {
    xid: i32,
    what: What,
    /// The largest zxid that had been acknowledged to anybody when it was sent ...
    floor: i64,
    /// ... and when a serving lease before that.
    stale_floor: i64,
}

/// A watch on somebody's counter: the zxid of what was read, and the largest zxid shown since.
#[derive(Clone, Copy, Debug)]
struct Armed {
    since: i64,
    until: i64,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Client {
    timeout_ms: u32,
    is_linearizable: bool,
    session: Option<Session>,
    link: Link,
    input: Vec<u8>,
    last_heard: Micros,
    last_sent: Micros,
    /// Largest zxid of any frame, and of this connection.
    last_zxid: i64,
    xid: i32,
    pending: VecDeque<Sent>,
    /// By whose counter; those that are armed on this connection too.
    watches: BTreeMap<usize, Armed>,
    is_rearming: bool,
    next_request: Micros,
    /// The one look at the clock that counts.
    turn: u64,
    work: workload::Work,
    /// Nothing gets through to a server before, either way.
    cuts: BTreeMap<usize, Micros>,
}

impl Client {
    pub(crate) fn new(random: &mut Random) -> Client {
        Client {
            timeout_ms: random.pick(&[4_000, 6_000, 10_000, 30_000]),
            is_linearizable: random.chance(25),
            session: None,
            link: Link::Down { retry: 0 },
            input: Vec::new(),
            last_heard: 0,
            last_sent: 0,
            last_zxid: 0,
            xid: 0,
            pending: VecDeque::new(),
            watches: BTreeMap::new(),
            is_rearming: false,
            next_request: 0,
            turn: 0,
            work: workload::Work::default(),
            cuts: BTreeMap::new(),
        }
    }

    /// Until when nothing gets through to a server.
    pub(crate) fn cut_from(&self, server: usize) -> Micros {
        self.cuts.get(&server).copied().unwrap_or(0)
    }

    pub(crate) fn cut(&mut self, server: usize, until: Micros) {
        self.cuts.insert(server, until);
    }

    pub(crate) fn mend(&mut self) {
        self.cuts.clear();
    }

    /// H of its session.
    fn lease_us(&self) -> Micros {
        (u64::from(self.timeout_ms) / 3).clamp(ELECTION_MS, 3 * ELECTION_MS) * 1_000
    }

    pub(crate) fn is_up(&self) -> bool {
        matches!(self.link, Link::Up { .. })
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.is_up() && self.pending.is_empty() && !self.is_rearming
    }

    /// Its session, if it believes to have one.
    pub(crate) fn session(&self) -> Option<SessionId> {
        self.session.map(|session| session.id)
    }
}

impl World {
    /// Has a client look at its clock at this time; an earlier plan is void.
    pub(crate) fn client_at(&mut self, client: usize, at: Micros) {
        self.clients[client].turn += 1;
        let number = self.clients[client].turn;
        self.at_time(at, Event::ClientTurn { client, number });
    }

    pub(crate) fn client_turn(&mut self, client: usize, number: u64) {
        if self.clients[client].turn != number {
            return;
        }
        let now = self.now;
        let timeout = Micros::from(self.clients[client].timeout_ms) * 1_000;
        let Client { link, last_heard, last_sent, .. } = self.clients[client];
        match link {
            Link::Down { retry } if retry <= now => self.ask_session(client),
            Link::Down { .. } => {}
            Link::Asking { socket, since } => {
                if now > since + timeout / 3 {
                    self.hang_up(client, socket);
                }
            }
            Link::Up { socket } => {
                if now > last_heard + timeout * 2 / 3 {
                    self.hang_up(client, socket);
                } else {
                    if now >= last_sent + timeout / 3 {
                        self.send(client, Xid::PING.0, &Request::Ping);
                    }
                    self.work(client);
                }
            }
        }
        let Client { link, next_request, last_sent, .. } = self.clients[client];
        let next = match link {
            Link::Down { retry } => retry,
            Link::Asking { .. } => now + LOOK_US,
            Link::Up { .. } => {
                (now + LOOK_US).min(next_request.max(now + 100)).min((last_sent + timeout / 3).max(now + 100))
            }
        };
        self.client_at(client, next);
    }

    fn ask_session(&mut self, client: usize) {
        let servers = self.servers.len() as u64;
        let server = self.random.below(servers) as usize;
        let socket = self.connect(client, server);
        let Client { session, last_zxid, timeout_ms, .. } = self.clients[client];
        let mut bytes = Vec::new();
        let zeros = [0; 16];
        ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: Zxid(last_zxid),
            timeout_ms: timeout_ms as i32,
            session: session.map_or(SessionId::NONE, |session| session.id),
            password: Some(session.as_ref().map_or(&zeros, |session| &session.password)),
            read_only: Some(false),
        }
        .encode(&mut bytes);
        self.note(format_args!("c{client} asks s{} for session {:?}", server + 1, session.map(|s| s.id)));
        self.client_sends(socket, bytes);
        self.clients[client].link = Link::Asking { socket, since: self.now };
        self.clients[client].input.clear();
    }

    /// The client closes its connection and looks for another.
    fn hang_up(&mut self, client: usize, socket: usize) {
        self.note(format_args!("c{client} gives its connection up"));
        self.client_closes(socket);
        self.connection_lost(client);
    }

    /// The server, or the network, has closed a connection.
    pub(crate) fn client_disconnected(&mut self, socket: usize) {
        let client = self.sockets[socket].client;
        match self.clients[client].link {
            Link::Asking { socket: current, .. } | Link::Up { socket: current } if current == socket => {
                self.note(format_args!("c{client} is disconnected"));
                self.connection_lost(client);
            }
            _ => {}
        }
    }

    fn connection_lost(&mut self, client: usize) {
        let retry = self.now + self.random.between(1_000, 300_000);
        self.clients[client].link = Link::Down { retry };
        self.clients[client].is_rearming = false;
        for sent in std::mem::take(&mut self.clients[client].pending) {
            self.unanswered(client, sent.what);
        }
        self.client_at(client, retry);
    }

    fn send(&mut self, client: usize, xid: i32, request: &Request<'_>) {
        let Link::Up { socket } = self.clients[client].link else { return };
        let mut bytes = Vec::new();
        request.encode(Xid(xid), &mut bytes);
        self.client_sends(socket, bytes);
        self.clients[client].last_sent = self.now;
    }

    /// Sends a request and remembers what it is about.
    fn request(&mut self, client: usize, what: What, request: &Request<'_>) {
        let lease = self.clients[client].lease_us();
        let floor = self.promises.zxids.floor(self.now);
        let stale_floor = self.promises.zxids.floor(self.now.saturating_sub(lease + 50_000));
        let state = &mut self.clients[client];
        state.xid += 1;
        let xid = state.xid;
        state.pending.push_back(Sent { xid, what, floor, stale_floor });
        self.outcome.requests += 1;
        self.send(client, xid, request);
    }

    pub(crate) fn client_receives(&mut self, socket: usize, bytes: &[u8]) {
        let client = self.sockets[socket].client;
        match self.clients[client].link {
            Link::Asking { socket: current, .. } | Link::Up { socket: current } if current == socket => {}
            _ => return,
        }
        self.clients[client].last_heard = self.now;
        self.clients[client].input.extend_from_slice(bytes);
        loop {
            let input = &self.clients[client].input;
            let frame::Scan::Frame(range) = frame::scan(input, usize::MAX) else { break };
            let payload = input[range.clone()].to_vec();
            self.clients[client].input.drain(..range.end);
            match self.clients[client].link {
                Link::Asking { .. } => self.handshake_answered(client, socket, &payload),
                Link::Up { .. } => self.frame_received(client, &payload),
                Link::Down { .. } => return,
            }
        }
    }

    fn handshake_answered(&mut self, client: usize, socket: usize, payload: &[u8]) {
        let answer = match ConnectResponse::decode(payload) {
            Ok(answer) => answer,
            Err(error) => return self.fail(format!("client {client} cannot read a handshake: {error}")),
        };
        if answer.is_expired() {
            self.note(format_args!("c{client} is told that its session has expired"));
            let Some(session) = self.clients[client].session.take() else {
                return self.fail(format!("client {client} is refused a new session"));
            };
            let result = self.promises.sessions.told_expired(session.id);
            self.check(result);
            self.outcome.expired += 1;
            self.forget_watches(client);
            return self.connection_lost(client);
        }
        let password = answer.password.and_then(|password| password.try_into().ok()).unwrap_or_default();
        let had = self.clients[client].session.replace(Session { id: answer.session, password });
        if had.is_some_and(|had| had.id != answer.session) {
            return self.fail(format!("client {client} gets another session than it asked for"));
        }
        self.note(format_args!("c{client} has session {}", answer.session));
        self.outcome.connections += 1;
        self.sockets[socket].session = answer.session;
        self.clients[client].link = Link::Up { socket };
        if had.is_some() && !self.clients[client].watches.is_empty() {
            let paths: Vec<String> =
                self.clients[client].watches.keys().map(|&of| workload::counter(of)).collect();
            let relative_zxid = Zxid(self.clients[client].last_zxid);
            let data = paths.iter().map(|path| path.as_str().into()).collect();
            let watches = SetWatches { relative_zxid, data, exist: vec![], child: vec![] };
            self.clients[client].is_rearming = true;
            self.send(client, Xid::SET_WATCHES.0, &Request::SetWatches(watches));
        }
        if self.clients[client].is_linearizable {
            let wish = Request::Auth { scheme: Some("ostler".into()), auth: Some(b"reads=linearizable") };
            self.send(client, Xid::AUTH.0, &wish);
        }
        self.client_at(client, self.now + 10);
    }

    fn frame_received(&mut self, client: usize, payload: &[u8]) {
        let Ok((header, body)) = ReplyHeader::decode(payload) else {
            return self.fail(format!("client {client} cannot read a frame"));
        };
        let zxid = header.zxid.0;
        let xid = header.xid;
        // Answers to authentication and events found by setWatches carry no place in the order.
        if zxid > 0 {
            if zxid < self.clients[client].last_zxid {
                return self.fail(format!(
                    "client {client} is shown zxid {zxid:#x} after {:#x}",
                    self.clients[client].last_zxid
                ));
            }
            self.clients[client].last_zxid = zxid;
        }
        if xid == Xid::NOTIFICATION {
            return self.event_received(client, zxid, body);
        }
        if zxid > 0 && !self.clients[client].is_rearming {
            for armed in self.clients[client].watches.values_mut() {
                armed.until = armed.until.max(zxid);
            }
        }
        if let Some(session) = self.clients[client].session {
            let lease = self.clients[client].lease_us() + 20_000;
            let result = self.promises.sessions.served(session.id, self.now, lease);
            self.check(result);
        }
        match xid {
            Xid::PING => {}
            Xid::SET_WATCHES => self.clients[client].is_rearming = false,
            Xid::AUTH => {
                if header.err != 0 {
                    self.fail(format!("client {client}: authentication fails"));
                }
            }
            _ => {
                let Some(sent) = self.clients[client].pending.pop_front() else {
                    return self.fail(format!("client {client} gets an answer to nothing"));
                };
                if sent.xid != xid.0 {
                    return self.fail(format!("client {client} gets answer {} before {}", xid.0, sent.xid));
                }
                self.outcome.answers += 1;
                let result = self.answered(client, &sent, header, body);
                self.check(result);
                // The next one goes out when there is room.
                let soon = self.now + self.random.between(0, 2_000);
                if self.clients[client].next_request <= soon {
                    self.client_at(client, soon);
                }
            }
        }
    }

    fn event_received(&mut self, client: usize, zxid: i64, body: &[u8]) {
        let event = match ostler_wire::WatchEvent::decode(body) {
            Ok(event) => event,
            Err(error) => return self.fail(format!("client {client} cannot read an event: {error}")),
        };
        let of = event.path.strip_prefix("/c").and_then(|number| number.parse::<usize>().ok());
        self.promises.watches.events += 1;
        match of.and_then(|of| self.clients[client].watches.remove(&of).map(|armed| (of, armed))) {
            Some((counter, armed)) => {
                if zxid > 0 && zxid <= armed.since {
                    return self.fail(format!("client {client} is told of a change it had seen: {zxid:#x}"));
                }
                let Armed { since, until } = armed;
                self.promises.watches.record(Watched { by: client, counter, since, until });
            }
            None => self
                .fail(format!("client {client} gets an event for {}, which it does not watch", event.path)),
        }
    }

    /// Watches end with their session.
    fn forget_watches(&mut self, client: usize) {
        for (counter, Armed { since, until }) in std::mem::take(&mut self.clients[client].watches) {
            self.promises.watches.record(Watched { by: client, counter, since, until });
        }
    }

    /// At the end of a run.
    pub(crate) fn settle_watches(&mut self) {
        for client in 0..self.clients.len() {
            self.forget_watches(client);
        }
    }
}
