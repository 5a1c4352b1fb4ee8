//! From settings to a [`ServerConfig`]: ranges, defaults, and what must agree with what.

use std::num::{NonZeroU32, NonZeroU64};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ostler_types::member::ClientAddress;

use super::ensemble::{self, Around};
use super::reader::{Reader, printable};
use super::*;
use crate::words::{Whitelist, Word};

const INT: RangeInclusive<i64> = i32::MIN as i64..=i32::MAX as i64;
const POSITIVE: RangeInclusive<i64> = 1..=i32::MAX as i64;
const NOT_NEGATIVE: RangeInclusive<i64> = 0..=i32::MAX as i64;

/// The largest request: what fits into one entry of the log, with what the log adds to it.
const MAX_FRAME_BYTES: i64 = (ostler_storage::MAX_ENTRY_BYTES - (2 << 20)) as i64;
/// A segment's greatest size, which the log's format sets.
const MAX_SEGMENT_KIB: i64 = 1 << 20;
/// The smallest log segment, in KiB.
const MIN_SEGMENT_KIB: i64 = 64;

/// Reads every honoured setting. `None`, or problems in the reader, if they make no configuration.
pub(super) fn resolve(reader: &mut Reader, around: &Around<'_>) -> Option<ServerConfig> {
    let ensemble = ensemble::resolve(reader, around);
    let client = client_address(reader, ensemble.as_ref().map(Option::as_ref)).ok();
    let read_only_mode = reader.switch("readonlymode.enabled");
    let listen = listen(reader, client);
    let data = data(reader);
    let sessions = sessions(reader);
    let requests = requests(reader);
    let tree = tree(reader);
    let auth = AuthConfig { digest: digest_auth(reader) };
    let metrics = metrics(reader);
    let words = whitelist(reader, read_only_mode);
    let reconfig_enabled = reader.switch("reconfigEnabled");
    let standalone_enabled = reader.switch("standaloneEnabled");
    let elections = elections(reader);
    let snapshot_rate = reader.number("ostler.snapshotBytesPerSecond", 0..=i64::MAX).unsigned_abs();
    let peer_versions = peer_versions(reader);
    let ensemble = ensemble.ok()?;
    let sessions = sessions?;
    if ensemble.as_ref().is_some_and(|ensemble| ensemble.servers.len() > 1) {
        warn_of_short_sessions(reader, sessions.timeouts, elections);
    }
    Some(ServerConfig {
        listen: listen?,
        data: data?,
        sessions,
        requests,
        tree,
        auth,
        metrics: metrics?,
        words,
        read_only_mode,
        reconfig_enabled,
        standalone_enabled,
        ensemble,
        elections,
        snapshot_bytes_per_second: NonZeroU64::new(snapshot_rate),
        peer_versions,
    })
}

/// A problem has been recorded; nothing that follows from it is worth another.
#[derive(Debug)]
pub(super) struct Reported;

/// `clientPort` and `clientPortAddress`, or what this server's `server.N` line says.
fn client_address(
    reader: &mut Reader,
    ensemble: Result<Option<&EnsembleConfig>, &Reported>,
) -> Result<ListenAddress, Reported> {
    let host = host(reader, "clientPortAddress");
    let port = match reader.optional_number("clientPort", 0..=65535) {
        None if reader.text("clientPort").is_some() => return Err(Reported),
        port => port.map(|port| port as u16),
    };
    let line = ensemble.map_err(|_| Reported)?.and_then(|ensemble| ensemble.this().client.clone());
    let line = line.filter(|_| !reader.is_from_command_line("clientPort"));
    let member = line.map(|ClientAddress { host, port }| ListenAddress { host, port });
    let host = host?;
    match (port, member) {
        (Some(port), None) => Ok(ListenAddress { host, port }),
        (Some(port), Some(line)) => {
            let same_host = host.is_none() || line.host.is_none() || host == line.host;
            if port != line.port || !same_host {
                let text = format!("clientPort and the server line disagree: the latter says {line}");
                reader.problem("clientPort", text);
            }
            Ok(ListenAddress { host: host.or(line.host), port })
        }
        (None, Some(line)) if host.is_none() => Ok(line),
        (None, _) if host.is_some() => {
            reader.problem("clientPortAddress", "clientPortAddress is set but clientPort is not".to_owned());
            Err(Reported)
        }
        (None, _) => {
            let text = "clientPort is missing: nobody could connect; expected clientPort=2181 or the like";
            reader.problem("clientPort", text.to_owned());
            Err(Reported)
        }
    }
}

/// A host without the brackets of an IPv6 address.
fn host(reader: &mut Reader, name: &'static str) -> Result<Option<String>, Reported> {
    let Some(text) = reader.text(name).filter(|host| !host.is_empty()) else { return Ok(None) };
    let bare = text.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&text);
    if bare.is_empty() || bare.contains(|c: char| c.is_whitespace() || "/[]".contains(c)) {
        reader.wrong(name, &text, "a host name or an address");
        return Err(Reported);
    }
    Ok(Some(bare.to_owned()))
}

fn listen(reader: &mut Reader, client: Option<ListenAddress>) -> Option<ListenConfig> {
    let backlog = limit(reader.number("clientPortListenBacklog", INT));
    let tcp_keep_alive = reader.switch("clientTcpKeepAlive");
    let max_connections_per_address = limit(reader.number("maxClientCnxns", INT));
    let max_connections = limit(reader.system_number("maxCnxns", INT));
    let sessionless_timeout = millis(reader.system_number("nio.sessionlessCnxnTimeout", POSITIVE));
    let throttle = throttle(reader);
    let linearizable_port = reader.optional_number("linearizableClientPort", 0..=65535);
    let client = client?;
    let linearizable =
        linearizable_port.map(|port| ListenAddress { host: client.host.clone(), port: port as u16 });
    if linearizable.as_ref().is_some_and(|address| address.port != 0 && address.port == client.port) {
        let text =
            format!("linearizableClientPort={} is the client port; it must be another one", client.port);
        reader.problem("linearizableClientPort", text);
    }
    Some(ListenConfig {
        client,
        linearizable,
        backlog,
        tcp_keep_alive,
        max_connections_per_address,
        max_connections,
        sessionless_timeout,
        throttle,
    })
}

fn throttle(reader: &mut Reader) -> Option<ConnectionThrottle> {
    let tokens = reader.system_number("connection_throttle_tokens", NOT_NEGATIVE);
    let fill_interval = millis(reader.system_number("connection_throttle_fill_time", POSITIVE));
    let fill_count = positive(reader.system_number("connection_throttle_fill_count", POSITIVE));
    let weighted = reader.switch("connection_throttle_weight_enabled");
    let new = positive(reader.system_number("connection_throttle_global_session_weight", POSITIVE));
    let renew = positive(reader.system_number("connection_throttle_renew_session_weight", POSITIVE));
    let tokens = limit(tokens)?;
    let cost = |weight| if weighted { weight } else { NonZeroU32::MIN };
    if cost(new).max(cost(renew)) > tokens {
        let text =
            format!("connection_throttle_tokens={tokens}: no handshake could ever pay its weight of more");
        reader.problem("connection_throttle_tokens", text);
    }
    Some(ConnectionThrottle {
        tokens,
        fill_interval,
        fill_count,
        new_session_cost: cost(new),
        renew_session_cost: cost(renew),
    })
}

fn data(reader: &mut Reader) -> Option<DataConfig> {
    let data_dir = directory(reader, "dataDir");
    if data_dir.is_none() {
        let text =
            "dataDir is missing: expected dataDir=/path/to/data, where everything acknowledged is kept";
        reader.problem("dataDir", text.to_owned());
    }
    let data_log_dir = directory(reader, "dataLogDir").or_else(|| data_dir.clone());
    let create_missing = reader.switch("datadir.autocreate");
    let segment_bytes = segment_bytes(reader);
    let snap_count = reader.system_number("snapCount", INT);
    let snap_count = reader.at_least("snapCount", snap_count, 2);
    let snap_kib = reader.system_number("snapSizeLimitInKb", i64::MIN..=i64::MAX >> 10);
    let retain = reader.number("autopurge.snapRetainCount", INT);
    let retain = reader.at_least("autopurge.snapRetainCount", retain, 3);
    let purge_hours = limit(reader.number("autopurge.purgeInterval", INT));
    let fsync_warning = millis(reader.system_number("fsync.warningthresholdms", NOT_NEGATIVE));
    Some(DataConfig {
        data_dir: data_dir?,
        data_log_dir: data_log_dir?,
        create_missing,
        segment_bytes,
        snapshot_after_transactions: positive(snap_count),
        snapshot_after_log_bytes: u64::try_from(snap_kib).ok().and_then(|kib| NonZeroU64::new(kib << 10)),
        purge_retain: positive(retain),
        purge_interval: purge_hours.map(|hours| Duration::from_secs(u64::from(hours.get()) * 3600)),
        fsync_warning,
    })
}

fn directory(reader: &mut Reader, name: &'static str) -> Option<PathBuf> {
    let path = reader.text(name).filter(|path| !path.is_empty())?;
    if path.contains('\0') {
        reader.wrong(name, &path, "a path without a NUL character");
    }
    Some(PathBuf::from(path))
}

fn segment_bytes(reader: &mut Reader) -> NonZeroU64 {
    let mut kib = reader.system_number("preAllocSize", i64::MIN..=i64::MAX);
    if kib <= 0 {
        kib = 65536;
        let text =
            "preAllocSize cannot switch preallocation off, the log is made of segments; the default is used";
        reader.note("preAllocSize", text.to_owned());
    }
    let kib = reader.at_least("preAllocSize", kib, MIN_SEGMENT_KIB);
    let kib = reader.at_most("preAllocSize", kib, MAX_SEGMENT_KIB);
    // Segments are made of whole pages.
    let kib = (kib + 3) / 4 * 4;
    NonZeroU64::new(kib.unsigned_abs() << 10).expect("at_least returns no less than MIN_SEGMENT_KIB")
}

fn sessions(reader: &mut Reader) -> Option<SessionConfig> {
    let tick = reader.number("tickTime", POSITIVE);
    let min = session_timeout(reader, "minSessionTimeout", 2, tick);
    let max = session_timeout(reader, "maxSessionTimeout", 20, tick);
    let timeouts = min.zip(max).and_then(|(min, max)| {
        if min > max {
            let text = format!(
                "minSessionTimeout {min} ms is above maxSessionTimeout {max} ms (unset, they are 2 and 20 times \
                 tickTime)"
            );
            let name = if reader.text("minSessionTimeout").is_some() { "minSessionTimeout" } else { "maxSessionTimeout" };
            reader.problem(name, text);
        }
        SessionTimeouts::new(min, max)
    });
    Some(SessionConfig { tick_ms: positive(tick), timeouts: timeouts? })
}

fn session_timeout(reader: &mut Reader, name: &'static str, ticks: i64, tick_ms: i64) -> Option<u32> {
    let ms = match reader.optional_number(name, INT) {
        None | Some(-1) => ticks * tick_ms,
        Some(ms) => ms,
    };
    if !POSITIVE.contains(&ms) {
        reader.problem(
            name,
            format!("{name} is {ms} ms: expected 1 to {} ms, or -1 for the default", i32::MAX),
        );
        return None;
    }
    u32::try_from(ms).ok()
}

/// The ticks of elections and heartbeats, which have nothing to do with `tickTime`.
fn elections(reader: &mut Reader) -> ElectionTiming {
    let tick = reader.number("ostler.tickMs", 1..=10_000);
    let election = reader.number("ostler.electionTicks", 2..=1_000);
    let heartbeat = reader.number("ostler.heartbeatTicks", 1..=500);
    if heartbeat * 2 > election {
        let text = format!(
            "ostler.heartbeatTicks={heartbeat} leaves no heartbeat to lose: expected at most half of \
             ostler.electionTicks, which is {election}"
        );
        let name = "ostler.heartbeatTicks";
        let name = if reader.text(name).is_some() { name } else { "ostler.electionTicks" };
        reader.problem(name, text);
    }
    ElectionTiming {
        tick: millis(tick),
        election_ticks: positive(election),
        heartbeat_ticks: positive(heartbeat),
    }
}

/// A session is served for a third of its timeout without contact to a leader; that should outlast an election.
fn warn_of_short_sessions(reader: &mut Reader, timeouts: SessionTimeouts, elections: ElectionTiming) {
    let election_ms = elections.longest_election().as_millis() as u64;
    let third_ms = u64::from(timeouts.min_ms()) / 3;
    if third_ms < election_ms {
        let set = reader.text("minSessionTimeout").is_some();
        let text = format!(
            "a session timeout of {} ms, the shortest granted, is too short to outlast every election: a third of it, \
             {third_ms} ms, is less than the {election_ms} ms an election may take, and such a client may lose its \
             connection to it; minSessionTimeout={} fits",
            timeouts.min_ms(),
            election_ms * 3
        );
        reader.note(if set { "minSessionTimeout" } else { "tickTime" }, text);
    }
}

fn peer_versions(reader: &mut Reader) -> Option<RangeInclusive<u16>> {
    let name = "ostler.test.peerVersions";
    let text = reader.text(name)?;
    let range =
        text.split_once("..").and_then(|(oldest, newest)| Some(oldest.parse().ok()?..=newest.parse().ok()?));
    let range = range.filter(|range| !range.is_empty());
    if range.is_none() {
        reader.wrong(name, &text, "OLDEST..NEWEST, two version numbers from 0 to 65535");
    }
    range
}

fn requests(reader: &mut Reader) -> RequestLimits {
    let max_frame = reader.system_number("jute.maxbuffer", POSITIVE);
    let max_frame = reader.at_most("jute.maxbuffer", max_frame, MAX_FRAME_BYTES);
    let extra = reader.optional_system_number("jute.maxbuffer.extrasize", INT);
    let extra = extra.map(|extra| reader.at_least("jute.maxbuffer.extrasize", extra, 1024));
    RequestLimits {
        max_frame_bytes: positive(max_frame),
        extra_bytes: positive(extra.unwrap_or(max_frame).max(1024)),
        max_outstanding: positive(reader.system_number("globalOutstandingLimit", POSITIVE)),
    }
}

fn tree(reader: &mut Reader) -> TreeRules {
    let never_used = reader.system_number("znode.container.maxNeverUsedIntervalMs", 0..=i64::MAX);
    TreeRules {
        skip_acl: reader.yes("skipACL"),
        enforce_quota: reader.switch("enforceQuota"),
        ttl_nodes: reader.switch("extendedTypesEnabled"),
        digest: reader.switch("digest.enabled"),
        cleaner: CleanerConfig {
            check_interval: millis(reader.system_number("znode.container.checkIntervalMs", POSITIVE)),
            max_per_minute: positive(reader.system_number("znode.container.maxPerMinute", POSITIVE)),
            max_never_used: (never_used > 0).then(|| millis(never_used)),
        },
    }
}

fn digest_auth(reader: &mut Reader) -> Option<DigestAuth> {
    let enabled = reader.switch("DigestAuthenticationProvider.enabled");
    let algorithm = match reader.text("DigestAuthenticationProvider.digestAlg") {
        None => DigestAlgorithm::Sha1,
        Some(name) => DigestAlgorithm::from_name(&name).unwrap_or_else(|| {
            let known = DigestAlgorithm::ALL.map(DigestAlgorithm::name).join(", ");
            reader.wrong("DigestAuthenticationProvider.digestAlg", &name, format!("one of {known}"));
            DigestAlgorithm::Sha1
        }),
    };
    let name = "DigestAuthenticationProvider.superDigest";
    let super_digest = reader.text(name).and_then(|text| {
        let digest = SuperDigest::new(&text);
        if digest.is_none() {
            reader.wrong(name, &text, "user:base64 of the hash of user:password");
        }
        digest
    });
    enabled.then_some(DigestAuth { algorithm, super_digest })
}

fn metrics(reader: &mut Reader) -> Option<MetricsConfig> {
    let name = "metricsProvider.className";
    let class = reader.text(name).unwrap_or_else(|| MetricsConfig::NO_PROVIDER.to_owned());
    let host = host(reader, "metricsProvider.httpHost");
    let port = reader.number("metricsProvider.httpPort", 0..=65535) as u16;
    let process = reader.switch("metricsProvider.exportJvmInfo");
    let listen = ListenAddress { host: host.ok()?, port };
    match class.as_str() {
        MetricsConfig::PROMETHEUS_PROVIDER => {
            return Some(MetricsConfig { prometheus: Some(PrometheusEndpoint { listen, process }) });
        }
        MetricsConfig::NO_PROVIDER => {}
        MetricsConfig::NULL_PROVIDER => {
            reader.note(name, format!("{name}={class}: the word mntr shows metrics all the same"));
        }
        _ => {
            let known = [
                MetricsConfig::NO_PROVIDER,
                MetricsConfig::NULL_PROVIDER,
                MetricsConfig::PROMETHEUS_PROVIDER,
            ];
            reader.wrong(name, &class, format!("one of {}", known.join(", ")));
        }
    }
    for name in ["metricsProvider.httpHost", "metricsProvider.httpPort", "metricsProvider.exportJvmInfo"] {
        if reader.text(name).is_some() {
            let class = MetricsConfig::PROMETHEUS_PROVIDER;
            reader.note(
                name,
                format!("{name} is for metricsProvider.className={class} and has no effect without it"),
            );
        }
    }
    Some(MetricsConfig { prometheus: None })
}

/// The words given, and those that `FourLetterCommands.isEnabled` always adds because ZooKeeper's own scripts
/// and servers ask them: `srvr`, and `isro` in read-only mode.
fn whitelist(reader: &mut Reader, read_only_mode: bool) -> Whitelist {
    let name = "4lw.commands.whitelist";
    let mut words = vec![Word::Srvr];
    words.extend(read_only_mode.then_some(Word::Isro));
    let list = reader.text(name).unwrap_or_default();
    for item in list.split(',').map(str::trim).filter(|item| !item.is_empty()) {
        let bytes = <[u8; 4]>::try_from(item.as_bytes()).ok();
        match bytes.and_then(Word::from_bytes) {
            Some(word) => words.push(word),
            None if item == "*" => return Whitelist::all(),
            None => reader.note(name, format!("{name}: `{}` is not a four-letter word", printable(item))),
        }
    }
    words.into_iter().collect()
}

/// A limit, or none for 0 and less.
fn limit(number: i64) -> Option<NonZeroU32> {
    u32::try_from(number).ok().and_then(NonZeroU32::new)
}

/// For a number whose range the reader has checked; anything else has been reported and counts as 1.
fn positive(number: i64) -> NonZeroU32 {
    limit(number).unwrap_or(NonZeroU32::MIN)
}

fn millis(number: i64) -> Duration {
    Duration::from_millis(number.max(0).unsigned_abs())
}
