//! When to look at which session next.

use std::collections::BTreeSet;

use ostler_types::SessionId;

use crate::Millis;

/// A queue of (deadline, session) with millisecond resolution: nothing is rounded up to a tick.
///
/// A touch does not move a session in the queue. When a session comes due its true deadline is computed
/// from when it was last heard, and it is queued again if that lies ahead; so a session costs one queue
/// operation per timeout, however often it is heard.
#[derive(Debug, Default)]
pub struct Deadlines {
    queue: BTreeSet<(Millis, SessionId)>,
}

impl Deadlines {
    /// Looks at `session` again at `deadline`.
    pub fn insert(&mut self, deadline: Millis, session: SessionId) {
        self.queue.insert((deadline, session));
    }

    /// Takes the earliest session whose deadline is `now` or before.
    pub fn pop_due(&mut self, now: Millis) -> Option<SessionId> {
        if self.queue.first()?.0 > now {
            return None;
        }
        self.queue.pop_first().map(|(_, session)| session)
    }

    /// When the next session comes due.
    pub fn next(&self) -> Option<Millis> {
        self.queue.first().map(|&(deadline, _)| deadline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_come_due_in_order_and_not_early() {
        let mut deadlines = Deadlines::default();
        deadlines.insert(20, SessionId(1));
        deadlines.insert(10, SessionId(2));
        deadlines.insert(10, SessionId(3));
        assert_eq!(deadlines.next(), Some(10));
        assert_eq!(deadlines.pop_due(9), None);
        assert_eq!(deadlines.pop_due(10), Some(SessionId(2)));
        assert_eq!(deadlines.pop_due(10), Some(SessionId(3)));
        assert_eq!(deadlines.pop_due(19), None);
        assert_eq!(deadlines.pop_due(500), Some(SessionId(1)));
    }
}
