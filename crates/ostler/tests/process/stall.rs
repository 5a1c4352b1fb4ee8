//! The whole process stopped for longer than every session's timeout.

use std::time::Duration;

use ostler_types::{CreateMode, open_acl};
use ostler_wire::Request;
use rustix::process::Signal;

use crate::server::{Server, block_on};

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
        server.stop();
    });
}
