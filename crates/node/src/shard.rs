//! The connections of one I/O worker: handshake, request order, reads, watches.

mod connection;
mod handshake;
mod publication;
mod read;
mod read_only;
mod request;
mod stats;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use ostler_tree::State;
use ostler_types::{ErrorCode, SessionId};
use ostler_wire::{Limits, frame};
use slab::Slab;

use crate::auth::AuthSettings;
use crate::command::CommandBuffer;
use crate::inbox::Inbox;
use crate::replica::{Handshake, ShardRequests};
use crate::watches::WatchTable;
use crate::{ConnId, ConnToken, Lease, Millis, ShardId, SharedState};

pub use connection::{ClosedConnection, ConnectionEnd, Output};
use connection::{Connection, Deferred, Pause, Phase};
pub use stats::{ConnectionFacts, Gauge, ShardStats};

/// How often the connections are looked at while the lease does not hold for all of them.
const LEASE_LOOK_MS: Millis = 10;
/// Longest time between two reports of who was heard from.
const REPORT_MS: Millis = 100;
/// A connection with more unsent output than this is not read from until its client takes some.
const OUTPUT_HIGH_WATER: usize = 1 << 20;
/// A client that lets this much pile up (only watch events can, once it is not read from) is misbehaving.
const OUTPUT_LIMIT: usize = 64 << 20;
/// Requests in flight or waiting their turn may hold this many bytes per shard; past it connections wait.
const HELD_BYTES: usize = 32 << 20;
/// Past this, requests larger than [`LARGE_REQUEST`] wait whoever sends them; smaller ones cannot add up to much.
const HELD_BYTES_LARGE: usize = 128 << 20;
/// A request larger than this is not let in while [`HELD_BYTES_LARGE`] are held, bytes.
const LARGE_REQUEST: usize = 4 << 10;
/// How many entries of a queue may outlive their connections, beyond one for each that is left.
const QUEUE_SLACK: usize = 1024;
/// A client may send this many bytes ahead of its session; the rest stays in its socket until it has one.
const EARLY_BYTES: usize = 64 << 10;
/// What a write is told when the disk is full: it was not executed and may be tried again.
const NO_ROOM: ErrorCode = ErrorCode::ThrottledOp;

/// What a shard needs to know.
pub struct ShardSettings {
    /// This server's number.
    pub server: u8,
    /// Largest frame accepted, bytes (`jute.maxbuffer`).
    pub max_frame: usize,
    /// Longest string or buffer accepted (`jute.maxbuffer` + `jute.maxbuffer.extrasize`).
    pub limits: Limits,
    /// Bounds of a negotiated session timeout, milliseconds.
    pub session_timeout_ms: std::ops::RangeInclusive<u32>,
    /// Requests in flight in this shard past which connections wait their turn
    /// (`globalOutstandingLimit`, shared out).
    pub outstanding_limit: usize,
    /// Unsent output of all connections of this shard together, bytes. Past it no requests are served until there is
    /// less, and the clients that take nothing are closed, those with most output first.
    pub unsent_limit: usize,
    /// How long a connection may be without a session, milliseconds (`nio.sessionlessCnxnTimeout`).
    pub sessionless_timeout_ms: Millis,
    /// Authentication.
    pub auth: AuthSettings,
    /// Whether a write may enter the log now; the server clears it when the disk is full.
    pub admission: Arc<dyn Admission>,
    /// For how long sessions may be served without contact to a majority.
    pub lease: Arc<Lease>,
    /// Whether clients that allow it are given read-only sessions while there is no majority
    /// (`readonlymode.enabled`).
    pub read_only_mode: bool,
    /// Draws a session's secret.
    pub draw_secret: Box<dyn FnMut() -> [u8; 16] + Send>,
}

/// Reasons outside the node to turn requests away, shared by all shards.
pub trait Admission: Send + Sync {
    /// Whether there is room in the log for ordinary writes.
    fn writes_allowed(&self) -> bool;
    /// Whether one more session may be opened (`renew` is a returning one) now.
    fn connect_allowed(&self, renew: bool, now: Millis) -> bool;
}

/// Something the server must do with a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// There is output to write, or the connection is to be closed once it is written.
    Flush(ConnId),
    /// The connection may be read from again.
    Resume(ConnId),
    /// A four-letter word and what followed it; answer with [`Shard::answer_text`].
    Text(ConnToken, Vec<u8>),
}

/// See the module's documentation.
pub struct Shard {
    id: ShardId,
    settings: ShardSettings,
    state: SharedState,
    inbox: Arc<Inbox>,
    stats: Arc<ShardStats>,
    connections: Slab<Connection>,
    serial: u64,
    sessions: HashMap<SessionId, ConnId, FixedState>,
    read_only: read_only::ReadOnly,
    /// When this shard began.
    began: Millis,
    watches: WatchTable,
    commands: CommandBuffer,
    handshakes: Vec<Handshake>,
    /// Connections heard from since the last report.
    heard: Vec<ConnId>,
    /// Sessions whose connection ended since the last report, and when it was last heard.
    departed: Vec<(SessionId, Millis)>,
    next_report: Millis,
    /// What the last report was good for.
    reported_through: Millis,
    /// Connections we do not read from, for whatever reason, in no order.
    paused: Vec<ConnId>,
    /// Connections that wait until the shard holds fewer requests, longest first. Only the first is ever looked
    /// at. Those that have gone on otherwise or have ended stay until their turn.
    room_queue: VecDeque<ConnToken>,
    /// Connections that wait until there is less unsent output, longest first; otherwise as `room_queue`.
    output_queue: VecDeque<ConnToken>,
    /// Unsent output of all connections, bytes.
    unsent: usize,
    /// Connections without a session and when they run out of time, oldest first.
    sessionless: VecDeque<(Millis, ConnToken)>,
    outstanding: usize,
    held_bytes: usize,
    effects: Vec<Effect>,
    notified: Vec<ConnId>,
    /// What waits until everything committed is applied here: the number of the barrier, and whose it is.
    barriers: VecDeque<(u64, ConnToken)>,
    last_barrier: u64,
    /// Whether the core knows of the last one.
    barrier_is_new: bool,
    /// Snapshots that have ended its connections.
    installs: u64,
    /// When to look at the lease again while it does not hold for everybody.
    next_lease_look: Millis,
    /// Connections whose writes are answered and which have deferred requests to run.
    runnable: Vec<ConnId>,
}

impl Shard {
    /// A shard without connections.
    pub fn new(
        id: ShardId,
        settings: ShardSettings,
        state: SharedState,
        inbox: Arc<Inbox>,
        stats: Arc<ShardStats>,
        now: Millis,
    ) -> Self {
        Shard {
            id,
            settings,
            state,
            inbox,
            stats,
            connections: Slab::new(),
            serial: 0,
            sessions: HashMap::default(),
            read_only: read_only::ReadOnly::default(),
            began: now,
            watches: WatchTable::default(),
            commands: CommandBuffer::default(),
            handshakes: Vec::new(),
            heard: Vec::new(),
            next_report: now,
            reported_through: now,
            paused: Vec::new(),
            room_queue: VecDeque::new(),
            output_queue: VecDeque::new(),
            unsent: 0,
            sessionless: VecDeque::new(),
            outstanding: 0,
            held_bytes: 0,
            departed: Vec::new(),
            effects: Vec::new(),
            notified: Vec::new(),
            barriers: VecDeque::new(),
            last_barrier: 0,
            barrier_is_new: false,
            installs: 0,
            next_lease_look: 0,
            runnable: Vec::new(),
        }
    }

    /// A client has connected.
    pub fn open(&mut self, peer: SocketAddr, now: Millis) -> ConnId {
        self.serial += 1;
        let id = ConnId(self.connections.vacant_key() as u32);
        self.connections.insert(Connection::new(self.serial, peer, now));
        let token = ConnToken { id, serial: self.serial };
        self.sessionless.push_back((now + self.settings.sessionless_timeout_ms, token));
        self.stats.connections.set(self.connections.len() as u64);
        id
    }

    /// A client has connected where every read shows what was committed anywhere before it was received.
    pub fn open_linearizable(&mut self, peer: SocketAddr, now: Millis) -> ConnId {
        let id = self.open(peer, now);
        self.connections[id.0 as usize].is_linearizable = true;
        id
    }

    /// Bytes have arrived on a connection; all that its socket held.
    pub fn receive(&mut self, id: ConnId, bytes: &[u8], now: Millis) {
        let state = self.state.clone();
        let state = state.read();
        self.drain_inbox(&state, now);
        if self.lease_holds(id, now) {
            self.feed(id, bytes, &state, now);
        } else {
            self.note_heard(id, now);
            self.close(id, ConnectionEnd::LeaseOver);
        }
        self.settle(&state, now);
    }

    /// Something may be in the inbox.
    pub fn process_inbox(&mut self, now: Millis) {
        if self.inbox.is_waiting() {
            self.resume(now);
        }
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Millis) {
        self.judge_lease(now);
        self.judge_read_only(now);
        while let Some(&(deadline, token)) = self.sessionless.front() {
            if deadline > now {
                break;
            }
            self.sessionless.pop_front();
            if self.is_current(token) && self.connections[token.id.0 as usize].phase.is_sessionless() {
                self.close(token.id, ConnectionEnd::NoSession);
            }
        }
    }

    /// What there is for the replica. `heard_through` is the time before which every socket of this shard
    /// was last found without unread bytes.
    pub fn take_requests(&mut self, heard_through: Millis, now: Millis) -> Option<ShardRequests> {
        let report = now >= self.next_report;
        if !report && self.commands.is_empty() && self.handshakes.is_empty() && !self.barrier_is_new {
            return None;
        }
        let mut touches = Vec::new();
        if report {
            self.next_report = now + REPORT_MS;
            // Only with the touches: silence must not count up to a moment that somebody was heard before
            // and not yet reported.
            self.reported_through = heard_through;
            touches.append(&mut self.departed);
            for id in std::mem::take(&mut self.heard) {
                if let Some(connection) = self.connections.get_mut(id.0 as usize) {
                    connection.is_in_heard = false;
                    if connection.has_row() {
                        touches.push((connection.session, connection.last_heard));
                    }
                }
            }
            // Whoever we do not read from cannot be heard; that must not cost a session, unless it is
            // the client that takes nothing.
            for &id in &self.paused {
                if let Some(connection) = self.connections.get(id.0 as usize)
                    && connection.has_row()
                    && connection
                        .output
                        .blocked_since
                        .is_none_or(|since| now.saturating_sub(since) < Millis::from(connection.timeout_ms))
                {
                    touches.push((connection.session, heard_through));
                }
            }
        }
        Some(ShardRequests {
            shard: self.id,
            commands: std::mem::take(&mut self.commands),
            handshakes: std::mem::take(&mut self.handshakes),
            touches,
            heard_through: self.reported_through,
            barrier: std::mem::take(&mut self.barrier_is_new).then_some(self.last_barrier),
            installs: self.installs,
        })
    }

    /// When [`tick`](Self::tick) or [`take_requests`](Self::take_requests) has something to do next.
    pub fn next_deadline(&self) -> Millis {
        self.sessionless.front().map_or(self.next_report, |&(at, _)| at.min(self.next_report))
    }

    /// Whether there is something the server must do.
    pub fn has_effects(&self) -> bool {
        !self.effects.is_empty()
    }

    /// What the server must do, in order.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Gives back the vector of [`take_effects`](Self::take_effects), emptied, to be filled again.
    pub fn recycle(&mut self, mut effects: Vec<Effect>) {
        effects.clear();
        if self.effects.is_empty() {
            self.effects = effects;
        }
    }

    /// A connection's unsent output.
    pub fn output(&mut self, id: ConnId) -> Option<&mut Output> {
        self.connections.get_mut(id.0 as usize).map(|c| &mut c.output)
    }

    /// The server has written some of a connection's output, or the socket takes no more for now.
    pub fn output_progress(&mut self, id: ConnId, now: Millis) {
        let Some(connection) = self.connections.get_mut(id.0 as usize) else { return };
        connection.is_in_flush = false;
        let unsent = connection.output.len();
        if unsent == 0 {
            connection.output.blocked_since = None;
            connection.output.shrink();
        } else {
            connection.output.blocked_since.get_or_insert(now);
        }
        if unsent <= OUTPUT_HIGH_WATER {
            let waits = std::mem::take(&mut connection.waits_for_output);
            if waits || connection.paused == Some(Pause::Output) {
                self.make_runnable(id);
            }
        }
        self.count_unsent(id);
        if self.has_much_unsent() {
            self.drop_unsent();
        }
        if !self.runnable.is_empty() || self.can_go_on() {
            self.resume(now);
        }
    }

    /// Whether the server should read from this connection now.
    pub fn wants_read(&self, id: ConnId) -> bool {
        self.connections.get(id.0 as usize).is_some_and(|c| c.paused.is_none() && c.end.is_none())
    }

    /// Whether the connection is to be closed as soon as its output is written.
    pub fn is_closing(&self, id: ConnId) -> bool {
        self.connections.get(id.0 as usize).is_some_and(|c| c.end.is_some())
    }

    /// Whether the connection is to be closed now: its last output is written. To be asked after
    /// [`output_progress`](Self::output_progress), which may add to the output.
    pub fn is_finished(&self, id: ConnId) -> bool {
        self.connections.get(id.0 as usize).is_some_and(|c| c.end.is_some() && c.output.len() == 0)
    }

    /// The socket is closed or about to be; `end` is why, unless the shard had decided already.
    pub fn remove(&mut self, id: ConnId, end: ConnectionEnd, now: Millis) -> Option<ClosedConnection> {
        self.connections.get(id.0 as usize)?;
        self.unpause(id);
        let mut connection = self.connections.remove(id.0 as usize);
        let end = connection.end.take().unwrap_or(end);
        self.outstanding -= connection.outstanding();
        self.unsent -= connection.unsent;
        self.held_bytes -= connection.in_flight.iter().map(|r| r.bytes).sum::<usize>();
        self.held_bytes -= connection.deferred.iter().map(Deferred::bytes).sum::<usize>();
        if connection.is_in_heard && connection.has_row() {
            self.departed.push((connection.session, connection.last_heard));
        }
        if connection.session != SessionId::NONE && self.sessions.get(&connection.session) == Some(&id) {
            self.sessions.remove(&connection.session);
        }
        self.watches.remove_connection(id);
        self.watching_changed();
        self.stats.connections.set(self.connections.len() as u64);
        self.stats.outstanding.set(self.outstanding as u64);
        let connections = &self.connections;
        for queue in [&mut self.room_queue, &mut self.output_queue] {
            if queue.len() > 2 * connections.len() + QUEUE_SLACK {
                queue.retain(|token| {
                    connections.get(token.id.0 as usize).is_some_and(|c| c.serial == token.serial)
                });
            }
        }
        if self.can_go_on() {
            self.resume(now);
        }
        Some(ClosedConnection {
            peer: connection.peer,
            session: (connection.session != SessionId::NONE).then_some(connection.session),
            end,
            silent_ms: now.saturating_sub(connection.last_heard),
            oversized: connection.oversized,
        })
    }

    /// The answer to a four-letter word; the connection closes after it.
    pub fn answer_text(&mut self, connection: ConnToken, text: &[u8]) {
        if self.is_current(connection) {
            self.connections[connection.id.0 as usize].output.bytes().extend_from_slice(text);
            self.close(connection.id, ConnectionEnd::TextAnswered);
        }
    }

    /// The facts about every connection, for `cons` and its like.
    pub fn connection_facts(&self, now: Millis) -> Vec<ConnectionFacts> {
        self.connections.iter().map(|(_, c)| c.facts(now)).collect()
    }

    /// Sets the counters of every connection back (`crst`).
    pub fn reset_connection_stats(&mut self) {
        for (_, connection) in &mut self.connections {
            connection.stats.reset();
        }
    }

    /// (session, path) pairs of the data watches, for `wchc` and `wchp`.
    pub fn watch_facts(&self) -> Vec<(SessionId, String)> {
        self.watches
            .data_watches()
            .filter_map(|(id, path)| Some((self.connections.get(id.0 as usize)?.session, path.to_owned())))
            .collect()
    }

    /// Every connection, for shutting down.
    pub fn connection_ids(&self) -> Vec<ConnId> {
        self.connections.iter().map(|(key, _)| ConnId(key as u32)).collect()
    }

    /// No further requests are taken; connections close when those they have sent are answered. Bytes of which no
    /// request has been made yet are dropped.
    pub fn begin_shutdown(&mut self) {
        self.room_queue.clear();
        for id in self.connection_ids() {
            self.pause(id, Pause::Stopping);
            self.connections[id.0 as usize].input = Vec::new();
            self.close_if_stopped(id);
        }
    }

    /// Closes a connection of a server that is stopping when all its requests are answered.
    fn close_if_stopped(&mut self, id: ConnId) {
        let connection = &self.connections[id.0 as usize];
        if connection.paused == Some(Pause::Stopping) && connection.outstanding() == 0 {
            self.close(id, ConnectionEnd::Shutdown);
        }
    }

    /// Any byte shows that the client lives.
    fn note_heard(&mut self, id: ConnId, now: Millis) {
        let connection = &mut self.connections[id.0 as usize];
        connection.last_heard = now;
        if !connection.is_in_heard {
            connection.is_in_heard = true;
            self.heard.push(id);
        }
    }

    fn is_current(&self, token: ConnToken) -> bool {
        self.connections.get(token.id.0 as usize).is_some_and(|c| c.serial == token.serial)
    }

    /// Marks a connection for closing once its output is written. The first reason stays.
    fn close(&mut self, id: ConnId, end: ConnectionEnd) {
        let connection = &mut self.connections[id.0 as usize];
        if connection.end.is_none() {
            connection.end = Some(end);
            connection.input = Vec::new();
            if end == ConnectionEnd::NotReading {
                connection.output.discard();
            }
            self.flush(id);
        }
    }

    fn flush(&mut self, id: ConnId) {
        self.count_unsent(id);
        let connection = &mut self.connections[id.0 as usize];
        if !connection.is_in_flush {
            connection.is_in_flush = true;
            self.effects.push(Effect::Flush(id));
        }
    }

    /// To be called whenever a connection's output has changed.
    fn count_unsent(&mut self, id: ConnId) {
        let connection = &mut self.connections[id.0 as usize];
        let unsent = connection.output.len();
        self.unsent = self.unsent - connection.unsent + unsent;
        connection.unsent = unsent;
    }

    fn has_much_unsent(&self) -> bool {
        self.unsent > self.settings.unsent_limit
    }

    /// Closes those of the clients that take nothing for which most is kept, until an eighth of the limit is free:
    /// looking for them is not cheap. What no socket has refused yet is not held against anybody.
    fn drop_unsent(&mut self) {
        let mut blocked: Vec<_> = self
            .connections
            .iter()
            .filter(|(_, c)| c.output.blocked_since.is_some())
            .map(|(key, c)| (c.unsent, ConnId(key as u32)))
            .collect();
        blocked.sort_unstable_by(|a, b| b.cmp(a));
        let target = self.settings.unsent_limit - self.settings.unsent_limit / 8;
        for (_, id) in blocked {
            if self.unsent <= target {
                break;
            }
            self.close(id, ConnectionEnd::NotReading);
            // It may have been about to close for another reason.
            self.connections[id.0 as usize].output.discard();
            self.flush(id);
        }
    }

    fn watching_changed(&self) {
        self.inbox.set_watching(!self.watches.is_empty());
        self.stats.watches.set(self.watches.data_entries() as u64);
    }

    /// Splits what has arrived into frames and handles them while the connection may go on.
    fn feed(&mut self, id: ConnId, bytes: &[u8], state: &State, now: Millis) {
        if !self.connections.contains(id.0 as usize) {
            return;
        }
        if !bytes.is_empty() {
            self.stats.bytes_received.add(bytes.len() as u64);
            self.note_heard(id, now);
        }
        let Some(connection) = self.connections.get_mut(id.0 as usize) else { return };
        // Whole frames are handled where they lie; only a partial one is kept.
        let mut kept = std::mem::take(&mut connection.input);
        let available = if kept.is_empty() {
            bytes
        } else {
            kept.extend_from_slice(bytes);
            &kept
        };
        let mut at = 0;
        while let Some(connection) = self.connections.get_mut(id.0 as usize) {
            if connection.end.is_some() {
                return;
            }
            if let Some(left) = connection.discard(available.len() - at) {
                at = available.len() - left;
            }
            if connection.paused.is_some() || connection.discarding() {
                break;
            }
            if let Some(why) = self.obstacle(id) {
                self.pause(id, why);
                break;
            }
            let rest = &available[at..];
            match self.take_frame(id, rest, state, now) {
                Some(used) => at += used,
                None => break,
            }
        }
        let Some(connection) = self.connections.get_mut(id.0 as usize) else { return };
        if connection.end.is_some() {
            return;
        }
        if at < available.len() {
            if kept.is_empty() {
                connection.input = bytes[at..].to_vec();
            } else {
                kept.drain(..at);
                connection.input = kept;
            }
        }
        if self.is_early(id) {
            self.pause(id, Pause::Session);
        }
    }

    /// Whether the client has sent a lot before it has a session.
    fn is_early(&self, id: ConnId) -> bool {
        let connection = &self.connections[id.0 as usize];
        matches!(connection.phase, Phase::Connecting(_) | Phase::Checking(_))
            && connection.input.len() >= EARLY_BYTES
    }

    /// Handles what stands at the front of `rest`; returns how many bytes that was, or nothing if more are
    /// needed.
    fn take_frame(&mut self, id: ConnId, rest: &[u8], state: &State, now: Millis) -> Option<usize> {
        match &self.connections[id.0 as usize].phase {
            Phase::Fresh => self.take_first_frame(id, rest, state, now),
            // What is pipelined behind the ConnectRequest waits for its answer.
            Phase::Connecting(_) | Phase::Checking(_) => None,
            // Nobody will read it.
            Phase::Text => (!rest.is_empty()).then_some(rest.len()),
            Phase::Established => match frame::scan(rest, self.settings.max_frame) {
                frame::Scan::NeedMore(_) => None,
                frame::Scan::Frame(range) => {
                    // Also from a connection that has nothing else under way: there may be thousands of them.
                    if range.len() > LARGE_REQUEST && self.held_bytes >= HELD_BYTES_LARGE {
                        self.pause(id, Pause::Room);
                        return None;
                    }
                    let end = range.end;
                    self.handle_request(id, &rest[range], state, now);
                    Some(end)
                }
                frame::Scan::Negative(_) => {
                    self.close(id, ConnectionEnd::BadFrame);
                    Some(rest.len())
                }
                frame::Scan::TooLong { len } => self.take_oversized(id, rest, len, now),
            },
        }
    }

    fn has_room(&self) -> bool {
        self.outstanding < self.settings.outstanding_limit && self.held_bytes < HELD_BYTES
    }

    /// What keeps a connection from taking one more request.
    fn obstacle(&self, id: ConnId) -> Option<Pause> {
        let connection = &self.connections[id.0 as usize];
        if self.is_early(id) {
            Some(Pause::Session)
        } else if connection.output.len() > OUTPUT_HIGH_WATER {
            Some(Pause::Output)
        } else if self.has_much_unsent() {
            Some(Pause::SharedOutput)
        } else if connection.outstanding() > 0 && !self.has_room() {
            Some(Pause::Room)
        } else {
            None
        }
    }

    fn pause(&mut self, id: ConnId, why: Pause) {
        let connection = &mut self.connections[id.0 as usize];
        if connection.paused.replace(why).is_none() {
            connection.paused_at = self.paused.len();
            self.paused.push(id);
        }
        if why == Pause::Room && !connection.is_in_room_queue {
            connection.is_in_room_queue = true;
            self.room_queue.push_back(ConnToken { id, serial: connection.serial });
        }
        if why == Pause::SharedOutput {
            self.wait_for_shared_output(id);
        }
    }

    fn wait_for_shared_output(&mut self, id: ConnId) {
        let connection = &mut self.connections[id.0 as usize];
        if !connection.is_in_output_queue {
            connection.is_in_output_queue = true;
            self.output_queue.push_back(ConnToken { id, serial: connection.serial });
        }
    }

    /// Whether somebody in a queue may have their turn.
    fn can_go_on(&self) -> bool {
        !self.has_much_unsent()
            && (!self.output_queue.is_empty() || (!self.room_queue.is_empty() && self.has_room()))
    }

    fn unpause(&mut self, id: ConnId) {
        let connection = &mut self.connections[id.0 as usize];
        if connection.paused.take().is_some() {
            let at = connection.paused_at;
            self.paused.swap_remove(at);
            if let Some(moved) = self.paused.get(at) {
                self.connections[moved.0 as usize].paused_at = at;
            }
        }
    }

    /// Runs what has become possible although nothing arrived.
    fn resume(&mut self, now: Millis) {
        let state = self.state.clone();
        let state = state.read();
        self.drain_inbox(&state, now);
        self.settle(&state, now);
    }

    /// Whether this connection may still be served.
    fn lease_holds(&self, id: ConnId, now: Millis) -> bool {
        if self.settings.lease.holds_for_all(now) {
            return true;
        }
        let Some(connection) = self.connections.get(id.0 as usize) else { return true };
        if connection.is_read_only {
            // It has a lease of the opposite kind.
            return true;
        }
        let timeout_ms = match &connection.phase {
            Phase::Established => connection.timeout_ms,
            Phase::Checking(checking) => checking.timeout_ms,
            Phase::Connecting(connecting) => connecting.timeout_ms,
            Phase::Fresh | Phase::Text => return true,
        };
        self.settings.lease.holds(timeout_ms, now)
    }

    /// Closes what may not be served any longer (design, 8b). Only after everything that has arrived has been read:
    /// it counts as heard.
    fn judge_lease(&mut self, now: Millis) {
        if self.settings.lease.holds_for_all(now) || now < self.next_lease_look {
            return;
        }
        self.next_lease_look = now + LEASE_LOOK_MS;
        for id in self.connection_ids() {
            if self.connections[id.0 as usize].end.is_none() && !self.lease_holds(id, now) {
                self.close(id, ConnectionEnd::LeaseOver);
            }
        }
    }

    /// Asks to be told when everything that is committed by now, anywhere, is applied here.
    fn await_barrier(&mut self, id: ConnId) {
        self.last_barrier += 1;
        self.barrier_is_new = true;
        let serial = self.connections[id.0 as usize].serial;
        self.barriers.push_back((self.last_barrier, ConnToken { id, serial }));
    }

    /// Runs what has become possible: deferred requests, then connections that waited for room.
    fn settle(&mut self, state: &State, now: Millis) {
        loop {
            while let Some(id) = self.runnable.pop() {
                self.run_deferred(id, state, now);
            }
            if !self.has_much_unsent()
                && let Some(token) = self.output_queue.pop_front()
            {
                if self.is_current(token) {
                    self.connections[token.id.0 as usize].is_in_output_queue = false;
                    self.make_runnable(token.id);
                }
                continue;
            }
            let Some(&token) = self.room_queue.front() else { break };
            let waits = self.is_current(token)
                && self.connections[token.id.0 as usize].paused == Some(Pause::Room)
                && self.connections[token.id.0 as usize].end.is_none();
            if waits && !self.has_room() {
                break;
            }
            self.room_queue.pop_front();
            if self.is_current(token) {
                self.connections[token.id.0 as usize].is_in_room_queue = false;
            }
            if waits {
                self.go_on(token.id, state, now);
            }
        }
        self.stats.outstanding.set(self.outstanding as u64);
    }

    /// Goes on with what a connection has received, and with reading from it, if nothing is in the way any more.
    fn go_on(&mut self, id: ConnId, state: &State, now: Millis) {
        let connection = &self.connections[id.0 as usize];
        if connection.end.is_some() || connection.paused == Some(Pause::Stopping) {
            return;
        }
        let was_paused = connection.paused.is_some();
        if was_paused {
            if let Some(why) = self.obstacle(id) {
                return self.pause(id, why);
            }
            self.unpause(id);
        }
        self.feed(id, &[], state, now);
        if was_paused && self.wants_read(id) {
            self.effects.push(Effect::Resume(id));
        }
    }
}
