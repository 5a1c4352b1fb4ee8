//! Keeps what goes wrong again and again from filling the log: each cause is told once, and then once a minute while
//! it lasts.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// A cause that lasts is told again after this long.
const AGAIN: Duration = Duration::from_secs(60);
/// What comes back after this long without complaint is told as if it were new.
const STABLE: Duration = Duration::from_secs(5);
/// Causes remembered at most; a stranger could make up any number.
const MOST: usize = 1024;

/// Whom a complaint is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum About {
    /// Frames for a server.
    To(u8),
    /// Frames from a server.
    From(u8),
    /// A snapshot from a server.
    Snapshot(u8),
    /// Whoever connects from there; we do not know who it is.
    Stranger(IpAddr),
    /// The address we listen at.
    Listening,
}

/// What was told, and when.
#[derive(Default)]
pub(super) struct Complaints {
    told: HashMap<(About, String), Told>,
}

struct Told {
    at: Instant,
    /// The log does not say yet that it is over.
    open: bool,
    /// Since when it is over.
    over_since: Option<Instant>,
}

impl Complaints {
    /// Whether to tell `cause` now. What changes each time it happens has no place in it.
    pub(super) fn is_due(&mut self, about: About, cause: &str) -> bool {
        self.is_due_at(about, cause, Instant::now())
    }

    fn is_due_at(&mut self, about: About, cause: &str, now: Instant) -> bool {
        let key = (about, cause.to_owned());
        if let Some(told) = self.told.get_mut(&key) {
            let was_stable = told.over_since.is_some_and(|since| now.duration_since(since) >= STABLE);
            if !was_stable && now.duration_since(told.at) < AGAIN {
                told.over_since = None;
                return false;
            }
        } else if self.told.len() >= MOST {
            self.told.retain(|_, told| now.duration_since(told.at) < AGAIN);
            if self.told.len() >= MOST {
                return false;
            }
        }
        self.told.insert(key, Told { at: now, open: true, over_since: None });
        true
    }

    /// All is well with this one. Returns whether the log does not say so yet.
    pub(super) fn settle(&mut self, about: About) -> bool {
        self.settle_at(about, Instant::now())
    }

    fn settle_at(&mut self, about: About, now: Instant) -> bool {
        let mut open = false;
        for (_, told) in self.told.iter_mut().filter(|((other, _), _)| *other == about) {
            open |= std::mem::take(&mut told.open);
            told.over_since.get_or_insert(now);
        }
        open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_told_once_a_minute_and_its_end_once() {
        let mut complaints = Complaints::default();
        let start = Instant::now();
        let mut due =
            |about, cause, seconds| complaints.is_due_at(about, cause, start + Duration::from_secs(seconds));
        assert!(due(About::To(1), "refused", 0));
        assert!(!due(About::To(1), "refused", 59));
        assert!(due(About::To(1), "timed out", 0));
        assert!(due(About::From(1), "refused", 0));
        assert!(due(About::To(1), "refused", 60));
        assert!(complaints.settle_at(About::To(1), start));
        assert!(!complaints.settle_at(About::To(1), start));
    }

    #[test]
    fn what_comes_and_goes_is_not_told_each_time() {
        let mut complaints = Complaints::default();
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        assert!(complaints.is_due_at(About::To(1), "lost", start));
        assert!(complaints.settle_at(About::To(1), at(100)));
        assert!(!complaints.is_due_at(About::To(1), "lost", at(200)));
        assert!(!complaints.settle_at(About::To(1), at(300)), "nothing was told since the last time");
        assert!(complaints.is_due_at(About::To(1), "lost", at(5_300)), "all was well for five seconds");
        assert!(complaints.settle_at(About::To(1), at(5_400)));
    }

    #[test]
    fn strangers_cannot_make_it_grow_without_bound() {
        let mut complaints = Complaints::default();
        let start = Instant::now();
        for n in 0..2 * MOST {
            complaints.is_due_at(About::Listening, &n.to_string(), start);
        }
        assert_eq!(complaints.told.len(), MOST);
        assert!(complaints.is_due_at(About::To(1), "later", start + AGAIN));
        assert_eq!(complaints.told.len(), 1);
    }
}
