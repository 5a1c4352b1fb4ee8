//! How long a server may serve a session, and when the leader may expire it (invariants 8a to 8d).
//!
//! One server has the session's client. It sends the leader numbered reports; the leader confirms its leadership
//! with a quorum round and acknowledges them; the send time of the newest acknowledged report is the server's
//! *contact*, and until contact + H it serves. Any part can be cut off from any other at any time: reports,
//! acknowledgements, the leader from its quorum (which then elects a successor that this server does not find), the
//! log from the server. The server's workers may stall while its core goes on reporting. The client is alive: while
//! its connection is open it never is silent for as long as T. Once the connection is closed, it stays away.
//!
//! Time goes in steps, in each of which everything happens once, and has no end: only how long ago things happened
//! counts, so the states are finite. [`TIMEOUT`], [`LEASE`] and [`ELECTION`] are in the proportions of the design.

use std::fmt;

use crate::list::List;
use crate::search::Model;

/// T: the session's timeout, in steps.
pub const TIMEOUT: i8 = 6;
/// H: how long a contact lasts, T/3 (8b).
pub const LEASE: i8 = 2;
/// After so many steps without the leader its quorum elects another one; after twice as many it steps down.
pub const ELECTION: i8 = 2;

/// Times are counted from the present step.
const NOW: i8 = 0;
/// Whatever is so long ago or longer is all the same: more than T + T/3 and everything that is compared with it.
const LONG_AGO: i8 = -12;

/// What makes a server's contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contact {
    /// The send time of the newest acknowledged report: the rule.
    SendTimeOfReport,
    /// The arrival of anything from the leader.
    AnyMessage,
}

/// From when the leader counts T for a session whose server's reports are interrupted (8c).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupted {
    /// From the send time of the last report, and T/3 more: the rule. The server may have heard the client until
    /// its lease was over, however long the client had been silent when it last reported.
    FromLastReport,
    /// From the last touch, and T/3 more: too short for a client that had paused before the last report.
    FromLastTouch,
    /// From the last report, and nothing more.
    WithoutGrace,
}

/// The rules, each of which can be switched off.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// What makes a contact (8b).
    pub contact: Contact,
    /// A report is acknowledged only after a quorum round begun after its receipt (8a).
    pub acknowledged_after_quorum: bool,
    /// A contact counts only once the commit index in its acknowledgement is applied (8b).
    pub contact_waits_for_apply: bool,
    /// What an interruption of reports means for the deadline (8c).
    pub interrupted: Interrupted,
    /// A new leader grants T + T/3, not T (8c).
    pub new_leader_grants_more: bool,
    /// While reports come, silence is measured up to heard-through, not to now (8d).
    pub silence_to_heard_through: bool,
    /// Before a server closes connections because its lease is over, it takes note of what they have sent (8d).
    pub hears_before_closing: bool,
}

impl Rules {
    /// The design: every rule.
    pub const ALL: Rules = Rules {
        contact: Contact::SendTimeOfReport,
        acknowledged_after_quorum: true,
        contact_waits_for_apply: true,
        interrupted: Interrupted::FromLastReport,
        new_leader_grants_more: true,
        silence_to_heard_through: true,
        hears_before_closing: true,
    };
}

/// How far to look.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Whether the client may be silent for up to T - 1, or always sends.
    pub client_pauses: bool,
    /// Whether what the client sends are reads, so that it matters how old the answers are.
    pub client_reads: bool,
    /// Whether the server's workers may stall.
    pub workers_stall: bool,
    /// Whether the log may reach the server later than acknowledgements do.
    pub log_is_slow: bool,
}

/// The model.
#[derive(Clone, Copy, Debug)]
pub struct Lease {
    /// Which rules are kept.
    pub rules: Rules,
    /// How far to look.
    pub bounds: Bounds,
}

/// What must never happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Property {
    /// An expired session is not served.
    ExpiredIsNotServed,
    /// A session whose client was heard within T, by a server that had a lease, is not expired.
    HeardIsNotExpired,
    /// Nor one whose client has sent something within T that its server did not hear, although its reports never
    /// were interrupted.
    StallIsNotSilence,
    /// A read misses no write acknowledged more than H ago.
    NoStalerThanLease,
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Property::ExpiredIsNotServed => "a session was expired while its server still served it",
            Property::HeardIsNotExpired => "a session was expired less than T after its client was heard",
            Property::StallIsNotSilence => "a session was expired because its server did not listen",
            Property::NoStalerThanLease => "a read missed a write acknowledged more than H before",
        })
    }
}

/// What works in one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action {
    /// The client sends something.
    client_sends: bool,
    /// The server's workers read their sockets.
    workers_poll: bool,
    /// Which of the reports under way reach the leader.
    reports_arrive: Arrive,
    /// Acknowledgements and other messages reach the server.
    acknowledgement_arrives: bool,
    /// What becomes of the leader.
    leader: Leader,
    /// The log reaches the server, which applies all of it.
    log_arrives: bool,
}

/// Which of the reports under way reach the leader in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arrive {
    All,
    Oldest,
    None,
}

/// What becomes of the leader in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leader {
    /// It reaches its quorum.
    Confirmed,
    /// It does not.
    CutOff,
    /// Its process ends, which its quorum notices at once.
    Dies,
}

/// A report on its way.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Report {
    sent: i8,
    touch: i8,
    heard_through: i8,
}

/// An acknowledgement whose commit index is not applied yet.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Acknowledged {
    sent: i8,
    commit: i8,
}

/// Everything at one moment. Times are in steps before [`NOW`], so negative.
#[derive(Clone, Copy, Hash)]
pub struct State {
    // The client and its server.
    last_sent: i8,
    unread: bool,
    last_heard: i8,
    /// When it last heard the client while it served it.
    last_answered: i8,
    heard_through: i8,
    serves: bool,
    contact: i8,
    waits_for_apply: Option<Acknowledged>,
    /// The newest write applied here. There is one in each step in which a leader has its quorum.
    applied: i8,
    reports: List<Report, 2>,
    // The leader.
    leads: bool,
    touch: i8,
    reported_through: i8,
    last_report: i8,
    last_report_came: i8,
    /// Whether a report has ever been missing for more than a step.
    was_interrupted: bool,
    confirmed: i8,
    successor_since: Option<i8>,
    /// The newest committed write, and what it was one step ago, two, and so on.
    committed: [i8; LEASE as usize + 1],
    expired: bool,
}

impl Model for Lease {
    type State = State;
    type Action = Action;
    type Property = Property;

    fn initial(&self) -> State {
        State {
            last_sent: 0,
            unread: false,
            last_heard: 0,
            last_answered: 0,
            heard_through: 0,
            serves: true,
            contact: 0,
            waits_for_apply: None,
            applied: 0,
            reports: List::default(),
            leads: true,
            touch: 0,
            reported_through: 0,
            last_report: 0,
            last_report_came: 0,
            was_interrupted: false,
            confirmed: 0,
            successor_since: None,
            committed: [0; LEASE as usize + 1],
            expired: false,
        }
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.expired {
            return;
        }
        let both = [true, false];
        let choice = |free: bool| if free { &both[..] } else { &both[..1] };
        let must_send = NOW + 1 - state.last_sent == TIMEOUT - 1;
        let polls: &[bool] = if self.bounds.workers_stall { &[false, true] } else { &[true] };
        for &client_sends in choice(self.bounds.client_pauses && !must_send) {
            for &workers_poll in polls {
                for &log_arrives in choice(self.bounds.log_is_slow) {
                    for leader in [Leader::Confirmed, Leader::CutOff, Leader::Dies] {
                        for &acknowledgement_arrives in &both {
                            for reports_arrive in [Arrive::All, Arrive::Oldest, Arrive::None] {
                                actions.push(Action {
                                    client_sends,
                                    workers_poll,
                                    reports_arrive,
                                    acknowledgement_arrives,
                                    leader,
                                    log_arrives,
                                });
                            }
                        }
                    }
                }
            }
        }
    }

    fn step(&self, state: &State, action: Action) -> Result<State, Property> {
        let mut next = *state;
        next.time_passes();
        let quorum = next.leaders(action.leader);
        next.client_and_server(action, &self.rules, self.bounds.client_reads)?;
        self.reports(&mut next, action, quorum);
        self.expiry(&mut next, quorum)?;
        next.forget();
        Ok(next)
    }

    fn is_fault(&self, _: Action) -> bool {
        false
    }

    /// Nobody waits here: time goes on whatever happens.
    fn is_settled(&self, _: &State) -> bool {
        true
    }

    fn describe(&self, state: &State, action: Action) -> String {
        let mut words = Vec::new();
        let mut say = |what: bool, sentence: &str| {
            if what {
                words.push(sentence.to_owned());
            }
        };
        say(state.serves && action.client_sends, "the client sends");
        say(!action.workers_poll, "the server's workers stall");
        say(!action.log_arrives, "the log does not reach the server");
        say(action.leader == Leader::CutOff, "the leader does not reach its quorum");
        say(action.leader == Leader::Dies && state.leads, "the leader dies, another is elected at once");
        say(action.reports_arrive == Arrive::None, "no report arrives");
        say(action.reports_arrive == Arrive::Oldest, "of the reports under way only the oldest arrives");
        say(!action.acknowledgement_arrives, "nothing from the leader reaches the server");
        if words.is_empty() { "everything works".to_owned() } else { words.join(", ") }
    }
}

impl State {
    /// Everything is one step longer ago.
    fn time_passes(&mut self) {
        let older = |time: &mut i8| *time = (*time - 1).max(LONG_AGO);
        for time in [
            &mut self.last_sent,
            &mut self.last_heard,
            &mut self.last_answered,
            &mut self.heard_through,
            &mut self.contact,
            &mut self.applied,
            &mut self.touch,
            &mut self.reported_through,
            &mut self.last_report,
            &mut self.last_report_came,
            &mut self.confirmed,
        ] {
            older(time);
        }
        self.committed.iter_mut().for_each(older);
        self.successor_since.iter_mut().for_each(older);
        if let Some(acknowledged) = &mut self.waits_for_apply {
            older(&mut acknowledged.sent);
            older(&mut acknowledged.commit);
        }
        for report in self.reports.iter_mut() {
            older(&mut report.sent);
            older(&mut report.touch);
            older(&mut report.heard_through);
        }
    }

    /// Forgets what cannot matter any more, so that states that differ in nothing else are one.
    fn forget(&mut self) {
        if !self.leads {
            self.reports.truncate(0);
        }
        if self.successor_since.is_some() {
            // Only the successor's grant counts.
            self.was_interrupted = true;
            for time in [
                &mut self.touch,
                &mut self.reported_through,
                &mut self.last_report,
                &mut self.last_report_came,
            ] {
                *time = LONG_AGO;
            }
        }
        if !self.serves {
            self.waits_for_apply = None;
            for time in [&mut self.contact, &mut self.applied] {
                *time = LONG_AGO;
            }
        }
    }

    /// Who leads, and whether the old leader can commit in this step.
    fn leaders(&mut self, leader: Leader) -> bool {
        if leader == Leader::Dies && self.leads {
            self.leads = false;
            self.successor_since.get_or_insert(NOW);
        }
        let quorum = leader == Leader::Confirmed && self.leads && self.successor_since.is_none();
        if quorum {
            self.confirmed = NOW;
        }
        self.leads &= NOW - self.confirmed <= 2 * ELECTION;
        if self.successor_since.is_none() && NOW - self.confirmed > ELECTION {
            self.successor_since = Some(NOW);
        }
        self.committed.rotate_right(1);
        let writes = quorum || self.successor_since.is_some();
        self.committed[0] = if writes { NOW } else { self.committed[1] };
        quorum
    }

    /// The lease is judged, the client heard and answered, the next report sent.
    fn client_and_server(&mut self, action: Action, rules: &Rules, reads: bool) -> Result<(), Property> {
        // The connection is closed when the lease is over, and the session does not come back here.
        self.serves &= NOW - self.contact <= LEASE;
        if !self.serves {
            // It is closed as soon as its worker runs.
            if action.workers_poll {
                self.heard_through = NOW;
                if self.unread && rules.hears_before_closing {
                    self.last_heard = NOW;
                }
                self.unread = false;
            }
            return Ok(());
        }
        if action.client_sends {
            self.last_sent = NOW;
            self.unread = true;
        }
        if action.workers_poll {
            self.heard_through = NOW;
            if self.unread {
                self.unread = false;
                self.last_heard = NOW;
                self.last_answered = NOW;
                // What it is answered is at most H old.
                if reads && self.applied < self.committed[LEASE as usize] {
                    return Err(Property::NoStalerThanLease);
                }
            }
        }
        Ok(())
    }
}

impl Lease {
    /// Reports go to the leader, acknowledgements and the log to the server.
    fn reports(&self, state: &mut State, action: Action, quorum: bool) {
        // More than two under way would say nothing new: the newest one matters, and how late it is.
        if state.reports.len() == 2 {
            state.reports.remove(0);
        }
        // They go on after the connection is closed.
        let (touch, heard_through) = (state.last_heard, state.heard_through);
        state.reports.push(Report { sent: NOW, touch, heard_through });
        let mut newest = None;
        let arrive = match action.reports_arrive {
            Arrive::All => state.reports.len(),
            Arrive::Oldest => state.reports.len().min(1),
            Arrive::None => 0,
        };
        for _ in 0..arrive {
            let report = state.reports.remove(0);
            if state.leads {
                state.touch = report.touch;
                state.reported_through = report.heard_through;
                state.last_report = report.sent;
                state.last_report_came = NOW;
                newest = Some(report);
            }
        }
        state.was_interrupted |= state.is_interrupted();
        let connected = action.acknowledgement_arrives && state.leads;
        if connected && quorum && action.log_arrives {
            state.applied = NOW;
        }
        match self.rules.contact {
            Contact::AnyMessage if connected => state.contact = NOW,
            Contact::AnyMessage => {}
            Contact::SendTimeOfReport => {
                if let Some(report) = newest
                    && connected
                    && (quorum || !self.rules.acknowledged_after_quorum)
                {
                    let commit = if quorum { NOW } else { state.confirmed };
                    state.waits_for_apply = Some(Acknowledged { sent: report.sent, commit });
                }
                if let Some(Acknowledged { sent, commit }) = state.waits_for_apply
                    && (state.applied >= commit || !self.rules.contact_waits_for_apply)
                {
                    state.contact = sent;
                    state.waits_for_apply = None;
                }
            }
        }
    }

    /// Whoever leads expires the session when it may.
    fn expiry(&self, state: &mut State, quorum: bool) -> Result<(), Property> {
        let grace = TIMEOUT / 3;
        let deadline = match state.successor_since {
            Some(since) => since + TIMEOUT + if self.rules.new_leader_grants_more { grace } else { 0 },
            None if state.is_interrupted() => match self.rules.interrupted {
                Interrupted::FromLastReport => state.last_report + TIMEOUT + grace,
                Interrupted::FromLastTouch => state.touch + TIMEOUT + grace,
                Interrupted::WithoutGrace => state.last_report + TIMEOUT,
            },
            None if self.rules.silence_to_heard_through => {
                // Expired once a report says that all of T was silent.
                if state.reported_through - state.touch >= TIMEOUT { NOW } else { i8::MAX }
            }
            None => state.touch + TIMEOUT,
        };
        let can_commit = quorum || state.successor_since.is_some();
        state.expired = can_commit && NOW >= deadline;
        if !state.expired {
            return Ok(());
        }
        let unheard = state.last_sent > state.last_heard;
        if unheard && NOW - state.last_sent < TIMEOUT && !state.was_interrupted {
            return Err(Property::StallIsNotSilence);
        }
        if state.serves {
            return Err(Property::ExpiredIsNotServed);
        }
        if NOW - state.last_answered < TIMEOUT {
            return Err(Property::HeardIsNotExpired);
        }
        Ok(())
    }
}

impl State {
    /// Whether the server's reports have stopped coming, as the leader sees it.
    fn is_interrupted(&self) -> bool {
        NOW - self.last_report_came > 1
    }
}
