//! Removes containers that lost their last child and TTL znodes past their time (semantics, "Special node
//! kinds"; design, invariant 14).

use std::collections::VecDeque;

use ostler_tree::{CleanerCandidate, CleanerCursor, Command, State};

use crate::Millis;
use crate::command::CommandBuffer;

/// Containers and TTL znodes looked at in one go.
const ROUND_SCAN: usize = 1_000;
/// Stamped time may run ahead of elapsed time by this much before removal by age stops.
const CLOCK_TOLERANCE_MS: i64 = 10_000;

/// When and how fast to clean.
#[derive(Clone, Debug)]
pub struct CleanerSettings {
    /// Milliseconds between looks at the tree (`znode.container.checkIntervalMs`).
    pub interval_ms: u64,
    /// Most removals a minute (`znode.container.maxPerMinute`).
    pub per_minute: u32,
}

impl Default for CleanerSettings {
    fn default() -> Self {
        CleanerSettings { interval_ms: 60_000, per_minute: 10_000 }
    }
}

#[derive(Debug)]
pub(crate) struct Cleaner {
    settings: CleanerSettings,
    next_look: Millis,
    next_removal: Millis,
    candidates: VecDeque<CleanerCandidate>,
    /// Where the look at the tree goes on.
    cursor: Option<CleanerCursor>,
    /// (elapsed, stamped) at the last look.
    clocks: Option<(Millis, i64)>,
    alarmed: bool,
    alarm: Option<i64>,
}

impl Cleaner {
    pub(crate) fn new(settings: CleanerSettings, now: Millis) -> Self {
        Cleaner {
            next_look: now + settings.interval_ms,
            next_removal: now,
            settings,
            candidates: VecDeque::new(),
            cursor: None,
            clocks: None,
            alarmed: false,
            alarm: None,
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Millis> {
        Some(match (self.candidates.is_empty(), self.cursor) {
            (true, None) => self.next_look,
            (true, Some(_)) => 0,
            (false, _) => self.next_removal,
        })
    }

    pub(crate) fn take_alarm(&mut self) -> Option<i64> {
        self.alarm.take()
    }

    pub(crate) fn propose_due(&mut self, now: Millis, wall_ms: i64, state: &State, out: &mut CommandBuffer) {
        if self.cursor.is_none() && self.candidates.is_empty() && now >= self.next_look {
            self.next_look = now + self.settings.interval_ms;
            self.cursor = Some(CleanerCursor::default());
        }
        if self.candidates.is_empty()
            && let Some(cursor) = self.cursor.take()
        {
            // What the next entry will be stamped with; apply judges the age again with its stamp.
            let stamp = state.time_ms().max(wall_ms);
            if self.clocks_agree(now, stamp) {
                let mut found = Vec::new();
                self.cursor = state.cleaner_candidates(stamp, cursor, ROUND_SCAN, &mut found);
                self.candidates = found.into();
            }
        }
        let spacing_ms = (60_000 / Millis::from(self.settings.per_minute.max(1))).max(1);
        while now >= self.next_removal {
            let Some(CleanerCandidate { path, czxid, mzxid }) = self.candidates.pop_front() else { break };
            out.push_command(&Command::Clean { path: &path, czxid, mzxid });
            self.next_removal = now.max(self.next_removal) + spacing_ms;
        }
    }

    /// A jump of the wall clock must not remove everything that has a time to live. Removal stays off until
    /// the clocks agree again or the server is restarted, which accepts the new time.
    fn clocks_agree(&mut self, now: Millis, stamped: i64) -> bool {
        let (base_now, base_stamped) = *self.clocks.get_or_insert((now, stamped));
        let ahead = (stamped - base_stamped) - (now - base_now) as i64;
        // A clock that was set back and forth again must not count as running ahead.
        if ahead < 0 {
            self.clocks = Some((now, stamped));
        }
        let agree = ahead <= CLOCK_TOLERANCE_MS;
        if !agree && !self.alarmed {
            self.alarm = Some(ahead);
        }
        self.alarmed = !agree;
        agree
    }
}
