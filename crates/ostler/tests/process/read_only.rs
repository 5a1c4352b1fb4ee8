//! A server cut off from its ensemble that serves reads to clients that allow it.

use ostler_client::{ConnectOptions, Error};
use ostler_types::{CreateMode, ErrorCode, open_acl};

use crate::member_servers::Ensemble;
use crate::server::block_on;

#[test]
fn reads_are_served_without_a_majority_until_there_is_one_again() {
    let mut ensemble = Ensemble::new(3);
    ensemble.form(&[1, 2, 3], "readonlymode.enabled=true");
    block_on(async {
        let before = ensemble.client(1).await;
        before.create("/n", b"v", &open_acl(), CreateMode::Persistent).await.unwrap();
        ensemble.kill(2);
        ensemble.kill(3);
        before.ended().await;
        ensemble.wait_for_mode(1, &["read-only"]);
        assert_eq!(ensemble.word(1, "isro"), "ro");
        let options = ConnectOptions { read_only: Some(true), ..ConnectOptions::default() };
        let client = ensemble.connect(1, options.clone()).await;
        assert_eq!(client.session().read_only, Some(true));
        assert_eq!(client.get_data("/n", false).await.unwrap().0.unwrap(), b"v");
        let refused = client.create("/m", b"", &open_acl(), CreateMode::Persistent).await;
        assert!(matches!(refused, Err(Error::Server(ErrorCode::NotReadOnly))), "{refused:?}");
        assert!(matches!(client.sync("/").await, Err(Error::Server(ErrorCode::NotReadOnly))));
        assert!(client.exists("/n", false).await.unwrap().is_some(), "the session stays");

        ensemble.start(2);
        client.ended().await;
        ensemble.wait_for_mode(1, &["leader", "follower"]);
        assert_eq!(ensemble.word(1, "isro"), "rw");
        let client = ensemble.connect(1, options).await;
        assert_eq!(client.session().read_only, Some(false));
        client.create("/m", b"", &open_acl(), CreateMode::Persistent).await.unwrap();
        // The session from before is one of the ensemble's, and still there.
        let resume = Some(before.session().clone());
        let returned = ensemble.connect(2, ConnectOptions { resume, ..ConnectOptions::default() }).await;
        assert_eq!(returned.session().id, before.session().id);
    });
}
