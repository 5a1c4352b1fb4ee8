//! Sessions as replicated state (design, invariants 5 and 6) and the lanes their ids come from.

use std::collections::BTreeMap;

use ostler_types::{Generation, Sequence, SessionId, Zxid};

use crate::digest;
use crate::outcome::{Ignored, Void};

/// A session's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Session {
    /// Negotiated timeout in milliseconds.
    pub timeout_ms: u32,
    /// Hash of its secret.
    pub secret_hash: [u8; 32],
    /// myid of the server that last created or attached it.
    pub server: u8,
    /// How often it has been attached; 1 after creation.
    pub generation: Generation,
    /// Last applied write of this generation; 0 before the first.
    pub sequence: Sequence,
    /// What became of the last applied write of any generation (5d). An attach leaves it alone.
    pub last_write: Option<LastWrite>,
}

/// The in-doubt record: enough to tell a client that lost its connection how its last write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastWrite {
    /// Generation it came in.
    pub generation: Generation,
    /// Its number there.
    pub sequence: Sequence,
    /// Its transaction.
    pub zxid: Zxid,
    /// ZooKeeper's error code, 0 for success. For a failed multi the code of the operation that failed.
    pub error: i32,
}

/// Where a server's createSession commands stand: the run that may create sessions and how many it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lane {
    pub(crate) boot: u32,
    pub(crate) last: u64,
}

/// Session ids are made of the server (8 bits), its boot (24 bits) and a number (32 bits), so they are never
/// reused (invariant 5b) and, like ZooKeeper's, show their first server in the top byte.
pub(crate) fn session_id(server: u8, boot: u32, number: u32) -> SessionId {
    SessionId((i64::from(server) << 56) | (i64::from(boot) << 32) | i64::from(number))
}

/// All sessions, in the order of their ids, and the sum of their digests.
#[derive(Default)]
pub(crate) struct SessionTable {
    rows: BTreeMap<SessionId, Session>,
    sum: u64,
}

impl SessionTable {
    pub(crate) fn get(&self, id: SessionId) -> Option<&Session> {
        self.rows.get(&id)
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (SessionId, &Session)> {
        self.rows.iter().map(|(&id, row)| (id, row))
    }

    /// Sum of the rows' digests.
    pub(crate) fn digest(&self) -> u64 {
        self.sum
    }

    /// Adds or replaces a row.
    pub(crate) fn put(&mut self, id: SessionId, row: Session) {
        self.sum = self.sum.wrapping_add(digest::of_session(id, &row));
        if let Some(old) = self.rows.insert(id, row) {
            self.sum = self.sum.wrapping_sub(digest::of_session(id, &old));
        }
    }

    pub(crate) fn remove(&mut self, id: SessionId) {
        if let Some(old) = self.rows.remove(&id) {
            self.sum = self.sum.wrapping_sub(digest::of_session(id, &old));
        }
    }

    /// Changes a row in place, if there is one.
    pub(crate) fn update(&mut self, id: SessionId, change: impl FnOnce(&mut Session)) {
        if let Some(row) = self.rows.get_mut(&id) {
            let before = digest::of_session(id, row);
            change(row);
            self.sum = self.sum.wrapping_sub(before).wrapping_add(digest::of_session(id, row));
        }
    }

    /// Judges a numbered request: only last + 1 of the current generation counts (invariant 6).
    pub(crate) fn judge(
        &self,
        id: SessionId,
        generation: Generation,
        sequence: Sequence,
    ) -> Result<(), Void> {
        let row = self.get(id).ok_or(Void::NoSession)?;
        if generation < row.generation {
            Err(Void::Moved)
        } else if generation > row.generation {
            // No connection can have a generation before its attach is applied; treat it as out of order.
            Err(Void::Gap)
        } else if sequence <= row.sequence {
            Err(Void::Duplicate)
        } else if sequence.0 - row.sequence.0 > 1 {
            Err(Void::Gap)
        } else {
            Ok(())
        }
    }
}

/// The lanes of all servers.
#[derive(Clone, Default)]
pub(crate) struct Lanes {
    by_server: BTreeMap<u8, Lane>,
}

impl Lanes {
    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = (u8, Lane)> {
        self.by_server.iter().map(|(&server, &lane)| (server, lane))
    }

    pub(crate) fn put(&mut self, server: u8, lane: Lane) {
        self.by_server.insert(server, lane);
    }

    /// Opens an empty lane for a newer run of `server`.
    pub(crate) fn register(&mut self, server: u8, boot: u32) -> Result<(), Ignored> {
        let last_boot = self.by_server.get(&server).map_or(0, |lane| lane.boot);
        if boot <= last_boot || boot > crate::command::MAX_BOOT {
            return Err(Ignored::StaleBoot);
        }
        self.put(server, Lane { boot, last: 0 });
        Ok(())
    }

    /// Takes the next place in the lane of (`server`, `boot`), if `number` is it.
    pub(crate) fn advance(&mut self, server: u8, boot: u32, number: u64) -> Result<SessionId, Ignored> {
        let lane =
            self.by_server.get_mut(&server).filter(|lane| lane.boot == boot).ok_or(Ignored::ForeignBoot)?;
        if number.checked_sub(1) != Some(lane.last) {
            return Err(Ignored::NotNextInLane);
        }
        let low = u32::try_from(number).map_err(|_| Ignored::NotNextInLane)?;
        lane.last = number;
        Ok(session_id(server, boot, low))
    }
}
