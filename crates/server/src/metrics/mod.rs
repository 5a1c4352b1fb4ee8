//! What the server measures: one table of [`Metric`]s, which the word `mntr` and the Prometheus endpoint print, each
//! in its own form.
//!
//! ```text
//!  every thread --counts--> ShardStats, LogStats, Gate, ... --read by--> Metrics::table
//!                                                                         |        |
//!                                                  words::mntr (reporter) <        > prometheus::text <- http
//! ```
//!
//! A figure is a row in `table`: its name is ZooKeeper's, or begins with `ostler_`. What ZooKeeper measures and
//! Ostler has no counterpart for (its request processors, its JVM, its caches) has no row, rather than one that is
//! always 0.

mod http;
mod process;
mod prometheus;
mod series;
mod table;

pub(crate) use http::{HttpHandle, HttpServer};
pub(crate) use series::Series;
pub(crate) use table::{Metrics, Sources};

/// One figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// ZooKeeper's name for it, without the `zk_` of `mntr`; ours begin with `ostler_`, those of the process with
    /// `process_`. Letters, digits and `_`.
    pub name: &'static str,
    /// What it is, in a line, with the unit of times and sizes.
    pub help: &'static str,
    /// How it is counted, and what it is now.
    pub value: Value,
}

/// The value of a [`Metric`], by kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A word and not a number. Prometheus, which has none, gets a gauge that is 1 and has the word as a label.
    Text(String),
    /// Goes up and down.
    Gauge(Number),
    /// Only grows, until the server is restarted or `srst` sets it back.
    Counter(Number),
    /// A gauge for each of several things, such as a top-level znode or a server: its name, and the value.
    Gauges(Vec<(String, Number)>),
    /// Many measurements; of their quantiles only the median, as in ZooKeeper's *basic* summaries.
    Basic(Distribution),
    /// Many measurements, with the quantiles of ZooKeeper's *advanced* summaries.
    Advanced(Distribution),
}

/// A number as `mntr` tells them apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// A whole one.
    Whole(i64),
    /// One with decimals.
    Real(f64),
}

/// What is known of many measurements, in their unit (milliseconds for times).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Distribution {
    /// How many there were.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// The least; 0 if there were none.
    pub min: f64,
    /// The greatest; 0 if there were none.
    pub max: f64,
    /// Quantiles of the last minutes; not numbers if there were none then.
    pub recent: Quantiles,
}

/// Quantiles of a [`Distribution`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantiles {
    /// Half are not above this.
    pub p50: f64,
    /// 90 % are not above this.
    pub p90: f64,
    /// 95 % are not above this.
    pub p95: f64,
    /// 99 % are not above this.
    pub p99: f64,
    /// 99.9 % are not above this.
    pub p999: f64,
}

impl Metric {
    pub(crate) fn text(name: &'static str, help: &'static str, text: impl ToString) -> Metric {
        Metric { name, help, value: Value::Text(text.to_string()) }
    }

    pub(crate) fn gauge(name: &'static str, help: &'static str, value: impl Into<Number>) -> Metric {
        Metric { name, help, value: Value::Gauge(value.into()) }
    }

    pub(crate) fn counter(name: &'static str, help: &'static str, value: impl Into<Number>) -> Metric {
        Metric { name, help, value: Value::Counter(value.into()) }
    }

    pub(crate) fn basic(name: &'static str, help: &'static str, series: &Series) -> Metric {
        Metric { name, help, value: Value::Basic(series.distribution()) }
    }
}

impl Number {
    fn as_f64(self) -> f64 {
        match self {
            Number::Whole(number) => number as f64,
            Number::Real(number) => number,
        }
    }
}

impl From<i64> for Number {
    fn from(number: i64) -> Self {
        Number::Whole(number)
    }
}

impl From<u64> for Number {
    fn from(number: u64) -> Self {
        Number::Whole(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<f64> for Number {
    fn from(number: f64) -> Self {
        Number::Real(number)
    }
}

impl Distribution {
    /// The average, rounded to four decimals; 0 if there were none.
    pub fn average(&self) -> f64 {
        if self.count == 0 {
            return 0.0;
        }
        (self.sum / self.count as f64 * 1e4).round() / 1e4
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A row of every kind.
    pub(crate) fn one_of_each() -> Vec<Metric> {
        let recent = Quantiles { p50: 1.5, p90: 2.5, p95: 3.0, p99: 4.0, p999: 5.0 };
        let some = Distribution { count: 4, sum: 5.25, min: 0.5, max: 3.75, recent };
        let by_top = vec![("a".to_owned(), Number::Whole(7)), ("b\"\\".to_owned(), Number::Whole(-1))];
        vec![
            Metric::text("server_state", "What this server is", "standalone"),
            Metric::gauge("znode_count", "Znodes", 9u64),
            Metric::gauge("avg_latency", "Average, milliseconds", 0.6186),
            Metric::gauge("last_client_response_size", "Bytes", -1i64),
            Metric::counter("connection_rejected", "Connections turned away", 1u64),
            Metric { name: "quota_count_limit_per_namespace", help: "Limit", value: Value::Gauges(by_top) },
            Metric {
                name: "quota_bytes_limit_per_namespace",
                help: "Nobody has one",
                value: Value::Gauges(vec![]),
            },
            Metric { name: "fsynctime", help: "Time of an fsync, milliseconds", value: Value::Basic(some) },
            Metric { name: "readlatency", help: "Latency, milliseconds", value: Value::Advanced(some) },
        ]
    }
}
