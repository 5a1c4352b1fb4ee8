//! What only the leader does: collect commands into entries, end silent sessions, remove idle znodes.

use bytes::Bytes;
use ostler_tree::{Command, Settings, State};
use ostler_types::SessionId;

use crate::Millis;
use crate::cleaner::{Cleaner, CleanerSettings};
use crate::command::{BatchBuilder, CommandBuffer};
use crate::expiry::Expiry;

/// Bytes of entries in one proposal; a single entry may overshoot it. Bounds what one round writes and holds.
const MAX_PROPOSAL_BYTES: usize = 16 << 20;

/// A term of office. It begins when the first entry of the term is applied, so that everything before it is known, and
/// nothing of it survives its end: what it had collected comes again from the servers whose clients sent it.
pub(crate) struct Leader {
    pub(crate) expiry: Expiry,
    cleaner: Cleaner,
    /// Commands of the leader itself.
    own: CommandBuffer,
}

impl Leader {
    /// Takes office. Commands that bring the replicated settings up to date are proposed first.
    pub(crate) fn new(
        server: u8,
        settings: &Settings,
        cleaner: CleanerSettings,
        state: &State,
        now: Millis,
    ) -> Leader {
        let mut expiry = Expiry::new(server, now);
        for (session, row) in state.sessions() {
            expiry.add(session, row.generation, row.timeout_ms, row.server, now);
        }
        let mut own = CommandBuffer::default();
        if state.settings() != settings {
            own.push_command(&Command::Configure(*settings));
        }
        Leader { expiry, cleaner: Cleaner::new(cleaner, now), own }
    }

    /// Time has passed. Wall time is Unix milliseconds.
    pub(crate) fn tick(&mut self, state: &parking_lot::RwLock<State>, now: Millis, wall_ms: i64) {
        self.expiry.observe(now);
        self.expiry.propose_due(now, wall_ms, &mut self.own);
        if self.cleaner.next_deadline().is_some_and(|at| at <= now) {
            self.cleaner.propose_due(now, wall_ms, &state.read(), &mut self.own);
        }
    }

    /// When [`tick`](Self::tick) has something to do next.
    pub(crate) fn next_deadline(&self) -> Option<Millis> {
        [self.expiry.next_deadline(), self.cleaner.next_deadline()].into_iter().flatten().min()
    }

    /// Ends a session whatever it is doing.
    pub(crate) fn kill(&mut self, session: SessionId, now: Millis, wall_ms: i64) {
        self.expiry.kill(session, now, wall_ms, &mut self.own);
    }

    /// Proposes a command of the leader's own.
    pub(crate) fn propose(&mut self, command: &Command<'_>) {
        self.own.push_command(command);
    }

    /// The cleaner's alarm, once when it rises.
    pub(crate) fn take_clock_alarm(&mut self) -> Option<i64> {
        self.cleaner.take_alarm()
    }

    /// Moves the leader's own commands to the others.
    pub(crate) fn collect_own(&mut self, batch: &mut BatchBuilder) {
        if !self.own.is_empty() {
            batch.append(&self.own.take_bytes());
        }
    }
}

/// The oldest of what was collected, as log entries: as much as one round carries.
pub(crate) fn take_proposal(batch: &mut BatchBuilder, wall_ms: i64) -> Vec<Bytes> {
    batch.take(MAX_PROPOSAL_BYTES, wall_ms)
}
