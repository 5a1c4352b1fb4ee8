//! Large numbers: many ephemerals of one session, many sessions at once.

use std::time::Instant;

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
    // All of them fall silent; the writer goes on. Each of its writes is answered in the round it came in,
    // while there are sessions left to expire.
    let started = Instant::now();
    let mut answered_meanwhile = 0;
    let mut xid = 0;
    while world.state.read().sessions().len() > 1 {
        xid += 1;
        world.ask(writer.peer, xid, &set("/w", b"x"));
        world.advance(50);
        let frames = world.frames(writer.peer);
        assert_eq!(frames.iter().map(|f| (f.xid, f.err)).collect::<Vec<_>>(), [(xid, 0)]);
        if !world.ended.is_empty() {
            answered_meanwhile += 1;
        }
        assert!(started.elapsed().as_secs() < 300, "they never expire");
    }
    assert_eq!(world.ended.len(), 10_000);
    assert!(answered_meanwhile > 0);
    assert_eq!(world.state.read().ephemeral_count(), 0);
    assert!(world.has_session(&writer));
}
