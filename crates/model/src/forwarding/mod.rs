//! A session's writes on their way through servers, links and leaders (invariants 5 and 6).
//!
//! One client keeps up to a few writes in flight on a connection to one of two servers, and reconnects to either
//! when it loses that connection. Servers forward what they read to the leader, which is abstract: it appends
//! to the log what arrives, in any order of the two links. Entries commit in order, and each server applies
//! committed ones in order, when it likes. A client is answered by the server that has its connection.
//!
//! What can go wrong, each as often as the [`Bounds`] say: the client loses its connection and the server does
//! not notice (*half-open*); the leader changes, and any number of uncommitted entries survives; a link breaks,
//! and what was on it may still arrive, late and in part; the leader drops a forwarded command; a server
//! crashes; a server installs a snapshot instead of applying entries; the leader expires the session.
//!
//! Each field of [`Rules`] is one rule of the design. With all of them nothing breaks; without any of them
//! something does, which `tests/forwarding.rs` shows one by one.

mod state;
mod words;
mod world;

use std::fmt;

pub use state::State;
pub use world::Action;

/// How a write's sequence number is judged when it is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judge {
    /// Only last + 1 of the current generation applies: the rule.
    ExactlyNext,
    /// Whatever is larger than the last applies, as if gaps could not be.
    AnyLarger,
    /// Numbers are not looked at.
    Everything,
}

/// What a server does with its clients' connections when it installs a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtSnapshot {
    /// It closes them first: the rule.
    Close,
    /// It keeps them and goes on waiting for outcomes.
    KeepWaiting,
    /// It keeps them and answers what the snapshot's last sequence says was applied.
    AnswerIfSeen,
}

/// The rules, each of which can be switched off.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Apply takes exactly last + 1 (6).
    pub judge: Judge,
    /// A write names the generation it was numbered in, and applies only while that is the current one (6).
    pub write_names_generation: bool,
    /// A server applies, and answers, only what is committed (1).
    pub applies_only_committed: bool,
    /// An attach names the generation seen when its ConnectRequest was handled, and applies only to that (5a).
    pub attach_names_generation: bool,
    /// An expiry names the generation it was decided for, and applies only to that (8c).
    pub expire_names_generation: bool,
    /// createSession is numbered in its server's lane and applies only at the next number (5b).
    pub create_in_lane: bool,
    /// A ConnectRequest is not handled any more once its client has given up on the connection (5a).
    pub late_connect_requests_are_discarded: bool,
    /// A change of (leader, term) makes a server forward everything pending again (6a).
    pub leader_change_reforwards: bool,
    /// So does a broken link (6a).
    pub broken_link_reforwards: bool,
    /// A leader that drops a numbered request says so (6a).
    pub drops_are_refusals: bool,
    /// A refusal makes the server forward everything pending again (6a).
    pub refusal_reforwards: bool,
    /// Forwarding again begins with the oldest (6a).
    pub oldest_first: bool,
    /// What a server refuses on its own is refused before it gets a number (6a).
    pub refused_before_numbered: bool,
    /// The identities of a write are those of the moment it was numbered, not of the moment it is forwarded (6a).
    pub identities_are_captured: bool,
    /// What happens to connections at a snapshot (6b).
    pub at_snapshot: AtSnapshot,
    /// lastZxidSeen is judged after the attach was applied, not before (5c).
    pub zxid_judged_after_attach: bool,
}

impl Rules {
    /// The design: every rule.
    pub const ALL: Rules = Rules {
        judge: Judge::ExactlyNext,
        write_names_generation: true,
        applies_only_committed: true,
        attach_names_generation: true,
        expire_names_generation: true,
        create_in_lane: true,
        late_connect_requests_are_discarded: true,
        leader_change_reforwards: true,
        broken_link_reforwards: true,
        drops_are_refusals: true,
        refusal_reforwards: true,
        oldest_first: true,
        refused_before_numbered: true,
        identities_are_captured: true,
        at_snapshot: AtSnapshot::Close,
        zxid_judged_after_attach: true,
    };
}

/// What the client does and how often each thing can go wrong.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Writes the client sends, at most 4.
    pub writes: u8,
    /// Whether the last write is closeSession.
    pub closes: bool,
    /// Whether the first write is one its server refuses on its own, such as an oversized one.
    pub first_is_refused: bool,
    /// Whether the client may send an addauth between writes, once.
    pub adds_auth: bool,
    /// Whether the client sends writes behind its ConnectRequest, before that is answered.
    pub writes_before_connected: bool,
    /// Connections the client opens, at most 4.
    pub connections: u8,
    /// Connections lost by the client without its server noticing.
    pub connection_losses: u8,
    /// Changes of the leader.
    pub leader_changes: u8,
    /// Links from a server to the leader that break.
    pub broken_links: u8,
    /// Forwarded commands dropped by the leader.
    pub drops: u8,
    /// Snapshots installed.
    pub snapshots: u8,
    /// Crashes of a server.
    pub crashes: u8,
    /// Decisions of the leader to expire the session.
    pub expiries: u8,
}

impl Bounds {
    /// Two writes, and nothing goes wrong.
    pub const CALM: Bounds = Bounds {
        writes: 2,
        closes: false,
        first_is_refused: false,
        adds_auth: false,
        writes_before_connected: false,
        connections: 1,
        connection_losses: 0,
        leader_changes: 0,
        broken_links: 0,
        drops: 0,
        snapshots: 0,
        crashes: 0,
        expiries: 0,
    };
}

/// What must never happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Property {
    /// A write is applied at most once.
    ExactlyOnce,
    /// Writes are applied in the order the client sent them.
    FifoOrder,
    /// A write is not applied when one sent before it on the same connection was not.
    NoWriteSkipped,
    /// A write is applied only while its own connection owns the session.
    OwnersWritesOnly,
    /// A write is applied under the identities its connection had when it was sent.
    SenderIdentities,
    /// A reply carries the outcome of its own request, in the order of requests.
    RepliesInOrder,
    /// A request is answered only by a server that has seen its outcome.
    KnownOutcomesOnly,
    /// What has been answered is in the log for good.
    AcknowledgedStays,
    /// A session that ended stays dead.
    DeadStaysDead,
    /// An expiry ends only a session nobody attached after it was decided.
    NoWrongKill,
    /// A client's newest connection is not closed because of its own attach.
    NotThrownOutByItself,
    /// A client's newest connection is closed because of an older one's attach at most once for each one lost.
    OneReconnectMore,
    /// A client is turned away only if its zxid is really from elsewhere.
    NotTurnedAway,
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Property::ExactlyOnce => "a write was applied twice",
            Property::FifoOrder => "a write was applied after a later one of its client",
            Property::NoWriteSkipped => {
                "a write was applied although an earlier one of its connection was not"
            }
            Property::OwnersWritesOnly => "a write was applied while another connection owned the session",
            Property::SenderIdentities => "a write was applied under identities added after it was sent",
            Property::RepliesInOrder => "a reply answers another request",
            Property::KnownOutcomesOnly => {
                "a request was answered by a server that does not know its outcome"
            }
            Property::AcknowledgedStays => "an answered write is not in the log",
            Property::DeadStaysDead => "an ended session lives again",
            Property::NoWrongKill => "an expiry killed a session that was attached after it was decided",
            Property::NotThrownOutByItself => "a client's connection was closed because of its own attach",
            Property::OneReconnectMore => "a lost connection cost more than one further reconnect",
            Property::NotTurnedAway => "a client was turned away for a zxid that its ensemble had given it",
        })
    }
}

/// The model: [`search`](crate::search()) it.
#[derive(Clone, Copy, Debug)]
pub struct Forwarding {
    /// Which rules are kept.
    pub rules: Rules,
    /// How far to look.
    pub bounds: Bounds,
}
