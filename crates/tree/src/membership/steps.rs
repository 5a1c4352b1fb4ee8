//! The way from one membership to another, one node at a time.
//!
//! Sets of voters that differ by one node have overlapping majorities, so no joint consensus is needed. Nodes
//! are added before others leave, and the leader moves out of the way before it is its turn.

use std::collections::BTreeSet;

use super::{Member, Membership, MembershipChange, PendingChange};

/// What the leader should do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing: the nodes are those of the members that are there.
    Idle,
    /// Propose this membership entry, about this server if it is one's. Ask again when it has been applied.
    Change {
        /// The entry.
        change: MembershipChange,
        /// Its context.
        server: Option<u8>,
    },
    /// Wait for servers; ask again when one has come or caught up.
    Wait {
        /// Wanted servers nobody has heard of.
        absent: Vec<u8>,
        /// Nodes that are to vote once they have caught up.
        behind: Vec<u64>,
    },
    /// Transfer leadership to one of these voters; the next leader goes on.
    HandOver {
        /// Wanted voters, at least one.
        to: Vec<u64>,
    },
    /// Everything is as wanted: propose [`Command::FinishReconfig`](crate::Command::FinishReconfig).
    Finish,
}

impl Membership {
    /// What the leader, whose node is `leader`, should do next to bring about the pending change. Without one
    /// it mends what is not as the members say: a member that comes for the first time is added, and what an
    /// abandoned change left is removed.
    ///
    /// `node_of` is the node of a connected server, `caught_up` whether a learner is close enough to the end
    /// of the log to vote. With `await_absent` no node leaves before every wanted server has come; without,
    /// a majority of the wanted voters is enough, as in ZooKeeper.
    pub fn next_step(
        &self,
        leader: u64,
        node_of: impl Fn(u8) -> Option<u64>,
        caught_up: impl Fn(u64) -> bool,
        await_absent: bool,
    ) -> Step {
        if self.members.is_empty() {
            return Step::Idle;
        }
        if let Some((server, old)) = self.replaced_node() {
            return Step::Change { change: MembershipChange::Remove { node: old }, server: Some(server) };
        }
        let mut wanted = self.wanted();
        let mut absent = Vec::new();
        let taken: BTreeSet<u64> = wanted.values().filter_map(|member| member.node).collect();
        for (&server, member) in &mut wanted {
            if member.node.is_some() {
                continue;
            }
            member.node = node_of(server).filter(|node| *node != 0 && !taken.contains(node));
            match member.node {
                None => absent.push(server),
                // Its entry said nothing of the server: once more, with a context.
                Some(node) if self.voters.contains(&node) => {
                    return Step::Change {
                        change: MembershipChange::AddVoter { node },
                        server: Some(server),
                    };
                }
                Some(node) if self.learners.contains(&node) => {
                    return Step::Change {
                        change: MembershipChange::AddLearner { node },
                        server: Some(server),
                    };
                }
                Some(_) => {}
            }
        }
        let mut behind = Vec::new();
        for (&server, Member { node, spec }) in &wanted {
            let Some(node) = *node else { continue };
            if !self.voters.contains(&node) && !self.learners.contains(&node) {
                return Step::Change { change: MembershipChange::AddLearner { node }, server: Some(server) };
            }
            if spec.votes() && self.learners.contains(&node) {
                if caught_up(node) {
                    return Step::Change {
                        change: MembershipChange::AddVoter { node },
                        server: Some(server),
                    };
                }
                behind.push(node);
            }
        }
        let is_pending = self.pending.is_some();
        let waits = !behind.is_empty() || (is_pending && await_absent && !absent.is_empty());
        if waits || !self.is_quorum(&wanted) {
            return Step::Wait { absent, behind };
        }
        let role =
            |node: u64| wanted.values().find(|member| member.node == Some(node)).map(|m| m.spec.votes());
        for &node in self.learners.iter().chain(&self.voters) {
            let change = match role(node) {
                _ if node == leader => continue,
                // It stops voting at once, and hears the end of the change before it goes: its clients may wait for that.
                None if self.voters.contains(&node) => MembershipChange::AddLearner { node },
                None if is_pending => continue,
                None => MembershipChange::Remove { node },
                Some(false) if self.voters.contains(&node) => MembershipChange::AddLearner { node },
                Some(_) => continue,
            };
            return Step::Change { change, server: self.server_of(node) };
        }
        if role(leader) != Some(true) && self.voters.contains(&leader) {
            let to = self.voters.iter().copied().filter(|&node| role(node) == Some(true)).collect();
            return Step::HandOver { to };
        }
        if is_pending { Step::Finish } else { Step::Idle }
    }

    /// The node that must go before the server's new one comes.
    fn replaced_node(&self) -> Option<(u8, u64)> {
        let &PendingChange::Replace { server, node } = &self.pending.as_ref()?.change else { return None };
        let old = self.members.get(&server)?.node.filter(|&old| old != node)?;
        let is_there = self.voters.contains(&old) || self.learners.contains(&old);
        is_there.then_some((server, old))
    }
}
