//! Virtual time: what happens next, to whom, and what becomes of it.

use std::collections::BTreeMap;
use std::fmt::Arguments;

use bytes::Bytes;

use crate::client::Client;
use crate::faults::Fault;
use crate::network::{Network, Socket};
use crate::promises::Promises;
use crate::server::Server;
use crate::{Failure, Micros, Options, Outcome, Plant, Random, Scenario, Trace};

/// Something that is going to happen.
pub(crate) enum Event {
    /// The thread of a server's core has its turn.
    CoreTurn { server: usize, life: u64 },
    /// The thread of one of its shards has.
    ShardTurn { server: usize, life: u64, shard: usize },
    /// Its disk is done with what it was given.
    LogDone { server: usize, life: u64 },
    /// Its snapshot thread has its turn.
    SnapshotStep { server: usize, life: u64 },
    /// A snapshot has arrived, or not.
    Fetched { server: usize, life: u64, index: u64 },
    /// A frame arrives at a server.
    PeerFrame { from: usize, to: usize, epoch: u64, life: u64, bytes: Bytes },
    /// The end of a link is noticed.
    LinkDown { server: usize, life: u64, peer: usize, is_gone: bool },
    /// Two servers try to reach each other.
    LinkTry { a: usize, b: usize },
    /// A link has been established.
    LinkUp { server: usize, life: u64, peer: usize, epoch: u64 },
    /// A silent partition has lasted so long that the link is given up.
    LinkTimeout { a: usize, b: usize, epoch: u64 },
    /// A client's connection is accepted.
    Accept { socket: usize },
    /// Bytes arrive at a server's socket.
    ToServer { socket: usize, bytes: Vec<u8> },
    /// Bytes arrive at a client's.
    ToClient { socket: usize, bytes: Vec<u8> },
    /// The client has closed its end.
    ClosedByClient { socket: usize },
    /// The server has.
    ClosedByServer { socket: usize },
    /// A client looks at its clock.
    ClientTurn { client: usize, number: u64 },
    /// Something goes wrong, or right again.
    Fault(Fault),
}

/// A whole ensemble with its clients. See the module's documentation.
pub(crate) struct World {
    pub(crate) options: Options,
    pub(crate) now: Micros,
    pub(crate) random: Random,
    queue: BTreeMap<(Micros, u64), Event>,
    queued: u64,
    pub(crate) trace: Trace,
    pub(crate) servers: Vec<Server>,
    pub(crate) network: Network,
    pub(crate) sockets: Vec<Socket>,
    pub(crate) clients: Vec<Client>,
    pub(crate) promises: Promises,
    pub(crate) failure: Option<String>,
    /// No more faults, and what was broken is mended.
    pub(crate) is_calm: bool,
    /// Clients send nothing new.
    pub(crate) is_quiet: bool,
    /// Something is, or was, wrong with servers or their network until then.
    pub(crate) trouble_until: Micros,
    /// The next death leaves the machine running.
    pub(crate) is_gentle_death: bool,
    pub(crate) outcome: Outcome,
}

impl World {
    pub(crate) fn new(options: Options, trace: Trace) -> World {
        let mut random = Random::new(options.seed);
        let spares = u8::from(options.scenario == Scenario::Membership);
        let servers: Vec<Server> =
            (1..=options.servers + spares).map(|id| Server::new(id, &mut random)).collect();
        let network = Network::new(servers.len());
        let mut world = World {
            now: 0,
            random,
            queue: BTreeMap::new(),
            queued: 0,
            trace,
            servers,
            network,
            sockets: Vec::new(),
            clients: Vec::new(),
            promises: Promises::default(),
            failure: None,
            is_calm: false,
            is_quiet: false,
            trouble_until: 0,
            is_gentle_death: false,
            outcome: Outcome::default(),
            options,
        };
        let founders = usize::from(world.options.servers);
        let members = world.servers[..founders].iter().map(|server| (server.id, server.node)).collect();
        world.servers[..founders].iter().for_each(|server| server.found(&members));
        world.servers[founders..].iter().for_each(Server::prepare_to_join);
        if world.options.plant == Some(Plant::FastClocks) {
            world.servers.iter_mut().for_each(|server| server.clock.speed_up(300));
        }
        for server in 0..world.servers.len() {
            world.start(server);
        }
        for a in 0..world.servers.len() {
            for b in 0..a {
                world.at(1_000, Event::LinkTry { a, b });
            }
        }
        for number in 0..world.options.clients {
            let client = Client::new(&mut world.random);
            world.clients.push(client);
            let first = world.random.between(1, 2_000_000);
            world.client_at(number, first);
        }
        world
    }

    /// Runs for so long, or until a promise is broken.
    pub(crate) fn run_until(&mut self, end: Micros) {
        while self.failure.is_none() {
            let Some(entry) = self.queue.first_entry() else { break };
            let at = entry.key().0;
            if at > end {
                break;
            }
            let event = entry.remove();
            self.now = at;
            self.outcome.events += 1;
            self.happen(event);
        }
        self.now = self.now.max(end);
    }

    /// Has something happen after a delay.
    pub(crate) fn at(&mut self, delay: Micros, event: Event) {
        self.at_time(self.now + delay, event);
    }

    pub(crate) fn at_time(&mut self, at: Micros, event: Event) {
        self.queued += 1;
        self.queue.insert((at.max(self.now), self.queued), event);
    }

    pub(crate) fn note(&mut self, what: Arguments<'_>) {
        self.trace.note(self.now, what);
    }

    /// A promise is broken.
    pub(crate) fn fail(&mut self, why: String) {
        if self.failure.is_none() {
            self.note(format_args!("FAILED: {why}"));
            self.failure = Some(why);
        }
    }

    pub(crate) fn check(&mut self, result: Result<(), String>) {
        if let Err(why) = result {
            self.fail(why);
        }
    }

    /// Whether the process that an event is for is still the same one.
    pub(crate) fn lives(&self, server: usize, life: u64) -> bool {
        self.servers[server].life == life && self.servers[server].process.is_some()
    }

    fn happen(&mut self, event: Event) {
        // What runs in a paused process waits. Sockets go on filling: they are the system's.
        if let Event::CoreTurn { server, life }
        | Event::ShardTurn { server, life, .. }
        | Event::LogDone { server, life }
        | Event::SnapshotStep { server, life }
        | Event::Fetched { server, life, .. } = event
        {
            if !self.lives(server, life) {
                return;
            }
            let until = self.servers[server].paused_until;
            if until > self.now {
                return self.at_time(until, event);
            }
        }
        match event {
            Event::CoreTurn { server, .. } => self.core_turn(server),
            Event::ShardTurn { server, shard, .. } => self.shard_turn(server, shard),
            Event::LogDone { server, .. } => self.log_done(server),
            Event::SnapshotStep { server, .. } => self.snapshot_step(server),
            Event::Fetched { server, index, .. } => self.fetched(server, index),
            Event::PeerFrame { from, to, epoch, life, bytes } => {
                self.peer_frame(from, to, epoch, life, bytes)
            }
            Event::LinkDown { server, life, peer, is_gone } => self.link_down(server, life, peer, is_gone),
            Event::LinkTry { a, b } => self.link_try(a, b),
            Event::LinkUp { server, life, peer, epoch } => self.link_up(server, life, peer, epoch),
            Event::LinkTimeout { a, b, epoch } => self.link_timeout(a, b, epoch),
            Event::Accept { socket } => self.accept(socket),
            Event::ToServer { socket, bytes } => self.arrives_at_server(socket, bytes),
            Event::ToClient { socket, bytes } => self.arrives_at_client(socket, bytes),
            Event::ClosedByClient { socket } => self.closed_by_client(socket),
            Event::ClosedByServer { socket } => self.closed_by_server(socket),
            Event::ClientTurn { client, number } => self.client_turn(client, number),
            Event::Fault(fault) => self.fault(fault),
        }
    }

    /// What became of the run.
    pub(crate) fn finish(mut self) -> Result<Outcome, Box<Failure>> {
        self.outcome.trace_hash = self.trace.hash();
        self.outcome.virtual_ms = self.now / 1_000;
        self.outcome.entries = self.promises.history.len() as u64;
        match self.failure {
            None => Ok(self.outcome),
            Some(why) => Err(Box::new(Failure {
                seed: self.options.seed,
                why,
                tail: self.trace.tail().map(str::to_owned).collect(),
            })),
        }
    }
}
