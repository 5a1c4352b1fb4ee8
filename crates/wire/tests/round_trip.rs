//! Every record survives encoding and decoding, and no byte string makes a decoder panic.

use std::borrow::Cow;

use ostler_types::{
    Acl, AddWatchMode, CreateMode, ErrorCode, EventType, Perms, SessionId, Stat, WatcherKind, Xid, Zxid,
};
use ostler_wire::frame::{Scan, scan};
use ostler_wire::multi::{OpResult, ReadOp, WriteOp};
use ostler_wire::{
    AclEntry, ConnectRequest, ConnectResponse, Create, CreateForm, DecodeError, Limits, OpCode, ReplyHeader,
    ReplyWriter, Request, RequestHeader, Response, WatchEvent, event,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

type Text = Cow<'static, str>;

fn text() -> impl Strategy<Value = Text> {
    "\\PC{0,12}".prop_map(Cow::Owned)
}

fn string() -> impl Strategy<Value = String> {
    "\\PC{0,12}"
}

/// Requests borrow their data; the generator leaks it, a few kilobytes per run.
fn bytes() -> impl Strategy<Value = Option<&'static [u8]>> {
    option::of(vec(any::<u8>(), 0..20).prop_map(|bytes| &*bytes.leak()))
}

fn acl() -> impl Strategy<Value = Vec<AclEntry<'static>>> {
    let entry = (any::<i32>(), option::of(text()), option::of(text()));
    vec(entry.prop_map(|(perms, scheme, id)| AclEntry { perms: Perms(perms), scheme, id }), 0..4)
}

fn create_form() -> impl Strategy<Value = CreateForm> {
    prop_oneof![
        Just(CreateForm::Create),
        Just(CreateForm::Create2),
        Just(CreateForm::Container),
        any::<i64>().prop_map(CreateForm::Ttl),
    ]
}

fn create() -> impl Strategy<Value = Create<'static>> {
    (create_form(), text(), bytes(), option::of(acl()), any::<i32>())
        .prop_map(|(form, path, data, acl, flags)| Create { form, path, data, acl, flags })
}

/// A create that a multi may hold unchanged.
fn create_in_multi() -> impl Strategy<Value = Create<'static>> {
    let form_and_flags = prop_oneof![
        (prop_oneof![Just(CreateForm::Create), Just(CreateForm::Create2)], 0..4),
        (Just(CreateForm::Container), 0..5),
        (any::<i64>().prop_map(CreateForm::Ttl), 5..7),
    ];
    (form_and_flags, text(), bytes(), acl()).prop_map(|((form, flags), path, data, acl)| Create {
        form,
        path,
        data,
        acl: Some(acl),
        flags,
    })
}

fn write_op() -> impl Strategy<Value = WriteOp<'static>> {
    prop_oneof![
        create_in_multi().prop_map(WriteOp::Create),
        (text(), any::<i32>()).prop_map(|(path, version)| WriteOp::Delete { path, version }),
        (text(), bytes(), any::<i32>()).prop_map(|(path, data, version)| WriteOp::SetData {
            path,
            data,
            version
        }),
        (text(), any::<i32>()).prop_map(|(path, version)| WriteOp::Check { path, version }),
    ]
}

fn read_op() -> impl Strategy<Value = ReadOp<'static>> {
    prop_oneof![
        text().prop_map(|path| ReadOp::GetData { path }),
        text().prop_map(|path| ReadOp::GetChildren { path }),
    ]
}

fn set_watches() -> impl Strategy<Value = ostler_wire::SetWatches<'static>> {
    (any::<i64>(), vec(text(), 0..4), vec(text(), 0..4), vec(text(), 0..4)).prop_map(
        |(zxid, data, exist, child)| ostler_wire::SetWatches {
            relative_zxid: Zxid(zxid),
            data,
            exist,
            child,
        },
    )
}

fn watcher_kind() -> impl Strategy<Value = WatcherKind> {
    use WatcherKind::*;
    select(vec![Children, Data, Any, Persistent, PersistentRecursive])
}

fn request() -> impl Strategy<Value = Request<'static>> {
    let path_and_watch = || (text(), any::<bool>());
    let simple = prop_oneof![
        (text(), any::<i32>()).prop_map(|(path, version)| Request::Delete { path, version }),
        path_and_watch().prop_map(|(path, watch)| Request::Exists { path, watch }),
        path_and_watch().prop_map(|(path, watch)| Request::GetData { path, watch }),
        path_and_watch().prop_map(|(path, watch)| Request::GetChildren { path, watch }),
        path_and_watch().prop_map(|(path, watch)| Request::GetChildren2 { path, watch }),
        (text(), bytes(), any::<i32>()).prop_map(|(path, data, version)| Request::SetData {
            path,
            data,
            version
        }),
        text().prop_map(|path| Request::GetAcl { path }),
        (text(), option::of(acl()), any::<i32>()).prop_map(|(path, acl, version)| Request::SetAcl {
            path,
            acl,
            version
        }),
        proptest::option::of(text()).prop_map(|path| Request::Sync { path }),
        text().prop_map(|path| Request::GetAllChildrenNumber { path }),
    ];
    let rest = prop_oneof![
        (option::of(text()), option::of(text()), option::of(text()), any::<i64>()).prop_map(
            |(joining, leaving, new_members, config_id)| Request::Reconfig {
                joining,
                leaving,
                new_members,
                config_id
            }
        ),
        (text(), watcher_kind()).prop_map(|(path, kind)| Request::CheckWatches { path, kind }),
        (text(), watcher_kind()).prop_map(|(path, kind)| Request::RemoveWatches { path, kind }),
        (option::of(text()), bytes()).prop_map(|(scheme, auth)| Request::Auth { scheme, auth }),
        set_watches().prop_map(Request::SetWatches),
        bytes().prop_map(|token| Request::Sasl { token }),
        option::of(text()).prop_map(|prefix| Request::GetEphemerals { prefix }),
        (set_watches(), vec(text(), 0..4), vec(text(), 0..4)).prop_map(
            |(one_shot, persistent, persistent_recursive)| Request::SetWatches2 {
                one_shot,
                persistent,
                persistent_recursive
            }
        ),
        (text(), select(vec![AddWatchMode::Persistent, AddWatchMode::PersistentRecursive]))
            .prop_map(|(path, mode)| Request::AddWatch { path, mode }),
        select(vec![
            Request::Ping,
            Request::WhoAmI,
            Request::CloseSession,
            Request::Check,
            Request::DeleteContainer,
            Request::CreateSession
        ]),
    ];
    prop_oneof![
        5 => create().prop_map(Request::Create),
        5 => vec(write_op(), 0..5).prop_map(Request::Multi),
        2 => vec(read_op(), 0..5).prop_map(Request::MultiRead),
        10 => simple,
        10 => rest,
    ]
}

fn stat() -> impl Strategy<Value = Stat> {
    (any::<[i64; 6]>(), any::<[i32; 5]>()).prop_map(|(longs, ints)| Stat {
        czxid: Zxid(longs[0]),
        mzxid: Zxid(longs[1]),
        ctime: longs[2],
        mtime: longs[3],
        version: ints[0],
        cversion: ints[1],
        aversion: ints[2],
        ephemeral_owner: SessionId(longs[4]),
        data_length: ints[3],
        num_children: ints[4],
        pzxid: Zxid(longs[5]),
    })
}

fn owned_bytes() -> impl Strategy<Value = Option<Vec<u8>>> {
    option::of(vec(any::<u8>(), 0..20))
}

fn op_result() -> impl Strategy<Value = OpResult> {
    prop_oneof![
        string().prop_map(|path| OpResult::Create { path }),
        (string(), stat()).prop_map(|(path, stat)| OpResult::Create2 { path, stat }),
        Just(OpResult::Delete),
        stat().prop_map(|stat| OpResult::SetData { stat }),
        Just(OpResult::Check),
        (owned_bytes(), stat()).prop_map(|(data, stat)| OpResult::GetData { data, stat }),
        vec(string(), 0..4).prop_map(|children| OpResult::GetChildren { children }),
        select(ErrorCode::ALL).prop_map(|error| OpResult::Error(error.code())),
        Just(OpResult::Error(0)),
    ]
}

/// A response and the operation it answers.
fn response() -> impl Strategy<Value = (OpCode, Response)> {
    use OpCode::*;
    let acl = vec(
        (any::<i32>(), string(), string()).prop_map(|(perms, scheme, id)| Acl::new(Perms(perms), scheme, id)),
        0..4,
    );
    prop_oneof![
        (
            select(vec![
                Delete,
                Ping,
                CheckWatches,
                RemoveWatches,
                DeleteContainer,
                Auth,
                SetWatches,
                SetWatches2,
                CloseSession
            ]),
            Just(Response::Empty)
        ),
        (select(vec![Create, Sync]), string().prop_map(|path| Response::Path { path })),
        (
            select(vec![Create2, CreateContainer, CreateTtl]),
            (string(), stat()).prop_map(|(path, stat)| Response::PathAndStat { path, stat })
        ),
        (select(vec![Exists, SetData, SetAcl]), stat().prop_map(|stat| Response::Stat { stat })),
        (
            select(vec![GetData, Reconfig]),
            (owned_bytes(), stat()).prop_map(|(data, stat)| Response::DataAndStat { data, stat })
        ),
        (Just(GetAcl), (acl, stat()).prop_map(|(acl, stat)| Response::AclAndStat { acl, stat })),
        (
            select(vec![GetChildren, GetEphemerals]),
            vec(string(), 0..4).prop_map(|strings| Response::Strings { strings })
        ),
        (
            Just(GetChildren2),
            (vec(string(), 0..4), stat())
                .prop_map(|(children, stat)| Response::ChildrenAndStat { children, stat })
        ),
        (
            select(vec![GetAllChildrenNumber, AddWatch]),
            any::<i32>().prop_map(|value| Response::Int { value })
        ),
        (Just(Sasl), owned_bytes().prop_map(|token| Response::Token { token })),
        (
            Just(WhoAmI),
            vec((string(), string()), 0..4).prop_map(|identities| Response::WhoAmI { identities })
        ),
        (
            select(vec![Multi, MultiRead]),
            vec(op_result(), 0..5).prop_map(|results| Response::Multi { results })
        ),
    ]
}

fn write(response: &Response, reply: &mut ReplyWriter<'_>) {
    match response {
        Response::Empty => {}
        Response::Path { path } => reply.path(path),
        Response::PathAndStat { path, stat } => reply.path_and_stat(path, stat),
        Response::Stat { stat } => reply.stat(stat),
        Response::DataAndStat { data, stat } => reply.data_and_stat(data.as_deref(), stat),
        Response::AclAndStat { acl, stat } => reply.acl_and_stat(acl, stat),
        Response::Strings { strings } => reply.strings(strings),
        Response::ChildrenAndStat { children, stat } => reply.children_and_stat(children, stat),
        Response::Int { value } => reply.int(*value),
        Response::Token { token } => reply.token(token.as_deref()),
        Response::WhoAmI { identities } => {
            reply.who_am_i(identities.iter().map(|(scheme, user)| (scheme.as_str(), user.as_str())));
        }
        Response::Multi { results } => reply.multi(|writer| {
            for result in results {
                match result {
                    OpResult::Create { path } => writer.create(path),
                    OpResult::Create2 { path, stat } => writer.create2(path, stat),
                    OpResult::Delete => writer.delete(),
                    OpResult::SetData { stat } => writer.set_data(stat),
                    OpResult::Check => writer.check(),
                    OpResult::GetData { data, stat } => writer.get_data(data.as_deref(), stat),
                    OpResult::GetChildren { children } => writer.get_children(children),
                    OpResult::Error(code) => writer.error(ErrorCode::from_code(*code)),
                }
            }
        }),
    }
}

/// The payload of the only frame in `bytes`.
fn only_frame(bytes: &[u8]) -> &[u8] {
    assert_eq!(scan(bytes, usize::MAX), Scan::Frame(4..bytes.len()));
    &bytes[4..]
}

proptest! {
    #[test]
    fn requests(request in request(), xid: i32) {
        let mut out = Vec::new();
        request.encode(Xid(xid), &mut out);
        let (header, body) = RequestHeader::decode(only_frame(&out)).unwrap();
        prop_assert_eq!(header, RequestHeader { xid: Xid(xid), op: request.op().code() });
        prop_assert_eq!(Request::decode(request.op(), body, Limits::default()), Ok(request.clone()));

        // All fields are needed, so the body cut anywhere is an error; anything after it is ignored.
        for cut in 0..body.len() {
            let result = Request::decode(request.op(), &body[..cut], Limits::default());
            prop_assert!(matches!(result, Err(DecodeError::Truncated { .. })), "cut at {}: {:?}", cut, result);
        }
        let longer = [body, b"trailing"].concat();
        prop_assert_eq!(Request::decode(request.op(), &longer, Limits::default()), Ok(request));
    }

    #[test]
    fn responses((op, response) in response(), xid: i32, zxid: i64) {
        let mut out = Vec::new();
        write(&response, &mut ReplyWriter::begin(&mut out, Xid(xid), Zxid(zxid), None));
        let (header, body) = ReplyHeader::decode(only_frame(&out)).unwrap();
        prop_assert_eq!(header, ReplyHeader { xid: Xid(xid), zxid: Zxid(zxid), err: 0 });
        prop_assert_eq!(Response::decode(op, body), Ok(response));
        for cut in 0..body.len() {
            let result = Response::decode(op, &body[..cut]);
            prop_assert!(matches!(result, Err(DecodeError::Truncated { .. })), "cut at {}: {:?}", cut, result);
        }
    }

    #[test]
    fn handshakes(
        longs: [i64; 2], ints: [i32; 2], password in bytes(), read_only in option::of(any::<bool>()),
    ) {
        let request = ConnectRequest {
            protocol_version: ints[0],
            last_zxid_seen: Zxid(longs[0]),
            timeout_ms: ints[1],
            session: SessionId(longs[1]),
            password,
            read_only,
        };
        let mut out = Vec::new();
        request.encode(&mut out);
        let payload = only_frame(&out);
        prop_assert_eq!(ConnectRequest::decode(payload), Ok(request));
        let flag = usize::from(read_only.is_some());
        for cut in 0..payload.len() - flag {
            prop_assert!(ConnectRequest::decode(&payload[..cut]).is_err());
        }

        let response = ConnectResponse {
            protocol_version: ints[0],
            timeout_ms: ints[1],
            session: SessionId(longs[1]),
            password,
            read_only,
        };
        let mut out = Vec::new();
        response.encode(&mut out);
        let payload = only_frame(&out);
        prop_assert_eq!(ConnectResponse::decode(payload), Ok(response));
        for cut in 0..payload.len() - flag {
            prop_assert!(ConnectResponse::decode(&payload[..cut]).is_err());
        }
    }

    #[test]
    fn events(zxid: i64, kind in 1..5, path in string()) {
        let kind = EventType::from_code(kind).unwrap();
        let mut out = Vec::new();
        event::encode(&mut out, Zxid(zxid), kind, &path);
        let (header, body) = ReplyHeader::decode(only_frame(&out)).unwrap();
        prop_assert_eq!(header, ReplyHeader { xid: Xid::NOTIFICATION, zxid: Zxid(zxid), err: 0 });
        prop_assert_eq!(WatchEvent::decode(body), Ok(WatchEvent { kind, path: path.clone().into() }));
        for cut in 0..body.len() {
            prop_assert_eq!(WatchEvent::decode(&body[..cut]).map(|_| ()).is_err(), true);
        }
    }

    /// Whatever decodes can be encoded again and is then the same, unless a multi changed its meaning.
    #[test]
    fn arbitrary_bodies(op in select(OpCode::ALL), body in noise()) {
        if let Ok(request) = Request::decode(op, &body, Limits::default()) {
            let mut out = Vec::new();
            request.encode(Xid(1), &mut out);
            let (header, body) = RequestHeader::decode(only_frame(&out)).unwrap();
            let op = OpCode::from_code(header.op).unwrap();
            prop_assert_eq!(Request::decode(op, body, Limits::default()), Ok(request));
        }
        // Every decoder of the client's side must hold up too; only a panic fails here.
        let _ = (Response::decode(op, &body), WatchEvent::decode(&body), ReplyHeader::decode(&body));
        let _ = (ConnectRequest::decode(&body), ConnectResponse::decode(&body), scan(&body, 100));
    }
}

/// Bytes that look enough like jute to get past the first field.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        select(vec![-1i32, 0, 1, 2, 3, 4, 5, 6, 14, 15, 19, 21, 100, i32::MAX, i32::MIN])
            .prop_map(|int| int.to_be_bytes().to_vec()),
        "[a-z/]{1,6}".prop_map(|text| [&(text.len() as i32).to_be_bytes()[..], text.as_bytes()].concat()),
        vec(any::<u8>(), 0..6),
    ];
    vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

mod multi_rules {
    use super::*;

    fn create(form: CreateForm, flags: i32, acl: bool) -> Request<'static> {
        let acl = acl.then(Vec::new);
        Request::Multi(vec![WriteOp::Create(Create { form, path: "/a".into(), data: None, acl, flags })])
    }

    fn decode_as(op: OpCode, request: &Request<'_>) -> Result<Request<'static>, DecodeError> {
        let mut out = Vec::new();
        request.encode(Xid(1), &mut out);
        let (_, body) = RequestHeader::decode(&out.leak()[4..]).unwrap();
        Request::decode(op, body, Limits::default())
    }

    fn decode(request: &Request<'_>) -> Result<Request<'static>, DecodeError> {
        decode_as(request.op(), request)
    }

    #[test]
    fn reads_and_writes_keep_apart() {
        let write = Request::Multi(vec![WriteOp::Delete { path: "/a".into(), version: -1 }]);
        assert_eq!(decode_as(OpCode::MultiRead, &write), Err(DecodeError::OperationNotAllowed(2)));
        let read = Request::MultiRead(vec![ReadOp::GetChildren { path: "/a".into() }]);
        assert_eq!(decode_as(OpCode::Multi, &read), Err(DecodeError::OperationNotAllowed(8)));
    }

    #[test]
    fn other_operations_do_not_belong() {
        for op in [0, 3, 7, 12, 14, 20, 22, -1, 99] {
            let body = [&i32::to_be_bytes(op)[..], &[0, 0xff, 0xff, 0xff, 0xff]].concat();
            for multi in [OpCode::Multi, OpCode::MultiRead] {
                let result = Request::decode(multi, &body, Limits::default());
                assert_eq!(result, Err(DecodeError::OperationNotAllowed(op)));
            }
        }
    }

    #[test]
    fn flags_of_plain_creates_must_name_a_mode_without_ttl() {
        for form in [CreateForm::Create, CreateForm::Create2, CreateForm::Container] {
            for flags in [-1, 5, 6, 7] {
                assert_eq!(decode(&create(form, flags, true)), Err(DecodeError::CreateFlags(flags)));
            }
            assert_eq!(decode(&create(form, 0, true)), Ok(create(form, 0, true)));
            let container = CreateMode::Container as i32;
            let expected = create(CreateForm::Container, container, true);
            assert_eq!(decode(&create(form, container, true)), Ok(expected));
            assert_eq!(decode(&create(form, 0, false)), Err(DecodeError::NullVector));
        }
    }

    #[test]
    fn a_ttl_create_without_ttl_flags_is_a_plain_one() {
        let ttl = CreateForm::Ttl(5);
        assert_eq!(decode(&create(ttl, 5, true)), Ok(create(ttl, 5, true)));
        assert_eq!(decode(&create(ttl, 0, true)), Ok(create(CreateForm::Create, 0, true)));
        assert_eq!(decode(&create(ttl, 4, true)), Ok(create(CreateForm::Container, 4, true)));
    }

    #[test]
    fn the_done_flag_ends_it_whatever_else_the_header_says() {
        let body = [0, 0, 0, 1, 1, 0, 0, 0, 0, 9, 9, 9];
        assert_eq!(Request::decode(OpCode::Multi, &body, Limits::default()), Ok(Request::Multi(vec![])));
    }
}
