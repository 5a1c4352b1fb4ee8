//! What can happen next, and what comes of it.

use super::state::{Client, Command, Connection, Outcome, Pending, Phase, Request, Server, State, Write};
use super::{AtSnapshot, Bounds, Forwarding, Property, Rules};
use crate::search::Model;

/// One thing that can happen. Servers and their connections are numbered from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The client sends its next write.
    ClientWrites,
    /// The client sends an addauth.
    ClientAddsAuth,
    /// The client opens a connection to this server.
    ClientConnects(u8),
    /// The client gives up its connection; the server does not notice.
    ClientLosesConnection,
    /// The server handles the ConnectRequest of a connection.
    Handle {
        /// The server.
        server: u8,
        /// Which of its connections.
        connection: u8,
    },
    /// The server takes the next request of a connection, and numbers and forwards it if it is a write.
    Read {
        /// The server.
        server: u8,
        /// Which of its connections.
        connection: u8,
    },
    /// The server notices that a connection is gone.
    Notice {
        /// The server.
        server: u8,
        /// Which of its connections.
        connection: u8,
    },
    /// The server forwards everything pending again.
    Reforward(u8),
    /// The server applies the next entry.
    Apply(u8),
    /// The server installs a snapshot of everything committed.
    InstallSnapshot(u8),
    /// The server crashes, and is back at once without any connection.
    Crash(u8),
    /// The leader appends the next command from a server's link.
    Propose(u8),
    /// The leader drops it.
    Drop(u8),
    /// A server's link to the leader breaks.
    BreakLink(u8),
    /// A command that was on a broken link arrives and is appended.
    ProposeLate(u8),
    /// What was on a broken link is lost.
    LoseOldLink(u8),
    /// The next entry is committed.
    Commit,
    /// The leader changes.
    ChangeLeader {
        /// How many uncommitted entries the new leader has.
        surviving: u8,
    },
    /// The leader proposes to expire the session.
    Expire,
}

/// Why a connection is closed while its client uses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Its session lives on: the client may connect again.
    Connection,
    /// Its session is over, and the client is told.
    Session,
}

impl Model for Forwarding {
    type State = State;
    type Action = Action;
    type Property = Property;

    fn initial(&self) -> State {
        let mut state = State::default();
        state.client.connection = 1;
        state.servers[0].connections.push(Connection { number: 1, creates: true, ..Connection::default() });
        state
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.client_actions(state, actions);
        for server in 0..2 {
            self.server_actions(state, server, actions);
            self.link_actions(state, server, actions);
        }
        self.leader_actions(state, actions);
    }

    fn step(&self, state: &State, action: Action) -> Result<State, Property> {
        let mut next = World { state: *state, rules: &self.rules, bounds: &self.bounds };
        next.step(action)?;
        next.state.compact(&self.rules);
        Ok(next.state)
    }

    fn is_fault(&self, action: Action) -> bool {
        matches!(
            action,
            Action::ClientLosesConnection
                | Action::InstallSnapshot(_)
                | Action::Crash(_)
                | Action::Drop(_)
                | Action::BreakLink(_)
                | Action::LoseOldLink(_)
                | Action::ProposeLate(_)
                | Action::ChangeLeader { .. }
                | Action::Expire
        )
    }

    /// Whether the client has an answer to everything it waits for on its newest connection.
    fn is_settled(&self, state: &State) -> bool {
        let client = &state.client;
        let answered = |write: u8| {
            client.sent_on[usize::from(write)] != client.connection || client.answered & (1 << write) != 0
        };
        match client.phase {
            Phase::Connecting => false,
            Phase::Connected => (1..=client.sent).all(answered),
            Phase::Disconnected | Phase::Ended => true,
        }
    }

    fn describe(&self, state: &State, action: Action) -> String {
        super::words::describe(self, state, action)
    }
}

impl Forwarding {
    fn client_actions(&self, state: &State, actions: &mut Vec<Action>) {
        let (client, bounds) = (&state.client, &self.bounds);
        let connecting = client.phase == Phase::Connecting && client.has_session;
        if client.phase == Phase::Connected || (connecting && bounds.writes_before_connected) {
            if client.sent < bounds.writes {
                actions.push(Action::ClientWrites);
            }
            if bounds.adds_auth && client.identities == 0 && client.sent > 0 {
                actions.push(Action::ClientAddsAuth);
            }
        }
        if client.phase == Phase::Disconnected && client.has_session && client.connection < bounds.connections
        {
            actions.extend([0, 1].map(Action::ClientConnects));
        }
        if (client.phase == Phase::Connected || connecting)
            && state.faults.connection_losses < bounds.connection_losses
        {
            actions.push(Action::ClientLosesConnection);
        }
    }

    fn server_actions(&self, state: &State, at: u8, actions: &mut Vec<Action>) {
        let server = &state.servers[usize::from(at)];
        for (which, connection) in (0..).zip(server.connections.iter()) {
            let gone = !state.client.uses(connection.number);
            let discarded = gone && self.rules.late_connect_requests_are_discarded;
            if !connection.handled && !discarded {
                actions.push(Action::Handle { server: at, connection: which });
            }
            if connection.is_attached() && !connection.received.is_empty() {
                // A refusal is answered in its turn, so nothing may be pending before it.
                let must_wait = self.refuses(connection.received[0]) && !connection.pending.is_empty();
                if !must_wait {
                    actions.push(Action::Read { server: at, connection: which });
                }
            }
            if gone {
                actions.push(Action::Notice { server: at, connection: which });
            }
        }
        if server.must_reforward {
            actions.push(Action::Reforward(at));
        }
        let visible = if self.rules.applies_only_committed { state.committed } else { state.length() };
        if server.applied < visible {
            actions.push(Action::Apply(at));
        }
        if server.applied < state.committed && state.faults.snapshots < self.bounds.snapshots {
            actions.push(Action::InstallSnapshot(at));
        }
        if state.faults.crashes < self.bounds.crashes {
            actions.push(Action::Crash(at));
        }
    }

    fn link_actions(&self, state: &State, at: u8, actions: &mut Vec<Action>) {
        let (server, faults) = (&state.servers[usize::from(at)], &state.faults);
        if !server.link.is_empty() {
            actions.push(Action::Propose(at));
            if faults.drops < self.bounds.drops {
                actions.push(Action::Drop(at));
            }
            if faults.broken_links < self.bounds.broken_links {
                actions.push(Action::BreakLink(at));
            }
        }
        if !server.old_link.is_empty() {
            actions.extend([Action::ProposeLate(at), Action::LoseOldLink(at)]);
        }
    }

    fn leader_actions(&self, state: &State, actions: &mut Vec<Action>) {
        let uncommitted = state.length() - state.committed;
        if uncommitted > 0 {
            actions.push(Action::Commit);
        }
        if state.faults.leader_changes < self.bounds.leader_changes {
            actions.extend((0..=uncommitted).map(|surviving| Action::ChangeLeader { surviving }));
        }
        if state.faults.expiries < self.bounds.expiries
            && state.session_at(state.committed, &self.rules).lives
        {
            actions.push(Action::Expire);
        }
    }

    /// Whether a server answers `request` with an error without asking anybody.
    pub(super) fn refuses(&self, request: Request) -> bool {
        self.bounds.first_is_refused && request == Request::Write(1)
    }
}

impl State {
    fn length(&self) -> u8 {
        u8::try_from(self.log.len()).expect("the log of the model is short")
    }
}

impl Client {
    /// Whether this is the connection the client has, or opens.
    fn uses(&self, connection: u8) -> bool {
        self.connection == connection && matches!(self.phase, Phase::Connecting | Phase::Connected)
    }
}

impl Connection {
    /// The command that introduces the connection.
    fn introduction(&self, server: u8) -> Command {
        let (connection, seen_generation) = (self.number, self.seen_generation);
        if self.creates {
            Command::Create { server, connection }
        } else {
            Command::Attach { server, connection, seen_generation }
        }
    }
}

impl Server {
    fn forward(&mut self, command: Command) {
        // Otherwise it goes with everything else.
        if !self.must_reforward {
            self.link.push(command);
        }
    }
}

/// A state on its way to the next one.
struct World<'a> {
    state: State,
    rules: &'a Rules,
    bounds: &'a Bounds,
}

impl World<'_> {
    fn step(&mut self, action: Action) -> Result<(), Property> {
        match action {
            Action::ClientWrites => self.client_sends(true),
            Action::ClientAddsAuth => self.client_sends(false),
            Action::ClientConnects(server) => self.client_connects(server),
            Action::ClientLosesConnection => {
                self.state.faults.connection_losses += 1;
                self.state.client.phase = Phase::Disconnected;
            }
            Action::Handle { server, connection } => self.handle(server, connection)?,
            Action::Read { server, connection } => self.read(server, connection),
            Action::Notice { server, connection } => {
                self.server(server).connections.remove(usize::from(connection));
            }
            Action::Reforward(server) => self.reforward(server),
            Action::Apply(server) => self.apply(server)?,
            Action::InstallSnapshot(server) => self.install_snapshot(server)?,
            Action::Crash(server) => self.crash(server),
            Action::Propose(server) => {
                let command = self.server(server).link.remove(0);
                self.state.log.push(command);
            }
            Action::Drop(server) => {
                self.state.faults.drops += 1;
                let told = self.rules.drops_are_refusals && self.rules.refusal_reforwards;
                let server = self.server(server);
                server.link.remove(0);
                server.must_reforward |= told;
            }
            Action::BreakLink(server) => {
                self.state.faults.broken_links += 1;
                self.cut_link(server, self.rules.broken_link_reforwards);
            }
            Action::ProposeLate(server) => {
                let command = self.server(server).old_link.remove(0);
                self.state.log.push(command);
            }
            Action::LoseOldLink(server) => self.server(server).old_link.truncate(0),
            Action::Commit => self.commit()?,
            Action::ChangeLeader { surviving } => self.change_leader(surviving),
            Action::Expire => {
                self.state.faults.expiries += 1;
                let generation = self.state.session_at(self.state.committed, self.rules).generation;
                self.state.log.push(Command::Expire { generation });
            }
        }
        Ok(())
    }

    fn server(&mut self, at: u8) -> &mut Server {
        &mut self.state.servers[usize::from(at)]
    }

    // --- the client ---

    fn client_sends(&mut self, is_write: bool) {
        let client = &mut self.state.client;
        let request = if is_write {
            client.sent += 1;
            client.sent_on[usize::from(client.sent)] = client.connection;
            client.sent_under[usize::from(client.sent)] = client.identities;
            Request::Write(client.sent)
        } else {
            client.identities += 1;
            Request::AddAuth
        };
        for server in &mut self.state.servers {
            let mine = server.connections.iter_mut().find(|has| has.number == self.state.client.connection);
            if let Some(connection) = mine {
                connection.received.push(request);
            }
        }
    }

    fn client_connects(&mut self, server: u8) {
        let client = &mut self.state.client;
        client.connection += 1;
        client.phase = Phase::Connecting;
        // Clients repeat their addauths on every new connection before anything else.
        let (number, identities) = (client.connection, client.identities);
        self.server(server).connections.push(Connection { number, identities, ..Connection::default() });
    }

    /// The client's `connection` is closed by its server. It may have given it up long ago.
    fn close(&mut self, connection: u8, end: End) {
        if self.state.client.uses(connection) {
            self.state.client.phase = match end {
                End::Connection => Phase::Disconnected,
                End::Session => Phase::Ended,
            };
        }
    }

    /// The client's `connection` is closed because another one's attach came before its own, or after it.
    fn depose(&mut self, connection: u8) -> Result<(), Property> {
        if self.state.client.uses(connection) {
            let faults = &self.state.faults;
            self.state.history.thrown_out += 1;
            if self.state.history.thrown_out > faults.connection_losses + faults.crashes + faults.snapshots {
                return Err(Property::OneReconnectMore);
            }
        }
        self.close(connection, End::Connection);
        Ok(())
    }

    /// The client reads an answer to `write` on `connection`, if it still has that.
    fn answer(&mut self, server: u8, connection: u8, write: Write) -> Result<(), Property> {
        let applied = self.server(server).applied;
        let client = &mut self.state.client;
        if !client.uses(connection) || client.phase != Phase::Connected {
            return Ok(());
        }
        client.answered |= 1 << write;
        client.seen = client.seen.max(applied);
        if self.state.history.applied & (1 << write) == 0 {
            return Err(Property::AcknowledgedStays);
        }
        Ok(())
    }

    // --- a server and its connections ---

    fn handle(&mut self, at: u8, which: u8) -> Result<(), Property> {
        let applied = self.server(at).applied;
        let seen_generation = self.state.session_at(applied, self.rules).generation;
        let seen = self.state.client.seen;
        let connection = &mut self.state.servers[usize::from(at)].connections[usize::from(which)];
        connection.handled = true;
        connection.seen_generation = seen_generation;
        let (number, command) = (connection.number, connection.introduction(at));
        if !self.rules.zxid_judged_after_attach && self.state.client.uses(number) && seen > applied {
            return Err(Property::NotTurnedAway);
        }
        self.server(at).forward(command);
        Ok(())
    }

    fn read(&mut self, at: u8, which: u8) {
        let refuses_first = self.bounds.first_is_refused;
        let closing = self.closing_write();
        let rules = self.rules;
        let connection = &mut self.server(at).connections[usize::from(which)];
        match connection.received.remove(0) {
            Request::AddAuth => connection.identities += 1,
            Request::Write(1) if refuses_first => {
                if !rules.refused_before_numbered {
                    connection.numbered += 1;
                }
                let number = connection.number;
                // Nothing else will become of it.
                self.state.history.applied |= 1 << 1;
                if self.state.client.uses(number) {
                    self.state.client.answered |= 1 << 1;
                }
            }
            Request::Write(write) => {
                connection.numbered += 1;
                let pending =
                    Pending { sequence: connection.numbered, write, identities: connection.identities };
                connection.pending.push(pending);
                let command = pending.command(connection.generation, closing);
                self.server(at).forward(command);
            }
        }
    }

    /// The write that is closeSession, or 0.
    fn closing_write(&self) -> Write {
        if self.bounds.closes { self.bounds.writes } else { 0 }
    }

    fn reforward(&mut self, at: u8) {
        let (closing, rules) = (self.closing_write(), self.rules);
        let server = self.server(at);
        server.must_reforward = false;
        server.link.truncate(0);
        let connections = server.connections;
        for connection in connections.iter().filter(|connection| connection.handled) {
            if !connection.is_attached() {
                server.link.push(connection.introduction(at));
                continue;
            }
            let mut pending = connection.pending;
            if !rules.oldest_first {
                pending.reverse();
            }
            for mut write in pending.iter().copied() {
                if !rules.identities_are_captured {
                    write.identities = connection.identities;
                }
                server.link.push(write.command(connection.generation, closing));
            }
        }
    }

    fn apply(&mut self, at: u8) -> Result<(), Property> {
        let before = self.server(at).applied;
        let command = self.state.log[usize::from(before)];
        let mut session = self.state.session_at(before, self.rules);
        let outcome = session.apply(command, self.rules);
        self.server(at).applied += 1;
        match (command, outcome) {
            (Command::Create { server, connection }, Outcome::Done)
            | (Command::Attach { server, connection, .. }, Outcome::Done) => {
                if server == at {
                    self.attached(at, connection, session.generation);
                }
                self.close_moved(at, connection, session.generation)?;
            }
            (Command::Attach { server, connection, .. }, Outcome::Void | Outcome::NoSession)
                if server == at =>
            {
                let connections = &mut self.server(at).connections;
                let waiting = |has: &Connection| has.number == connection && !has.is_attached();
                if connections.iter().any(waiting) {
                    connections.retain(|has| !waiting(has));
                    if outcome == Outcome::NoSession {
                        self.close(connection, End::Session);
                    } else {
                        self.depose(connection)?;
                    }
                }
            }
            (Command::Write { generation, sequence, write, closes, .. }, Outcome::Done) => {
                self.written(at, generation, sequence, write)?;
                if closes {
                    self.end_session(at);
                }
            }
            (Command::Expire { .. }, Outcome::Done) => self.end_session(at),
            _ => {}
        }
        Ok(())
    }

    /// The attach of a connection of this server is applied.
    fn attached(&mut self, at: u8, number: u8, generation: u8) {
        let waiting = |has: &&mut Connection| has.number == number && !has.is_attached();
        let server = self.server(at);
        let applied = server.applied;
        let Some(connection) = server.connections.iter_mut().find(waiting) else { return };
        connection.generation = generation;
        let client = &mut self.state.client;
        if client.uses(number) {
            client.phase = Phase::Connected;
            client.has_session = true;
            client.seen = client.seen.max(applied);
        }
    }

    /// Closes the connections of older generations. The attach of connection `by` is what made them old.
    fn close_moved(&mut self, at: u8, by: u8, generation: u8) -> Result<(), Property> {
        let moved = |has: &Connection| has.is_attached() && has.generation < generation;
        let connections = self.server(at).connections;
        for connection in connections.iter().filter(|&has| moved(has)) {
            if connection.number == by && self.state.client.uses(by) {
                return Err(Property::NotThrownOutByItself);
            }
            self.depose(connection.number)?;
        }
        self.server(at).connections.retain(|has| !moved(has));
        Ok(())
    }

    /// A write is applied: whoever waits for it here is answered.
    fn written(&mut self, at: u8, generation: u8, sequence: u8, write: Write) -> Result<(), Property> {
        let mut connections = self.server(at).connections.iter_mut();
        let Some(connection) = connections.find(|has| has.generation == generation) else { return Ok(()) };
        let Some(place) = connection.pending.iter().position(|pending| pending.sequence == sequence) else {
            return Ok(());
        };
        if place != 0 || connection.pending[place].write != write {
            return Err(Property::RepliesInOrder);
        }
        connection.pending.remove(0);
        let number = connection.number;
        self.answer(at, number, write)
    }

    fn end_session(&mut self, at: u8) {
        let connections = self.server(at).connections;
        for connection in connections.iter().filter(|has| has.is_attached()) {
            self.close(connection.number, End::Session);
        }
        self.server(at).connections.retain(|has| !has.is_attached());
    }

    fn install_snapshot(&mut self, at: u8) -> Result<(), Property> {
        self.state.faults.snapshots += 1;
        let committed = self.state.committed;
        let session = self.state.session_at(committed, self.rules);
        let connections = self.server(at).connections;
        let policy = self.rules.at_snapshot;
        if policy != AtSnapshot::Close {
            self.server(at).must_reforward = true;
        }
        for connection in connections.iter() {
            let stays = session.lives && connection.generation == session.generation;
            if policy == AtSnapshot::Close {
                self.close(connection.number, End::Connection);
            } else if connection.is_attached() && !stays {
                self.close(connection.number, End::Connection);
                self.server(at).connections.retain(|has| has.number != connection.number);
            } else if connection.is_attached() && policy == AtSnapshot::AnswerIfSeen {
                let seen = |pending: &Pending| pending.sequence <= session.sequence;
                if connection.pending.iter().any(seen) && self.state.client.uses(connection.number) {
                    return Err(Property::KnownOutcomesOnly);
                }
            }
        }
        if policy == AtSnapshot::Close {
            self.server(at).connections.truncate(0);
        }
        self.server(at).applied = committed;
        Ok(())
    }

    fn crash(&mut self, at: u8) {
        self.state.faults.crashes += 1;
        let connections = self.server(at).connections.take();
        for connection in connections.iter() {
            self.close(connection.number, End::Connection);
        }
        self.cut_link(at, false);
    }

    // --- links, the log, the leader ---

    /// What is on the link may still arrive.
    fn cut_link(&mut self, at: u8, reforwards: bool) {
        let server = self.server(at);
        server.old_link = server.link.take();
        server.must_reforward = reforwards;
    }

    fn change_leader(&mut self, surviving: u8) {
        self.state.faults.leader_changes += 1;
        let kept = self.state.committed + surviving;
        self.state.log.truncate(usize::from(kept));
        for at in 0..2 {
            self.cut_link(at, self.rules.leader_change_reforwards);
            let server = self.server(at);
            server.applied = server.applied.min(kept);
        }
    }

    fn commit(&mut self) -> Result<(), Property> {
        let at = self.state.committed;
        let mut session = self.state.session_at(at, self.rules);
        let before = session;
        let command = self.state.log[usize::from(at)];
        self.state.committed += 1;
        if session.apply(command, self.rules) != Outcome::Done {
            return Ok(());
        }
        let (client, history) = (&self.state.client, &mut self.state.history);
        match command {
            Command::Nothing | Command::Attach { .. } => {}
            Command::Create { .. } => {
                if history.ended {
                    return Err(Property::DeadStaysDead);
                }
            }
            Command::Expire { generation } => {
                if generation != before.generation {
                    return Err(Property::NoWrongKill);
                }
                history.ended = true;
            }
            Command::Write { write, identities, closes, .. } => {
                let sent_on = |write: Write| client.sent_on[usize::from(write)];
                let applied = |write: Write| history.applied & (1 << write) != 0;
                if applied(write) {
                    return Err(Property::ExactlyOnce);
                }
                if write < history.newest {
                    return Err(Property::FifoOrder);
                }
                if (1..write).any(|earlier| sent_on(earlier) == sent_on(write) && !applied(earlier)) {
                    return Err(Property::NoWriteSkipped);
                }
                if sent_on(write) != before.connection {
                    return Err(Property::OwnersWritesOnly);
                }
                if identities != client.sent_under[usize::from(write)] {
                    return Err(Property::SenderIdentities);
                }
                history.applied |= 1 << write;
                history.newest = write;
                history.ended |= closes;
            }
        }
        Ok(())
    }
}

impl Pending {
    /// The command that carries the write; `closing` is the one that is closeSession.
    fn command(self, generation: u8, closing: Write) -> Command {
        let Pending { sequence, write, identities } = self;
        Command::Write { generation, sequence, write, identities, closes: write == closing }
    }
}
