//! The port whose reads are linearizable.

use ostler_client::{Client, ConnectOptions};
use ostler_types::{CreateMode, open_acl};

use crate::member_servers::Ensemble;
use crate::server::{PATIENCE, block_on};

/// What is acknowledged on one server is there on every other as soon as it is asked for.
#[test]
fn no_read_is_stale() {
    let mut ensemble = Ensemble::new(3);
    let members = [1, 2, 3].map(|id| (id, "participant"));
    for id in [1, 2, 3] {
        let port = ensemble.spare_address(id).port();
        ensemble.configure(id, &members, &format!("linearizableClientPort={port}"));
        ensemble.start(id);
    }
    for id in [1, 2, 3] {
        ensemble.wait_for_mode(id, &["leader", "follower"]);
    }
    block_on(async {
        let writer = ensemble.client(1).await;
        let mut readers = Vec::new();
        for id in [1, 2, 3] {
            let options = ConnectOptions { connect_timeout: PATIENCE, ..ConnectOptions::default() };
            readers.push(Client::connect(ensemble.spare_address(id), &options).await.unwrap().0);
        }
        writer.create("/n", b"", &open_acl(), CreateMode::Persistent).await.unwrap();
        for version in 1..=200 {
            writer.set_data("/n", b"x", -1).await.unwrap();
            for reader in &readers {
                assert_eq!(reader.exists("/n", false).await.unwrap().unwrap().version, version);
            }
        }
    });
}
