//! Sessions claimed, moved and ended over real sockets.

use ostler_types::{SessionId, Zxid};
use ostler_wire::{ConnectRequest, Request};

use crate::support::{TestServer, Wire, create, wait_for};

#[test]
fn an_attach_closes_the_connection_that_had_the_session() {
    let server = TestServer::start();
    let mut first = Wire::with_session(server.address);
    assert_eq!(first.call(&create("/e", 1)).0.err, 0);
    // Often enough that both workers have been old and new owner.
    for _ in 0..20 {
        let mut second = Wire::resume(server.address, &first);
        assert!(second.handshake(30_000));
        assert_eq!((second.session, &second.password), (first.session, &first.password));
        first.assert_closed();
        second.assert_alive();
        first = second;
    }
    assert_eq!(first.call(&Request::Exists { path: "/e".into(), watch: false }).0.err, 0);
}

#[test]
fn a_wrong_password_and_an_unknown_session_are_told_expired() {
    let server = TestServer::start();
    let mut live = Wire::with_session(server.address);
    for session in [live.session, SessionId(1), SessionId(-1), SessionId(i64::MIN), SessionId(i64::MAX)] {
        for password in [vec![], vec![0; 16], vec![0xff; 16], vec![1; 15], vec![1; 17], vec![1; 500]] {
            let mut thief = Wire::open(server.address);
            (thief.session, thief.password) = (session, password);
            assert!(!thief.handshake(30_000));
            assert_eq!(thief.timeout_ms, 0);
            thief.assert_closed();
        }
    }
    live.assert_alive();
}

#[test]
fn a_client_from_the_future_is_closed_without_an_answer() {
    let server = TestServer::start();
    let sessions = server.monitored("zk_global_sessions");
    let mut wire = Wire::open(server.address);
    let mut bytes = vec![];
    ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: Zxid(i64::MAX),
        timeout_ms: 30_000,
        session: SessionId::NONE,
        password: Some(&[0; 16]),
        read_only: Some(false),
    }
    .encode(&mut bytes);
    wire.send(&bytes);
    assert_eq!(wire.frame(), None);
    assert_eq!(server.monitored("zk_global_sessions"), sessions);
}

#[test]
fn a_half_closed_connection_is_noticed_long_before_its_session_expires() {
    let server = TestServer::start();
    let mut wires: Vec<Wire> = (0..20).map(|_| Wire::with_session(server.address)).collect();
    for wire in &mut wires {
        // Bytes and the end in one go, as a client that gives up does.
        wire.send_frame(1, 3, b"\0\0\0\x01/\0");
        wire.end_writing();
    }
    server.wait_for_no_connections();
    for wire in &mut wires {
        wire.assert_closed();
        let mut again = Wire::resume(server.address, wire);
        assert!(again.handshake(30_000), "only the connection ended");
    }
}

#[test]
fn a_silent_session_ends_with_its_ephemerals_and_its_connection() {
    let server = TestServer::with("tickTime=100");
    let mut watcher = Wire::with_session(server.address);
    let mut silent = Wire::open(server.address);
    assert!(silent.handshake(500));
    assert_eq!(silent.timeout_ms, 500);
    assert_eq!(silent.call(&create("/e", 1)).0.err, 0);
    wait_for("the session to expire", || {
        watcher.call(&Request::Exists { path: "/e".into(), watch: false }).0.err != 0
    });
    silent.assert_closed();
    let mut late = Wire::resume(server.address, &silent);
    assert!(!late.handshake(500));
}

#[test]
fn sessions_outlive_a_restart_with_their_id_and_password() {
    let mut server = TestServer::start();
    let mut wire = Wire::with_session(server.address);
    assert_eq!(wire.call(&create("/e", 1)).0.err, 0);
    for _ in 0..3 {
        server.restart();
        wire.assert_closed();
        let mut again = Wire::resume(server.address, &wire);
        assert!(again.handshake(30_000));
        assert_eq!(again.call(&Request::Exists { path: "/e".into(), watch: false }).0.err, 0);
        wire = again;
    }
    assert_eq!(wire.call(&Request::CloseSession).0.err, 0);
    server.restart();
    let mut ended = Wire::resume(server.address, &wire);
    assert!(!ended.handshake(30_000), "a closed session stays closed");
}
