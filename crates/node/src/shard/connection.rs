//! One client connection.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use ostler_tree::EndCause;
use ostler_types::{AuthId, ErrorCode, Generation, Sequence, SessionId, Xid, Zxid};
use ostler_wire::OpCode;

use super::stats::ConnectionStats;
use crate::Millis;
use crate::auth::peer_id;
use crate::command::EncodedAuth;

/// Output buffers up to this size are kept between replies, bytes.
const KEEP_OUTPUT: usize = 512;

/// Most bytes of identities one connection may collect, as they are in a log entry: hundreds of ordinary ones.
/// ZooKeeper has no limit, and keeps each connection's to itself.
const MAX_IDENTITY_BYTES: usize = 16 << 10;

/// Where a connection stands.
///
/// ```text
/// Fresh --ConnectRequest--> Connecting --session ready--> Established
///   |                          ^
///   |--of a session not known--' Checking
///   '--four-letter word--> Text
/// ```
/// From each of them the connection may end; that is `Connection::end`, because output may still be unsent.
#[derive(Debug)]
pub(super) enum Phase {
    /// Nothing understood yet.
    Fresh,
    /// A session is asked for that is not known here; whether it exists is judged when everything that is committed
    /// is applied.
    Checking(Box<Checking>),
    /// A session has been asked for and the log has not answered.
    Connecting(Box<Connecting>),
    /// A four-letter word is being answered.
    Text,
    /// Requests are served.
    Established,
}

impl Phase {
    pub(super) fn is_sessionless(&self) -> bool {
        matches!(self, Phase::Fresh)
    }
}

/// A ConnectRequest for a session that is not known here yet.
#[derive(Debug)]
pub(super) struct Checking {
    pub(super) session: SessionId,
    pub(super) timeout_ms: u32,
    pub(super) connecting: Connecting,
}

/// What the answer to a ConnectRequest will need.
#[derive(Debug)]
pub(super) struct Connecting {
    /// When the ConnectRequest was read: latency counts from there.
    pub(super) received: Millis,
    pub(super) secret: [u8; 16],
    /// Negotiated.
    pub(super) timeout_ms: u32,
    pub(super) last_zxid_seen: Zxid,
    /// The client's own form of the handshake has the flag; the answer mirrors it.
    pub(super) has_read_only: bool,
    pub(super) attach: bool,
}

/// Why a connection is not read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pause {
    /// The shard holds as many requests as it may; goes on in the order of `Shard::room_queue`, or when all of its
    /// own requests are answered.
    Room,
    /// It has much unsent output; goes on when its client takes some.
    Output,
    /// All clients together have much unsent output; goes on in the order of `Shard::output_queue`.
    SharedOutput,
    /// It has sent much ahead of its session; goes on when it has one.
    Session,
    /// The server is stopping; never goes on.
    Stopping,
}

/// A numbered request whose outcome the log has not told yet.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) xid: Xid,
    pub(super) op: OpCode,
    pub(super) sequence: Sequence,
    pub(super) received: Millis,
    pub(super) bytes: usize,
}

/// A request that must wait for the ones in flight: reads show what this session wrote before, and a write
/// behind such a read must not be applied before the read is served.
#[derive(Debug)]
pub(super) struct Deferred {
    pub(super) xid: Xid,
    pub(super) received: Millis,
    pub(super) what: Waiting,
}

impl Deferred {
    /// Bytes held in memory.
    pub(super) fn bytes(&self) -> usize {
        match &self.what {
            Waiting::Request(_, body) => body.len(),
            Waiting::Refused(..) | Waiting::Unknown => 0,
        }
    }
}

/// What stands before a read that must show everything committed when it was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Barrier {
    /// Nothing does.
    None,
    /// The read at the front waits.
    Waiting,
    /// The read at the front may be served.
    Passed,
}

#[derive(Debug)]
pub(super) enum Waiting {
    Request(OpCode, Box<[u8]>),
    /// Already refused; the answer keeps its place in the order.
    Refused(OpCode, ErrorCode),
    /// An unknown operation, answered with zxid -1.
    Unknown,
}

/// Bytes on their way to a client.
#[derive(Debug, Default)]
pub struct Output {
    bytes: Vec<u8>,
    sent: usize,
    /// Since when the socket has taken nothing, if there is something for it.
    pub(super) blocked_since: Option<Millis>,
}

impl Output {
    /// What is still to be sent.
    pub fn unsent(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// The first `count` unsent bytes are sent.
    pub fn advance(&mut self, count: usize) {
        self.sent += count;
        if count > 0 {
            self.blocked_since = None;
        }
        if self.sent == self.bytes.len() {
            self.bytes.clear();
            self.sent = 0;
        } else if self.sent > (1 << 20) {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// Gives up on what is unsent.
    pub(super) fn discard(&mut self) {
        *self = Output::default();
    }

    pub(super) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// An idle connection holds no buffer. One that is busy gets a new one with its next reply, which costs
    /// less than the system call that sends it.
    pub(super) fn shrink(&mut self) {
        if self.bytes.capacity() > KEEP_OUTPUT {
            self.bytes = Vec::new();
        }
    }
}

/// The rest of an oversized frame: counted and thrown away.
#[derive(Debug)]
struct Discard {
    left: usize,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) serial: u64,
    pub(super) peer: SocketAddr,
    pub(super) phase: Phase,
    pub(super) session: SessionId,
    pub(super) generation: Generation,
    pub(super) sequence: Sequence,
    pub(super) timeout_ms: u32,
    pub(super) auth: Arc<[AuthId]>,
    pub(super) encoded_auth: EncodedAuth,
    pub(super) in_flight: VecDeque<InFlight>,
    pub(super) deferred: VecDeque<Deferred>,
    pub(super) barrier: Barrier,
    /// Every read shows what was committed anywhere before it was received.
    pub(super) is_linearizable: bool,
    /// Its session is a read-only one, of this connection alone.
    pub(super) is_read_only: bool,
    pub(super) input: Vec<u8>,
    discard: Option<Discard>,
    pub(super) output: Output,
    pub(super) last_heard: Millis,
    pub(super) is_in_heard: bool,
    pub(super) is_in_flush: bool,
    pub(super) is_runnable: bool,
    pub(super) paused: Option<Pause>,
    /// Where it stands in `Shard::paused`, if it is paused.
    pub(super) paused_at: usize,
    /// It has an entry in `Shard::room_queue`, used or not.
    pub(super) is_in_room_queue: bool,
    /// It has an entry in `Shard::output_queue`, used or not.
    pub(super) is_in_output_queue: bool,
    /// The part of `Shard::unsent` that is its own.
    pub(super) unsent: usize,
    /// Deferred requests could go on but for the output that is not taken.
    pub(super) waits_for_output: bool,
    pub(super) oversized: u32,
    pub(super) end: Option<ConnectionEnd>,
    pub(super) stats: ConnectionStats,
}

impl Connection {
    pub(super) fn new(serial: u64, peer: SocketAddr, now: Millis) -> Self {
        let auth: Arc<[AuthId]> = [peer_id(peer.ip())].into();
        Connection {
            serial,
            peer,
            phase: Phase::Fresh,
            session: SessionId::NONE,
            generation: Generation(0),
            sequence: Sequence(0),
            timeout_ms: 0,
            encoded_auth: EncodedAuth::new(&auth),
            auth,
            in_flight: VecDeque::new(),
            deferred: VecDeque::new(),
            barrier: Barrier::None,
            is_linearizable: false,
            is_read_only: false,
            input: Vec::new(),
            discard: None,
            output: Output::default(),
            last_heard: now,
            is_in_heard: false,
            is_in_flush: false,
            is_runnable: false,
            paused: None,
            paused_at: 0,
            is_in_room_queue: false,
            is_in_output_queue: false,
            unsent: 0,
            waits_for_output: false,
            oversized: 0,
            end: None,
            stats: ConnectionStats::new(now),
        }
    }

    /// Whether its session is one of the replicated ones.
    pub(super) fn has_row(&self) -> bool {
        self.session != SessionId::NONE && !self.is_read_only
    }

    /// Whether the newest request in flight is a reconfig.
    pub(super) fn awaits_reconfig(&self) -> bool {
        self.in_flight.back().is_some_and(|request| request.op == OpCode::Reconfig)
    }

    /// Requests that are not answered yet.
    pub(super) fn outstanding(&self) -> usize {
        self.in_flight.len() + self.deferred.len()
    }

    pub(super) fn start_discarding(&mut self, bytes: usize) {
        self.discard = Some(Discard { left: bytes });
    }

    /// Throws away what belongs to an oversized frame; returns how many of the `available` bytes are left.
    pub(super) fn discard(&mut self, available: usize) -> Option<usize> {
        let discard = self.discard.as_mut()?;
        let thrown = discard.left.min(available);
        discard.left -= thrown;
        if discard.left == 0 {
            self.discard = None;
        }
        Some(available - thrown)
    }

    pub(super) fn discarding(&self) -> bool {
        self.discard.is_some()
    }

    /// Adds identities; returns whether there was room for them. Every write carries all of a connection's
    /// identities into the log.
    pub(super) fn add_identities(&mut self, ids: Vec<AuthId>) -> bool {
        let mut all = self.auth.to_vec();
        for id in ids {
            if !all.contains(&id) {
                all.push(id);
            }
        }
        let encoded = EncodedAuth::new(&all);
        if encoded.len() > MAX_IDENTITY_BYTES {
            return false;
        }
        self.encoded_auth = encoded;
        self.auth = all.into();
        true
    }
}

/// Why a connection ended. Distinct from why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionEnd {
    /// The client closed it, or the network did.
    PeerClosed,
    /// The socket reported an error.
    SocketError,
    /// No ConnectRequest within the time allowed.
    NoSession,
    /// The first bytes are no ConnectRequest.
    BadHandshake,
    /// A frame has a negative length or no header.
    BadFrame,
    /// Too many sessions are being opened right now.
    Throttled,
    /// The client has seen a later state than this server.
    ClientAhead,
    /// The session is over or the secret was wrong; the client was told "expired".
    SessionRefused,
    /// Another connection attached the session first; the client may come again.
    AttachLost,
    /// The session is served on a newer connection.
    Moved,
    /// The session ended.
    SessionEnded(EndCause),
    /// An authentication packet was refused.
    AuthFailed,
    /// The client does not take what it is sent.
    NotReading,
    /// A four-letter word was answered.
    TextAnswered,
    /// This server has been out of touch with a majority for too long; the client may find one that is not.
    LeaseOver,
    /// It was read-only, and there is a majority again: the client can have a real session.
    ReadOnlyOver,
    /// A snapshot replaces this server's state, so what the client waits for will not be answered here.
    SnapshotInstalled,
    /// The server is stopping.
    Shutdown,
}

/// A connection that is gone, for the log.
#[derive(Clone, Debug)]
pub struct ClosedConnection {
    /// The client's address.
    pub peer: SocketAddr,
    /// Its session, if it had one.
    pub session: Option<SessionId>,
    /// Why it ended.
    pub end: ConnectionEnd,
    /// How long nothing had been heard on it, milliseconds.
    pub silent_ms: Millis,
    /// Oversized requests it had sent.
    pub oversized: u32,
}
