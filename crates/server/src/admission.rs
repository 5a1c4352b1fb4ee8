//! Who may come in, and whether there is room for what they bring.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use ostler_node::{Admission, Millis};

use crate::config::{ConnectionThrottle, ListenConfig};

/// Limits on connections, counted for the whole server.
#[derive(Debug)]
pub(crate) struct Gate {
    max_per_address: Option<usize>,
    max_total: Option<usize>,
    total: AtomicUsize,
    by_address: Mutex<HashMap<IpAddr, usize>>,
    throttle: Option<(ConnectionThrottle, Mutex<Bucket>)>,
    log_has_room: AtomicBool,
    /// Connections and handshakes turned away, for the metrics.
    rejected: AtomicU64,
    throttled: AtomicU64,
}

#[derive(Debug)]
struct Bucket {
    tokens: u64,
    filled_at: Millis,
}

/// Why a connection was turned away at the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// `maxClientCnxns`.
    PerAddress(usize),
    /// `maxCnxns`.
    Total(usize),
}

impl Gate {
    pub(crate) fn new(config: &ListenConfig, now: Millis) -> Gate {
        let throttle = config.throttle.map(|throttle| {
            let bucket = Bucket { tokens: throttle.tokens.get().into(), filled_at: now };
            (throttle, Mutex::new(bucket))
        });
        Gate {
            max_per_address: config.max_connections_per_address.map(|n| n.get() as usize),
            max_total: config.max_connections.map(|n| n.get() as usize),
            total: AtomicUsize::new(0),
            by_address: Mutex::new(HashMap::new()),
            throttle,
            log_has_room: AtomicBool::new(true),
            rejected: AtomicU64::new(0),
            throttled: AtomicU64::new(0),
        }
    }

    /// Counts a new connection, unless it is one too many. Whoever is admitted must be reported to
    /// [`closed`](Self::closed) in the end.
    pub(crate) fn admit(&self, address: IpAddr) -> Result<(), Refusal> {
        self.count_in(address).inspect_err(|_| {
            self.rejected.fetch_add(1, Ordering::Relaxed);
        })
    }

    fn count_in(&self, address: IpAddr) -> Result<(), Refusal> {
        if let Some(max) = self.max_total
            && self.total.load(Ordering::Relaxed) >= max
        {
            return Err(Refusal::Total(max));
        }
        if let Some(max) = self.max_per_address {
            let mut by_address = self.by_address.lock().expect("no panic while counting");
            let count = by_address.entry(address).or_default();
            if *count >= max {
                return Err(Refusal::PerAddress(max));
            }
            *count += 1;
        }
        self.total.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// An admitted connection is gone.
    pub(crate) fn closed(&self, address: IpAddr) {
        self.total.fetch_sub(1, Ordering::Relaxed);
        if self.max_per_address.is_some() {
            let mut by_address = self.by_address.lock().expect("no panic while counting");
            if let Some(count) = by_address.get_mut(&address) {
                *count -= 1;
                if *count == 0 {
                    by_address.remove(&address);
                }
            }
        }
    }

    /// Whether the log has room for ordinary writes.
    pub(crate) fn has_room(&self) -> bool {
        self.log_has_room.load(Ordering::Relaxed)
    }

    /// Connections that [`admit`](Self::admit) turned away.
    pub(crate) fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::Relaxed)
    }

    /// Handshakes that had no tokens.
    pub(crate) fn throttled(&self) -> u64 {
        self.throttled.load(Ordering::Relaxed)
    }

    /// Sets both counters back.
    pub(crate) fn reset_counters(&self) {
        self.rejected.store(0, Ordering::Relaxed);
        self.throttled.store(0, Ordering::Relaxed);
    }

    /// Whether the log has room for ordinary writes. Returns whether that is news.
    pub(crate) fn set_log_has_room(&self, has_room: bool) -> bool {
        self.log_has_room.swap(has_room, Ordering::Relaxed) != has_room
    }
}

impl Admission for Gate {
    fn writes_allowed(&self) -> bool {
        self.has_room()
    }

    fn connect_allowed(&self, renew: bool, now: Millis) -> bool {
        // What room is left is for the sessions there are: their returns and their ends.
        if !renew && !self.writes_allowed() {
            return false;
        }
        let Some((throttle, bucket)) = &self.throttle else { return true };
        let mut bucket = bucket.lock().expect("no panic while counting");
        let interval = throttle.fill_interval.as_millis() as Millis;
        let elapsed = now.saturating_sub(bucket.filled_at);
        if elapsed > interval {
            let added = elapsed * Millis::from(throttle.fill_count.get()) / interval;
            bucket.tokens = (bucket.tokens + added).min(throttle.tokens.get().into());
            // What does not make a whole token yet counts towards the next one.
            let unused = elapsed * Millis::from(throttle.fill_count.get()) % interval;
            bucket.filled_at = now - unused / Millis::from(throttle.fill_count.get());
        }
        let cost = if renew { throttle.renew_session_cost } else { throttle.new_session_cost };
        match bucket.tokens.checked_sub(cost.get().into()) {
            Some(left) => {
                bucket.tokens = left;
                true
            }
            None => {
                self.throttled.fetch_add(1, Ordering::Relaxed);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;
    use std::time::Duration;

    fn listen() -> ListenConfig {
        let loaded = crate::config::standalone_default(&crate::config::Overrides::default()).unwrap();
        loaded.config.listen
    }

    #[test]
    fn connections_are_counted_per_address_and_in_all() {
        let config = ListenConfig {
            max_connections_per_address: NonZeroU32::new(2),
            max_connections: NonZeroU32::new(3),
            ..listen()
        };
        let gate = Gate::new(&config, 0);
        let (a, b): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        assert_eq!(gate.admit(a), Ok(()));
        assert_eq!(gate.admit(a), Ok(()));
        assert_eq!(gate.admit(a), Err(Refusal::PerAddress(2)));
        assert_eq!(gate.admit(b), Ok(()));
        assert_eq!(gate.admit(b), Err(Refusal::Total(3)));
        gate.closed(a);
        assert_eq!(gate.admit(b), Ok(()));
        assert_eq!(gate.rejected(), 2);
        gate.reset_counters();
        assert_eq!(gate.rejected(), 0);
    }

    #[test]
    fn handshakes_take_tokens_that_time_gives_back() {
        let one = NonZeroU32::MIN;
        let throttle = ConnectionThrottle {
            tokens: NonZeroU32::new(3).unwrap(),
            fill_interval: Duration::from_millis(10),
            fill_count: one,
            new_session_cost: NonZeroU32::new(2).unwrap(),
            renew_session_cost: one,
        };
        let gate = Gate::new(&ListenConfig { throttle: Some(throttle), ..listen() }, 0);
        assert!(gate.connect_allowed(false, 0));
        assert!(!gate.connect_allowed(false, 0));
        assert!(gate.connect_allowed(true, 0));
        assert!(!gate.connect_allowed(true, 10));
        assert!(gate.connect_allowed(true, 11));
        assert!(gate.connect_allowed(false, 1_000));
        assert_eq!(gate.throttled(), 2);
    }

    #[test]
    fn time_that_makes_no_whole_token_yet_is_not_lost() {
        let (one, ten) = (NonZeroU32::MIN, NonZeroU32::new(10).unwrap());
        let throttle = ConnectionThrottle {
            tokens: one,
            fill_interval: Duration::from_millis(ten.get().into()),
            fill_count: one,
            new_session_cost: one,
            renew_session_cost: one,
        };
        let gate = Gate::new(&ListenConfig { throttle: Some(throttle), ..listen() }, 0);
        assert!(gate.connect_allowed(false, 0));
        assert!(gate.connect_allowed(false, 19));
        assert!(!gate.connect_allowed(false, 20));
        assert!(gate.connect_allowed(false, 21), "one for 0 to 10, one for 10 to 20");
    }

    #[test]
    fn without_room_in_the_log_only_returning_sessions_come_in() {
        let gate = Gate::new(&ListenConfig { throttle: None, ..listen() }, 0);
        assert!(gate.connect_allowed(false, 0));
        assert!(gate.set_log_has_room(false));
        assert!(!gate.connect_allowed(false, 0));
        assert!(gate.connect_allowed(true, 0));
        assert!(gate.set_log_has_room(true));
        assert!(gate.connect_allowed(false, 0));
    }
}
