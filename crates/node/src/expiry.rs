//! When a session has been silent for too long (design, invariant 8). Only the leader judges.
//!
//! Expiring late is safe, expiring early is the bug users hate. So silence counts only
//! * up to the moment through which the server that holds the session has processed what its sockets held, and if that
//!   server's reports were interrupted, the timeout and a third count from its last report instead;
//! * up to the start of the last round in which a majority confirmed that this server leads; and
//! * while this server was running: gaps in its own loop are credited to every session.

use std::collections::BTreeMap;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use ostler_tree::{Command, EndCause, EndCondition};
use ostler_types::{Generation, SessionId};

use crate::Millis;
use crate::command::CommandBuffer;
use crate::deadlines::Deadlines;

/// A gap in the leader's loop longer than this is a stall: two ticks of 50 ms.
const STALL_MS: Millis = 100;
/// A stall this long has made clients give up on their connections: they get time to come back.
const LONG_STALL_MS: Millis = 1_000;
/// Most ends of sessions proposed per round, so that other commands go in between.
const ROUND_EXPIRIES: usize = 128;
/// A server that has not reported for this long is out of touch: five reports.
const INTERRUPTED_MS: Millis = 500;

#[derive(Debug)]
struct Liveness {
    timeout_ms: u32,
    generation: Generation,
    last_heard: Millis,
    /// Total of stalls when last heard.
    stalled_when_heard: Millis,
    /// The server that holds it.
    server: u8,
    /// Its one place in the queue.
    queued: Millis,
    /// An end has been proposed.
    ending: bool,
}

/// What a server's reports say, in this server's time.
#[derive(Debug)]
struct Reports {
    /// Everything that had arrived there by then has been reported.
    heard_through: Millis,
    last: Millis,
    /// Until when reports were missing, last time they were.
    interrupted_until: Option<Millis>,
}

#[derive(Debug)]
pub(crate) struct Expiry {
    /// This server's own id.
    server: u8,
    sessions: HashMap<SessionId, Liveness, FixedState>,
    deadlines: Deadlines,
    reports: BTreeMap<u8, Reports>,
    last_observed: Millis,
    stalled: Millis,
    /// Sessions not heard since then have a timeout and a third from then.
    grace_from: Option<Millis>,
    long_stall: Option<Millis>,
    /// Start of the last confirmed round.
    confirmed: Millis,
    /// Earliest deadline that waits for a later round of confirmation.
    unconfirmed: Option<Millis>,
}

impl Expiry {
    /// Of a server that has just begun to lead: everybody is granted a timeout and a third from `now`.
    pub(crate) fn new(server: u8, now: Millis) -> Self {
        Expiry {
            server,
            sessions: HashMap::default(),
            deadlines: Deadlines::default(),
            reports: BTreeMap::new(),
            last_observed: now,
            stalled: 0,
            grace_from: Some(now),
            long_stall: None,
            confirmed: 0,
            unconfirmed: None,
        }
    }

    /// A session exists or has a new owner; it is heard from at this moment.
    pub(crate) fn add(
        &mut self,
        session: SessionId,
        generation: Generation,
        timeout_ms: u32,
        server: u8,
        now: Millis,
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
                server,
                queued,
                ending: false,
            },
        );
    }

    pub(crate) fn remove(&mut self, session: SessionId) {
        self.sessions.remove(&session);
    }

    pub(crate) fn touch(&mut self, session: SessionId, at: Millis) {
        if let Some(liveness) = self.sessions.get_mut(&session)
            && liveness.last_heard < at
        {
            liveness.last_heard = at;
            liveness.stalled_when_heard = self.stalled;
        }
    }

    /// `server` has reported; everything that had arrived there by `heard_through` is counted.
    pub(crate) fn reported(&mut self, server: u8, heard_through: Millis, now: Millis) {
        let reports = self.reports.entry(server).or_insert(Reports {
            heard_through,
            last: now,
            interrupted_until: None,
        });
        if now.saturating_sub(reports.last) > INTERRUPTED_MS {
            reports.interrupted_until = Some(now);
        }
        reports.last = now;
        reports.heard_through = reports.heard_through.max(heard_through);
    }

    /// Reports of `server` may have been lost until now.
    pub(crate) fn interrupted(&mut self, server: u8, now: Millis) {
        if let Some(reports) = self.reports.get_mut(&server) {
            reports.interrupted_until = Some(now);
        }
    }

    pub(crate) fn silent_ms(&self, session: SessionId, now: Millis) -> Option<u64> {
        Some(now.saturating_sub(self.sessions.get(&session)?.last_heard))
    }

    /// Stalls since `session` was last heard.
    pub(crate) fn stalled_ms_of(&self, session: SessionId) -> Option<u64> {
        Some(self.stalled - self.sessions.get(&session)?.stalled_when_heard)
    }

    /// The loop runs; a gap since it last did is a stall.
    pub(crate) fn observe(&mut self, now: Millis) {
        let gap = now.saturating_sub(self.last_observed);
        self.last_observed = now;
        if gap > STALL_MS {
            self.stalled += gap;
            // What the others sent meanwhile lies unread in our own sockets.
            for reports in self.reports.values_mut() {
                reports.last += gap;
            }
        }
        if gap > LONG_STALL_MS {
            self.grace_from = Some(now);
            self.long_stall = Some(gap);
        }
    }

    pub(crate) fn stalled_ms(&self) -> u64 {
        self.stalled
    }

    /// The last stall that was worth a grace, once.
    pub(crate) fn take_long_stall(&mut self) -> Option<Millis> {
        self.long_stall.take()
    }

    /// A majority has confirmed, in a round begun at `started`, that this server leads.
    pub(crate) fn confirmed(&mut self, started: Millis) {
        self.confirmed = self.confirmed.max(started);
        if self.unconfirmed.is_some_and(|deadline| deadline <= self.confirmed) {
            self.unconfirmed = None;
        }
    }

    /// Whether a session waits for a round of confirmation begun from now on.
    pub(crate) fn wants_confirmation(&self, now: Millis) -> bool {
        self.unconfirmed.is_some_and(|deadline| deadline <= now)
    }

    /// Proposes the end of sessions whose time is over.
    pub(crate) fn propose_due(&mut self, now: Millis, wall_ms: i64, out: &mut CommandBuffer) {
        let mut proposed = 0;
        while proposed < ROUND_EXPIRIES {
            let Some(due) = self.deadlines.next().filter(|&due| due <= now) else { return };
            let session = self.deadlines.pop_due(now).expect("one is due");
            let Some(liveness) = self.sessions.get(&session) else { continue };
            if liveness.queued != due || liveness.ending {
                continue;
            }
            let (deadline, judged_through) = self.deadline(liveness, now);
            let (generation, server) = (liveness.generation, liveness.server);
            let again = if deadline > now {
                // It was heard since it was queued.
                Some(deadline)
            } else if deadline > judged_through {
                // Its server has not listened up to the deadline; the next report comes soon.
                Some(now + STALL_MS)
            } else if deadline > self.confirmed {
                self.unconfirmed = Some(self.unconfirmed.map_or(deadline, |other| other.max(deadline)));
                Some(now + STALL_MS / 2)
            } else {
                None
            };
            let liveness = self.sessions.get_mut(&session).expect("just seen");
            match again {
                Some(at) => {
                    liveness.queued = at;
                    self.deadlines.insert(at, session);
                }
                None => {
                    proposed += 1;
                    liveness.ending = true;
                    let condition = EndCondition::StillGeneration(generation);
                    self.push_end(session, condition, EndCause::Expired, server, now, wall_ms, out);
                }
            }
        }
    }

    /// Writes the end of `session` into `out`.
    #[expect(clippy::too_many_arguments, reason = "the fields of one command")]
    fn push_end(
        &self,
        session: SessionId,
        condition: EndCondition,
        cause: EndCause,
        owner: u8,
        now: Millis,
        wall_ms: i64,
        out: &mut CommandBuffer,
    ) {
        let last_heard_ms = wall_ms - self.silent_ms(session, now).unwrap_or(0) as i64;
        out.push_command(&Command::EndSession { session, condition, cause, last_heard_ms, owner });
    }

    /// Writes the unconditional end of `session` into `out`.
    pub(crate) fn kill(&self, session: SessionId, now: Millis, wall_ms: i64, out: &mut CommandBuffer) {
        let owner = self.sessions.get(&session).map_or(self.server, |liveness| liveness.server);
        self.push_end(session, EndCondition::Always, EndCause::Killed, owner, now, wall_ms, out);
    }

    /// A proposed end did not apply: the session had a new owner by then.
    pub(crate) fn end_was_void(&mut self, session: SessionId, now: Millis) {
        if let Some(liveness) = self.sessions.get_mut(&session)
            && liveness.ending
        {
            liveness.ending = false;
            liveness.queued = now;
            self.deadlines.insert(now, session);
        }
    }

    /// When a session's time is over, and up to when its silence is known.
    fn deadline(&self, liveness: &Liveness, now: Millis) -> (Millis, Millis) {
        let timeout = Millis::from(liveness.timeout_ms);
        let mut silent_until = liveness.last_heard + timeout + (self.stalled - liveness.stalled_when_heard);
        let mut judged_through = now;
        match self.reports.get(&liveness.server) {
            Some(reports) => {
                let out_of_touch = now.saturating_sub(reports.last) > INTERRUPTED_MS;
                let was_interrupted =
                    reports.interrupted_until.is_some_and(|until| until > liveness.last_heard);
                if out_of_touch || was_interrupted {
                    silent_until += timeout / 3;
                }
                if out_of_touch {
                    // Its client may have been answered for as long as that server had a lease, and said nothing
                    // in the last report because it paused before (found by the model, `lease`).
                    silent_until = silent_until.max(reports.last + timeout + timeout / 3);
                }
                if !out_of_touch {
                    judged_through = reports.heard_through.min(now);
                }
            }
            // Never heard of since this server leads.
            None => silent_until += timeout / 3,
        }
        let deadline = match self.grace_from {
            Some(from) if liveness.last_heard <= from => silent_until.max(from + timeout + timeout / 3),
            _ => silent_until,
        };
        (deadline, judged_through)
    }

    /// When there is something to propose.
    pub(crate) fn next_deadline(&self) -> Option<Millis> {
        self.deadlines.next()
    }

    /// Every session and when its time is over.
    pub(crate) fn deadlines(&self, now: Millis) -> Vec<(Millis, SessionId)> {
        let mut deadlines: Vec<_> = self
            .sessions
            .iter()
            .map(|(&session, liveness)| (self.deadline(liveness, now).0, session))
            .collect();
        deadlines.sort_unstable();
        deadlines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: SessionId = SessionId(7);
    const ME: u8 = 1;
    const OTHER: u8 = 2;

    /// A leader since long ago, with one session of 1 s held by `server`, heard at 10,000.
    fn expiry(server: u8) -> Expiry {
        let mut expiry = Expiry::new(ME, 0);
        expiry.observe(9_950);
        expiry.grace_from = Some(0);
        expiry.stalled = 0;
        expiry.reported(server, 9_950, 9_950);
        expiry.add(S, Generation(1), 1_000, server, 10_000);
        expiry
    }

    /// Runs the loop every 50 ms through `until`; returns when the session's end was proposed.
    fn run(expiry: &mut Expiry, from: Millis, until: Millis, reports: Option<u8>) -> Option<Millis> {
        for now in (from..=until).step_by(50) {
            if let Some(server) = reports {
                expiry.reported(server, now, now);
            }
            expiry.observe(now);
            expiry.confirmed(now);
            let mut out = CommandBuffer::default();
            expiry.propose_due(now, 0, &mut out);
            if !out.is_empty() {
                return Some(now);
            }
        }
        None
    }

    #[test]
    fn a_silent_session_ends_after_its_timeout_and_not_before() {
        for server in [ME, OTHER] {
            assert_eq!(run(&mut expiry(server), 10_000, 20_000, Some(server)), Some(11_000));
        }
    }

    #[test]
    fn a_touch_moves_the_deadline() {
        let mut expiry = expiry(ME);
        assert_eq!(run(&mut expiry, 10_000, 10_900, Some(ME)), None);
        expiry.touch(S, 10_890);
        assert_eq!(run(&mut expiry, 10_950, 20_000, Some(ME)), Some(11_900));
    }

    #[test]
    fn silence_counts_only_as_far_as_the_server_has_listened() {
        let mut expiry = expiry(OTHER);
        for now in (10_000..=11_500).step_by(50) {
            // It reports, but has not looked at its sockets.
            expiry.reported(OTHER, 10_500, now);
            assert_eq!(run(&mut expiry, now, now, None), None);
        }
        // What it finds when it does look counts first.
        expiry.touch(S, 10_990);
        assert_eq!(run(&mut expiry, 11_550, 20_000, Some(OTHER)), Some(12_000));
    }

    #[test]
    fn interrupted_reports_add_a_third() {
        assert_eq!(run(&mut expiry(OTHER), 10_000, 20_000, None), Some(11_350));
        let mut expiry = expiry(OTHER);
        assert_eq!(run(&mut expiry, 10_000, 10_700, None), None);
        // It is back, but what was heard meanwhile may have been lost.
        assert_eq!(run(&mut expiry, 10_750, 20_000, Some(OTHER)), Some(11_350));
    }

    #[test]
    fn a_link_that_was_broken_counts_as_an_interruption_however_short() {
        let mut expiry = expiry(OTHER);
        assert_eq!(run(&mut expiry, 10_000, 10_200, Some(OTHER)), None);
        // The server has died and is back: whom it heard before, and had not told, nobody knows.
        expiry.interrupted(OTHER, 10_210);
        assert_eq!(run(&mut expiry, 10_250, 20_000, Some(OTHER)), Some(11_350));
    }

    #[test]
    fn nothing_ends_without_a_later_round_of_confirmation() {
        let mut expiry = expiry(ME);
        for now in (10_000..=12_000).step_by(50) {
            expiry.reported(ME, now, now);
            expiry.observe(now);
            expiry.confirmed(10_500);
            let mut out = CommandBuffer::default();
            expiry.propose_due(now, 0, &mut out);
            assert!(out.is_empty());
        }
        assert!(expiry.wants_confirmation(12_000));
        assert_eq!(run(&mut expiry, 12_050, 13_000, Some(ME)), Some(12_050));
    }

    #[test]
    fn short_stalls_are_credited() {
        let mut expiry = expiry(ME);
        assert_eq!(run(&mut expiry, 10_000, 10_500, Some(ME)), None);
        // 400 ms in which this server did not run.
        assert_eq!(run(&mut expiry, 10_900, 20_000, Some(ME)), Some(11_400));
        assert_eq!(expiry.stalled_ms(), 400);
    }

    #[test]
    fn after_a_long_stall_everybody_has_a_timeout_and_a_third() {
        let mut expiry = expiry(ME);
        assert_eq!(run(&mut expiry, 10_000, 10_100, Some(ME)), None);
        assert_eq!(run(&mut expiry, 70_000, 90_000, Some(ME)), Some(71_350));
    }

    #[test]
    fn an_end_that_came_too_late_leaves_the_session_alone() {
        let mut expiry = expiry(ME);
        assert_eq!(run(&mut expiry, 10_000, 15_000, Some(ME)), Some(11_000));
        expiry.add(S, Generation(2), 1_000, ME, 11_010);
        expiry.end_was_void(S, 11_020);
        assert_eq!(run(&mut expiry, 11_050, 15_000, Some(ME)), Some(12_050));
    }
}
