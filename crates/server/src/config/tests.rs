//! Files in, configurations or complaints out.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::reader::{Given, Origin, Reader};
use super::*;
use crate::words::{Whitelist, Word};

const MINIMAL: &str = "dataDir=/d\nclientPort=2181\n";

fn read(text: &str) -> Result<Loaded, ConfigError> {
    parse("zoo.cfg", text.as_bytes(), &Overrides::default())
}

/// A minimal file with `lines` added must be accepted.
#[track_caller]
fn with(lines: &str) -> Loaded {
    read(&format!("{MINIMAL}{lines}")).unwrap_or_else(|error| panic!("{error}"))
}

#[track_caller]
fn complaint(text: &str) -> String {
    read(text).expect_err("this should not be accepted").to_string()
}

/// What is said about a minimal file with one more line, without the heading.
#[track_caller]
fn complaint_about(line: &str) -> String {
    let text = complaint(&format!("{MINIMAL}{line}"));
    text.strip_prefix("zoo.cfg: 1 problem\n  ").unwrap_or_else(|| panic!("{text}")).to_owned()
}

fn notes(loaded: &Loaded) -> Vec<String> {
    loaded.notes.iter().map(Note::to_string).collect()
}

#[test]
fn a_file_gets_zookeepers_defaults() {
    let config = with("").config;
    assert_eq!(config.listen.client.to_string(), "*:2181");
    assert_eq!(config.listen.max_connections_per_address.map(|n| n.get()), Some(60));
    assert_eq!(config.listen.max_connections, None);
    assert_eq!(config.listen.backlog, None);
    assert_eq!(config.listen.throttle, None);
    assert_eq!(config.sessions.timeouts, SessionTimeouts::new(6000, 60_000).unwrap());
    assert_eq!(config.data.data_log_dir, config.data.data_dir);
    assert_eq!(config.data.segment_bytes.get(), 64 << 20);
    assert_eq!(config.data.snapshot_after_log_bytes.map(|n| n.get()), Some(4 << 30));
    assert_eq!(config.data.purge_interval, None);
    assert_eq!(config.requests.max_frame_bytes.get(), 0xfffff);
    assert_eq!(config.requests.extra_bytes.get(), 0xfffff);
    assert_eq!(config.words, [Word::Srvr].into_iter().collect::<Whitelist>());
    assert!(!config.tree.ttl_nodes);
    assert!(config.tree.digest && !config.tree.skip_acl);
    assert_eq!(config.tree.cleaner.check_interval, Duration::from_secs(60));
    assert_eq!(config.auth.digest.unwrap().algorithm, DigestAlgorithm::Sha1);
}

#[test]
fn without_a_file_it_serves_this_machine() {
    let loaded = standalone_default(&Overrides::default()).unwrap();
    let config = loaded.config;
    assert!(loaded.notes.is_empty());
    assert_eq!(config.listen.client.to_string(), "127.0.0.1:2181");
    assert_eq!(config.data.data_dir, Path::new("./ostler-data"));
    assert_eq!(config.listen.max_connections_per_address, None);
    assert_eq!(config.words, Whitelist::all());
}

#[test]
fn command_line_options_win() {
    let overrides = Overrides {
        data_dir: Some("/other".into()),
        listen: ListenAddress::parse("[::1]:0"),
        ..Overrides::default()
    };
    let check = |loaded: Loaded| {
        assert_eq!(loaded.config.data.data_dir, Path::new("/other"));
        assert_eq!(loaded.config.listen.client.to_string(), "[::1]:0");
    };
    check(standalone_default(&overrides).unwrap());
    check(parse("zoo.cfg", MINIMAL.as_bytes(), &overrides).unwrap());
    check(parse("zoo.cfg", b"server.1=a:1:2;2181\n", &overrides).unwrap());
    check(parse("zoo.cfg", b"", &overrides).unwrap());
    let everywhere = Overrides { listen: ListenAddress::parse("*:1"), ..Overrides::default() };
    assert_eq!(standalone_default(&everywhere).unwrap().config.listen.client.to_string(), "*:1");
}

#[test]
fn zookeepers_arguments_are_a_configuration_too() {
    let read = |arguments: &[&str]| from_arguments(arguments, &Overrides::default());
    let config = read(&["2181", "/d"]).unwrap().config;
    assert_eq!((config.sessions.tick_ms.get(), config.listen.max_connections_per_address), (3000, None));
    let config = read(&["2181", "/d", "2000", "7"]).unwrap().config;
    assert_eq!(config.sessions.timeouts.min_ms(), 4000);
    assert_eq!(config.listen.max_connections_per_address.map(|n| n.get()), Some(7));
    assert!(read(&["2181"]).is_err() && read(&["1", "/d", "3", "4", "5"]).is_err());
    assert_eq!(
        read(&["x", "/d", "0"]).unwrap_err().to_string(),
        "command line: 2 problems\n  \
         command line: clientPort=x: expected a whole number from 0 to 65535 (port)\n  \
         command line: tickTime=0: expected a whole number from 1 to 2147483647 (ms)"
    );
}

#[test]
fn the_docker_image_file_works_unmodified() {
    let loaded = read(
        "dataDir=/data\ndataLogDir=/datalog\ntickTime=2000\ninitLimit=5\nsyncLimit=2\nautopurge.snapRetainCount=3\n\
         autopurge.purgeInterval=0\nmaxClientCnxns=60\nstandaloneEnabled=true\nadmin.enableServer=true\n\
         server.1=localhost:2888:3888;2181\n",
    )
    .unwrap();
    assert_eq!(loaded.config.listen.client.to_string(), "*:2181");
    assert_eq!(
        notes(&loaded),
        [
            "zoo.cfg:4: initLimit has no effect: a server that lags stays a member and catches up, however long that \
             takes; whether it is alive, heartbeats tell (ostler.tickMs)",
            "zoo.cfg:5: syncLimit has no effect: a server that lags stays a member and catches up, however long that \
             takes; whether it is alive, heartbeats tell (ostler.tickMs)",
            "zoo.cfg:10: admin.enableServer has no effect: there is no admin HTTP server yet: nothing listens",
        ]
    );
}

#[test]
fn settings_are_read_into_their_fields() {
    let config = with(
        "dataLogDir=/log\nclientPortAddress=[::1]\nmaxCnxns=9\njute.maxbuffer=0x400000\nskipACL=yes\n\
         zookeeper.extendedTypesEnabled=True\nemulate353TTLNodes=false\nautopurge.purgeInterval=24\n\
         4lw.commands.whitelist= ruok , mntr,\nsnapSizeLimitInKb=-1\nDigestAuthenticationProvider.digestAlg=sha-256\n\
         zookeeper.DigestAuthenticationProvider.superDigest=super:abc=\nconnection_throttle_tokens=10\n\
         connection_throttle_weight_enabled=true\nznode.container.maxNeverUsedIntervalMs=5\nmaxSessionTimeout=-1\n",
    )
    .config;
    assert_eq!(config.data.data_log_dir, Path::new("/log"));
    assert_eq!(config.listen.client.host.as_deref(), Some("::1"));
    assert_eq!(config.listen.max_connections.map(|n| n.get()), Some(9));
    assert_eq!(config.requests.max_frame_bytes.get(), 4 << 20);
    assert_eq!(config.requests.extra_bytes.get(), 4 << 20);
    assert!(config.tree.skip_acl);
    assert!(config.tree.ttl_nodes);
    assert_eq!(config.data.purge_interval, Some(Duration::from_secs(86_400)));
    assert_eq!(config.words, [Word::Ruok, Word::Mntr, Word::Srvr].into_iter().collect::<Whitelist>());
    assert_eq!(config.data.snapshot_after_log_bytes, None);
    let digest = config.auth.digest.unwrap();
    assert_eq!(digest.algorithm, DigestAlgorithm::Sha256);
    assert_eq!(digest.super_digest.unwrap().as_str(), "super:abc=");
    let throttle = config.listen.throttle.unwrap();
    assert_eq!((throttle.new_session_cost.get(), throttle.renew_session_cost.get()), (3, 2));
    assert_eq!(config.tree.cleaner.max_never_used, Some(Duration::from_millis(5)));
    assert_eq!(with("DigestAuthenticationProvider.enabled=false").config.auth.digest, None);
    let words = |mode: &str| with(mode).config.words.to_string();
    assert_eq!(words("readonlymode.enabled=true"), "isro, srvr");
    assert_eq!(words("readonlymode.enabled=true\n4lw.commands.whitelist=ruok"), "isro, ruok, srvr");
    assert_eq!(words("4lw.commands.whitelist=ruok, *"), "*");
    assert_eq!(words("4lw.commands.whitelist="), "srvr");
}

#[test]
fn all_mistakes_of_a_file_are_reported_together() {
    assert_eq!(
        complaint(
            "# a file with much wrong in it\n\
             tickTime=2s\n\
             clientPort = 70000\n\
             clientprot=2181\n\
             forceSync=no\n\
             jute.maxbuffer=0\n\
             skipACL=YES\n\
             enforceQuota=on\n\
             ssl.keyStore.password=hunter2\n\
             x=\\u00\n\
             maxSessionTimeout=1000\n\
             minSessionTimeout=5000\n"
        ),
        "zoo.cfg: 11 problems\n  \
         zoo.cfg:2: tickTime=2s: expected a whole number from 1 to 2147483647 (ms)\n  \
         zoo.cfg:3: clientPort=70000: expected a whole number from 0 to 65535 (port)\n  \
         zoo.cfg:4: clientprot: unknown setting; the nearest known one is clientPort\n  \
         zoo.cfg:5: forceSync=no is refused: acknowledged writes would be lost when the machine loses power; remove \
         it; use a throw-away dataDir on a memory file system where durability does not matter\n  \
         zoo.cfg:6: jute.maxbuffer=0: expected a whole number from 1 to 2147483647 (bytes)\n  \
         zoo.cfg:7: skipACL=YES: expected yes or no\n  \
         zoo.cfg:8: enforceQuota=on: expected true or false\n  \
         zoo.cfg:9: ssl.keyStore.password is refused: there is no TLS yet: what should be encrypted would go in \
         plain text, or not be served at all; remove the TLS settings and let a TLS proxy on this machine forward \
         to clientPort on 127.0.0.1\n  \
         zoo.cfg:10: a \\u must be followed by four hexadecimal digits; write \\\\u for a backslash and a u\n  \
         zoo.cfg:12: minSessionTimeout 5000 ms is above maxSessionTimeout 1000 ms (unset, they are 2 and 20 times \
         tickTime)\n  \
         zoo.cfg: dataDir is missing: expected dataDir=/path/to/data, where everything acknowledged is kept"
    );
}

#[test]
fn contradictions_are_errors() {
    for (lines, expected) in [
        ("clientPortAddress=a", "zoo.cfg:1: clientPortAddress is set but clientPort is not"),
        ("", "zoo.cfg: clientPort is missing: nobody could connect; expected clientPort=2181 or the like"),
        (
            "clientPort=1\nserver.1=a:1:2;3",
            "zoo.cfg:1: clientPort and the server line disagree: the latter says *:3",
        ),
        (
            "clientPort=3\nclientPortAddress=b\nserver.1=a:1:2;c:3",
            "zoo.cfg:1: clientPort and the server line disagree: the latter says c:3",
        ),
        (
            "clientPort=1\nminSessionTimeout=60001",
            "zoo.cfg:2: minSessionTimeout 60001 ms is above maxSessionTimeout 60000 ms (unset, they are 2 and 20 times \
             tickTime)",
        ),
        (
            "clientPort=1\ntickTime=2000000000\nminSessionTimeout=5",
            "zoo.cfg: maxSessionTimeout is 40000000000 ms: expected 1 to 2147483647 ms, or -1 for the default",
        ),
        (
            "clientPort=1\nconnection_throttle_tokens=2\nconnection_throttle_weight_enabled=true",
            "zoo.cfg:2: connection_throttle_tokens=2: no handshake could ever pay its weight of more",
        ),
    ] {
        let text = complaint(&format!("{lines}\ndataDir=/d"));
        assert_eq!(text, format!("zoo.cfg: 1 problem\n  {expected}"), "{lines}");
    }
}

#[test]
fn what_would_weaken_safety_is_refused_and_its_harmless_value_is_not() {
    for line in [
        "secureClientPort=2281",
        "ssl.trustStore.location=/t",
        "ssl.quorum.keyStore.location=/k",
        "ssl.whatever=1",
        "sslQuorum=true",
        "portUnification=true",
        "client.portUnification=true",
        "quorum.auth.enableSasl=true",
        "quorum.auth.whatever=true",
        "enforce.auth.enabled=true",
        "enforce.auth.schemes=sasl",
        "zookeeper.sessionRequireClientSASLAuth=true",
        "authProvider.1=org.apache.zookeeper.server.auth.SASLAuthenticationProvider",
        "audit.enable=true",
        "zookeeper.forceSync=no",
        "db.autocreate=false",
        "emulate353TTLNodes=true",
    ] {
        assert!(complaint_about(line).contains(" is refused: "), "{line}");
    }
    for line in [
        "sslQuorum=false",
        "portUnification=False",
        "quorum.auth.enableSasl=false",
        "enforce.auth.enabled=false",
        "sessionRequireClientSASLAuth=false",
        "authProvider.1=org.apache.zookeeper.server.auth.DigestAuthenticationProvider",
        "audit.enable=false",
        "forceSync=yes",
        "emulate353TTLNodes=false",
        "ssl.crl=false",
    ] {
        let loaded = with(line);
        assert_eq!(loaded.config, with("").config, "{line}");
        assert_eq!(notes(&loaded), [""; 0], "{line}");
    }
}

#[test]
fn adjusted_and_replaced_settings_leave_a_note() {
    let loaded = with(
        "snapCount=1\nautopurge.snapRetainCount=1\npreAllocSize=0\npreAllocSize=1\nzookeeper.snapCount=7\n\
         4lw.commands.whitelist=kill\njute.maxbuffer.extrasize=1",
    );
    assert_eq!(
        notes(&loaded),
        [
            "zoo.cfg:4: autopurge.snapRetainCount=1 counts as 3, the least there is",
            "zoo.cfg:6: preAllocSize replaces line 5, which sets it too",
            "zoo.cfg:6: preAllocSize=1 counts as 64, the least there is",
            "zoo.cfg:7: snapCount replaces line 3, which sets it too",
            "zoo.cfg:8: 4lw.commands.whitelist: `kill` is not a four-letter word",
            "zoo.cfg:9: jute.maxbuffer.extrasize=1 counts as 1024, the least there is",
        ]
    );
    assert_eq!(loaded.config.data.snapshot_after_transactions.get(), 7);
    assert_eq!(loaded.config.data.segment_bytes.get(), 64 << 10);
    let off = with("preAllocSize=-1");
    assert_eq!((off.config.data.segment_bytes.get(), off.notes.len()), (64 << 20, 1));
}

const PROMETHEUS: &str =
    "metricsProvider.className=org.apache.zookeeper.metrics.prometheus.PrometheusMetricsProvider\n";

#[test]
fn metrics_are_published_if_asked_for() {
    let endpoint = |lines: &str| with(&format!("{PROMETHEUS}{lines}")).config.metrics.prometheus.unwrap();
    let default = endpoint("");
    assert_eq!((default.listen.to_string().as_str(), default.process), ("*:7000", true));
    let given = endpoint(
        "metricsProvider.httpHost=[::1]\nmetricsProvider.httpPort=0\nmetricsProvider.exportJvmInfo=false\n",
    );
    assert_eq!((given.listen.to_string().as_str(), given.process), ("[::1]:0", false));

    let unused = with("metricsProvider.httpPort=1\nmetricsProvider.numWorkerThreads=2\n");
    assert_eq!(unused.config.metrics.prometheus, None);
    assert_eq!(
        notes(&unused),
        [
            "zoo.cfg:3: metricsProvider.httpPort is for metricsProvider.className=\
             org.apache.zookeeper.metrics.prometheus.PrometheusMetricsProvider and has no effect without it",
            "zoo.cfg:4: metricsProvider.numWorkerThreads has no effect: figures are counted where they arise; there is \
             no queue of samples and nobody to work it off",
        ]
    );
    let null = with("metricsProvider.className=org.apache.zookeeper.metrics.impl.NullMetricsProvider");
    assert_eq!((null.config.metrics.prometheus, null.notes.len()), (None, 1));

    let other = complaint_about("metricsProvider.className=com.example.Metrics");
    assert!(
        other.contains("className=com.example.Metrics: expected one of org.apache.zookeeper.metrics.impl.")
    );
    for (line, said) in [
        ("metricsProvider.httpPort=65536", "expected a whole number from 0 to 65535 (port)"),
        ("metricsProvider.httpHost=a/b", "expected a host name or an address"),
        ("metricsProvider.exportJvmInfo=yes", "expected true or false"),
        ("metricsProvider.httpsPort=7443", "is refused: there is no TLS yet"),
        ("metricsProvider.ssl.keyStore.location=/k", "is refused: there is no TLS yet"),
    ] {
        assert!(complaint_about(line).contains(said), "{}", complaint_about(line));
    }
}

#[test]
fn files_that_are_none_are_refused() {
    let missing = read_file(Path::new("/nonexistent/zoo.cfg"), &Overrides::default()).unwrap_err();
    assert!(matches!(missing, ConfigError::Unreadable { .. }), "{missing}");
    assert!(missing.to_string().starts_with("cannot read the configuration file /nonexistent/zoo.cfg: "));
    let endless = read_file(Path::new("/dev/zero"), &Overrides::default()).unwrap_err();
    assert!(matches!(endless, ConfigError::Unreadable { .. }), "{endless}");
    assert!(endless.to_string().contains("larger than 1048576 bytes"), "{endless}");
    let letters = complaint(&"x\n".repeat(1000));
    assert!(letters.starts_with("zoo.cfg: 1002 problems\n  zoo.cfg:1: x: unknown setting"), "{letters}");
    assert!(letters.ends_with("\n  ... and 902 more"), "{letters}");
}

#[test]
fn every_honoured_setting_is_read_and_no_other() {
    let given = [("dataDir", "/d"), ("clientPort", "1")];
    let given = given.map(|(key, value)| Given::new(Origin::BuiltIn, key, value)).into();
    let mut reader = Reader::new("zoo.cfg", given, Vec::new());
    let read: ReadFile<'_> = &|_| unreachable!("there are no server lines");
    resolve::resolve(&mut reader, &Around { read, config_file: None, server_id: None }).unwrap();
    let honoured: BTreeSet<_> = sections()
        .flat_map(|(_, rows)| rows)
        .filter(|row| row.class == Class::Honoured)
        .map(|row| row.name)
        .collect();
    assert_eq!(*reader.asked(), honoured);
}

/// The defaults of the table are those in use, and everything in use can be printed.
#[test]
fn the_summary_shows_every_honoured_setting_with_its_default() {
    let throttled = with("connection_throttle_tokens=9\nconnection_throttle_weight_enabled=true").to_json();
    let measured = with(PROMETHEUS).to_json();
    let plain = with("").to_json();
    for row in sections().flat_map(|(_, rows)| rows) {
        if row.class != Class::Honoured || row.name == "server.*" {
            continue;
        }
        let setting = |summary: &serde_json::Value| summary["settings"].get(row.name).cloned();
        let anywhere = setting(&throttled).or(setting(&measured));
        assert!(anywhere.is_some(), "{} is not printed", row.name);
        let by_default = if row.name.starts_with("metricsProvider.http") { &measured } else { &plain };
        let Some(value) = setting(by_default).filter(|_| !row.default.starts_with('(')) else { continue };
        let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let expected = if row.name == "snapSizeLimitInKb" { "4194304" } else { row.default };
        assert_eq!(shown, expected, "{}", row.name);
    }
    let secret = with("DigestAuthenticationProvider.superDigest=super:xyzzy").to_json();
    assert_eq!(secret["settings"]["DigestAuthenticationProvider.superDigest"], json!("(hidden)"));
    assert!(!secret.to_string().contains("xyzzy"));
}

/// Keys of the table, some numbers and noise: what files are made of.
fn line() -> impl Strategy<Value = String> {
    let names: Vec<_> = sections().flat_map(|(_, rows)| rows).map(|row| row.name.replace('*', "1")).collect();
    let value = prop_oneof![
        "-?[0-9]{1,20}",
        "(true|false|yes|no|\\*|0x[0-9a-f]{1,9})",
        "[a-z]{1,3}:[0-9]{1,5}:[0-9]{1,5};[0-9]{1,5}",
        "\\PC{0,10}",
    ];
    (prop::sample::select(names), value).prop_map(|(name, value)| format!("{name}={value}\n"))
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        let _ = parse("zoo.cfg", &bytes, &Overrides::default());
    }

    /// Either problems, each with a text, or a configuration that keeps its promises.
    #[test]
    fn arbitrary_settings_are_read_or_complained_about(lines in prop::collection::vec(line(), 0..6)) {
        match read(&format!("{MINIMAL}{}", lines.concat())) {
            Err(ConfigError::Invalid { problems, .. }) => prop_assert!(!problems.is_empty()),
            Err(other) => prop_assert!(false, "{other}"),
            Ok(loaded) => {
                let config = &loaded.config;
                prop_assert!(config.sessions.timeouts.min_ms() <= config.sessions.timeouts.max_ms());
                prop_assert!(config.data.segment_bytes.get() >= 64 << 10);
                prop_assert!(loaded.to_json()["settings"]["dataDir"].is_string());
            }
        }
    }
}
