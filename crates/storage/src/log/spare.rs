//! Preparing the next segment ahead of need.
//!
//! Zeroing 64 MiB takes a disk a good part of a second, so it is done while the current segment still has room.
//! [`SpareMaker::prepare`] is one step without threads, for a simulator or a test;
//! [`SpareMaker::run`] is the loop a background thread runs on a real disk.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::segment;
use crate::disk::{Disk, DiskFile};
use crate::error::DiskError;

/// How long [`SpareMaker::run`] waits after a failure before it tries again.
const RETRY: Duration = Duration::from_secs(1);

/// Prepares spare segments for one log; a handle that can go to another thread. See the module.
#[derive(Clone)]
pub struct SpareMaker {
    shared: Arc<Shared>,
}

struct Shared {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    segment_bytes: u64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    wanted: Option<u64>,
    working: bool,
    ready: Option<Spare>,
    free: Vec<PathBuf>,
    last_failure: Option<String>,
    closed: bool,
}

/// A segment of durable zeros under its final name.
pub(crate) struct Spare {
    pub(crate) seq: u64,
    pub(crate) file: Arc<dyn DiskFile>,
}

impl SpareMaker {
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: PathBuf, segment_bytes: u64) -> SpareMaker {
        let shared = Shared { disk, dir, segment_bytes, state: Mutex::default(), changed: Condvar::new() };
        SpareMaker { shared: Arc::new(shared) }
    }

    /// Prepares the spare if one is wanted; says whether it did. Blocks on the disk, never on the log's appends.
    /// A failure (the disk is full, say) leaves the log as it was; call again later.
    pub fn prepare(&self) -> Result<bool, DiskError> {
        let (seq, recycle) = {
            let mut state = self.state();
            let Some(seq) = state.wanted.filter(|_| !state.working) else { return Ok(false) };
            state.working = true;
            (seq, state.free.pop())
        };
        let made = self.make(seq, recycle);
        let mut state = self.state();
        state.working = false;
        let outcome = match made {
            Ok(file) => {
                state.wanted = None;
                state.ready = Some(Spare { seq, file });
                state.last_failure = None;
                Ok(true)
            }
            Err(e) => {
                state.last_failure = Some(e.to_string());
                Err(e)
            }
        };
        self.shared.changed.notify_all();
        outcome
    }

    fn make(&self, seq: u64, recycle: Option<PathBuf>) -> Result<Arc<dyn DiskFile>, DiskError> {
        let Shared { disk, dir, segment_bytes, .. } = &*self.shared;
        segment::make(&**disk, dir, seq, *segment_bytes, recycle, None)
    }

    /// Prepares spares as they are wanted, until the log is closed; tries again once a second while it fails. For
    /// a thread of its own. `on_change` is told of the first failed attempt, of one that fails for another reason
    /// than the last, and, with `None`, when there is no failure any more.
    pub fn run(&self, mut on_change: impl FnMut(Option<&DiskError>)) {
        let mut told: Option<String> = None;
        loop {
            {
                let mut state = self.state();
                if state.last_failure.is_none() && told.take().is_some() {
                    drop(state);
                    on_change(None);
                    state = self.state();
                }
                while !state.closed && (state.wanted.is_none() || state.working) {
                    state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                if state.closed {
                    return;
                }
            }
            if let Err(e) = self.prepare() {
                let reason = Some(e.to_string());
                if told != reason {
                    told = reason;
                    on_change(Some(&e));
                }
                let state = self.state();
                // The log may have made this one itself meanwhile, and want the next.
                let failed = state.wanted;
                let waited =
                    self.shared.changed.wait_timeout_while(state, RETRY, |s| !s.closed && s.wanted == failed);
                drop(waited.unwrap_or_else(PoisonError::into_inner));
            }
        }
    }

    /// Asks for segment `seq` to be prepared.
    pub(crate) fn want(&self, seq: u64) {
        let mut state = self.state();
        if state.ready.is_none() && state.wanted.is_none() {
            state.wanted = Some(seq);
            self.shared.changed.notify_all();
        }
    }

    /// Takes segment `seq`, preparing it here and now if nobody has; waits for whoever is at it.
    pub(crate) fn take(&self, seq: u64) -> Result<Spare, DiskError> {
        self.want(seq);
        loop {
            let mut state = self.state();
            while state.working {
                state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if let Some(spare) = state.ready.take() {
                assert_eq!(spare.seq, seq, "the spare is always the next segment");
                return Ok(spare);
            }
            drop(state);
            self.prepare()?;
        }
    }

    /// Gives back an unused spare, or hands over one found at start.
    pub(crate) fn put(&self, spare: Spare) {
        let mut state = self.state();
        state.wanted = None;
        state.ready = Some(spare);
    }

    /// True if one purged file would be of use.
    pub(crate) fn can_recycle(&self) -> bool {
        self.state().free.is_empty()
    }

    /// Hands over a purged file for the next spare.
    pub(crate) fn recycle(&self, free: PathBuf) {
        self.state().free.push(free);
    }

    /// Why there is no spare, if the last attempt to make one failed.
    pub(crate) fn missing_because(&self) -> Option<String> {
        let state = self.state();
        if state.ready.is_some() { None } else { state.last_failure.clone() }
    }

    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.shared.changed.notify_all();
    }

    /// The state is plain data, consistent between any two statements, so a panic elsewhere does not spoil it.
    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
