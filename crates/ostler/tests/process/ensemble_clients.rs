//! What clients of an ensemble may rely on, whichever server they are connected to.

use std::time::{Duration, Instant};

use ostler_client::{ConnectError, LossCause};
use ostler_types::{CreateMode, open_acl};

use crate::content::dump;
use crate::ensemble::Ensemble;
use crate::server::block_on;

#[test]
fn what_is_written_on_one_server_is_read_on_the_others_after_a_sync() {
    let ensemble = Ensemble::form(&[]);
    block_on(async {
        let mut clients = Vec::new();
        for server in &ensemble.servers {
            clients.push(server.client().await);
        }
        for (writer, client) in clients.iter().enumerate() {
            let path = format!("/from-{writer}");
            client.create(&path, b"first", &open_acl(), CreateMode::Persistent).await.unwrap();
            for round in 0..20 {
                let data = format!("round {round}");
                client.set_data(&path, data.as_bytes(), -1).await.unwrap();
                for reader in &clients {
                    reader.sync(&path).await.unwrap();
                    let (read, _) = reader.get_data(&path, false).await.unwrap();
                    assert_eq!(read.as_deref(), Some(data.as_bytes()));
                }
            }
        }
        let all = dump(&clients[0]).await;
        assert!(dump(&clients[1]).await == all && dump(&clients[2]).await == all);
    });
}

#[test]
fn a_session_moves_to_another_server_with_its_ephemerals() {
    let mut ensemble = Ensemble::form(&[]);
    let leader = ensemble.wait_until_all_serve();
    block_on(async {
        let client = ensemble.servers[leader].client().await;
        client.create("/mine", b"", &open_acl(), CreateMode::Ephemeral).await.unwrap();
        let session = client.session().clone();
        ensemble.servers[leader].kill();
        client.ended().await;
        for other in [1, 2].map(|step| (leader + step) % 3) {
            let moved = ensemble.servers[other].connect(30_000, Some(session.clone())).await;
            assert_eq!((moved.session().id, &moved.session().password), (session.id, &session.password));
            let stat = moved.exists("/mine", false).await.unwrap().expect("the ephemeral is there");
            assert_eq!(stat.ephemeral_owner, session.id);
            moved.set_data("/mine", b"still mine", -1).await.unwrap();
        }
        let watcher = ensemble.servers[(leader + 1) % 3].client().await;
        let last = ensemble.servers[(leader + 2) % 3].connect(30_000, Some(session)).await;
        last.close().await.unwrap();
        watcher.sync("/").await.unwrap();
        assert_eq!(watcher.exists("/mine", false).await.unwrap(), None, "it ends with its session");
    });
}

/// Without a majority nobody can know whether a client has moved on: its write waits for a while, and then the
/// connection closes. No session expires, however long it takes.
#[test]
fn without_a_majority_connections_close_and_sessions_live_on() {
    let mut ensemble = Ensemble::form(&["tickTime=500", "ostler.tickMs=20"]);
    let timeout = Duration::from_millis(1_500);
    block_on(async {
        let left = &ensemble.servers[0];
        let client = left.connect(1_500, None).await;
        assert_eq!(client.session().timeout, timeout);
        client.create("/mine", b"", &open_acl(), CreateMode::Ephemeral).await.unwrap();
        let session = client.session().clone();
        for other in [1, 2] {
            ensemble.servers[other].kill();
        }
        let lost = client.create("/parked", b"", &open_acl(), CreateMode::Persistent).await;
        assert!(lost.is_err(), "nobody can have committed it");
        assert!(matches!(client.ended().await, LossCause::ClosedByServer));

        // For several timeouts it is turned away, and never told that its session is gone.
        let left = &ensemble.servers[0];
        let turned_away = Instant::now();
        while turned_away.elapsed() < 3 * timeout {
            match left.try_connect(1_500, Some(session.clone())).await {
                Err(ConnectError::Refused | ConnectError::Io(_)) => {}
                other => panic!("{other:?}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for other in [1, 2] {
            ensemble.servers[other].start();
        }
        let client = ensemble.servers[0].connect(1_500, Some(session.clone())).await;
        let stat = client.exists("/mine", false).await.unwrap().expect("the ephemeral is there");
        assert_eq!(stat.ephemeral_owner, session.id);
        client.set_data("/mine", b"", -1).await.unwrap();
    });
}
