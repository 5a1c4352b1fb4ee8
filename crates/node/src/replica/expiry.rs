//! When a session has been silent for too long (design, invariant 8).
//!
//! Expiring late is safe, expiring early is the bug users hate. So silence counts only
//! * up to the moment through which *every* shard has processed what its sockets held, and
//! * while this server was running: gaps in its own loop are credited to every session.

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use ostler_tree::{Command, EndCause, EndCondition};
use ostler_types::{Generation, SessionId};

use crate::command::CommandBuffer;
use crate::deadlines::Deadlines;
use crate::{Millis, ShardId};

/// A gap in the replica's loop longer than this is a stall: two ticks of 50 ms.
const STALL_MS: Millis = 100;
/// A stall this long has made clients give up on their connections: they get time to come back.
const LONG_STALL_MS: Millis = 1_000;
/// Most ends of sessions proposed per round, so that other commands go in between.
const ROUND_EXPIRIES: usize = 128;

#[derive(Debug)]
struct Liveness {
    timeout_ms: u32,
    generation: Generation,
    last_heard: Millis,
    /// Total of stalls when last heard.
    stalled_when_heard: Millis,
    shard: Option<ShardId>,
    /// Its one place in the queue.
    queued: Millis,
    /// An end has been proposed.
    ending: bool,
}

#[derive(Debug)]
pub(super) struct Expiry {
    sessions: HashMap<SessionId, Liveness, FixedState>,
    deadlines: Deadlines,
    heard_through: Vec<Millis>,
    last_observed: Millis,
    stalled: Millis,
    /// Sessions not heard since then have a timeout and a third from then.
    grace_from: Option<Millis>,
    long_stall: Option<Millis>,
}

impl Expiry {
    pub(super) fn new(shards: usize, now: Millis) -> Self {
        Expiry {
            sessions: HashMap::default(),
            deadlines: Deadlines::default(),
            heard_through: vec![now; shards],
            last_observed: now,
            stalled: 0,
            grace_from: None,
            long_stall: None,
        }
    }

    /// A session exists or has a new owner; it is heard from at this moment.
    pub(super) fn add(
        &mut self,
        session: SessionId,
        generation: Generation,
        timeout_ms: u32,
        now: Millis,
        shard: Option<ShardId>,
    ) {
        let queued = now + Millis::from(timeout_ms);
        let stalled_when_heard = self.stalled;
        self.deadlines.insert(queued, session);
        self.sessions.insert(
            session,
            Liveness {
                timeout_ms,
                generation,
                last_heard: now,
                stalled_when_heard,
                shard,
                queued,
                ending: false,
            },
        );
    }

    pub(super) fn remove(&mut self, session: SessionId) {
        self.sessions.remove(&session);
    }

    pub(super) fn touch(&mut self, session: SessionId, at: Millis) {
        if let Some(liveness) = self.sessions.get_mut(&session)
            && liveness.last_heard < at
        {
            liveness.last_heard = at;
            liveness.stalled_when_heard = self.stalled;
        }
    }

    pub(super) fn heard_through(&mut self, shard: ShardId, through: Millis) {
        let known = &mut self.heard_through[shard.0 as usize];
        *known = through.max(*known);
    }

    pub(super) fn attached_to(&self, session: SessionId) -> Option<ShardId> {
        self.sessions.get(&session)?.shard
    }

    pub(super) fn silent_ms(&self, session: SessionId, now: Millis) -> Option<u64> {
        Some(now.saturating_sub(self.sessions.get(&session)?.last_heard))
    }

    /// Stalls since `session` was last heard.
    pub(super) fn stalled_ms_of(&self, session: SessionId) -> Option<u64> {
        Some(self.stalled - self.sessions.get(&session)?.stalled_when_heard)
    }

    pub(super) fn timeout_ms(&self, session: SessionId) -> Option<u32> {
        Some(self.sessions.get(&session)?.timeout_ms)
    }

    /// The loop runs; a gap since it last did is a stall.
    pub(super) fn observe(&mut self, now: Millis) {
        let gap = now.saturating_sub(self.last_observed);
        self.last_observed = now;
        if gap > STALL_MS {
            self.stalled += gap;
        }
        if gap > LONG_STALL_MS {
            self.grant_grace(now);
            self.long_stall = Some(gap);
        }
    }

    pub(super) fn stalled_ms(&self) -> u64 {
        self.stalled
    }

    /// The last stall that was worth a grace, once.
    pub(super) fn take_long_stall(&mut self) -> Option<Millis> {
        self.long_stall.take()
    }

    /// Every session not heard from after `now` gets a timeout and a third from now on.
    pub(super) fn grant_grace(&mut self, now: Millis) {
        self.grace_from = Some(now);
    }

    /// Proposes the end of sessions whose time is over.
    pub(super) fn propose_due(&mut self, now: Millis, wall_ms: i64, owner: u8, out: &mut CommandBuffer) {
        let heard_through = self.heard_through.iter().copied().min().unwrap_or(now).min(now);
        for _ in 0..ROUND_EXPIRIES {
            let Some(due) = self.deadlines.next().filter(|&due| due <= heard_through) else { return };
            let session = self.deadlines.pop_due(heard_through).expect("one is due");
            let Some(liveness) = self.sessions.get(&session) else { continue };
            if liveness.queued != due || liveness.ending {
                continue;
            }
            let deadline = self.deadline(liveness);
            let generation = liveness.generation;
            let liveness = self.sessions.get_mut(&session).expect("just seen");
            if deadline > heard_through {
                liveness.queued = deadline;
                self.deadlines.insert(deadline, session);
            } else {
                liveness.ending = true;
                let condition = EndCondition::StillGeneration(generation);
                self.push_end(session, condition, EndCause::Expired, now, wall_ms, owner, out);
            }
        }
    }

    /// Writes the end of `session` into `out`.
    #[expect(clippy::too_many_arguments, reason = "the fields of one command")]
    pub(super) fn push_end(
        &self,
        session: SessionId,
        condition: EndCondition,
        cause: EndCause,
        now: Millis,
        wall_ms: i64,
        owner: u8,
        out: &mut CommandBuffer,
    ) {
        let last_heard_ms = wall_ms - self.silent_ms(session, now).unwrap_or(0) as i64;
        out.push_command(&Command::EndSession { session, condition, cause, last_heard_ms, owner });
    }

    /// A proposed end did not apply: the session had a new owner by then.
    pub(super) fn end_was_void(&mut self, session: SessionId, now: Millis) {
        if let Some(liveness) = self.sessions.get_mut(&session)
            && liveness.ending
        {
            liveness.ending = false;
            liveness.queued = now;
            self.deadlines.insert(now, session);
        }
    }

    fn deadline(&self, liveness: &Liveness) -> Millis {
        let timeout = Millis::from(liveness.timeout_ms);
        let silent_until = liveness.last_heard + timeout + (self.stalled - liveness.stalled_when_heard);
        match self.grace_from {
            Some(from) if liveness.last_heard <= from => silent_until.max(from + timeout + timeout / 3),
            _ => silent_until,
        }
    }

    /// When there is something to propose without news from a shard. A deadline that not every shard has
    /// listened up to needs no timer: their next reports come first.
    pub(super) fn next_deadline(&self) -> Option<Millis> {
        let heard_through = self.heard_through.iter().copied().min()?;
        self.deadlines.next().filter(|&due| due <= heard_through)
    }

    pub(super) fn deadlines(&self) -> Vec<(Millis, SessionId)> {
        let mut deadlines: Vec<_> =
            self.sessions.iter().map(|(&session, liveness)| (self.deadline(liveness), session)).collect();
        deadlines.sort_unstable();
        deadlines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: SessionId = SessionId(7);

    fn expiry() -> Expiry {
        let mut expiry = Expiry::new(2, 0);
        expiry.add(S, Generation(1), 1_000, 0, Some(ShardId(0)));
        expiry
    }

    /// Runs the loop every 50 ms through `until`; returns when the session's end was proposed.
    fn run(expiry: &mut Expiry, from: Millis, until: Millis, shards_report: bool) -> Option<Millis> {
        for now in (from..=until).step_by(50) {
            if shards_report {
                expiry.heard_through(ShardId(0), now);
                expiry.heard_through(ShardId(1), now);
            }
            expiry.observe(now);
            let mut out = CommandBuffer::default();
            expiry.propose_due(now, 0, 1, &mut out);
            if !out.is_empty() {
                return Some(now);
            }
        }
        None
    }

    #[test]
    fn a_silent_session_ends_after_its_timeout_and_not_before() {
        assert_eq!(run(&mut expiry(), 0, 5_000, true), Some(1_000));
    }

    #[test]
    fn a_touch_moves_the_deadline() {
        let mut expiry = expiry();
        assert_eq!(run(&mut expiry, 0, 900, true), None);
        expiry.touch(S, 890);
        assert_eq!(run(&mut expiry, 950, 5_000, true), Some(1_900));
    }

    #[test]
    fn silence_counts_only_as_far_as_every_shard_has_listened() {
        let mut expiry = expiry();
        assert_eq!(run(&mut expiry, 0, 5_000, false), None);
        expiry.heard_through(ShardId(0), 5_000);
        assert_eq!(run(&mut expiry, 5_050, 5_100, false), None, "the other shard has not listened");
        // What it finds when it does listen counts first.
        expiry.touch(S, 4_990);
        assert_eq!(run(&mut expiry, 5_150, 9_000, true), Some(6_000));
    }

    #[test]
    fn short_stalls_are_credited() {
        let mut expiry = expiry();
        assert_eq!(run(&mut expiry, 0, 500, true), None);
        // 400 ms in which this server did not run.
        assert_eq!(run(&mut expiry, 900, 9_000, true), Some(1_400));
        assert_eq!(expiry.stalled_ms(), 400);
    }

    #[test]
    fn after_a_long_stall_everybody_has_a_timeout_and_a_third() {
        let mut expiry = expiry();
        assert_eq!(run(&mut expiry, 0, 100, true), None);
        assert_eq!(run(&mut expiry, 60_000, 90_000, true), Some(61_350));
    }

    #[test]
    fn an_end_that_came_too_late_leaves_the_session_alone() {
        let mut expiry = expiry();
        assert_eq!(run(&mut expiry, 0, 5_000, true), Some(1_000));
        expiry.add(S, Generation(2), 1_000, 1_010, Some(ShardId(1)));
        expiry.end_was_void(S, 1_020);
        assert_eq!(run(&mut expiry, 1_050, 5_000, true), Some(2_050));
    }
}
