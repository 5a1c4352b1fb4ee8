//! What this server does while it leads, and how it begins and ends.

use std::collections::BTreeMap;

use ostler_replication::MembershipEntry;
use ostler_tree::{Command, MembershipChange, Step as NextStep};
use ostler_types::{ErrorCode, LogIndex};

use super::Core;
use crate::Millis;
use crate::command::membership_context;
use crate::leader::Leader;

/// A node that is to vote may be this many entries behind.
const CAUGHT_UP_ENTRIES: u64 = 1_024;
/// A reconfig waits this long for the servers it needs, counted from when one was last missing.
const RECONFIG_PATIENCE_MS: Millis = 30_000;
/// A leader this new may not have links to the servers that are there.
const NEW_LEADER_MS: Millis = 2_000;
/// How long a reconfig waits for every server it names before a majority of them is enough.
const AWAIT_ABSENT_MS: Millis = 5_000;
/// A server without a cluster that has not introduced itself for this long is gone.
const UNBORN_MS: Millis = 5_000;
/// How long a server's disk must not have been connected before an empty one takes its place.
const REPLACE_AFTER_MS: Millis = 5_000;
/// Time between two looks at a membership that is not as wanted.
const LOOK_MS: Millis = 50;
/// A proposed step of membership that has not applied after this time is proposed again.
const STEP_TIMEOUT_MS: Millis = 2_000;

/// How far the leader is with a change of membership.
#[derive(Debug, Default)]
pub(super) struct Reconfiguring {
    /// Something was proposed at this time, with the applied index then; nothing more until it applies.
    proposed: Option<(Millis, LogIndex)>,
    /// Servers have been missing, or are catching up, since.
    waiting_since: Option<Millis>,
    /// When this server took office.
    since: Millis,
    /// The change that servers enough were there for when it began.
    accepted: Option<LogIndex>,
    /// When to look again although nothing has applied, and the last index looked at.
    next_look: Millis,
    seen: LogIndex,
    /// Whether the last look found something to do: then the next entry may be what it waits for.
    is_under_way: bool,
}

impl Core {
    /// The first entry of the term is applied: everything before it is known.
    pub(super) fn take_office(&mut self, now: Millis) {
        let state = self.replica.state().read();
        let leader = Leader::new(
            self.replica.server(),
            &self.settings.replicated,
            self.settings.cleaner.clone(),
            &state,
            now,
        );
        let is_standalone = state.membership().members.is_empty();
        drop(state);
        self.leader = Some(leader);
        self.is_office_stirred = true;
        self.reconfiguring = Reconfiguring { since: now, ..Reconfiguring::default() };
        if is_standalone && !self.settings.own_members.is_empty() && self.replicator.is_alone() {
            let members = self.settings.own_members.clone();
            self.own_command(&Command::AdoptMembers { members });
        }
        if self.replicator.is_alone() {
            self.replica.register();
        }
    }

    /// This server does not lead any more: what it had collected comes again from the servers whose clients sent it.
    pub(super) fn leave_office(&mut self) {
        if let Some(leader) = self.leader.take() {
            self.status.stalled_ms = leader.expiry.stalled_ms();
        }
    }

    fn own_command(&mut self, command: &Command<'_>) {
        if let Some(leader) = &mut self.leader {
            leader.propose(command);
        }
    }

    /// A turn of the leader's own work.
    pub(super) fn run_office(&mut self, now: Millis, wall_ms: i64) {
        let state = self.replica.state().clone();
        let Some(leader) = &mut self.leader else { return };
        leader.tick(&state, now, wall_ms);
        if let Some(gap_ms) = leader.expiry.take_long_stall() {
            self.effects.push(super::CoreEffect::News(super::News::Stalled(gap_ms)));
        }
        if let Some(ahead_ms) = leader.take_clock_alarm() {
            self.effects.push(super::CoreEffect::News(super::News::ClockAlarm(ahead_ms)));
        }
        leader.collect_own(&mut self.batch);
        self.change_membership(now);
    }

    /// Takes the next step toward the membership that is wanted, one at a time.
    fn change_membership(&mut self, now: Millis) {
        let applied = self.applied();
        if let Some((since, at)) = self.reconfiguring.proposed {
            if applied <= at && now.saturating_sub(since) < STEP_TIMEOUT_MS {
                return;
            }
            self.reconfiguring.proposed = None;
        }
        // Ordinary writes must not pay for a membership that is as wanted.
        let has_news = self.reconfiguring.is_under_way && self.reconfiguring.seen != applied;
        if self.reconfiguring.next_look > now && !has_news {
            return;
        }
        (self.reconfiguring.next_look, self.reconfiguring.seen) = (now + LOOK_MS, applied);
        let shared = self.replica.state().clone();
        let state = shared.read();
        let members = state.membership();
        if members.members.is_empty() {
            return;
        }
        let begun = members.pending.as_ref().map(|pending| pending.begun);
        let last = self.replicator.last().0;
        let progress: BTreeMap<u64, LogIndex> =
            self.replicator.progress().iter().map(|peer| (peer.node, peer.matched)).collect();
        let waited = self.reconfiguring.waiting_since.map_or(0, |since| now.saturating_sub(since));
        let await_absent = waited < AWAIT_ABSENT_MS;
        let links = &self.links;
        let node_of = |server| {
            let linked = links.iter().find(|(_, link)| link.up && link.server == server);
            let unborn = self.unborn.get(&server);
            let unborn = unborn.filter(|(_, heard)| now.saturating_sub(*heard) < UNBORN_MS);
            linked.map(|(&node, _)| node).or(unborn.map(|&(node, _)| node))
        };
        let step = members.next_step(
            self.replicator.node_id(),
            node_of,
            // One that has nothing yet is as far behind as can be, however short the log.
            |node| {
                let matched = progress.get(&node).map_or(0, |matched| matched.0);
                matched > 0 && matched + CAUGHT_UP_ENTRIES >= last.0
            },
            await_absent,
        );
        // As in ZooKeeper: a change that more than half of its voters are not there for is refused before it begins.
        let is_new_change = begun.is_some() && begun != self.reconfiguring.accepted;
        let me = self.replica.server();
        let has_quorum =
            !is_new_change || members.has_wanted_quorum(|server| server == me || node_of(server).is_some());
        drop(state);
        self.reconfiguring.is_under_way = begun.is_some() || step != NextStep::Idle;
        if is_new_change && !has_quorum {
            if now.saturating_sub(self.reconfiguring.since) >= NEW_LEADER_MS {
                self.abandon(begun, now);
            }
            return;
        }
        self.reconfiguring.accepted = begun;
        match step {
            NextStep::Idle => {}
            NextStep::Change { change, server } => {
                let entry = to_entry(change, server);
                if self.replicator.may_propose() && self.replicator.propose_membership(&entry).is_ok() {
                    // Done when the entry after the last one until now is applied.
                    self.reconfiguring.proposed = Some((now, last));
                }
            }
            NextStep::HandOver { to } => {
                let best = to.into_iter().filter(|node| links.get(node).is_some_and(|link| link.up));
                let Some(node) = best.max_by_key(|node| progress.get(node).copied()) else {
                    return self.wait_for_servers(begun, now);
                };
                if self.replicator.may_propose() {
                    self.replicator.transfer_leadership(node);
                }
            }
            NextStep::Finish => {
                if let Some(begun) = begun {
                    self.own_command(&Command::FinishReconfig { begun });
                    self.reconfiguring.proposed = Some((now, self.replicator.last().0));
                }
            }
            NextStep::Wait { absent, behind } => {
                if absent.is_empty() && behind.iter().all(|node| links.get(node).is_some_and(|link| link.up))
                {
                    // They are being fed, which takes as long as their snapshot is large.
                    self.reconfiguring.waiting_since = None;
                    return;
                }
                return self.wait_for_servers(begun, now);
            }
        }
        self.reconfiguring.waiting_since = None;
    }

    /// Gives a change up if the servers it needs do not come, or go away.
    fn wait_for_servers(&mut self, begun: Option<LogIndex>, now: Millis) {
        let since = *self.reconfiguring.waiting_since.get_or_insert(now);
        if now.saturating_sub(since) > RECONFIG_PATIENCE_MS {
            self.abandon(begun, now);
        }
    }

    fn abandon(&mut self, begun: Option<LogIndex>, now: Millis) {
        let Some(begun) = begun else { return };
        self.own_command(&Command::AbandonReconfig { begun, error: ErrorCode::NewConfigNoQuorum });
        self.reconfiguring.proposed = Some((now, self.replicator.last().0));
        self.reconfiguring.waiting_since = None;
    }

    /// A server whose disk is new asks for the place of the one it had. Granted if that one is not there.
    ///
    /// A server that is only being restarted must not lose its place to an empty one that has its number by mistake: the
    /// old disk must have been away for a while.
    pub(super) fn replace(&mut self, server: u8, node: u64, now: Millis) {
        let state = self.replica.state().read();
        let old = state.membership().members.get(&server).and_then(|member| member.node);
        let may_replace = state.membership().may_replace(server, node);
        drop(state);
        let is_there = old.is_some_and(|old| {
            let away_since = self.links.get(&old).map_or(self.reconfiguring.since, |link| {
                if link.up { now } else { link.was_up.max(self.reconfiguring.since) }
            });
            old == self.replicator.node_id() || now.saturating_sub(away_since) < REPLACE_AFTER_MS
        });
        if old.is_some() && may_replace && !is_there {
            self.own_command(&Command::BeginReplace { server, node });
        }
    }
}

fn to_entry(change: MembershipChange, server: Option<u8>) -> MembershipEntry {
    use ostler_replication::Step;
    let (step, node) = match change {
        MembershipChange::AddVoter { node } => (Step::AddVoter, node),
        MembershipChange::AddLearner { node } => (Step::AddLearner, node),
        MembershipChange::Remove { node } => (Step::Remove, node),
    };
    let context = server
        .map_or_else(Default::default, |server| bytes::Bytes::copy_from_slice(&membership_context(server)));
    MembershipEntry { step, node, context }
}

pub(crate) fn to_tree(entry: &MembershipEntry) -> MembershipChange {
    use ostler_replication::Step;
    let node = entry.node;
    match entry.step {
        Step::AddVoter => MembershipChange::AddVoter { node },
        Step::AddLearner => MembershipChange::AddLearner { node },
        Step::Remove => MembershipChange::Remove { node },
    }
}
