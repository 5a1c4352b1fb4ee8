//! Read-only sessions of a server that is cut off: what they may do, and when they end.

use std::sync::Arc;

use ostler_node::{
    Admission, AuthSettings, ConnId, Inbox, Lease, Millis, Shard, ShardId, ShardSettings, ShardStats,
    SharedState,
};
use ostler_tree::State;
use ostler_types::{LogIndex, SessionId, Term, Xid, Zxid};
use ostler_wire::{ConnectRequest, ConnectResponse, Limits, ReplyHeader, Request, frame};

const START: Millis = 1_000_000;

struct Open;

impl Admission for Open {
    fn writes_allowed(&self) -> bool {
        true
    }

    fn connect_allowed(&self, _renew: bool, _now: Millis) -> bool {
        true
    }
}

/// A shard of a server that has never been in touch with anybody since it started.
fn shard(read_only_mode: bool) -> Shard {
    let mut state = State::with_index_seed(7);
    state.begin_entry(Term(1), LogIndex(1), 0);
    let state: SharedState = Arc::new(parking_lot::RwLock::new(state));
    let settings = ShardSettings {
        server: 3,
        max_frame: 1 << 20,
        limits: Limits { max_field_bytes: 1 << 20 },
        session_timeout_ms: 1_000..=40_000,
        outstanding_limit: 1000,
        unsent_limit: 1 << 20,
        sessionless_timeout_ms: 10_000,
        auth: AuthSettings::default(),
        admission: Arc::new(Open),
        lease: Arc::new(Lease::new(800)),
        read_only_mode,
        draw_secret: Box::new(|| [9; 16]),
    };
    Shard::new(
        ShardId(1),
        settings,
        state,
        Arc::new(Inbox::default()),
        Arc::new(ShardStats::default()),
        START,
    )
}

fn connect(shard: &mut Shard, session: SessionId, read_only: bool, now: Millis) -> ConnId {
    let mut bytes = Vec::new();
    let password = [9; 16];
    ConnectRequest {
        protocol_version: 0,
        last_zxid_seen: Zxid::ZERO,
        timeout_ms: 6_000,
        session,
        password: Some(&password),
        read_only: Some(read_only),
    }
    .encode(&mut bytes);
    let id = shard.open("127.0.0.1:1".parse().unwrap(), now);
    shard.receive(id, &bytes, now);
    id
}

/// Everything the shard has for a connection, without the length in front of the first frame.
fn answer(shard: &mut Shard, id: ConnId) -> Vec<u8> {
    let output = shard.output(id).unwrap();
    let bytes = output.unsent().to_vec();
    output.advance(bytes.len());
    bytes.get(frame::LENGTH_BYTES..).unwrap_or_default().to_vec()
}

/// The error of the answer to a request.
fn ask(shard: &mut Shard, id: ConnId, request: &Request<'_>, now: Millis) -> i32 {
    let mut bytes = Vec::new();
    request.encode(Xid(5), &mut bytes);
    shard.receive(id, &bytes, now);
    let answer = answer(shard, id);
    let (header, _) = ReplyHeader::decode(&answer).unwrap();
    assert_eq!(header.xid, Xid(5));
    header.err
}

/// A shard with a read-only session.
fn read_only() -> (Shard, ConnId, SessionId) {
    let mut shard = shard(true);
    let id = connect(&mut shard, SessionId::NONE, true, START + 5_000);
    let bytes = answer(&mut shard, id);
    let response = ConnectResponse::decode(&bytes).unwrap();
    assert_eq!((response.read_only, response.timeout_ms), (Some(true), 6_000));
    let session = response.session;
    (shard, id, session)
}

#[test]
fn only_a_client_that_allows_it_gets_one_and_only_when_the_server_is_cut_off() {
    let (mut shard, _, session) = read_only();
    assert!(session.0 > 0 && session.0 >> 56 == 0, "nobody's but ours");
    let now = START + 5_000;
    let (global, stale) = (SessionId(0x0100_0000_0000_0001), session);
    let strict = connect(&mut shard, SessionId::NONE, false, now);
    assert!(shard.is_closing(strict) && answer(&mut shard, strict).is_empty());
    let returning = connect(&mut shard, global, true, now);
    assert!(
        shard.is_closing(returning) && answer(&mut shard, returning).is_empty(),
        "it may find a better server"
    );
    let again = connect(&mut shard, stale, true, now);
    assert!(shard.is_closing(again));

    let mut early = self::shard(true);
    let id = connect(&mut early, SessionId::NONE, true, START + 1_900);
    assert!(early.is_closing(id) && answer(&mut early, id).is_empty(), "an election may still be under way");
    let mut off = self::shard(false);
    let id = connect(&mut off, SessionId::NONE, true, START + 5_000);
    assert!(off.is_closing(id));
}

#[test]
fn it_reads_and_changes_nothing() {
    let (mut shard, id, _) = read_only();
    let now = START + 5_100;
    let read = Request::GetData { path: "/zookeeper".into(), watch: true };
    assert_eq!(ask(&mut shard, id, &read, now), 0);
    let delete = Request::Delete { path: "/a".into(), version: -1 };
    let reconfig = Request::Reconfig { joining: None, leaving: None, new_members: None, config_id: -1 };
    let multi = Request::Multi(Vec::new());
    for request in [&delete, &Request::Sync { path: Some("/".into()) }, &reconfig, &multi] {
        assert_eq!(ask(&mut shard, id, request, now), -119, "{request:?}");
    }
    assert_eq!(ask(&mut shard, id, &read, now), 0, "the session stays");
    let requests = shard.take_requests(now, now).unwrap();
    assert!(requests.touches.is_empty() && requests.commands.is_empty(), "it is nobody else's business");
    assert_eq!(ask(&mut shard, id, &Request::CloseSession, now), 0);
    assert!(shard.is_closing(id));
}

#[test]
fn it_lives_as_long_as_its_client_is_heard() {
    let (mut shard, id, _) = read_only();
    let mut ping = Vec::new();
    Request::Ping.encode(Xid::PING, &mut ping);
    for now in (START + 8_000..START + 40_000).step_by(3_000) {
        shard.tick(now);
        shard.receive(id, &ping, now);
        assert!(!shard.is_closing(id));
    }
    let last = START + 38_000;
    shard.tick(last + 6_000);
    assert!(!shard.is_closing(id));
    shard.tick(last + 6_001);
    assert!(shard.is_closing(id));
}
