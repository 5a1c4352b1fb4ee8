//! The server's two clocks.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ostler_node::Millis;

/// Milliseconds since boot, suspends included: sessions must not outlive a suspend by its length
/// unnoticed. The ordinary monotonic clock stands still while the machine sleeps.
pub(crate) fn now() -> Millis {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    time.tv_sec as Millis * 1_000 + time.tv_nsec as Millis / 1_000_000
}

/// Unix milliseconds; 0 for a clock set before 1970.
pub(crate) fn wall_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

/// How long to wait for `deadline`, from `now`.
pub(crate) fn until(deadline: Millis, now: Millis) -> Duration {
    Duration::from_millis(deadline.saturating_sub(now))
}
