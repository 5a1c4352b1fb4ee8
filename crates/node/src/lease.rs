//! For how long this server may answer without hearing from the ensemble (design, 8b).

use std::sync::atomic::{AtomicU64, Ordering};

use crate::Millis;

/// Shards look at the clock at most this often, so a lease ends this much early rather than late.
const MARGIN_MS: Millis = 20;

/// The serving lease, shared by the core, which renews it, and the shards, which ask it.
///
/// *Contact* is the last moment at which this server is known to have been in touch with a majority: the sending of
/// the newest report that the leader acknowledged and whose commit index is applied here; on the leader, the start
/// of its last confirmed round. A session of timeout T is served until contact + H, where H is a third of T but at
/// most three and at least one full election: whatever is read is at most that old, and the leader ends no session
/// before T and a third, so an ended one is never served.
#[derive(Debug)]
pub struct Lease {
    contact: AtomicU64,
    election_ms: Millis,
}

/// There is nobody to be in touch with.
const ALONE: Millis = Millis::MAX;
/// This server has been removed; no time that a clock shows.
const ENDED: Millis = 1;
/// A server out of touch for less than this waits for the next leader rather than serve anybody read-only, as in
/// ZooKeeper with its usual tickTime.
const CUT_OFF_MS: Millis = 2_000;

impl Lease {
    /// A lease that nothing has been heard for yet. `election_ms` is the longest a single election can take to begin.
    pub fn new(election_ms: Millis) -> Lease {
        Lease { contact: AtomicU64::new(0), election_ms }
    }

    /// The lease of a server that is an ensemble of one: it never ends.
    pub fn alone() -> Lease {
        Lease { contact: AtomicU64::new(ALONE), election_ms: 0 }
    }

    /// Whether this server is all there is, so that what it has applied is all there is to know.
    pub fn is_alone(&self) -> bool {
        self.contact() == ALONE
    }

    /// H: how long a session of this timeout is served after the last contact, milliseconds.
    pub fn length(&self, timeout_ms: u32) -> Millis {
        (Millis::from(timeout_ms) / 3).min(3 * self.election_ms).max(self.election_ms)
    }

    /// The longest a single election can take to begin, milliseconds.
    pub(crate) fn longest_election(&self) -> Millis {
        self.election_ms
    }

    /// Whether a session of this timeout may be served now.
    pub fn holds(&self, timeout_ms: u32, now: Millis) -> bool {
        let contact = self.contact();
        contact == ALONE
            || (contact > ENDED && now + MARGIN_MS < contact.saturating_add(self.length(timeout_ms)))
    }

    /// Whether every session may be served now, whatever its timeout.
    pub fn holds_for_all(&self, now: Millis) -> bool {
        let contact = self.contact();
        contact == ALONE || (contact > ENDED && now + MARGIN_MS < contact.saturating_add(self.election_ms))
    }

    /// Whether this server has been out of touch with a majority for so long that no session is served any more,
    /// counted from `began` if it never was in touch. A removed server is not cut off but gone.
    pub fn is_cut_off(&self, began: Millis, now: Millis) -> bool {
        let contact = self.contact();
        contact != ALONE
            && contact != ENDED
            && now >= contact.max(began).saturating_add(self.length(u32::MAX).max(CUT_OFF_MS))
    }

    /// The last contact; 0 is never.
    pub fn contact(&self) -> Millis {
        self.contact.load(Ordering::Acquire)
    }

    /// This server is not part of the ensemble any more: nothing it has counts, until there is new contact.
    pub(crate) fn end(&self) {
        self.contact.store(ENDED, Ordering::Release);
    }

    /// There was contact at `at`.
    pub(crate) fn renew(&self, at: Millis) {
        let known = self.contact();
        if known == ALONE || at > known {
            self.contact.store(at, Ordering::Release);
        }
    }

    /// From here on this server is alone, or no longer, in which case contact was at `now`.
    pub(crate) fn set_alone(&self, alone: bool, now: Millis) {
        if alone != self.is_alone() {
            self.contact.store(if alone { ALONE } else { now }, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_lasts_a_third_of_the_timeout_within_one_and_three_elections() {
        let lease = Lease::new(800);
        assert_eq!([300, 3_000, 6_000, 40_000].map(|t| lease.length(t)), [800, 1_000, 2_000, 2_400]);
        assert!(!lease.holds(40_000, 5), "nothing has been heard yet");
        lease.renew(1_000);
        assert!(lease.holds(3_000, 1_900) && !lease.holds(3_000, 2_000));
        assert!(lease.holds_for_all(1_700) && !lease.holds_for_all(1_800));
        lease.renew(900);
        assert_eq!(lease.contact(), 1_000, "contact never goes back");
    }

    #[test]
    fn a_server_is_cut_off_when_every_lease_is_over_and_never_when_it_is_removed() {
        let lease = Lease::new(800);
        assert!(!lease.is_cut_off(5_000, 7_399) && lease.is_cut_off(5_000, 7_400), "never in touch");
        lease.renew(10_000);
        assert!(!lease.is_cut_off(5_000, 12_399) && lease.is_cut_off(5_000, 12_400));
        assert!(!lease.holds(u32::MAX, 12_400));
        lease.end();
        assert!(!lease.is_cut_off(5_000, 99_000) && !lease.holds(30_000, 10));
        lease.renew(100_000);
        assert!(lease.holds(30_000, 100_001));
    }

    #[test]
    fn a_server_alone_needs_nobody() {
        let lease = Lease::alone();
        assert!(lease.is_alone() && lease.holds(1, Millis::MAX - 1));
        lease.set_alone(false, 7);
        assert!(!lease.is_alone() && lease.contact() == 7);
    }
}
