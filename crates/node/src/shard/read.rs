//! Requests answered from this server's tree. The read, its watch and its place in the connection's output
//! are one step: the caller holds the state's read lock.

use ostler_tree::{State, ZnodeRef};
use ostler_types::{AddWatchMode, ErrorCode, EventType, Perms, Xid, Zxid};
use ostler_wire::multi::ReadOp;
use ostler_wire::{ReplyWriter, Request, SetWatches, event};

use super::{OUTPUT_LIMIT, Shard};
use crate::watches::Modes;
use crate::{ConnId, Millis};

/// zxid of events found while serving setWatches: no single transaction caused them.
const CATCH_UP_ZXID: Zxid = Zxid(-1);
/// Most a multiRead may answer, bytes: a request of a few kilobytes can ask for any number of large znodes. Half of
/// what may pile up for one client, so that one answer never looks like a client that does not read.
const MULTI_READ_LIMIT: usize = OUTPUT_LIMIT / 2;

impl Shard {
    pub(super) fn serve_read(
        &mut self,
        id: ConnId,
        xid: Xid,
        request: &Request<'_>,
        received: Millis,
        state: &State,
        now: Millis,
    ) {
        if let Err(error) = self.try_read(id, xid, request, state) {
            let output = self.connections[id.0 as usize].output.bytes();
            ReplyWriter::begin(output, xid, state.last_zxid(), Some(error));
        }
        self.answered(id, request.op(), xid, state.last_zxid(), received, now);
    }

    /// Puts the whole reply into the output, or nothing.
    fn try_read(
        &mut self,
        id: ConnId,
        xid: Xid,
        request: &Request<'_>,
        state: &State,
    ) -> Result<(), ErrorCode> {
        let zxid = state.last_zxid();
        let connection = &mut self.connections[id.0 as usize];
        let session = connection.session;
        macro_rules! ok {
            () => {
                ReplyWriter::begin(self.connections[id.0 as usize].output.bytes(), xid, zxid, None)
            };
        }
        match request {
            Request::Exists { path, watch } => {
                if path.contains('\0') {
                    return Err(ErrorCode::BadArguments);
                }
                let node = state.lookup(path);
                if let Some(node) = &node {
                    self.require_read(id, node, state)?;
                }
                // A missing znode is watched too: for its creation.
                if *watch {
                    self.watch(id, path, Modes::DATA);
                }
                let stat = node.ok_or(ErrorCode::NoNode)?.stat();
                ok!().stat(&stat);
            }
            Request::GetData { path, watch } => {
                let node = self.readable(id, path, state)?;
                if *watch {
                    self.watch(id, path, Modes::DATA);
                }
                ok!().data_and_stat(node.data(), &node.stat());
            }
            Request::GetChildren { path, watch } => {
                let node = self.readable(id, path, state)?;
                if *watch {
                    self.watch(id, path, Modes::CHILD);
                }
                ok!().strings(node.children());
            }
            Request::GetChildren2 { path, watch } => {
                let node = self.readable(id, path, state)?;
                if *watch {
                    self.watch(id, path, Modes::CHILD);
                }
                ok!().children_and_stat(node.children(), &node.stat());
            }
            Request::GetAllChildrenNumber { path } => {
                self.readable(id, path, state)?;
                let count = state.all_descendants_count(path).ok_or(ErrorCode::NoNode)?;
                ok!().int(i32::try_from(count).unwrap_or(i32::MAX));
            }
            Request::GetAcl { path } => {
                let node = state.lookup(path).ok_or(ErrorCode::NoNode)?;
                if !state.is_allowed(&node, Perms::READ | Perms::ADMIN, &connection.auth) {
                    return Err(ErrorCode::NoAuth);
                }
                let acl = state.acl_shown_to(&node, &connection.auth);
                ok!().acl_and_stat(&acl, &node.stat());
            }
            Request::GetEphemerals { prefix } => {
                let prefix = prefix.as_deref().unwrap_or_default();
                let all = prefix.trim().is_empty() || prefix == "/";
                let paths = state.ephemerals_of(session);
                ok!().strings(paths.iter().filter(|path| all || path.starts_with(prefix)));
            }
            Request::WhoAmI => {
                let auth = connection.auth.clone();
                ok!().who_am_i(auth.iter().map(|id| (&*id.scheme, display_name(&id.scheme, &id.id))));
            }
            // On one server, being in order behind the session's writes is all there is to it.
            // A string and a buffer look the same, and the path may be null.
            Request::Sync { path } => ok!().token(path.as_deref().map(str::as_bytes)),
            Request::MultiRead(ops) => self.multi_read(id, xid, ops, state)?,
            Request::SetWatches(watches) => {
                self.set_watches(id, watches, state);
                ok!();
            }
            Request::SetWatches2 { one_shot, persistent, persistent_recursive } => {
                self.set_watches(id, one_shot, state);
                for (paths, modes) in
                    [(persistent, Modes::PERSISTENT), (persistent_recursive, Modes::RECURSIVE)]
                {
                    for path in paths {
                        self.watch(id, path, modes);
                    }
                }
                ok!();
            }
            Request::AddWatch { path, mode } => {
                let mode: AddWatchMode = *mode;
                self.watch(id, path, mode.into());
                // The body is an ErrorResponse that says "no error".
                ok!().int(0);
            }
            Request::CheckWatches { path, kind } => {
                if !self.watches.holds(id, path, *kind) {
                    return Err(ErrorCode::NoWatcher);
                }
                ok!();
            }
            Request::RemoveWatches { path, kind } => {
                if !self.watches.remove(id, path, *kind) {
                    return Err(ErrorCode::NoWatcher);
                }
                self.watching_changed();
                ok!();
            }
            Request::Create(_)
            | Request::Delete { .. }
            | Request::SetData { .. }
            | Request::SetAcl { .. }
            | Request::Multi(_)
            | Request::Reconfig { .. }
            | Request::Ping
            | Request::Check
            | Request::DeleteContainer
            | Request::Auth { .. }
            | Request::Sasl { .. }
            | Request::CreateSession
            | Request::CloseSession => unreachable!("not served from the tree"),
        }
        Ok(())
    }

    fn require_read(&self, id: ConnId, node: &ZnodeRef<'_>, state: &State) -> Result<(), ErrorCode> {
        let auth = &self.connections[id.0 as usize].auth;
        if state.is_allowed(node, Perms::READ, auth) { Ok(()) } else { Err(ErrorCode::NoAuth) }
    }

    fn readable<'s>(&self, id: ConnId, path: &str, state: &'s State) -> Result<ZnodeRef<'s>, ErrorCode> {
        let node = state.lookup(path).ok_or(ErrorCode::NoNode)?;
        self.require_read(id, &node, state)?;
        Ok(node)
    }

    fn watch(&mut self, id: ConnId, path: &str, modes: Modes) {
        self.watches.add(id, path, modes);
        self.watching_changed();
    }

    fn multi_read(
        &mut self,
        id: ConnId,
        xid: Xid,
        ops: &[ReadOp<'_>],
        state: &State,
    ) -> Result<(), ErrorCode> {
        let nodes: Vec<_> = ops
            .iter()
            .map(|op| {
                let (ReadOp::GetData { path } | ReadOp::GetChildren { path }) = op;
                self.readable(id, path, state)
            })
            .collect();
        let output = self.connections[id.0 as usize].output.bytes();
        let start = output.len();
        let mut is_too_large = false;
        ReplyWriter::begin(output, xid, state.last_zxid(), None).multi(|out| {
            for (op, node) in ops.iter().zip(nodes) {
                match (op, node) {
                    (_, Err(error)) => out.error(Some(error)),
                    (ReadOp::GetData { .. }, Ok(node)) => out.get_data(node.data(), &node.stat()),
                    (ReadOp::GetChildren { .. }, Ok(node)) => out.get_children(node.children()),
                }
                is_too_large = out.written() > MULTI_READ_LIMIT;
                if is_too_large {
                    break;
                }
            }
        });
        if is_too_large {
            output.truncate(start);
            return Err(ErrorCode::BadArguments);
        }
        Ok(())
    }

    /// Re-arms watches after a reconnect; what changed since is told at once (protocol, "setWatches").
    fn set_watches(&mut self, id: ConnId, watches: &SetWatches<'_>, state: &State) {
        let since = watches.relative_zxid;
        for path in &watches.data {
            match state.lookup(path).map(|node| node.stat().mzxid) {
                None => self.catch_up(id, EventType::NodeDeleted, path),
                Some(mzxid) if mzxid > since => self.catch_up(id, EventType::NodeDataChanged, path),
                Some(_) => self.watch(id, path, Modes::DATA),
            }
        }
        for path in &watches.exist {
            match state.lookup(path) {
                Some(_) => self.catch_up(id, EventType::NodeCreated, path),
                None => self.watch(id, path, Modes::DATA),
            }
        }
        for path in &watches.child {
            match state.lookup(path).map(|node| node.stat().pzxid) {
                None => self.catch_up(id, EventType::NodeDeleted, path),
                Some(pzxid) if pzxid > since => {
                    self.catch_up(id, EventType::NodeChildrenChanged, path);
                }
                Some(_) => self.watch(id, path, Modes::CHILD),
            }
        }
    }

    fn catch_up(&mut self, id: ConnId, kind: EventType, path: &str) {
        let connection = &mut self.connections[id.0 as usize];
        event::encode(connection.output.bytes(), CATCH_UP_ZXID, kind, path);
        connection.stats.sent += 1;
        self.stats.sent.add(1);
    }
}

/// What whoAmI shows of an identity (protocol, "Other operations in brief").
fn display_name<'i>(scheme: &str, id: &'i str) -> &'i str {
    match scheme {
        "digest" => id.split(':').next().unwrap_or_default(),
        "ip" => id,
        _ => "",
    }
}
