//! Where a zxid's epoch comes from (invariant 10a).
//!
//! Two servers apply the same log: transactions, each of which takes a zxid, and the openings of terms, which take
//! none. One of them has been there from the beginning. The other restores a snapshot of the first at any moment
//! and applies the rest. Raft's term grows by one or more per election; a zxid's counter, here of two bits, carries
//! into the epoch when it is full.

use std::fmt;

use crate::search::Model;

/// Bits of the counter. ZooKeeper's has 32.
const COUNTER_BITS: u32 = 2;

/// What the first entry of a newer term sets the epoch to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Epoch {
    /// The epoch of the last zxid, and one: the rule.
    NextOfZxid,
    /// Raft's term.
    Term,
    /// Raft's term, or the epoch of the last zxid if that is larger.
    TermOrZxid,
}

/// The model.
#[derive(Clone, Copy, Debug)]
pub struct Zxids {
    /// Where the epoch comes from.
    pub epoch: Epoch,
    /// Whether a snapshot holds the last applied term (16).
    pub snapshot_holds_term: bool,
    /// Entries in the log.
    pub entries: u8,
}

/// What must never happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Property {
    /// Each zxid is larger than every one before it.
    Growing,
    /// All servers give a transaction the same zxid.
    Agreed,
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Property::Growing => "a zxid is not larger than one before it",
            Property::Agreed => "two servers give one transaction different zxids",
        })
    }
}

/// One thing that can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The next entry is a transaction.
    Transaction,
    /// The next entry opens a term, larger by this.
    NewTerm(u8),
    /// The second server restores a snapshot that the first wrote just now.
    Restore,
}

/// What apply knows about zxids.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Server {
    zxid: u32,
    last_term: u8,
}

/// The log, as far as it matters, and the two servers.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    entries: u8,
    term: u8,
    largest: u32,
    first: Server,
    second: Option<Server>,
}

impl Zxids {
    fn begin_entry(&self, server: &mut Server, term: u8) {
        if term > server.last_term {
            let zxid_epoch = server.zxid >> COUNTER_BITS;
            let epoch = match self.epoch {
                Epoch::NextOfZxid => zxid_epoch + 1,
                Epoch::Term => u32::from(term),
                Epoch::TermOrZxid => zxid_epoch.max(u32::from(term)),
            };
            server.zxid = epoch << COUNTER_BITS;
            server.last_term = term;
        }
    }
}

impl Model for Zxids {
    type State = State;
    type Action = Action;
    type Property = Property;

    fn initial(&self) -> State {
        let mut first = Server { zxid: 0, last_term: 0 };
        self.begin_entry(&mut first, 1);
        State { entries: 0, term: 1, largest: 0, first, second: None }
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.entries < self.entries {
            actions.extend([Action::Transaction, Action::NewTerm(1), Action::NewTerm(2)]);
            if state.second.is_none() {
                actions.push(Action::Restore);
            }
        }
    }

    fn step(&self, state: &State, action: Action) -> Result<State, Property> {
        let mut next = *state;
        match action {
            Action::Restore => {
                let last_term = if self.snapshot_holds_term { state.first.last_term } else { 0 };
                next.second = Some(Server { last_term, ..state.first });
            }
            Action::NewTerm(by) => {
                next.entries += 1;
                next.term += by;
                for server in [Some(&mut next.first), next.second.as_mut()].into_iter().flatten() {
                    self.begin_entry(server, next.term);
                }
            }
            Action::Transaction => {
                next.entries += 1;
                for server in [Some(&mut next.first), next.second.as_mut()].into_iter().flatten() {
                    self.begin_entry(server, next.term);
                    server.zxid += 1;
                }
                if next.first.zxid <= state.largest {
                    return Err(Property::Growing);
                }
                if next.second.is_some_and(|second| second.zxid != next.first.zxid) {
                    return Err(Property::Agreed);
                }
                next.largest = next.first.zxid;
            }
        }
        Ok(next)
    }

    fn is_fault(&self, _: Action) -> bool {
        false
    }

    /// Nobody ever waits here.
    fn is_settled(&self, _: &State) -> bool {
        true
    }

    fn describe(&self, state: &State, action: Action) -> String {
        match action {
            Action::Transaction => {
                let shown = |server: &Server| {
                    let mut server = *server;
                    self.begin_entry(&mut server, state.term);
                    let (zxid, counter) = (server.zxid + 1, (1 << COUNTER_BITS) - 1);
                    format!("{}:{}", zxid >> COUNTER_BITS, zxid & counter)
                };
                let second = state.second.as_ref().map(|second| format!(", on the second {}", shown(second)));
                format!("a transaction gets zxid {}{}", shown(&state.first), second.unwrap_or_default())
            }
            Action::NewTerm(by) => format!("term {} begins", state.term + by),
            Action::Restore => "the second server restores a snapshot".to_owned(),
        }
    }
}
