//! The Prometheus endpoint of a real server, scraped over HTTP.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use ostler_client::{Client, ConnectOptions};
use ostler_server::config::{self, Overrides};
use ostler_server::{Server, StartError};
use ostler_types::{CreateMode, open_acl};

const PROMETHEUS: &str =
    "metricsProvider.className=org.apache.zookeeper.metrics.prometheus.PrometheusMetricsProvider\n";
/// How long a test waits for something that must happen. Only a bug makes it wait that long.
const PATIENCE: Duration = Duration::from_secs(60);

fn start(settings: &str) -> Result<(Server, tempfile::TempDir), StartError> {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "dataDir={}\nclientPort=0\nclientPortAddress=127.0.0.1\npreAllocSize=1024\n\
         4lw.commands.whitelist=*\n{PROMETHEUS}metricsProvider.httpHost=127.0.0.1\n{settings}",
        dir.path().display()
    );
    let loaded = config::parse("zoo.cfg", text.as_bytes(), &Overrides::default()).unwrap();
    Ok((Server::start(loaded.config)?, dir))
}

fn serve(settings: &str) -> (Server, SocketAddr, tempfile::TempDir) {
    let (server, dir) = start(&format!("metricsProvider.httpPort=0\n{settings}")).unwrap();
    let address = server.metrics_address().unwrap();
    (server, address, dir)
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends a request and reads to the end: head and body.
fn ask(address: SocketAddr, request: &str) -> (String, String) {
    let mut stream = connect(address);
    stream.write_all(format!("{request}\r\nHost: metrics\r\n\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {answer}"));
    (head.to_ascii_lowercase(), body.to_owned())
}

fn scrape(address: SocketAddr) -> Exposition {
    let (head, body) = ask(address, "GET /metrics HTTP/1.1");
    assert!(head.starts_with("http/1.1 200 ok\r\n"), "{head}");
    assert!(head.contains("\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    assert!(head.contains(&format!("\r\ncontent-length: {}", body.len())), "{head}");
    Exposition::read(&body)
}

fn word(server: &Server, word: &str) -> String {
    let mut stream = connect(server.address());
    stream.write_all(word.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// A text in Prometheus's format, version 0.0.4, taken apart strictly.
struct Exposition {
    /// Type by name.
    types: BTreeMap<String, String>,
    /// Value by name and labels, as written.
    samples: BTreeMap<String, f64>,
}

impl Exposition {
    #[track_caller]
    fn read(text: &str) -> Exposition {
        let mut all = Exposition { types: BTreeMap::new(), samples: BTreeMap::new() };
        let (mut helped, mut current) = (String::new(), (String::new(), String::new()));
        assert!(text.ends_with('\n'));
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect(line);
                assert!(!help.is_empty(), "{line}");
                helped = name.to_owned();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect(line);
                assert_eq!(name, helped, "HELP comes first");
                assert!(["gauge", "counter", "summary"].contains(&kind), "{line}");
                current = (name.to_owned(), kind.to_owned());
                assert_eq!(all.types.insert(name.to_owned(), kind.to_owned()), None, "{name} twice");
            } else {
                let (id, value) = line.rsplit_once(' ').expect(line);
                let value = value.parse().unwrap_or_else(|_| panic!("{line}"));
                let (name, labels) = id.split_once('{').map_or((id, None), |(name, rest)| (name, Some(rest)));
                let legal = |name: &str| {
                    !name.starts_with(|c: char| c.is_ascii_digit())
                        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
                };
                assert!(legal(name), "{line}");
                if let Some(labels) = labels {
                    let labels = labels.strip_suffix("\"}").expect(line);
                    let (label, value) = labels.split_once("=\"").expect(line);
                    let unescaped = value.replace(r"\\", "").replace("\\\"", "");
                    assert!(legal(label) && !unescaped.contains(['"', '\\']), "{line}");
                }
                let of_summary = ["_sum", "_count", ""].map(|end| format!("{}{end}", current.0));
                match &*current.1 {
                    "summary" => assert!(of_summary.iter().any(|of| of == name), "{line} in {}", current.0),
                    _ => assert_eq!(name, current.0, "{line}"),
                }
                assert_eq!(all.samples.insert(id.to_owned(), value), None, "{id} twice");
            }
        }
        all
    }

    #[track_caller]
    fn value(&self, sample: &str) -> f64 {
        *self.samples.get(sample).unwrap_or_else(|| panic!("{sample} in {:?}", self.samples.keys()))
    }
}

#[tokio::test]
async fn what_happens_is_counted() {
    let (server, metrics, _dir) = serve("maxClientCnxns=2\n");
    let before = scrape(metrics);
    // No packets but those of this test.
    let options = ConnectOptions { keep_alive: false, ..ConnectOptions::default() };
    let (client, _events) = Client::connect(server.address(), &options).await.unwrap();
    for (path, mode) in [("/a", CreateMode::Persistent), ("/b", CreateMode::Ephemeral)] {
        client.create(path, b"data", &open_acl(), mode).await.unwrap();
    }
    assert!(client.exists("/none", true).await.unwrap().is_none());
    let after = scrape(metrics);
    for (name, kind, more) in [
        ("znode_count", "gauge", 2.0),
        ("ephemerals_count", "gauge", 1.0),
        ("watch_count", "gauge", 1.0),
        ("global_sessions", "gauge", 1.0),
        ("num_alive_connections", "gauge", 1.0),
        ("packets_received", "gauge", 4.0),
        ("packets_sent", "gauge", 4.0),
        ("approximate_data_size", "gauge", 12.0),
        ("connection_rejected", "counter", 0.0),
        ("ostler_sessions_created", "counter", 1.0),
    ] {
        assert_eq!(after.value(name) - before.value(name), more, "{name}");
        assert_eq!(after.types[name], kind, "{name}");
    }
    let fsyncs = after.value("fsynctime_count") - before.value("fsynctime_count");
    assert!(fsyncs >= 3.0, "{fsyncs} for a session and two writes, one after the other");
    assert!(after.value("bytes_received_count") > before.value("bytes_received_count"));
    assert!(after.value("ostler_applied_index") > before.value("ostler_applied_index"));
    assert_eq!(after.types["fsynctime"], "summary");
    assert!(after.value("fsynctime{quantile=\"0.5\"}") > 0.0);
    assert!(after.value("fsynctime_sum") > 0.0);
    assert_eq!(after.value("dbinittime_count"), 1.0);
    assert_eq!(after.value("ostler_log_has_room"), 1.0);
    assert_eq!(after.value("ostler_server_state{server_state=\"standalone\"}"), 1.0);

    // maxClientCnxns=2: the third connection is reset.
    let _second = connect(server.address());
    let mut third = connect(server.address());
    assert!(third.read(&mut [0]).map_or(true, |count| count == 0));
    assert_eq!(scrape(metrics).value("connection_rejected"), 1.0);
    client.close().await.unwrap();
    server.stop();
}

#[tokio::test]
async fn quotas_are_summed_by_their_top_level_znode() {
    let (server, metrics, _dir) = serve("");
    let (client, _events) = Client::connect(server.address(), &ConnectOptions::default()).await.unwrap();
    let create = async |path: &str, data: &str| {
        client.create(path, data.as_bytes(), &open_acl(), CreateMode::Persistent).await.unwrap();
    };
    for znode in ["/app", "/app/a", "/app/b", "/app\"2"] {
        create(znode, "").await;
        create(&format!("/zookeeper/quota{znode}"), "").await;
    }
    assert_eq!(scrape(metrics).types.get("quota_count_limit_per_namespace"), None);
    for (subtree, limits) in [
        ("/app/a", "count=5,bytes=7=;byteHardLimit=100;countHardLimit=-1"),
        ("/app/b", "count=3,bytes=11"),
        ("/app\"2", "count=1,bytes=-1"),
    ] {
        create(&format!("/zookeeper/quota{subtree}/zookeeper_stats"), "count=0,bytes=0").await;
        create(&format!("/zookeeper/quota{subtree}/zookeeper_limits"), limits).await;
    }
    client.set_data("/app/b", b"1234", -1).await.unwrap();
    let (exposition, mntr) = (scrape(metrics), word(&server, "mntr"));
    for (name, app, app2) in [
        ("quota_count_limit_per_namespace", 8.0, 1.0),
        ("quota_bytes_limit_per_namespace", 111.0, -1.0),
        ("quota_count_usage_per_namespace", 2.0, 1.0),
        ("quota_bytes_usage_per_namespace", 4.0, 0.0),
    ] {
        assert_eq!(exposition.value(&format!("{name}{{key=\"app\"}}")), app, "{name}");
        assert_eq!(exposition.value(&format!("{name}{{key=\"app\\\"2\"}}")), app2, "{name}");
        assert!(mntr.contains(&format!("\nzk_app_{name}\t{app}\n")), "{name} in {mntr}");
    }
    client.close().await.unwrap();
    server.stop();
}

#[test]
fn what_mntr_shows_is_there() {
    let (server, metrics, _dir) = serve("");
    let text = word(&server, "mntr");
    let exposition = scrape(metrics);
    let mut summaries = 0;
    for line in text.lines() {
        let (key, value) = line.split_once('\t').unwrap();
        let key = key.strip_prefix("zk_").unwrap();
        if ["version", "server_state"].contains(&key) {
            assert_eq!(exposition.value(&format!("ostler_{key}{{{key}=\"{value}\"}}")), 1.0);
        } else if let Some(kind) = exposition.types.get(key) {
            assert_ne!(kind, "summary", "{key}");
            exposition.value(key);
        } else {
            let (part, name) = key.split_once('_').unwrap();
            assert_eq!(exposition.types.get(name).map(String::as_str), Some("summary"), "{key}");
            summaries += 1;
            match part {
                "cnt" => _ = exposition.value(&format!("{name}_count")),
                "sum" => _ = exposition.value(&format!("{name}_sum")),
                "avg" | "min" | "max" => {}
                _ => panic!("{key}"),
            }
        }
    }
    assert!(summaries >= 5);
    for sample in ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_start_time_seconds"]
    {
        assert!(exposition.value(sample) > 0.0, "{sample}");
    }
    assert!(exposition.value("open_file_descriptor_count") > 0.0);

    let document = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/operations.md");
    let document = std::fs::read_to_string(document).unwrap();
    for name in exposition.types.keys().filter(|name| name.starts_with("ostler_")) {
        assert!(
            document.contains(&format!("`{name}")),
            "docs/operations.md, \"Metrics\", does not list {name}"
        );
    }
    server.stop();
}

#[test]
fn figures_of_the_process_can_be_left_out() {
    let (server, metrics, _dir) = serve("metricsProvider.exportJvmInfo=false\n");
    let exposition = scrape(metrics);
    assert!(exposition.types.contains_key("znode_count"));
    assert!(!exposition.types.keys().any(|name| name.starts_with("process_")), "{:?}", exposition.types);
    server.stop();
}

#[test]
fn nothing_else_is_served() {
    let (server, metrics, _dir) = serve("");
    for (request, status) in [
        ("GET / HTTP/1.1", "404 not found"),
        ("GET /metrics/ HTTP/1.1", "404 not found"),
        ("GET /commands/stat HTTP/1.1", "404 not found"),
        ("POST /metrics HTTP/1.1", "405 method not allowed"),
        ("TRACE /metrics HTTP/1.1", "405 method not allowed"),
        ("GET /metrics?x=y HTTP/1.0", "200 ok"),
        ("HEAD /metrics HTTP/1.1", "200 ok"),
        ("nonsense", "400 bad request"),
    ] {
        let (head, body) = ask(metrics, request);
        assert!(
            head.starts_with(&format!("http/1.1 {status}"))
                || head.starts_with(&format!("http/1.0 {status}")),
            "{request}: {head}"
        );
        assert_eq!(body.contains("znode_count"), request.starts_with("GET /metrics?"), "{request}");
    }
    // Whether the answer survives that the rest of the request is never read is up to TCP.
    let mut endless = connect(metrics);
    let _ = endless.write_all(format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(1 << 20)).as_bytes());
    let mut answer = Vec::new();
    let _ = endless.read_to_end(&mut answer);
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{}", answer.escape_ascii());
    scrape(metrics);
    server.stop();
}

#[tokio::test]
async fn slow_scrapers_hold_nobody_up() {
    let (server, metrics, _dir) = serve("");
    // More than are served at once; some ask for nothing, some for half, some never read what they get.
    let mut slow: Vec<TcpStream> = (0..64).map(|_| connect(metrics)).collect();
    for (index, stream) in slow.iter_mut().enumerate() {
        let request = "GET /metrics HTTP/1.1\r\nHost: metrics\r\n\r\n";
        let sent = [0, request.len() / 2, request.len()][index % 3];
        stream.write_all(&request.as_bytes()[..sent]).unwrap();
    }
    let (client, _events) = Client::connect(server.address(), &ConnectOptions::default()).await.unwrap();
    for number in 0..100 {
        client.create(&format!("/a{number}"), b"", &open_acl(), CreateMode::Persistent).await.unwrap();
    }
    assert!(word(&server, "mntr").contains("zk_znode_count"));
    client.close().await.unwrap();
    // Nor do they hold up the stop.
    server.stop();
    drop(slow);
}

#[test]
fn a_port_that_is_taken_is_said_before_anything_is_touched() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let error =
        start(&format!("metricsProvider.httpPort={port}\n")).err().expect("it cannot start").to_string();
    assert!(error.starts_with(&format!("cannot listen on 127.0.0.1:{port} for metrics: ")), "{error}");
    assert!(error.ends_with("choose another port with metricsProvider.httpPort"), "{error}");
}

#[test]
fn without_the_provider_nothing_listens() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "dataDir={}\nclientPort=0\nclientPortAddress=127.0.0.1\npreAllocSize=1024\n",
        dir.path().display()
    );
    let loaded = config::parse("zoo.cfg", text.as_bytes(), &Overrides::default()).unwrap();
    let server = Server::start(loaded.config).unwrap();
    assert_eq!(server.metrics_address(), None);
    server.stop();
}
