//! Whole clients that misbehave, many at once.

use std::io::Write;
use std::net::TcpStream;

use ostler_types::Xid;
use ostler_wire::Request;

use crate::support::{Random, TestServer, Wire, connect_request, create_with, wait_for};

#[test]
fn random_bytes_at_the_port_from_many_connections() {
    let server = TestServer::with("nio.sessionlessCnxnTimeout=1000");
    let address = server.address;
    let threads: Vec<_> = (0..8)
        .map(|seed| {
            std::thread::spawn(move || {
                let mut random = Random::new(seed);
                for round in 0..60 {
                    let count = 1 + random.below(3000);
                    let mut bytes = random.bytes(count);
                    if round % 3 == 0 {
                        // Far enough in to be taken for a client.
                        let hello = connect_request(30_000, ostler_types::SessionId::NONE, &[0; 16]);
                        bytes.splice(..0, hello);
                    }
                    if round % 3 == 1 {
                        let length = (random.below(2000) as u32).to_be_bytes();
                        bytes.splice(..0, length);
                    }
                    // The server may close at any byte.
                    let mut stream = TcpStream::connect(address).unwrap();
                    let _ = stream.write_all(&bytes);
                }
            })
        })
        .collect();
    for _ in 0..10 {
        server.assert_serves();
    }
    for thread in threads {
        thread.join().unwrap();
    }
    server.assert_serves();
    server.wait_for_no_connections();
}

#[test]
fn half_open_connections_are_no_burden() {
    let server = TestServer::with("nio.sessionlessCnxnTimeout=500");
    let idle: Vec<Wire> = (0..300).map(|_| Wire::open(server.address)).collect();
    server.assert_serves();
    server.wait_for_no_connections();
    for mut wire in idle {
        wire.assert_closed();
    }
}

#[test]
fn a_client_that_never_reads_keeps_nobody_waiting_and_is_dropped_in_the_end() {
    let server = TestServer::with("tickTime=500\nglobalOutstandingLimit=100");
    let mut owner = Wire::with_session(server.address);
    assert_eq!(owner.call(&create_with("/big", &vec![b'x'; 800_000], 0)).0.err, 0);
    let deaf: Vec<Wire> = (0..4)
        .map(|_| {
            let mut wire = Wire::open(server.address);
            assert!(wire.handshake(1_000));
            let mut bytes = vec![];
            for xid in 0..200 {
                Request::GetData { path: "/big".into(), watch: false }.encode(Xid(xid), &mut bytes);
            }
            wire.send(&bytes);
            wire
        })
        .collect();
    wait_for("their sessions to expire and their connections to go", || {
        owner.assert_alive();
        server.monitored("zk_num_alive_connections") <= 2
    });
    assert_eq!(server.monitored("zk_outstanding_requests"), 0);
    for wire in &deaf {
        let mut late = Wire::resume(server.address, wire);
        assert!(!late.handshake(1_000));
    }
}

#[test]
fn a_client_that_reads_late_gets_everything_in_order() {
    let server = TestServer::start();
    let mut wire = Wire::with_session(server.address);
    assert_eq!(wire.call(&create_with("/big", &vec![b'x'; 200_000], 0)).0.err, 0);
    let mut bytes = vec![];
    for xid in 0..300 {
        if xid % 3 == 0 {
            Request::SetData { path: "/big".into(), data: Some(&[b'y'; 200_000]), version: -1 }
                .encode(Xid(xid), &mut bytes);
        } else {
            Request::GetData { path: "/big".into(), watch: false }.encode(Xid(xid), &mut bytes);
        }
    }
    let mut writer = wire.stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || writer.write_all(&bytes).unwrap());
    for xid in 0..300 {
        let (header, _) = wire.reply().unwrap();
        assert_eq!((header.xid.0, header.err), (xid, 0));
    }
    sending.join().unwrap();
}

#[test]
fn who_goes_on_sending_after_the_end_holds_nobody_up() {
    let server = TestServer::start();
    let mut flooder = Wire::with_session(server.address);
    let mut socket = flooder.stream.try_clone().unwrap();
    assert_eq!(flooder.call(&Request::CloseSession).0.err, 0);
    let flood = std::thread::spawn(move || {
        let junk = vec![0; 1 << 20];
        // Until the server has had enough of it.
        while socket.write_all(&junk).is_ok() {}
    });
    for _ in 0..20 {
        server.assert_serves();
    }
    flood.join().unwrap();
    server.wait_for_no_connections();
}

#[test]
fn one_busy_client_does_not_keep_the_others_waiting() {
    let server = TestServer::start();
    let mut owner = Wire::with_session(server.address);
    assert_eq!(owner.call(&create_with("/big", &vec![b'x'; 1_000_000], 0)).0.err, 0);
    let greedy: Vec<_> = (0..4)
        .map(|_| {
            let mut wire = Wire::with_session(server.address);
            let mut bytes = vec![];
            for xid in 0..300 {
                Request::GetData { path: "/big".into(), watch: false }.encode(Xid(xid), &mut bytes);
            }
            wire.send(&bytes);
            std::thread::spawn(move || {
                for xid in 0..300 {
                    assert_eq!(wire.reply().unwrap().0.xid.0, xid);
                }
            })
        })
        .collect();
    // Served while they are, not after them.
    let mut served_meanwhile = 0;
    while greedy.iter().any(|thread| !thread.is_finished()) {
        owner.assert_alive();
        served_meanwhile += 1;
    }
    for thread in greedy {
        thread.join().unwrap();
    }
    assert!(served_meanwhile > 0);
    server.assert_serves();
}

#[test]
fn connections_above_the_limit_are_refused_and_make_room_when_they_go() {
    let server = TestServer::with("maxClientCnxns=3");
    let first = [(); 3].map(|()| Wire::with_session(server.address));
    let mut fourth = Wire::open(server.address);
    assert!(!fourth.handshake(30_000));
    drop(first);
    wait_for("room", || Wire::open(server.address).handshake(30_000));
}

#[test]
fn words_are_answered_whatever_surrounds_them() {
    let server = TestServer::start();
    assert_eq!(server.word("ruok"), "imok");
    assert_eq!(server.word("ruok\n"), "imok");
    assert_eq!(server.word("ruokruokruokruok"), "imok");
    for odd in ["quux", "zzzz", "mntrmntr", "stmk"] {
        let mut wire = Wire::open(server.address);
        wire.send(odd.as_bytes());
        wire.end_writing();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut wire.stream, &mut text).unwrap();
    }
    server.assert_serves();
    server.wait_for_no_connections();
}
