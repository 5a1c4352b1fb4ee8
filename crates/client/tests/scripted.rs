//! The client against a scripted server: what it sends, what it makes of the answers, and what it concludes
//! when there are none.

use std::net::SocketAddr;
use std::time::Duration;

use ostler_client::{Client, ConnectError, ConnectOptions, Error, Event, LossCause};
use ostler_types::{CreateMode, ErrorCode, EventType, SessionId, Stat, Xid, Zxid, open_acl};
use ostler_wire::frame::{Scan, scan};
use ostler_wire::multi::{OpResult, WriteOp};
use ostler_wire::{
    ConnectRequest, ConnectResponse, Limits, OpCode, ReplyWriter, Request, RequestHeader, event,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedReceiver;

const PASSWORD: &[u8; 16] = b"sixteen letters.";
const SESSION: SessionId = SessionId(0x1000_0123_4567_0000);

struct Server {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Server {
    async fn frame(&mut self) -> Vec<u8> {
        loop {
            if let Scan::Frame(range) = scan(&self.input, usize::MAX) {
                let rest = self.input.split_off(range.end);
                return std::mem::replace(&mut self.input, rest).split_off(range.start);
            }
            assert_ne!(self.stream.read_buf(&mut self.input).await.unwrap(), 0, "client hung up");
        }
    }

    /// Waits for a request, which must be `expected`, and returns its xid.
    async fn expect(&mut self, expected: &Request<'_>) -> Xid {
        let payload = self.frame().await;
        let (header, body) = RequestHeader::decode(&payload).unwrap();
        let op = OpCode::from_code(header.op).unwrap();
        assert_eq!(&Request::decode(op, body, Limits::default()).unwrap(), expected);
        header.xid
    }

    async fn send(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut out = Vec::new();
        write(&mut out);
        self.stream.write_all(&out).await.unwrap();
    }

    async fn reply_empty(&mut self, xid: Xid, zxid: i64) {
        self.send(|out| drop(ReplyWriter::begin(out, xid, Zxid(zxid), None))).await;
    }
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

async fn accept(listener: TcpListener) -> Server {
    let (stream, _) = listener.accept().await.unwrap();
    Server { stream, input: Vec::new() }
}

fn granted(timeout_ms: i32) -> ConnectResponse<'static> {
    ConnectResponse {
        protocol_version: 0,
        timeout_ms,
        session: SESSION,
        password: Some(PASSWORD),
        read_only: Some(false),
    }
}

/// A client and the server it is connected to.
async fn pair(options: ConnectOptions, timeout_ms: i32) -> (Client, UnboundedReceiver<Event>, Server) {
    let (listener, address) = listen().await;
    let server = async {
        let mut server = accept(listener).await;
        server.frame().await;
        server.send(|out| granted(timeout_ms).encode(out)).await;
        server
    };
    let (connected, server) = tokio::join!(Client::connect(address, &options), server);
    let (client, events) = connected.unwrap();
    (client, events, server)
}

#[tokio::test]
async fn resuming_sends_the_session_and_its_password() {
    let (first, _events, _server) = pair(ConnectOptions::default(), 12_000).await;
    assert_eq!((first.session().id, first.session().timeout), (SESSION, Duration::from_secs(12)));

    let (listener, address) = listen().await;
    let options = ConnectOptions {
        session_timeout: Duration::from_secs(7),
        resume: Some(first.session().clone()),
        last_zxid_seen: Some(Zxid(99)),
        read_only: None,
        ..ConnectOptions::default()
    };
    let server = async {
        let mut server = accept(listener).await;
        let payload = server.frame().await;
        let expected = ConnectRequest {
            protocol_version: 0,
            last_zxid_seen: Zxid(99),
            timeout_ms: 7_000,
            session: SESSION,
            password: Some(PASSWORD),
            read_only: None,
        };
        assert_eq!(ConnectRequest::decode(&payload).unwrap(), expected);
        server.send(|out| ConnectResponse::expired(None).encode(out)).await;
        server
    };
    let (connected, _server) = tokio::join!(Client::connect(address, &options), server);
    assert!(matches!(connected, Err(ConnectError::SessionExpired)), "{connected:?}");
}

#[tokio::test]
async fn a_server_that_hangs_up_has_refused() {
    let (listener, address) = listen().await;
    let options = ConnectOptions::default();
    let server = async {
        accept(listener).await.frame().await;
    };
    let (connected, ()) = tokio::join!(Client::connect(address, &options), server);
    assert!(matches!(connected, Err(ConnectError::Refused)), "{connected:?}");
}

#[tokio::test]
async fn requests_are_pipelined_and_answered_in_order() {
    let (client, mut events, mut server) =
        pair(ConnectOptions { first_xid: i32::MAX, ..ConnectOptions::default() }, 30_000).await;
    let get = Request::GetData { path: "/a".into(), watch: true };
    let set = Request::SetData { path: "/a".into(), data: Some(b"new"), version: -1 };
    let first = client.start(&get).await;
    let second = client.start(&set).await;
    assert_eq!(server.expect(&get).await, Xid(i32::MAX));
    assert_eq!(server.expect(&set).await, Xid(1));

    let stat = Stat { version: 4, ..Stat::default() };
    server
        .send(|out| {
            ReplyWriter::begin(out, Xid(i32::MAX), Zxid(6), None).data_and_stat(None, &stat);
            event::encode(out, Zxid(7), EventType::NodeDataChanged, "/a");
            ReplyWriter::begin(out, Xid(1), Zxid(7), Some(ErrorCode::BadVersion));
        })
        .await;
    assert!(matches!(second.await, Err(Error::Server(ErrorCode::BadVersion))));
    // Both had to be there before the later reply.
    let event = events.try_recv().unwrap();
    assert_eq!((event.zxid, event.path.as_str(), event.arrival), (Zxid(7), "/a", 1));
    let reply = first.await.unwrap();
    assert_eq!((reply.zxid, reply.arrival), (Zxid(6), 0));
    assert_eq!(client.last_zxid_seen(), Zxid(7));
}

#[tokio::test]
async fn a_lost_connection_leaves_outcomes_unknown() {
    let (client, _events, mut server) = pair(ConnectOptions::default(), 30_000).await;
    let delete = Request::Delete { path: "/a".into(), version: -1 };
    let pending = client.start(&delete).await;
    server.expect(&delete).await;
    drop(server);
    assert!(matches!(pending.await, Err(Error::OutcomeUnknown(LossCause::ClosedByServer))));
    assert!(matches!(client.ended().await, LossCause::ClosedByServer));
    let late = client.delete("/a", -1).await;
    assert!(matches!(late, Err(Error::NotSent(LossCause::ClosedByServer))), "{late:?}");
}

#[tokio::test]
async fn what_was_never_written_is_known_not_to_have_happened() {
    // One request at a time: the second one is still here when the connection ends.
    let options = ConnectOptions { max_outstanding: 1, ..ConnectOptions::default() };
    let (client, _events, mut server) = pair(options, 30_000).await;
    let request = Request::Sync { path: Some("/".into()) };
    let first = client.start(&request).await;
    let second = client.start(&request).await;
    server.expect(&request).await;
    drop(server);
    assert!(matches!(first.await, Err(Error::OutcomeUnknown(_))));
    assert!(matches!(second.await, Err(Error::NotSent(_))));
}

#[tokio::test]
async fn a_failed_multi_names_the_operation() {
    let (client, _events, mut server) = pair(ConnectOptions::default(), 30_000).await;
    let ops = vec![
        WriteOp::Check { path: "/a".into(), version: 1 },
        WriteOp::Delete { path: "/b".into(), version: -1 },
        WriteOp::Delete { path: "/c".into(), version: -1 },
    ];
    let script = async {
        let xid = server.expect(&Request::Multi(ops.clone())).await;
        server
            .send(|out| {
                ReplyWriter::begin(out, xid, Zxid(1), None).multi(|results| {
                    results.error(None);
                    results.error(Some(ErrorCode::NoNode));
                    results.error(Some(ErrorCode::RuntimeInconsistency));
                });
            })
            .await;
    };
    let (outcome, ()) = tokio::join!(client.multi(ops.clone()), script);
    let Err(Error::Multi { index: 1, code: -101, results }) = outcome else { panic!("{outcome:?}") };
    assert_eq!(results, [OpResult::Error(0), OpResult::Error(-101), OpResult::Error(-2)]);
}

#[tokio::test]
async fn an_idle_connection_sends_heartbeats() {
    let (client, _events, mut server) = pair(ConnectOptions::default(), 90).await;
    for _ in 0..3 {
        assert_eq!(server.expect(&Request::Ping).await, Xid::PING);
        server.reply_empty(Xid::PING, 1).await;
    }
    // A reply to a heartbeat does not count as having seen its zxid.
    assert_eq!(client.last_zxid_seen(), Zxid::ZERO);
}

#[tokio::test]
async fn a_silent_server_is_given_up_after_a_heartbeat() {
    let (client, _events, mut server) = pair(ConnectOptions::default(), 90).await;
    server.expect(&Request::Ping).await;
    assert!(matches!(client.ended().await, LossCause::Silence(_)));
}

#[tokio::test]
async fn a_server_that_breaks_the_protocol_is_left() {
    for (bytes, what) in [
        (&b"\xff\xff\xff\xff"[..], "negative length"),
        (b"\x7f\0\0\0", "too long"),
        (b"\0\0\0\x02ab", "no header"),
        (b"\0\0\0\x10\0\0\0\x63\0\0\0\0\0\0\0\0\0\0\0\0", "unknown xid"),
    ] {
        let (client, _events, mut server) = pair(ConnectOptions::default(), 30_000).await;
        server.send(|out| out.extend_from_slice(bytes)).await;
        let cause = client.ended().await;
        assert!(matches!(cause, LossCause::Protocol(_)), "{what}: {cause:?}");
    }
}

#[tokio::test]
async fn closing_waits_for_the_reply() {
    let (client, _events, mut server) = pair(ConnectOptions::default(), 30_000).await;
    let script = async {
        let xid = server.expect(&Request::CloseSession).await;
        server.reply_empty(xid, 3).await;
    };
    let (closed, ()) = tokio::join!(client.close(), script);
    closed.unwrap();
    let late = client.create("/a", b"", &open_acl(), CreateMode::Persistent).await;
    assert!(matches!(late, Err(Error::NotSent(_))), "{late:?}");
}
