//! A reconfig is answered when the leader has brought it about; its session waits for it, others do not.

use ostler_types::{ErrorCode, EventType, Xid};
use ostler_wire::Request;

use crate::world::{Frame, Options, Session, World, code, create, data_of, get};

/// How long the leader waits for every server that a reconfig names, and how long for a majority of them.
const AWAIT_ALL_MS: u64 = 5_000;
const AWAIT_MAJORITY_MS: u64 = 30_000;

fn ensemble_of_one() -> World {
    World::with(&Options { is_ensemble: true, ..Options::default() })
}

fn reconfig(joining: &str) -> Request<'_> {
    Request::Reconfig { joining: Some(joining.into()), leaving: None, new_members: None, config_id: -1 }
}

/// Lets time pass while the clients send their heartbeats.
fn keep_alive(world: &mut World, sessions: &[&Session], ms: u64) {
    for _ in 0..ms / 1_000 {
        world.advance(1_000);
        for session in sessions {
            world.ask(session.peer, Xid::PING.0, &Request::Ping);
        }
        world.settle();
    }
}

fn without_pings(frames: Vec<Frame>) -> Vec<Frame> {
    frames.into_iter().filter(|frame| frame.xid != Xid::PING.0).collect()
}

fn xids(frames: &[Frame]) -> Vec<i32> {
    frames.iter().map(|frame| frame.xid).collect()
}

#[test]
fn requests_behind_a_reconfig_wait_for_its_answer() {
    let mut world = ensemble_of_one();
    let (s, other) = (world.connect(0, 10_000), world.connect(1, 10_000));
    world.must(other.peer, &get("/zookeeper/config", true));
    world.ask(s.peer, 1, &create("/before", 0));
    world.ask(s.peer, 2, &reconfig("server.2=10.0.0.2:2888:3888:observer;2181"));
    world.ask(s.peer, 3, &create("/behind", 0));
    world.ask(s.peer, 4, &get("/behind", false));
    world.settle();
    assert_eq!(xids(&world.frames(s.peer)), [1]);
    assert!(!world.exists("/behind"));
    // Nobody else waits, but there can be no second reconfig.
    world.must(other.peer, &create("/other", 0));
    let refused = world.call(other.peer, 9, &reconfig("server.3=10.0.0.3:2888:3888;2181"));
    assert_eq!(refused[0].err, code(ErrorCode::ReconfigInProgress));

    // The observer does not come; those who decide are there.
    keep_alive(&mut world, &[&s, &other], AWAIT_ALL_MS + 1_000);
    let frames = without_pings(world.frames(s.peer));
    assert_eq!(xids(&frames), [2, 3, 4]);
    let text = String::from_utf8(data_of(&frames[0])).unwrap();
    let expected = format!(
        "server.1=10.0.0.1:2888:3888:participant;0.0.0.0:2181\n\
         server.2=10.0.0.2:2888:3888:observer;0.0.0.0:2181\nversion={:x}",
        frames[0].zxid
    );
    assert_eq!((frames[0].err, text), (0, expected));
    let event = without_pings(world.frames(other.peer))[0].event();
    assert_eq!(event, Some((EventType::NodeDataChanged, "/zookeeper/config".to_owned())));
}

#[test]
fn an_abandoned_reconfig_is_answered_with_its_error() {
    let mut world = ensemble_of_one();
    let s = world.connect(0, 10_000);
    world.ask(s.peer, 1, &reconfig("server.2=10.0.0.2:2888:3888;2181"));
    world.ask(s.peer, 2, &get("/", false));
    world.settle();
    assert_eq!(world.frames(s.peer), []);
    // Two are to decide, and one of them does not come.
    keep_alive(&mut world, &[&s], AWAIT_MAJORITY_MS + 1_000);
    let frames = without_pings(world.frames(s.peer));
    assert_eq!(xids(&frames), [1, 2]);
    assert_eq!(frames[0].err, code(ErrorCode::NewConfigNoQuorum));
}

#[test]
fn a_reconfig_outlives_the_connection_that_asked() {
    let mut world = ensemble_of_one();
    let s = world.connect(0, 10_000);
    world.ask(s.peer, 1, &reconfig("server.2=10.0.0.2:2888:3888:observer;2181"));
    world.settle();
    world.cut(s.peer);
    let s = world.resume(1, &s).unwrap();
    keep_alive(&mut world, &[&s], AWAIT_ALL_MS + 1_000);
    assert_eq!(without_pings(world.frames(s.peer)), [], "nobody waits for the answer");
    let config = String::from_utf8(data_of(&world.must(s.peer, &get("/zookeeper/config", false)))).unwrap();
    assert!(config.contains("server.2=10.0.0.2:2888:3888:observer"), "{config}");
}
