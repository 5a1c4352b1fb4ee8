//! Sessions: opened, moved, silent, ended.

use ostler_node::{ConnectionEnd, Millis};
use ostler_tree::EndCause;
use ostler_types::ErrorCode;
use ostler_wire::Request;

use crate::world::{EPHEMERAL, World, code, create, delete, get, set};

/// Sends a ping every `every_ms` for `ms`.
fn keep_alive(world: &mut World, peers: &[crate::world::Peer], every_ms: Millis, ms: Millis) {
    let until = world.now + ms;
    while world.now < until {
        for &peer in peers {
            world.ask(peer, -2, &Request::Ping);
        }
        world.advance(every_ms.min(until - world.now));
    }
}

#[test]
fn the_timeout_is_clamped_and_renegotiated_when_the_session_is_attached_again() {
    let mut world = World::new();
    for (asked, granted) in [(i32::MIN, 1_000), (0, 1_000), (5_000, 5_000), (i32::MAX, 40_000)] {
        assert_eq!(world.connect(0, asked).timeout_ms, granted);
    }
    let mut s = world.connect(0, 5_000);
    s.timeout_ms = 20_000;
    assert_eq!(world.resume(1, &s).unwrap().timeout_ms, 20_000);
    world.advance(19_000);
    assert!(world.has_session(&s));
}

#[test]
fn a_silent_session_expires_after_its_timeout_and_not_before() {
    let mut world = World::new();
    let (silent, alive) = (world.connect(0, 4_000), world.connect(1, 4_000));
    // Past the moment the server began to serve, which gives everybody a timeout and a third.
    world.advance(100);
    world.must(silent.peer, &create("/e", EPHEMERAL));
    let heard = world.now;
    while world.has_session(&silent) {
        assert!(world.now - heard < 8_000, "it never expires");
        keep_alive(&mut world, &[alive.peer], 50, 50);
    }
    let lived = world.now - heard;
    assert!((4_000..4_300).contains(&lived), "{lived} ms");
    assert!(!world.exists("/e"));
    assert_eq!(world.closed(silent.peer), Some(ConnectionEnd::SessionEnded(EndCause::Expired)));
    assert!(world.has_session(&alive));
    let end = &world.ended[0];
    assert_eq!((end.session, end.cause, end.ephemerals), (silent.id, EndCause::Expired, 1));
    assert!(end.silent_ms >= 4_000);
    assert!(world.resume(0, &silent).is_none());
}

#[test]
fn the_last_word_before_a_connection_breaks_counts() {
    let mut world = World::new();
    world.advance(100);
    let s = world.connect(0, 4_000);
    world.advance(3_000);
    // Heard and lost between two reports of the shard.
    world.ask(s.peer, -2, &Request::Ping);
    world.settle();
    assert_eq!(world.frames(s.peer).len(), 1);
    world.cut(s.peer);
    let heard = world.now;
    world.advance(3_900);
    assert!(world.has_session(&s), "it was heard {} ms ago", world.now - heard);
    world.advance(500);
    assert!(!world.has_session(&s));
}

#[test]
fn nobody_expires_before_every_shard_has_said_what_it_heard() {
    let mut world = World::new();
    let (a, b) = (world.connect(0, 2_000), world.connect(1, 2_000));
    world.asleep[1] = true;
    for _ in 0..100 {
        world.ask(b.peer, -2, &Request::Ping);
        world.advance(100);
    }
    assert!(world.has_session(&a) && world.has_session(&b));
    world.asleep[1] = false;
    world.settle();
    assert!(world.has_session(&b), "its pings had arrived");
    keep_alive(&mut world, &[b.peer], 500, 3_000);
    assert!(!world.has_session(&a) && world.has_session(&b));
}

#[test]
fn the_servers_own_stalls_cost_no_session() {
    let mut world = World::new();
    let s = world.connect(0, 2_000);
    for _ in 0..10 {
        world.advance(100);
        // Stopped for longer than the timeout; then the client, which had given up, comes back.
        world.stall(30_000);
        world.settle();
        assert!(world.has_session(&s));
    }
    world.advance(1_900);
    let back = world.resume(1, &s).expect("there is time to come back");
    assert!(world.core.status().stalled_ms >= 300_000);
    world.advance(2_300);
    assert!(!world.has_session(&back), "silence without a stall does expire it");
}

#[test]
fn a_disk_that_hangs_costs_no_session_whose_client_is_there_or_tries_to_come_back() {
    let mut world = World::new();
    let (steady, broken) = (world.connect(0, 4_000), world.connect(1, 4_000));
    world.must(broken.peer, &create("/e", EPHEMERAL));
    // Both rounds that may be at the disk are there, and stay there for a minute.
    world.hold_disk = true;
    for xid in 0..2 {
        world.ask(steady.peer, xid, &create(&format!("/{xid}"), 0));
        world.settle();
    }
    world.cut(broken.peer);
    for _ in 0..30 {
        let attempt = world.open(0);
        world.ask_session(attempt, 4_000, Some(&broken));
        keep_alive(&mut world, &[steady.peer], 500, 2_000);
        world.cut(attempt);
    }
    world.hold_disk = false;
    world.settle();
    assert!(world.has_session(&steady) && world.has_session(&broken));
    let back = world.resume(1, &broken).expect("it goes on");
    world.must(back.peer, &get("/e", false));
    assert_eq!(world.closed(steady.peer), None);
}

#[test]
fn a_newer_connection_takes_the_session_and_the_older_ones_requests_are_void() {
    for shard in [0, 1] {
        let mut world = World::new();
        let s = world.connect(0, 10_000);
        world.must(s.peer, &create("/e", EPHEMERAL));
        world.hold_disk = true;
        // The attach and then a write of the old connection are in the log, the write after the attach.
        let peer = world.open(shard);
        world.ask_session(peer, 10_000, Some(&s));
        world.settle();
        world.ask(s.peer, 1, &create("/never", 0));
        world.settle();
        world.hold_disk = false;
        world.settle();
        assert_eq!(world.closed(s.peer), Some(ConnectionEnd::Moved));
        assert_eq!(world.frames(s.peer), []);
        assert!(!world.exists("/never"));
        let (id, timeout_ms, password) = world.handshake_answer(peer).unwrap();
        assert_eq!((id, timeout_ms), (s.id, 10_000));
        assert_eq!(password.unwrap(), s.password);
        world.must(peer, &set("/e", b"mine"));
        assert!(world.exists("/e"));
    }
}

#[test]
fn writes_before_the_attach_apply_although_their_connection_is_gone() {
    let mut world = World::new();
    let s = world.connect(0, 10_000);
    world.hold_disk = true;
    world.ask(s.peer, 1, &create("/written", 0));
    world.settle();
    world.cut(s.peer);
    let peer = world.open(1);
    world.ask_session(peer, 10_000, Some(&s));
    world.settle();
    world.hold_disk = false;
    world.settle();
    assert!(world.exists("/written"));
    assert_eq!(world.handshake_answer(peer).unwrap().0, s.id);
    assert_eq!(world.frames(peer), [], "no reply of the old connection's request");
}

#[test]
fn of_two_attaches_at_once_one_wins() {
    let mut world = World::new();
    let s = world.connect(0, 10_000);
    world.cut(s.peer);
    let peers = [world.open(0), world.open(1)];
    for peer in peers {
        world.ask_session(peer, 10_000, Some(&s));
    }
    world.settle();
    let answers = peers.map(|peer| world.handshake_answer(peer).is_some());
    assert_eq!(answers.iter().filter(|&&won| won).count(), 1);
    let loser = peers[answers.iter().position(|&won| !won).unwrap()];
    assert_eq!(world.closed(loser), Some(ConnectionEnd::AttachLost));
    assert!(world.resume(0, &s).is_some(), "it may come again");
}

#[test]
fn a_wrong_password_is_told_expired_and_disturbs_nobody() {
    let mut world = World::new();
    let s = world.connect(0, 10_000);
    for wrong in [[0; 16], [0xff; 16]] {
        let mut thief = s;
        thief.password = wrong;
        assert!(world.resume(1, &thief).is_none());
    }
    assert_eq!(world.closed(s.peer), None);
    world.must(s.peer, &create("/a", 0));
}

#[test]
fn a_handshake_that_waited_too_long_is_not_carried_out() {
    let mut world = World::new();
    let s = world.connect(0, 9_000);
    let (stale, fresh) = (world.open(0), world.open(1));
    world.ask_session(stale, 9_000, Some(&s));
    // The shard reads it, and the core has no time for 3.5 s.
    let now = world.now;
    let requests = {
        let shard = &mut world.shards[0];
        let mut bytes = vec![];
        ostler_wire::ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: ostler_types::Zxid::ZERO,
            timeout_ms: 9_000,
            session: s.id,
            password: Some(&s.password),
            read_only: None,
        }
        .encode(&mut bytes);
        let id = shard.open("127.0.0.1:1".parse().unwrap(), now);
        shard.receive(id, &bytes, now);
        shard.take_requests(now, now).unwrap()
    };
    world.stall(3_500);
    let now = world.now;
    world.core.receive(requests, now);
    world.ask_session(fresh, 9_000, Some(&s));
    world.settle();
    let generation = world.state.read().session(s.id).unwrap().generation;
    assert_eq!(world.handshake_answer(fresh).map(|a| a.0), None, "two attaches at once: the older was first");
    assert_eq!(world.handshake_answer(stale).map(|a| a.0), Some(s.id));
    assert_eq!(generation.0, 2, "the stale one has not counted");
}

#[test]
fn a_client_that_has_seen_a_later_state_is_turned_away_and_leaves_nothing() {
    let mut world = World::new();
    let sessions = world.state.read().sessions().len();
    let peer = world.open(0);
    let mut bytes = vec![];
    ostler_wire::ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: ostler_types::Zxid(i64::MAX),
        timeout_ms: 9_000,
        session: ostler_types::SessionId::NONE,
        password: Some(&[0; 16]),
        read_only: None,
    }
    .encode(&mut bytes);
    world.send(peer, &bytes);
    world.settle();
    assert_eq!(world.closed(peer), Some(ConnectionEnd::ClientAhead));
    assert_eq!(world.handshake_answer(peer), None);
    assert_eq!(world.state.read().sessions().len(), sessions);
}

#[test]
fn a_connection_without_a_session_is_closed_in_time() {
    let mut world = World::new();
    let (mute, slow) = (world.open(0), world.open(0));
    world.send(slow, &[0, 0, 0, 45, 0]);
    world.advance(9_900);
    assert_eq!((world.closed(mute), world.closed(slow)), (None, None));
    world.advance(200);
    let end = Some(ConnectionEnd::NoSession);
    assert_eq!((world.closed(mute), world.closed(slow)), (end, end));
}

#[test]
fn an_operators_kill_ends_a_session_that_is_alive() {
    let mut world = World::new();
    let s = world.connect(0, 10_000);
    world.must(s.peer, &create("/e", EPHEMERAL));
    let now = world.now;
    assert!(world.core.kill(s.id, now, 0));
    world.settle();
    assert_eq!(world.closed(s.peer), Some(ConnectionEnd::SessionEnded(EndCause::Killed)));
    assert!(!world.exists("/e"));
}

#[test]
fn failed_authentication_is_answered_and_closes_only_that_connection() {
    let mut world = World::new();
    for scheme in [Some("no-such"), None] {
        let s = world.connect(0, 10_000);
        let request = Request::Auth { scheme: scheme.map(Into::into), auth: Some(b"x") };
        let frames = world.call(s.peer, -4, &request);
        assert_eq!((frames.len(), frames[0].err), (1, code(ErrorCode::AuthFailed)));
        assert_eq!(world.closed(s.peer), Some(ConnectionEnd::AuthFailed));
        let back = world.resume(1, &s).expect("the session goes on");
        world.must(back.peer, &get("/", false));
    }
}

#[test]
fn what_was_heard_since_the_last_report_counts_before_silence_does() {
    // Every shard has a writer, so every turn sends the core something; touches go with every report only.
    for silence in (850..1_000).step_by(10) {
        let mut world = World::new();
        let writers = [world.connect(0, 30_000), world.connect(1, 30_000)];
        let quiet = world.connect(0, 1_000);
        for _ in 0..5 {
            for _ in 0..silence / 10 {
                world.advance(10);
                for writer in &writers {
                    world.must(writer.peer, &set("/", b"x"));
                }
            }
            world.call(quiet.peer, -2, &Request::Ping);
            assert!(world.has_session(&quiet), "expired after {silence} ms of silence");
        }
    }
}

#[test]
fn identities_are_bounded_because_every_write_carries_them() {
    let mut world = World::new();
    let s = world.connect(0, 10_000);
    let long = "u".repeat(10_000) + ":p";
    let auth = |credentials: &str| Request::Auth {
        scheme: Some("digest".into()),
        auth: Some(Box::leak(credentials.to_owned().into_boxed_str()).as_bytes()),
    };
    assert_eq!(world.call(s.peer, -4, &auth(&long))[0].err, 0);
    let other = long.replace('u', "v");
    assert_eq!(world.call(s.peer, -4, &auth(&other))[0].err, code(ErrorCode::AuthFailed));
    assert_eq!(world.closed(s.peer), Some(ConnectionEnd::AuthFailed));
}

#[test]
fn the_latency_of_a_handshake_counts_from_its_request() {
    let mut world = World::new();
    let peer = world.open(0);
    world.advance(3_000);
    world.hold_disk = true;
    world.ask_session(peer, 10_000, None);
    world.advance(200);
    world.hold_disk = false;
    world.settle();
    assert!(world.handshake_answer(peer).is_some());
    let facts = &world.shards[0].connection_facts(world.now)[0];
    assert_eq!(facts.age_ms, 3_200);
    // Read at the first turn after it was sent.
    assert!((150..=200).contains(&facts.last_latency_ms), "{}", facts.last_latency_ms);
    assert_eq!(world.stats[0].latency_max_ms.get(), u64::from(facts.last_latency_ms));
}

#[test]
fn sasl_is_answered_as_not_configured_and_changes_nothing() {
    let mut world = World::new();
    let s = world.connect(0, 10_000);
    let frames = world.call(s.peer, 1, &Request::Sasl { token: Some(b"token") });
    assert_eq!((frames.len(), frames[0].err), (1, 0));
    assert_eq!(frames[0].body, [0xff; 4], "a null token");
    world.must(s.peer, &get("/", false));
}

#[test]
fn when_the_server_stops_what_it_has_taken_is_answered_and_nothing_else_is_taken() {
    let mut world = World::new();
    let (busy, idle) = (world.connect(0, 10_000), world.connect(0, 10_000));
    world.hold_disk = true;
    world.ask(busy.peer, 1, &create("/a", 0));
    world.ask(busy.peer, 2, &create("/b", 0));
    // These wait for their turn: the answers of the reads for the client too.
    world.ask(busy.peer, 3, &set("/b", &vec![b'x'; 900_000]));
    for xid in 4..14 {
        world.ask(busy.peer, xid, &get("/b", false));
    }
    world.ask(busy.peer, 14, &create("/c", 0));
    world.ask_raw(busy.peer, 15, 99, b"");
    world.settle();
    world.takes(busy.peer, 50_000);
    world.shards[0].begin_shutdown();
    world.ask(busy.peer, 16, &delete("/a"));
    world.settle();
    assert_eq!(world.closed(idle.peer), Some(ConnectionEnd::Shutdown));
    assert_eq!(world.closed(busy.peer), None);
    world.hold_disk = false;
    world.settle();
    assert!(world.unsent(busy.peer) > 1 << 20);
    world.takes(busy.peer, usize::MAX);
    world.settle();
    let answers: Vec<_> = world.frames(busy.peer).iter().map(|f| (f.xid, f.err)).collect();
    let unknown = (15, code(ErrorCode::Unimplemented));
    assert_eq!(answers, (1..15).map(|xid| (xid, 0)).chain([unknown]).collect::<Vec<_>>());
    assert_eq!(world.closed(busy.peer), Some(ConnectionEnd::Shutdown));
    assert!(world.has_session(&busy) && world.exists("/a"));
}
