//! Watch events: before what they announce, in the order of what happened.

use ostler_types::{AddWatchMode, EventType, Zxid};
use ostler_wire::{Request, SetWatches};

use crate::world::{Frame, World, create, data_of, delete, get, set};

fn shown(frames: &[Frame]) -> Vec<String> {
    frames
        .iter()
        .map(|f| match f.event() {
            Some((kind, path)) => format!("{kind:?} {path}"),
            None => format!("#{}", f.xid),
        })
        .collect()
}

#[test]
fn the_event_of_ones_own_write_comes_before_its_reply() {
    let mut world = World::new();
    let s = world.connect(0, 10_000);
    world.must(s.peer, &create("/a", 0));
    world.ask(s.peer, 1, &get("/a", true));
    world.ask(s.peer, 2, &Request::GetChildren { path: "/".into(), watch: true });
    world.ask(s.peer, 3, &Request::Exists { path: "/b".into(), watch: true });
    world.ask(s.peer, 4, &set("/a", b"x"));
    world.ask(s.peer, 5, &create("/b", 0));
    world.ask(s.peer, 6, &delete("/a"));
    world.settle();
    let frames = world.frames(s.peer);
    assert_eq!(
        shown(&frames),
        ["#1", "#2", "#3", "NodeDataChanged /a", "#4", "NodeCreated /b", "NodeChildrenChanged /", "#5", "#6"]
    );
    assert_eq!(frames[3].zxid, frames[4].zxid);
    assert!(frames.is_sorted_by_key(|f| f.zxid));
}

#[test]
fn events_of_other_sessions_come_in_the_order_of_their_zxids_before_anything_later() {
    let mut world = World::new();
    let writers = [world.connect(0, 10_000), world.connect(1, 10_000)];
    let watcher = world.connect(1, 10_000);
    let watch = Request::AddWatch { path: "/".into(), mode: AddWatchMode::PersistentRecursive };
    world.must(watcher.peer, &watch);
    for i in 0..40 {
        world.ask(writers[i % 2].peer, i as i32, &create(&format!("/n{i}"), 0));
        if i % 5 == 0 {
            world.ask(watcher.peer, i as i32, &Request::Exists { path: "/n39".into(), watch: false });
            world.ask(watcher.peer, -2, &Request::Ping);
        }
        if i % 7 == 0 {
            world.settle();
        }
    }
    world.settle();
    let frames = world.frames(watcher.peer);
    let events: Vec<i64> = frames.iter().filter(|f| f.event().is_some()).map(|f| f.zxid).collect();
    assert_eq!(events.len(), 40);
    assert!(events.is_sorted_by(|a, b| a < b));
    assert!(frames.is_sorted_by_key(|f| f.zxid), "ping and read replies included: {frames:?}");
}

#[test]
fn a_read_shows_no_state_whose_event_has_not_been_queued() {
    let mut world = World::new();
    let (writer, watcher) = (world.connect(0, 10_000), world.connect(1, 10_000));
    world.must(writer.peer, &create("/a", 0));
    world.must(watcher.peer, &get("/a", true));
    // The watcher's worker sleeps while the write is applied, and its client asks meanwhile.
    world.asleep[1] = true;
    world.ask(writer.peer, 1, &set("/a", b"new"));
    world.settle();
    world.ask(watcher.peer, 2, &get("/a", false));
    world.asleep[1] = false;
    world.settle();
    let frames = world.frames(watcher.peer);
    assert_eq!(shown(&frames), ["NodeDataChanged /a", "#2"]);
    assert_eq!(data_of(&frames[1]), b"new");
}

#[test]
fn set_watches_tells_what_was_missed_and_arms_the_rest() {
    let mut world = World::new();
    let (s, writer) = (world.connect(0, 10_000), world.connect(1, 10_000));
    for path in ["/same", "/changed", "/gone", "/parent", "/quiet"] {
        world.must(writer.peer, &create(path, 0));
    }
    let seen = world.must(s.peer, &get("/same", false)).zxid;
    world.cut(s.peer);
    world.must(writer.peer, &set("/changed", b"x"));
    world.must(writer.peer, &delete("/gone"));
    world.must(writer.peer, &create("/parent/child", 0));
    world.must(writer.peer, &create("/appeared", 0));

    let s = world.resume(1, &s).unwrap();
    let paths = |paths: &[&'static str]| paths.iter().map(|&p| p.into()).collect::<Vec<_>>();
    let watches = SetWatches {
        relative_zxid: Zxid(seen),
        data: paths(&["/same", "/changed", "/gone"]),
        exist: paths(&["/appeared", "/still-missing"]),
        child: paths(&["/parent", "/quiet", "/gone"]),
    };
    let frames = world.call(s.peer, -8, &Request::SetWatches(watches));
    assert_eq!(
        shown(&frames),
        [
            "NodeDataChanged /changed",
            "NodeDeleted /gone",
            "NodeCreated /appeared",
            "NodeChildrenChanged /parent",
            "NodeDeleted /gone",
            "#-8"
        ]
    );
    assert!(frames[..5].iter().all(|f| f.zxid == -1));

    world.must(writer.peer, &set("/same", b"x"));
    world.must(writer.peer, &create("/still-missing", 0));
    world.must(writer.peer, &create("/quiet/child", 0));
    // Used up by the event that was told.
    world.must(writer.peer, &set("/changed", b"y"));
    world.settle();
    assert_eq!(
        shown(&world.frames(s.peer)),
        ["NodeDataChanged /same", "NodeCreated /still-missing", "NodeChildrenChanged /quiet"]
    );
}

#[test]
fn persistent_watches_come_back_with_set_watches_2() {
    let mut world = World::new();
    let (s, writer) = (world.connect(0, 10_000), world.connect(0, 10_000));
    world.must(writer.peer, &create("/p", 0));
    world.cut(s.peer);
    let s = world.resume(1, &s).unwrap();
    let request = Request::SetWatches2 {
        one_shot: SetWatches::default(),
        persistent: vec!["/p".into()],
        persistent_recursive: vec!["/".into()],
    };
    world.must(s.peer, &request);
    world.must(writer.peer, &set("/p", b"1"));
    world.must(writer.peer, &create("/p/c", 0));
    assert_eq!(
        shown(&world.frames(s.peer)),
        ["NodeDataChanged /p", "NodeCreated /p/c", "NodeChildrenChanged /p"]
    );
}

#[test]
fn watches_end_with_their_connection() {
    let mut world = World::new();
    let (s, writer) = (world.connect(0, 10_000), world.connect(0, 10_000));
    world.must(writer.peer, &create("/a", 0));
    world.must(s.peer, &get("/a", true));
    let moved = world.resume(1, &s).unwrap();
    world.must(writer.peer, &set("/a", b"x"));
    assert_eq!(world.frames(moved.peer), []);
    assert_eq!(world.frames(s.peer), []);
    assert_eq!((world.stats[0].watches.get(), world.stats[1].watches.get()), (0, 0));
}

#[test]
fn the_end_of_a_session_deletes_its_ephemerals_under_one_zxid() {
    let mut world = World::new();
    let (owner, watcher) = (world.connect(0, 10_000), world.connect(1, 10_000));
    for path in ["/e1", "/e2", "/e3"] {
        world.must(owner.peer, &create(path, crate::world::EPHEMERAL));
        world.must(watcher.peer, &get(path, true));
    }
    let reply = world.must(owner.peer, &Request::CloseSession);
    let frames = world.frames(watcher.peer);
    assert_eq!(frames.len(), 3);
    assert!(frames.iter().all(|f| f.event().unwrap().0 == EventType::NodeDeleted && f.zxid == reply.zxid));
}
