//! The cases. Each gets an empty node of its own.

use std::pin::Pin;
use std::time::Duration;

use zookeeper_client::{
    Acl, Acls, AddWatchMode, AuthId, Client, CreateMode, EnsembleUpdate, Error, EventType, LockPrefix,
    MultiReadResult, MultiWriteError, MultiWriteResult, Permission, SessionState,
};

use crate::*;

type Case = fn(String) -> Pin<Box<dyn Future<Output = Outcome> + Send>>;

macro_rules! list {
    ($($case:ident),* $(,)?) => {
        /// Every case with its name.
        pub(crate) fn all() -> Vec<(&'static str, Case)> {
            vec![$((stringify!($case), |root| Box::pin($case(root)))),*]
        }
    };
}

list![
    create_and_read,
    create_errors,
    create_sequential,
    create_ttl_and_container,
    set_and_delete_versions,
    children_10000,
    large_value,
    oversized_request_changes_nothing,
    oversized_request_closes_connection,
    acl_and_auth,
    auth_survives_reconnect,
    auth_unknown_scheme,
    auth_users_are_listed,
    multi_write_succeeds,
    multi_write_is_atomic,
    multi_write_checks,
    multi_read,
    pipelined_requests_in_order,
    descendants_and_ephemerals,
    config_is_readable,
    sync_succeeds,
    watch_data,
    watch_missing,
    watch_children,
    persistent_watch,
    persistent_recursive_watch,
    persistent_watches_survive_reconnect,
    watches_survive_reconnect,
    changes_while_disconnected_are_reported,
    dropped_watch_is_removed,
    close_removes_ephemerals,
    session_survives_lost_socket,
    session_is_taken_over,
    closed_session_cannot_come_back,
    silent_client_expires,
    session_and_data_survive_kill,
    chroot,
    lock_recipe,
];

const PERSISTENT: CreateMode = CreateMode::Persistent;
const EPHEMERAL: CreateMode = CreateMode::Ephemeral;

/// Creates a node open to everybody.
async fn make(client: &Client, path: &str, data: &str, mode: CreateMode) -> Outcome {
    client.create(path, data.as_bytes(), &open(mode)).await.or_fail(&format!("create {path}")).map(drop)
}

async fn create_and_read(root: String) -> Outcome {
    let c = connect().await?;
    let path = format!("{root}/a");
    let (created, _) = c.create(&path, b"value", &open(PERSISTENT)).await.or_fail("create")?;
    let (data, stat) = c.get_data(&path).await.or_fail("get")?;
    same("data", data.as_slice(), b"value".as_slice())?;
    same("stat of create2", created, stat)?;
    same("zxids", (stat.mzxid, stat.pzxid, stat.mtime), (stat.czxid, stat.czxid, stat.ctime))?;
    same("versions", (stat.version, stat.cversion, stat.aversion), (0, 0, 0))?;
    same("sizes", (stat.data_length, stat.num_children, stat.ephemeral_owner), (5, 0, 0))?;
    let parent = c.check_stat(&root).await.or_fail("exists")?.ok_or("no parent")?;
    same("parent", (parent.cversion, parent.num_children, parent.pzxid), (1, 1, stat.czxid))
}

async fn create_errors(root: String) -> Outcome {
    let c = connect().await?;
    let options = open(PERSISTENT);
    fails("create", c.create(&format!("{root}/no/parent"), b"", &options).await, Error::NoNode)?;
    fails("create", c.create(&root, b"", &options).await, Error::NodeExists)?;
    let path = format!("{root}/a");
    let unknown = [Acl::new(Permission::ALL, AuthId::new("nosuch", "x"))];
    let options_unknown = PERSISTENT.with_acls(Acls::new(&unknown));
    fails("create", c.create(&path, b"", &options_unknown).await, Error::InvalidAcl)?;
    fails(
        "create",
        c.create(&path, b"", &PERSISTENT.with_acls(Acls::creator_all())).await,
        Error::InvalidAcl,
    )?;
    make(&c, &path, "", EPHEMERAL).await?;
    let child = format!("{path}/child");
    fails("create", c.create(&child, b"", &options).await, Error::NoChildrenForEphemerals)?;
    fails("get", c.get_data(&child).await, Error::NoNode)?;
    fails("children", c.get_children(&child).await, Error::NoNode)?;
    fails("acl", c.get_acl(&child).await, Error::NoNode)?;
    same("exists", c.check_stat(&child).await.or_fail("exists")?, None)
}

async fn create_sequential(root: String) -> Outcome {
    let c = connect().await?;
    for i in 0..11 {
        let mode = open(CreateMode::PersistentSequential);
        let (_, sequence) = c.create(&format!("{root}/s-"), b"", &mode).await.or_fail("create")?;
        same("sequence", sequence.into_i64(), i)?;
    }
    let mode = open(CreateMode::EphemeralSequential);
    let (stat, sequence) = c.create(&format!("{root}/t-"), b"", &mode).await.or_fail("create")?;
    same("sequence", sequence.to_string(), "0000000011")?;
    same("owner", stat.ephemeral_owner, c.session_id().0)
}

async fn create_ttl_and_container(root: String) -> Outcome {
    let c = connect().await?;
    let (short, long, container) = (format!("{root}/short"), format!("{root}/long"), format!("{root}/box"));
    let ttl = |ms| open(PERSISTENT).with_ttl(Duration::from_millis(ms));
    c.create(&short, b"", &ttl(300)).await.or_fail("create")?;
    c.create(&long, b"", &ttl(3_600_000)).await.or_fail("create")?;
    make(&c, &container, "", CreateMode::Container).await?;
    make(&c, &format!("{container}/a"), "", PERSISTENT).await?;
    wait_gone(&c, &short).await?;
    c.delete(&format!("{container}/a"), None).await.or_fail("delete")?;
    wait_gone(&c, &container).await?;
    same("long", c.check_stat(&long).await.or_fail("exists")?.is_some(), true)
}

async fn set_and_delete_versions(root: String) -> Outcome {
    let c = connect().await?;
    let path = format!("{root}/a");
    make(&c, &path, "0", PERSISTENT).await?;
    same("version", c.set_data(&path, b"1", Some(0)).await.or_fail("set")?.version, 1)?;
    fails("set", c.set_data(&path, b"2", Some(0)).await, Error::BadVersion)?;
    same("version", c.set_data(&path, b"2", None).await.or_fail("set")?.version, 2)?;
    fails("delete", c.delete(&path, Some(1)).await, Error::BadVersion)?;
    fails("delete", c.delete(&root, None).await, Error::NotEmpty)?;
    c.delete(&path, Some(2)).await.or_fail("delete")?;
    fails("delete", c.delete(&path, None).await, Error::NoNode)?;
    fails("set", c.set_data(&path, b"", None).await, Error::NoNode)
}

async fn children_10000(root: String) -> Outcome {
    let c = connect_to(&server(), Duration::from_secs(30)).await?;
    let mut expected: Vec<String> = (0..10_000).map(|i| format!("child-{i:05}")).collect();
    for batch in expected.chunks(500) {
        let mut writer = c.new_multi_writer();
        for name in batch {
            writer.add_create(&format!("{root}/{name}"), b"", &open(PERSISTENT)).or_fail("add")?;
        }
        writer.commit().await.or_fail("multi")?;
    }
    let (mut names, stat) = c.get_children(&root).await.or_fail("children")?;
    names.sort();
    expected.sort();
    same("equal", names == expected, true)?;
    same("num_children", stat.num_children, 10_000)
}

async fn large_value(root: String) -> Outcome {
    let c = connect().await?;
    let data: Vec<u8> = (0..1_040_000_u32).map(|i| (i * 7 + i / 251) as u8).collect();
    c.set_data(&root, &data, None).await.or_fail("set")?;
    let (back, stat) = c.get_data(&root).await.or_fail("get")?;
    same("equal", back == data, true)?;
    same("data_length", stat.data_length, 1_040_000)
}

async fn oversized_request_changes_nothing(root: String) -> Outcome {
    let c = connect().await?;
    let session = c.session_id();
    let data = vec![0; 2 << 20];
    same("accepted", c.set_data(&root, &data, None).await.is_ok(), false)?;
    let stat = retry(|| c.check_stat(&root)).await.or_fail("exists")?.ok_or("the node is gone")?;
    same("version", stat.version, 0)?;
    same("session", c.session_id(), session)
}

async fn oversized_request_closes_connection(root: String) -> Outcome {
    let c = connect().await?;
    fails("set", c.set_data(&root, &vec![0; 2 << 20], None).await, Error::ConnectionLoss)
}

async fn acl_and_auth(root: String) -> Outcome {
    let (owner, other) = (connect().await?, connect().await?);
    let path = format!("{root}/mine");
    owner.auth("digest", b"pat:secret").await.or_fail("auth")?;
    owner.create(&path, b"v", &PERSISTENT.with_acls(Acls::creator_all())).await.or_fail("create")?;
    let (acls, stat) = owner.get_acl(&path).await.or_fail("acl")?;
    same("acls", (acls.len(), acls[0].scheme(), acls[0].permission()), (1, "digest", Permission::ALL))?;
    same("aversion", stat.aversion, 0)?;
    fails("get", other.get_data(&path).await, Error::NoAuth)?;
    fails("set", other.set_data(&path, b"", None).await, Error::NoAuth)?;
    fails("exists", other.check_stat(&path).await, Error::NoAuth)?;
    fails("children", other.get_children(&path).await, Error::NoAuth)?;
    fails("acl", other.get_acl(&path).await, Error::NoAuth)?;
    fails("set acl", other.set_acl(&path, &Acls::anyone_all(), None).await, Error::NoAuth)?;
    other.auth("digest", b"pat:secret").await.or_fail("auth")?;
    fails("set acl", other.set_acl(&path, &Acls::anyone_read(), Some(7)).await, Error::BadVersion)?;
    same(
        "aversion",
        other.set_acl(&path, &Acls::anyone_read(), Some(0)).await.or_fail("set acl")?.aversion,
        1,
    )?;
    fails("set", owner.set_data(&path, b"", None).await, Error::NoAuth)
}

async fn auth_survives_reconnect(root: String) -> Outcome {
    let c = connect_to(&proxy(), Duration::from_secs(20)).await?;
    c.auth("digest", b"kim:secret").await.or_fail("auth")?;
    let path = format!("{root}/mine");
    c.create(&path, b"", &PERSISTENT.with_acls(Acls::creator_all())).await.or_fail("create")?;
    control("cut").await?;
    retry(|| c.set_data(&path, b"x", None)).await.or_fail("set").map(drop)
}

async fn auth_unknown_scheme(_: String) -> Outcome {
    let c = connect().await?;
    fails("auth", c.auth("nosuch", b"x").await, Error::AuthFailed)
}

async fn auth_users_are_listed(_: String) -> Outcome {
    let c = connect().await?;
    c.auth("digest", b"pat:secret").await.or_fail("auth")?;
    let users = c.list_auth_users().await.or_fail("whoami")?;
    let mut names: Vec<_> = users.iter().map(|user| (user.scheme(), user.user())).collect();
    names.sort();
    same("users", names, vec![("digest", "pat"), ("ip", "127.0.0.1")])
}

async fn multi_write_succeeds(root: String) -> Outcome {
    let c = connect().await?;
    let old = format!("{root}/old");
    make(&c, &old, "v", PERSISTENT).await?;
    let mut writer = c.new_multi_writer();
    writer.add_check_version(&old, 0).or_fail("add")?;
    writer
        .add_create(&format!("{root}/new-"), b"", &open(CreateMode::PersistentSequential))
        .or_fail("add")?;
    writer.add_set_data(&old, b"w", Some(0)).or_fail("add")?;
    writer.add_delete(&old, Some(1)).or_fail("add")?;
    let results = writer.commit().await.or_fail("multi")?;
    match results.as_slice() {
        [
            MultiWriteResult::Check,
            MultiWriteResult::Create { path, stat },
            MultiWriteResult::SetData { stat: set },
            MultiWriteResult::Delete,
        ] => {
            same("path", path.as_str(), format!("{root}/new-0000000001"))?;
            same("version", set.version, 1)?;
            same("zxid", stat.czxid, set.mzxid)?;
            let parent = c.check_stat(&root).await.or_fail("exists")?.ok_or("no parent")?;
            same("parent", (parent.cversion, parent.num_children, parent.pzxid), (3, 1, stat.czxid))
        }
        other => Err(format!("results are {other:?}")),
    }
}

async fn multi_write_is_atomic(root: String) -> Outcome {
    let c = connect().await?;
    let before = c.check_stat(&root).await.or_fail("exists")?;
    let path = format!("{root}/a");
    let mut writer = c.new_multi_writer();
    writer.add_create(&path, b"", &open(PERSISTENT)).or_fail("add")?;
    writer.add_create(&path, b"", &open(PERSISTENT)).or_fail("add")?;
    writer.add_delete(&path, None).or_fail("add")?;
    let expected = MultiWriteError::OperationFailed { index: 1, source: Error::NodeExists };
    same("error", writer.commit().await.err(), Some(expected))?;
    same("stat", c.check_stat(&root).await.or_fail("exists")?, before)
}

async fn multi_write_checks(root: String) -> Outcome {
    let c = connect().await?;
    let mut writer = c.new_multi_writer();
    writer.add_check_version(&root, 7).or_fail("add")?;
    writer.add_set_data(&root, b"x", None).or_fail("add")?;
    let expected = MultiWriteError::OperationFailed { index: 0, source: Error::BadVersion };
    same("error", writer.commit().await.err(), Some(expected))?;
    same("data", c.get_data(&root).await.or_fail("get")?.0, Vec::new())
}

async fn multi_read(root: String) -> Outcome {
    let c = connect().await?;
    make(&c, &format!("{root}/a"), "one", PERSISTENT).await?;
    let mut reader = c.new_multi_reader();
    reader.add_get_data(&format!("{root}/a")).or_fail("add")?;
    reader.add_get_data(&format!("{root}/none")).or_fail("add")?;
    reader.add_get_children(&root).or_fail("add")?;
    let results = reader.commit().await.or_fail("multi read")?;
    match results.as_slice() {
        [
            MultiReadResult::Data { data, stat },
            MultiReadResult::Error { err: Error::NoNode },
            MultiReadResult::Children { children },
        ] => {
            same("data", data.as_slice(), b"one".as_slice())?;
            same("length", stat.data_length, 3)?;
            same("children", children.as_slice(), ["a".to_owned()].as_slice())
        }
        other => Err(format!("results are {other:?}")),
    }
}

async fn pipelined_requests_in_order(root: String) -> Outcome {
    let c = connect().await?;
    let mut pending = Vec::new();
    for i in 0..1000 {
        // The crate sends a request when the method is called, not when its future is awaited.
        pending.push((c.set_data(&root, i.to_string().as_bytes(), Some(i)), c.get_data(&root)));
    }
    for (i, (set, get)) in pending.into_iter().enumerate() {
        same("version", set.await.or_fail("set")?.version, i as i32 + 1)?;
        same("data", get.await.or_fail("get")?.0, i.to_string().into_bytes())?;
    }
    Ok(())
}

async fn descendants_and_ephemerals(root: String) -> Outcome {
    let c = connect().await?;
    make(&c, &format!("{root}/a"), "", PERSISTENT).await?;
    make(&c, &format!("{root}/a/b"), "", PERSISTENT).await?;
    make(&c, &format!("{root}/a/b/e"), "", EPHEMERAL).await?;
    same("descendants", c.count_descendants_number(&root).await.or_fail("count")?, 3)?;
    let ephemerals = c.list_ephemerals(&root).await.or_fail("ephemerals")?;
    same("ephemerals", ephemerals, vec![format!("{root}/a/b/e")])?;
    same("elsewhere", c.list_ephemerals("/zookeeper").await.or_fail("ephemerals")?, Vec::<String>::new())
}

async fn config_is_readable(_: String) -> Outcome {
    let c = connect().await?;
    c.get_config().await.or_fail("config")?;
    let update = EnsembleUpdate::New { ensemble: std::iter::once("server.1=localhost:1:2;3") };
    let updated = c.update_ensemble(update, None).await.map(drop);
    // An ensemble can be reconfigured, but not into one server that would have no quorum.
    if server().contains(',') {
        return match updated {
            Err(Error::BadArguments(_)) => Ok(()),
            other => Err(format!("update gave {other:?}, expected BadArguments")),
        };
    }
    fails("update", updated, Error::Unimplemented)
}

async fn sync_succeeds(root: String) -> Outcome {
    let c = connect().await?;
    c.sync(&root).await.or_fail("sync")?;
    c.sync("/").await.or_fail("sync")
}

async fn watch_data(root: String) -> Outcome {
    let (c, other) = (connect().await?, connect().await?);
    let (_, _, watcher) = c.get_and_watch_data(&root).await.or_fail("watch")?;
    let stat = other.set_data(&root, b"x", None).await.or_fail("set")?;
    let event = expect(watcher, EventType::NodeDataChanged, &root).await?;
    same("zxid", event.zxid, stat.mzxid)?;
    let (data, _, watcher) = c.get_and_watch_data(&root).await.or_fail("watch")?;
    same("data", data.as_slice(), b"x".as_slice())?;
    other.delete(&root, None).await.or_fail("delete")?;
    expect(watcher, EventType::NodeDeleted, &root).await.map(drop)
}

async fn watch_missing(root: String) -> Outcome {
    let c = connect().await?;
    let path = format!("{root}/a");
    let (stat, watcher) = c.check_and_watch_stat(&path).await.or_fail("watch")?;
    same("stat", stat, None)?;
    let (created, _) = c.create(&path, b"", &open(PERSISTENT)).await.or_fail("create")?;
    let event = expect(watcher, EventType::NodeCreated, &path).await?;
    same("zxid", event.zxid, created.czxid)
}

async fn watch_children(root: String) -> Outcome {
    let c = connect().await?;
    let path = format!("{root}/a");
    let (_, watcher) = c.list_and_watch_children(&root).await.or_fail("watch")?;
    c.set_data(&root, b"not a child", None).await.or_fail("set")?;
    let (created, _) = c.create(&path, b"", &open(PERSISTENT)).await.or_fail("create")?;
    let event = expect(watcher, EventType::NodeChildrenChanged, &root).await?;
    same("zxid", event.zxid, created.czxid)?;
    let (_, _, watcher) = c.get_and_watch_children(&path).await.or_fail("watch")?;
    c.delete(&path, None).await.or_fail("delete")?;
    expect(watcher, EventType::NodeDeleted, &path).await.map(drop)
}

async fn persistent_watch(root: String) -> Outcome {
    let c = connect().await?;
    let child = format!("{root}/a");
    let mut watcher = c.watch(&root, AddWatchMode::Persistent).await.or_fail("watch")?;
    c.set_data(&root, b"1", None).await.or_fail("set")?;
    c.set_data(&root, b"2", None).await.or_fail("set")?;
    make(&c, &child, "", PERSISTENT).await?;
    c.set_data(&child, b"not watched", None).await.or_fail("set")?;
    c.delete(&child, None).await.or_fail("delete")?;
    c.delete(&root, None).await.or_fail("delete")?;
    make(&c, &root, "", PERSISTENT).await?;
    for kind in [
        EventType::NodeDataChanged,
        EventType::NodeDataChanged,
        EventType::NodeChildrenChanged,
        EventType::NodeChildrenChanged,
        EventType::NodeDeleted,
        EventType::NodeCreated,
    ] {
        expect_next(&mut watcher, kind, &root).await?;
    }
    Ok(())
}

async fn persistent_recursive_watch(root: String) -> Outcome {
    let c = connect().await?;
    let (child, deep) = (format!("{root}/a"), format!("{root}/a/b"));
    let mut watcher = c.watch(&root, AddWatchMode::PersistentRecursive).await.or_fail("watch")?;
    make(&c, &child, "", PERSISTENT).await?;
    make(&c, &deep, "", PERSISTENT).await?;
    c.set_data(&deep, b"x", None).await.or_fail("set")?;
    c.delete(&deep, None).await.or_fail("delete")?;
    c.set_data(&root, b"x", None).await.or_fail("set")?;
    expect_next(&mut watcher, EventType::NodeCreated, &child).await?;
    expect_next(&mut watcher, EventType::NodeCreated, &deep).await?;
    expect_next(&mut watcher, EventType::NodeDataChanged, &deep).await?;
    expect_next(&mut watcher, EventType::NodeDeleted, &deep).await?;
    expect_next(&mut watcher, EventType::NodeDataChanged, &root).await.map(drop)
}

async fn persistent_watches_survive_reconnect(root: String) -> Outcome {
    let c = connect_to(&proxy(), Duration::from_secs(20)).await?;
    let path = |name: &str| format!("{root}/{name}");
    make(&c, &path("plain"), "", PERSISTENT).await?;
    make(&c, &path("recursive"), "", PERSISTENT).await?;
    let mut plain = c.watch(&path("plain"), AddWatchMode::Persistent).await.or_fail("watch")?;
    let mut recursive =
        c.watch(&path("recursive"), AddWatchMode::PersistentRecursive).await.or_fail("watch")?;
    control("cut").await?;
    for watcher in [&mut plain, &mut recursive] {
        for state in [SessionState::Disconnected, SessionState::SyncConnected] {
            let event = within(watcher.changed()).await.map_err(|e| format!("{state}: {e}"))?;
            same("state", (event.event_type, event.session_state), (EventType::Session, state))?;
        }
    }
    make(&c, &path("plain/a"), "", PERSISTENT).await?;
    make(&c, &path("recursive/a"), "", PERSISTENT).await?;
    expect_next(&mut plain, EventType::NodeChildrenChanged, &path("plain")).await?;
    expect_next(&mut recursive, EventType::NodeCreated, &path("recursive/a")).await.map(drop)
}

async fn watches_survive_reconnect(root: String) -> Outcome {
    let c = connect_to(&proxy(), Duration::from_secs(20)).await?;
    let path = format!("{root}/a");
    let (_, _, data) = c.get_and_watch_data(&root).await.or_fail("watch")?;
    let (_, missing) = c.check_and_watch_stat(&path).await.or_fail("watch")?;
    let (_, children) = c.list_and_watch_children(&root).await.or_fail("watch")?;
    control("cut").await?;
    retry(|| c.set_data(&root, b"x", None)).await.or_fail("set")?;
    expect(data, EventType::NodeDataChanged, &root).await?;
    make(&c, &path, "", PERSISTENT).await?;
    expect(missing, EventType::NodeCreated, &path).await?;
    expect(children, EventType::NodeChildrenChanged, &root).await.map(drop)
}

async fn changes_while_disconnected_are_reported(root: String) -> Outcome {
    let (c, other) = (connect_to(&proxy(), Duration::from_secs(20)).await?, connect().await?);
    let path = |name: &str| format!("{root}/{name}");
    for name in ["changed", "deleted", "parent"] {
        make(&c, &path(name), "", PERSISTENT).await?;
    }
    let (_, _, changed) = c.get_and_watch_data(&path("changed")).await.or_fail("watch")?;
    let (_, _, deleted) = c.get_and_watch_data(&path("deleted")).await.or_fail("watch")?;
    let (_, parent) = c.list_and_watch_children(&path("parent")).await.or_fail("watch")?;
    let (_, created) = c.check_and_watch_stat(&path("created")).await.or_fail("watch")?;
    other.sync("/").await.or_fail("sync")?;
    control("refuse").await?;
    other.set_data(&path("changed"), b"x", None).await.or_fail("set")?;
    other.delete(&path("deleted"), None).await.or_fail("delete")?;
    make(&other, &path("parent/child"), "", PERSISTENT).await?;
    make(&other, &path("created"), "", PERSISTENT).await?;
    control("accept").await?;
    for (watcher, kind, name) in [
        (changed, EventType::NodeDataChanged, "changed"),
        (deleted, EventType::NodeDeleted, "deleted"),
        (parent, EventType::NodeChildrenChanged, "parent"),
        (created, EventType::NodeCreated, "created"),
    ] {
        // These events are made up by the server at setWatches: they carry no transaction of their own.
        let event = within(watcher.changed()).await?;
        same("event", (event.event_type, event.path), (kind, path(name)))?;
    }
    Ok(())
}

async fn dropped_watch_is_removed(root: String) -> Outcome {
    let c = connect().await?;
    let (_, _, first) = c.get_and_watch_data(&root).await.or_fail("watch")?;
    drop(first);
    c.sync("/").await.or_fail("sync")?;
    let (_, _, second) = c.get_and_watch_data(&root).await.or_fail("watch")?;
    c.set_data(&root, b"x", None).await.or_fail("set")?;
    expect(second, EventType::NodeDataChanged, &root).await.map(drop)
}

async fn close_removes_ephemerals(root: String) -> Outcome {
    let (c, other) = (connect_to(&server(), Duration::from_secs(30)).await?, connect().await?);
    let path = format!("{root}/e");
    make(&c, &path, "", EPHEMERAL).await?;
    other.sync("/").await.or_fail("sync")?;
    let (stat, watcher) = other.check_and_watch_stat(&path).await.or_fail("watch")?;
    same("owner", stat.map(|stat| stat.ephemeral_owner), Some(c.session_id().0))?;
    drop(c);
    expect(watcher, EventType::NodeDeleted, &path).await.map(drop)
}

async fn session_survives_lost_socket(root: String) -> Outcome {
    let c = connect_to(&proxy(), Duration::from_secs(20)).await?;
    let path = format!("{root}/e");
    make(&c, &path, "", EPHEMERAL).await?;
    for _ in 0..3 {
        control("cut").await?;
        let stat = retry(|| c.check_stat(&path)).await.or_fail("exists")?;
        same("owner", stat.map(|stat| stat.ephemeral_owner), Some(c.session_id().0))?;
    }
    Ok(())
}

async fn session_is_taken_over(root: String) -> Outcome {
    let first = connect_to(&proxy(), Duration::from_secs(20)).await?;
    let path = format!("{root}/e");
    make(&first, &path, "", EPHEMERAL).await?;
    let session = first.session().clone();
    control("refuse").await?;
    let second = attach(&server(), session).await?.or_fail("attach")?;
    same("session", second.session_id(), first.session_id())?;
    second.delete(&path, None).await.or_fail("delete")
}

async fn closed_session_cannot_come_back(root: String) -> Outcome {
    let (c, other) = (connect().await?, connect().await?);
    let path = format!("{root}/e");
    make(&c, &path, "", EPHEMERAL).await?;
    let session = c.session().clone();
    other.sync("/").await.or_fail("sync")?;
    drop(c);
    wait_gone(&other, &path).await?;
    fails("attach", attach(&server(), session).await?, Error::SessionExpired)
}

async fn silent_client_expires(root: String) -> Outcome {
    let (c, other) = (connect_to(&proxy(), Duration::from_secs(1)).await?, connect().await?);
    let path = format!("{root}/e");
    make(&c, &path, "", EPHEMERAL).await?;
    other.sync("/").await.or_fail("sync")?;
    control("stall").await?;
    wait_gone(&other, &path).await?;
    control("refuse").await?;
    control("accept").await?;
    wait_state(&c, SessionState::Expired).await
}

async fn session_and_data_survive_kill(root: String) -> Outcome {
    let c = connect_to(&proxy(), Duration::from_secs(30)).await?;
    let path = format!("{root}/e");
    make(&c, &path, "kept", EPHEMERAL).await?;
    let (_, before, watcher) = c.get_and_watch_data(&path).await.or_fail("watch")?;
    control("restart").await?;
    let (data, after) = retry(|| c.get_data(&path)).await.or_fail("get")?;
    same("data", data.as_slice(), b"kept".as_slice())?;
    same("stat", after, before)?;
    let stat = c.set_data(&path, b"new", Some(0)).await.or_fail("set")?;
    same("zxid", expect(watcher, EventType::NodeDataChanged, &path).await?.zxid, stat.mzxid)
}

async fn chroot(root: String) -> Outcome {
    let plain = connect().await?;
    let c = connect_to(&format!("{}{root}", server()), Duration::from_secs(10)).await?;
    make(&c, "/a", "v", PERSISTENT).await?;
    same("data", plain.get_data(&format!("{root}/a")).await.or_fail("get")?.0, b"v".to_vec())?;
    let (_, _, watcher) = c.get_and_watch_data("/a").await.or_fail("watch")?;
    plain.set_data(&format!("{root}/a"), b"w", None).await.or_fail("set")?;
    expect(watcher, EventType::NodeDataChanged, "/a").await?;
    same("children", c.list_children("/").await.or_fail("children")?, vec!["a".to_owned()])
}

async fn lock_recipe(root: String) -> Outcome {
    let contenders = (0..5).map(|i| {
        let root = root.clone();
        async move {
            let c = connect().await?;
            for turn in 0..5 {
                let prefix = LockPrefix::new_curator(&root, "lock").or_fail("prefix")?;
                let lock = within(c.lock(prefix, b"", Acls::anyone_all())).await?.or_fail("lock")?;
                // Only the holder may find this node missing.
                let held = format!("{root}/held");
                lock.create(&held, b"", &open(PERSISTENT)).await.or_fail(&format!("hold {i}.{turn}"))?;
                lock.delete(&held, None).await.or_fail("let go")?;
            }
            Outcome::Ok(())
        }
    });
    futures::future::try_join_all(contenders).await.map(drop)
}
