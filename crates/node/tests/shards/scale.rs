//! Large numbers: many ephemerals of one session, many sessions at once.

use ostler_wire::{OpCode, Request, Response};

use crate::world::{EPHEMERAL, Options, World, create, set};

#[test]
fn a_session_with_100_000_ephemerals_closes_at_once() {
    let mut world = World::with(&Options { outstanding_limit: 1 << 20, ..Options::default() });
    let (s, other) = (world.connect(0, 40_000), world.connect(1, 40_000));
    for i in 0..100_000 {
        world.ask(s.peer, i, &create(&format!("/e{i}"), EPHEMERAL));
    }
    world.settle();
    assert!(world.frames(s.peer).iter().all(|f| f.err == 0));
    assert_eq!(world.state.read().ephemeral_count(), 100_000);
    world.must(s.peer, &Request::CloseSession);
    assert_eq!(world.state.read().ephemeral_count(), 0);
    let frame = world.must(other.peer, &Request::GetChildren { path: "/".into(), watch: false });
    assert_eq!(frame.response(OpCode::GetChildren), Response::Strings { strings: vec!["zookeeper".into()] });
}

#[test]
fn ten_thousand_expiries_let_a_writer_through() {
    let mut world = World::new();
    let writer = world.connect(0, 5_000);
    world.must(writer.peer, &create("/w", 0));
    let mut peers = vec![];
    for i in 0..10_000 {
        let peer = world.open(i % 2);
        world.ask_session(peer, 2_000, None);
        peers.push(peer);
    }
    world.settle();
    for (i, &peer) in peers.iter().enumerate() {
        assert!(world.handshake_answer(peer).is_some());
        world.ask(peer, 1, &create(&format!("/e{i}"), EPHEMERAL));
    }
    world.settle();
    assert_eq!(world.state.read().ephemeral_count(), 10_000);
    // All of them fall silent at once; the writer goes on, with one write after the other.
    world.must(writer.peer, &set("/w", b"x"));
    world.advance(1_500);
    let (mut xid, mut written) = (1, vec![]);
    world.ask(writer.peer, xid, &set("/w", b"x"));
    for _ in 0..10_000 {
        if world.state.read().sessions().len() == 1 {
            break;
        }
        world.turn_after(1);
        for frame in world.frames(writer.peer) {
            assert_eq!((frame.xid, frame.err), (xid, 0));
            written.push(frame.zxid);
            xid += 1;
            world.ask(writer.peer, xid, &set("/w", b"x"));
        }
    }
    assert_eq!(world.ended.len(), 10_000);
    let ended: Vec<i64> = world.ended.iter().map(|end| end.zxid.0).collect();
    assert!(ended.is_sorted());
    // How many had ended before each write. A write waits for the rounds of 128 that are under way, no more.
    let mut before: Vec<usize> = written.iter().map(|zxid| ended.partition_point(|end| end < zxid)).collect();
    before.push(ended.len());
    assert!(before.is_sorted_by(|a, b| a <= b && b - a <= 4 * 128), "{before:?}");
    assert_eq!(world.state.read().ephemeral_count(), 0);
    assert!(world.has_session(&writer));
}
