//! Who belongs to the ensemble: what users call it (server ids and addresses), what the log calls it (node ids
//! that vote or only listen), and the change of either that is under way.
//!
//! A change begins as a command that is validated and remembered as [`PendingReconfig`]. The leader then takes
//! [steps](Membership::next_step), one node at a time, until [`Membership::may_finish`] holds, and ends it with
//! [`Command::FinishReconfig`](crate::Command::FinishReconfig).

mod apply;
mod request;
mod steps;

use std::collections::{BTreeMap, BTreeSet};

use ostler_types::member::{ServerSpec, config_text};
use ostler_types::{Generation, LogIndex, Sequence, SessionId, Zxid};

pub use request::ReconfigRequest;
pub use steps::Step;

/// The members of the ensemble and the nodes of its log. Without members the state is that of a standalone
/// server, whose own node is the only voter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// What `version=` shows: the zxid of the reconfig that made it. Zero until the ensemble's first epoch
    /// begins, which is then its version, as in ZooKeeper.
    pub version: Zxid,
    /// By server id (myid), 1 to 254.
    pub members: BTreeMap<u8, Member>,
    /// Nodes that vote.
    pub voters: BTreeSet<u64>,
    /// Nodes that receive the log and do not vote.
    pub learners: BTreeSet<u64>,
    /// The change under way; there is one at a time.
    pub pending: Option<PendingReconfig>,
}

/// One server of the ensemble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its node, once one has joined under this server id.
    pub node: Option<u64>,
    /// Its addresses and role.
    pub spec: ServerSpec,
}

/// A change of the membership that the leader is bringing about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingReconfig {
    /// The entry that began it: its name in the commands that end it.
    pub begun: LogIndex,
    /// What is to become of the membership.
    pub change: PendingChange,
}

/// What a pending change wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PendingChange {
    /// A client's reconfig.
    Reconfig {
        /// Who waits for the answer.
        session: SessionId,
        /// Generation of the connection it came on.
        generation: Generation,
        /// Its number.
        sequence: Sequence,
        /// The members it asks for.
        target: BTreeMap<u8, Member>,
    },
    /// A member comes back with an empty disk, so under a new node.
    Replace {
        /// Which member.
        server: u8,
        /// Its new node.
        node: u64,
    },
}

/// One membership entry of the log (raft's conf change): a single node, without joint consensus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MembershipChange {
    /// The node votes from now on.
    AddVoter {
        /// Which.
        node: u64,
    },
    /// The node receives the log and does not vote; a voter loses its vote.
    AddLearner {
        /// Which.
        node: u64,
    },
    /// The node is gone.
    Remove {
        /// Which.
        node: u64,
    },
}

impl Membership {
    /// The data of `/zookeeper/config`: empty without members.
    pub fn config_text(&self) -> String {
        if self.members.is_empty() {
            return String::new();
        }
        config_text(self.members.iter().map(|(&server, member)| (server, &member.spec)), self.version.0)
    }

    /// The member that a node is, if it is one's.
    pub fn server_of(&self, node: u64) -> Option<u8> {
        let target = match self.pending.as_ref().map(|pending| &pending.change) {
            Some(PendingChange::Reconfig { target, .. }) => Some(target),
            Some(&PendingChange::Replace { server, node: new }) if new == node => return Some(server),
            Some(PendingChange::Replace { .. }) | None => None,
        };
        let of = |members: &BTreeMap<u8, Member>| {
            members.iter().find(|(_, member)| member.node == Some(node)).map(|(&server, _)| server)
        };
        of(&self.members).or_else(|| target.and_then(of))
    }

    /// Whether the pending change may be finished: every wanted server that has a node has its role, no other
    /// node votes, and those that do are a majority of the wanted voters. A wanted server that has not
    /// come yet joins when it does.
    pub fn may_finish(&self) -> bool {
        if self.pending.is_none() {
            return false;
        }
        let wanted = self.wanted();
        let mut voters = 0;
        for member in wanted.values() {
            let Some(node) = member.node else { continue };
            let list = if member.spec.votes() { &self.voters } else { &self.learners };
            if !list.contains(&node) {
                return false;
            }
            voters += usize::from(member.spec.votes());
        }
        voters == self.voters.len() && self.is_quorum(&wanted)
    }

    /// Whether the connected servers make a majority of the voters wanted. If they do not, and will not soon, the
    /// leader abandons a client's reconfig with
    /// [`NewConfigNoQuorum`](ostler_types::ErrorCode::NewConfigNoQuorum).
    pub fn has_wanted_quorum(&self, is_connected: impl Fn(u8) -> bool) -> bool {
        let wanted = self.wanted();
        let voters = || wanted.iter().filter(|(_, member)| member.spec.votes());
        voters().filter(|&(&server, _)| is_connected(server)).count() > voters().count() / 2
    }

    /// Whether the voters there are make a majority of the voters of `wanted`.
    fn is_quorum(&self, wanted: &BTreeMap<u8, Member>) -> bool {
        let voters = || wanted.values().filter(|member| member.spec.votes());
        let present = voters().filter(|member| member.node.is_some_and(|node| self.voters.contains(&node)));
        present.count() > voters().count() / 2
    }

    /// The members as they should become; without a pending change, as they are.
    fn wanted(&self) -> BTreeMap<u8, Member> {
        match self.pending.as_ref().map(|pending| &pending.change) {
            None => self.members.clone(),
            Some(PendingChange::Reconfig { target, .. }) => target.clone(),
            Some(&PendingChange::Replace { server, node }) => {
                let mut members = self.members.clone();
                if let Some(member) = members.get_mut(&server) {
                    member.node = Some(node);
                }
                members
            }
        }
    }

    /// Follows a membership entry as raft does, and notes whose node it is about. Returns whether it took
    /// effect: raft ignores node 0 and refuses to remove the last voter.
    pub(crate) fn apply(&mut self, change: MembershipChange, server: Option<u8>) -> bool {
        let (MembershipChange::AddVoter { node }
        | MembershipChange::AddLearner { node }
        | MembershipChange::Remove { node }) = change;
        let last_voter = self.voters.len() == 1 && self.voters.contains(&node);
        let votes = matches!(change, MembershipChange::AddVoter { .. });
        if node == 0 || (last_voter && !votes) {
            return false;
        }
        let is_added = !matches!(change, MembershipChange::Remove { .. });
        set(&mut self.voters, node, votes);
        set(&mut self.learners, node, is_added && !votes);
        match server {
            Some(server) if is_added => self.bind(server, node),
            Some(server) => self.forget_replaced(server, node),
            None => {}
        }
        true
    }

    /// `node` is the disk of `server` and of nobody else.
    fn bind(&mut self, server: u8, node: u64) {
        let target = match self.pending.as_mut().map(|pending| &mut pending.change) {
            Some(PendingChange::Reconfig { target, .. }) => Some(target),
            Some(PendingChange::Replace { .. }) | None => None,
        };
        for members in [Some(&mut self.members), target].into_iter().flatten() {
            for (&other, member) in members.iter_mut() {
                if other == server {
                    member.node = Some(node);
                } else if member.node == Some(node) {
                    member.node = None;
                }
            }
        }
    }

    /// The old disk of a member that comes back with a new one does not return.
    fn forget_replaced(&mut self, server: u8, removed: u64) {
        let is_replaced = self.pending.as_ref().is_some_and(|pending| {
            matches!(pending.change, PendingChange::Replace { server: of, node } if of == server && node != removed)
        });
        if let Some(member) = self.members.get_mut(&server)
            && is_replaced
            && member.node == Some(removed)
        {
            member.node = None;
        }
    }

    /// Whether [`Command::BeginReplace`](crate::Command::BeginReplace) would be taken: nothing is pending,
    /// `server` is a member with another node or none, and `node` is nobody's.
    pub fn may_replace(&self, server: u8, node: u64) -> bool {
        let has_other = self.members.get(&server).is_some_and(|member| member.node != Some(node));
        let is_new = node != 0
            && !self.voters.contains(&node)
            && !self.learners.contains(&node)
            && self.server_of(node).is_none();
        self.pending.is_none() && has_other && is_new
    }
}

/// Puts a node into a set, or takes it out.
fn set(nodes: &mut BTreeSet<u64>, node: u64, is_in: bool) {
    if is_in {
        nodes.insert(node);
    } else {
        nodes.remove(&node);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn membership() -> Membership {
        let member = |server: u8, line: &str| {
            let spec = ServerSpec::parse(line).unwrap();
            (server, Member { node: Some(u64::from(server)), spec })
        };
        let members = [member(1, "a:1:2"), member(2, "b:1:2"), member(3, "c:1:2:observer")];
        Membership {
            version: Zxid(0xab),
            members: members.into(),
            voters: [1, 2].into(),
            learners: [3].into(),
            pending: None,
        }
    }

    #[test]
    fn a_quorum_is_one_of_the_wanted_voters() {
        let mut membership = membership();
        assert!(membership.has_wanted_quorum(|server| server <= 2));
        assert!(!membership.has_wanted_quorum(|server| server != 2), "observers do not count");
        let target = membership.members.iter().filter(|(server, _)| **server != 2);
        let target = target.map(|(&server, member)| (server, member.clone())).collect();
        let (session, generation, sequence) = (SessionId(1), Generation(1), Sequence(1));
        let change = PendingChange::Reconfig { session, generation, sequence, target };
        membership.pending = Some(PendingReconfig { begun: LogIndex(1), change });
        assert!(membership.has_wanted_quorum(|server| server == 1));
        assert!(!membership.has_wanted_quorum(|server| server == 2));
    }

    #[test]
    fn nodes_are_known_by_their_servers() {
        let mut membership = membership();
        assert_eq!([1, 3, 9].map(|node| membership.server_of(node)), [Some(1), Some(3), None]);
        let change = PendingChange::Replace { server: 2, node: 9 };
        membership.pending = Some(PendingReconfig { begun: LogIndex(1), change });
        assert_eq!([2, 9].map(|node| membership.server_of(node)), [Some(2), Some(2)]);
        assert_eq!(Membership::default().config_text(), "");
        assert!(membership.config_text().ends_with("server.3=c:1:2:observer\nversion=ab"));
    }
}
