//! Bodies no client sends, for every operation.

use ostler_types::{AddWatchMode, ErrorCode, WatcherKind, Zxid};
use ostler_wire::multi::{ReadOp, WriteOp};
use ostler_wire::{Create, CreateForm, OpCode, Request, SetWatches};

use crate::support::{Random, TestServer, Wire, body_of, create, open_acl};

/// One well-formed request of every kind that a client sends after the handshake and that ends nothing.
fn every_request() -> Vec<Request<'static>> {
    let create = |form, path: &'static str, flags| Create {
        form,
        path: path.into(),
        data: Some(b"data"),
        acl: Some(open_acl()),
        flags,
    };
    let watches = SetWatches {
        relative_zxid: Zxid(1),
        data: vec!["/a".into()],
        exist: vec!["/b".into()],
        child: vec!["/".into()],
    };
    vec![
        Request::Create(create(CreateForm::Create, "/a", 0)),
        Request::Create(create(CreateForm::Create2, "/b", 1)),
        Request::Create(create(CreateForm::Container, "/c", 4)),
        Request::Create(create(CreateForm::Ttl(1_000_000), "/t", 5)),
        Request::Delete { path: "/b".into(), version: -1 },
        Request::Exists { path: "/a".into(), watch: true },
        Request::GetData { path: "/a".into(), watch: true },
        Request::SetData { path: "/a".into(), data: Some(b"new"), version: -1 },
        Request::GetAcl { path: "/a".into() },
        Request::SetAcl { path: "/a".into(), acl: Some(open_acl()), version: -1 },
        Request::GetChildren { path: "/".into(), watch: true },
        Request::Sync { path: Some("/".into()) },
        Request::Ping,
        Request::GetChildren2 { path: "/".into(), watch: true },
        Request::Check,
        Request::Multi(vec![
            WriteOp::Create(create(CreateForm::Create, "/m", 0)),
            WriteOp::SetData { path: "/m".into(), data: None, version: 0 },
            WriteOp::Check { path: "/m".into(), version: 1 },
            WriteOp::Delete { path: "/m".into(), version: 1 },
        ]),
        Request::Reconfig { joining: Some("x".into()), leaving: None, new_members: None, config_id: -1 },
        Request::CheckWatches { path: "/a".into(), kind: WatcherKind::Any },
        Request::RemoveWatches { path: "/a".into(), kind: WatcherKind::Any },
        Request::DeleteContainer,
        Request::MultiRead(vec![
            ReadOp::GetData { path: "/a".into() },
            ReadOp::GetChildren { path: "/".into() },
        ]),
        Request::SetWatches(watches.clone()),
        Request::GetEphemerals { prefix: None },
        Request::GetAllChildrenNumber { path: "/".into() },
        Request::SetWatches2 {
            one_shot: watches,
            persistent: vec!["/a".into()],
            persistent_recursive: vec!["/".into()],
        },
        Request::AddWatch { path: "/a".into(), mode: AddWatchMode::Persistent },
        Request::WhoAmI,
        Request::CreateSession,
    ]
}

/// Sends a frame and reads up to its reply, over any events.
fn exchange(wire: &mut Wire, op: i32, body: &[u8]) -> i32 {
    wire.send_frame(31, op, body);
    loop {
        let (header, _) = wire.reply().unwrap_or_else(|| panic!("opcode {op} closed: {body:x?}"));
        if header.xid.0 == 31 || (op == OpCode::Ping.code() && header.xid.0 == -2) {
            return header.err;
        }
        assert_eq!(header.xid.0, -1, "opcode {op}");
    }
}

#[test]
fn every_operation_cut_anywhere_is_answered_and_the_log_can_be_replayed() {
    let mut server = TestServer::start();
    let mut wire = Wire::with_session(server.address);
    for request in every_request() {
        let (op, body) = (request.op().code(), body_of(&request));
        for end in 0..=body.len() {
            exchange(&mut wire, op, &body[..end]);
        }
    }
    wire.assert_alive();
    server.assert_serves();
    server.restart();
    server.assert_serves();
}

#[test]
fn every_operation_with_any_byte_changed_is_answered_and_the_log_can_be_replayed() {
    let mut server = TestServer::start();
    let mut wire = Wire::with_session(server.address);
    let mut random = Random::new(5);
    for request in every_request() {
        let (op, body) = (request.op().code(), body_of(&request));
        for at in 0..body.len() {
            for value in [0, 0xff, 0x7f, 0x80, random.next() as u8] {
                let mut body = body.clone();
                body[at] = value;
                exchange(&mut wire, op, &body);
            }
        }
    }
    wire.assert_alive();
    server.assert_serves();
    server.restart();
    server.assert_serves();
}

#[test]
fn random_requests_are_answered_and_the_log_can_be_replayed() {
    let mut server = TestServer::start();
    let parts: [&[u8]; 12] = [
        b"\0\0\0\x01/",
        b"\0\0\0\x02/a",
        b"\0\0\0\x04/a/b",
        b"\0\0\0\0",
        b"\xff\xff\xff\xff",
        b"\0\0\0\x01",
        b"\x7f\xff\xff\xff",
        b"\0\0\0\x03a/\0",
        b"\0\0\0\x04/\xc3\x28\xff",
        b"\0\0\0\x01\0\0\0\x1f\0\0\0\x05world\0\0\0\x06anyone",
        b"\0\0\0\x0e\0\xff\xff\xff\xff",
        b"\0\0\0\x01\0\xff\xff\xff\xff",
    ];
    for seed in 0..4 {
        let mut wire = Wire::with_session(server.address);
        let mut random = Random::new(seed);
        for _ in 0..800 {
            let op = OpCode::ALL[random.below(OpCode::ALL.len())];
            if matches!(op, OpCode::CloseSession | OpCode::Auth | OpCode::Sasl) {
                continue;
            }
            let mut body = vec![];
            for _ in 0..random.below(8) {
                if random.below(5) == 0 {
                    let count = random.below(20);
                    body.extend(random.bytes(count));
                } else {
                    body.extend_from_slice(parts[random.below(parts.len())]);
                }
            }
            exchange(&mut wire, op.code(), &body);
        }
        wire.assert_alive();
    }
    server.restart();
    server.assert_serves();
}

#[test]
fn what_kills_apache_zookeeper_is_harmless() {
    let mut server = TestServer::start();
    let mut wire = Wire::with_session(server.address);
    // createTTL with the flags of a plain create and an impossible time to live.
    let body = body_of(&Request::Create(Create {
        form: CreateForm::Ttl(-1),
        path: "/ttl".into(),
        data: None,
        acl: Some(open_acl()),
        flags: 0,
    }));
    exchange(&mut wire, OpCode::CreateTtl.code(), &body);
    // A create in a multi whose ACL vector is null.
    let create =
        Create { form: CreateForm::Create, path: "/multi".into(), data: Some(b""), acl: None, flags: 0 };
    let body = body_of(&Request::Multi(vec![WriteOp::Create(create)]));
    let refused = exchange(&mut wire, OpCode::Multi.code(), &body);
    assert_eq!(refused, ErrorCode::MarshallingError.code());
    for op in [OpCode::DeleteContainer, OpCode::CreateSession] {
        for body in [&b""[..], b"\0\0\0\x0a/zookeeper", &[0xff; 30]] {
            assert_eq!(exchange(&mut wire, op.code(), body), ErrorCode::Unimplemented.code());
        }
    }
    assert_eq!(exchange(&mut wire, OpCode::Create.code(), b"\0\0"), ErrorCode::MarshallingError.code());
    wire.assert_alive();
    server.restart();
    server.assert_serves();
}

#[test]
fn vectors_that_announce_more_than_there_is_are_refused() {
    let server = TestServer::start();
    let mut wire = Wire::with_session(server.address);
    for count in [i32::MAX, 1 << 20, 2, -2, i32::MIN] {
        let count = count.to_be_bytes();
        let paths = [&[0; 8][..], &count, b"\0\0\0\x01/"].concat();
        let acl = [b"\0\0\0\x02/x\0\0\0\0", &count[..], b"\0\0\0\x1f"].concat();
        let data = [b"\0\0\0\x02/x", &count[..]].concat();
        for (op, body) in
            [(OpCode::SetWatches, paths), (OpCode::Create, acl.clone()), (OpCode::SetData, data)]
        {
            let error = exchange(&mut wire, op.code(), &body);
            // Below -1 jute has an empty vector, and what follows it is read as the next field.
            let empty = i32::from_be_bytes(count) < -1;
            assert!(error == ErrorCode::MarshallingError.code() || (empty && error != 0), "{op:?}: {error}");
        }
    }
    wire.assert_alive();
}

#[test]
fn paths_that_are_no_utf_8_or_no_paths_are_answered_and_can_be_replayed() {
    let mut server = TestServer::start();
    let mut wire = Wire::with_session(server.address);
    let paths: [&[u8]; 12] = [
        b"",
        b"a",
        b"//",
        b"/a/",
        b"/a//b",
        b"/.",
        b"/..",
        b"/a/../b",
        b"/\0",
        b"/\xc3\x28",
        b"/\xff\xfe\xfd",
        b"/\xed\xa0\x80",
    ];
    for path in paths {
        let path = [&(path.len() as i32).to_be_bytes()[..], path].concat();
        for op in [OpCode::Exists, OpCode::GetData, OpCode::GetChildren, OpCode::Sync, OpCode::GetAcl] {
            exchange(&mut wire, op.code(), &[&path[..], &[1]].concat());
        }
        let acl = b"\0\0\0\x01x\0\0\0\x01\0\0\0\x1f\0\0\0\x05world\0\0\0\x06anyone\0\0\0\0";
        exchange(&mut wire, OpCode::Create.code(), &[&path[..], acl].concat());
        exchange(&mut wire, OpCode::SetData.code(), &[&path[..], b"\0\0\0\x01y\xff\xff\xff\xff"].concat());
        exchange(&mut wire, OpCode::Delete.code(), &[&path[..], b"\xff\xff\xff\xff"].concat());
    }
    wire.assert_alive();
    server.restart();
    server.assert_serves();
}

#[test]
fn failed_authentication_is_answered_and_closes_that_connection_alone() {
    let server = TestServer::start();
    let bodies: [(OpCode, &[u8], Option<i32>); 4] = [
        (OpCode::Auth, b"\0\0\0\0\0\0\0\x03foo\0\0\0\x01x", Some(ErrorCode::AuthFailed.code())),
        (OpCode::Auth, b"\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff", Some(ErrorCode::AuthFailed.code())),
        (OpCode::Auth, b"\0", None),
        (OpCode::Sasl, b"", None),
    ];
    for (op, body, answer) in bodies {
        let mut wire = Wire::with_session(server.address);
        assert_eq!(wire.call_raw(op.code(), body), answer, "{op:?} {body:x?}");
        wire.assert_closed();
        let mut again = Wire::resume(server.address, &wire);
        assert!(again.handshake(30_000), "the session goes on");
        again.assert_alive();
    }
    let mut wire = Wire::with_session(server.address);
    assert_eq!(wire.call_raw(OpCode::Auth.code(), b"\0\0\0\0\0\0\0\x06digest\0\0\0\x03u:p"), Some(0));
    // SASL is not configured, which is no failure.
    assert_eq!(wire.call_raw(OpCode::Sasl.code(), b"\0\0\0\x05token"), Some(0));
    wire.assert_alive();
}

#[test]
fn requests_pipelined_behind_the_handshake_are_served() {
    let server = TestServer::start();
    let mut wire = Wire::open(server.address);
    let mut bytes = crate::support::connect_request(30_000, wire.session, &[0; 16]);
    for i in 0..100 {
        create(&format!("/p{i}"), 0).encode(ostler_types::Xid(i), &mut bytes);
        Request::Exists { path: format!("/p{i}").into(), watch: false }
            .encode(ostler_types::Xid(1000 + i), &mut bytes);
    }
    wire.send(&bytes);
    assert!(wire.read_handshake());
    for i in 0..100 {
        for xid in [i, 1000 + i] {
            let (header, _) = wire.reply().unwrap();
            assert_eq!((header.xid.0, header.err), (xid, 0));
        }
    }
}
