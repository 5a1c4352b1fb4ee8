//! A server that is no member any more: it hears of that by its own log or from a server that is further, says so and
//! serves nobody. It stays ready to be added again with the disk it has.

use ostler_types::LogIndex;

use super::{Core, CoreEffect, News};

impl Core {
    /// A server that has applied everything up to `index` says that this one is not among the nodes. Counts if it is
    /// further than this one, which may otherwise have been added since.
    pub fn told_not_member(&mut self, index: LogIndex) {
        if index > self.applied && self.is_node() {
            self.leave_ensemble();
        }
    }

    /// Something was applied: the leader feeds this server, or tells it to go.
    pub(super) fn judge_own_place(&mut self, was_node: bool) {
        if self.is_node() {
            self.status.removed = false;
        } else if was_node {
            self.leave_ensemble();
        }
    }

    /// Whether this server votes or learns, by the log as far as it is applied here.
    pub(super) fn is_node(&self) -> bool {
        let node = self.replicator.node_id();
        self.membership.voters.contains(&node) || self.membership.learners.contains(&node)
    }

    fn leave_ensemble(&mut self) {
        if !self.status.removed {
            self.status.removed = true;
            self.effects.push(CoreEffect::News(News::Removed));
        }
        // What its clients want they get elsewhere.
        self.lease.end();
        self.contact.begin_again();
    }
}
