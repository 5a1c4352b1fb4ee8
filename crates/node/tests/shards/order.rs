//! Requests of one session: answered in order, each seeing what came before it.

use ostler_types::{ErrorCode, SessionId};
use ostler_wire::{OpCode, Request};

use crate::world::{EPHEMERAL, World, code, create, create_with, data_of, delete, get, set};

fn xids(frames: &[crate::world::Frame]) -> Vec<i32> {
    frames.iter().map(|f| f.xid).collect()
}

#[test]
fn a_read_waits_for_the_writes_before_it_and_sees_them() {
    let mut world = World::new();
    let s = world.connect(0, 10_000);
    world.hold_disk = true;
    world.ask(s.peer, 1, &create_with("/a", b"one", 0));
    world.ask(s.peer, 2, &get("/a", false));
    world.ask(s.peer, 3, &set("/a", b"two"));
    world.ask(s.peer, 4, &get("/a", false));
    world.settle();
    assert_eq!(world.frames(s.peer), [], "nothing is durable yet");
    world.hold_disk = false;
    world.settle();
    let frames = world.frames(s.peer);
    assert_eq!(xids(&frames), [1, 2, 3, 4]);
    assert_eq!((data_of(&frames[1]), data_of(&frames[3])), (b"one".to_vec(), b"two".to_vec()));
    assert!(frames.is_sorted_by_key(|f| f.zxid), "{frames:?}");
}

#[test]
fn a_write_behind_a_waiting_read_is_not_applied_before_that_read_is_served() {
    let mut world = World::new();
    let (s, other) = (world.connect(0, 10_000), world.connect(1, 10_000));
    world.must(s.peer, &create_with("/a", b"old", 0));
    world.hold_disk = true;
    world.ask(s.peer, 1, &create("/b", 0));
    world.ask(s.peer, 2, &get("/a", false));
    world.ask(s.peer, 3, &set("/a", b"new"));
    world.settle();
    let seen = world.must(other.peer, &get("/a", false));
    assert_eq!(data_of(&seen), b"old");
    world.hold_disk = false;
    world.settle();
    let frames = world.frames(s.peer);
    assert_eq!(xids(&frames), [1, 2, 3]);
    assert_eq!(data_of(&frames[1]), b"old");
}

#[test]
fn pings_and_authentication_overtake_what_waits() {
    let mut world = World::new();
    let s = world.connect(0, 10_000);
    world.hold_disk = true;
    world.ask(s.peer, 1, &create("/a", 0));
    world.ask(s.peer, 2, &get("/a", false));
    world.ask(s.peer, -2, &Request::Ping);
    world.ask(s.peer, -4, &Request::Auth { scheme: Some("digest".into()), auth: Some(b"u:p") });
    world.settle();
    assert_eq!(xids(&world.frames(s.peer)), [-2, -4]);
    world.hold_disk = false;
    world.settle();
    assert_eq!(xids(&world.frames(s.peer)), [1, 2]);
}

#[test]
fn reads_of_others_do_not_wait_for_the_disk() {
    let mut world = World::new();
    let (writer, reader) = (world.connect(0, 10_000), world.connect(0, 10_000));
    world.hold_disk = true;
    world.ask(writer.peer, 1, &create("/a", 0));
    world.settle();
    assert_eq!(world.call(reader.peer, 1, &get("/a", false))[0].err, code(ErrorCode::NoNode));
    world.must(reader.peer, &get("/", false));
}

#[test]
fn refusals_keep_their_place() {
    let mut world = World::new();
    let s = world.connect(0, 10_000);
    world.hold_disk = true;
    world.ask(s.peer, 1, &create("/a", 0));
    world.ask_raw(s.peer, 2, 999, b"?");
    world.ask_raw(s.peer, 3, OpCode::SetData.code(), b"");
    world.ask_raw(s.peer, 4, OpCode::GetData.code(), b"");
    world.ask(s.peer, 5, &create("/b", 0));
    world.settle();
    assert_eq!(world.frames(s.peer), []);
    world.hold_disk = false;
    world.settle();
    let frames = world.frames(s.peer);
    let unimplemented = code(ErrorCode::Unimplemented);
    let undecodable = code(ErrorCode::MarshallingError);
    let seen: Vec<_> = frames.iter().map(|f| (f.xid, f.err)).collect();
    assert_eq!(seen, [(1, 0), (2, unimplemented), (3, undecodable), (4, undecodable), (5, 0)]);
    assert_eq!(frames[1].zxid, -1);
}

#[test]
fn a_full_log_refuses_writes_in_their_turn_and_serves_everything_else() {
    let mut world = World::new();
    let s = world.connect(0, 10_000);
    world.hold_disk = true;
    world.ask(s.peer, 1, &create("/a", 0));
    world.settle();
    world.set_room(false);
    world.ask(s.peer, 2, &set("/a", b"x"));
    world.ask(s.peer, 3, &get("/a", false));
    world.ask(s.peer, 4, &delete("/a"));
    world.settle();
    world.hold_disk = false;
    world.settle();
    let seen: Vec<_> = world.frames(s.peer).iter().map(|f| (f.xid, f.err)).collect();
    let throttled = code(ErrorCode::ThrottledOp);
    assert_eq!(seen, [(1, 0), (2, throttled), (3, 0), (4, throttled)]);

    let (newcomer, resumed) = (world.connect(1, 10_000), world.resume(1, &s).unwrap());
    world.must(newcomer.peer, &get("/a", false));
    world.must(newcomer.peer, &Request::CloseSession);
    world.set_room(true);
    world.must(resumed.peer, &set("/a", b"y"));
    assert_eq!(world.stats[0].refused_full.get(), 2);
}

#[test]
fn any_xid_is_echoed_and_none_ends_anything() {
    let mut world = World::new();
    let s = world.connect(0, 10_000);
    world.must(s.peer, &create("/a", 0));
    let odd = [0, 1, i32::MAX, i32::MIN, -1, -2, -3, -4, -8, -100, 0x5a5a_5a5a];
    for xid in odd {
        for request in [get("/a", false), set("/a", b"x"), Request::Sync { path: Some("/".into()) }] {
            let frames = world.call(s.peer, xid, &request);
            assert_eq!(xids(&frames), [xid], "{request:?}");
            assert_eq!(frames[0].err, 0);
        }
    }
    // Across the wrap, many in flight, reads and writes mixed.
    let wrapping: Vec<i32> = (0..100).map(|i| (i32::MAX - 50).wrapping_add(i)).collect();
    for (i, &xid) in wrapping.iter().enumerate() {
        let request = if i % 3 == 0 { get("/a", false) } else { set("/a", b"y") };
        world.ask(s.peer, xid, &request);
    }
    world.settle();
    assert_eq!(xids(&world.frames(s.peer)), wrapping);
}

#[test]
fn a_close_overtakes_nothing_of_its_session_and_is_answered_before_the_end() {
    let mut world = World::new();
    let (s, other) = (world.connect(0, 10_000), world.connect(1, 10_000));
    world.ask(s.peer, 1, &create("/kept", 0));
    world.ask(s.peer, 2, &create("/gone", EPHEMERAL));
    world.ask(s.peer, 3, &get("/gone", false));
    world.ask(s.peer, 4, &Request::CloseSession);
    world.ask(s.peer, 5, &create("/never", 0));
    world.settle();
    let frames = world.frames(s.peer);
    assert_eq!(xids(&frames), [1, 2, 3, 4]);
    assert!(frames.iter().all(|f| f.err == 0));
    assert!(matches!(world.closed(s.peer), Some(ostler_node::ConnectionEnd::SessionEnded(_))));
    let there: Vec<bool> = ["/kept", "/gone", "/never"].iter().map(|p| world.exists(p)).collect();
    assert_eq!(there, [true, false, false]);
    assert!(!world.has_session(&s) && world.has_session(&other));
}

#[test]
fn what_is_pipelined_behind_the_connect_request_is_served_after_it() {
    let mut world = World::new();
    let peer = world.open(0);
    world.ask_session(peer, 10_000, None);
    world.ask(peer, 1, &create("/a", 0));
    world.ask(peer, 2, &get("/a", false));
    world.settle();
    let (id, ..) = world.handshake_answer(peer).unwrap();
    assert_ne!(id, SessionId::NONE);
    let frames = world.frames(peer);
    assert_eq!(xids(&frames), [1, 2]);
    assert!(frames.iter().all(|f| f.err == 0));
}

#[test]
fn bytes_may_arrive_one_by_one() {
    let mut world = World::new();
    let s = world.connect(0, 10_000);
    let mut whole = vec![];
    create_with("/a", b"data", 0).encode(ostler_types::Xid(1), &mut whole);
    get("/a", false).encode(ostler_types::Xid(2), &mut whole);
    for byte in whole {
        world.send(s.peer, &[byte]);
        world.settle();
    }
    let frames = world.frames(s.peer);
    assert_eq!(xids(&frames), [1, 2]);
    assert_eq!(data_of(&frames[1]), b"data");
}
