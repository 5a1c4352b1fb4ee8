//! The whole process stopped for longer than every session's timeout, and a log that nobody reads.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;
use std::time::Duration;

use ostler_types::{CreateMode, open_acl};
use ostler_wire::Request;
use rustix::process::{Pid, Signal, kill_process};

use crate::server::{Server, block_on, command, write_config};

#[test]
fn a_stopped_server_expires_nobody_who_waits_for_it() {
    let dir = tempfile::tempdir().unwrap();
    block_on(async {
        let server = Server::start(dir.path(), "tickTime=500");
        let mut clients = vec![];
        for i in 0..20 {
            // Without heartbeats of its own: this client waits, whatever happens.
            let options = ostler_client::ConnectOptions {
                session_timeout: Duration::from_millis(1_000),
                keep_alive: false,
                ..Default::default()
            };
            let (client, _) = ostler_client::Client::connect(server.address, &options).await.unwrap();
            client.create(&format!("/e{i}"), b"", &open_acl(), CreateMode::Ephemeral).await.unwrap();
            clients.push(client);
        }
        for round in 0..2 {
            server.signal(Signal::STOP);
            // Half of them have asked while it was stopped, half have given up on their connections.
            let mut pending = vec![];
            for client in &clients[..10] {
                pending.push(client.start(&Request::Ping).await);
            }
            for client in &clients[10..] {
                client.disconnect().await;
            }
            // The point of the test is time that passes while the server does not run.
            tokio::time::sleep(Duration::from_millis(2_500)).await;
            server.signal(Signal::CONT);
            for reply in pending {
                reply.await.unwrap();
            }
            for client in &mut clients[10..] {
                *client = server.connect(1_000, Some(client.session().clone())).await.0;
            }
            for (i, client) in clients.iter().enumerate() {
                let there = client.exists(&format!("/e{i}"), false).await.unwrap();
                assert!(there.is_some(), "session {i} expired in round {round}");
            }
        }
        let log = server.stop();
        assert!(log.matches("this server stood still").count() >= 2, "{log}");
    });
}

#[test]
fn a_log_that_nobody_reads_holds_nobody_up() {
    let dir = tempfile::tempdir().unwrap();
    let config = write_config(dir.path(), "");
    let mut child = command()
        .args(["serve", "--log-level", "debug"])
        .arg(config)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut greeting = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut greeting).unwrap();
    let address: std::net::SocketAddr = greeting.trim().rsplit(' ').next().unwrap().parse().unwrap();
    // Several times what a pipe holds.
    const SESSIONS: usize = 1_500;
    block_on(async {
        for _ in 0..SESSIONS {
            let options = ostler_client::ConnectOptions::default();
            let (client, _) = ostler_client::Client::connect(address, &options).await.unwrap();
            client.close().await.unwrap();
        }
    });
    // Nothing is lost when it is read at last.
    let mut stderr = child.stderr.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut log = String::new();
        stderr.read_to_string(&mut log).unwrap();
        log
    });
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let log = reader.join().unwrap();
    assert!(log.len() > 3 * (64 << 10), "only {} bytes: no pipe was full", log.len());
    assert_eq!(log.matches(" session ended ").count(), SESSIONS);
    assert!(log.trim_end().ends_with("stopped"), "{log}");
}
