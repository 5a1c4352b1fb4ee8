//! The value a configuration is parsed into. What cannot be combined has no value here.

use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::EnsembleConfig;
use crate::words::Whitelist;

/// Everything the server is told when it starts. Built only by the readers of [`crate::config`]; nothing below
/// reads a file or the environment for settings.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerConfig {
    /// The client port and who may connect.
    pub listen: ListenConfig,
    /// Directories, log and snapshots.
    pub data: DataConfig,
    /// Session timeouts.
    pub sessions: SessionConfig,
    /// How much a client may ask for at once.
    pub requests: RequestLimits,
    /// Rules of the tree. They change outcomes, so they take effect through the log and not directly.
    pub tree: TreeRules,
    /// Authentication of clients.
    pub auth: AuthConfig,
    /// Where metrics are published, besides the word `mntr`.
    pub metrics: MetricsConfig,
    /// Four-letter words that are answered (`4lw.commands.whitelist`).
    pub words: Whitelist,
    /// `readonlymode.enabled`: without a quorum, serve read-only sessions to clients that allow it. One server alone
    /// never turns read-only.
    pub read_only_mode: bool,
    /// `reconfigEnabled`: whether `reconfig` may change the membership, which then is also written to the files it
    /// came from; otherwise it is answered RECONFIGDISABLED.
    pub reconfig_enabled: bool,
    /// `standaloneEnabled`: a `reconfig` must leave two voters; without it one is enough.
    pub standalone_enabled: bool,
    /// The `server.N` lines; `None` if there are none: a server without an address for others, which cannot grow.
    pub ensemble: Option<EnsembleConfig>,
    /// `ostler.tickMs`, `ostler.electionTicks`, `ostler.heartbeatTicks`.
    pub elections: ElectionTiming,
    /// `ostler.snapshotBytesPerSecond`: the most this server sends of snapshots, to all others together; `None` is
    /// no limit.
    pub snapshot_bytes_per_second: Option<NonZeroU64>,
    /// `ostler.test.peerVersions`: act as a server that speaks only these versions of the protocol between servers.
    /// For tests of upgrades; `None` is what this server speaks.
    pub peer_versions: Option<RangeInclusive<u16>>,
}

/// An address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddress {
    /// Host name or address literal (IPv6 without brackets); `None` is every interface.
    pub host: Option<String>,
    /// TCP port; 0 lets the system choose one.
    pub port: u16,
}

/// The client port.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenConfig {
    /// `clientPortAddress` and `clientPort`, or what this server's `server.N` line says.
    pub client: ListenAddress,
    /// `linearizableClientPort`, on the same host: a client port whose reads are linearizable. Not the port of
    /// `client`, except that both may be 0.
    pub linearizable: Option<ListenAddress>,
    /// `clientPortListenBacklog`; `None` leaves it to the server.
    pub backlog: Option<NonZeroU32>,
    /// `clientTcpKeepAlive`.
    pub tcp_keep_alive: bool,
    /// `maxClientCnxns`: connections per client address; `None` is no limit.
    pub max_connections_per_address: Option<NonZeroU32>,
    /// `maxCnxns`: connections in all; `None` is no limit.
    pub max_connections: Option<NonZeroU32>,
    /// `nio.sessionlessCnxnTimeout`: a connection that has no session by then is closed. At least 1 ms.
    pub sessionless_timeout: Duration,
    /// `connection_throttle_*`; `None` is no throttle.
    pub throttle: Option<ConnectionThrottle>,
}

/// A bucket of tokens from which each handshake takes its cost; without enough tokens the connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionThrottle {
    /// Size of the bucket, which starts full (`connection_throttle_tokens`).
    pub tokens: NonZeroU32,
    /// How often it is filled (`connection_throttle_fill_time`). At least 1 ms.
    pub fill_interval: Duration,
    /// Tokens added each time (`connection_throttle_fill_count`).
    pub fill_count: NonZeroU32,
    /// Tokens for a handshake that asks for a new session; 1 unless weights are enabled.
    pub new_session_cost: NonZeroU32,
    /// Tokens for a handshake that comes back with a session; 1 unless weights are enabled.
    pub renew_session_cost: NonZeroU32,
}

/// Directories, log and snapshots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataConfig {
    /// `dataDir`: snapshots live under its `ostler` directory.
    pub data_dir: PathBuf,
    /// `dataLogDir`: the log lives under its `ostler` directory. Often the same as `data_dir`.
    pub data_log_dir: PathBuf,
    /// `datadir.autocreate`: whether missing directories are created; otherwise they are an error at start.
    pub create_missing: bool,
    /// `preAllocSize`: bytes of one log segment. At least 64 KiB.
    pub segment_bytes: NonZeroU64,
    /// `snapCount`: transactions between snapshots, at least 2; one is taken after half to all of it.
    pub snapshot_after_transactions: NonZeroU32,
    /// `snapSizeLimitInKb`, in bytes: log between snapshots; one is taken after half to all of it.
    pub snapshot_after_log_bytes: Option<NonZeroU64>,
    /// `autopurge.snapRetainCount`: snapshots kept when purging. At least 3.
    pub purge_retain: NonZeroU32,
    /// `autopurge.purgeInterval`: pause between purges, the first one being at start; `None` is never.
    pub purge_interval: Option<Duration>,
    /// `fsync.warningthresholdms`: an fsync slower than this is logged as a warning.
    pub fsync_warning: Duration,
}

/// Session timeouts, all in milliseconds as clients negotiate them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionConfig {
    /// `tickTime`.
    pub tick_ms: NonZeroU32,
    /// What clients are granted.
    pub timeouts: SessionTimeouts,
}

/// The range of session timeouts that are granted: never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionTimeouts {
    min_ms: u32,
    max_ms: u32,
}

/// The time of elections and heartbeats. An election may take twice `election_ticks`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ElectionTiming {
    /// The unit. 1 ms to 10 s.
    pub tick: Duration,
    /// A follower that hears nothing for this long, and up to as much again at random, begins an election. 2 to
    /// 1,000.
    pub election_ticks: NonZeroU32,
    /// The leader's pace. At most half of `election_ticks`.
    pub heartbeat_ticks: NonZeroU32,
}

/// How much a client may ask for at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestLimits {
    /// `jute.maxbuffer`: bytes of the largest request. 1 to 2^31-1.
    pub max_frame_bytes: NonZeroU32,
    /// `jute.maxbuffer.extrasize`: bytes by which one string or buffer in a message may exceed it. At least 1024.
    pub extra_bytes: NonZeroU32,
    /// `globalOutstandingLimit`: requests in flight above which sockets are not read.
    pub max_outstanding: NonZeroU32,
}

/// Rules of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeRules {
    /// `skipACL`: no ACL is checked.
    pub skip_acl: bool,
    /// `enforceQuota`: hard quotas refuse writes.
    pub enforce_quota: bool,
    /// `extendedTypesEnabled`: TTL nodes exist; otherwise creating one is answered UNIMPLEMENTED.
    pub ttl_nodes: bool,
    /// `digest.enabled`: keep ZooKeeper's digest of the tree.
    pub digest: bool,
    /// `znode.container.*`: the cleaner of containers and TTL nodes.
    pub cleaner: CleanerConfig,
}

/// The cleaner of empty containers and expired TTL nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleanerConfig {
    /// `znode.container.checkIntervalMs`. At least 1 ms.
    pub check_interval: Duration,
    /// `znode.container.maxPerMinute`: most nodes deleted in a minute.
    pub max_per_minute: NonZeroU32,
    /// `znode.container.maxNeverUsedIntervalMs`: when a container that never had a child is deleted; `None` is
    /// never.
    pub max_never_used: Option<Duration>,
}

/// Authentication of clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthConfig {
    /// The digest scheme; `None` if it is switched off (`DigestAuthenticationProvider.enabled`).
    pub digest: Option<DigestAuth>,
}

/// The digest scheme.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DigestAuth {
    /// `DigestAuthenticationProvider.digestAlg`.
    pub algorithm: DigestAlgorithm,
    /// `DigestAuthenticationProvider.superDigest`.
    pub super_digest: Option<SuperDigest>,
}

/// Where metrics are published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricsConfig {
    /// An HTTP port for Prometheus, if `metricsProvider.className` asks for one.
    pub prometheus: Option<PrometheusEndpoint>,
}

/// The HTTP port for Prometheus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrometheusEndpoint {
    /// `metricsProvider.httpHost` and `metricsProvider.httpPort`.
    pub listen: ListenAddress,
    /// `metricsProvider.exportJvmInfo`: figures of the process too.
    pub process: bool,
}

/// Hash over `user:password`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DigestAlgorithm {
    /// ZooKeeper's default.
    Sha1,
    /// SHA-224.
    Sha224,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

/// `user:base64` of the super user. Kept out of `Debug` output: it is as good as a password to guess against.
#[derive(Clone, PartialEq, Eq)]
pub struct SuperDigest(String);

impl ListenAddress {
    /// Reads `port`, `host:port` or `[v6]:port`; `*:port` is every interface.
    pub fn parse(text: &str) -> Option<ListenAddress> {
        let (host, port) = match text.rsplit_once(':') {
            None => (None, text),
            Some((host, port)) => {
                let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
                if host.is_empty() || bare == Some("") || (bare.is_none() && host.contains([':', '[', ']'])) {
                    return None;
                }
                (Some(bare.unwrap_or(host)), port)
            }
        };
        if !port.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let host = host.filter(|&host| host != "*").map(str::to_owned);
        Some(ListenAddress { host, port: port.parse().ok()? })
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            None => write!(f, "*:{}", self.port),
            Some(v6) if v6.contains(':') => write!(f, "[{v6}]:{}", self.port),
            Some(host) => write!(f, "{host}:{}", self.port),
        }
    }
}

impl ElectionTiming {
    /// The longest time from the last word of a leader to the first vote for its successor.
    pub fn longest_election(self) -> Duration {
        self.tick * self.election_ticks.get() * 2
    }
}

impl MetricsConfig {
    /// ZooKeeper's class for metrics that nothing but `mntr` shows, the default of `metricsProvider.className`.
    pub(super) const NO_PROVIDER: &str = "org.apache.zookeeper.metrics.impl.DefaultMetricsProvider";
    /// ZooKeeper's class for metrics that nothing shows.
    pub(super) const NULL_PROVIDER: &str = "org.apache.zookeeper.metrics.impl.NullMetricsProvider";
    /// ZooKeeper's class for the HTTP port.
    pub(super) const PROMETHEUS_PROVIDER: &str =
        "org.apache.zookeeper.metrics.prometheus.PrometheusMetricsProvider";
}

impl SessionTimeouts {
    /// A range, unless it is empty, begins at 0 or does not fit the protocol's 31 bits.
    pub fn new(min_ms: u32, max_ms: u32) -> Option<SessionTimeouts> {
        let fits = min_ms >= 1 && min_ms <= max_ms && max_ms <= i32::MAX as u32;
        fits.then_some(SessionTimeouts { min_ms, max_ms })
    }

    /// Shortest timeout granted, in milliseconds.
    pub fn min_ms(self) -> u32 {
        self.min_ms
    }

    /// Longest timeout granted, in milliseconds. At most 2^31-1.
    pub fn max_ms(self) -> u32 {
        self.max_ms
    }

    /// What a client that asks for `requested_ms` gets.
    pub fn negotiate(self, requested_ms: i32) -> u32 {
        u32::try_from(requested_ms).unwrap_or(0).clamp(self.min_ms, self.max_ms)
    }
}

impl DigestAlgorithm {
    /// Every algorithm, under the name Java has for it.
    pub const ALL: [DigestAlgorithm; 5] = [
        DigestAlgorithm::Sha1,
        DigestAlgorithm::Sha224,
        DigestAlgorithm::Sha256,
        DigestAlgorithm::Sha384,
        DigestAlgorithm::Sha512,
    ];

    /// Java's name, as `digestAlg` takes it.
    pub fn name(self) -> &'static str {
        match self {
            DigestAlgorithm::Sha1 => "SHA1",
            DigestAlgorithm::Sha224 => "SHA-224",
            DigestAlgorithm::Sha256 => "SHA-256",
            DigestAlgorithm::Sha384 => "SHA-384",
            DigestAlgorithm::Sha512 => "SHA-512",
        }
    }

    pub(super) fn from_name(name: &str) -> Option<DigestAlgorithm> {
        let plain = |name: &str| name.replace('-', "").to_ascii_uppercase();
        Self::ALL.into_iter().find(|algorithm| plain(algorithm.name()) == plain(name))
    }
}

impl SuperDigest {
    pub(super) fn new(text: &str) -> Option<SuperDigest> {
        let (user, digest) = text.split_once(':')?;
        (!user.is_empty() && !digest.is_empty()).then(|| SuperDigest(text.to_owned()))
    }

    /// The text to compare with `user:base64(hash)` of a client's credentials.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SuperDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SuperDigest(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_as_they_print() {
        for text in ["*:2181", "127.0.0.1:2181", "zk-1.example:0", "[::1]:2181"] {
            assert_eq!(ListenAddress::parse(text).expect(text).to_string(), text);
        }
        assert_eq!(ListenAddress::parse("2181").unwrap().to_string(), "*:2181");
        assert_eq!(ListenAddress::parse("[::1]:1").unwrap().host.as_deref(), Some("::1"));
        for bad in
            ["", ":", ":2181", "host", "host:", "host:x", "host:65536", "::1:2181", "[]:1", "h:+1", "[a:1"]
        {
            assert_eq!(ListenAddress::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_range_of_timeouts_is_never_empty() {
        assert!(SessionTimeouts::new(2, 1).is_none());
        assert!(SessionTimeouts::new(0, 1).is_none());
        assert!(SessionTimeouts::new(1, 1 << 31).is_none());
        let range = SessionTimeouts::new(4000, 40_000).unwrap();
        let granted = [i32::MIN, 0, 3999, 4001, i32::MAX].map(|asked| range.negotiate(asked));
        assert_eq!(granted, [4000, 4000, 4000, 4001, 40_000]);
    }

    #[test]
    fn the_super_digest_is_not_printed() {
        let auth = DigestAuth {
            algorithm: DigestAlgorithm::Sha1,
            super_digest: SuperDigest::new("super:D/InIHSb7yEEbrWz8b9l71RjZJU="),
        };
        assert!(auth.super_digest.is_some() && !format!("{auth:?}").contains("D/In"));
        assert!(SuperDigest::new("super").is_none());
    }
}
