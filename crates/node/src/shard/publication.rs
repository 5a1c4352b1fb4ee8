//! What the replica published, turned into frames in the one order a connection has (design, 7 and 7a).

use ostler_tree::{Change, EndCause, MultiResult, OpResult, State, Verdict};
use ostler_types::{ErrorCode, Generation, Perms, Sequence, SessionId, Xid, Zxid};
use ostler_wire::{OpCode, ReplyWriter, event};

use super::connection::{Barrier, ConnectionEnd, InFlight, Pause, Phase};
use super::{OUTPUT_LIMIT, Shard};
use crate::command::CommandBuffer;
use crate::inbox::Published;
use crate::{ConnId, ConnToken, Millis};

impl Shard {
    /// Handles everything in the inbox. `state` proves that the read lock is held, so that when this is
    /// done, every event up to the state's zxid is in its connection's output.
    pub(super) fn drain_inbox(&mut self, state: &State, now: Millis) {
        for publication in self.inbox.take() {
            for item in publication.items {
                self.handle_published(item, publication.zxid, state, now);
            }
        }
    }

    fn handle_published(&mut self, item: Published, zxid: Zxid, state: &State, now: Millis) {
        match item {
            Published::Changed(change) => self.notify(&change, state),
            Published::Replied { session, generation, sequence, verdict } => {
                self.answer_write(session, generation, sequence, verdict, now);
            }
            Published::SessionReady { connection, session, generation, timeout_ms } => {
                self.session_ready(connection, session, generation, timeout_ms, zxid, now);
            }
            Published::AttachRefused { connection, exists } => {
                if self.is_current(connection)
                    && let Phase::Connecting(connecting) = &self.connections[connection.id.0 as usize].phase
                {
                    if exists {
                        self.close(connection.id, ConnectionEnd::AttachLost);
                    } else {
                        let has_read_only = connecting.has_read_only;
                        self.refuse_session(connection.id, has_read_only);
                    }
                }
            }
            Published::BarrierPassed(ticket) => {
                while let Some((_, token)) = self.barriers.pop_front_if(|&mut (at, _)| at <= ticket) {
                    self.barrier_passed(token, state);
                }
            }
            Published::SnapshotInstalled => {
                for id in self.connection_ids() {
                    let phase = &self.connections[id.0 as usize].phase;
                    if matches!(phase, Phase::Established | Phase::Checking(_) | Phase::Connecting(_)) {
                        self.close(id, ConnectionEnd::SnapshotInstalled);
                    }
                }
                self.sessions.clear();
                self.installs += 1;
                self.commands = CommandBuffer::default();
                self.handshakes.clear();
            }
            Published::SessionMoved { session, generation } => {
                if let Some(&id) = self.sessions.get(&session)
                    && self.connections[id.0 as usize].generation < generation
                {
                    self.sessions.remove(&session);
                    self.close(id, ConnectionEnd::Moved);
                }
            }
            Published::SessionEnded { session, cause, zxid, closed_by } => {
                self.end_session(session, cause, zxid, closed_by, now);
            }
        }
    }

    /// Everything that was committed when a connection asked is applied.
    fn barrier_passed(&mut self, token: ConnToken, state: &State) {
        if !self.is_current(token) || self.connections[token.id.0 as usize].end.is_some() {
            return;
        }
        let connection = &mut self.connections[token.id.0 as usize];
        match std::mem::replace(&mut connection.phase, Phase::Fresh) {
            Phase::Checking(checking) => self.judge_checked(token.id, *checking, state),
            phase => {
                connection.phase = phase;
                connection.barrier = Barrier::Passed;
                self.make_runnable(token.id);
            }
        }
    }

    /// Sends an event to every connection that watches and may read the znode.
    fn notify(&mut self, change: &Change, state: &State) {
        let mut notified = std::mem::take(&mut self.notified);
        self.watches.trigger(change.event, &change.path, &mut notified);
        if !notified.is_empty() {
            self.watching_changed();
        }
        for id in notified.drain(..) {
            let Some(connection) = self.connections.get_mut(id.0 as usize) else { continue };
            // The one-shot entry is used up even when the event is withheld, as in ZooKeeper.
            if connection.end.is_some()
                || !(state.settings().skip_acl || change.acl.allows(Perms::READ, &connection.auth))
            {
                continue;
            }
            event::encode(connection.output.bytes(), change.zxid, change.event, &change.path);
            connection.stats.sent += 1;
            self.stats.sent.add(1);
            if connection.output.len() > OUTPUT_LIMIT {
                self.close(id, ConnectionEnd::NotReading);
            } else {
                self.flush(id);
            }
        }
        self.notified = notified;
    }

    fn answer_write(
        &mut self,
        session: SessionId,
        generation: Generation,
        sequence: Sequence,
        verdict: Verdict,
        now: Millis,
    ) {
        let Some(&id) = self.sessions.get(&session) else { return };
        let connection = &mut self.connections[id.0 as usize];
        // An answer for an older owner of the session, or one this connection has stopped waiting for.
        if connection.generation != generation
            || connection.end.is_some()
            || connection.in_flight.front().is_none_or(|front| front.sequence != sequence)
        {
            return;
        }
        let (zxid, result) = match verdict {
            Verdict::Applied { zxid, result, .. } => (zxid, result),
            // The answer comes with the reconfig's end; until then it stays at the front.
            Verdict::Pending => return,
            // On a current connection the numbers are right; that they are not means that the session is
            // not ours any more.
            Verdict::Void(_) => return self.close(id, ConnectionEnd::Moved),
        };
        let InFlight { xid, op, received, bytes, .. } =
            connection.in_flight.pop_front().expect("just looked at");
        self.outstanding -= 1;
        self.held_bytes -= bytes;
        encode_result(connection.output.bytes(), xid, zxid, &result);
        self.answered(id, op, xid, zxid, received, now);
        let connection = &self.connections[id.0 as usize];
        if connection.in_flight.is_empty() {
            if !connection.deferred.is_empty() || connection.paused == Some(Pause::Room) {
                self.make_runnable(id);
            } else {
                self.close_if_stopped(id);
            }
        }
    }

    fn end_session(
        &mut self,
        session: SessionId,
        cause: EndCause,
        zxid: Zxid,
        closed_by: Option<(Generation, Sequence)>,
        now: Millis,
    ) {
        let Some(id) = self.sessions.remove(&session) else { return };
        let connection = &mut self.connections[id.0 as usize];
        if let Some(front) = connection.in_flight.front()
            && closed_by == Some((connection.generation, front.sequence))
        {
            let (xid, op, received) = (front.xid, front.op, front.received);
            ReplyWriter::begin(connection.output.bytes(), xid, zxid, None);
            self.answered(id, op, xid, zxid, received, now);
        }
        self.close(id, ConnectionEnd::SessionEnded(cause));
    }

    /// Counts a reply that has just been put into the output, and has it sent.
    pub(super) fn answered(
        &mut self,
        id: ConnId,
        op: OpCode,
        xid: Xid,
        zxid: Zxid,
        received: Millis,
        now: Millis,
    ) {
        let latency = now.saturating_sub(received);
        self.stats.answered(latency);
        self.connections[id.0 as usize].stats.answered(op, xid, zxid, latency, now);
        self.flush(id);
    }

    pub(super) fn make_runnable(&mut self, id: ConnId) {
        let connection = &mut self.connections[id.0 as usize];
        if !connection.is_runnable {
            connection.is_runnable = true;
            self.runnable.push(id);
        }
    }
}

fn encode_result(out: &mut Vec<u8>, xid: Xid, zxid: Zxid, result: &Result<OpResult, ErrorCode>) {
    let result = match result {
        Ok(result) => result,
        Err(error) => {
            ReplyWriter::begin(out, xid, zxid, Some(*error));
            return;
        }
    };
    let mut reply = ReplyWriter::begin(out, xid, zxid, None);
    match result {
        OpResult::Created { path, stat: None } => reply.path(path),
        OpResult::Created { path, stat: Some(stat) } => reply.path_and_stat(path, stat),
        OpResult::Deleted | OpResult::Checked => {}
        OpResult::DataSet(stat) | OpResult::AclSet(stat) => reply.stat(stat),
        OpResult::Config { data, stat } => reply.data_and_stat(Some(data.as_bytes()), stat),
        OpResult::Multi(results) => reply.multi(|out| {
            for result in results {
                match result {
                    MultiResult::Done(OpResult::Created { path, stat: None }) => out.create(path),
                    MultiResult::Done(OpResult::Created { path, stat: Some(stat) }) => {
                        out.create2(path, stat);
                    }
                    MultiResult::Done(OpResult::Deleted) => out.delete(),
                    MultiResult::Done(OpResult::DataSet(stat)) => out.set_data(stat),
                    MultiResult::Done(OpResult::Checked) => out.check(),
                    MultiResult::Done(OpResult::AclSet(_) | OpResult::Config { .. } | OpResult::Multi(_)) => {
                        unreachable!("a multi holds neither setACL, reconfig nor multi")
                    }
                    MultiResult::RolledBack => out.error(None),
                    MultiResult::Failed(error) => out.error(Some(*error)),
                }
            }
        }),
    }
}
