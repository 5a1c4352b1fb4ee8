//! A reconfig is answered when the leader has brought it about; its session waits for it, others do not.

use ostler_types::{ErrorCode, EventType};
use ostler_wire::Request;

use crate::world::{World, code, create, data_of, get};

const CONFIGURE: u8 = 8;
const ADOPT_MEMBERS: u8 = 11;
const FINISH_RECONFIG: u8 = 12;
const ABANDON_RECONFIG: u8 = 13;

/// An ensemble of one, with reconfigEnabled, skipACL and without standaloneEnabled.
fn ensemble_of_one() -> World {
    let mut world = World::new();
    let switches = 0b11_1001;
    world.log(&[CONFIGURE, switches, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    let line = b"10.0.0.1:2888:3888:participant;0.0.0.0:2181";
    let mut adopt = vec![ADOPT_MEMBERS, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, line.len() as u8];
    adopt.extend_from_slice(line);
    world.log(&adopt);
    world
}

fn reconfig(joining: &str) -> Request<'_> {
    Request::Reconfig { joining: Some(joining.into()), leaving: None, new_members: None, config_id: -1 }
}

fn xids(frames: &[crate::world::Frame]) -> Vec<i32> {
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

    let begun = world.pending_reconfig().unwrap();
    world.log(&[&[FINISH_RECONFIG][..], &begun.to_be_bytes()].concat());
    let frames = world.frames(s.peer);
    assert_eq!(xids(&frames), [2, 3, 4]);
    let text = String::from_utf8(data_of(&frames[0])).unwrap();
    let expected = format!(
        "server.1=10.0.0.1:2888:3888:participant;0.0.0.0:2181\n\
         server.2=10.0.0.2:2888:3888:observer;0.0.0.0:2181\nversion={:x}",
        frames[0].zxid
    );
    assert_eq!((frames[0].err, text), (0, expected));
    let event = world.frames(other.peer)[0].event();
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
    let begun = world.pending_reconfig().unwrap();
    let error = ErrorCode::NewConfigNoQuorum;
    world.log(&[&[ABANDON_RECONFIG][..], &begun.to_be_bytes(), &error.code().to_be_bytes()].concat());
    let frames = world.frames(s.peer);
    assert_eq!(xids(&frames), [1, 2]);
    assert_eq!(frames[0].err, code(error));
}

#[test]
fn a_reconfig_outlives_the_connection_that_asked() {
    let mut world = ensemble_of_one();
    let s = world.connect(0, 10_000);
    world.ask(s.peer, 1, &reconfig("server.2=10.0.0.2:2888:3888:observer;2181"));
    world.settle();
    let begun = world.pending_reconfig().unwrap();
    world.cut(s.peer);
    let s = world.resume(1, &s).unwrap();
    world.log(&[&[FINISH_RECONFIG][..], &begun.to_be_bytes()].concat());
    assert_eq!(world.frames(s.peer), [], "nobody waits for the answer");
    let config = String::from_utf8(data_of(&world.must(s.peer, &get("/zookeeper/config", false)))).unwrap();
    assert!(config.contains("server.2=10.0.0.2:2888:3888:observer"), "{config}");
}
