//! `mntr`: metrics for monitoring, under the names ZooKeeper gives them.

use std::fmt::{Display, Write};

use super::number::{Percentiles, Summary, java_double};
use super::server::{ServerReport, VERSION};

/// The facts of `mntr`. What ZooKeeper measures and Ostler has no counterpart for (its request processors, its
/// JVM, its caches) is not here, rather than here as 0.
#[derive(Clone, Debug)]
pub struct MonitorReport {
    /// The facts of `srvr`.
    pub server: ServerReport,
    /// Milliseconds since the server began to serve.
    pub uptime_ms: u64,
    /// Sessions of the ensemble.
    pub sessions: u64,
    /// Ephemeral nodes.
    pub ephemerals: u64,
    /// Watches of all kinds, child watches included.
    pub watches: u64,
    /// Bytes of all paths and data.
    pub data_bytes: u64,
    /// Open file descriptors and their limit, if the system tells.
    pub file_descriptors: Option<(u64, u64)>,
    /// Sizes of replies in bytes: the last, the least and the greatest; -1 before the first.
    pub response_bytes: [i64; 3],
    /// Clients whose authentication failed.
    pub auth_failed: u64,
    /// Counters under ZooKeeper's names without `zk_`, such as `connection_rejected`.
    pub counters: Vec<(&'static str, u64)>,
    /// Summaries under ZooKeeper's names without `zk_avg_` and so on, such as `fsynctime`, with percentiles where
    /// ZooKeeper has them, as for `readlatency`.
    pub summaries: Vec<(&'static str, Summary, Option<Percentiles>)>,
}

/// Text of `mntr`: `zk_version` and `zk_server_state` first, then everything else, each line a key, a tab and a
/// value.
pub fn mntr(report: &MonitorReport) -> String {
    let MonitorReport {
        server,
        uptime_ms,
        sessions,
        ephemerals,
        watches,
        data_bytes,
        file_descriptors,
        response_bytes: [last_response, min_response, max_response],
        auth_failed,
        counters,
        summaries,
    } = report;
    let ServerReport { mode, latency_ms, received, sent, connections, outstanding, zxid: _, nodes } = server;

    let mut out = String::new();
    let mut line = |key: &str, value: &dyn Display| {
        let _ = writeln!(out, "zk_{key}\t{value}");
    };
    line("version", &VERSION);
    line("server_state", mode);
    line("avg_latency", &java_double(latency_ms.average()));
    line("max_latency", &latency_ms.max);
    line("min_latency", &latency_ms.min);
    line("packets_received", received);
    line("packets_sent", sent);
    line("num_alive_connections", connections);
    line("outstanding_requests", outstanding);
    line("uptime", uptime_ms);
    line("znode_count", nodes);
    line("watch_count", watches);
    line("ephemerals_count", ephemerals);
    line("approximate_data_size", data_bytes);
    line("global_sessions", sessions);
    // Sessions are always global, connections are dropped only by the token bucket, and there is no TLS.
    line("local_sessions", &0);
    line("connection_drop_probability", &java_double(0.0));
    line("outstanding_tls_handshake", &0);
    if let Some((open, limit)) = file_descriptors {
        line("open_file_descriptor_count", open);
        line("max_file_descriptor_count", limit);
    }
    line("last_client_response_size", last_response);
    line("max_client_response_size", max_response);
    line("min_client_response_size", min_response);
    line("auth_failed_count", auth_failed);
    for (name, count) in counters {
        line(name, count);
    }
    for (name, summary, percentiles) in summaries {
        let Summary { count, sum, min, max } = summary;
        line(&format!("avg_{name}"), &java_double(summary.average()));
        line(&format!("min_{name}"), min);
        line(&format!("max_{name}"), max);
        line(&format!("cnt_{name}"), count);
        line(&format!("sum_{name}"), sum);
        if let Some(Percentiles { p50, p95, p99, p999 }) = percentiles {
            line(&format!("p50_{name}"), p50);
            line(&format!("p95_{name}"), p95);
            line(&format!("p99_{name}"), p99);
            line(&format!("p999_{name}"), p999);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::words::server::tests::report;

    /// The keys of a standalone Apache ZooKeeper 3.9.5 with its default metrics provider, recorded.
    const ZOOKEEPERS: &str = include_str!("../../tests/zookeeper_mntr_keys.txt");

    #[test]
    fn mntr_has_zookeepers_keys() {
        let fsync = Summary { count: 4, sum: 5, min: 0, max: 3 };
        let percentiles = Percentiles { p50: 1, p95: 2, p99: 3, p999: 4 };
        let text = mntr(&MonitorReport {
            server: report(),
            uptime_ms: 978_619,
            sessions: 2,
            ephemerals: 3,
            watches: 5,
            data_bytes: 64,
            file_descriptors: Some((42, 20_000)),
            response_bytes: [91, 16, 188],
            auth_failed: 0,
            counters: vec![("connection_rejected", 1)],
            summaries: vec![("fsynctime", fsync, None), ("readlatency", fsync, Some(percentiles))],
        });
        assert_eq!(
            text,
            format!(
                "zk_version\t{VERSION}\nzk_server_state\tstandalone\nzk_avg_latency\t0.6186\nzk_max_latency\t10\n\
                 zk_min_latency\t0\nzk_packets_received\t315\nzk_packets_sent\t317\nzk_num_alive_connections\t3\n\
                 zk_outstanding_requests\t0\nzk_uptime\t978619\nzk_znode_count\t9\nzk_watch_count\t5\n\
                 zk_ephemerals_count\t3\nzk_approximate_data_size\t64\nzk_global_sessions\t2\nzk_local_sessions\t0\n\
                 zk_connection_drop_probability\t0.0\nzk_outstanding_tls_handshake\t0\n\
                 zk_open_file_descriptor_count\t42\nzk_max_file_descriptor_count\t20000\n\
                 zk_last_client_response_size\t91\nzk_max_client_response_size\t188\n\
                 zk_min_client_response_size\t16\nzk_auth_failed_count\t0\nzk_connection_rejected\t1\n\
                 zk_avg_fsynctime\t1.25\nzk_min_fsynctime\t0\nzk_max_fsynctime\t3\nzk_cnt_fsynctime\t4\n\
                 zk_sum_fsynctime\t5\nzk_avg_readlatency\t1.25\nzk_min_readlatency\t0\nzk_max_readlatency\t3\n\
                 zk_cnt_readlatency\t4\nzk_sum_readlatency\t5\nzk_p50_readlatency\t1\nzk_p95_readlatency\t2\n\
                 zk_p99_readlatency\t3\nzk_p999_readlatency\t4\n"
            )
        );
        for line in text.lines() {
            let key = line.split('\t').next().unwrap();
            assert!(ZOOKEEPERS.lines().any(|known| known == key), "{key} is not ZooKeeper's");
        }
    }
}
