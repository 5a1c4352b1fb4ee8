//! Every operation of `ostler-client` against a server: one of ours in this process, or any other that speaks
//! ZooKeeper's protocol:
//!
//! ```text
//! OSTLER_TEST_SERVER=127.0.0.1:2181 cargo test -p ostler-server --test client
//! ```
//!
//! Each test works below its own znode, which it removes first and last.

use std::sync::OnceLock;
use std::time::Duration;

use ostler_client::{Client, ConnectError, ConnectOptions, Error, Event};
use ostler_server::Server;
use ostler_server::config::{self, Overrides};
use ostler_types::{
    Acl, AddWatchMode, CreateMode, ErrorCode, EventType, Perms, WatcherKind, Xid, Zxid, open_acl,
};
use ostler_wire::multi::{OpResult, ReadOp, WriteOp};
use ostler_wire::{AclEntry, ConnectRequest, Create, CreateForm, Request, SetWatches};
use tokio::sync::mpsc::UnboundedReceiver;

/// The server named by the environment, or one that lives as long as this process.
fn address() -> String {
    static OURS: OnceLock<(Server, tempfile::TempDir)> = OnceLock::new();
    std::env::var("OSTLER_TEST_SERVER").unwrap_or_else(|_| {
        let (server, _) = OURS.get_or_init(|| {
            let data_dir = tempfile::tempdir().unwrap();
            let text = format!(
                "dataDir={}\nclientPort=0\nclientPortAddress=127.0.0.1\npreAllocSize=1024\nmaxClientCnxns=0\n",
                data_dir.path().display()
            );
            let loaded = config::parse("zoo.cfg", text.as_bytes(), &Overrides::default()).unwrap();
            (Server::start(loaded.config).unwrap(), data_dir)
        });
        server.address().to_string()
    })
}

async fn connect(options: &ConnectOptions) -> (Client, UnboundedReceiver<Event>) {
    Client::connect(address(), options).await.unwrap()
}

/// A client and an empty znode of its own.
async fn set_up(root: &str) -> (Client, UnboundedReceiver<Event>) {
    let (client, events) = connect(&ConnectOptions::default()).await;
    remove(&client, root).await;
    client.create(root, b"", &open_acl(), CreateMode::Persistent).await.unwrap();
    (client, events)
}

async fn remove(client: &Client, path: &str) {
    for child in client.get_children(path, false).await.unwrap_or_default() {
        Box::pin(remove(client, &format!("{path}/{child}"))).await;
    }
    match client.delete(path, -1).await {
        Ok(()) | Err(Error::Server(ErrorCode::NoNode)) => {}
        Err(error) => panic!("cannot remove {path}: {error}"),
    }
}

async fn tear_down(client: Client, root: &str) {
    remove(&client, root).await;
    client.close().await.unwrap();
}

fn create(form: CreateForm, path: &str, flags: i32) -> Create<'_> {
    let acl = AclEntry { perms: Perms::ALL, scheme: Some("world".into()), id: Some("anyone".into()) };
    Create { form, path: path.into(), data: Some(b"x"), acl: Some(vec![acl]), flags }
}

#[tokio::test]
async fn znodes() {
    let root = "/ostler-test-znodes";
    let (client, _events) = set_up(root).await;
    let acl = open_acl();

    let path = format!("{root}/a");
    let (created, stat) = client.create2(&path, b"one", &acl, CreateMode::Persistent).await.unwrap();
    assert_eq!((created.as_str(), stat.version, stat.data_length), (path.as_str(), 0, 3));
    let again = client.create(&path, b"", &acl, CreateMode::Persistent).await;
    assert!(matches!(again, Err(Error::Server(ErrorCode::NodeExists))), "{again:?}");
    let stat = client.set_data(&path, b"two!", 0).await.unwrap();
    assert_eq!((stat.version, stat.data_length), (1, 4));
    assert_eq!(client.get_data(&path, false).await.unwrap(), (Some(b"two!".to_vec()), stat));
    assert_eq!(client.exists(&path, false).await.unwrap(), Some(stat));
    assert_eq!(client.exists(&format!("{root}/none"), false).await.unwrap(), None);
    assert_eq!(client.set_data(&path, b"", 0).await.unwrap_err().code(), Some(ErrorCode::BadVersion));

    let ephemeral = client.create(&format!("{path}e"), b"", &acl, CreateMode::Ephemeral).await.unwrap();
    assert_eq!(client.get_ephemerals(root).await.unwrap(), std::slice::from_ref(&ephemeral));
    assert_eq!(client.exists(&ephemeral, false).await.unwrap().unwrap().ephemeral_owner, client.session().id);
    client.create_container(&format!("{root}/c"), b"", &acl).await.unwrap();
    let sequential = format!("{root}/s-");
    let named = client.create(&sequential, b"", &acl, CreateMode::PersistentSequential).await.unwrap();
    assert_eq!(named, format!("{sequential}0000000003"));

    let mut children = client.get_children(root, false).await.unwrap();
    children.sort();
    assert_eq!(children, ["a", "ae", "c", "s-0000000003"]);
    let (with_stat, stat) = client.get_children2(root, false).await.unwrap();
    assert_eq!((with_stat.len(), stat.num_children), (4, 4));
    assert_eq!(client.get_all_children_number(root).await.unwrap(), 4);

    let read_only = [Acl::new(Perms::READ | Perms::ADMIN, "world", "anyone")];
    assert_eq!(client.set_acl(&path, &read_only, 0).await.unwrap().aversion, 1);
    assert_eq!(client.get_acl(&path).await.unwrap().0, read_only);
    assert_eq!(client.set_data(&path, b"", -1).await.unwrap_err().code(), Some(ErrorCode::NoAuth));

    client.sync(root).await.unwrap();
    client.ping().await.unwrap();
    tear_down(client, root).await;
}

#[tokio::test]
async fn multis() {
    let root = "/ostler-test-multis";
    let (client, _events) = set_up(root).await;
    let (a, b) = (format!("{root}/a"), format!("{root}/b"));
    let results = client
        .multi(vec![
            WriteOp::Create(create(CreateForm::Create, &a, 0)),
            WriteOp::Create(create(CreateForm::Create2, &b, 0)),
            WriteOp::SetData { path: (&a).into(), data: Some(b"new"), version: 0 },
            WriteOp::Check { path: (&a).into(), version: 1 },
            WriteOp::Delete { path: (&b).into(), version: -1 },
        ])
        .await
        .unwrap();
    let [
        OpResult::Create { .. },
        OpResult::Create2 { .. },
        OpResult::SetData { stat },
        OpResult::Check,
        OpResult::Delete,
    ] = &results[..]
    else {
        panic!("{results:?}")
    };
    assert_eq!(stat.version, 1);

    let failed = client
        .multi(vec![
            WriteOp::Delete { path: (&a).into(), version: -1 },
            WriteOp::Delete { path: (&b).into(), version: -1 },
        ])
        .await;
    assert!(matches!(failed, Err(Error::Multi { index: 1, code: -101, .. })), "{failed:?}");

    let reads = client
        .multi_read(vec![
            ReadOp::GetData { path: (&a).into() },
            ReadOp::GetData { path: (&b).into() },
            ReadOp::GetChildren { path: root.into() },
        ])
        .await
        .unwrap();
    let OpResult::GetData { data: Some(data), .. } = &reads[0] else { panic!("{reads:?}") };
    assert_eq!(data, b"new");
    assert_eq!(reads[1..], [OpResult::Error(-101), OpResult::GetChildren { children: vec!["a".into()] }]);
    tear_down(client, root).await;
}

#[tokio::test]
async fn what_a_multi_may_hold() {
    let root = "/ostler-test-multi-rules";
    let (client, _events) = set_up(root).await;
    let path = format!("{root}/a");
    // The result's form shows as what the server took the operation.
    for (form, flags, returns_stat) in [
        (CreateForm::Container, 0, true),
        (CreateForm::Create, 4, true),
        (CreateForm::Ttl(5), 0, false),
        (CreateForm::Ttl(-1), 4, true),
    ] {
        let results = client.multi(vec![WriteOp::Create(create(form, &path, flags))]).await.unwrap();
        assert_eq!(matches!(results[..], [OpResult::Create2 { .. }]), returns_stat, "{form:?} {flags}");
        client.delete(&path, -1).await.unwrap();
    }
    for (form, flags) in [(CreateForm::Create, 9), (CreateForm::Create2, 5), (CreateForm::Container, -1)] {
        let result = client.multi(vec![WriteOp::Create(create(form, &path, flags))]).await;
        assert_eq!(result.unwrap_err().code(), Some(ErrorCode::MarshallingError), "{form:?} {flags}");
    }
    let mut bad_flags = create(CreateForm::Ttl(5), &path, 9);
    let result = client.multi(vec![WriteOp::Create(bad_flags.clone())]).await;
    assert!(matches!(result, Err(Error::Multi { index: 0, code: -8, .. })), "{result:?}");
    (bad_flags.flags, bad_flags.acl) = (0, None);
    let result = client.multi(vec![WriteOp::Create(bad_flags)]).await;
    assert!(matches!(result, Err(Error::Multi { index: 0, code: -114, .. })), "{result:?}");
    tear_down(client, root).await;
}

#[tokio::test]
async fn watches() {
    let root = "/ostler-test-watches";
    let (client, mut events) = set_up(root).await;
    let path = format!("{root}/a");
    assert_eq!(client.exists(&path, true).await.unwrap(), None);
    client.get_children(root, true).await.unwrap();
    let create = Request::Create(create(CreateForm::Create, &path, 0));
    let reply = client.call(&create).await.unwrap();
    // Events of a client's own write come before its reply.
    let (created, child) = (events.try_recv().unwrap(), events.try_recv().unwrap());
    assert_eq!((created.kind, created.path.as_str()), (EventType::NodeCreated, path.as_str()));
    assert_eq!((child.kind, child.path.as_str()), (EventType::NodeChildrenChanged, root));
    assert_eq!((created.zxid, child.zxid), (reply.zxid, reply.zxid));
    assert_eq!((created.arrival + 1, created.arrival + 2), (child.arrival, reply.arrival));

    client.add_watch(root, AddWatchMode::PersistentRecursive).await.unwrap();
    for version in 0..3 {
        client.set_data(&path, b"", version).await.unwrap();
        assert_eq!(events.try_recv().unwrap().kind, EventType::NodeDataChanged);
    }
    client.check_watches(root, WatcherKind::PersistentRecursive).await.unwrap();
    client.remove_watches(root, WatcherKind::Any).await.unwrap();
    let gone = client.check_watches(root, WatcherKind::Any).await;
    assert!(matches!(gone, Err(Error::Server(ErrorCode::NoWatcher))), "{gone:?}");

    let missed = SetWatches {
        relative_zxid: Zxid::ZERO,
        data: vec![(&path).into()],
        exist: vec![],
        child: vec![format!("{root}/none").into()],
    };
    client.set_watches(missed.clone()).await.unwrap();
    let kinds =
        [events.try_recv().unwrap(), events.try_recv().unwrap()].map(|event| (event.kind, event.zxid));
    assert_eq!(kinds, [(EventType::NodeDataChanged, Zxid(-1)), (EventType::NodeDeleted, Zxid(-1))]);
    client.set_watches2(SetWatches::default(), &[root], &[]).await.unwrap();
    client.delete(&path, -1).await.unwrap();
    assert_eq!(events.try_recv().unwrap().kind, EventType::NodeChildrenChanged);
    tear_down(client, root).await;
}

#[tokio::test]
async fn sessions() {
    let root = "/ostler-test-sessions";
    let (client, _events) = set_up(root).await;
    let path = client.create(&format!("{root}/e"), b"", &open_acl(), CreateMode::Ephemeral).await.unwrap();
    client.disconnect().await;
    let options = ConnectOptions {
        resume: Some(client.session().clone()),
        last_zxid_seen: Some(client.last_zxid_seen()),
        ..ConnectOptions::default()
    };
    let (client, _events) = connect(&options).await;
    assert_eq!(client.get_ephemerals("/").await.unwrap(), [path]);

    let mut thief = options.clone();
    thief.resume.as_mut().unwrap().password = vec![7; 16];
    let refused = Client::connect(address(), &thief).await;
    assert!(matches!(refused, Err(ConnectError::SessionExpired)), "{refused:?}");

    let (client, _events) = connect(&options).await;
    remove(&client, root).await;
    client.close().await.unwrap();
    let gone = Client::connect(address(), &options).await;
    assert!(matches!(gone, Err(ConnectError::SessionExpired)), "{gone:?}");
    let ahead = ConnectOptions { last_zxid_seen: Some(Zxid(i64::MAX)), ..ConnectOptions::default() };
    let ahead = Client::connect(address(), &ahead).await;
    assert!(matches!(ahead, Err(ConnectError::Refused)), "{ahead:?}");
}

#[tokio::test]
async fn identities() {
    let root = "/ostler-test-identities";
    let (client, _events) = set_up(root).await;
    client.add_auth("digest", b"user:pass").await.unwrap();
    let identities = client.who_am_i().await.unwrap();
    assert!(identities.contains(&("digest".into(), "user".into())), "{identities:?}");
    let path = client
        .create(&format!("{root}/a"), b"", &[Acl::new(Perms::ALL, "auth", "")], CreateMode::Persistent)
        .await
        .unwrap();
    let expected = Acl::new(Perms::ALL, "digest", "user:smGaoVKd/cQkjm7b88GyorAUz20=");
    assert_eq!(client.get_acl(&path).await.unwrap().0, [expected]);

    let (stranger, _events) = connect(&ConnectOptions::default()).await;
    assert_eq!(stranger.get_data(&path, false).await.unwrap_err().code(), Some(ErrorCode::NoAuth));
    let failed = stranger.add_auth("no-such-scheme", b"").await;
    assert!(matches!(failed, Err(Error::Server(ErrorCode::AuthFailed))), "{failed:?}");
    stranger.ended().await;
    tear_down(client, root).await;
}

#[tokio::test]
async fn hundreds_of_requests_under_way() {
    let root = "/ostler-test-pipeline";
    let options = ConnectOptions { first_xid: i32::MAX - 500, ..ConnectOptions::default() };
    let (setup, _events) = set_up(root).await;
    let (client, _events) = connect(&options).await;
    let mut pending = Vec::new();
    for version in 0..2_000 {
        let set = Request::SetData { path: root.into(), data: Some(b"x"), version };
        pending.push(client.start(&set).await);
    }
    let mut last = Zxid::ZERO;
    for reply in pending {
        let reply = reply.await.unwrap();
        assert!(reply.zxid > last, "{} after {last}", reply.zxid);
        last = reply.zxid;
    }
    client.close().await.unwrap();
    tear_down(setup, root).await;
}

#[tokio::test]
async fn heartbeats_keep_a_session_and_their_absence_ends_it() {
    // The shortest session the server grants.
    let options = ConnectOptions { session_timeout: Duration::from_millis(1), ..ConnectOptions::default() };
    let root = "/ostler-test-heartbeats";
    let (observer, mut events) = set_up(root).await;
    let (kept, _kept_events) = connect(&options).await;
    let (lost, _lost_events) = connect(&ConnectOptions { keep_alive: false, ..options }).await;
    kept.create(&format!("{root}/kept"), b"", &open_acl(), CreateMode::Ephemeral).await.unwrap();
    let path = lost.create(&format!("{root}/lost"), b"", &open_acl(), CreateMode::Ephemeral).await.unwrap();
    assert!(observer.exists(&path, true).await.unwrap().is_some());
    assert_eq!(events.recv().await.unwrap().kind, EventType::NodeDeleted);
    assert_eq!(observer.get_children(root, false).await.unwrap(), ["kept"]);
    kept.close().await.unwrap();
    tear_down(observer, root).await;
}

#[tokio::test]
async fn raw_connections() {
    use ostler_client::raw::RawConnection;
    let mut raw = RawConnection::connect(address()).await.unwrap();
    let request = ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: Zxid::ZERO,
        timeout_ms: 10_000,
        session: ostler_types::SessionId::NONE,
        password: None,
        read_only: None,
    };
    raw.send_connect(&request).await.unwrap();
    // The answer to a request without the read-only flag goes without it too.
    assert_eq!(raw.read_frame().await.unwrap().unwrap().len(), 36);
    // A body that does not decode; any xid is echoed.
    raw.send_request(Xid(-77), 4, b"\0\0").await.unwrap();
    let (header, body) = raw.read_reply().await.unwrap().unwrap();
    assert_eq!((header.xid, header.err, body), (Xid(-77), ErrorCode::MarshallingError.code(), &b""[..]));
    raw.send(b"\xff\xff\xff\xff").await.unwrap();
    assert!(raw.read_frame().await.map_or(true, |frame| frame.is_none()));
}
