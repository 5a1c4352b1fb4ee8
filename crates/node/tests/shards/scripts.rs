//! Random clients, judged by rules that know nothing of how the server works.
//!
//! An observer with a recursive watch on everything writes down the history: which path changed at which zxid. It
//! and the frames of each connection, in the order in which they arrived, must fit together:
//!
//! * replies come in the order of the requests, each once, and none is missing on a connection that stayed;
//! * no frame, whatever kind, goes back behind the zxid of one before it;
//! * a reply shows exactly the newest change up to its zxid;
//! * a watch fires at the first change after it was set, before any frame that shows that change or a later one;
//! * every event is in the history.

use ostler_types::{AddWatchMode, ErrorCode, EventType};
use ostler_wire::{OpCode, Request, Response};
use proptest::prelude::*;

use crate::world::{Frame, Options, Session, World, code, create_with, delete, get, set};

const PATHS: [&str; 6] = ["/a", "/b", "/a/x", "/a/y", "/b/z", "/c"];
const CLIENTS: usize = 4;

#[derive(Clone, Debug)]
enum Step {
    Create { client: usize, path: usize, ephemeral: bool },
    Set { client: usize, path: usize },
    Delete { client: usize, path: usize },
    Get { client: usize, path: usize, watch: bool },
    Exists { client: usize, path: usize },
    Children { client: usize, path: usize },
    Ping { client: usize },
    Refused { client: usize },
    Close { client: usize },
    Move { client: usize, shard: usize },
    HoldDisk(bool),
    Sleep { shard: usize, asleep: bool },
    Settle,
    Time,
}

fn step() -> impl Strategy<Value = Step> {
    let (client, path) = (0..CLIENTS, 0..PATHS.len());
    let both = || (client.clone(), path.clone());
    prop_oneof![
        6 => (both(), any::<bool>()).prop_map(|((client, path), ephemeral)| {
            Step::Create { client, path, ephemeral }
        }),
        8 => both().prop_map(|(client, path)| Step::Set { client, path }),
        3 => both().prop_map(|(client, path)| Step::Delete { client, path }),
        8 => (both(), any::<bool>()).prop_map(|((client, path), watch)| Step::Get { client, path, watch }),
        4 => both().prop_map(|(client, path)| Step::Exists { client, path }),
        4 => both().prop_map(|(client, path)| Step::Children { client, path }),
        3 => client.clone().prop_map(|client| Step::Ping { client }),
        1 => client.clone().prop_map(|client| Step::Refused { client }),
        1 => client.clone().prop_map(|client| Step::Close { client }),
        1 => (client, 0..2usize).prop_map(|(client, shard)| Step::Move { client, shard }),
        2 => any::<bool>().prop_map(Step::HoldDisk),
        2 => (0..2usize, any::<bool>()).prop_map(|(shard, asleep)| Step::Sleep { shard, asleep }),
        6 => Just(Step::Settle),
        1 => Just(Step::Time),
    ]
}

/// What was asked for under one xid.
#[derive(Clone, Debug, PartialEq)]
enum Asked {
    Write { path: usize, value: Option<Vec<u8>>, op: OpCode },
    Get { path: usize, watch: bool },
    Exists { path: usize },
    Children { path: usize },
    Other,
}

/// One connection, from its handshake to its end.
struct Line {
    session: Session,
    asked: Vec<Asked>,
    frames: Vec<Frame>,
}

/// The clients and what they have seen.
struct Clients {
    world: World,
    lines: Vec<Line>,
    finished: Vec<Line>,
    observer: Session,
    values: u64,
}

impl Clients {
    fn new(outstanding_limit: usize) -> Clients {
        let mut world = World::with(&Options { outstanding_limit, ..Options::default() });
        let observer = world.connect(0, 40_000);
        let watch = Request::AddWatch { path: "/".into(), mode: AddWatchMode::PersistentRecursive };
        world.must(observer.peer, &watch);
        let line = |session| Line { session, asked: vec![], frames: vec![] };
        let lines = (0..CLIENTS).map(|i| line(world.connect(i % 2, 40_000))).collect();
        Clients { world, lines, finished: vec![], observer, values: 0 }
    }

    fn ask(&mut self, client: usize, asked: Asked, request: &Request<'_>) {
        let line = &mut self.lines[client];
        self.world.ask(line.session.peer, line.asked.len() as i32, request);
        line.asked.push(asked);
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Create { client, path, ephemeral } => {
                let value = self.value();
                let asked = Asked::Write { path, value: Some(value.clone()), op: OpCode::Create };
                self.ask(client, asked, &create_with(PATHS[path], &value, ephemeral.into()));
            }
            Step::Set { client, path } => {
                let value = self.value();
                let asked = Asked::Write { path, value: Some(value.clone()), op: OpCode::SetData };
                self.ask(client, asked, &set(PATHS[path], &value));
            }
            Step::Delete { client, path } => {
                let asked = Asked::Write { path, value: None, op: OpCode::Delete };
                self.ask(client, asked, &delete(PATHS[path]));
            }
            Step::Get { client, path, watch } => {
                self.ask(client, Asked::Get { path, watch }, &get(PATHS[path], watch));
            }
            Step::Exists { client, path } => {
                let request = Request::Exists { path: PATHS[path].into(), watch: true };
                self.ask(client, Asked::Exists { path }, &request);
            }
            Step::Children { client, path } => {
                let request = Request::GetChildren { path: PATHS[path].into(), watch: true };
                self.ask(client, Asked::Children { path }, &request);
            }
            Step::Ping { client } => {
                self.world.ask(self.lines[client].session.peer, -2, &Request::Ping);
            }
            Step::Refused { client } => {
                let line = &mut self.lines[client];
                self.world.ask_raw(line.session.peer, line.asked.len() as i32, OpCode::SetData.code(), b"");
                line.asked.push(Asked::Other);
            }
            Step::Close { client } => {
                self.ask(client, Asked::Other, &Request::CloseSession);
                self.wake();
                let session = self.world.connect(client % 2, 40_000);
                self.renew(client, session);
            }
            Step::Move { client, shard } => {
                let old = self.lines[client].session;
                self.wake();
                let session = self.world.resume(shard, &old).expect("the session lives");
                self.renew(client, session);
            }
            Step::HoldDisk(hold) => self.world.hold_disk = hold,
            Step::Sleep { shard, asleep } => self.world.asleep[shard] = asleep,
            Step::Settle => self.world.settle(),
            Step::Time => self.world.advance(150),
        }
        for line in &mut self.lines {
            line.frames.extend(self.world.frames(line.session.peer));
        }
    }

    fn value(&mut self) -> Vec<u8> {
        self.values += 1;
        self.values.to_string().into_bytes()
    }

    fn wake(&mut self) {
        self.world.hold_disk = false;
        self.world.asleep.fill(false);
        self.world.settle();
    }

    fn renew(&mut self, client: usize, session: Session) {
        let line = &mut self.lines[client];
        line.frames.extend(self.world.frames(line.session.peer));
        let line = std::mem::replace(line, Line { session, asked: vec![], frames: vec![] });
        self.finished.push(line);
    }

    fn judge(mut self) {
        self.wake();
        let history: Vec<(i64, EventType, String)> = self
            .world
            .frames(self.observer.peer)
            .iter()
            .map(|f| f.event().map(|(kind, path)| (f.zxid, kind, path)).expect("the observer asks nothing"))
            .collect();
        assert!(history.is_sorted_by_key(|h| h.0));
        for line in &mut self.lines {
            line.frames.extend(self.world.frames(line.session.peer));
            let replies = line.frames.iter().filter(|f| f.xid >= 0).count();
            assert_eq!(replies, line.asked.len(), "every request was answered");
        }
        let judge = Judge { history, values: self.written() };
        for line in self.lines.iter().chain(&self.finished) {
            judge.line(line);
        }
    }

    /// (zxid, value) of every write that was answered with success.
    fn written(&self) -> Vec<(i64, Vec<u8>)> {
        let mut written = vec![];
        for line in self.lines.iter().chain(&self.finished) {
            for frame in line.frames.iter().filter(|f| f.xid >= 0 && f.err == 0) {
                if let Asked::Write { value: Some(value), .. } = &line.asked[frame.xid as usize] {
                    written.push((frame.zxid, value.clone()));
                }
            }
        }
        written
    }
}

struct Judge {
    history: Vec<(i64, EventType, String)>,
    values: Vec<(i64, Vec<u8>)>,
}

impl Judge {
    fn line(&self, line: &Line) {
        let mut expected_xid = 0;
        let mut newest = 0;
        for (at, frame) in line.frames.iter().enumerate() {
            assert!(frame.zxid >= newest, "zxid goes back at frame {at}: {:?}", line.frames);
            newest = frame.zxid;
            if let Some((kind, path)) = frame.event() {
                self.event(frame.zxid, kind, &path);
            } else if frame.xid >= 0 {
                assert_eq!(frame.xid, expected_xid, "out of order");
                expected_xid += 1;
                self.reply(frame, &line.asked[frame.xid as usize]);
                self.watch(line, at);
            }
        }
    }

    fn event(&self, zxid: i64, kind: EventType, path: &str) {
        let is_in_history = self.history.iter().any(|(z, k, p)| match kind {
            EventType::NodeChildrenChanged => {
                *z == zxid && *k != EventType::NodeDataChanged && parent(p) == path
            }
            _ => (*z, *k, p.as_str()) == (zxid, kind, path),
        });
        assert!(is_in_history, "{kind:?} {path} at {zxid:#x} never happened");
    }

    /// The newest change of a path up to a zxid.
    fn newest(&self, path: &str, zxid: i64) -> Option<(i64, EventType)> {
        self.history.iter().rfind(|(z, _, p)| *z <= zxid && p == path).map(|(z, kind, _)| (*z, *kind))
    }

    fn reply(&self, frame: &Frame, asked: &Asked) {
        let missing = frame.err == code(ErrorCode::NoNode);
        match asked {
            Asked::Write { path, op, .. } => {
                let kind = match op {
                    OpCode::Create => EventType::NodeCreated,
                    OpCode::SetData => EventType::NodeDataChanged,
                    _ => EventType::NodeDeleted,
                };
                let change = (frame.zxid, kind, PATHS[*path].to_owned());
                assert_eq!(self.history.contains(&change), frame.err == 0, "{change:?} {}", frame.err);
            }
            Asked::Get { path, .. } | Asked::Exists { path } | Asked::Children { path } => {
                let newest = self.newest(PATHS[*path], frame.zxid);
                let exists = newest.is_some_and(|(_, kind)| kind != EventType::NodeDeleted);
                assert_eq!(exists, !missing, "{asked:?} {frame:?}");
                if let (Asked::Get { .. }, false) = (asked, missing) {
                    let Response::DataAndStat { data, stat } = frame.response(OpCode::GetData) else {
                        panic!("{frame:?}")
                    };
                    assert_eq!(Some(stat.mzxid.0), newest.map(|n| n.0), "an older or newer state");
                    // The write's own answer may have been lost with its connection.
                    if let Some((_, value)) = self.values.iter().find(|(z, _)| *z == stat.mzxid.0) {
                        assert_eq!(data.as_ref(), Some(value));
                    }
                }
            }
            Asked::Other => {}
        }
    }

    /// A watch that frame `at` has set fires in time.
    fn watch(&self, line: &Line, at: usize) {
        let set = &line.frames[at];
        let missing = set.err != 0;
        let (path, child) = match &line.asked[set.xid as usize] {
            Asked::Get { path, watch: true } if !missing => (PATHS[*path], false),
            Asked::Exists { path } => (PATHS[*path], false),
            Asked::Children { path } if !missing => (PATHS[*path], true),
            _ => return,
        };
        let first = self.history.iter().find(|(z, kind, p)| {
            let exact = p == path && (!child || *kind == EventType::NodeDeleted);
            let below = child && parent(p) == path && *kind != EventType::NodeDataChanged;
            *z > set.zxid && (exact || below)
        });
        let Some((zxid, ..)) = first else { return };
        let fires = |frame: &Frame| frame.zxid == *zxid && frame.event().is_some_and(|(_, p)| p == path);
        for frame in &line.frames[at + 1..] {
            if fires(frame) {
                return;
            }
            // Other events of the same transaction may come first.
            let shows = frame.zxid > *zxid || (frame.zxid == *zxid && frame.event().is_none());
            assert!(!shows, "{frame:?} shows {zxid:#x}, and {path} was watched since {set:?}");
        }
    }
}

fn parent(path: &str) -> &str {
    match path.rfind('/') {
        Some(0) | None => "/",
        Some(at) => &path[..at],
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_clients_see_one_history_in_order(
        steps in prop::collection::vec(step(), 1..150),
        outstanding_limit in prop_oneof![1..4usize, Just(1000)]
    ) {
        let mut clients = Clients::new(outstanding_limit);
        for step in &steps {
            clients.run(step);
        }
        clients.judge();
    }
}
