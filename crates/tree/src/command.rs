//! What the log can ask of the state: commands, and the operations inside a write.

use std::collections::BTreeMap;

use ostler_types::{AuthId, ErrorCode, Generation, LogIndex, NodeKind, Perms, Sequence, SessionId, Zxid};

use crate::{Member, ReconfigRequest, Settings};

/// One logged command. Applying it reads nothing but the command, the stamp of its entry
/// ([`State::begin_entry`](crate::State::begin_entry)) and the state itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Command<'a> {
    /// A server announces a new run of itself, which opens an empty lane for its createSession commands
    /// (invariant 5b). `boot` must be greater than every boot of that server before it, and at most
    /// [`MAX_BOOT`].
    RegisterBoot {
        /// myid of the server.
        server: u8,
        /// Number of the run, from 1.
        boot: u32,
        /// Drawn by the run. Two runs of one server may choose the same number while the registration of the
        /// first is still on its way: the lane is that run's whose nonce comes back. 0 in logs that are older
        /// than the nonce.
        nonce: u64,
    },
    /// Creates a session (consumes a zxid, as ZooKeeper's createSession does).
    CreateSession {
        /// The server that negotiated it, its first owner.
        server: u8,
        /// The run of that server; must be the registered one.
        boot: u32,
        /// Position in the lane of (`server`, `boot`); applied only at last + 1.
        number: u64,
        /// Negotiated timeout in milliseconds.
        timeout_ms: u32,
        /// Hash of the session's secret; which hash is the servers' affair.
        secret_hash: [u8; 32],
    },
    /// Attaches a session to a new connection (invariant 5a): refused if its generation is no longer `seen`,
    /// else the next generation owns it, its sequence starts at 0 and `timeout_ms` replaces the old timeout.
    /// Consumes no zxid.
    Attach {
        /// Whose session.
        session: SessionId,
        /// The generation the server saw when it handled the ConnectRequest.
        seen: Generation,
        /// Renegotiated timeout in milliseconds.
        timeout_ms: u32,
        /// The server that holds the connection, the new owner.
        server: u8,
    },
    /// Ends a session and deletes its ephemerals, in the order of their paths and under one zxid.
    EndSession {
        /// Whose session.
        session: SessionId,
        /// On what condition.
        condition: EndCondition,
        /// Why, for logs and operators.
        cause: EndCause,
        /// When its owner last heard from the client, Unix milliseconds; evidence, not read by apply.
        last_heard_ms: i64,
        /// The server that held it; evidence, not read by apply.
        owner: u8,
    },
    /// A client's write (invariant 6).
    Write {
        /// Whose write.
        session: SessionId,
        /// Generation of the connection it came on.
        generation: Generation,
        /// Its number within that generation.
        sequence: Sequence,
        /// The identities the connection held when the request arrived (4a, 6a).
        auth: &'a [AuthId],
        /// What to do.
        operation: Operation<'a>,
    },
    /// A numbered request that only the leader could refuse: it consumes its sequence and a zxid, and
    /// answers `error` (6a).
    Refused {
        /// Whose write.
        session: SessionId,
        /// Generation of the connection it came on.
        generation: Generation,
        /// Its number within that generation.
        sequence: Sequence,
        /// The answer.
        error: ErrorCode,
    },
    /// The cleaner's delete of an idle container or TTL znode (invariant 14). Applied only if the znode is
    /// still the one the cleaner saw, childless and idle by the log's own clock; only then does it consume a
    /// zxid.
    Clean {
        /// Which znode.
        path: &'a str,
        /// Its creation, so that a successor of the same name is safe.
        czxid: Zxid,
        /// Its last change, so that a renewed one is safe.
        mzxid: Zxid,
    },
    /// Replaces the settings that apply reads (4a). Consumes no zxid.
    Configure(Settings),
    /// Sets the start value of the zxid (10a): an import or a restore continues a history. Never backwards.
    Bootstrap {
        /// The zxid the next transaction follows.
        zxid: Zxid,
    },
    /// A standalone server becomes an ensemble of those its configuration names, itself as a rule. Ignored if
    /// there are members already. Consumes a zxid, which is the version of the membership.
    AdoptMembers {
        /// By server id. Those with a node are voters and learners from now on, as raft has them already; at
        /// least one votes.
        members: BTreeMap<u8, Member>,
    },
    /// The pending change is complete. Applied only if [`Membership::may_finish`](crate::Membership::may_finish)
    /// holds; a client's reconfig then consumes a zxid, which is the new version, and is answered.
    FinishReconfig {
        /// Which: [`PendingReconfig::begun`](crate::PendingReconfig::begun).
        begun: LogIndex,
    },
    /// The pending change will not be completed; the members stay as they are. A client's reconfig consumes a
    /// zxid and is answered with `error`.
    AbandonReconfig {
        /// Which: [`PendingReconfig::begun`](crate::PendingReconfig::begun).
        begun: LogIndex,
        /// The answer, [`ErrorCode::NewConfigNoQuorum`] as a rule.
        error: ErrorCode,
    },
    /// A member comes back with an empty disk (4c): its old node is to leave and the new one to take its place,
    /// without an operator. Ignored while another change is pending, if there is no such member, or if the node
    /// belongs to somebody. Consumes no zxid, nor does its end.
    BeginReplace {
        /// Which member.
        server: u8,
        /// Its new node.
        node: u64,
    },
}

/// Largest boot number: it has 24 bits of the session id.
pub const MAX_BOOT: u32 = (1 << 24) - 1;

/// What must hold for a session to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndCondition {
    /// The client closes it: a request like any other, judged by its number (invariant 6).
    InSequence(Generation, Sequence),
    /// The leader expires it: void if the session has been attached again meanwhile (8c).
    StillGeneration(Generation),
    /// An operator kills it: unconditional.
    Always,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EndCause {
    /// The client closed it.
    Closed = 1,
    /// Nothing was heard for its timeout.
    Expired = 2,
    /// An operator ended it.
    Killed = 3,
}

impl EndCause {
    /// The cause with this value in a logged command.
    pub fn from_code(code: u8) -> Option<EndCause> {
        Some(match code {
            1 => EndCause::Closed,
            2 => EndCause::Expired,
            3 => EndCause::Killed,
            _ => return None,
        })
    }
}

/// A decoded write operation. Whatever ZooKeeper decides while decoding (undecodable bodies, a null ACL vector
/// or unknown flags inside a multi, reads inside a multi) is decided before this exists.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation<'a> {
    /// create, create2, createContainer and createTTL.
    Create {
        /// As sent; a sequential one gets its suffix appended.
        path: &'a str,
        /// Null is not the same as empty.
        data: Option<&'a [u8]>,
        /// The list as sent; `None` is a null vector.
        acl: Option<Vec<AclEntry<'a>>>,
        /// CreateMode value as sent, unchecked.
        flags: i32,
        /// Which opcode asked.
        kind: NodeKind,
        /// Whether the answer shows the Stat: every create opcode but the plain `create` (1).
        want_stat: bool,
    },
    /// delete.
    Delete {
        /// As sent.
        path: &'a str,
        /// Expected data version, -1 for any.
        version: i32,
    },
    /// setData.
    SetData {
        /// As sent.
        path: &'a str,
        /// Null is not the same as empty.
        data: Option<&'a [u8]>,
        /// Expected data version, -1 for any.
        version: i32,
    },
    /// setACL.
    SetAcl {
        /// As sent.
        path: &'a str,
        /// The list as sent; `None` is a null vector.
        acl: Option<Vec<AclEntry<'a>>>,
        /// Expected ACL version (aversion), -1 for any.
        version: i32,
    },
    /// check, only meaningful inside a multi.
    Check {
        /// As sent.
        path: &'a str,
        /// Expected data version, -1 for any.
        version: i32,
    },
    /// All or nothing. A multi or reconfig inside a multi cannot be decoded from the wire; one that is built
    /// anyway fails that element with `MarshallingError`.
    Multi(Vec<Operation<'a>>),
    /// reconfig: validated and remembered, answered when the leader has brought it about (invariant 15).
    /// Inside a multi it is not an operation.
    Reconfig(ReconfigRequest<'a>),
}

/// An ACL entry as it came off the wire, where strings can be null. Whether it is valid is decided when it is
/// applied, at the moment ZooKeeper decides it (semantics, "ACLs").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AclEntry<'a> {
    /// What is allowed; any 32-bit value.
    pub perms: Perms,
    /// Scheme, `None` for a null string.
    pub scheme: Option<&'a str>,
    /// Id, `None` for a null string.
    pub id: Option<&'a str>,
}

impl<'a> AclEntry<'a> {
    /// `perms` for `scheme:id`.
    pub fn new(perms: Perms, scheme: &'a str, id: &'a str) -> Self {
        AclEntry { perms, scheme: Some(scheme), id: Some(id) }
    }

    /// The list `world:anyone:cdrwa`, ZooKeeper's `OPEN_ACL_UNSAFE`.
    pub fn open() -> Vec<AclEntry<'static>> {
        vec![AclEntry::new(Perms::ALL, "world", "anyone")]
    }
}
