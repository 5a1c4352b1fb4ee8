//! Measures what a small znode costs: memory beyond its name and data, and the time to create and
//! find it, to write it to a snapshot and to restore it.
//!
//! `cargo run --release -p ostler-tree --example memory [ZNODES [NAME_LENGTH DATA_LENGTH]]` (Linux: reads the process's resident size
//! from /proc). The target of the design is 200 bytes.

use std::fmt::Write;
use std::time::{Duration, Instant};

use ostler_tree::snapshot::{Progress, Restorer};
use ostler_tree::{AclEntry, Command, Operation, Outcome, State, Verdict};
use ostler_types::{Generation, LogIndex, NodeKind, Sequence, SessionId, Term};

/// Target of the design in bytes per znode, its name and data not counted.
const TARGET: f64 = 200.0;

/// Slots per slice of the snapshot.
const SLICE: u32 = 4096;

fn main() {
    let arguments: Vec<usize> =
        std::env::args().skip(1).map(|argument| argument.parse().expect("a number")).collect();
    if let [znodes, name_len, data_len] = arguments[..] {
        let overhead = measure(znodes as u64, name_len, data_len);
        assert!(overhead <= TARGET, "that is above the target of {TARGET}");
        return;
    }
    let znodes = arguments.first().map_or("1000000".to_owned(), usize::to_string);
    // Each in its own process: memory that one case has freed would hide what the next one takes.
    let program = std::env::current_exe().expect("the path of this program");
    for case in [["10", "0"], ["10", "100"], ["16", "16"], ["36", "0"], ["36", "100"]] {
        let status = std::process::Command::new(&program).arg(&znodes).args(case).status();
        assert!(status.expect("this program starts").success());
    }
}

/// Creates znodes, 1,000 to a directory, and returns the bytes each costs beyond its name and data.
fn measure(znodes: u64, name_len: usize, data_len: usize) -> f64 {
    let mut state = State::new();
    state.begin_entry(Term(1), LogIndex(1), 0);
    state.apply(&Command::RegisterBoot { server: 1, boot: 1, nonce: 1 }, None);
    let create =
        Command::CreateSession { server: 1, boot: 1, number: 1, timeout_ms: 1, secret_hash: [0; 32] };
    let Outcome::SessionCreated { session, .. } = state.apply(&create, None) else { unreachable!() };
    let mut writer = Writer { state, session, sequence: Sequence(0) };

    let data = vec![b'x'; data_len];
    let mut path = String::new();
    let before = resident_bytes();
    let start = Instant::now();
    for number in 0..znodes {
        if number % 1_000 == 0 {
            path.clear();
            write!(path, "/directory-{}", number / 1_000).unwrap();
            writer.create(&path, &[]);
        }
        set_path(&mut path, number, name_len);
        writer.create(&path, &data);
    }
    let creating = start.elapsed();
    let used = resident_bytes() - before;

    let start = Instant::now();
    let mut found = 0u64;
    for number in 0..znodes {
        // A large odd factor: a different directory every time.
        let number = number.wrapping_mul(1_000_003) % znodes;
        set_path(&mut path, number, name_len);
        found += u64::from(writer.state.lookup(&path).is_some_and(|znode| znode.stat().data_length >= 0));
    }
    let finding = start.elapsed();
    assert_eq!(found, znodes);

    let start = Instant::now();
    let mut walk = writer.state.begin_snapshot_walk();
    let mut stream = Vec::new();
    let mut longest = Duration::ZERO;
    loop {
        let slice = Instant::now();
        let progress = writer.state.walk_slice(&mut walk, SLICE, &mut stream);
        longest = longest.max(slice.elapsed());
        if progress != Progress::More {
            break;
        }
    }
    writer.state.end_snapshot_walk();
    let walking = start.elapsed();

    let start = Instant::now();
    let mut restorer = Restorer::new(1);
    restorer.feed(&stream).expect("it was written just now");
    let restored = restorer.finish().expect("it was written just now");
    let restoring = start.elapsed();
    assert_eq!(restored.agreement_digest(), writer.state.agreement_digest());

    let each = |time: Duration| time.as_nanos() as f64 / znodes as f64;
    let overhead = used as f64 / znodes as f64 - (name_len + data_len) as f64;
    println!(
        "{znodes} znodes, names of {name_len} and data of {data_len} bytes: {overhead:.0} bytes each beyond \
         name and data; create {:.0} ns, lookup {:.0} ns, snapshot {:.0} ns (longest slice of {SLICE}: \
         {:.1} ms), restore {:.0} ns",
        each(creating),
        each(finding),
        each(walking),
        longest.as_secs_f64() * 1e3,
        each(restoring)
    );
    overhead
}

fn set_path(path: &mut String, number: u64, name_len: usize) {
    path.clear();
    write!(path, "/directory-{}/{number:0name_len$}", number / 1_000).unwrap();
}

struct Writer {
    state: State,
    session: SessionId,
    sequence: Sequence,
}

impl Writer {
    fn create(&mut self, path: &str, data: &[u8]) {
        self.sequence = self.sequence.next();
        let operation = Operation::Create {
            path,
            data: Some(data),
            acl: Some(AclEntry::open()),
            flags: 0,
            kind: NodeKind::Plain,
            want_stat: false,
        };
        let command = Command::Write {
            session: self.session,
            generation: Generation(1),
            sequence: self.sequence,
            auth: &[],
            operation,
        };
        let outcome = self.state.apply(&command, None);
        assert!(matches!(outcome, Outcome::Write(Verdict::Applied { result: Ok(_), .. })), "{outcome:?}");
    }
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("needs Linux");
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("proc(5)");
    pages * 4096
}
