//! Times that are measured again and again.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::{Distribution, Quantiles};

/// Quantiles cover the last one to two of these: ZooKeeper's Prometheus summaries cover ten minutes.
const AGE: Duration = Duration::from_secs(300);
/// Quantiles are exact to two digits.
const DIGITS: u8 = 2;
/// Longest time that quantiles tell from longer ones, in microseconds: an hour.
const LONGEST_US: u64 = 3_600_000_000;

/// Durations as several threads may record and read them. Count, sum, least and greatest are of all since the start
/// or the last [`reset`](Series::reset), quantiles of the last five to ten minutes.
pub(crate) struct Series(Mutex<Inner>);

struct Inner {
    count: u64,
    sum: Duration,
    min: Duration,
    max: Duration,
    /// In microseconds; the current one, and the one before it.
    recent: [Histogram<u64>; 2],
    current_since: Instant,
}

impl Series {
    /// One more.
    pub(crate) fn record(&self, took: Duration) {
        self.lock().record(took, Instant::now());
    }

    /// Forgets everything.
    pub(crate) fn reset(&self) {
        *self.lock() = Inner::new(Instant::now());
    }

    /// What there is to know, in milliseconds.
    pub(crate) fn distribution(&self) -> Distribution {
        self.lock().distribution(Instant::now())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Whatever a thread that panicked has left is still a series.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Series {
    fn default() -> Self {
        Series(Mutex::new(Inner::new(Instant::now())))
    }
}

impl Inner {
    fn new(now: Instant) -> Self {
        let histogram =
            || Histogram::new_with_bounds(1, LONGEST_US, DIGITS).expect("constant bounds, in order");
        Inner {
            count: 0,
            sum: Duration::ZERO,
            min: Duration::ZERO,
            max: Duration::ZERO,
            recent: [histogram(), histogram()],
            current_since: now,
        }
    }

    fn record(&mut self, took: Duration, now: Instant) {
        self.age(now);
        self.min = if self.count == 0 { took } else { self.min.min(took) };
        self.max = self.max.max(took);
        self.sum = self.sum.saturating_add(took);
        self.count += 1;
        self.recent[0].saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    /// Drops what is too old.
    fn age(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.current_since);
        if age >= AGE {
            if age >= 2 * AGE {
                self.recent[0].reset();
            }
            self.recent.swap(0, 1);
            self.recent[0].reset();
            self.current_since = now;
        }
    }

    fn distribution(&mut self, now: Instant) -> Distribution {
        self.age(now);
        let [current, before] = &self.recent;
        let mut both = current.clone();
        both.add(before).expect("they have the same bounds");
        let ms = |duration: Duration| duration.as_secs_f64() * 1e3;
        let quantile = |q| match both.is_empty() {
            true => f64::NAN,
            // Of the two digits the histogram gives the upper end.
            false => (both.value_at_quantile(q) as f64 / 1e3).min(ms(self.max)),
        };
        Distribution {
            count: self.count,
            sum: ms(self.sum),
            min: ms(self.min),
            max: ms(self.max),
            recent: Quantiles {
                p50: quantile(0.5),
                p90: quantile(0.9),
                p95: quantile(0.95),
                p99: quantile(0.99),
                p999: quantile(0.999),
            },
        }
    }
}

impl std::fmt::Debug for Series {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Series").field(&self.distribution()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_series_knows_all_that_was_and_the_quantiles_of_late() {
        let start = Instant::now();
        let mut series = Inner::new(start);
        for took in 1..=100 {
            series.record(ms(took), start);
        }
        let first = series.distribution(start + AGE / 2);
        assert_eq!((first.count, first.sum, first.min, first.max), (100, 5050.0, 1.0, 100.0));
        assert_eq!(first.average(), 50.5);
        for (quantile, near) in
            [(first.recent.p50, 50.0), (first.recent.p99, 99.0), (first.recent.p999, 100.0)]
        {
            assert!((quantile / near - 1.0).abs() < 0.01, "{quantile} is not {near}");
        }

        // An age later both count; two ages later only what came since does.
        series.record(ms(1000), start + AGE);
        assert!(series.distribution(start + AGE).recent.p50 < 60.0);
        let late = series.distribution(start + 2 * AGE);
        assert!((late.recent.p50 / 1000.0 - 1.0).abs() < 0.01, "{}", late.recent.p50);
        assert_eq!((late.count, late.max), (101, 1000.0));
        let later = series.distribution(start + 9 * AGE);
        assert!(later.recent.p50.is_nan() && later.count == 101);
    }

    #[test]
    fn an_empty_series_and_an_endless_time_are_no_trouble() {
        let series = Series::default();
        let none = series.distribution();
        assert_eq!((none.count, none.sum, none.min, none.max, none.average()), (0, 0.0, 0.0, 0.0, 0.0));
        assert!(none.recent.p99.is_nan());
        series.record(Duration::MAX);
        series.record(Duration::MAX);
        assert_eq!(series.distribution().count, 2);
        assert!(series.distribution().recent.p50 >= 3_600_000.0);
        series.reset();
        assert_eq!(series.distribution().count, 0);
    }
}
