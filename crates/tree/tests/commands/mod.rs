//! Random commands over a small world: few paths, sessions, ACLs and texts, so that they meet often.

#![allow(dead_code, reason = "each test file uses its part")]

use ostler_tree::{AclEntry, Change, Command, EndCause, EndCondition, Operation, Outcome, Settings, State};
use ostler_types::{
    AuthId, ErrorCode, Generation, LogIndex, NodeKind, Perms, Sequence, SessionId, Term, Zxid,
};
use proptest::prelude::*;

/// The sessions every world begins with.
pub(crate) const SESSIONS: u64 = 3;

pub(crate) fn session_id(number: u64) -> SessionId {
    SessionId((1 << 56) | (1 << 32) | number as i64)
}

/// A command with everything it refers to; numbers are relative to the state they meet.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Entry { new_term: bool, elapsed_ms: i64 },
    CreateSession { number: u64 },
    Attach { session: u64, behind: u64, timeout_ms: u32 },
    Close { session: u64, ahead: i64 },
    Expire { session: u64, behind: u64 },
    Kill { session: u64 },
    Write { session: u64, behind: u64, ahead: i64, auth: Auth, op: Op },
    Refused { session: u64, error: ErrorCode },
    Clean { path: &'static str, stale: bool },
    Configure(Settings),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Auth {
    Nobody,
    User,
    Host,
    Super,
}

impl Auth {
    pub(crate) fn ids(self) -> Vec<AuthId> {
        let host = AuthId::new("ip", "10.0.0.1");
        match self {
            Auth::Nobody => vec![],
            Auth::User => vec![host, AuthId::new("digest", "u:h")],
            Auth::Host => vec![host],
            Auth::Super => vec![AuthId::new("super", "")],
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum List {
    Null,
    Invalid,
    Open,
    ReadOnly,
    User,
    Auth,
}

impl List {
    pub(crate) fn entries(self) -> Option<Vec<AclEntry<'static>>> {
        match self {
            List::Null => None,
            List::Invalid => Some(vec![AclEntry::new(Perms::ALL, "nonsense", "x")]),
            List::Open => Some(AclEntry::open()),
            List::ReadOnly => Some(vec![AclEntry::new(Perms::READ, "world", "anyone")]),
            List::User => Some(vec![AclEntry::new(Perms::ALL, "digest", "u:h")]),
            List::Auth => Some(vec![AclEntry::new(Perms::ALL, "auth", "")]),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Create {
        path: &'static str,
        data: Option<&'static str>,
        acl: List,
        flags: i32,
        kind: NodeKind,
        stat: bool,
    },
    Delete {
        path: &'static str,
        version: i32,
    },
    SetData {
        path: &'static str,
        data: Option<&'static str>,
        version: i32,
    },
    SetAcl {
        path: &'static str,
        acl: List,
        version: i32,
    },
    Check {
        path: &'static str,
        version: i32,
    },
    Multi(Vec<Op>),
}

impl Op {
    pub(crate) fn operation(&self) -> Operation<'static> {
        match *self {
            Op::Create { path, data, acl, flags, kind, stat } => Operation::Create {
                path,
                data: data.map(str::as_bytes),
                acl: acl.entries(),
                flags,
                kind,
                want_stat: stat,
            },
            Op::Delete { path, version } => Operation::Delete { path, version },
            Op::SetData { path, data, version } => {
                Operation::SetData { path, data: data.map(str::as_bytes), version }
            }
            Op::SetAcl { path, acl, version } => Operation::SetAcl { path, acl: acl.entries(), version },
            Op::Check { path, version } => Operation::Check { path, version },
            Op::Multi(ref ops) => Operation::Multi(ops.iter().map(Op::operation).collect()),
        }
    }
}

const PATHS: [&str; 24] = [
    "/a",
    "/b",
    "/a/b",
    "/a/c",
    "/a/b/c",
    "/a/b/d",
    "/a/q-",
    "/b/x",
    "/a/b/a-name-of-more-than-twenty-four-bytes",
    "/a",
    "/a/b",
    "/zookeeper/quota/a",
    "/zookeeper/quota/a/zookeeper_limits",
    "/zookeeper/quota/a/zookeeper_stats",
    "/zookeeper/quota/a/b",
    "/zookeeper/quota/a/b/zookeeper_limits",
    "/zookeeper/quota/a/b/zookeeper_stats",
    "/zookeeper/config",
    "/zookeeper",
    "/",
    "//a",
    "/a/",
    "/a/../b",
    "a",
];

const TEXTS: [&str; 5] =
    ["", "x", "0123456789", "count=3,bytes=4", "count=2,bytes=1=;byteHardLimit=12;countHardLimit=3"];

fn path() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&PATHS[..])
}

fn text() -> impl Strategy<Value = Option<&'static str>> {
    prop::option::weighted(0.9, prop::sample::select(&TEXTS[..]))
}

fn list() -> impl Strategy<Value = List> {
    prop_oneof![
        10 => Just(List::Open), 1 => Just(List::Null), 1 => Just(List::Invalid), 2 => Just(List::ReadOnly),
        2 => Just(List::User), 1 => Just(List::Auth),
    ]
}

fn version() -> impl Strategy<Value = i32> {
    prop_oneof![4 => Just(-1), 1 => 0..3]
}

fn op() -> impl Strategy<Value = Op> {
    let kind = prop_oneof![
        8 => Just(NodeKind::Plain), 1 => Just(NodeKind::Container), 2 => (-1i64..40).prop_map(NodeKind::Ttl),
    ];
    let flags = prop_oneof![8 => Just(0), 4 => 0..5, 3 => Just(5), 1 => -1..8];
    prop_oneof![
        10 => (path(), text(), list(), flags, kind, any::<bool>()).prop_map(
            |(path, data, acl, flags, kind, stat)| Op::Create { path, data, acl, flags, kind, stat }),
        4 => (path(), version()).prop_map(|(path, version)| Op::Delete { path, version }),
        4 => (path(), text(), version()).prop_map(|(path, data, version)| Op::SetData { path, data, version }),
        2 => (path(), list(), version()).prop_map(|(path, acl, version)| Op::SetAcl { path, acl, version }),
        1 => (path(), version()).prop_map(|(path, version)| Op::Check { path, version }),
    ]
}

/// A list of operations, most of which can succeed.
pub(crate) fn multi() -> impl Strategy<Value = Op> {
    prop::collection::vec(op(), 0..6).prop_map(Op::Multi)
}

fn settings() -> impl Strategy<Value = Settings> {
    (prop::bool::weighted(0.1), any::<bool>(), prop::bool::weighted(0.8), any::<bool>(), 0i64..20).prop_map(
        |(skip_acl, enforce_quota, extended_types_enabled, digest_enabled, container_max_never_used_ms)| {
            Settings {
                skip_acl,
                enforce_quota,
                extended_types_enabled,
                digest_enabled,
                container_max_never_used_ms,
                ..Settings::default()
            }
        },
    )
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let session = || 1..=SESSIONS + 1;
    let behind = || prop_oneof![9 => Just(0u64), 1 => Just(1)];
    let ahead = || prop_oneof![18 => Just(0i64), 1 => Just(-1), 1 => Just(1)];
    let auth = prop_oneof![
        2 => Just(Auth::Nobody), 6 => Just(Auth::User), 1 => Just(Auth::Host), 1 => Just(Auth::Super),
    ];
    prop_oneof![
        3 => (prop::bool::weighted(0.2), -5i64..30).prop_map(
            |(new_term, elapsed_ms)| Step::Entry { new_term, elapsed_ms }),
        1 => (1..=SESSIONS + 2).prop_map(|number| Step::CreateSession { number }),
        1 => (session(), behind(), 1u32..9).prop_map(
            |(session, behind, timeout_ms)| Step::Attach { session, behind, timeout_ms }),
        1 => (session(), ahead()).prop_map(|(session, ahead)| Step::Close { session, ahead }),
        1 => (session(), behind()).prop_map(|(session, behind)| Step::Expire { session, behind }),
        1 => session().prop_map(|session| Step::Kill { session }),
        40 => (session(), behind(), ahead(), auth, prop_oneof![8 => op(), 2 => multi()]).prop_map(
            |(session, behind, ahead, auth, op)| Step::Write { session, behind, ahead, auth, op }),
        1 => session().prop_map(|session| Step::Refused { session, error: ErrorCode::ThrottledOp }),
        3 => (path(), prop::bool::weighted(0.1)).prop_map(|(path, stale)| Step::Clean { path, stale }),
        1 => settings().prop_map(Step::Configure),
    ]
}

/// A state with the sessions the steps refer to, TTL znodes allowed.
pub(crate) fn world() -> State {
    let mut state = State::new();
    state.begin_entry(Term(1), LogIndex(1), 1_000);
    state.apply(&Command::RegisterBoot { server: 1, boot: 1, nonce: 1 }, None);
    let settings = Settings { extended_types_enabled: true, ..Settings::default() };
    state.apply(&Command::Configure(settings), None);
    for number in 1..=SESSIONS {
        state.apply(&create_session(number), None);
    }
    state
}

fn create_session(number: u64) -> Command<'static> {
    Command::CreateSession { server: 1, boot: 1, number, timeout_ms: 5_000, secret_hash: [number as u8; 32] }
}

/// Takes a step and returns the outcome of its command, with the changes, if it is one.
pub(crate) fn take(state: &mut State, step: &Step) -> Option<(Outcome, Vec<Change>)> {
    take_with(state, step, |_, _| ()).0
}

/// As [`take`], and lets `watch` see the command first (or the state after an entry was begun).
pub(crate) fn take_with<T>(
    state: &mut State,
    step: &Step,
    watch: impl FnOnce(&State, Option<&Command<'_>>) -> T,
) -> (Option<(Outcome, Vec<Change>)>, T) {
    let row = |session| state.session(session_id(session)).copied();
    let generation =
        |session, behind| Generation(row(session).map_or(1, |row| row.generation.0).saturating_sub(behind));
    let sequence = |session, ahead: i64| {
        Sequence(row(session).map_or(1, |row| row.sequence.0 + 1).saturating_add_signed(ahead))
    };
    let auth;
    let command = match *step {
        Step::Entry { new_term, elapsed_ms } => {
            let term = Term(state.last_term().0 + u64::from(new_term));
            let index = state.applied_index().next();
            state.begin_entry(term, index, state.time_ms() + elapsed_ms);
            return (None, watch(state, None));
        }
        Step::CreateSession { number } => create_session(number),
        Step::Attach { session, behind, timeout_ms } => {
            let seen = generation(session, behind);
            Command::Attach { session: session_id(session), seen, timeout_ms, server: 2 }
        }
        Step::Close { session, ahead } => {
            let number = (generation(session, 0), sequence(session, ahead));
            end(session, EndCondition::InSequence(number.0, number.1), EndCause::Closed)
        }
        Step::Expire { session, behind } => {
            end(session, EndCondition::StillGeneration(generation(session, behind)), EndCause::Expired)
        }
        Step::Kill { session } => end(session, EndCondition::Always, EndCause::Killed),
        Step::Write { session, behind, ahead, auth: who, ref op } => {
            auth = who.ids();
            Command::Write {
                session: session_id(session),
                generation: generation(session, behind),
                sequence: sequence(session, ahead),
                auth: &auth,
                operation: op.operation(),
            }
        }
        Step::Refused { session, error } => Command::Refused {
            session: session_id(session),
            generation: generation(session, 0),
            sequence: sequence(session, 0),
            error,
        },
        Step::Clean { path, stale } => {
            let stat = state.lookup(path).map(|znode| znode.stat()).unwrap_or_default();
            let mzxid = if stale { Zxid(-1) } else { stat.mzxid };
            Command::Clean { path, czxid: stat.czxid, mzxid }
        }
        Step::Configure(settings) => Command::Configure(settings),
    };
    let mut changes = Vec::new();
    let watched = watch(state, Some(&command));
    let outcome = state.apply(&command, Some(&mut changes));
    (Some((outcome, changes)), watched)
}

fn end(session: u64, condition: EndCondition, cause: EndCause) -> Command<'static> {
    Command::EndSession { session: session_id(session), condition, cause, last_heard_ms: 0, owner: 1 }
}

/// Everything a reader can see, as text: equal for equal states, whatever their memory looks like.
pub(crate) fn dump(state: &State) -> String {
    let mut text = String::new();
    let mut add = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    for path in all_paths(state) {
        let znode = state.lookup(&path).unwrap();
        add(format!("{path} {:?} {:?} {:?} {:?}", znode.data(), znode.owner(), znode.acl(), znode.stat()));
    }
    for (id, row) in state.sessions() {
        add(format!("{id} {row:?} {:?}", state.ephemerals_of(id)));
    }
    add(format!(
        "{:?} {:?} {:?} {:?} {:?} {:?}",
        state.last_zxid(),
        state.last_term(),
        state.applied_index(),
        state.time_ms(),
        state.settings(),
        state.lane(1)
    ));
    add(format!(
        "{} {} {} {} {:?}",
        state.node_count(),
        state.acl_list_count(),
        state.ephemeral_count(),
        state.approximate_data_size(),
        state.tree_digest_history().collect::<Vec<_>>()
    ));
    add(format!("{:?}", state.membership()));
    text
}

/// Every path, sorted.
pub(crate) fn all_paths(state: &State) -> Vec<String> {
    let mut paths = vec!["/".to_owned()];
    let mut at = 0;
    while at < paths.len() {
        let prefix = if at == 0 { String::new() } else { paths[at].clone() };
        let znode = state.lookup(&paths[at]).unwrap();
        paths.extend(znode.children().map(|name| format!("{prefix}/{name}")));
        at += 1;
    }
    paths.sort_unstable();
    paths
}
