//! SIGTERM, once and twice.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use ostler_client::Error;
use ostler_types::{CreateMode, open_acl};
use ostler_wire::{Request, Response};
use rustix::process::{Pid, Signal, kill_process};

use crate::kill::create;
use crate::server::{Server, block_on, command, text, wait_for, write_config};

#[test]
fn sigterm_answers_every_write_that_it_keeps() {
    let dir = tempfile::tempdir().unwrap();
    block_on(async {
        for round in 0..4 {
            let server = Server::start(dir.path(), "");
            let home = format!("/r{round}");
            let mut clients = vec![];
            for _ in 0..4 {
                clients.push(server.client().await);
            }
            clients[0].create(&home, b"", &open_acl(), CreateMode::Persistent).await.unwrap();
            let mut pending = vec![];
            for i in 0..2_000 {
                let request = create(&format!("{home}/n-"), b"", CreateMode::PersistentSequential);
                pending.push(clients[i % 4].start(&request).await);
            }
            // Somewhere in the middle.
            let mut acknowledged = BTreeSet::new();
            let mut stopped = false;
            for (i, reply) in pending.into_iter().enumerate() {
                match reply.await {
                    Ok(reply) => {
                        let Response::Path { path } = reply.response else { panic!("{reply:?}") };
                        acknowledged.insert(path.rsplit('/').next().unwrap().to_owned());
                    }
                    Err(Error::OutcomeUnknown(_) | Error::NotSent(_)) => {}
                    Err(error) => panic!("{error}"),
                }
                if i == 50 * round && !stopped {
                    server.signal(Signal::TERM);
                    stopped = true;
                }
            }
            let (status, log) = server.wait();
            assert_eq!(status.code(), Some(0), "{log}");
            let server = Server::start(dir.path(), "");
            let kept = server.client().await.get_children(&home, false).await.unwrap();
            assert_eq!(kept.into_iter().collect::<BTreeSet<_>>(), acknowledged, "round {round}");
            server.stop();
        }
    });
}

#[test]
fn a_second_signal_stops_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), "");
    // Somebody who does not read and does not close keeps a graceful stop waiting.
    let mut deaf = std::net::TcpStream::connect(server.address).unwrap();
    block_on(async {
        let client = server.client().await;
        client.create("/big", &vec![b'x'; 1_000_000], &open_acl(), CreateMode::Persistent).await.unwrap();
    });
    let mut bytes = vec![];
    ostler_wire::ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: ostler_types::Zxid::ZERO,
        timeout_ms: 30_000,
        session: ostler_types::SessionId::NONE,
        password: Some(&[0; 16]),
        read_only: None,
    }
    .encode(&mut bytes);
    for xid in 0..100 {
        Request::GetData { path: "/big".into(), watch: false }.encode(ostler_types::Xid(xid), &mut bytes);
    }
    deaf.write_all(&bytes).unwrap();
    block_on(async { server.client().await.sync("/").await.unwrap() });
    server.signal(Signal::TERM);
    server.wait_for_log("a second signal stops at once");
    server.signal(Signal::TERM);
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("acknowledged writes are safe"), "{log}");
    Server::start(dir.path(), "").stop();
}

#[test]
fn the_end_of_a_session_is_logged_by_the_run_it_happened_in() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(dir.path(), "");
    block_on(async { server.client().await.close().await.unwrap() });
    assert!(server.stop().contains("session ended"));
    let log = Server::start(dir.path(), "").stop();
    assert!(!log.contains("session ended"), "{log}");
}

#[test]
fn a_signal_while_the_data_is_read_stops_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let ours = dir.path().join("data/ostler");
    std::fs::create_dir_all(&ours).unwrap();
    // Reading this never ends.
    assert!(Command::new("mkfifo").arg(ours.join("identity")).status().unwrap().success());
    let config = write_config(dir.path(), "");
    let mut child = command().arg("serve").arg(config).stderr(Stdio::piped()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    wait_for("the program to catch SIGTERM", || {
        let status = std::fs::read_to_string(&status).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        u64::from_str_radix(caught.trim(), 16).unwrap() >> (Signal::TERM.as_raw() - 1) & 1 == 1
    });
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let mut ended = None;
    wait_for("it to end", || {
        ended = child.try_wait().unwrap();
        ended.is_some()
    });
    let log = text(&child.wait_with_output().unwrap().stderr);
    assert_eq!(ended.unwrap().code(), Some(1), "{log}");
    assert!(log.contains("before it served"), "{log}");
}

#[test]
fn without_a_file_it_says_where_everything_is() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::spawn(command().args(["serve", "--listen", "127.0.0.1:0"]).current_dir(dir.path()));
    let data = dir.path().canonicalize().unwrap().join("ostler-data");
    assert!(server.greeting.contains(&format!("{}\n", data.display())), "{}", server.greeting);
    assert!(server.greeting.contains(&server.address.to_string()), "{}", server.greeting);
    assert!(
        server.greeting.contains(&format!("connection string {}", server.address)),
        "{}",
        server.greeting
    );
    assert!(data.join("ostler").is_dir());
    block_on(async { server.client().await.close().await.unwrap() });
    server.stop();
}
