//! Which rounds of consensus are durable.

use std::collections::VecDeque;

use crate::Millis;

/// Rounds that are not yet reported as durable, in order. One that has nothing for the disk is durable with the
/// one before it: reporting it earlier would report that one too.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// Number, and since when the disk has it, if it does.
    waiting: VecDeque<(u64, Option<Millis>)>,
}

impl Rounds {
    pub(super) fn are_durable(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many the disk has to do.
    pub(super) fn at_disk(&self) -> usize {
        self.waiting.iter().filter(|(_, at_disk)| at_disk.is_some()).count()
    }

    /// Since when the disk has been at the oldest round it has to do.
    pub(super) fn oldest(&self) -> Option<Millis> {
        self.waiting.iter().find_map(|&(_, since)| since)
    }

    /// `number` goes to the disk.
    pub(super) fn sent(&mut self, number: u64, now: Millis) {
        self.waiting.push_back((number, Some(now)));
    }

    /// `number` has nothing for the disk. Returns whether it is durable at once.
    pub(super) fn skipped(&mut self, number: u64) -> bool {
        if self.waiting.is_empty() {
            return true;
        }
        self.waiting.push_back((number, None));
        false
    }

    /// The disk has done everything up to `number`. Returns the last round that is durable by that.
    pub(super) fn persisted(&mut self, number: u64) -> u64 {
        let mut durable = number;
        while let Some(&(next, at_disk)) = self.waiting.front()
            && (next <= number || at_disk.is_none())
        {
            durable = durable.max(next);
            self.waiting.pop_front();
        }
        durable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_without_work_for_the_disk_is_durable_with_the_one_before_it() {
        let mut rounds = Rounds::default();
        assert!(rounds.skipped(1));
        rounds.sent(2, 20);
        assert!(!rounds.skipped(3));
        rounds.sent(4, 40);
        assert!(!rounds.skipped(5));
        assert_eq!((rounds.at_disk(), rounds.oldest()), (2, Some(20)));
        assert_eq!(rounds.persisted(2), 3);
        assert_eq!((rounds.at_disk(), rounds.are_durable()), (1, false));
        assert_eq!(rounds.persisted(4), 5);
        assert!(rounds.are_durable());
    }
}
