//! Starting where it must not: refused, with the reason, and nothing touched.

use std::fs;
use std::os::unix::fs::FileExt;

use ostler_types::{CreateMode, open_acl};

use crate::content::files;
use crate::server::{Server, block_on, run, text, write_config};

#[test]
fn a_second_server_on_the_same_data_is_refused_and_the_first_serves_on() {
    let dir = tempfile::tempdir().unwrap();
    let first = Server::start(dir.path(), "");
    let second = run(&["serve", dir.path().join("zoo.cfg").to_str().unwrap()]);
    let message = text(&second.stderr);
    assert_eq!(second.status.code(), Some(3), "{message}");
    assert!(message.contains("in use by another server"), "{message}");
    assert!(message.contains(&format!("pid {}", first.pid())), "{message}");
    assert!(message.contains(dir.path().join("data/ostler").to_str().unwrap()), "{message}");
    block_on(async { first.client().await.close().await.unwrap() });
    first.stop();
}

#[test]
fn a_port_in_use_is_refused_before_any_data_is_touched() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = Server::start(dir.path(), "");
    let config = write_config(other.path(), "");
    let listen = first.address.to_string();
    let second = run(&["serve", config.to_str().unwrap(), "--listen", &listen]);
    let message = text(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{message}");
    assert!(message.contains(&listen), "{message}");
    assert!(!other.path().join("data").exists());
}

#[test]
fn data_of_zookeeper_is_never_silently_started_empty_beside() {
    let dir = tempfile::tempdir().unwrap();
    let theirs = dir.path().join("data/version-2");
    fs::create_dir_all(&theirs).unwrap();
    fs::write(theirs.join("log.1"), b"ZKLG").unwrap();
    fs::write(theirs.join("snapshot.0"), b"ZKSN").unwrap();
    let config = write_config(dir.path(), "");
    let refused = run(&["serve", config.to_str().unwrap()]);
    let message = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(3), "{message}");
    assert!(message.contains("Apache ZooKeeper") && message.contains("version-2"), "{message}");
    assert!(!dir.path().join("data/ostler").exists(), "nothing is left behind");
}

#[test]
fn damage_in_the_log_is_refused_with_file_and_offset_and_check_reports_it() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), "");
    block_on(async {
        let client = server.client().await;
        for i in 0..50 {
            let path = format!("/n{i}");
            client.create(&path, &[b'x'; 1000], &open_acl(), CreateMode::Persistent).await.unwrap();
        }
    });
    server.stop();
    let data = dir.path().join("data");
    let data = data.to_str().unwrap();
    assert_eq!(run(&["check", data]).status.code(), Some(0));

    // In the middle of what was written, with good records after it.
    let segment = files(&dir.path().join("data/ostler"), ".wal").remove(0);
    let file = fs::OpenOptions::new().read(true).write(true).open(&segment).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 20_000).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 20_000).unwrap();
    let before = fs::read(&segment).unwrap();

    let refused = run(&["serve", dir.path().join("zoo.cfg").to_str().unwrap()]);
    let message = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(3), "{message}");
    let name = segment.file_name().unwrap().to_str().unwrap();
    assert!(message.contains(name) && message.contains("offset"), "{message}");
    assert_eq!(fs::read(&segment).unwrap(), before, "the evidence is left alone");

    let check = run(&["check", data]);
    let report = text(&check.stdout);
    assert_eq!(check.status.code(), Some(3), "{report}");
    assert!(report.contains(name) && report.contains("offset"), "{report}");
    let json: serde_json::Value = serde_json::from_slice(&run(&["check", data, "--json"]).stdout).unwrap();
    assert_eq!(json["good"], false);
}

#[test]
fn a_torn_tail_is_cut_and_said_so() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), "");
    block_on(async {
        let (client, acl) = (server.client().await, open_acl());
        client.create("/kept", b"", &acl, CreateMode::Persistent).await.unwrap();
        client.create("/torn", &[b'x'; 8_000], &acl, CreateMode::Persistent).await.unwrap();
    });
    server.kill();
    // As a power cut leaves a write of many sectors that was under way: its end has not reached the disk.
    let segment = files(&dir.path().join("data/ostler"), ".wal").remove(0);
    let bytes = fs::read(&segment).unwrap();
    let data = bytes.windows(100).position(|window| window.iter().all(|&b| b == b'x')).unwrap();
    let lost = (data + 1_024).next_multiple_of(512);
    let file = fs::OpenOptions::new().write(true).open(&segment).unwrap();
    file.write_all_at(&vec![0; bytes.len() - lost], lost as u64).unwrap();

    let server = Server::start(dir.path(), "");
    block_on(async {
        let client = server.client().await;
        assert!(client.exists("/kept", false).await.unwrap().is_some());
        assert!(client.exists("/torn", false).await.unwrap().is_none());
    });
    let log = server.stop();
    assert!(log.contains("a crash had interrupted"), "{log}");
}

#[test]
fn contradictions_in_the_configuration_are_usage_errors() {
    for (settings, named) in [
        ("minSessionTimeout=5000\nmaxSessionTimeout=4000", "minSessionTimeout"),
        ("secureClientPort=2281", "secureClientPort"),
        ("forceSync=no", "forceSync"),
        ("tickTime=0", "tickTime"),
        ("clientPort=99999", "clientPort"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let config = write_config(dir.path(), settings);
        let refused = run(&["serve", config.to_str().unwrap()]);
        let message = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{settings}: {message}");
        assert!(message.contains(named), "{message}");
        assert!(!dir.path().join("data").exists(), "nothing was touched");
    }
}
