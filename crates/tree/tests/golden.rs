//! Snapshots of every version that was ever written can be read, and mean what they meant.
//!
//! `tests/golden/snapshot-vN.bin` is a record stream, `snapshot-vN.txt` the state in it. A stream is only ever
//! added, never rewritten: after a change of format, `OSTLER_REWRITE=1 cargo test -p ostler-tree --test golden`
//! writes the newest one if it is not there.

mod commands;

use std::path::{Path, PathBuf};

use commands::{Auth, List, Op, Step, dump, take, world};
use ostler_tree::snapshot::{Progress, Restorer};
use ostler_tree::{Settings, State};
use ostler_types::NodeKind;

/// Version of the newest golden file: the one that today's code writes.
const NEWEST: u32 = 1;

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
