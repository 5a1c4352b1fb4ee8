//! ZooKeeper's digest of the tree against values of Apache ZooKeeper 3.9.5's own `DataTree`, given the same
//! transactions (created, changed and deleted with the same zxids and times).

use ostler_tree::{AclEntry, Command, Operation, Outcome, State, Verdict};
use ostler_types::{AuthId, Generation, LogIndex, NodeKind, Perms, Sequence, SessionId, Term, Zxid};

struct Client {
    state: State,
    sequence: Sequence,
}

impl Client {
    /// With the session 0x100000100000001, created by transaction 0x100000001.
    fn new() -> Client {
        let mut state = State::new();
        state.begin_entry(Term(1), LogIndex(1), 1_000);
        state.apply(&Command::RegisterBoot { server: 1, boot: 1, nonce: 1 }, None);
        let create =
            Command::CreateSession { server: 1, boot: 1, number: 1, timeout_ms: 1, secret_hash: [0; 32] };
        state.apply(&create, None);
        Client { state, sequence: Sequence(0) }
    }

    fn write(&mut self, operation: Operation<'_>) {
        self.sequence = self.sequence.next();
        let command = Command::Write {
            session: SessionId(0x100_0001_0000_0001),
            generation: Generation(1),
            sequence: self.sequence,
            auth: &[AuthId::new("super", "")],
            operation,
        };
        let outcome = self.state.apply(&command, None);
        assert!(matches!(outcome, Outcome::Write(Verdict::Applied { result: Ok(_), .. })), "{outcome:?}");
    }

    fn create(&mut self, path: &str, data: Option<&[u8]>, flags: i32, kind: NodeKind) {
        let acl = Some(AclEntry::open());
        self.write(Operation::Create { path, data, acl, flags, kind, want_stat: false });
    }
}

#[test]
fn the_tree_digest_is_apache_zookeepers() {
    let mut client = Client::new();
    assert_eq!(client.state.tree_digest(), 1_371_985_504, "a fresh tree");
    client.create("/a", Some(b"hello"), 0, NodeKind::Plain);
    assert_eq!(client.state.tree_digest(), 8_636_303_795);
    client.create("/a/b", None, 1, NodeKind::Plain);
    client.create("/box", Some(b""), 4, NodeKind::Container);
    client.create("/zookeeper/mine", Some(b"x"), 0, NodeKind::Plain);
    assert_eq!(client.state.tree_digest(), 13_179_161_857);
    client.state.begin_entry(Term(1), LogIndex(2), 2_000);
    client.write(Operation::SetData { path: "/a", data: Some(b"world!"), version: 0 });
    let acl = Some(vec![AclEntry::new(Perms::READ, "world", "anyone")]);
    client.write(Operation::SetAcl { path: "/a", acl, version: 0 });
    client.write(Operation::Delete { path: "/a/b", version: 0 });
    assert_eq!(client.state.tree_digest(), 6_924_272_622);
    assert_eq!(client.state.last_zxid(), Zxid(0x1_0000_0008));
    assert_eq!((client.state.approximate_data_size(), client.state.node_count()), (72, 8));
}

#[test]
fn the_history_has_every_128th_zxid_and_the_newest_1024() {
    let mut client = Client::new();
    client.create("/a", None, 0, NodeKind::Plain);
    let mut expected = Vec::new();
    while expected.len() < 1_030 {
        client.write(Operation::SetData { path: "/a", data: None, version: -1 });
        let zxid = client.state.last_zxid();
        if zxid.0 % 128 == 0 {
            expected.push((zxid, client.state.tree_digest()));
        }
    }
    let history: Vec<_> = client.state.tree_digest_history().map(|kept| (kept.zxid, kept.digest)).collect();
    assert_eq!(history, expected[6..]);
}
