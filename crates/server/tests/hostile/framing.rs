//! Lengths and boundaries.

use ostler_types::{ErrorCode, SessionId};
use ostler_wire::Request;

use crate::support::{TestServer, Wire, connect_request, create_with};

#[test]
fn a_connection_may_end_at_any_byte() {
    let server = TestServer::start();
    let mut request = vec![];
    create_with("/a", b"0123456789", 0).encode(ostler_types::Xid(1), &mut request);
    let handshake = connect_request(30_000, SessionId::NONE, &[0; 16]);
    for end in 0..handshake.len() {
        let mut wire = Wire::open(server.address);
        wire.send(&handshake[..end]);
        wire.end_writing();
        wire.assert_closed();
    }
    for end in 0..request.len() {
        let mut wire = Wire::with_session(server.address);
        wire.send(&request[..end]);
        wire.end_writing();
        wire.assert_closed();
    }
    server.assert_serves();
    server.wait_for_no_connections();
}

#[test]
fn hostile_lengths_close_the_connection_before_the_handshake_and_after() {
    let server = TestServer::start();
    for length in [-1, i32::MIN, i32::MAX, 0x7fff_fff0, 1 << 20, 1025, 0, 1] {
        let mut wire = Wire::open(server.address);
        wire.send(&length.to_be_bytes());
        wire.send(&[0; 64]);
        if !(0..=1024).contains(&length) {
            wire.assert_closed();
        }
    }
    for length in [-1, i32::MIN, -100_000, 0, 7] {
        let mut wire = Wire::with_session(server.address);
        wire.send(&i32::to_be_bytes(length));
        wire.send(&[0; 64]);
        wire.assert_closed();
    }
    server.assert_serves();
}

#[test]
fn a_frame_of_two_gigabytes_is_answered_and_never_held() {
    let server = TestServer::start();
    let mut wire = Wire::with_session(server.address);
    wire.send(&i32::MAX.to_be_bytes());
    wire.send(&[0, 0, 0, 9, 0, 0, 0, 5]);
    let (header, _) = wire.reply().unwrap();
    assert_eq!((header.xid.0, header.err), (9, ErrorCode::BadArguments.code()));
    // The rest may never come; the session goes on elsewhere.
    wire.send(&[0; 1 << 16]);
    let mut again = Wire::resume(server.address, &wire);
    assert!(again.handshake(30_000));
    again.assert_alive();
    wire.assert_closed();
}

#[test]
fn oversized_requests_of_every_size_are_answered_in_order() {
    let server = TestServer::with("jute.maxbuffer=5000");
    let mut wire = Wire::with_session(server.address);
    for (xid, size) in [4980, 5000, 5001, 70_000, 3_000_000, 10].into_iter().enumerate() {
        wire.send_frame(xid as i32, 5, &vec![b'x'; size]);
        let mut bytes = vec![];
        Request::Exists { path: "/".into(), watch: false }.encode(ostler_types::Xid(100), &mut bytes);
        wire.send(&bytes);
        let expected = if size + 8 > 5000 { ErrorCode::BadArguments } else { ErrorCode::MarshallingError };
        let (first, second) = (wire.reply().unwrap().0, wire.reply().unwrap().0);
        assert_eq!((first.xid.0, first.err), (xid as i32, expected.code()), "{size} bytes");
        assert_eq!((second.xid.0, second.err), (100, 0));
    }
}

#[test]
fn handshakes_of_every_length() {
    let server = TestServer::start();
    for length in 0..200u32 {
        let mut wire = Wire::open(server.address);
        wire.send(&length.to_be_bytes());
        wire.send(&vec![0; length as usize]);
        // The password's length is 0 in these; what is shorter than that is no ConnectRequest.
        assert_eq!(wire.frame().is_some(), length >= 28, "{length} bytes");
    }
    let modern = connect_request(30_000, SessionId::NONE, &[0; 16]);
    let old = [&[0, 0, 0, 44][..], &modern[4..48]].concat();
    for (request, answer) in [(modern, 37), (old, 36)] {
        let mut wire = Wire::open(server.address);
        wire.send(&request);
        assert_eq!(wire.frame().unwrap().len(), answer);
    }
    server.assert_serves();
}

#[test]
fn a_null_password_opens_a_session_and_resumes_none() {
    let server = TestServer::start();
    let live = Wire::with_session(server.address);
    for (session, granted) in [(SessionId::NONE, true), (live.session, false)] {
        let mut request = connect_request(30_000, session, &[]);
        let at = request.len() - 5;
        request[at..at + 4].copy_from_slice(&[0xff; 4]);
        let mut wire = Wire::open(server.address);
        wire.send(&request);
        assert_eq!(wire.read_handshake(), granted);
    }
}

#[test]
fn everything_may_arrive_one_byte_at_a_time() {
    let server = TestServer::start();
    let mut wire = Wire::open(server.address);
    for byte in connect_request(30_000, SessionId::NONE, &[0; 16]) {
        wire.send(&[byte]);
    }
    assert!(wire.read_handshake());
    let mut request = vec![];
    create_with("/slow", &[b'x'; 300], 0).encode(ostler_types::Xid(5), &mut request);
    for byte in request {
        wire.send(&[byte]);
    }
    assert_eq!(wire.reply().unwrap().0.err, 0);
}

#[test]
fn who_never_asks_for_a_session_is_closed_however_busy_it_looks() {
    let server = TestServer::with("nio.sessionlessCnxnTimeout=300");
    let mut mute = Wire::open(server.address);
    let mut dripping = Wire::open(server.address);
    dripping.send(&[0, 0, 3, 0]);
    dripping.stream.set_nonblocking(true).unwrap();
    let mut byte = [0];
    let closed = |wire: &mut Wire, byte: &mut [u8; 1]| match std::io::Read::read(&mut wire.stream, byte) {
        Ok(0) => true,
        Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
        Ok(_) => false,
    };
    crate::support::wait_for("the slow one to be closed", || {
        dripping.send(&[0]);
        closed(&mut dripping, &mut byte)
    });
    mute.assert_closed();
    server.assert_serves();
}
