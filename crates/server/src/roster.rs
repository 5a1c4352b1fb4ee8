//! Who the other servers are: by the replicated membership once there is one, by the configuration before.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use ostler_node::SharedState;
use ostler_tree::{Member, PendingChange};
use ostler_types::member::ServerSpec;
use parking_lot::Mutex;

use crate::peers::{Hello, Membership, PeerAddress, PeerTarget, Standing};

/// See the module's documentation.
pub(crate) struct Roster {
    server_id: u8,
    /// The `server.N` lines.
    configured: BTreeMap<u8, ServerSpec>,
    /// The replicated state; none while this server is unborn.
    state: Mutex<Option<SharedState>>,
    /// What was dialed last.
    targets: Mutex<Vec<PeerTarget>>,
    is_stale: AtomicBool,
}

impl Roster {
    pub(crate) fn new(server_id: u8, configured: BTreeMap<u8, ServerSpec>) -> Roster {
        Roster {
            server_id,
            configured,
            state: Mutex::new(None),
            targets: Mutex::new(Vec::new()),
            is_stale: AtomicBool::new(true),
        }
    }

    /// From now on the membership in `state` counts.
    pub(crate) fn set_state(&self, state: SharedState) {
        *self.state.lock() = Some(state);
        self.look_again();
    }

    /// The membership may have changed.
    pub(crate) fn look_again(&self) {
        self.is_stale.store(true, Ordering::Release);
    }

    /// Whom to dial, if that has changed since the last call.
    pub(crate) fn changed_targets(&self) -> Option<Vec<PeerTarget>> {
        if !self.is_stale.swap(false, Ordering::AcqRel) {
            return None;
        }
        let targets = self.current();
        let mut last = self.targets.lock();
        (*last != targets).then(|| {
            last.clone_from(&targets);
            targets
        })
    }

    fn current(&self) -> Vec<PeerTarget> {
        let mut servers: BTreeMap<u8, ServerSpec> = BTreeMap::new();
        if let Some(state) = &*self.state.lock() {
            let state = state.read();
            let membership = state.membership();
            let mut add = |members: &BTreeMap<u8, Member>| {
                servers.extend(members.iter().map(|(&server, member)| (server, member.spec.clone())));
            };
            add(&membership.members);
            if let Some(PendingChange::Reconfig { target, .. }) =
                membership.pending.as_ref().map(|pending| &pending.change)
            {
                add(target);
            }
        }
        if servers.is_empty() {
            servers.clone_from(&self.configured);
        }
        servers
            .into_iter()
            .filter(|&(server, _)| server != self.server_id)
            .map(|(server_id, spec)| PeerTarget {
                server_id,
                addresses: spec
                    .addresses
                    .iter()
                    .map(|address| PeerAddress { host: address.host.clone(), port: address.quorum_port })
                    .collect(),
            })
            .collect()
    }
}

impl Membership for Roster {
    fn standing(&self, hello: &Hello) -> Standing {
        let from = &hello.from;
        let shared = self.state.lock().clone();
        let Some(state) = shared else { return Standing::Unborn };
        let state = state.read();
        let membership = state.membership();
        let is_node =
            membership.voters.contains(&from.node_id) || membership.learners.contains(&from.node_id);
        if is_node || membership.members.is_empty() && from.cluster_id.is_some() {
            return Standing::Member;
        }
        if membership.server_of(from.node_id).is_some() {
            return Standing::Member;
        }
        if from.cluster_id.is_some() {
            // It was a member once, or is one already and this server is behind: it is let in, and consensus judges
            // whom to listen to.
            return Standing::NotMember { index: state.applied_index().0 };
        }
        match membership.members.get(&from.server_id).and_then(|member| member.node) {
            Some(node_id) => Standing::Replaceable { node_id },
            // Its first disk: the leader adds it.
            None => Standing::Unknown,
        }
    }
}
