//! Read-only sessions: what clients that ask for it get while this server is cut off from a majority
//! (`readonlymode.enabled`; semantics, "Read-only sessions").
//!
//! Such a session is this server's alone, and no longer than its connection: it is in no log, holds no ephemeral znodes
//! and can change nothing. It reads the tree as this server last knew it. When the server is in touch with a majority
//! again all of them end, so that their clients open real ones.

use ostler_tree::{EndCause, State};
use ostler_types::{ErrorCode, SessionId, Xid};
use ostler_wire::{ConnectRequest, ConnectResponse, OpCode, ReplyWriter};

use super::Shard;
use super::connection::{ConnectionEnd, Deferred, Phase, Waiting};
use crate::{ConnId, ConnToken, Millis};

/// Marks the ids of read-only sessions. Others have the number of a server, from 1 on, in the top byte.
const RESERVED_BIT: i64 = 1 << 55;

/// The read-only sessions of a shard.
#[derive(Debug, Default)]
pub(super) struct ReadOnly {
    connections: Vec<ConnToken>,
    opened: u32,
}

/// Whether the id is that of a read-only session, here or elsewhere.
pub(super) fn is_read_only_id(session: SessionId) -> bool {
    (session.0 >> 55) & 0x1ff == 1
}

impl Shard {
    /// Whether clients are given read-only sessions now.
    fn is_read_only(&self, state: &State, now: Millis) -> bool {
        self.settings.read_only_mode
            && state.applied_index().0 > 0
            && self.settings.lease.is_cut_off(self.began, now)
    }

    /// Gives a client a read-only session, if it allows that and has no other one; returns whether it has it.
    pub(super) fn open_read_only(
        &mut self,
        id: ConnId,
        request: &ConnectRequest<'_>,
        timeout_ms: u32,
        state: &State,
        now: Millis,
    ) -> bool {
        let connection = &self.connections[id.0 as usize];
        let is_wanted = request.read_only == Some(true)
            && request.session == SessionId::NONE
            && !connection.is_linearizable
            && request.last_zxid_seen <= state.last_zxid();
        if !is_wanted || !self.is_read_only(state, now) {
            return false;
        }
        self.read_only.opened = self.read_only.opened.wrapping_add(1);
        let session = SessionId(
            RESERVED_BIT
                | (i64::from(self.settings.server) << 47)
                | (i64::from(self.id.0 & 0x7fff) << 32)
                | i64::from(self.read_only.opened),
        );
        let secret = (self.settings.draw_secret)();
        let connection = &mut self.connections[id.0 as usize];
        connection.phase = Phase::Established;
        connection.is_read_only = true;
        connection.session = session;
        connection.timeout_ms = timeout_ms;
        connection.last_heard = now;
        ConnectResponse {
            protocol_version: 0,
            timeout_ms: timeout_ms as i32,
            session,
            password: Some(&secret),
            read_only: Some(true),
        }
        .encode(connection.output.bytes());
        self.read_only.connections.push(ConnToken { id, serial: connection.serial });
        self.answered(id, OpCode::CreateSession, Xid(0), state.last_zxid(), now, now);
        true
    }

    /// Serves what changes something, or needs the others, for a read-only session: not at all.
    /// Returns whether that was so.
    pub(super) fn refuse_read_only(
        &mut self,
        id: ConnId,
        xid: Xid,
        op: OpCode,
        needs_others: bool,
        state: &State,
        now: Millis,
    ) -> bool {
        let connection = &mut self.connections[id.0 as usize];
        if !connection.is_read_only {
            return false;
        }
        if op == OpCode::CloseSession {
            let zxid = state.last_zxid();
            ReplyWriter::begin(connection.output.bytes(), xid, zxid, None);
            self.answered(id, op, xid, zxid, now, now);
            self.close(id, ConnectionEnd::SessionEnded(EndCause::Closed));
            return true;
        }
        if !needs_others && !connection.is_linearizable {
            return false;
        }
        let what = Waiting::Refused(op, ErrorCode::NotReadOnly);
        if connection.deferred.is_empty() {
            self.answer_refused(id, xid, &what, now, state, now);
        } else {
            self.outstanding += 1;
            self.connections[id.0 as usize].deferred.push_back(Deferred { xid, received: now, what });
        }
        true
    }

    /// Ends read-only sessions whose time is over: all of them when there is a majority again.
    pub(super) fn judge_read_only(&mut self, now: Millis) {
        if self.read_only.connections.is_empty() {
            return;
        }
        let is_over = !self.settings.lease.is_cut_off(self.began, now);
        let mut left = std::mem::take(&mut self.read_only.connections);
        left.retain(|&token| {
            if !self.is_current(token) {
                return false;
            }
            let connection = &self.connections[token.id.0 as usize];
            let is_silent = now.saturating_sub(connection.last_heard) > Millis::from(connection.timeout_ms);
            if is_over {
                self.close(token.id, ConnectionEnd::ReadOnlyOver);
            } else if is_silent && connection.paused.is_none() {
                self.close(token.id, ConnectionEnd::SessionEnded(EndCause::Expired));
            } else {
                return true;
            }
            false
        });
        self.read_only.connections = left;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_other_session_has_such_an_id() {
        assert!(is_read_only_id(SessionId(RESERVED_BIT | (254 << 47) | 7)));
        for server in [1_i64, 127, 128, 254] {
            // With the bit set among those of the boot.
            assert!(!is_read_only_id(SessionId((server << 56) | RESERVED_BIT | 7)));
        }
        assert!(!is_read_only_id(SessionId::NONE));
    }
}
