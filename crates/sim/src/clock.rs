//! What a server takes for the time: no two servers agree.

use ostler_node::Millis;

use crate::{Micros, Random};

/// Clocks of machines differ in speed by at most this many parts in a billion.
const SKEW_PPB: u64 = 100_000;
/// Unix time at the beginning of a run, milliseconds.
const EPOCH_MS: i64 = 1_700_000_000_000;

/// See the module's documentation.
#[derive(Clone, Debug)]
pub struct Clock {
    /// What it shows at the beginning of the run.
    offset_ms: u64,
    /// Its speed: so many parts in a billion more or less than it should be.
    ppb: i64,
    wall_skew_ms: i64,
}

impl Clock {
    /// A clock as they come.
    pub fn new(random: &mut Random) -> Clock {
        Clock {
            offset_ms: random.between(1_000_000, 2_000_000_000),
            ppb: random.between(0, 2 * SKEW_PPB) as i64 - SKEW_PPB as i64,
            wall_skew_ms: random.between(0, 4_000) as i64 - 2_000,
        }
    }

    /// Makes it run at `percent` of its speed: a planted fault.
    pub fn speed_up(&mut self, percent: i64) {
        self.ppb += (percent - 100) * 10_000_000;
    }

    /// What it shows.
    pub fn now(&self, at: Micros) -> Millis {
        let elapsed = at as i128 + at as i128 * i128::from(self.ppb) / 1_000_000_000;
        self.offset_ms + (elapsed / 1_000) as u64
    }

    /// Unix milliseconds.
    pub fn wall_ms(&self, at: Micros) -> i64 {
        EPOCH_MS + self.wall_skew_ms + (at / 1_000) as i64
    }

    /// When it will show `shown`, or a moment before that.
    pub fn when(&self, shown: Millis, at: Micros) -> Micros {
        at + shown.saturating_sub(self.now(at)).saturating_mul(1_000).max(50)
    }
}
