//! The table: every figure of the server, in the order in which `mntr` prints them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ostler_node::{CoreStatus, Lease, Millis, ShardStats, SharedState};
use ostler_replication::PeerProgress;
use ostler_tree::{Quota, State};
use parking_lot::Mutex;

use super::process::{self, file_descriptors};
use super::{Metric, Series, Value};
use crate::admission::Gate;
use crate::clock;
use crate::log_writer::LogStats;
use crate::snapshots::SnapshotStats;
use crate::words::{Mode, ServerReport, Summary, VERSION};

/// Who counts.
pub(crate) struct Sources {
    pub(crate) state: SharedState,
    pub(crate) shards: Vec<Arc<ShardStats>>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) log: Arc<LogStats>,
    pub(crate) snapshots: Arc<SnapshotStats>,
    /// How this server stands in its ensemble.
    pub(crate) status: Arc<Mutex<CoreStatus>>,
    pub(crate) lease: Arc<Lease>,
    /// Whether it serves read-only sessions without a majority.
    pub(crate) read_only_mode: bool,
    /// Whether its configuration has `server.N` lines.
    pub(crate) in_ensemble: bool,
}

/// Every figure of the server, readable at any time and from any thread. Reading takes the state's read lock once,
/// briefly, and otherwise waits for nobody.
pub(crate) struct Metrics {
    sources: Sources,
    /// When the server was started: elapsed time, and Unix time.
    started: Millis,
    started_unix_ms: i64,
    /// When it began to serve; [`NOT_YET`] before that.
    serving_since: AtomicU64,
    /// How long the start took.
    startup: Series,
}

/// A server this many entries behind counts as synced.
const SYNCED_ENTRIES: u64 = 1_024;
const NOT_YET: Millis = Millis::MAX;
/// Quotas read under one hold of the lock.
const QUOTAS_AT_ONCE: usize = 256;

impl Metrics {
    /// The figures of a server that was started at `started`, elapsed time.
    pub(crate) fn new(sources: Sources, started: Millis) -> Metrics {
        let started_unix_ms = clock::wall_ms() - clock::now().saturating_sub(started) as i64;
        let serving_since = AtomicU64::new(NOT_YET);
        Metrics { sources, started, started_unix_ms, serving_since, startup: Series::default() }
    }

    /// The server has begun to serve.
    pub(crate) fn serving(&self) {
        let now = clock::now();
        self.startup.record(std::time::Duration::from_millis(now.saturating_sub(self.started)));
        self.serving_since.store(now, Ordering::Relaxed);
    }

    /// Sets back what the word `srst` sets back: counters and summaries of what goes on, not of the start.
    pub(crate) fn reset(&self) {
        let Sources { shards, gate, log, snapshots, .. } = &self.sources;
        shards.iter().for_each(|stats| stats.reset());
        gate.reset_counters();
        log.reset();
        snapshots.reset();
    }

    /// Whether there are other servers, or have been when this one started.
    fn in_ensemble(&self) -> bool {
        let status = self.sources.status.lock();
        self.sources.in_ensemble || status.membership.voters.len() + status.membership.learners.len() > 1
    }

    /// What this server is; `None` while it is out of touch with a majority.
    pub(crate) fn mode(&self) -> Option<Mode> {
        let Sources { status, lease, .. } = &self.sources;
        if !self.in_ensemble() {
            return Some(Mode::Standalone);
        }
        let status = status.lock();
        let now = clock::now();
        if self.sources.read_only_mode && status.applied.0 > 0 && lease.is_cut_off(self.started, now) {
            return Some(Mode::ReadOnly);
        }
        if !status.serving || !lease.holds_for_all(now) {
            return None;
        }
        let is_voter = status.membership.voters.contains(&status.node);
        Some(match (status.is_leader, is_voter) {
            (true, _) => Mode::Leader,
            (false, true) => Mode::Follower,
            (false, false) => Mode::Observer,
        })
    }

    /// The facts of `srvr`.
    pub(crate) fn server(&self) -> ServerReport {
        self.server_with(&self.sources.state.read())
    }

    /// Figures of the process, which `mntr` leaves to [`table`](Self::table).
    pub(crate) fn process(&self) -> Vec<Metric> {
        process::rows(self.started_unix_ms)
    }

    /// All rows. A new figure is one more here; `docs/operations.md` lists those that are ours.
    pub(crate) fn table(&self) -> Vec<Metric> {
        let Sources { state, gate, log, snapshots, .. } = &self.sources;
        let (server, sessions, ephemerals, data_bytes, applied) = {
            let state = state.read();
            (
                self.server_with(&state),
                state.sessions().len() as u64,
                state.ephemeral_count() as u64,
                state.approximate_data_size(),
                state.applied_index().0,
            )
        };
        let ServerReport { mode, latency_ms, received, sent, connections, outstanding, zxid: _, nodes } =
            server;
        let uptime = clock::now().saturating_sub(self.serving_since.load(Ordering::Relaxed));

        let mut rows = vec![
            Metric::text("version", "ZooKeeper's version whose behaviour this is, then Ostler's", VERSION),
            Metric::text("server_state", "What this server is: standalone, leader, follower, observer", mode),
            // Requests.
            Metric::gauge("avg_latency", "Average time to a reply, milliseconds", latency_ms.average()),
            Metric::gauge("max_latency", "Longest time to a reply, milliseconds", latency_ms.max),
            Metric::gauge("min_latency", "Shortest time to a reply, milliseconds", latency_ms.min),
            Metric::gauge("packets_received", "Packets received from clients", received),
            Metric::gauge("packets_sent", "Packets sent to clients, watch events included", sent),
            Metric::gauge("num_alive_connections", "Client connections", connections),
            Metric::gauge("outstanding_requests", "Requests received and not yet answered", outstanding),
            Metric::gauge("uptime", "Time since the server began to serve, milliseconds", uptime),
            // The tree.
            Metric::gauge("znode_count", "Znodes, the root counting twice", nodes),
            Metric::gauge("watch_count", "Watches of all kinds", self.total(|s| s.watches.get())),
            Metric::gauge("ephemerals_count", "Ephemeral znodes", ephemerals),
            Metric::gauge("approximate_data_size", "All paths and data, bytes", data_bytes),
            Metric::gauge("global_sessions", "Sessions of the ensemble", sessions),
            // Sessions are always global, connections are dropped only by the token bucket, and there is no TLS.
            Metric::gauge("local_sessions", "Sessions that only this server knows; always 0", 0u64),
            Metric::gauge(
                "connection_drop_probability",
                "Chance of a handshake to be turned away at random; always 0",
                0.0,
            ),
            Metric::gauge("outstanding_tls_handshake", "TLS handshakes under way; always 0, no TLS", 0u64),
        ];
        if let Some((open, limit)) = file_descriptors() {
            rows.push(Metric::gauge("open_file_descriptor_count", "Open file descriptors", open));
            rows.push(Metric::gauge("max_file_descriptor_count", "Most that may be open", limit));
        }
        rows.extend([
            // Not measured; -1 is what ZooKeeper shows before the first reply.
            Metric::gauge("last_client_response_size", "Not measured; always -1", -1i64),
            Metric::gauge("max_client_response_size", "Not measured; always -1", -1i64),
            Metric::gauge("min_client_response_size", "Not measured; always -1", -1i64),
            Metric::gauge(
                "auth_failed_count",
                "Clients whose authentication failed",
                self.total(|s| s.auth_failed.get()),
            ),
            // Counters.
            Metric::counter(
                "bytes_received_count",
                "Bytes received from clients",
                self.total(|s| s.bytes_received.get()),
            ),
            Metric::counter(
                "connection_rejected",
                "Connections turned away by maxClientCnxns and maxCnxns",
                gate.rejected(),
            ),
            Metric::counter(
                "connection_drop_count",
                "Handshakes turned away by connection_throttle_tokens",
                gate.throttled(),
            ),
            Metric::counter(
                "connection_revalidate_count",
                "Sessions that came back on a new connection",
                self.total(|s| s.sessions_attached.get()),
            ),
            Metric::counter(
                "large_requests_rejected",
                "Requests larger than jute.maxbuffer, refused",
                self.total(|s| s.oversized.get()),
            ),
            Metric::counter(
                "throttled_ops",
                "Writes refused (THROTTLEDOP) because the log has no room",
                self.total(|s| s.refused_full.get()),
            ),
            Metric::counter("snapshot_error_count", "Snapshots that failed", snapshots.failed()),
            // Summaries.
            Metric::basic("fsynctime", "Write and fsync of the log, milliseconds", &log.fsync),
            Metric::basic("snapshottime", "Writing a snapshot, milliseconds", &snapshots.time),
            Metric::basic("dbinittime", "From start to serving, milliseconds", &self.startup),
            // Ours.
            Metric::counter(
                "ostler_fsync_threshold_exceed_count",
                "Writes of the log slower than fsync.warningthresholdms",
                log.slow(),
            ),
            Metric::counter(
                "ostler_sessions_created",
                "Sessions opened here",
                self.total(|s| s.sessions_created.get()),
            ),
            Metric::gauge(
                "ostler_log_has_room",
                "1, or 0 while a full disk refuses writes",
                u64::from(gate.has_room()),
            ),
            Metric::gauge("ostler_applied_index", "The last log entry applied", applied),
        ]);
        rows.extend(self.quotas());
        if self.in_ensemble() {
            rows.extend(self.ensemble());
        }
        rows
    }

    /// How this server stands in its ensemble: ZooKeeper's keys of leaders, then ours.
    fn ensemble(&self) -> Vec<Metric> {
        let status = self.sources.status.lock().clone();
        let mut rows = Vec::new();
        if status.is_leader {
            let active =
                |voter: bool| status.peers.iter().filter(|p| p.voter == voter && p.active).count() as u64;
            let synced = |voter: bool| {
                let near = |p: &&PeerProgress| p.matched.0 + SYNCED_ENTRIES >= status.last.0;
                status.peers.iter().filter(|p| p.voter == voter && p.active).filter(near).count() as u64
            };
            rows.extend([
                Metric::gauge("learners", "Servers connected to this leader", active(true) + active(false)),
                Metric::gauge("synced_followers", "Voters that are at most a little behind", synced(true)),
                Metric::gauge(
                    "synced_observers",
                    "Observers that are at most a little behind",
                    synced(false),
                ),
            ]);
            let lag = status.peers.iter().map(|p| {
                let behind = status.last.0.saturating_sub(p.matched.0);
                (format!("{:016x}", p.node), behind.into())
            });
            rows.push(Metric {
                name: "ostler_peer_lag",
                help: "Log entries that a server is behind this leader, by its node",
                value: Value::Gauges(lag.collect()),
            });
        }
        let since_contact = match self.sources.lease.contact() {
            0 | Millis::MAX => 0,
            at => clock::now().saturating_sub(at),
        };
        rows.extend([
            Metric::gauge("quorum_size", "Servers that vote", status.membership.voters.len() as u64),
            Metric::gauge("ostler_term", "The term of consensus", status.term.0),
            Metric::gauge(
                "ostler_committed_index",
                "The last log entry known to be committed",
                status.committed.0,
            ),
            Metric::gauge("ostler_last_index", "The last entry in the log", status.last.0),
            Metric::gauge(
                "ostler_parked_bytes",
                "Writes of this server's clients that wait for the log, bytes",
                status.pending.0 as u64,
            ),
            Metric::counter("ostler_leader_changes", "Leaders seen since the start", status.leader_changes),
            Metric::counter(
                "ostler_passed_on_again",
                "Times that waiting writes were passed on again: to another leader, or on another link",
                status.passed_on_again,
            ),
            Metric::gauge(
                "ostler_since_contact",
                "Time since this server was last known to be in touch with a majority, milliseconds",
                since_contact,
            ),
        ]);
        rows
    }

    /// ZooKeeper's figures of quotas: sums over the quotas below each top-level znode. -1, which is no limit, is added
    /// as there.
    fn quotas(&self) -> impl Iterator<Item = Metric> + use<> {
        let mut sums: BTreeMap<String, [i64; 4]> = BTreeMap::new();
        let mut after = String::new();
        loop {
            let state = self.sources.state.read();
            let mut last = None;
            for quota in state.quotas_after(&after).take(QUOTAS_AT_ONCE) {
                let Quota { subtree, count_limit, byte_limit, count, bytes } = quota;
                let top = subtree.trim_start_matches('/').split('/').next().unwrap_or_default();
                let sums = sums.entry(top.to_owned()).or_default();
                for (sum, more) in sums.iter_mut().zip([count_limit, byte_limit, count, bytes]) {
                    *sum = sum.saturating_add(more);
                }
                last = Some(subtree.to_owned());
            }
            match last {
                Some(last) => after = last,
                None => break,
            }
        }
        let names = [
            ("quota_count_limit_per_namespace", "Most znodes that quotas allow below a top-level znode"),
            ("quota_bytes_limit_per_namespace", "Most bytes that quotas allow below a top-level znode"),
            ("quota_count_usage_per_namespace", "Znodes charged to the quotas below a top-level znode"),
            ("quota_bytes_usage_per_namespace", "Bytes charged to the quotas below a top-level znode"),
        ];
        names.into_iter().enumerate().map(move |(index, (name, help))| {
            let gauges = sums.iter().map(|(top, sums)| (top.clone(), sums[index].into())).collect();
            Metric { name, help, value: Value::Gauges(gauges) }
        })
    }

    fn server_with(&self, state: &State) -> ServerReport {
        let shards = &self.sources.shards;
        let min = shards.iter().filter_map(|stats| stats.latency_min_ms_plus_one.get().checked_sub(1)).min();
        ServerReport {
            mode: self.mode().unwrap_or(Mode::Standalone),
            latency_ms: Summary {
                count: self.total(|s| s.latency_count.get()),
                sum: self.total(|s| s.latency_total_ms.get()),
                min: min.unwrap_or(0),
                max: shards.iter().map(|s| s.latency_max_ms.get()).max().unwrap_or(0),
            },
            received: self.total(|s| s.received.get()),
            sent: self.total(|s| s.sent.get()),
            connections: self.total(|s| s.connections.get()),
            outstanding: self.total(|s| s.outstanding.get()),
            zxid: state.last_zxid(),
            nodes: state.node_count() as u64,
        }
    }

    fn total(&self, of: impl Fn(&ShardStats) -> u64) -> u64 {
        self.sources.shards.iter().map(|stats| of(stats)).sum()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The metrics of a server in which nothing has happened.
    pub(in crate::metrics) fn of_nothing() -> Metrics {
        let config = crate::config::standalone_default(&crate::config::Overrides::default()).unwrap().config;
        let sources = Sources {
            state: Arc::new(parking_lot::RwLock::new(State::with_index_seed(1))),
            shards: vec![Arc::default(), Arc::default()],
            gate: Arc::new(Gate::new(&config.listen, 0)),
            log: Arc::default(),
            snapshots: Arc::default(),
            status: Arc::default(),
            lease: Arc::new(Lease::alone()),
            read_only_mode: false,
            in_ensemble: false,
        };
        Metrics::new(sources, clock::now())
    }

    /// The keys of a standalone Apache ZooKeeper 3.9.5 with its default metrics provider, recorded.
    const ZOOKEEPERS: &str = include_str!("../../tests/zookeeper_mntr_keys.txt");

    #[test]
    fn every_key_is_zookeepers_or_says_that_it_is_ours() {
        let metrics = of_nothing();
        let text = crate::words::mntr(&metrics.table());
        assert!(text.starts_with(&format!(
            "zk_version\t{VERSION}\nzk_server_state\tstandalone\nzk_avg_latency\t0.0\n"
        )));
        assert!(text.contains("\nzk_uptime\t0\n"), "not serving yet: {text}");
        let mut seen = std::collections::BTreeSet::new();
        for line in text.lines() {
            let (key, value) = line.split_once('\t').expect(line);
            assert!(seen.insert(key), "{key} is there twice");
            assert!(!value.is_empty(), "{line}");
            let zookeepers = ZOOKEEPERS.lines().any(|known| known == key);
            assert_ne!(zookeepers, key.contains("ostler_"), "{key}");
        }
    }

    #[test]
    fn srst_sets_back_what_counts_and_nothing_else() {
        let metrics = of_nothing();
        metrics.serving();
        let Sources { shards, gate, log, snapshots, .. } = &metrics.sources;
        shards[0].received.add(3);
        shards[1].latency_max_ms.add(3);
        shards[1].connections.add(3);
        log.fsync.record(std::time::Duration::from_secs(3));
        snapshots.time.record(std::time::Duration::from_secs(3));
        assert!(!gate.set_log_has_room(true));
        let value = |name| metrics.table().into_iter().find(|row| row.name == name).unwrap().value;
        let count = |name| match value(name) {
            Value::Basic(all) => all.count,
            other => panic!("{other:?}"),
        };
        let gauge = |number: u64| Value::Gauge(number.into());
        assert_eq!((value("packets_received"), value("max_latency")), (gauge(3), gauge(3)));
        assert_eq!((count("fsynctime"), count("snapshottime"), count("dbinittime")), (1, 1, 1));
        metrics.reset();
        assert_eq!((value("packets_received"), value("max_latency")), (gauge(0), gauge(0)));
        assert_eq!((value("num_alive_connections"), value("ostler_log_has_room")), (gauge(3), gauge(1)));
        assert_eq!((count("fsynctime"), count("snapshottime"), count("dbinittime")), (0, 0, 1));
    }
}
