//! A configuration printed back, under ZooKeeper's names.

use std::time::Duration;

use ostler_types::member::Role;
use serde_json::{Map, Value, json};

use super::*;

impl Loaded {
    /// The settings in use under ZooKeeper's names, and the notes: what `ostler serve --print-config` prints.
    /// Secrets are left out.
    pub fn to_json(&self) -> Value {
        let mut settings: Map<_, _> =
            settings(&self.config).into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        if let Some(ensemble) = &self.config.ensemble {
            let lines = ensemble.servers.iter();
            settings.extend(lines.map(|(id, spec)| (format!("server.{id}"), json!(spec.to_string()))));
        }
        let notes: Vec<_> = self.notes.iter().map(Note::to_string).collect();
        json!({ "settings": settings, "notes": notes })
    }
}

/// Every structure is taken apart, so that a new field cannot be forgotten here.
fn settings(config: &ServerConfig) -> Vec<(&'static str, Value)> {
    let ServerConfig {
        listen,
        data,
        sessions,
        requests,
        tree,
        auth,
        metrics,
        words,
        read_only_mode,
        reconfig_enabled,
        standalone_enabled,
        ensemble,
        elections,
        snapshot_bytes_per_second,
        peer_versions,
    } = config;
    let mut all = listen_settings(listen);
    all.extend(data_settings(data));
    let SessionConfig { tick_ms, timeouts } = sessions;
    all.push(("tickTime", json!(tick_ms)));
    all.push(("minSessionTimeout", json!(timeouts.min_ms())));
    all.push(("maxSessionTimeout", json!(timeouts.max_ms())));
    let RequestLimits { max_frame_bytes, extra_bytes, max_outstanding } = requests;
    all.push(("jute.maxbuffer", json!(max_frame_bytes)));
    all.push(("jute.maxbuffer.extrasize", json!(extra_bytes)));
    all.push(("globalOutstandingLimit", json!(max_outstanding)));
    all.extend(tree_settings(tree));
    all.extend(auth_settings(auth));
    all.extend(metrics_settings(metrics));
    all.push(("4lw.commands.whitelist", json!(words.to_string())));
    all.push(("readonlymode.enabled", json!(read_only_mode)));
    all.push(("reconfigEnabled", json!(reconfig_enabled)));
    all.push(("standaloneEnabled", json!(standalone_enabled)));
    all.extend(ensemble_settings(ensemble.as_ref()));
    let ElectionTiming { tick, election_ticks, heartbeat_ticks } = elections;
    all.push(("ostler.tickMs", millis(*tick)));
    all.push(("ostler.electionTicks", json!(election_ticks)));
    all.push(("ostler.heartbeatTicks", json!(heartbeat_ticks)));
    let rate = snapshot_bytes_per_second.map_or(0, |rate| rate.get());
    all.push(("ostler.snapshotBytesPerSecond", json!(rate)));
    let versions = peer_versions.as_ref().map(|range| format!("{}..{}", range.start(), range.end()));
    all.push(("ostler.test.peerVersions", json!(versions)));
    all
}

/// The lines themselves are added apart: their names are made up.
fn ensemble_settings(ensemble: Option<&EnsembleConfig>) -> Vec<(&'static str, Value)> {
    let Some(ensemble) = ensemble else {
        return vec![
            ("quorumListenOnAllIPs", json!(false)),
            ("dynamicConfigFile", Value::Null),
            ("multiAddress.enabled", json!(false)),
            ("peerType", json!(Role::Participant.to_string())),
        ];
    };
    let EnsembleConfig { server_id, servers, listen_on_all, config_file: _, dynamic_file, version } =
        ensemble;
    let several_addresses = servers.values().any(|spec| spec.addresses.len() > 1);
    vec![
        ("myid", json!(server_id)),
        ("quorumListenOnAllIPs", json!(listen_on_all)),
        ("dynamicConfigFile", json!(dynamic_file)),
        ("version", json!(format!("{:x}", version.0))),
        ("multiAddress.enabled", json!(several_addresses)),
        ("peerType", json!(ensemble.this().role.to_string())),
    ]
}

fn listen_settings(listen: &ListenConfig) -> Vec<(&'static str, Value)> {
    let ListenConfig {
        client,
        linearizable,
        backlog,
        tcp_keep_alive,
        max_connections_per_address,
        max_connections,
        sessionless_timeout,
        throttle,
    } = listen;
    let mut all = vec![
        ("clientPort", json!(client.port)),
        ("clientPortAddress", json!(client.host)),
        ("linearizableClientPort", json!(linearizable.as_ref().map(|address| address.port))),
        ("clientPortListenBacklog", backlog.map_or(json!(-1), |backlog| json!(backlog))),
        ("clientTcpKeepAlive", json!(tcp_keep_alive)),
        ("maxClientCnxns", or_zero(*max_connections_per_address)),
        ("maxCnxns", or_zero(*max_connections)),
        ("nio.sessionlessCnxnTimeout", millis(*sessionless_timeout)),
        ("connection_throttle_tokens", or_zero(throttle.map(|throttle| throttle.tokens))),
    ];
    if let Some(throttle) = throttle {
        let ConnectionThrottle { tokens: _, fill_interval, fill_count, new_session_cost, renew_session_cost } =
            throttle;
        let weighted = new_session_cost.get() > 1 || renew_session_cost.get() > 1;
        all.push(("connection_throttle_fill_time", millis(*fill_interval)));
        all.push(("connection_throttle_fill_count", json!(fill_count)));
        all.push(("connection_throttle_weight_enabled", json!(weighted)));
        all.push(("connection_throttle_global_session_weight", json!(new_session_cost)));
        all.push(("connection_throttle_renew_session_weight", json!(renew_session_cost)));
    }
    all
}

fn data_settings(data: &DataConfig) -> Vec<(&'static str, Value)> {
    let DataConfig {
        data_dir,
        data_log_dir,
        create_missing,
        segment_bytes,
        snapshot_after_transactions,
        snapshot_after_log_bytes,
        purge_retain,
        purge_interval,
        fsync_warning,
    } = data;
    vec![
        ("dataDir", json!(data_dir)),
        ("dataLogDir", json!(data_log_dir)),
        ("datadir.autocreate", json!(create_missing)),
        ("preAllocSize", json!(segment_bytes.get() >> 10)),
        ("snapCount", json!(snapshot_after_transactions)),
        ("snapSizeLimitInKb", json!(snapshot_after_log_bytes.map_or(0, |bytes| bytes.get() >> 10))),
        ("autopurge.snapRetainCount", json!(purge_retain)),
        ("autopurge.purgeInterval", json!(purge_interval.map_or(0, |pause| pause.as_secs() / 3600))),
        ("fsync.warningthresholdms", millis(*fsync_warning)),
    ]
}

fn tree_settings(tree: &TreeRules) -> Vec<(&'static str, Value)> {
    let TreeRules { skip_acl, enforce_quota, ttl_nodes, digest, cleaner } = tree;
    let CleanerConfig { check_interval, max_per_minute, max_never_used } = cleaner;
    vec![
        ("skipACL", json!(if *skip_acl { "yes" } else { "no" })),
        ("enforceQuota", json!(enforce_quota)),
        ("extendedTypesEnabled", json!(ttl_nodes)),
        ("digest.enabled", json!(digest)),
        ("znode.container.checkIntervalMs", millis(*check_interval)),
        ("znode.container.maxPerMinute", json!(max_per_minute)),
        ("znode.container.maxNeverUsedIntervalMs", millis(max_never_used.unwrap_or_default())),
    ]
}

fn auth_settings(auth: &AuthConfig) -> Vec<(&'static str, Value)> {
    let AuthConfig { digest } = auth;
    let mut all = vec![("DigestAuthenticationProvider.enabled", json!(digest.is_some()))];
    if let Some(DigestAuth { algorithm, super_digest }) = digest {
        let shown = super_digest.as_ref().map(|_| "(hidden)");
        all.push(("DigestAuthenticationProvider.digestAlg", json!(algorithm.name())));
        all.push(("DigestAuthenticationProvider.superDigest", json!(shown)));
    }
    all
}

fn metrics_settings(metrics: &MetricsConfig) -> Vec<(&'static str, Value)> {
    let MetricsConfig { prometheus } = metrics;
    let Some(PrometheusEndpoint { listen, process }) = prometheus else {
        return vec![("metricsProvider.className", json!(MetricsConfig::NO_PROVIDER))];
    };
    vec![
        ("metricsProvider.className", json!(MetricsConfig::PROMETHEUS_PROVIDER)),
        ("metricsProvider.httpHost", json!(listen.host)),
        ("metricsProvider.httpPort", json!(listen.port)),
        ("metricsProvider.exportJvmInfo", json!(process)),
    ]
}

fn or_zero(limit: Option<std::num::NonZeroU32>) -> Value {
    json!(limit.map_or(0, |limit| limit.get()))
}

fn millis(duration: Duration) -> Value {
    json!(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
