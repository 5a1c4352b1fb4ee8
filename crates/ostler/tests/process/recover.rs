//! `ostler recover --new-cluster`: going on from one disk of three.

use ostler_types::{CreateMode, open_acl};
use serde_json::Value;

use crate::member_servers::Ensemble;
use crate::server::{block_on, run, text};

fn recover(data: &str, more: &[&str]) -> std::process::Output {
    run(&[&["recover", data, "--new-cluster"], more].concat())
}

#[test]
fn one_disk_of_three_becomes_a_new_cluster_that_the_old_one_cannot_join() {
    let mut ensemble = Ensemble::new(3);
    ensemble.form(&[1, 2, 3], "standaloneEnabled=false");
    let session = block_on(async {
        let client = ensemble.client(1).await;
        client.create("/kept", b"v", &open_acl(), CreateMode::Persistent).await.unwrap();
        client.create("/mine", b"", &open_acl(), CreateMode::Ephemeral).await.unwrap();
        client.session().clone()
    });
    let directory = ensemble.server_dir(1).join("data");
    let data = directory.to_str().unwrap().to_owned();
    let refused = recover(&data, &["--yes-i-know"]);
    assert_eq!(refused.status.code(), Some(3));
    assert!(text(&refused.stderr).contains("in use"), "{}", text(&refused.stderr));
    for id in [1, 2, 3] {
        ensemble.kill(id);
    }
    ensemble.wipe(2);

    let asked = recover(&data, &[]);
    assert_eq!(asked.status.code(), Some(1), "nobody has typed anything");
    assert!(text(&asked.stdout).contains("LOST is every write"), "{}", text(&asked.stdout));
    let done = recover(&data, &["--yes-i-know", "--json"]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    let lines: Vec<Value> =
        text(&done.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["server"], &lines[0]["members"]), (&1.into(), &serde_json::json!([1, 2, 3])));
    assert_ne!(lines[0]["cluster_id"], lines[1]["cluster_id"]);

    ensemble.start(1);
    ensemble.wait_for_mode(1, &["leader"]);
    assert_eq!(ensemble.members(1), [1]);
    block_on(async {
        let resume = Some(session);
        let options = ostler_client::ConnectOptions { resume, ..Default::default() };
        let client = ensemble.connect(1, options).await;
        assert_eq!(client.get_data("/kept", false).await.unwrap().0.unwrap(), b"v");
        assert!(client.exists("/mine", false).await.unwrap().is_some(), "sessions go on");
        client.create("/new", b"", &open_acl(), CreateMode::Persistent).await.unwrap();
    });
    // One with an empty disk is added, one with its old data is not let in.
    ensemble.start(3);
    ensemble.start(2);
    assert_eq!(ensemble.add(1, 2, "participant").unwrap(), [1, 2]);
    ensemble.wait_for_mode(2, &["follower"]);
    ensemble.wait_for_log(3, "belongs to cluster");
    assert_eq!(ensemble.mode(3), None);
}
