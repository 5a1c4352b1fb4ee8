//! Everything in a tree, to be compared, and snapshots that keep it.

use std::collections::BTreeMap;
use std::path::Path;

use ostler_client::Client;
use ostler_types::{CreateMode, Stat, open_acl};
use ostler_wire::Request;

use crate::server::{Server, block_on, wait_for};

/// Path to data and Stat of every znode below the root, ZooKeeper's own included.
pub async fn dump(client: &Client) -> BTreeMap<String, (Option<Vec<u8>>, Stat)> {
    let mut all = BTreeMap::new();
    let mut left = vec!["/".to_owned()];
    while let Some(path) = left.pop() {
        let (data, stat) = client.get_data(&path, false).await.unwrap();
        let children = client.get_children(&path, false).await.unwrap();
        let parent = if path == "/" { "" } else { &path };
        left.extend(children.iter().map(|name| format!("{parent}/{name}")));
        all.insert(path, (data, stat));
    }
    all
}

/// Names in a directory that end in `suffix`.
pub fn files(dir: &Path, suffix: &str) -> Vec<std::path::PathBuf> {
    let mut found: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().ends_with(suffix))
        .collect();
    found.sort();
    found
}

#[test]
fn snapshots_are_taken_under_load_and_what_they_cover_is_purged() {
    let dir = tempfile::tempdir().unwrap();
    let settings = "snapCount=1000\npreAllocSize=64\nautopurge.purgeInterval=1";
    let ours = dir.path().join("data/ostler");
    block_on(async {
        let mut before = None;
        for round in 0..3 {
            let server = Server::start(dir.path(), settings);
            let client = server.client().await;
            if let Some(before) = before.take() {
                assert_eq!(dump(&client).await, before, "round {round}");
            }
            let mut pending = vec![];
            for i in 0..4_000 {
                let path = format!("/r{round}-{}", i % 500);
                let request = match i {
                    0..500 => {
                        let mode = if i % 7 == 0 { CreateMode::Ephemeral } else { CreateMode::Persistent };
                        crate::kill::create(&path, b"first", mode)
                    }
                    // Few enough deletes that most znodes stay.
                    3900.. if i % 5 == 0 => Request::Delete { path: path.into(), version: -1 },
                    _ => Request::SetData { path: path.into(), data: Some(&[b'x'; 200]), version: -1 },
                };
                pending.push(client.start(&request).await);
            }
            for reply in pending {
                reply.await.unwrap();
            }
            server.wait_for_log("snapshot written");
            // The log goes when there is a second snapshot to make up for it.
            if round > 0 {
                let first = ours.join(format!("{:016x}.wal", 1));
                wait_for("the log to be purged", || !first.exists());
            }
            before = Some(dump(&client).await);
            assert!(!files(&ours, ".snap").is_empty());
            server.kill();
        }
    });
    let report = crate::server::run(&["check", dir.path().join("data").to_str().unwrap()]);
    assert_eq!(report.status.code(), Some(0), "{}", crate::server::text(&report.stdout));
}

#[test]
fn a_damaged_snapshot_is_made_up_for_by_the_one_before_it() {
    for settings in ["", "autopurge.purgeInterval=1"] {
        let dir = tempfile::tempdir().unwrap();
        let settings = format!("snapCount=20\npreAllocSize=64\n{settings}");
        let ours = dir.path().join("data/ostler");
        let mut server = Server::start(dir.path(), &settings);
        let before = block_on(async {
            let client = server.client().await;
            client.create("/a", b"", &open_acl(), CreateMode::Persistent).await.unwrap();
            // So many that the log cannot still be there from its beginning.
            while files(&ours, ".snap").len() < 4 || ours.join(format!("{:016x}.wal", 1)).exists() {
                client.set_data("/a", &[b'x'; 1_000], -1).await.unwrap();
            }
            dump(&client).await
        });
        // Once by a stop, once by a crash that comes in the middle of anything.
        if settings.contains("autopurge") {
            server.kill();
        } else {
            server.stop();
        }
        let newest = files(&ours, ".snap").pop().unwrap();
        let mut bytes = std::fs::read(&newest).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&newest, bytes).unwrap();
        server = Server::start(dir.path(), &settings);
        server.wait_for_log("a snapshot is damaged");
        assert_eq!(block_on(async { dump(&server.client().await).await }), before);
        server.stop();
    }
}

#[test]
fn a_write_over_a_soft_quota_is_spoken_of_once() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), "");
    block_on(async {
        let client = server.client().await;
        let quota = "/zookeeper/quota/q";
        for (path, data) in [
            ("/q", ""),
            (quota, ""),
            (&format!("{quota}/zookeeper_limits"), "count=1,bytes=-1"),
            (&format!("{quota}/zookeeper_stats"), "count=1,bytes=0"),
            ("/q/a", ""),
            ("/q/b", ""),
        ] {
            client.create(path, data.as_bytes(), &open_acl(), CreateMode::Persistent).await.unwrap();
        }
    });
    let log = server.stop();
    assert_eq!(log.matches("a write went over a quota").count(), 1, "{log}");
}

#[test]
fn memory_stays_bounded_under_hostile_input() {
    use std::io::Write;
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), "nio.sessionlessCnxnTimeout=500");
    let hello = {
        let mut bytes = vec![];
        ostler_wire::ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: ostler_types::Zxid::ZERO,
            timeout_ms: 4_000,
            session: ostler_types::SessionId::NONE,
            password: Some(&[0; 16]),
            read_only: Some(false),
        }
        .encode(&mut bytes);
        bytes
    };
    block_on(async {
        let client = server.client().await;
        client.create("/big", &vec![b'x'; 1_000_000], &open_acl(), CreateMode::Persistent).await.unwrap();
    });
    let before = server.resident_bytes();
    let mut held = vec![];
    for i in 0..60 {
        let mut stream = std::net::TcpStream::connect(server.address).unwrap();
        stream.set_write_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
        // Each of these may be refused halfway, or not be taken any more.
        let _ = stream.write_all(&hello);
        let junk = match i % 3 {
            // Lengths of two gigabytes.
            0 => [&i32::MAX.to_be_bytes()[..], &[0; 1 << 16]].concat(),
            // Reads whose answers nobody takes.
            1 => (0..200)
                .flat_map(|xid| {
                    let mut bytes = vec![];
                    Request::GetData { path: "/big".into(), watch: false }
                        .encode(ostler_types::Xid(xid), &mut bytes);
                    bytes
                })
                .collect(),
            // Writes by the hundred megabyte, behind a read.
            _ => (0..40)
                .flat_map(|xid| {
                    let mut bytes = vec![];
                    Request::SetData { path: "/big".into(), data: Some(&[b'y'; 900_000]), version: 99 }
                        .encode(ostler_types::Xid(xid), &mut bytes);
                    bytes
                })
                .collect(),
        };
        let _ = stream.write_all(&junk);
        held.push(stream);
    }
    let during = server.resident_bytes();
    // 20 unread outputs of 1 to 2 MB, 2 x 32 MB of requests, partial frames of up to 1 MB, and the log.
    assert!(during < before + (300 << 20), "{before} -> {during}");
    block_on(async {
        let client = server.client().await;
        client.set_data("/big", b"small", -1).await.unwrap();
    });
    drop(held);
    server.stop();
}
