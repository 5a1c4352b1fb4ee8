//! What the model remembers: the log, the two servers, the client.

use super::{Judge, Rules};
use crate::list::List;

/// One of the client's writes, from 1. The client never repeats one: what it does not see answered is in doubt.
pub(super) type Write = u8;

/// A command in the log, or on its way to it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) enum Command {
    /// An empty place of a list. Never sent.
    #[default]
    Nothing,
    /// Create the session for this connection of the client.
    Create { server: u8, connection: u8 },
    /// Make this connection the session's.
    Attach { server: u8, connection: u8, seen_generation: u8 },
    /// A write, with its number and the identities it is made under.
    Write { generation: u8, sequence: u8, write: Write, identities: u8, closes: bool },
    /// End the session.
    Expire { generation: u8 },
}

/// What applying a command came to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It had its effect.
    Done,
    /// There is no such session any more.
    NoSession,
    /// It is void: a duplicate, a gap, of another generation.
    Void,
}

/// The session as replicated state.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Session {
    pub(super) lives: bool,
    /// How many sessions the first server's lane has created.
    pub(super) lane: u8,
    pub(super) generation: u8,
    /// Last applied sequence of that generation.
    pub(super) sequence: u8,
    /// The client's connection that owns the session. Only properties look at it.
    pub(super) connection: u8,
}

impl Session {
    /// Applies one command, on every server alike.
    pub(super) fn apply(&mut self, command: Command, rules: &Rules) -> Outcome {
        match command {
            Command::Nothing => Outcome::Void,
            Command::Create { connection, .. } => {
                // The client creates one session: it has the first number in the lane.
                if self.lives || (rules.create_in_lane && self.lane != 0) {
                    return Outcome::Void;
                }
                let generation = self.generation + 1;
                *self = Session { lives: true, lane: 1, generation, sequence: 0, connection };
                Outcome::Done
            }
            _ if !self.lives => Outcome::NoSession,
            Command::Attach { connection, seen_generation, .. } => {
                if rules.attach_names_generation && seen_generation != self.generation {
                    return Outcome::Void;
                }
                self.generation += 1;
                self.sequence = 0;
                self.connection = connection;
                Outcome::Done
            }
            Command::Write { generation, sequence, closes, .. } => {
                let due = match rules.judge {
                    Judge::ExactlyNext => sequence == self.sequence + 1,
                    Judge::AnyLarger => sequence > self.sequence,
                    Judge::Everything => true,
                };
                let owned = generation == self.generation || !rules.write_names_generation;
                if !owned || !due {
                    return Outcome::Void;
                }
                self.sequence = sequence;
                self.lives = !closes;
                Outcome::Done
            }
            Command::Expire { generation } => {
                if rules.expire_names_generation && generation != self.generation {
                    return Outcome::Void;
                }
                self.lives = false;
                Outcome::Done
            }
        }
    }
}

/// A numbered write that waits for its outcome.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Pending {
    pub(super) sequence: u8,
    pub(super) write: Write,
    pub(super) identities: u8,
}

/// Something a client has sent on a connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) enum Request {
    #[default]
    AddAuth,
    Write(Write),
}

/// A connection, as its server sees it.
#[derive(Clone, Copy, Hash, Default)]
pub(super) struct Connection {
    /// The client's own count of its connections, from 1.
    pub(super) number: u8,
    /// Whether its ConnectRequest asks for a new session.
    pub(super) creates: bool,
    /// Whether its ConnectRequest has been handled.
    pub(super) handled: bool,
    /// The generation seen then.
    pub(super) seen_generation: u8,
    /// Its generation, 0 until its attach is applied.
    pub(super) generation: u8,
    /// How many writes it has numbered.
    pub(super) numbered: u8,
    /// How many identities it has added.
    pub(super) identities: u8,
    pub(super) received: List<Request, 6>,
    pub(super) pending: List<Pending, 4>,
}

impl Connection {
    pub(super) fn is_attached(&self) -> bool {
        self.generation != 0
    }
}

/// A server that has clients.
#[derive(Clone, Copy, Hash, Default)]
pub(super) struct Server {
    /// Entries of [`State::log`] that it has applied.
    pub(super) applied: u8,
    pub(super) connections: List<Connection, 4>,
    /// What is on its way to the leader.
    pub(super) link: List<Command, 8>,
    /// What was on its way when the link broke or the leader changed, and may still arrive.
    pub(super) old_link: List<Command, 8>,
    /// Whether everything pending has to be forwarded again before anything else is.
    pub(super) must_reforward: bool,
}

/// What the client is doing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub(super) enum Phase {
    /// It has sent a ConnectRequest.
    #[default]
    Connecting,
    Connected,
    /// It has no connection and is going to open one.
    Disconnected,
    /// It knows that its session has ended.
    Ended,
}

/// The client, and what only properties look at.
#[derive(Clone, Copy, Hash, Default)]
pub(super) struct Client {
    pub(super) phase: Phase,
    /// Its newest connection.
    pub(super) connection: u8,
    pub(super) has_session: bool,
    /// How many writes it has sent.
    pub(super) sent: u8,
    /// The writes that were answered, as bits.
    pub(super) answered: u8,
    /// How many identities it has added.
    pub(super) identities: u8,
    /// How many entries of [`State::log`] the newest state covers that it has seen.
    pub(super) seen: u8,
    /// On which connection each write was sent.
    pub(super) sent_on: [u8; 5],
    /// Under how many identities.
    pub(super) sent_under: [u8; 5],
}

/// What has become of the client's writes in the committed log. Only properties look at it.
#[derive(Clone, Copy, Hash, Default)]
pub(super) struct History {
    /// The applied writes, as bits.
    pub(super) applied: u8,
    pub(super) newest: Write,
    pub(super) ended: bool,
    /// How often an attach has cost the client its newest connection.
    pub(super) thrown_out: u8,
}

/// How often things have gone wrong so far.
#[derive(Clone, Copy, Hash, Default)]
pub(super) struct Faults {
    pub(super) connection_losses: u8,
    pub(super) leader_changes: u8,
    pub(super) broken_links: u8,
    pub(super) drops: u8,
    pub(super) snapshots: u8,
    pub(super) crashes: u8,
    pub(super) expiries: u8,
}

/// Everything at one moment.
#[derive(Clone, Copy, Hash, Default)]
pub struct State {
    /// The session before the first entry of `log`.
    pub(super) base: Session,
    /// The entries that not every server has applied. Older ones are in `base`.
    pub(super) log: List<Command, 20>,
    /// How many of them are committed.
    pub(super) committed: u8,
    pub(super) servers: [Server; 2],
    pub(super) client: Client,
    pub(super) history: History,
    pub(super) faults: Faults,
}

impl State {
    /// The session after the first `entries` of the log.
    pub(super) fn session_at(&self, entries: u8, rules: &Rules) -> Session {
        let mut session = self.base;
        for &command in &self.log[..usize::from(entries)] {
            session.apply(command, rules);
        }
        session
    }

    /// Forgets what every server has applied, so that histories with the same present are the same state.
    pub(super) fn compact(&mut self, rules: &Rules) {
        let applied = self.servers.iter().map(|server| server.applied);
        let done = applied.fold(self.committed, u8::min);
        if done == 0 {
            return;
        }
        self.base = self.session_at(done, rules);
        for _ in 0..done {
            self.log.remove(0);
        }
        self.committed -= done;
        for server in &mut self.servers {
            server.applied -= done;
        }
        self.client.seen = self.client.seen.saturating_sub(done);
    }
}
