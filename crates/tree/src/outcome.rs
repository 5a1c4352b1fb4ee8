//! What applying a command answers, and the changes it made for watches.

use std::sync::Arc;

use ostler_types::{ErrorCode, EventType, Generation, Sequence, SessionId, Stat, Zxid};

use crate::acl::AclList;
use crate::command::EndCause;

/// What became of a command.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Of a [`Write`](crate::Command::Write) or [`Refused`](crate::Command::Refused).
    Write(Verdict),
    /// The server's lane is open.
    BootRegistered {
        /// myid of the server.
        server: u8,
        /// Number of the run.
        boot: u32,
        /// Of the run that registered it.
        nonce: u64,
    },
    /// The session exists.
    SessionCreated {
        /// Its id.
        session: SessionId,
        /// Its first generation.
        generation: Generation,
        /// Negotiated timeout in milliseconds.
        timeout_ms: u32,
        /// Of the creation.
        zxid: Zxid,
    },
    /// The session belongs to a new connection; the connection of any older generation must be closed.
    Attached {
        /// Its id.
        session: SessionId,
        /// The generation that now owns it.
        generation: Generation,
        /// Renegotiated timeout in milliseconds.
        timeout_ms: u32,
        /// The server that holds the connection.
        server: u8,
    },
    /// The session was attached elsewhere first, or has ended.
    AttachRefused {
        /// Its id.
        session: SessionId,
        /// The generation that owns it, or nothing if there is no such session.
        current: Option<Generation>,
    },
    /// The session and its ephemerals are gone.
    SessionEnded {
        /// Its id.
        session: SessionId,
        /// The last generation, whose connection is to be answered or closed.
        generation: Generation,
        /// Negotiated timeout in milliseconds.
        timeout_ms: u32,
        /// Of the end and of every delete in it.
        zxid: Zxid,
        /// From the command.
        cause: EndCause,
        /// From the command.
        last_heard_ms: i64,
        /// From the command.
        owner: u8,
        /// How many ephemerals went with it.
        ephemerals: usize,
    },
    /// The session did not end: the condition of the command did not hold.
    EndVoid {
        /// Its id.
        session: SessionId,
        /// Why not; an expiry of an older generation is [`Void::Moved`].
        reason: Void,
    },
    /// The cleaner's znode is gone.
    Cleaned {
        /// Of the delete.
        zxid: Zxid,
    },
    /// The settings are in force.
    Configured,
    /// The zxid has its start value.
    Bootstrapped {
        /// The value.
        zxid: Zxid,
    },
    /// There are members now.
    MembersAdopted {
        /// Of the change, and their version.
        zxid: Zxid,
    },
    /// A client's reconfig, pending until now, has its answer.
    Reconfigured {
        /// Whose.
        session: SessionId,
        /// Generation of the connection it came on; the session may have been attached elsewhere since.
        generation: Generation,
        /// Its number.
        sequence: Sequence,
        /// The transaction's zxid.
        zxid: Zxid,
        /// [`OpResult::Config`], or the error it was abandoned with.
        result: Result<OpResult, ErrorCode>,
    },
    /// The replacement is pending.
    ReplaceBegun {
        /// Of which member.
        server: u8,
        /// Its new node.
        node: u64,
    },
    /// The replacement is no longer pending.
    ReplaceEnded {
        /// Of which member.
        server: u8,
        /// Its new node.
        node: u64,
        /// Whether it was completed rather than abandoned.
        is_done: bool,
    },
    /// The command changed nothing and consumed nothing.
    Ignored(Ignored),
}

/// Apply's judgement of a numbered request (invariant 6).
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It was next in its session's order: it consumed its sequence and one zxid, whether it succeeded or not.
    Applied {
        /// The transaction's zxid.
        zxid: Zxid,
        /// The answer. A failed multi is `Ok(OpResult::Multi(..))`, as on the wire.
        result: Result<OpResult, ErrorCode>,
        /// Quotas this write exceeded, for a rate-limited log line. Empty costs nothing.
        over_quota: Vec<QuotaExceeded>,
    },
    /// It was next in its session's order and consumed its sequence, but no zxid: its answer comes later, as
    /// [`Outcome::Reconfigured`].
    Pending,
    /// It was not, and nothing changed.
    Void(Void),
}

/// Why a numbered request did not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Void {
    /// Its sequence has been applied before.
    Duplicate,
    /// A sequence before it is missing.
    Gap,
    /// The session belongs to a newer generation.
    Moved,
    /// There is no such session.
    NoSession,
}

/// Why a command without a session was ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    /// A boot number that is not greater than the server's last, or beyond [`MAX_BOOT`](crate::MAX_BOOT).
    StaleBoot,
    /// A createSession of a run that is not the server's registered one.
    ForeignBoot,
    /// A createSession out of its lane's order, or beyond the 32 bits a session id has for it.
    NotNextInLane,
    /// The znode has changed, has children, is of another kind or is not idle for long enough.
    NotIdle,
    /// A start zxid before the current one, or so large that counting on would overflow.
    ZxidOutOfRange,
    /// Members to adopt where there are some already, or none of whom votes.
    NotAdopted,
    /// The end of a change that is not pending.
    NoSuchReconfig,
    /// The completion of a change whose nodes are not what it wants.
    NotComplete,
    /// A replacement while another change is pending, of no member, or by a node that belongs to somebody.
    NotReplaceable,
}

/// The successful answer of an operation.
#[derive(Clone, Debug, PartialEq)]
pub enum OpResult {
    /// Created.
    Created {
        /// The final path, sequence included.
        path: Arc<str>,
        /// Present if the request wants it: it is the difference between a CreateResponse and a
        /// Create2Response.
        stat: Option<Stat>,
    },
    /// Deleted.
    Deleted,
    /// The data has changed.
    DataSet(Stat),
    /// The ACL has changed.
    AclSet(Stat),
    /// The membership has changed.
    Config {
        /// The new data of `/zookeeper/config`.
        data: Arc<str>,
        /// Its Stat.
        stat: Stat,
    },
    /// The version is as expected.
    Checked,
    /// One result per operation.
    Multi(Vec<MultiResult>),
}

/// The answer to one operation of a multi (protocol, "multi / multiRead framing").
#[derive(Clone, Debug, PartialEq)]
pub enum MultiResult {
    /// It happened, as did all others.
    Done(OpResult),
    /// It would have happened, but a later one failed: an error result with code 0.
    RolledBack,
    /// It failed, or with [`ErrorCode::RuntimeInconsistency`] was not tried because an earlier one failed.
    Failed(ErrorCode),
}

/// A quota that a write went over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaExceeded {
    /// The subtree the quota is on.
    pub path: Box<str>,
    /// What is counted.
    pub resource: QuotaResource,
    /// Whether the limit is hard: with `enforce_quota` the write then failed.
    pub hard: bool,
    /// The limit.
    pub limit: i64,
    /// What the write brings, or would have brought, the subtree to.
    pub value: i64,
}

/// What a quota limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaResource {
    /// Number of znodes, the top of the subtree included.
    Count,
    /// Sum of data lengths.
    Bytes,
}

/// One change of a znode, in the order in which ZooKeeper triggers watches (protocol, "Triggers"). A delete is
/// one change: that it notifies both data and child watches of the path follows from its type.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// What happened.
    pub event: EventType,
    /// To which znode.
    pub path: Arc<str>,
    /// In which transaction.
    pub zxid: Zxid,
    /// Who may be told: those with READ in this list. Open to all while ACL checks are skipped.
    pub acl: AclList,
}
