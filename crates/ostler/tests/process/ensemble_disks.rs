//! Disks of an ensemble that are wiped, mixed up, copied or restored from a backup, and servers that come back late.

use ostler_client::Client;
use ostler_types::{CreateMode, open_acl};
use ostler_wire::Request;

use crate::content::{dump, files};
use crate::ensemble::{Ensemble, Member};
use crate::server::block_on;

/// Creates `/NAME-0` and so on.
async fn write(client: &Client, name: &str, count: usize) {
    let mut pending = Vec::new();
    for number in 0..count {
        let create = crate::kill::create(&format!("/{name}-{number}"), b"data", CreateMode::Persistent);
        pending.push(client.start(&create).await);
    }
    for reply in pending {
        reply.await.unwrap();
    }
}

/// All servers that run have the same.
async fn compare(servers: &[Member]) {
    let mut all = Vec::new();
    for server in servers.iter().filter(|server| server.runs()) {
        let client = server.client().await;
        client.sync("/").await.unwrap();
        all.push(dump(&client).await);
        client.disconnect().await;
    }
    assert!(all.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn a_server_whose_disk_was_wiped_is_replaced_and_catches_up() {
    let mut ensemble = Ensemble::form(&[]);
    block_on(async {
        let client = ensemble.servers[0].client().await;
        write(&client, "before", 200).await;
        client.close().await.unwrap();
    });
    let wiped = ensemble.wait_until_all_serve();
    ensemble.servers[wiped].stop();
    ensemble.servers[wiped].wipe();
    ensemble.servers[wiped].start();
    ensemble.wait_until_all_serve();
    // It votes: a majority of three does without any other one.
    let other = (wiped + 1) % 3;
    ensemble.servers[wiped].wait_for_log("voters=3 learners=0");
    ensemble.servers[other].kill();
    ensemble.wait_until_all_serve();
    block_on(async {
        let client = ensemble.servers[wiped].client().await;
        write(&client, "after", 200).await;
        client.close().await.unwrap();
        ensemble.servers[other].start();
        ensemble.wait_until_all_serve();
        compare(&ensemble.servers).await;
    });
}

#[test]
fn a_server_that_comes_back_late_is_brought_up_by_a_snapshot() {
    let mut ensemble = Ensemble::form(&["snapCount=100", "preAllocSize=64"]);
    let late = ensemble.follower();
    ensemble.servers[late].stop();
    block_on(async {
        // The others forget the entries that it misses: they start again from snapshots.
        for round in 0..2 {
            let at = (late + 1) % 3;
            let client = ensemble.servers[at].client().await;
            write(&client, &format!("round-{round}"), 1_000).await;
            for name in ["round-0-0", "round-0-1"].map(|name| format!("/{name}")) {
                client.call(&Request::SetData { path: name.into(), data: None, version: -1 }).await.unwrap();
            }
            client.close().await.unwrap();
            for other in [(late + 1) % 3, (late + 2) % 3] {
                ensemble.servers[other].stop();
                ensemble.servers[other].start();
                ensemble.wait_until_all_serve();
            }
        }
        ensemble.servers[late].start();
        ensemble.wait_until_all_serve();
        ensemble.servers[late].wait_for_log("this server is behind and fetches a snapshot");
        compare(&ensemble.servers).await;
    });
}

#[test]
fn a_server_with_the_data_of_another_cluster_is_refused_on_both_sides() {
    let mut ensemble = Ensemble::form(&[]);
    let mut foreign = Ensemble::form(&[]);
    foreign.servers.iter_mut().for_each(Member::stop);
    ensemble.servers[2].stop();
    ensemble.servers[2].restore(&foreign.servers[2].data_dir);
    ensemble.servers[2].start();
    for server in &ensemble.servers {
        server.wait_for_log("but server");
        assert!(
            server.log().contains("belongs to cluster") && server.log().contains("remedy"),
            "{}",
            server.log()
        );
    }
    block_on(async {
        write(&ensemble.servers[0].client().await, "meanwhile", 10).await;
        // What it holds is never mixed with the ensemble's.
        assert_eq!(ensemble.servers[2].mode(), None);
        ensemble.servers[2].kill();
        ensemble.servers[2].wipe();
        ensemble.servers[2].start();
        ensemble.wait_until_all_serve();
        compare(&ensemble.servers).await;
    });
}

#[test]
fn a_disk_that_runs_twice_is_refused() {
    let mut ensemble = Ensemble::form(&[]);
    ensemble.servers[1].stop();
    ensemble.servers[2].stop();
    let original = ensemble.servers[1].data_dir.clone();
    ensemble.servers[2].restore(&original);
    ensemble.servers[1].start();
    ensemble.servers[2].start();
    for server in [1, 2] {
        ensemble.servers[server].wait_for_log("a data directory was copied");
    }
}

#[test]
fn a_disk_restored_from_an_old_copy_is_noticed() {
    let mut ensemble = Ensemble::form(&[]);
    let backup = tempfile::tempdir().unwrap();
    let old = ensemble.follower();
    ensemble.servers[old].stop();
    ensemble.servers[old].back_up(backup.path());
    ensemble.servers[old].start();
    ensemble.wait_until_all_serve();
    block_on(async {
        let client = ensemble.servers[old].client().await;
        write(&client, "since", 100).await;
        client.close().await.unwrap();
    });
    ensemble.servers[old].stop();
    ensemble.servers[old].restore(backup.path());
    ensemble.servers[old].start();
    let status = ensemble.servers[old].wait();
    let log = ensemble.servers[old].log();
    assert_eq!(status.code(), Some(3), "{log}");
    assert!(log.contains("as after restoring an old copy of the data directory"), "{log}");
    assert!(!files(&ensemble.servers[old].data_dir.join("ostler"), ".wal").is_empty(), "nothing is removed");

    // The remedy.
    ensemble.servers[old].wipe();
    ensemble.servers[old].start();
    ensemble.wait_until_all_serve();
    block_on(compare(&ensemble.servers));
}

/// Both of the others are gone for good with what they had; the one that is left does not go on as if nothing were.
#[test]
fn two_wiped_disks_of_three_are_not_a_new_cluster() {
    let mut ensemble = Ensemble::form(&[]);
    block_on(async {
        let client = ensemble.servers[0].client().await;
        client.create("/kept", b"", &open_acl(), CreateMode::Persistent).await.unwrap();
    });
    ensemble.servers.iter_mut().for_each(Member::stop);
    for wiped in [1, 2] {
        ensemble.servers[wiped].wipe();
    }
    ensemble.servers.iter_mut().for_each(Member::start);
    for wiped in [1, 2] {
        ensemble.servers[wiped].wait_for_log("recover");
    }
    assert!(ensemble.servers.iter().all(|server| server.mode().is_none()));
}
