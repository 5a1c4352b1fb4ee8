//! What the replica tells a shard, in log order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ostler_tree::{Change, EndCause, Verdict};
use ostler_types::{Generation, Sequence, SessionId, Zxid};
use parking_lot::Mutex;

use crate::ConnToken;

/// One thing that happened. Events of a command come before the reply to it.
#[derive(Debug)]
pub enum Published {
    /// A znode changed; the shard knows who of its connections watches.
    Changed(Arc<Change>),
    /// A write of one of the shard's sessions was judged.
    Replied {
        /// Whose write.
        session: SessionId,
        /// Under which generation it was sent.
        generation: Generation,
        /// Its number.
        sequence: Sequence,
        /// What became of it.
        verdict: Verdict,
    },
    /// A session was created for, or attached to, this connection.
    SessionReady {
        /// The connection that asked.
        connection: ConnToken,
        /// The session.
        session: SessionId,
        /// The generation that now owns it.
        generation: Generation,
        /// Its negotiated timeout.
        timeout_ms: u32,
    },
    /// The session could not be attached: it has ended, or another attach came first.
    AttachRefused {
        /// The connection that asked.
        connection: ConnToken,
        /// Whether the session still exists: then the client may simply come again.
        exists: bool,
    },
    /// A newer generation owns the session; older connections are to be closed.
    SessionMoved {
        /// The session.
        session: SessionId,
        /// Its owner now.
        generation: Generation,
    },
    /// What was committed anywhere when this barrier was asked for is applied here, and so for every earlier one.
    BarrierPassed(u64),
    /// A snapshot replaces the state: every client with a session, or waiting for one, is to come again.
    SnapshotInstalled,
    /// The session is over.
    SessionEnded {
        /// The session.
        session: SessionId,
        /// Why.
        cause: EndCause,
        /// zxid of its end.
        zxid: Zxid,
        /// For a close its client asked for: the number of that request.
        closed_by: Option<(Generation, Sequence)>,
    },
}

/// A slice of applied commands as one shard sees it.
#[derive(Debug)]
pub struct Publication {
    /// zxid of the state after the slice.
    pub zxid: Zxid,
    /// What happened, in order.
    pub items: Vec<Published>,
}

/// The queue between the replica and one shard. Unbounded in type, bounded in fact: a shard limits its
/// requests in flight, and an event needs a write.
#[derive(Debug, Default)]
pub struct Inbox {
    waiting: AtomicBool,
    watching: AtomicBool,
    queue: Mutex<VecDeque<Publication>>,
}

impl Inbox {
    /// Adds a publication. To be called while the state's write lock is held. Returns whether the inbox was
    /// empty, in which case the shard must be woken.
    pub fn push(&self, publication: Publication) -> bool {
        let mut queue = self.queue.lock();
        queue.push_back(publication);
        !self.waiting.swap(true, Ordering::Release)
    }

    /// Takes everything. To be called while the state's read lock is held.
    pub(crate) fn take(&self) -> VecDeque<Publication> {
        if !self.waiting.load(Ordering::Acquire) {
            return VecDeque::new();
        }
        let mut queue = self.queue.lock();
        self.waiting.store(false, Ordering::Release);
        std::mem::take(&mut *queue)
    }

    /// Whether the shard has any watch. Set under the state's read lock, read under its write lock: a change
    /// is published to every shard that had a watch before it.
    pub fn is_watching(&self) -> bool {
        self.watching.load(Ordering::Relaxed)
    }

    pub(crate) fn set_watching(&self, watching: bool) {
        self.watching.store(watching, Ordering::Relaxed);
    }

    /// Whether something is waiting.
    pub fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Acquire)
    }
}
