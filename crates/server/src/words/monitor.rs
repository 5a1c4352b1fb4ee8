//! `mntr`: the table of [metrics](crate::metrics) as lines.

use std::fmt::{Display, Write};

use super::number::java_double;
use crate::metrics::{Distribution, Metric, Number, Value};

/// Text of `mntr`: each row a line or several, of a key that begins with `zk_`, a tab and a value.
pub fn mntr(rows: &[Metric]) -> String {
    let mut out = String::new();
    for Metric { name, help: _, value } in rows {
        match value {
            Value::Text(text) => line(&mut out, name, text),
            Value::Gauge(number) | Value::Counter(number) => line(&mut out, name, &Plain(*number)),
            Value::Gauges(gauges) => {
                for (key, number) in gauges {
                    line(&mut out, &format!("{key}_{name}"), &Plain(*number));
                }
            }
            Value::Basic(all) => summary(&mut out, name, all),
            Value::Advanced(all) => {
                summary(&mut out, name, all);
                let recent = &all.recent;
                let percentiles =
                    [("p50", recent.p50), ("p95", recent.p95), ("p99", recent.p99), ("p999", recent.p999)];
                for (key, value) in percentiles {
                    line(&mut out, &format!("{key}_{name}"), &whole(value));
                }
            }
        }
    }
    out
}

fn summary(out: &mut String, name: &str, all: &Distribution) {
    line(out, &format!("avg_{name}"), &java_double(all.average()));
    line(out, &format!("min_{name}"), &whole(all.min));
    line(out, &format!("max_{name}"), &whole(all.max));
    line(out, &format!("cnt_{name}"), &all.count);
    line(out, &format!("sum_{name}"), &whole(all.sum));
}

fn line(out: &mut String, key: &str, value: &dyn Display) {
    let _ = writeln!(out, "zk_{key}\t{value}");
}

/// ZooKeeper measures in whole milliseconds and drops the rest. What is not a number is 0.
fn whole(number: f64) -> u64 {
    number as u64
}

struct Plain(Number);

impl Display for Plain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Number::Whole(number) => number.fmt(f),
            Number::Real(number) => java_double(number).fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::tests::one_of_each;

    #[test]
    fn every_kind_has_its_lines() {
        assert_eq!(
            mntr(&one_of_each()),
            "zk_server_state\tstandalone\nzk_znode_count\t9\nzk_avg_latency\t0.6186\n\
             zk_last_client_response_size\t-1\nzk_connection_rejected\t1\n\
             zk_a_quota_count_limit_per_namespace\t7\nzk_b\"\\_quota_count_limit_per_namespace\t-1\n\
             zk_avg_fsynctime\t1.3125\nzk_min_fsynctime\t0\nzk_max_fsynctime\t3\nzk_cnt_fsynctime\t4\n\
             zk_sum_fsynctime\t5\nzk_avg_readlatency\t1.3125\nzk_min_readlatency\t0\nzk_max_readlatency\t3\n\
             zk_cnt_readlatency\t4\nzk_sum_readlatency\t5\nzk_p50_readlatency\t1\nzk_p95_readlatency\t3\n\
             zk_p99_readlatency\t4\nzk_p999_readlatency\t5\n"
        );
        assert_eq!(whole(f64::NAN), 0);
    }
}
