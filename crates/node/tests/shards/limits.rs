//! Back-pressure and oversized requests: bounded memory, and no legal client hung up on.

use ostler_node::ConnectionEnd;
use ostler_tree::EndCause;
use ostler_types::{AddWatchMode, ErrorCode};
use ostler_wire::multi::ReadOp;
use ostler_wire::{OpCode, Request, Response};

use crate::world::{Options, World, code, create, create_with, data_of, get, set};

#[test]
fn an_oversized_frame_is_answered_in_its_turn_and_the_connection_lives() {
    let mut world = World::with(&Options { max_frame: 1_000, ..Options::default() });
    let s = world.connect(0, 10_000);
    world.hold_disk = true;
    world.ask(s.peer, 1, &create("/a", 0));
    world.ask(s.peer, 2, &set("/a", &[b'x'; 5_000]));
    world.ask(s.peer, 3, &get("/a", false));
    world.ask_raw(s.peer, 4, 999, &[0; 200_000]);
    world.ask(s.peer, 5, &set("/a", &[b'y'; 900]));
    world.settle();
    assert_eq!(world.frames(s.peer), []);
    world.hold_disk = false;
    world.settle();
    let frames = world.frames(s.peer);
    let seen: Vec<_> = frames.iter().map(|f| (f.xid, f.err)).collect();
    let too_large = code(ErrorCode::BadArguments);
    assert_eq!(seen, [(1, 0), (2, too_large), (3, 0), (4, too_large), (5, 0)]);
    assert_eq!(world.stats[0].oversized.get(), 2);
}

#[test]
fn oversized_frames_may_arrive_in_any_pieces() {
    let mut world = World::with(&Options { max_frame: 100, ..Options::default() });
    let s = world.connect(0, 10_000);
    let mut bytes = vec![];
    set("/", &[b'x'; 300]).encode(ostler_types::Xid(1), &mut bytes);
    get("/", false).encode(ostler_types::Xid(2), &mut bytes);
    for size in [1, 3, 5, 7, 11, 50] {
        for piece in bytes.chunks(size) {
            world.send(s.peer, piece);
            world.settle();
        }
        let seen: Vec<_> = world.frames(s.peer).iter().map(|f| (f.xid, f.err)).collect();
        assert_eq!(seen, [(1, code(ErrorCode::BadArguments)), (2, 0)], "in pieces of {size}");
    }
}

#[test]
fn a_limit_smaller_than_a_header_breaks_nothing() {
    let mut world = World::with(&Options { max_frame: 4, ..Options::default() });
    let s = world.connect(0, 10_000);
    world.send(s.peer, &[0, 0, 0, 6, 0, 0, 0, 1, 0, 0]);
    world.settle();
    assert_eq!(world.closed(s.peer), Some(ConnectionEnd::BadFrame));
    let s = world.connect(0, 10_000);
    assert_eq!(world.call(s.peer, 1, &get("/", false))[0].err, code(ErrorCode::BadArguments));
    world.call(s.peer, -2, &Request::Ping);
    assert_eq!(world.closed(s.peer), None);
}

#[test]
fn operations_nobody_knows_or_that_are_the_servers_own_are_answered() {
    let mut world = World::new();
    let s = world.connect(0, 10_000);
    let own = [OpCode::DeleteContainer, OpCode::CreateSession, OpCode::Check].map(OpCode::code);
    for op in own.into_iter().chain([0, -1, 10, 23, 99, 108, i32::MIN, i32::MAX]) {
        world.ask_raw(s.peer, 9, op, b"\0\0\0\x01/");
        world.settle();
        let frames = world.frames(s.peer);
        assert_eq!(frames.len(), 1);
        assert_eq!((frames[0].xid, frames[0].zxid, frames[0].err), (9, -1, code(ErrorCode::Unimplemented)));
    }
    world.must(s.peer, &get("/", false));
}

#[test]
fn undecodable_bodies_are_answered_for_every_operation() {
    let mut world = World::new();
    let bodies = [&b""[..], &[0xff; 40], &[0x7f; 40], b"\0\0\0\x02\xc3\x28\0\0\0\0"];
    let bad = (0, Some(ConnectionEnd::BadFrame));
    let answered = (1, None);
    for &op in OpCode::ALL {
        // Replies, and how the connection ended: a close has no body to be wrong, and without what an
        // authentication packet holds nobody knows who the client is. Nothing else ends anything.
        let expected = match op {
            OpCode::CloseSession => [(1, Some(ConnectionEnd::SessionEnded(EndCause::Closed))); 4],
            // The second is a packet with null for everything.
            OpCode::Auth => [bad, (1, Some(ConnectionEnd::AuthFailed)), bad, bad],
            // The second is a null token and the last one of two bytes.
            OpCode::Sasl => [bad, answered, bad, answered],
            _ => [answered; 4],
        };
        for (body, expected) in bodies.iter().zip(expected) {
            let s = world.connect(0, 10_000);
            world.ask_raw(s.peer, 5, op.code(), body);
            world.settle();
            let seen = (world.frames(s.peer).len(), world.closed(s.peer));
            assert_eq!(seen, expected, "{op:?} {body:x?}");
        }
    }
    let s = world.connect(0, 10_000);
    world.must(s.peer, &create("/still-alive", 0));
}

#[test]
fn negative_lengths_and_frames_without_a_header_close_the_connection() {
    let mut world = World::new();
    for bytes in [&[0xff; 4][..], &[0x80, 0, 0, 0], &[0, 0, 0, 0], &[0, 0, 0, 7, 1, 2, 3, 4, 5, 6, 7]] {
        let s = world.connect(0, 10_000);
        world.send(s.peer, bytes);
        world.settle();
        assert_eq!(world.closed(s.peer), Some(ConnectionEnd::BadFrame), "{bytes:x?}");
        assert!(world.resume(0, &s).is_some());
    }
}

#[test]
fn past_the_outstanding_limit_sockets_are_not_read_and_nobody_starves() {
    let mut world = World::with(&Options { shards: 1, outstanding_limit: 10, ..Options::default() });
    let (greedy, modest) = (world.connect(0, 2_000), world.connect(0, 2_000));
    world.must(modest.peer, &create("/a", 0));
    world.hold_disk = true;
    for xid in 0..8_000 {
        world.ask(greedy.peer, xid, &set("/a", b"x"));
    }
    world.settle();
    assert!(world.unread(greedy.peer) > 0, "the socket is left alone");
    assert!(world.stats[0].outstanding.get() <= 10);
    // Another connection always has one request in flight.
    world.ask(modest.peer, 1, &set("/a", b"y"));
    world.settle();
    assert_eq!(world.unread(modest.peer), 0);
    // Nobody expires while we do not listen.
    for _ in 0..100 {
        world.ask(modest.peer, -2, &Request::Ping);
        world.advance(100);
    }
    assert!(world.has_session(&greedy));
    world.hold_disk = false;
    world.settle();
    let xids: Vec<i32> = world.frames(greedy.peer).iter().map(|f| f.xid).collect();
    assert_eq!(xids, (0..8_000).collect::<Vec<_>>());
    assert_eq!(world.unread(greedy.peer), 0);
    assert_eq!(world.stats[0].outstanding.get(), 0);
}

#[test]
fn past_the_outstanding_limit_connections_take_turns_and_each_has_one_in_flight() {
    let mut world = World::with(&Options { shards: 1, outstanding_limit: 4, ..Options::default() });
    let sessions: Vec<_> = (0..20).map(|_| world.connect(0, 10_000)).collect();
    world.must(sessions[0].peer, &create("/a", 0));
    world.hold_disk = true;
    for s in &sessions {
        for xid in 0..4_000 {
            world.ask(s.peer, xid, &set("/a", b"x"));
        }
    }
    world.settle();
    // What the first ones have in flight is as much as the shard may hold, and the others still have theirs.
    let facts = world.shards[0].connection_facts(world.now);
    assert!(facts.iter().all(|f| !f.reading && f.outstanding >= 1), "{facts:?}");
    assert_eq!(facts.iter().map(|f| f.outstanding).sum::<usize>(), 4 + 19);
    // One that goes away makes room for nobody but costs nobody their turn.
    world.cut(sessions[3].peer);
    world.hold_disk = false;
    world.settle();
    for (i, s) in sessions.iter().enumerate().filter(|(i, _)| *i != 3) {
        let xids: Vec<i32> = world.frames(s.peer).iter().map(|f| f.xid).collect();
        assert_eq!(xids, (0..4_000).collect::<Vec<_>>(), "client {i}");
        assert_eq!(world.unread(s.peer), 0);
    }
}

#[test]
fn stopping_with_many_connections_looks_at_each_once() {
    let mut world = World::with(&Options { shards: 1, outstanding_limit: 1, ..Options::default() });
    let now = world.now;
    let shard = &mut world.shards[0];
    // Were the others looked at again whenever one is closed, this would take minutes.
    let ids: Vec<_> = (0..200_000).map(|_| shard.open("127.0.0.1:4000".parse().unwrap(), now)).collect();
    shard.begin_shutdown();
    for id in ids {
        assert!(shard.is_closing(id) && !shard.wants_read(id));
        shard.output_progress(id, now);
        assert!(shard.remove(id, ConnectionEnd::Shutdown, now).is_some());
    }
    assert_eq!(shard.connection_ids(), []);
}

#[test]
fn what_is_sent_ahead_of_the_session_stays_in_the_socket() {
    let mut world = World::with(&Options { shards: 1, ..Options::default() });
    world.hold_disk = true;
    let peer = world.open(0);
    world.ask_session(peer, 10_000, None);
    for xid in 0..100 {
        world.ask(peer, xid, &create_with("/a", &[b'x'; 100_000], 0));
    }
    world.settle();
    assert!(world.unread(peer) > 9 << 20, "{} bytes are left in the socket", world.unread(peer));
    world.hold_disk = false;
    world.settle();
    assert!(world.handshake_answer(peer).is_some());
    let xids: Vec<i32> = world.frames(peer).iter().map(|f| f.xid).collect();
    assert_eq!(xids, (0..100).collect::<Vec<_>>());
}

#[test]
fn requests_that_wait_their_turn_hold_bounded_memory() {
    let mut world = World::with(&Options { shards: 1, outstanding_limit: 100_000, ..Options::default() });
    let s = world.connect(0, 10_000);
    world.must(s.peer, &create("/a", 0));
    world.hold_disk = true;
    let big = vec![b'x'; 1_000_000];
    world.ask(s.peer, 0, &set("/a", b"first"));
    world.ask(s.peer, 1, &get("/a", false));
    for xid in 2..102 {
        world.ask(s.peer, xid, &set("/a", &big));
    }
    world.settle();
    assert!(world.unread(s.peer) > 50 << 20, "100 MB of waiting requests were taken in");
    world.hold_disk = false;
    world.settle();
    let xids: Vec<i32> = world.frames(s.peer).iter().map(|f| f.xid).collect();
    assert_eq!(xids, (0..102).collect::<Vec<_>>());
}

#[test]
fn answers_to_requests_that_waited_are_made_no_faster_than_they_are_taken() {
    for outstanding_limit in [20, 1_000] {
        let mut world = World::with(&Options { shards: 1, outstanding_limit, ..Options::default() });
        let s = world.connect(0, 40_000);
        world.must(s.peer, &create_with("/a", &vec![b'x'; 500_000], 0));
        world.must(s.peer, &create("/b", 0));
        world.hold_disk = true;
        world.takes(s.peer, 0);
        for xid in 0..200 {
            let request = if xid % 50 == 0 { set("/b", b"x") } else { get("/a", false) };
            world.ask(s.peer, xid, &request);
        }
        world.settle();
        world.hold_disk = false;
        world.settle();
        assert!(world.unsent(s.peer) < 2 << 20, "{} bytes wait for the client", world.unsent(s.peer));
        world.takes(s.peer, 700_000);
        world.advance(500);
        assert!(world.unsent(s.peer) < 2 << 20, "{} bytes wait for the client", world.unsent(s.peer));
        world.takes(s.peer, usize::MAX);
        world.settle();
        let xids: Vec<i32> = world.frames(s.peer).iter().map(|f| f.xid).collect();
        assert_eq!(xids, (0..200).collect::<Vec<_>>());
    }
}

#[test]
fn a_multi_read_of_more_than_a_server_can_hold_is_refused_as_a_whole() {
    let mut world = World::new();
    let s = world.connect(0, 10_000);
    world.must(s.peer, &create_with("/a", &vec![b'x'; 1_000_000], 0));
    let reads = |count| Request::MultiRead(vec![ReadOp::GetData { path: "/a".into() }; count]);
    world.takes(s.peer, 0);
    world.ask(s.peer, 1, &reads(20_000));
    world.settle();
    assert!(world.unsent(s.peer) < 100, "{} bytes wait for the client", world.unsent(s.peer));
    world.takes(s.peer, usize::MAX);
    // What fits is answered whole, and the connection lives.
    let frames = world.call(s.peer, 2, &reads(30));
    let seen: Vec<_> = frames.iter().map(|f| (f.xid, f.err)).collect();
    assert_eq!(seen, [(1, code(ErrorCode::BadArguments)), (2, 0)]);
    let Response::Multi { results } = frames[1].response(OpCode::MultiRead) else { panic!() };
    assert_eq!(results.len(), 30);
}

#[test]
fn a_client_that_reads_slowly_is_not_read_from_and_goes_on_when_it_catches_up() {
    let mut world = World::new();
    let s = world.connect(0, 4_000);
    world.must(s.peer, &create_with("/a", &vec![b'x'; 500_000], 0));
    world.takes(s.peer, 0);
    for xid in 0..20 {
        world.ask(s.peer, xid, &get("/a", false));
    }
    // Beyond what is buffered of it, the socket is left alone.
    world.send(s.peer, &[]);
    world.settle();
    let held = world.shards[0].connection_facts(world.now)[0].clone();
    assert!(!held.reading && held.writing);
    // It takes a little all the time: for longer than its timeout, and it does not expire.
    world.takes(s.peer, 50_000);
    for _ in 0..100 {
        world.advance(100);
    }
    world.takes(s.peer, usize::MAX);
    world.settle();
    let frames = world.frames(s.peer);
    assert_eq!(frames.iter().map(|f| f.xid).collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
    assert!(frames.iter().all(|f| data_of(f).len() == 500_000));
    assert!(world.has_session(&s));
}

#[test]
fn one_answer_that_takes_longer_than_the_timeout_does_not_expire_its_session() {
    let mut world = World::with(&Options { max_frame: 64 << 20, ..Options::default() });
    let s = world.connect(0, 2_000);
    world.must(s.peer, &create_with("/a", &vec![b'x'; 20 << 20], 0));
    world.takes(s.peer, 100_000);
    world.ask(s.peer, 1, &get("/a", false));
    world.advance(8_000);
    assert!(world.has_session(&s), "it takes 2 MB a second without a pause");
    world.takes(s.peer, usize::MAX);
    world.settle();
    assert_eq!(world.frames(s.peer).len(), 1);
}

#[test]
fn a_client_that_takes_nothing_expires_although_it_is_not_read_from() {
    let mut world = World::new();
    let (s, other) = (world.connect(0, 2_000), world.connect(0, 2_000));
    world.must(s.peer, &create_with("/a", &vec![b'x'; 900_000], 0));
    world.takes(s.peer, 0);
    for xid in 0..5 {
        world.ask(s.peer, xid, &get("/a", false));
    }
    for _ in 0..10 {
        world.ask(other.peer, -2, &Request::Ping);
        world.advance(500);
    }
    assert!(!world.has_session(&s) && world.has_session(&other));
}

#[test]
fn clients_that_take_nothing_are_closed_before_all_their_output_fills_the_memory() {
    let limit = 4 << 20;
    let options =
        Options { shards: 1, outstanding_limit: 100_000, unsent_limit: limit, ..Options::default() };
    let mut world = World::with(&options);
    let good = world.connect(0, 10_000);
    world.must(good.peer, &create_with("/a", &[b'x'; 300_000], 0));
    let bad: Vec<_> = (0..50).map(|_| world.connect(0, 40_000)).collect();
    for (i, s) in bad.iter().enumerate() {
        world.takes(s.peer, 0);
        // The first wants little and is not to blame.
        world.ask(s.peer, 1, &get(if i == 0 { "/" } else { "/a" }, false));
        world.ask(s.peer, 2, &get(if i == 0 { "/" } else { "/a" }, false));
        world.settle();
        let unsent: usize = bad.iter().map(|s| world.unsent(s.peer)).sum();
        assert!(unsent <= limit, "{unsent} bytes are kept after client {i}");
        world.must(good.peer, &get("/a", false));
    }
    assert_eq!(world.closed(bad[0].peer), None);
    let closed = bad.iter().filter(|s| world.closed(s.peer) == Some(ConnectionEnd::NotReading)).count();
    assert!((40..49).contains(&closed), "{closed} are closed");
}

#[test]
fn many_large_answers_at_once_are_made_one_after_the_other_and_nobody_is_closed_for_them() {
    for waiting in [false, true] {
        let options =
            Options { shards: 1, outstanding_limit: 100_000, unsent_limit: 1 << 20, ..Options::default() };
        let mut world = World::with(&options);
        let sessions: Vec<_> = (0..40).map(|_| world.connect(0, 10_000)).collect();
        world.must(sessions[0].peer, &create_with("/a", &[b'x'; 200_000], 0));
        world.must(sessions[0].peer, &create("/b", 0));
        world.hold_disk = true;
        for s in &sessions {
            if waiting {
                world.ask(s.peer, 0, &set("/b", b"x"));
            }
            for xid in 1..6 {
                world.ask(s.peer, xid, &get("/a", false));
            }
        }
        world.settle();
        world.hold_disk = false;
        world.settle();
        for s in &sessions {
            let xids: Vec<i32> = world.frames(s.peer).iter().map(|f| f.xid).collect();
            assert_eq!(xids, (i32::from(!waiting)..6).collect::<Vec<_>>());
            assert_eq!((world.closed(s.peer), world.unread(s.peer)), (None, 0));
        }
    }
}

#[test]
fn a_watcher_that_never_reads_is_closed_past_the_limit() {
    let mut world = World::new();
    let (s, writer) = (world.connect(0, 40_000), world.connect(1, 40_000));
    let watch = Request::AddWatch { path: "/".into(), mode: AddWatchMode::PersistentRecursive };
    world.must(s.peer, &watch);
    world.takes(s.peer, 0);
    let name = format!("/{}", "n".repeat(200_000));
    world.must(writer.peer, &create(&name, 0));
    for round in 0..500 {
        for xid in 0..2 {
            world.ask(writer.peer, xid, &set(&name, b"x"));
        }
        world.settle();
        world.frames(writer.peer);
        if world.closed(s.peer).is_some() {
            assert!(round > 100, "64 MB may pile up");
            break;
        }
    }
    assert_eq!(world.closed(s.peer), Some(ConnectionEnd::NotReading), "it is gone, not only marked");
    assert!(world.has_session(&s), "the session waits for it to come back");
}

#[test]
fn large_requests_of_many_connections_wait_for_room_too() {
    let mut world = World::new();
    let first = world.connect(0, 30_000);
    world.must(first.peer, &create("/a", 0));
    let peers: Vec<_> = (0..150).map(|_| world.connect(0, 30_000).peer).collect();
    world.hold_disk = true;
    let large = vec![b'x'; 1_000_000];
    for &peer in &peers {
        world.ask(peer, 1, &set("/a", &large));
    }
    world.settle();
    let facts = world.shards[0].connection_facts(world.now);
    let taken = facts.iter().filter(|c| c.outstanding > 0).count();
    assert!((128..=140).contains(&taken), "{taken} of 150 MB were taken in");
    // Whoever asks for little is served, and heartbeats are.
    world.must(first.peer, &get("/a", false));
    assert_eq!(world.call(first.peer, -2, &Request::Ping).len(), 1);
    world.hold_disk = false;
    world.settle();
    for &peer in &peers {
        let answers: Vec<_> = world.frames(peer).iter().map(|f| (f.xid, f.err)).collect();
        assert_eq!(answers, [(1, 0)]);
    }
}
