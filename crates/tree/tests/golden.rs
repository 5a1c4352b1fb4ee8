//! Snapshots of every version that was ever written can be read, and mean what they meant.
//!
//! `tests/golden/snapshot-vN.bin` is a record stream, `snapshot-vN.txt` the state in it. A stream is only ever
//! added, never rewritten (what is new in a state gets its default in the older texts): after a change of format, `OSTLER_REWRITE=1 cargo test -p ostler-tree --test golden`
//! writes the newest one if it is not there.

mod commands;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use commands::{Auth, List, Op, Step, dump, session_id, take, world};
use ostler_tree::snapshot::{Progress, Restorer};
use ostler_tree::{
    Command, Member, MembershipChange, Operation, Outcome, ReconfigRequest, Settings, State, Verdict,
};
use ostler_types::NodeKind;
use ostler_types::member::ServerSpec;

/// Version of the newest golden file: the one that today's code writes.
const NEWEST: u32 = 2;

fn golden(version: u32, extension: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/snapshot-v{version}.{extension}"))
}

/// A state with something of everything a snapshot holds.
fn state_with_everything() -> State {
    let write = |session, auth, op| Step::Write { session, behind: 0, ahead: 0, auth, op };
    let create = |path, data, acl, flags, kind| Op::Create { path, data, acl, flags, kind, stat: false };
    let mut state = world();
    let mut steps = vec![
        write(1, Auth::User, create("/a", Some("x"), List::Auth, 0, NodeKind::Plain)),
        write(1, Auth::User, create("/a/c", None, List::Open, 0, NodeKind::Plain)),
        write(1, Auth::User, create("/a/q-", Some(""), List::User, 3, NodeKind::Plain)),
        write(2, Auth::User, create("/b", Some("0123456789"), List::ReadOnly, 4, NodeKind::Container)),
        write(2, Auth::User, create("/a/b", Some("x"), List::Open, 5, NodeKind::Ttl(25))),
        Step::Entry { new_term: true, elapsed_ms: 30 },
        write(2, Auth::User, create("/zookeeper/quota/a", None, List::Open, 0, NodeKind::Plain)),
        write(
            2,
            Auth::User,
            create(
                "/zookeeper/quota/a/zookeeper_limits",
                Some("count=3,bytes=4"),
                List::Open,
                0,
                NodeKind::Plain,
            ),
        ),
        write(
            2,
            Auth::User,
            create("/zookeeper/quota/a/zookeeper_stats", None, List::Open, 0, NodeKind::Plain),
        ),
        write(2, Auth::User, Op::Delete { path: "/a/c", version: 0 }),
        write(2, Auth::User, Op::SetData { path: "/a", data: None, version: 0 }),
        write(2, Auth::Nobody, Op::SetAcl { path: "/a", acl: List::Open, version: 0 }),
        Step::Attach { session: 1, behind: 0, timeout_ms: 7 },
        Step::Kill { session: 3 },
        Step::Configure(Settings { container_max_never_used_ms: 9, ..*state.settings() }),
    ];
    let renewal = write(2, Auth::User, Op::SetData { path: "/a/b", data: Some("x"), version: -1 });
    steps.extend(std::iter::repeat_n(renewal, 300));
    for step in &steps {
        take(&mut state, step);
    }
    let member = |node, line| Member { node, spec: ServerSpec::parse(line).unwrap() };
    let members = BTreeMap::from([
        (1, member(Some(0x0102_0304_0506_0708), "10.0.0.1:2888:3888;2181")),
        (2, member(None, "[fe80::2]:2888:3888:observer|b:2889:3889:observer;[::1]:2181")),
    ]);
    state.apply(&Command::AdoptMembers { members }, None);
    state.apply_membership(MembershipChange::AddLearner { node: 9 }, Some(2));
    let settings = *state.settings();
    let settings = Settings { reconfig_enabled: true, standalone_enabled: false, ..settings };
    state.apply(&Command::Configure(settings), None);
    let request = ReconfigRequest {
        joining: Some("server.3=c:1:2;3"),
        config_version: -1,
        ..ReconfigRequest::default()
    };
    let row = *state.session(session_id(2)).unwrap();
    let reconfig = Command::Write {
        session: session_id(2),
        generation: row.generation,
        sequence: row.sequence.next(),
        auth: &Auth::Super.ids(),
        operation: Operation::Reconfig(request),
    };
    assert_eq!(state.apply(&reconfig, None), Outcome::Write(Verdict::Pending));
    state
}

fn snapshot(state: &mut State) -> Vec<u8> {
    let mut stream = Vec::new();
    let mut walk = state.begin_snapshot_walk();
    while state.walk_slice(&mut walk, 16, &mut stream) == Progress::More {}
    state.end_snapshot_walk();
    stream
}

#[test]
fn every_version_can_be_read() {
    for version in 1..=NEWEST {
        let stream = std::fs::read(golden(version, "bin")).unwrap();
        let mut restorer = Restorer::new(0);
        restorer.feed(&stream).unwrap();
        let state = restorer.finish().unwrap();
        let expected = std::fs::read_to_string(golden(version, "txt")).unwrap();
        assert_eq!(dump(&state), expected, "version {version}");
    }
}

#[test]
fn the_newest_version_is_what_is_written() {
    let mut state = state_with_everything();
    let stream = snapshot(&mut state);
    if std::env::var_os("OSTLER_REWRITE").is_some() && !golden(NEWEST, "bin").exists() {
        std::fs::write(golden(NEWEST, "bin"), &stream).unwrap();
        std::fs::write(golden(NEWEST, "txt"), dump(&state)).unwrap();
    }
    assert!(stream == std::fs::read(golden(NEWEST, "bin")).unwrap(), "the format has changed: see the top");
    assert_eq!(dump(&state), std::fs::read_to_string(golden(NEWEST, "txt")).unwrap());
}
