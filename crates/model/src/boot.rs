//! Runs of one server, their boot numbers, and the sessions they create (invariant 5b).
//!
//! A server creates sessions in its *lane*: createSession commands numbered from 1 under a *boot* number, which it
//! takes when it starts and registers in the log. A session's id is made of both, so that it is never used
//! twice. The registration carries a *nonce*, drawn at random by each run, because a server that starts again may
//! know less than the log: what its last run sent may still be on its way, or be committed but not applied here, and
//! a boot number alone does not say whose registration was the one that counted.
//!
//! One server runs several times in a row. What a run has sent survives it on an old link. Each run has a client or
//! two that ask for a session; the leader is abstract, as in [`forwarding`](crate::forwarding).

use std::fmt;

use crate::list::List;
use crate::search::Model;

/// How apply judges the place of a createSession in the lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Only last + 1 of the registered boot: the rule.
    NextOfRegisteredBoot,
    /// Only last + 1, of whatever boot.
    NextOfAnyBoot,
    /// Any larger number of the registered boot.
    AnyLarger,
    /// Whatever has no living session under its id.
    NoSuchSession,
}

/// The rules, each of which can be switched off.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// A run takes only a registration with its own nonce for its own.
    pub nonce: bool,
    /// A run sends createSession only after its registration was applied.
    pub registers_first: bool,
    /// Which place a createSession must have.
    pub place: Place,
    /// A run whose boot number another one has registered takes a larger one.
    pub tries_again: bool,
}

impl Rules {
    /// The design: every rule.
    pub const ALL: Rules =
        Rules { nonce: true, registers_first: true, place: Place::NextOfRegisteredBoot, tries_again: true };
}

/// How far to look.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Starts of the server after the first.
    pub restarts: u8,
    /// Sessions that clients ask each run for.
    pub requests: u8,
    /// Changes of the leader.
    pub leader_changes: u8,
    /// Sessions that end.
    pub ends: u8,
}

/// The model.
#[derive(Clone, Copy, Debug)]
pub struct Boots {
    /// Which rules are kept.
    pub rules: Rules,
    /// How far to look.
    pub bounds: Bounds,
}

/// What must never happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Property {
    /// A session id is made only once.
    IdsAreNew,
    /// A client gets the session that its own request created.
    OwnSession,
    /// A client gets one that still lives, as far as its server can know.
    DeadStaysDead,
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Property::IdsAreNew => "two requests made a session of the same id",
            Property::OwnSession => "a client was given the session of another one",
            Property::DeadStaysDead => "an ended session lives again",
        })
    }
}

/// One thing that can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A client asks for a session.
    Ask,
    /// The server forwards what it waits for again.
    Reforward,
    /// The server applies the next entry.
    Apply,
    /// The server stops and starts again, and has to apply again what it knows.
    Restart {
        /// How many entries its snapshot covers.
        applied: u8,
    },
    /// The leader appends the next command from the server.
    Propose,
    /// The leader appends a command that was on an old link.
    ProposeLate,
    /// What was on old links is lost.
    LoseOldLink,
    /// The next entry is committed.
    Commit,
    /// The leader changes.
    ChangeLeader {
        /// How many uncommitted entries the new leader has.
        surviving: u8,
    },
    /// The oldest living session ends.
    End,
}

/// A command in the log or on its way.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
enum Command {
    #[default]
    Nothing,
    Register {
        boot: u8,
        nonce: u8,
    },
    /// `request` stands for the hash of the session's secret.
    Create {
        boot: u8,
        number: u8,
        request: u8,
    },
    End {
        id: (u8, u8),
    },
}

/// A living session: its id, and the request that made it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Session {
    id: (u8, u8),
    request: u8,
}

/// The replicated state.
#[derive(Clone, Copy, Hash, Default)]
struct Replicated {
    boot: u8,
    last: u8,
    sessions: List<Session, 8>,
}

impl Replicated {
    /// Applies a command and says whether it had an effect, and which session it made.
    fn apply(&mut self, command: Command, rules: &Rules) -> (bool, Option<Session>) {
        match command {
            Command::Nothing => (false, None),
            Command::Register { boot, .. } => {
                let counts = boot > self.boot;
                if counts {
                    (self.boot, self.last) = (boot, 0);
                }
                (counts, None)
            }
            Command::Create { boot, number, request } => {
                let id = (boot, number);
                let counts = match rules.place {
                    Place::NextOfRegisteredBoot => boot == self.boot && number == self.last + 1,
                    Place::NextOfAnyBoot => number == self.last + 1,
                    Place::AnyLarger => boot == self.boot && number > self.last,
                    Place::NoSuchSession => self.sessions.iter().all(|session| session.id != id),
                };
                if !counts {
                    return (false, None);
                }
                self.last = number;
                let session = Session { id, request };
                self.sessions.push(session);
                (true, Some(session))
            }
            Command::End { id } => {
                let before = self.sessions.len();
                self.sessions.retain(|session| session.id != id);
                (self.sessions.len() != before, None)
            }
        }
    }
}

/// The server's present run.
#[derive(Clone, Copy, Hash, Default)]
struct Run {
    /// Its count of starts, which stands for its nonce.
    nonce: u8,
    boot: u8,
    registered: bool,
    applied: u8,
    /// Requests that wait, and the numbers they have in the lane.
    waiting: List<(u8, u8), 4>,
    /// Numbers given.
    numbered: u8,
    /// Requests that came.
    asked: u8,
    link: List<Command, 8>,
    must_forward: bool,
}

/// Everything at one moment.
#[derive(Clone, Copy, Hash, Default)]
pub struct State {
    log: List<Command, 24>,
    committed: u8,
    run: Run,
    old_link: List<Command, 16>,
    /// Ids made so far, in the committed log, with their requests, and whether they ended.
    made: List<(Session, bool), 8>,
    /// All requests so far.
    requests: u8,
    restarts: u8,
    leader_changes: u8,
    ends: u8,
}

impl State {
    fn replicated_at(&self, entries: u8, rules: &Rules) -> Replicated {
        let mut replicated = Replicated::default();
        for &command in &self.log[..usize::from(entries)] {
            replicated.apply(command, rules);
        }
        replicated
    }

    fn length(&self) -> u8 {
        u8::try_from(self.log.len()).expect("the log of the model is short")
    }
}

impl Run {
    /// What a run sends first: it takes the number after the newest it knows of.
    fn start(nonce: u8, applied: u8, known_boot: u8) -> Run {
        Run { nonce, boot: known_boot + 1, applied, must_forward: true, ..Run::default() }
    }

    fn forward_everything(&mut self, rules: &Rules) {
        self.must_forward = false;
        self.link.truncate(0);
        if !self.registered {
            self.link.push(Command::Register { boot: self.boot, nonce: self.nonce });
        }
        if self.registered || !rules.registers_first {
            for (number, request) in self.waiting.iter().copied() {
                self.link.push(Command::Create { boot: self.boot, number, request });
            }
        }
    }
}

impl Model for Boots {
    type State = State;
    type Action = Action;
    type Property = Property;

    fn initial(&self) -> State {
        State { run: Run::start(1, 0, 0), ..State::default() }
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let (bounds, run) = (&self.bounds, &state.run);
        if run.asked < bounds.requests {
            actions.push(Action::Ask);
        }
        if run.must_forward {
            actions.push(Action::Reforward);
        }
        if run.applied < state.committed {
            actions.push(Action::Apply);
        }
        if state.restarts < bounds.restarts {
            actions.extend((0..=run.applied).map(|applied| Action::Restart { applied }));
        }
        if !run.link.is_empty() {
            actions.push(Action::Propose);
        }
        if !state.old_link.is_empty() {
            actions.extend([Action::ProposeLate, Action::LoseOldLink]);
        }
        let uncommitted = state.length() - state.committed;
        if uncommitted > 0 {
            actions.push(Action::Commit);
        }
        if state.leader_changes < bounds.leader_changes {
            actions.extend((0..=uncommitted).map(|surviving| Action::ChangeLeader { surviving }));
        }
        let living = state.made.iter().any(|(_, ended)| !ended);
        if living && state.ends < bounds.ends {
            actions.push(Action::End);
        }
    }

    fn step(&self, state: &State, action: Action) -> Result<State, Property> {
        let rules = &self.rules;
        let mut next = *state;
        match action {
            Action::Ask => {
                let run = &mut next.run;
                next.requests += 1;
                run.asked += 1;
                run.numbered += 1;
                run.waiting.push((run.numbered, next.requests));
                let may_send = run.registered || !rules.registers_first;
                if may_send && !run.must_forward {
                    let (boot, number, request) = (run.boot, run.numbered, next.requests);
                    run.link.push(Command::Create { boot, number, request });
                }
            }
            Action::Reforward => next.run.forward_everything(rules),
            Action::Apply => apply(&mut next, rules)?,
            Action::Restart { applied } => {
                next.restarts += 1;
                for &command in next.run.link.iter() {
                    next.old_link.push(command);
                }
                let known_boot = next.replicated_at(applied, rules).boot;
                next.run = Run::start(next.run.nonce + 1, applied, known_boot);
            }
            Action::Propose => {
                let command = next.run.link.remove(0);
                next.log.push(command);
            }
            Action::ProposeLate => {
                let command = next.old_link.remove(0);
                next.log.push(command);
            }
            Action::LoseOldLink => next.old_link.truncate(0),
            Action::Commit => commit(&mut next, rules)?,
            Action::ChangeLeader { surviving } => {
                next.leader_changes += 1;
                next.log.truncate(usize::from(next.committed + surviving));
                for command in next.run.link.take().iter().copied() {
                    next.old_link.push(command);
                }
                next.run.must_forward = true;
            }
            Action::End => {
                next.ends += 1;
                let living = next.made.iter().find(|(_, ended)| !ended);
                let id = living.map(|(session, _)| session.id).unwrap_or_default();
                next.log.push(Command::End { id });
            }
        }
        Ok(next)
    }

    fn is_fault(&self, action: Action) -> bool {
        matches!(
            action,
            Action::Restart { .. }
                | Action::ProposeLate
                | Action::LoseOldLink
                | Action::ChangeLeader { .. }
                | Action::End
        )
    }

    /// Whether every client of the present run has its session.
    fn is_settled(&self, state: &State) -> bool {
        state.run.waiting.is_empty()
    }

    fn describe(&self, state: &State, action: Action) -> String {
        match action {
            Action::Ask => {
                format!("client {} asks run {} for a session", state.requests + 1, state.run.nonce)
            }
            Action::Reforward => format!("run {} forwards everything it waits for", state.run.nonce),
            Action::Apply => {
                let command = state.log[usize::from(state.run.applied)];
                format!("run {} applies {}", state.run.nonce, in_words(command))
            }
            Action::Restart { applied } => {
                format!(
                    "the server starts again, as run {}, having applied {applied} entries",
                    state.run.nonce + 1
                )
            }
            Action::Propose => format!("the leader appends {}", in_words(state.run.link[0])),
            Action::ProposeLate => {
                format!("the leader gets {} late and appends it", in_words(state.old_link[0]))
            }
            Action::LoseOldLink => "what was on old links is lost".to_owned(),
            Action::Commit => {
                format!("{} is committed", in_words(state.log[usize::from(state.committed)]))
            }
            Action::ChangeLeader { surviving } => {
                let uncommitted = state.length() - state.committed;
                format!("the leader changes; {surviving} of {uncommitted} uncommitted entries survive")
            }
            Action::End => "the oldest session is ended".to_owned(),
        }
    }
}

fn in_words(command: Command) -> String {
    match command {
        Command::Nothing => "nothing".to_owned(),
        Command::Register { boot, nonce } => format!("the registration of boot {boot} by run {nonce}"),
        Command::Create { boot, number, request } => {
            format!("createSession {boot}.{number} for client {request}")
        }
        Command::End { id: (boot, number) } => format!("the end of session {boot}.{number}"),
    }
}

/// The present run applies its next entry and sees whether it concerns itself.
fn apply(state: &mut State, rules: &Rules) -> Result<(), Property> {
    let command = state.log[usize::from(state.run.applied)];
    let mut replicated = state.replicated_at(state.run.applied, rules);
    let (counts, made) = replicated.apply(command, rules);
    let run = &mut state.run;
    run.applied += 1;
    match command {
        Command::Register { boot, nonce } if counts && !run.registered => {
            if boot == run.boot && (nonce == run.nonce || !rules.nonce) {
                run.registered = true;
                run.must_forward = true;
            } else if boot >= run.boot && rules.tries_again {
                run.boot = boot + 1;
                run.must_forward = true;
            }
        }
        Command::Create { boot, number, .. } => {
            let waiting = run.waiting.iter().position(|&(waits, _)| waits == number);
            if let (Some(session), Some(place)) = (made, waiting)
                && boot == run.boot
                && (run.registered || !rules.registers_first)
            {
                let (_, request) = run.waiting.remove(place);
                if session.request != request {
                    return Err(Property::OwnSession);
                }
            }
        }
        _ => {}
    }
    Ok(())
}

/// The next entry is committed: what it makes must be new.
fn commit(state: &mut State, rules: &Rules) -> Result<(), Property> {
    let command = state.log[usize::from(state.committed)];
    let (counts, made) = state.replicated_at(state.committed, rules).apply(command, rules);
    state.committed += 1;
    if let Some(session) = made {
        if let Some((before, ended)) = state.made.iter().find(|(before, _)| before.id == session.id) {
            let raised = *ended && before.request == session.request;
            return Err(if raised { Property::DeadStaysDead } else { Property::IdsAreNew });
        }
        state.made.push((session, false));
    }
    if let Command::End { id } = command
        && counts
    {
        for (_, ended) in state.made.iter_mut().filter(|(session, _)| session.id == id) {
            *ended = true;
        }
    }
    Ok(())
}
