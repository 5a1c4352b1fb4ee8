//! Whether all servers have the same state (design, invariant 4). After every 64th entry each keeps the digest of its
//! state; followers report theirs, and the leader compares.

use std::collections::{BTreeMap, BTreeSet};

use ostler_types::LogIndex;

use super::{Core, CoreEffect, News};
use crate::peer::PeerFrame;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Agreement {
    /// The last checkpoint reported to a leader.
    reported: LogIndex,
    /// Nodes whose last comparison with this leader was equal.
    agreeing: BTreeSet<u64>,
    /// Nodes that differ: where, and what they have there.
    differing: BTreeMap<u64, (LogIndex, u64)>,
}

impl Agreement {
    /// A checkpoint that has not been reported yet.
    pub(super) fn take_new(&mut self, last: Option<(LogIndex, u64)>) -> Option<(LogIndex, u64)> {
        let new = last.filter(|&(index, _)| index > self.reported)?;
        self.reported = new.0;
        Some(new)
    }

    /// A new term: nothing has been compared, and everything is reported again.
    pub(super) fn begin_again(&mut self) {
        *self = Agreement::default();
    }
}

impl Core {
    /// Compares a follower's digest with this leader's.
    pub(super) fn compare(&mut self, node: u64, index: LogIndex, digest: u64) {
        let Some(own) = self.replica.checkpoint(index) else { return };
        if own == digest {
            self.agreement.agreeing.insert(node);
            self.agreement.differing.remove(&node);
        } else if self.agreement.differing.insert(node, (index, digest)).is_none() {
            self.agreement.agreeing.remove(&node);
            self.effects.push(CoreEffect::News(News::PeerDiverged { node, index }));
        }
        if self.agreement.differing.is_empty() {
            return;
        }
        // Most voters are right.
        let voters = &self.membership.voters;
        let majority = voters.len() / 2 + 1;
        let agreeing = voters.iter().filter(|node| self.agreement.agreeing.contains(node)).count();
        let differing = voters.iter().filter(|node| self.agreement.differing.contains_key(node)).count();
        let all = self.agreement.differing.clone();
        if 1 + agreeing >= majority {
            for (node, (index, _)) in all {
                if let Some(expected) = self.replica.checkpoint(index) {
                    self.send(node, &PeerFrame::Diverged { index, expected }, false);
                }
            }
        } else if differing >= majority {
            for (index, digest) in all.into_values() {
                self.judge_own_state(index, digest);
            }
        }
    }

    /// Most servers have another state than this one after an entry.
    pub(super) fn judge_own_state(&mut self, index: LogIndex, expected: u64) {
        let Some(ours) = self.replica.checkpoint(index).filter(|&ours| ours != expected) else { return };
        if !std::mem::replace(&mut self.status.diverged, true) {
            self.effects.push(CoreEffect::News(News::Diverged { index, ours, expected }));
        }
    }
}
