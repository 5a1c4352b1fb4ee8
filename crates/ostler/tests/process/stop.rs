//! SIGTERM, once and twice.

use std::collections::BTreeSet;
use std::io::Write;

use ostler_client::Error;
use ostler_types::{CreateMode, open_acl};
use ostler_wire::{Request, Response};
use rustix::process::Signal;

use crate::kill::create;
use crate::server::{Server, block_on, command};

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
