//! Who was heard from, and whether this server is in touch with a majority (design, 8a and 8b).
//!
//! A follower sends the leader numbered reports of whom its clients' sockets were heard from. The leader counts their
//! touches, has a majority confirm that it still leads in a round begun after that, and acknowledges with the commit
//! index of the round. When the follower has applied that much, it has been in contact at the moment it sent the
//! report; and everything that was committed anywhere by then is applied here, which is what a `sync` waits for. The
//! leader's own contact is the start of its last confirmed round.

use std::collections::{BTreeMap, VecDeque};

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use ostler_types::{LogIndex, SessionId};

use super::Core;
use crate::peer::{PeerFrame, Report};
use crate::{Millis, ShardId};

/// Time between two reports, and between the leader's rounds of confirmation when nobody waits for one.
const REPORT_MS: Millis = 100;
/// A round of confirmation that takes longer is begun anew: consensus drops some silently.
const ROUND_TIMEOUT_MS: Millis = 200;
/// Reports kept until they are acknowledged; what older ones held is reported again.
const UNACKNOWLEDGED: usize = 32;

/// The newest barrier of each shard.
type Barriers = BTreeMap<u16, u64>;

#[derive(Debug)]
struct Sent {
    number: u64,
    at: Millis,
    touches: Vec<(SessionId, Millis)>,
    barriers: Barriers,
}

/// Contact at `at`, once `commit` is applied here.
#[derive(Debug)]
struct Reached {
    at: Millis,
    commit: LogIndex,
    barriers: Barriers,
}

#[derive(Debug)]
struct Round {
    number: u64,
    started: Millis,
    barriers: Barriers,
    /// Reports received before it began: node and number.
    reports: BTreeMap<u64, u64>,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Contact {
    heard_through: Vec<Millis>,
    /// Heard and not yet reported, or reported and perhaps lost.
    touches: HashMap<SessionId, Millis, FixedState>,
    barriers: Barriers,
    next_report: Millis,
    last_number: u64,
    sent: VecDeque<Sent>,
    reached: VecDeque<Reached>,
    /// On the leader: reports counted since the last round began.
    counted: BTreeMap<u64, u64>,
    round: Option<Round>,
    last_round: u64,
}

impl Contact {
    pub(super) fn new(shards: usize, now: Millis) -> Contact {
        Contact {
            heard_through: vec![now; shards],
            touches: HashMap::default(),
            barriers: Barriers::new(),
            next_report: now,
            last_number: 0,
            sent: VecDeque::new(),
            reached: VecDeque::new(),
            counted: BTreeMap::new(),
            round: None,
            last_round: 0,
        }
    }

    /// What a shard has heard.
    pub(super) fn heard(
        &mut self,
        shard: ShardId,
        touches: Vec<(SessionId, Millis)>,
        heard_through: Millis,
        barrier: Option<u64>,
    ) {
        for (session, at) in touches {
            self.touch(session, at);
        }
        let known = &mut self.heard_through[shard.0 as usize];
        *known = heard_through.max(*known);
        if let Some(ticket) = barrier {
            self.barriers.insert(shard.0, ticket);
        }
    }

    fn touch(&mut self, session: SessionId, at: Millis) {
        let last = self.touches.entry(session).or_insert(at);
        *last = at.max(*last);
    }

    /// The moment before which everything that had arrived has been reported by every shard.
    fn heard_through(&self, now: Millis) -> Millis {
        self.heard_through.iter().copied().min().unwrap_or(now).min(now)
    }

    /// The leader has acknowledged a report, and all before it.
    pub(super) fn acknowledged(&mut self, number: u64, commit: LogIndex) {
        let mut barriers = Barriers::new();
        let mut at = None;
        while let Some(sent) = self.sent.pop_front_if(|sent| sent.number <= number) {
            barriers.extend(sent.barriers);
            at = Some(sent.at);
        }
        if let Some(at) = at {
            self.reached.push_back(Reached { at, commit, barriers });
        }
    }

    /// What was sent may not have arrived: all of it is to be reported again.
    pub(super) fn begin_again(&mut self) {
        for sent in std::mem::take(&mut self.sent) {
            self.report_again(sent);
        }
        if let Some(round) = self.round.take() {
            merge(&mut self.barriers, round.barriers);
        }
        self.counted.clear();
        self.next_report = 0;
    }

    fn report_again(&mut self, sent: Sent) {
        for (session, at) in sent.touches {
            self.touch(session, at);
        }
        merge(&mut self.barriers, sent.barriers);
    }

    pub(super) fn next_deadline(&self) -> Option<Millis> {
        // While a round is under way nothing is due but giving it up.
        Some(self.round.as_ref().map_or(self.next_report, |round| round.started + ROUND_TIMEOUT_MS))
    }
}

/// The newer of each.
fn merge(into: &mut Barriers, from: Barriers) {
    for (shard, ticket) in from {
        let known = into.entry(shard).or_default();
        *known = ticket.max(*known);
    }
}

impl Core {
    /// Reports, confirms, and lets pass what has been reached.
    pub(super) fn keep_contact(&mut self, now: Millis) {
        if self.replicator.is_leader() {
            self.keep_contact_as_leader(now);
        } else {
            self.report(now);
        }
        while let Some(front) = self.contact.reached.front() {
            if front.commit > self.applied() {
                break;
            }
            let Reached { at, barriers, .. } = self.contact.reached.pop_front().expect("just looked at");
            if !self.status.diverged && !self.status.removed {
                self.lease.renew(at);
            }
            self.pass_barriers(barriers);
            // Everything from before this server took part is applied: its own boot numbers are known.
            self.replica.register();
        }
    }

    fn pass_barriers(&mut self, barriers: Barriers) {
        for (shard, ticket) in barriers {
            self.replica.pass_barrier(ShardId(shard), ticket);
        }
    }

    fn keep_contact_as_leader(&mut self, now: Millis) {
        let Some(leader) = &mut self.leader else {
            // The first entry of the term is on its way.
            self.contact.next_report = now + REPORT_MS;
            return;
        };
        for (session, at) in self.contact.touches.drain() {
            leader.expiry.touch(session, at);
        }
        let heard_through = self.contact.heard_through(now);
        leader.expiry.reported(self.replica.server(), heard_through, now);
        if self.replicator.is_alone() {
            leader.expiry.confirmed(now);
            self.contact.next_report = now + REPORT_MS;
            let barriers = std::mem::take(&mut self.contact.barriers);
            self.pass_barriers(barriers);
            return;
        }
        if let Some(round) = &self.contact.round {
            if now.saturating_sub(round.started) < ROUND_TIMEOUT_MS {
                return;
            }
            // Lost. What it was for waits for the next.
            let Some(round) = self.contact.round.take() else { return };
            merge(&mut self.contact.barriers, round.barriers);
            for (node, number) in round.reports {
                self.contact.counted.entry(node).or_insert(number);
            }
        }
        let is_wanted = now >= self.contact.next_report
            || !self.contact.counted.is_empty()
            || !self.contact.barriers.is_empty()
            || leader.expiry.wants_confirmation(now);
        if is_wanted && self.replicator.has_committed_in_term() {
            self.contact.next_report = now + REPORT_MS;
            self.contact.last_round += 1;
            let number = self.contact.last_round;
            self.contact.round = Some(Round {
                number,
                started: now,
                barriers: std::mem::take(&mut self.contact.barriers),
                reports: std::mem::take(&mut self.contact.counted),
            });
            self.replicator.confirm_leadership(number);
        }
    }

    /// A majority has confirmed that this server leads.
    pub(super) fn confirmed(&mut self, number: u64, commit: LogIndex) {
        let Some(Round { started, barriers, reports, .. }) =
            self.contact.round.take_if(|round| round.number == number)
        else {
            return;
        };
        if let Some(leader) = &mut self.leader {
            leader.expiry.confirmed(started);
        }
        self.contact.reached.push_back(Reached { at: started, commit, barriers });
        for (node, number) in reports {
            self.send(node, &PeerFrame::ReportAck { number, commit }, false);
        }
    }

    /// Counts a follower's report.
    pub(super) fn take_report(&mut self, node: u64, report: Report, now: Millis) {
        // One that was removed would believe that it still belongs here.
        let is_node = self.membership.voters.contains(&node) || self.membership.learners.contains(&node);
        let Some(server) = self.server_of(node).filter(|_| is_node) else { return };
        if let Some((index, digest)) = report.checkpoint {
            self.compare(node, index, digest);
        }
        // Before the term has begun here nothing can be counted; everybody is granted time when it has.
        let Some(leader) = &mut self.leader else { return };
        for (session, age_ms) in report.touches {
            leader.expiry.touch(session, now.saturating_sub(age_ms.into()));
        }
        let heard_through = now.saturating_sub(report.heard_through_age_ms.into());
        leader.expiry.reported(server, heard_through, now);
        self.contact.counted.insert(node, report.number);
    }

    /// Reports to the leader, if it is time and there is a way to it.
    fn report(&mut self, now: Millis) {
        let contact = &mut self.contact;
        if now < contact.next_report && contact.barriers.is_empty() {
            return;
        }
        let Some(leader) = self.known.0.filter(|_| self.can_pass_on) else {
            contact.next_report = now + REPORT_MS;
            return;
        };
        if contact.sent.len() >= UNACKNOWLEDGED
            && let Some(oldest) = contact.sent.pop_front()
        {
            contact.report_again(oldest);
        }
        contact.next_report = now + REPORT_MS;
        contact.last_number += 1;
        let heard_through = contact.heard_through(now);
        let mut touches: Vec<(SessionId, Millis)> = contact.touches.drain().collect();
        touches.sort_unstable();
        let age = |at: Millis| u32::try_from(now.saturating_sub(at)).unwrap_or(u32::MAX);
        let report = Report {
            number: contact.last_number,
            heard_through_age_ms: age(heard_through),
            applied: self.applied,
            checkpoint: self.agreement.take_new(self.replica.last_checkpoint()),
            touches: touches.iter().map(|&(session, at)| (session, age(at))).collect(),
        };
        contact.sent.push_back(Sent {
            number: report.number,
            at: now,
            touches,
            barriers: std::mem::take(&mut contact.barriers),
        });
        self.send(leader, &PeerFrame::Report(report), false);
    }
}
