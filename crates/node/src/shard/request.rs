//! One request of an established connection: answered, refused, numbered, or made to wait its turn.

use ostler_tree::{Command, EndCause, EndCondition, State};
use ostler_types::{ErrorCode, Xid, Zxid};
use ostler_wire::{DecodeError, OpCode, ReplyWriter, Request, RequestHeader, frame};

use super::connection::{Barrier, ConnectionEnd, Deferred, InFlight, Pause, Waiting};
use super::{OUTPUT_HIGH_WATER, Shard};
use crate::{ConnId, Millis};

/// The scheme of `addauth` whose text is a wish, not a credential.
const OWN_SCHEME: &str = "ostler";
/// What is sent in place of a zxid in answer to an operation nobody knows.
const NO_ZXID: Zxid = Zxid(-1);

/// How an operation is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Through the log.
    Write,
    /// Through the log, and then the connection closes.
    Close,
    /// From this server's tree.
    Read,
    /// At once, whatever else is waiting.
    Ping,
    /// At once, on the connection alone.
    Auth,
    /// Not for clients, or unknown.
    Refused,
}

fn kind(op: OpCode) -> Kind {
    match op {
        OpCode::Create
        | OpCode::Create2
        | OpCode::CreateContainer
        | OpCode::CreateTtl
        | OpCode::Delete
        | OpCode::SetData
        | OpCode::SetAcl
        | OpCode::Multi
        | OpCode::Reconfig => Kind::Write,
        OpCode::CloseSession => Kind::Close,
        OpCode::Exists
        | OpCode::GetData
        | OpCode::GetAcl
        | OpCode::GetChildren
        | OpCode::GetChildren2
        | OpCode::Sync
        | OpCode::CheckWatches
        | OpCode::RemoveWatches
        | OpCode::MultiRead
        | OpCode::SetWatches
        | OpCode::SetWatches2
        | OpCode::GetEphemerals
        | OpCode::GetAllChildrenNumber
        | OpCode::AddWatch
        | OpCode::WhoAmI => Kind::Read,
        OpCode::Ping => Kind::Ping,
        OpCode::Auth | OpCode::Sasl => Kind::Auth,
        // ZooKeeper takes the last two from clients although they are the servers' own, and then deletes
        // without asking an ACL, or answers without a header (docs/compatibility.md).
        OpCode::Check | OpCode::DeleteContainer | OpCode::CreateSession => Kind::Refused,
    }
}

/// A write whose path is null can be decoded in Java and fails for it afterwards: it takes a zxid.
fn null_path_error(op: OpCode, error: &DecodeError) -> Option<ErrorCode> {
    match (op, error) {
        (OpCode::SetData | OpCode::SetAcl, DecodeError::NullString) => Some(ErrorCode::BadArguments),
        (
            OpCode::Create | OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl | OpCode::Delete,
            DecodeError::NullString,
        ) => Some(ErrorCode::MarshallingError),
        _ => None,
    }
}

impl Shard {
    /// Handles one whole frame.
    pub(super) fn handle_request(&mut self, id: ConnId, payload: &[u8], state: &State, now: Millis) {
        self.stats.received.add(1);
        let connection = &mut self.connections[id.0 as usize];
        connection.stats.received += 1;
        let Ok((header, body)) = RequestHeader::decode(payload) else {
            return self.close(id, ConnectionEnd::BadFrame);
        };
        let xid = header.xid;
        let Some(op) = OpCode::from_code(header.op) else {
            return self.refuse_received(id, xid, state, now);
        };
        match kind(op) {
            Kind::Ping => {
                // Everything up to this zxid has been told on this connection: the inbox is empty.
                let zxid = state.last_zxid();
                let connection = &mut self.connections[id.0 as usize];
                ReplyWriter::begin(connection.output.bytes(), Xid::PING, zxid, None);
                self.answered(id, op, Xid::PING, zxid, now, now);
            }
            Kind::Auth => self.authenticate(id, xid, op, body, now),
            Kind::Refused => self.refuse_received(id, xid, state, now),
            Kind::Write | Kind::Close | Kind::Read => {
                let needs_others = kind(op) == Kind::Write || op == OpCode::Sync;
                if self.refuse_read_only(id, xid, op, needs_others, state, now) {
                    return;
                }
                if self.must_wait(id, op) {
                    self.defer(id, xid, Waiting::Request(op, body.into()), now);
                } else {
                    self.serve(id, xid, op, body, now, state, now);
                }
            }
        }
    }

    /// Answers an oversized frame in its turn and throws the rest of it away.
    pub(super) fn take_oversized(
        &mut self,
        id: ConnId,
        rest: &[u8],
        len: usize,
        now: Millis,
    ) -> Option<usize> {
        if len < RequestHeader::BYTES {
            // Only with a limit below the size of a header.
            self.close(id, ConnectionEnd::BadFrame);
            return Some(rest.len());
        }
        let header = rest.get(frame::LENGTH_BYTES..frame::LENGTH_BYTES + RequestHeader::BYTES)?;
        let (header, _) = RequestHeader::decode(header).expect("a whole header");
        self.stats.received.add(1);
        self.stats.oversized.add(1);
        let connection = &mut self.connections[id.0 as usize];
        connection.stats.received += 1;
        connection.oversized += 1;
        connection.start_discarding(len - RequestHeader::BYTES);
        let op = OpCode::from_code(header.op).unwrap_or(OpCode::Ping);
        self.defer(id, header.xid, Waiting::Refused(op, ErrorCode::BadArguments), now);
        self.make_runnable_if_idle(id);
        Some(frame::LENGTH_BYTES + RequestHeader::BYTES)
    }

    /// Reads wait for this session's writes; everything waits for what waits already, and for a reconfig, whose
    /// answer comes later than those of writes that were applied after it (invariant 15).
    fn must_wait(&self, id: ConnId, op: OpCode) -> bool {
        let connection = &self.connections[id.0 as usize];
        !connection.deferred.is_empty()
            || (kind(op) == Kind::Read && !connection.in_flight.is_empty())
            || connection.awaits_reconfig()
    }

    /// Puts a read that must show everything committed back until that is applied here; returns whether it did.
    fn wait_for_barrier(&mut self, id: ConnId, xid: Xid, op: OpCode, body: &[u8], received: Millis) -> bool {
        let connection = &mut self.connections[id.0 as usize];
        let is_wanted = op == OpCode::Sync || connection.is_linearizable;
        if !is_wanted || self.settings.lease.is_alone() {
            return false;
        }
        if connection.barrier == Barrier::Passed {
            connection.barrier = Barrier::None;
            return false;
        }
        connection.barrier = Barrier::Waiting;
        let deferred = Deferred { xid, received, what: Waiting::Request(op, body.into()) };
        self.outstanding += 1;
        self.held_bytes += deferred.bytes();
        connection.deferred.push_front(deferred);
        self.await_barrier(id);
        true
    }

    fn defer(&mut self, id: ConnId, xid: Xid, what: Waiting, now: Millis) {
        let deferred = Deferred { xid, received: now, what };
        self.outstanding += 1;
        self.held_bytes += deferred.bytes();
        self.connections[id.0 as usize].deferred.push_back(deferred);
    }

    fn make_runnable_if_idle(&mut self, id: ConnId) {
        if self.connections[id.0 as usize].in_flight.is_empty() {
            self.make_runnable(id);
        }
    }

    /// Refuses an operation that is unknown, or not for clients, in its turn.
    fn refuse_received(&mut self, id: ConnId, xid: Xid, state: &State, now: Millis) {
        if self.connections[id.0 as usize].deferred.is_empty() {
            self.refuse(id, xid, Waiting::Unknown, now, state, now);
        } else {
            self.defer(id, xid, Waiting::Unknown, now);
        }
    }

    /// Refuses a request whose turn has come: as soon as the writes in flight before it are answered.
    fn refuse(&mut self, id: ConnId, xid: Xid, what: Waiting, received: Millis, state: &State, now: Millis) {
        let connection = &mut self.connections[id.0 as usize];
        if connection.in_flight.is_empty() {
            self.answer_refused(id, xid, &what, received, state, now);
        } else {
            let deferred = Deferred { xid, received, what };
            self.outstanding += 1;
            self.held_bytes += deferred.bytes();
            connection.deferred.push_front(deferred);
        }
    }

    pub(super) fn answer_refused(
        &mut self,
        id: ConnId,
        xid: Xid,
        what: &Waiting,
        received: Millis,
        state: &State,
        now: Millis,
    ) {
        let (op, zxid, error) = match what {
            Waiting::Refused(op, error) => (*op, state.last_zxid(), *error),
            _ => (OpCode::Check, NO_ZXID, ErrorCode::Unimplemented),
        };
        let connection = &mut self.connections[id.0 as usize];
        ReplyWriter::begin(connection.output.bytes(), xid, zxid, Some(error));
        self.answered(id, op, xid, zxid, received, now);
    }

    /// Runs requests that have waited, up to the next that has to wait.
    pub(super) fn run_deferred(&mut self, id: ConnId, state: &State, now: Millis) {
        let Some(connection) = self.connections.get_mut(id.0 as usize) else { return };
        connection.is_runnable = false;
        if !self.lease_holds(id, now) {
            return self.close(id, ConnectionEnd::LeaseOver);
        }
        while let Some(connection) = self.connections.get_mut(id.0 as usize) {
            if connection.end.is_some() {
                return;
            }
            // What waits holds little memory, its answers may hold much: they are made as they are taken.
            if connection.output.len() > OUTPUT_HIGH_WATER {
                connection.waits_for_output = true;
                return;
            }
            let Some(front) = connection.deferred.front() else { break };
            if self.unsent > self.settings.unsent_limit {
                return self.wait_for_shared_output(id);
            }
            let waits = match &front.what {
                Waiting::Request(op, _) => kind(*op) == Kind::Read,
                Waiting::Refused(..) | Waiting::Unknown => true,
            };
            if (waits && !connection.in_flight.is_empty())
                || connection.awaits_reconfig()
                || connection.barrier == Barrier::Waiting
            {
                // Others have waited longer for the room there may be; it can be read from for all that.
                if matches!(connection.paused, Some(Pause::Output | Pause::SharedOutput)) {
                    self.go_on(id, state, now);
                }
                return;
            }
            let deferred = connection.deferred.pop_front().expect("just looked at");
            self.outstanding -= 1;
            self.held_bytes -= deferred.bytes();
            let Deferred { xid, received, what } = deferred;
            match &what {
                Waiting::Request(op, body) => self.serve(id, xid, *op, body, received, state, now),
                Waiting::Refused(..) | Waiting::Unknown => {
                    self.answer_refused(id, xid, &what, received, state, now);
                }
            }
        }
        self.close_if_stopped(id);
        // Others have waited longer for the room there may be, unless this one has nothing else under way.
        let Some(connection) = self.connections.get(id.0 as usize) else { return };
        if connection.paused != Some(Pause::Room) || connection.outstanding() == 0 {
            self.go_on(id, state, now);
        }
    }

    /// Serves a request whose turn has come.
    #[expect(clippy::too_many_arguments, reason = "one request's facts")]
    fn serve(
        &mut self,
        id: ConnId,
        xid: Xid,
        op: OpCode,
        body: &[u8],
        received: Millis,
        state: &State,
        now: Millis,
    ) {
        match kind(op) {
            Kind::Close => self.number_close(id, xid, received, state),
            Kind::Write => self.number_write(id, xid, op, body, received, state, now),
            Kind::Read if self.wait_for_barrier(id, xid, op, body, received) => {}
            _ => match Request::decode(op, body, self.settings.limits) {
                Ok(request) => self.serve_read(id, xid, &request, received, state, now),
                Err(_) => {
                    let refused = Waiting::Refused(op, ErrorCode::MarshallingError);
                    self.answer_refused(id, xid, &refused, received, state, now);
                }
            },
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one request's facts")]
    fn number_write(
        &mut self,
        id: ConnId,
        xid: Xid,
        op: OpCode,
        body: &[u8],
        received: Millis,
        state: &State,
        now: Millis,
    ) {
        // What cannot be decoded never enters the log; nor does anything when the disk is full.
        let decoded = Request::decode(op, body, self.settings.limits);
        let refusal = if let Err(error) = &decoded
            && null_path_error(op, error).is_none()
        {
            Some(ErrorCode::MarshallingError)
        } else if !self.settings.admission.writes_allowed() {
            self.stats.refused_full.add(1);
            Some(super::NO_ROOM)
        } else {
            None
        };
        if let Some(error) = refusal {
            return self.refuse(id, xid, Waiting::Refused(op, error), received, state, now);
        }
        let connection = &mut self.connections[id.0 as usize];
        let (session, generation) = (connection.session, connection.generation);
        let sequence = connection.sequence.next();
        connection.sequence = sequence;
        let before = self.commands.len();
        match decoded.err().and_then(|error| null_path_error(op, &error)) {
            None => {
                let auth = &connection.encoded_auth;
                self.commands.push_write(session, generation, sequence, auth, op, body);
            }
            Some(error) => {
                self.commands.push_command(&Command::Refused { session, generation, sequence, error });
            }
        }
        // What the log will hold: the body and who asked.
        let bytes = self.commands.len() - before;
        connection.in_flight.push_back(InFlight { xid, op, sequence, received, bytes });
        self.outstanding += 1;
        self.held_bytes += bytes;
    }

    fn number_close(&mut self, id: ConnId, xid: Xid, received: Millis, state: &State) {
        let connection = &mut self.connections[id.0 as usize];
        connection.sequence = connection.sequence.next();
        let sequence = connection.sequence;
        self.commands.push_command(&Command::EndSession {
            session: connection.session,
            condition: EndCondition::InSequence(connection.generation, sequence),
            cause: EndCause::Closed,
            // Just now, by the only wall clock that all servers share.
            last_heard_ms: state.time_ms(),
            owner: self.settings.server,
        });
        connection.in_flight.push_back(InFlight {
            xid,
            op: OpCode::CloseSession,
            sequence,
            received,
            bytes: 0,
        });
        self.outstanding += 1;
    }

    /// `addauth ostler reads=linearizable` (or `reads=local`, the default): how this connection's reads are served.
    /// It gives nobody an identity. Returns whether it was understood.
    fn take_own_auth(&mut self, id: ConnId, text: &[u8]) -> bool {
        let is_linearizable = match text {
            b"reads=linearizable" => true,
            b"reads=local" => false,
            _ => return false,
        };
        self.connections[id.0 as usize].is_linearizable = is_linearizable;
        true
    }

    fn authenticate(&mut self, id: ConnId, xid: Xid, op: OpCode, body: &[u8], now: Millis) {
        let connection = &mut self.connections[id.0 as usize];
        match Request::decode(op, body, self.settings.limits) {
            Ok(Request::Auth { scheme: Some(scheme), auth }) if &*scheme == OWN_SCHEME => {
                let known = self.take_own_auth(id, auth.unwrap_or_default());
                let error = (!known).then_some(ErrorCode::AuthFailed);
                let output = self.connections[id.0 as usize].output.bytes();
                ReplyWriter::begin(output, xid, Zxid(0), error);
                self.answered(id, op, xid, Zxid(0), now, now);
                if error.is_some() {
                    self.stats.auth_failed.add(1);
                    self.close(id, ConnectionEnd::AuthFailed);
                }
            }
            Ok(Request::Auth { scheme, auth }) => {
                let ids = self.settings.auth.authenticate(
                    scheme.as_deref().unwrap_or_default(),
                    auth.unwrap_or_default(),
                    connection.peer.ip(),
                );
                let added = ids.is_some_and(|ids| connection.add_identities(ids));
                let error = (!added).then_some(ErrorCode::AuthFailed);
                ReplyWriter::begin(connection.output.bytes(), xid, Zxid(0), error);
                self.answered(id, op, xid, Zxid(0), now, now);
                if error.is_some() {
                    self.stats.auth_failed.add(1);
                    self.close(id, ConnectionEnd::AuthFailed);
                }
            }
            // SASL is not configured: no error and no token, as ZooKeeper answers then. Nobody gains an
            // identity by it.
            Ok(_) => {
                ReplyWriter::begin(connection.output.bytes(), xid, Zxid(0), None).token(None);
                self.answered(id, op, xid, Zxid(0), now, now);
            }
            Err(_) => self.close(id, ConnectionEnd::BadFrame),
        }
    }
}
