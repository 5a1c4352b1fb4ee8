//! Membership that changes while the ensemble runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use ostler_client::{Client, ConnectOptions};
use ostler_types::{CreateMode, open_acl};

use crate::member_servers::Ensemble;
use crate::server::{block_on, wait_for};

async fn create(client: &Client, path: &str) {
    client.create(path, b"", &open_acl(), CreateMode::Persistent).await.unwrap();
}

/// Writes without a pause through one server, on one connection, until it is stopped. Every write must succeed.
struct Load {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<()>,
}

impl Load {
    fn start(ensemble: &Ensemble, server: u8, name: &str) -> Load {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (address, path) = (ensemble.address(server), format!("/{name}"));
        let thread = std::thread::spawn({
            let (stop, written) = (stop.clone(), written.clone());
            move || {
                block_on(async {
                    let (client, _events) =
                        Client::connect(address, &ConnectOptions::default()).await.unwrap();
                    client.create(&path, b"", &open_acl(), CreateMode::Ephemeral).await.unwrap();
                    while !stop.load(Ordering::Relaxed) {
                        let n = written.load(Ordering::Relaxed);
                        let stat = client.set_data(&path, &n.to_le_bytes(), n as i32).await.unwrap();
                        assert_eq!(stat.version as u64, n + 1);
                        written.store(n + 1, Ordering::Relaxed);
                    }
                });
            }
        });
        Load { stop, written, thread }
    }

    /// Waits until something more has been written.
    fn goes_on(&self) {
        let before = self.written.load(Ordering::Relaxed);
        wait_for("the load to go on", || {
            self.thread.is_finished() || self.written.load(Ordering::Relaxed) > before + 1
        });
    }

    fn end(self) {
        self.goes_on();
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
    }
}

#[test]
fn a_server_joins_as_an_observer_is_promoted_and_others_leave() {
    let mut ensemble = Ensemble::new(4);
    ensemble.form(&[1, 2, 3], "");
    ensemble.configure(4, &[(1, "participant"), (2, "participant"), (3, "participant"), (4, "observer")], "");
    ensemble.start(4);
    assert_eq!(ensemble.add(1, 4, "observer").unwrap(), [1, 2, 3, 4]);
    ensemble.wait_for_mode(4, &["observer"]);
    assert_eq!(ensemble.members(4), [1, 2, 3, 4]);
    assert_eq!(ensemble.add(4, 4, "participant").unwrap(), [1, 2, 3, 4]);
    ensemble.wait_for_mode(4, &["follower"]);
    let files = || std::fs::read_to_string(ensemble.config_file(1)).unwrap();
    let has_line = || {
        let text = files();
        let dynamic = text.lines().find_map(|line| line.strip_prefix("dynamicConfigFile="));
        dynamic.is_some_and(|file| {
            std::fs::read_to_string(file)
                .is_ok_and(|lines| lines.contains(&format!("server.4={}", ensemble.spec(4, "participant"))))
        })
    };
    wait_for("the configuration files", has_line);

    // A follower, then the leader.
    let leader = ensemble.leader(&[1, 2, 3, 4]);
    let follower = [1, 2, 3].into_iter().find(|&id| id != leader).unwrap();
    let stays = [1, 2, 3, 4].into_iter().find(|&id| id != leader && id != follower).unwrap();
    let removed = ensemble.reconfig(stays, &["--remove", &follower.to_string()]).unwrap();
    assert!(!removed.contains(&follower));
    ensemble.wait_for_log(follower, "been removed from the ensemble");
    wait_for("the removed server to serve nobody", || ensemble.mode(follower).is_none());

    let load = Load::start(&ensemble, stays, "load");
    let removed = ensemble.reconfig(stays, &["--remove", &leader.to_string()]).unwrap();
    assert_eq!(removed.len(), 2);
    ensemble.wait_for_log(leader, "been removed from the ensemble");
    load.end();

    // It comes back with the disk it has.
    assert!(ensemble.add(stays, leader, "participant").unwrap().contains(&leader));
    ensemble.wait_for_mode(leader, &["follower"]);
    block_on(async { create(&ensemble.client(leader).await, "/back").await });
}

#[test]
fn a_dead_server_is_replaced_under_its_id_and_under_another() {
    let mut ensemble = Ensemble::new(4);
    ensemble.form(&[1, 2, 3], "");
    block_on(async { create(&ensemble.client(1).await, "/kept").await });
    ensemble.kill(3);
    ensemble.wipe(3);
    ensemble.configure(3, &[(1, "participant"), (2, "participant"), (3, "participant")], "");
    ensemble.start(3);
    ensemble.wait_for_mode(3, &["follower"]);
    block_on(async {
        assert!(ensemble.client(3).await.exists("/kept", false).await.unwrap().is_some());
    });

    ensemble.kill(3);
    ensemble.configure(4, &[(1, "participant"), (2, "participant"), (4, "participant")], "");
    ensemble.start(4);
    let members = ensemble.reconfig(1, &["--remove", "3", "--add", &ensemble.member(4, "participant")]);
    assert_eq!(members.unwrap(), [1, 2, 4]);
    ensemble.wait_for_mode(4, &["follower"]);
    block_on(async {
        assert!(ensemble.client(4).await.exists("/kept", false).await.unwrap().is_some());
    });

    // Started again, the old one learns that its place is taken.
    ensemble.start(3);
    ensemble.wait_for_log(3, "been removed from the ensemble");
}

#[test]
fn a_change_without_servers_enough_is_refused_at_once() {
    let mut ensemble = Ensemble::new(5);
    ensemble.form(&[1, 2, 3], "");
    let all: Vec<_> = (1..=5).map(|id| ensemble.member(id, "participant")).collect();
    // Four and five do not run, so three of five are there; without three as well, two.
    ensemble.kill(3);
    ensemble.leader(&[1, 2]);
    let arguments: Vec<_> = all.iter().flat_map(|member| ["--members", member]).collect();
    let refused = ensemble.reconfig(1, &arguments).unwrap_err();
    assert!(refused.contains("more than half of them must be up"), "{refused}");
    assert_eq!(ensemble.members(1), [1, 2, 3]);
    let refused = ensemble.reconfig(1, &["--remove", "1,2"]).unwrap_err();
    assert!(refused.contains("somebody must be left to vote"), "{refused}");
    block_on(async { create(&ensemble.client(1).await, "/goes-on").await });
}

#[test]
fn an_ensemble_grows_and_shrinks_under_load() {
    let mut ensemble = Ensemble::new(5);
    ensemble.form(&[1, 2, 3], "");
    let load = Load::start(&ensemble, 2, "load");
    for id in [4, 5] {
        ensemble.configure(
            id,
            &[(1, "participant"), (2, "participant"), (3, "participant"), (id, "participant")],
            "",
        );
        ensemble.start(id);
    }
    let both = [ensemble.member(4, "participant"), ensemble.member(5, "participant")];
    let members = ensemble.reconfig(2, &["--add", &both[0], "--add", &both[1]]).unwrap();
    assert_eq!(members, [1, 2, 3, 4, 5]);
    load.goes_on();
    ensemble.wait_for_mode(5, &["follower"]);
    let other = Load::start(&ensemble, 5, "other");
    other.end();
    load.goes_on();
    assert_eq!(ensemble.reconfig(2, &["--remove", "4,5"]).unwrap(), [1, 2, 3]);
    load.end();
}

#[test]
fn a_standalone_server_grows_and_no_session_is_lost() {
    let mut ensemble = Ensemble::new(3);
    ensemble.configure_standalone(1);
    ensemble.start(1);
    ensemble.wait_for_mode(1, &["standalone"]);
    block_on(async {
        let client = ensemble.client(1).await;
        client.create("/mine", b"", &open_acl(), CreateMode::Ephemeral).await.unwrap();
        let resume = Some(client.session().clone());
        ensemble.stop(1);
        // It gets an address for the others.
        ensemble.configure(1, &[(1, "participant")], "");
        ensemble.start(1);
        ensemble.wait_for_mode(1, &["standalone"]);
        let client = ensemble.connect(1, ConnectOptions { resume, ..ConnectOptions::default() }).await;
        let load = Load::start(&ensemble, 1, "load");
        for id in [2, 3] {
            ensemble.configure(id, &[(1, "participant"), (id, "participant")], "");
            ensemble.start(id);
            ensemble.wait_for_log(id, "add it with reconfig");
            let expected: Vec<u8> = (1..=id).collect();
            assert_eq!(ensemble.add(1, id, "participant").unwrap(), expected);
            load.goes_on();
        }
        load.end();
        assert!(client.exists("/mine", false).await.unwrap().is_some(), "the same connection all the time");
        ensemble.wait_for_mode(2, &["leader", "follower"]);
        let elsewhere =
            ConnectOptions { resume: Some(client.session().clone()), ..ConnectOptions::default() };
        let elsewhere = ensemble.connect(3, elsewhere).await;
        let stat = elsewhere.exists("/mine", false).await.unwrap().unwrap();
        assert_eq!(stat.ephemeral_owner, elsewhere.session().id);
        // The first one is one of three now.
        ensemble.kill(1);
        tokio::time::timeout(Duration::from_secs(60), create(&elsewhere, "/without-it")).await.unwrap();
    });
}
