//! From the first bytes of a connection to its session (protocol, "Handshake"; design, invariant 5).

use ostler_tree::State;
use ostler_types::{Generation, Sequence, SessionId, Xid, Zxid};
use ostler_wire::{ConnectRequest, ConnectResponse, OpCode, frame};
use sha2::Digest as _;
use subtle::ConstantTimeEq as _;

use super::Shard;
use super::connection::{Checking, Connecting, ConnectionEnd, Phase};
use super::read_only::is_read_only_id;
use crate::replica::Handshake;
use crate::shard::Effect;
use crate::{ConnId, ConnToken, Millis};

/// Largest ConnectRequest accepted: the record is 45 bytes with a 16-byte password.
const MAX_CONNECT_REQUEST: usize = 1024;
/// A four-letter word, and the 8 bytes `stmk` takes.
const WORD_BYTES: usize = 4;
const WORD_WITH_ARGUMENT: (&[u8], usize) = (b"stmk", 12);

impl Shard {
    /// Handles the first frame, or a four-letter word, at the start of `rest`.
    pub(super) fn take_first_frame(
        &mut self,
        id: ConnId,
        rest: &[u8],
        state: &State,
        now: Millis,
    ) -> Option<usize> {
        if rest.len() < WORD_BYTES {
            return None;
        }
        // As a length, four letters announce more than a gigabyte.
        if rest[..WORD_BYTES].iter().all(u8::is_ascii_lowercase) {
            if &rest[..WORD_BYTES] == WORD_WITH_ARGUMENT.0 && rest.len() < WORD_WITH_ARGUMENT.1 {
                return None;
            }
            let connection = &mut self.connections[id.0 as usize];
            connection.phase = Phase::Text;
            connection.stats.received += 1;
            let token = ConnToken { id, serial: connection.serial };
            self.effects.push(Effect::Text(token, rest.to_vec()));
            return Some(rest.len());
        }
        match frame::scan(rest, MAX_CONNECT_REQUEST) {
            frame::Scan::NeedMore(_) => None,
            frame::Scan::Frame(range) => {
                let end = range.end;
                self.handle_connect(id, &rest[range], state, now);
                Some(end)
            }
            frame::Scan::Negative(_) | frame::Scan::TooLong { .. } => {
                self.close(id, ConnectionEnd::BadHandshake);
                Some(rest.len())
            }
        }
    }

    fn handle_connect(&mut self, id: ConnId, payload: &[u8], state: &State, now: Millis) {
        let Ok(request) = ConnectRequest::decode(payload) else {
            return self.close(id, ConnectionEnd::BadHandshake);
        };
        self.stats.received.add(1);
        let connection = &mut self.connections[id.0 as usize];
        connection.stats.received += 1;
        let token = ConnToken { id, serial: connection.serial };
        let attach = request.session != SessionId::NONE;
        if !self.settings.admission.connect_allowed(attach, now) {
            return self.close(id, ConnectionEnd::Throttled);
        }
        let bounds = &self.settings.session_timeout_ms;
        let timeout_ms = u32::try_from(request.timeout_ms).unwrap_or(0).clamp(*bounds.start(), *bounds.end());
        // Without a quorum there is nobody who could give it a session: it may find a server that has one.
        if !self.settings.lease.holds(timeout_ms, now) {
            if self.open_read_only(id, &request, timeout_ms, state, now) {
                return;
            }
            return self.close(id, ConnectionEnd::LeaseOver);
        }
        let connecting = |secret| Connecting {
            received: now,
            secret,
            timeout_ms,
            last_zxid_seen: request.last_zxid_seen,
            has_read_only: request.has_read_only(),
            attach,
        };
        if !attach {
            // A new session is judged before it is made: a refusal must leave nothing behind.
            if request.last_zxid_seen > state.last_zxid() {
                return self.close(id, ConnectionEnd::ClientAhead);
            }
            let secret = (self.settings.draw_secret)();
            self.connections[id.0 as usize].phase = Phase::Connecting(Box::new(connecting(secret)));
            self.handshakes.push(Handshake::Create {
                connection: token,
                timeout_ms,
                secret_hash: hash_secret(&secret),
                received: now,
            });
            return;
        }
        if is_read_only_id(request.session) {
            return self.refuse_session(id, request.has_read_only());
        }
        let Some(secret) = request.password.and_then(|p| <[u8; 16]>::try_from(p).ok()) else {
            return self.refuse_session(id, request.has_read_only());
        };
        let checking = Checking { session: request.session, timeout_ms, connecting: connecting(secret) };
        if state.session(request.session).is_none() && !self.settings.lease.is_alone() {
            // It may have been opened on another server just now.
            self.connections[id.0 as usize].phase = Phase::Checking(Box::new(checking));
            return self.await_barrier(id);
        }
        self.judge_checked(id, checking, state);
    }

    /// Judges a returning client by the sessions there are. Its secret is checked before anything happens to the
    /// session or to a connection it has.
    pub(super) fn judge_checked(&mut self, id: ConnId, checking: Checking, state: &State) {
        let Checking { session, timeout_ms, connecting } = checking;
        let hash = hash_secret(&connecting.secret);
        match state.session(session) {
            Some(row) if bool::from(row.secret_hash.ct_eq(&hash)) => {
                let connection = &mut self.connections[id.0 as usize];
                let token = ConnToken { id, serial: connection.serial };
                let received = connecting.received;
                connection.phase = Phase::Connecting(Box::new(connecting));
                self.handshakes.push(Handshake::Attach {
                    connection: token,
                    session,
                    seen: row.generation,
                    timeout_ms,
                    received,
                });
            }
            _ => self.refuse_session(id, connecting.has_read_only),
        }
    }

    /// Tells the client that its session has expired.
    pub(super) fn refuse_session(&mut self, id: ConnId, has_read_only: bool) {
        let connection = &mut self.connections[id.0 as usize];
        ConnectResponse::expired(has_read_only.then_some(false)).encode(connection.output.bytes());
        self.stats.sent.add(1);
        self.close(id, ConnectionEnd::SessionRefused);
    }

    /// The log has given this connection its session.
    pub(super) fn session_ready(
        &mut self,
        token: ConnToken,
        session: SessionId,
        generation: Generation,
        timeout_ms: u32,
        zxid: Zxid,
        now: Millis,
    ) {
        let id = token.id;
        // The client may have gone meanwhile; its session then waits for it to come back.
        if !self.is_current(token) || self.connections[id.0 as usize].end.is_some() {
            return;
        }
        let connection = &mut self.connections[id.0 as usize];
        let Phase::Connecting(connecting) = std::mem::replace(&mut connection.phase, Phase::Established)
        else {
            unreachable!("a connection asks for a session once");
        };
        // Judged after the attach has applied here, which is as good as a sync.
        if connecting.last_zxid_seen > zxid {
            return self.close(id, ConnectionEnd::ClientAhead);
        }
        connection.session = session;
        connection.generation = generation;
        connection.sequence = Sequence(0);
        connection.timeout_ms = timeout_ms;
        connection.last_heard = now;
        ConnectResponse {
            protocol_version: 0,
            timeout_ms: timeout_ms as i32,
            session,
            password: Some(&connecting.secret),
            read_only: connecting.has_read_only.then_some(false),
        }
        .encode(connection.output.bytes());
        self.sessions.insert(session, id);
        // `cons` shows the handshake as an operation, as in ZooKeeper.
        self.answered(id, OpCode::CreateSession, Xid(0), zxid, connecting.received, now);
        let opened =
            if connecting.attach { &self.stats.sessions_attached } else { &self.stats.sessions_created };
        opened.add(1);
        // What the client pipelined behind its ConnectRequest can go on now.
        if !self.connections[id.0 as usize].input.is_empty()
            || self.connections[id.0 as usize].paused.is_some()
        {
            self.make_runnable(id);
        }
    }
}

fn hash_secret(secret: &[u8; 16]) -> [u8; 32] {
    sha2::Sha256::digest(secret).into()
}
