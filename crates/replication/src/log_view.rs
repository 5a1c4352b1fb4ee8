//! The part of the log the consensus library can see, in memory.

use std::cell::Cell;
use std::collections::VecDeque;

use ostler_types::LogIndex;
use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Storage, StorageError};

use crate::entry::to_raft;
use crate::message::{self, SnapshotOffer};
use crate::{Membership, Recovered};

/// Entries after `released`, oldest first. What lies before is applied and, on disk, covered by a snapshot
/// or still in the log; the library only needs the term of the entry before the first.
pub(crate) struct LogView {
    released: (u64, u64),
    entries: VecDeque<Entry>,
    /// Bytes of data in `entries`.
    bytes: usize,
    hard_state: HardState,
    conf_state: ConfState,
    /// What a follower that is too far behind is offered.
    offer: Option<SnapshotOffer>,
    /// The library asked for a snapshot that is not there: the lowest index that would do.
    wanted: Cell<Option<u64>>,
}

impl LogView {
    /// Checks that the recovered pieces fit together.
    pub(crate) fn new(recovered: Recovered, membership: &Membership) -> Result<Self, String> {
        let (snapshot_index, snapshot_term) = recovered.snapshot;
        let mut next = snapshot_index + 1;
        let mut entries = VecDeque::with_capacity(recovered.entries.len());
        let mut term = snapshot_term;
        let mut bytes = 0;
        for entry in recovered.entries {
            if entry.index.0 != next {
                return Err(format!("expected entry {next}, found {}", entry.index));
            }
            if entry.term.0 < term {
                return Err(format!("term goes back from {term} to {} at entry {next}", entry.term));
            }
            term = entry.term.0;
            next += 1;
            bytes += entry.data.len();
            entries.push_back(to_raft(entry).map_err(|error| format!("entry {}: {error}", next - 1))?);
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
        let conf_state = ConfState {
            voters: membership.voters.clone(),
            learners: membership.learners.clone(),
            ..Default::default()
        };
        Ok(LogView {
            released: recovered.snapshot,
            entries,
            bytes,
            hard_state,
            conf_state,
            offer: None,
            wanted: Cell::new(None),
        })
    }

    /// Adds `entries`, replacing any from the first one's index on.
    pub(crate) fn append(&mut self, entries: Vec<Entry>) {
        let Some(first) = entries.first() else { return };
        let keep = first.index - self.first();
        assert!(keep as usize <= self.entries.len(), "the library appends without gaps");
        self.bytes -= self.entries.drain(keep as usize..).map(|e| e.data.len()).sum::<usize>();
        self.bytes += entries.iter().map(|e| e.data.len()).sum::<usize>();
        self.entries.extend(entries);
    }

    /// Forgets entries up to and including `index`, oldest first, until at most `keep_bytes` of data are left.
    pub(crate) fn release(&mut self, index: u64, keep_bytes: usize) {
        while self.bytes > keep_bytes || keep_bytes == 0 {
            match self.entries.front() {
                Some(entry) if entry.index <= index => {
                    self.released = (entry.index, entry.term);
                    self.bytes -= entry.data.len();
                    self.entries.pop_front();
                }
                _ => break,
            }
        }
    }

    /// Starts over behind a snapshot that was received.
    pub(crate) fn install(&mut self, index: u64, term: u64, conf_state: ConfState) {
        self.released = (index, term);
        self.entries.clear();
        self.bytes = 0;
        self.conf_state = conf_state;
    }

    pub(crate) fn offer(&mut self, offer: SnapshotOffer) {
        self.wanted.set(None);
        self.offer = Some(offer);
    }

    pub(crate) fn offered(&self) -> Option<LogIndex> {
        self.offer.as_ref().map(|offer| offer.index)
    }

    /// The lowest index a snapshot for somebody must have, if one is missing.
    pub(crate) fn wanted_snapshot(&self) -> Option<LogIndex> {
        self.wanted.get().map(LogIndex)
    }

    pub(crate) fn first(&self) -> u64 {
        self.released.0 + 1
    }

    pub(crate) fn last(&self) -> u64 {
        self.released.0 + self.entries.len() as u64
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
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        // The log after it must be here as well, or its receiver would need another one at once.
        let mut needed = request_index.max(self.released.0);
        if let Some(offer) = &self.offer
            && !offer.voters.contains(&to)
            && !offer.learners.contains(&to)
        {
            // Its receiver would ignore a snapshot from before it was a member.
            needed = needed.max(offer.index.0 + 1);
        }
        match &self.offer {
            Some(offer) if offer.index.0 >= needed => Ok(message::snapshot(offer)),
            _ => {
                self.wanted.set(Some(needed.max(1)));
                Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use ostler_types::Term;

    #[test]
    fn only_a_snapshot_that_names_its_receiver_is_sent_to_it() {
        let membership = Membership { voters: vec![1, 2], learners: vec![] };
        let mut view = LogView::new(Recovered::default(), &membership).unwrap();
        let offer = |index: u64, learners: &[u64]| SnapshotOffer {
            index: LogIndex(index),
            term: Term(1),
            voters: vec![1, 2],
            learners: learners.to_vec(),
            ticket: Bytes::new(),
        };
        view.offer(offer(5, &[]));
        assert!(view.snapshot(0, 2).is_ok());
        assert!(view.snapshot(0, 3).is_err(), "it would not take it");
        assert_eq!(view.wanted_snapshot(), Some(LogIndex(6)));
        view.offer(offer(6, &[3]));
        assert_eq!(view.snapshot(0, 3).unwrap().get_metadata().index, 6);
        assert_eq!(view.wanted_snapshot(), None);
    }
}
