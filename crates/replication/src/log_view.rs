//! The part of the log the consensus library can see, in memory.

use std::collections::VecDeque;

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Storage, StorageError};

use crate::Recovered;

/// Entries after `released`, oldest first. What lies before is applied and, on disk, covered by a snapshot
/// or still in the log; the library only needs the term of the entry before the first.
pub(crate) struct LogView {
    released: (u64, u64),
    entries: VecDeque<Entry>,
    hard_state: HardState,
    conf_state: ConfState,
}

impl LogView {
    /// Checks that the recovered pieces fit together.
    pub(crate) fn new(recovered: Recovered, conf_state: ConfState) -> Result<Self, String> {
        let (snapshot_index, snapshot_term) = recovered.snapshot;
        let mut next = snapshot_index + 1;
        let mut entries = VecDeque::with_capacity(recovered.entries.len());
        let mut term = snapshot_term;
        for entry in recovered.entries {
            if entry.index.0 != next {
                return Err(format!("expected entry {next}, found {}", entry.index));
            }
            if entry.term.0 < term {
                return Err(format!("term goes back from {term} to {} at entry {next}", entry.term));
            }
            term = entry.term.0;
            next += 1;
            entries.push_back(Entry {
                term: entry.term.0,
                index: entry.index.0,
                data: entry.data,
                ..Default::default()
            });
        }
        let last = next - 1;
        if recovered.hard_state.commit > last {
            return Err(format!(
                "entry {} was committed but the log ends at {last}",
                recovered.hard_state.commit
            ));
        }
        let hard_state = HardState {
            term: recovered.hard_state.term.max(term),
            // A vote belongs to its term.
            vote: if recovered.hard_state.term >= term { recovered.hard_state.vote } else { 0 },
            commit: recovered.hard_state.commit.max(snapshot_index),
            ..Default::default()
        };
        Ok(LogView { released: recovered.snapshot, entries, hard_state, conf_state })
    }

    /// Adds `entries`, replacing any from the first one's index on.
    pub(crate) fn append(&mut self, entries: Vec<Entry>) {
        let Some(first) = entries.first() else { return };
        let keep = first.index - self.first();
        assert!(keep as usize <= self.entries.len(), "the library appends without gaps");
        self.entries.truncate(keep as usize);
        self.entries.extend(entries);
    }

    /// Forgets entries up to and including `index`.
    pub(crate) fn release(&mut self, index: u64) {
        while let Some(entry) = self.entries.front()
            && entry.index <= index
        {
            self.released = (entry.index, entry.term);
            self.entries.pop_front();
        }
    }

    fn first(&self) -> u64 {
        self.released.0 + 1
    }
}

impl Storage for LogView {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.hard_state.clone(), self.conf_state.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low < self.first() {
            return Err(Error::Store(StorageError::Compacted));
        }
        let start = (low - self.first()) as usize;
        let end = (high - self.first()) as usize;
        let limit = max_size.into().unwrap_or(u64::MAX);
        let mut bytes = 0;
        let mut found = Vec::new();
        for entry in self.entries.range(start..end) {
            bytes += entry.data.len() as u64;
            // At least one, however large it is.
            if bytes > limit && !found.is_empty() {
                break;
            }
            found.push(entry.clone());
        }
        Ok(found)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.released.0 {
            return Ok(self.released.1);
        }
        if index < self.released.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        match self.entries.get((index - self.first()) as usize) {
            Some(entry) => Ok(entry.term),
            None => Err(Error::Store(StorageError::Unavailable)),
        }
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.first())
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.released.0 + self.entries.len() as u64)
    }

    fn snapshot(&self, _request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        // Only a follower that fell behind asks, and there are none.
        Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
    }
}
