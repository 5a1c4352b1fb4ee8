//! One server's decisions, without a socket, a disk or a clock.
//!
//! Two kinds of parts, each `handle(event, now) -> effects`:
//!
//! * [`Replica`] (one per server, driven by the thread that drives consensus) turns requests into log
//!   entries, applies committed entries to the replicated state, expires sessions and tells the shards what
//!   happened, in log order, through their [`Inbox`]es.
//! * [`Shard`] (one per I/O worker) owns connections: the handshake, request order, watches, reads. It
//!   answers reads from the shared state directly and hands writes to the replica.
//!
//! The one ordering rule everything hangs on (`docs/semantics.md`, "Order"): the replica delivers what a
//! command caused into the inboxes while it still holds the state's write lock, and a shard empties its
//! inbox under the read lock before it reads. So when a read sees a state, every event up to that state is
//! already in its connection's output.
//!
//! `now` is milliseconds of a clock that runs through suspends and never goes back.

mod auth;
mod cleaner;
mod command;
mod core;
mod deadlines;
mod expiry;
mod inbox;
mod leader;
mod lease;
mod operation;
mod peer;
mod pending;
mod replay;
mod replica;
mod shard;
mod watches;

pub use auth::{AuthSettings, DigestAlgorithm};
pub use cleaner::CleanerSettings;
pub use command::{CommandError, membership_context, parse_membership_context};
pub use core::{Core, CoreEffect, CoreError, CoreSettings, CoreStatus, News, Persist};
pub use inbox::{Inbox, Publication, Published};
pub use lease::Lease;
pub use peer::{FrameError, PeerFrame, Report};
pub use replay::replay;
pub use replica::{Handshake, Replica, ReplicaSettings, SessionEnd, ShardRequests};
pub use shard::{
    Admission, ClosedConnection, ConnectionEnd, ConnectionFacts, Effect, Gauge, Output, Shard, ShardSettings,
    ShardStats,
};

/// Milliseconds of the server's monotonic clock.
pub type Millis = u64;

/// A connection's slot within its shard. Slots are reused; see [`ConnToken`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u32);

/// A connection of a shard, told apart from later users of its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnToken {
    /// The slot.
    pub id: ConnId,
    /// How many connections the shard had seen when this one came.
    pub serial: u64,
}

/// A session shard of this server, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ShardId(pub u16);

/// The replicated state, shared between the replica, which writes, and the shards, which read.
pub type SharedState = std::sync::Arc<parking_lot::RwLock<ostler_tree::State>>;
