//! Links between servers and clients' connections: ordered, with delays; slow, broken, or silently cut.

use bytes::Bytes;
use ostler_types::SessionId;

use crate::Micros;
use crate::server::Mail;
use crate::world::{Event, World};

/// What a frame takes at least and at most.
const DELAY_US: (Micros, Micros) = (50, 600);
/// A link on which nothing gets through is given up after this.
const KEEPALIVE_US: Micros = 3_000_000;
/// Time between attempts to reach a peer.
const RETRY_US: Micros = 150_000;

/// One direction between two servers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Way {
    /// Nothing arrives before: a silent partition.
    pub(crate) blocked_until: Micros,
    /// Each frame takes this much longer, until then.
    pub(crate) slow: (Micros, Micros),
    /// When the last one arrives.
    last: Micros,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Network {
    servers: usize,
    ways: Vec<Way>,
    /// Per pair: counts links, odd while one is up.
    epochs: Vec<u64>,
}

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) client: usize,
    pub(crate) server: usize,
    /// Of the process that accepted it.
    pub(crate) life: u64,
    pub(crate) shard: usize,
    /// The shard's number for it, while the server has it.
    pub(crate) at_server: Option<u32>,
    /// The client has it.
    pub(crate) at_client: bool,
    pub(crate) received: Vec<u8>,
    pub(crate) is_ready: bool,
    /// The session it serves, once the client knows.
    pub(crate) session: SessionId,
    /// Nothing gets through before, either way.
    pub(crate) blocked_until: Micros,
    last_to_server: Micros,
    last_to_client: Micros,
}

impl Network {
    pub(crate) fn new(servers: usize) -> Network {
        let pairs = servers * servers;
        Network { servers, ways: vec![Way::default(); pairs], epochs: vec![0; pairs] }
    }

    pub(crate) fn way(&mut self, from: usize, to: usize) -> &mut Way {
        &mut self.ways[from * self.servers + to]
    }

    fn epoch(&mut self, a: usize, b: usize) -> &mut u64 {
        &mut self.epochs[a.min(b) * self.servers + a.max(b)]
    }

    pub(crate) fn is_up(&mut self, a: usize, b: usize) -> bool {
        *self.epoch(a, b) % 2 == 1
    }

    pub(crate) fn epoch_of(&mut self, a: usize, b: usize) -> u64 {
        *self.epoch(a, b)
    }

    /// Whether nothing is wrong with any link at `now`.
    pub(crate) fn is_whole(&self, now: Micros) -> bool {
        self.ways.iter().all(|way| way.blocked_until <= now && way.slow.0 <= now)
            && (0..self.servers).all(|b| (0..b).all(|a| self.epochs[a * self.servers + b] % 2 == 1))
    }

    /// Nothing is slow any more.
    pub(crate) fn heal(&mut self) {
        self.ways.iter_mut().for_each(|way| way.slow = (0, 0));
    }

    /// When everything gets through again.
    pub(crate) fn blocked_until(&self) -> Micros {
        self.ways.iter().map(|way| way.blocked_until).max().unwrap_or(0)
    }
}

impl World {
    /// A frame leaves; if it cannot, the core is told, or finds out by the link's end.
    pub(crate) fn send_frame(&mut self, from: usize, node: u64, bytes: Bytes, must_deliver: bool) {
        let Some(to) = self.servers.iter().position(|server| server.node == node) else { return };
        let epoch = self.network.epoch_of(from, to);
        let known = self.servers[from].process.as_ref().and_then(|process| process.links.get(&to).copied());
        if known != Some(epoch) || epoch.is_multiple_of(2) {
            if !must_deliver {
                self.mail(from, Mail::Unreachable { node });
            }
            return;
        }
        let life = self.servers[to].life;
        let delay = self.random.between(DELAY_US.0, DELAY_US.1);
        let now = self.now;
        let way = self.network.way(from, to);
        let extra = if way.slow.0 > now { way.slow.1 } else { 0 };
        way.last = way.last.max(now + delay + extra);
        let at = way.last;
        self.at_time(at, Event::PeerFrame { from, to, epoch, life, bytes });
    }

    pub(crate) fn peer_frame(&mut self, from: usize, to: usize, epoch: u64, life: u64, bytes: Bytes) {
        // Lost with its link.
        if !self.lives(to, life) || self.network.epoch_of(from, to) != epoch {
            return;
        }
        let blocked_until = self.network.way(from, to).blocked_until;
        if blocked_until > self.now {
            return self.at_time(blocked_until, Event::PeerFrame { from, to, epoch, life, bytes });
        }
        let node = self.servers[from].node;
        self.mail(to, Mail::Frame { node, bytes });
    }

    /// Breaks the link between two servers; both notice.
    pub(crate) fn break_link(&mut self, a: usize, b: usize, is_gone: bool) {
        if !self.network.is_up(a, b) {
            return;
        }
        *self.network.epoch(a, b) += 1;
        for (server, peer) in [(a, b), (b, a)] {
            let life = self.servers[server].life;
            let delay = self.random.between(50, 2_000);
            self.at(delay, Event::LinkDown { server, life, peer, is_gone });
        }
        let retry = self.random.between(20_000, RETRY_US);
        self.at(retry, Event::LinkTry { a, b });
    }

    pub(crate) fn link_down(&mut self, server: usize, life: u64, peer: usize, is_gone: bool) {
        if self.lives(server, life) {
            self.mail(server, Mail::LinkDown { peer, is_gone });
        }
    }

    pub(crate) fn link_try(&mut self, a: usize, b: usize) {
        if self.network.is_up(a, b) {
            return;
        }
        let now = self.now;
        let blocked =
            self.network.way(a, b).blocked_until > now || self.network.way(b, a).blocked_until > now;
        let paused = [a, b].iter().any(|&server| self.servers[server].paused_until > now);
        if self.servers[a].process.is_none() || self.servers[b].process.is_none() || blocked || paused {
            return self.at(RETRY_US, Event::LinkTry { a, b });
        }
        *self.network.epoch(a, b) += 1;
        let epoch = self.network.epoch_of(a, b);
        for (server, peer) in [(a, b), (b, a)] {
            let life = self.servers[server].life;
            let delay = self.random.between(2_000, 5_000);
            self.at(delay, Event::LinkUp { server, life, peer, epoch });
        }
    }

    pub(crate) fn link_up(&mut self, server: usize, life: u64, peer: usize, epoch: u64) {
        if self.lives(server, life) && self.network.epoch_of(server, peer) == epoch {
            self.mail(server, Mail::LinkUp { peer, epoch });
        }
    }

    /// Nothing gets from one server to another for a while, and nobody is told, unless it takes long.
    pub(crate) fn block(&mut self, from: usize, to: usize, until: Micros) {
        let way = self.network.way(from, to);
        way.blocked_until = way.blocked_until.max(until);
        let epoch = self.network.epoch_of(from, to);
        if until > self.now + KEEPALIVE_US {
            self.at(KEEPALIVE_US, Event::LinkTimeout { a: from, b: to, epoch });
        }
    }

    pub(crate) fn link_timeout(&mut self, a: usize, b: usize, epoch: u64) {
        let now = self.now;
        let blocked =
            self.network.way(a, b).blocked_until > now || self.network.way(b, a).blocked_until > now;
        if blocked && self.network.epoch_of(a, b) == epoch {
            self.break_link(a, b, false);
        }
    }

    /// A client opens a connection. Returns its number.
    pub(crate) fn connect(&mut self, client: usize, server: usize) -> usize {
        let shard = self.random.below(self.options.shards as u64) as usize;
        let delay = self.random.between(DELAY_US.0, DELAY_US.1);
        let socket = self.sockets.len();
        self.sockets.push(Socket {
            client,
            server,
            life: 0,
            shard,
            at_server: None,
            at_client: true,
            received: Vec::new(),
            is_ready: false,
            session: SessionId::NONE,
            blocked_until: self.clients[client].cut_from(server),
            last_to_server: self.now + delay,
            last_to_client: self.now + delay,
        });
        self.at(delay, Event::Accept { socket });
        socket
    }

    /// Bytes leave a client.
    pub(crate) fn client_sends(&mut self, socket: usize, bytes: Vec<u8>) {
        let delay = self.random.between(DELAY_US.0, DELAY_US.1);
        let way = &mut self.sockets[socket];
        way.last_to_server = way.last_to_server.max(self.now + delay);
        let at = way.last_to_server;
        self.at_time(at, Event::ToServer { socket, bytes });
    }

    /// Bytes leave a server.
    pub(crate) fn server_sends(&mut self, socket: usize, bytes: Vec<u8>) {
        let delay = self.random.between(DELAY_US.0, DELAY_US.1);
        let way = &mut self.sockets[socket];
        way.last_to_client = way.last_to_client.max(self.now + delay);
        let at = way.last_to_client;
        self.at_time(at, Event::ToClient { socket, bytes });
    }

    /// The server closes a connection, behind what it has sent.
    pub(crate) fn server_closes(&mut self, socket: usize) {
        self.sockets[socket].at_server = None;
        let delay = self.random.between(DELAY_US.0, DELAY_US.1);
        let way = &mut self.sockets[socket];
        way.last_to_client = way.last_to_client.max(self.now + delay);
        let at = way.last_to_client;
        self.at_time(at, Event::ClosedByServer { socket });
    }

    /// The client gives a connection up.
    pub(crate) fn client_closes(&mut self, socket: usize) {
        self.sockets[socket].at_client = false;
        let way = &mut self.sockets[socket];
        way.last_to_server = way.last_to_server.max(self.now + 100);
        let at = way.last_to_server;
        self.at_time(at, Event::ClosedByClient { socket });
    }

    /// When something on a connection gets through that cannot now.
    fn held_until(&self, socket: usize) -> Option<Micros> {
        let until = self.sockets[socket].blocked_until;
        (until > self.now).then_some(until)
    }

    pub(crate) fn accept(&mut self, socket: usize) {
        if let Some(until) = self.held_until(socket) {
            return self.at_time(until, Event::Accept { socket });
        }
        let Socket { server, shard, at_client, .. } = self.sockets[socket];
        let now = self.servers[server].clock.now(self.now);
        let life = self.servers[server].life;
        let Some(process) = &mut self.servers[server].process else {
            // Refused: nobody listens.
            return self.at(200, Event::ClosedByServer { socket });
        };
        if process.stopping || !at_client {
            return self.at(200, Event::ClosedByServer { socket });
        }
        let address = std::net::SocketAddr::from(([127, 0, 1, 1], 4_000));
        let id = process.workers[shard].shard.open(address, now);
        process.workers[shard].sockets.insert(id.0, socket);
        self.sockets[socket].at_server = Some(id.0);
        self.sockets[socket].life = life;
        self.wake_shard(server, shard);
    }

    pub(crate) fn arrives_at_server(&mut self, socket: usize, bytes: Vec<u8>) {
        if let Some(until) = self.held_until(socket) {
            return self.at_time(until, Event::ToServer { socket, bytes });
        }
        let Socket { server, shard, life, at_server, .. } = self.sockets[socket];
        if at_server.is_none() || !self.lives(server, life) {
            return;
        }
        self.sockets[socket].received.extend(bytes);
        self.make_ready(socket);
        self.wake_shard(server, shard);
    }

    pub(crate) fn make_ready(&mut self, socket: usize) {
        let Socket { server, shard, is_ready, .. } = self.sockets[socket];
        if !is_ready && let Some(process) = &mut self.servers[server].process {
            self.sockets[socket].is_ready = true;
            process.workers[shard].ready.push(socket);
        }
    }

    pub(crate) fn closed_by_client(&mut self, socket: usize) {
        if let Some(until) = self.held_until(socket) {
            return self.at_time(until, Event::ClosedByClient { socket });
        }
        let Socket { server, shard, life, at_server, .. } = self.sockets[socket];
        let Some(id) = at_server.filter(|_| self.lives(server, life)) else { return };
        self.sockets[socket].at_server = None;
        let now = self.servers[server].clock.now(self.now);
        let process = self.servers[server].process.as_mut().expect("it lives");
        process.workers[shard].sockets.remove(&id);
        let end = ostler_node::ConnectionEnd::PeerClosed;
        process.workers[shard].shard.remove(ostler_node::ConnId(id), end, now);
        self.wake_shard(server, shard);
    }

    pub(crate) fn arrives_at_client(&mut self, socket: usize, bytes: Vec<u8>) {
        if let Some(until) = self.held_until(socket) {
            return self.at_time(until, Event::ToClient { socket, bytes });
        }
        if self.sockets[socket].at_client {
            self.client_receives(socket, &bytes);
        }
    }

    pub(crate) fn closed_by_server(&mut self, socket: usize) {
        if let Some(until) = self.held_until(socket) {
            return self.at_time(until, Event::ClosedByServer { socket });
        }
        if std::mem::take(&mut self.sockets[socket].at_client) {
            self.client_disconnected(socket);
        }
    }
}
