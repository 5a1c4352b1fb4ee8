//! A real process on a real disk, aborted before, in the middle of or after its n-th file operation, more than a
//! thousand times on the same directories; after each death, everything it had acknowledged must be there.
//!
//! The test runs itself again as the process to be killed. That process reports on its standard error: what it
//! recovered, what it is about to append, and what is acknowledged.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ostler_storage::{
    Batch, DataDir, Disk, DiskFile, DiskLock, Entry, ExpectIdentity, HardState, Identity, LockError,
    LogOptions, OpenMode, Origin, RealDisk, RecoveredData, SnapshotMeta,
};

const TEST: &str = "a_process_killed_at_any_operation_loses_nothing_acknowledged";
const ROLE: &str = "OSTLER_STORAGE_KILL";
/// How many processes die; two lanes share them.
const DEATHS: u64 = 1080;
/// Operations that a life may have at most before it ends: enough to start, append, roll, snapshot and purge.
const LONGEST_LIFE: u64 = 90;

#[test]
fn a_process_killed_at_any_operation_loses_nothing_acknowledged() {
    if let Ok(role) = std::env::var(ROLE) {
        let mut role = role.splitn(4, ' ');
        let mut number = || role.next().and_then(|n| n.parse().ok()).expect("the parent gives three numbers");
        let (life, at, moment) = (number(), number(), number());
        let dir = PathBuf::from(role.next().expect("and a path"));
        live(&dir, life, Doom { at, moment });
    }
    std::thread::scope(|scope| {
        for lane in 0..2 {
            scope.spawn(move || parent(lane));
        }
    });
}

// --- the parent ---

/// What must be in the directories: the term of every entry, from index 1.
#[derive(Default)]
struct Expected {
    acknowledged: Vec<u64>,
    /// Entries of the append that was under way.
    attempted: Vec<u64>,
    snapshot: u64,
}

fn parent(lane: u64) {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = Expected::default();
    let (mut deaths, mut reports, mut snapshots) = (0, 0, 0);
    let mut died_at = BTreeMap::<String, u32>::new();
    for life in 1..=DEATHS / 2 {
        let number = life * 2 + lane;
        // Three moments of every operation before the next operation's turn.
        let (at, moment) = (number / 3 % LONGEST_LIFE, number % 3);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", TEST, "--nocapture"])
            .env(ROLE, format!("{life} {at} {moment} {}", dir.path().display()))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = String::new();
        for line in BufReader::new(child.stderr.take().unwrap()).lines() {
            let line = line.unwrap();
            log.push_str(&line);
            log.push('\n');
            let mut words = line.split(' ');
            let kind = words.next().unwrap();
            let numbers: Vec<u64> = words.map_while(|w| w.parse().ok()).collect();
            match kind {
                "recovered" => {
                    reports += 1;
                    expected.recovered(&numbers, life);
                }
                "try" => expected.attempted = numbers,
                "ack" => {
                    let attempted = std::mem::take(&mut expected.attempted);
                    expected.acknowledged.extend(attempted);
                }
                "dying" => *died_at.entry(line["dying at ".len()..].to_owned()).or_default() += 1,
                "snapshot" => {
                    snapshots += 1;
                    expected.snapshot = numbers[0];
                }
                _ => {}
            }
        }
        let status = child.wait().unwrap();
        assert!(
            !status.success() && !log.contains("panicked"),
            "life {life}, operation {at}: {status}\n{log}"
        );
        deaths += 1;
    }
    assert_eq!(deaths, DEATHS / 2);
    assert!(reports > deaths / 2 && snapshots > deaths / 10, "{reports} recoveries, {snapshots} snapshots");
    assert!(expected.acknowledged.len() > 1000, "{} entries", expected.acknowledged.len());

    let everywhere = [
        "create_dir",
        "lock",
        "create wal.tmp",
        "write wal.tmp",
        "sync wal.tmp",
        "rename wal.tmp",
        "sync_dir",
        "write wal",
        "sync wal",
        "rename wal",
        "remove wal",
        "write wal.free",
        "rename wal.free",
        "create snap.tmp",
        "write snap.tmp",
        "sync snap.tmp",
        "rename snap.tmp",
        "remove snap",
    ];
    for operation in everywhere {
        assert!(died_at.contains_key(operation), "nobody died at {operation}: {died_at:?}");
    }
    if std::env::var_os("OSTLER_STORAGE_KILL_REPORT").is_some() {
        eprintln!("lane {lane}: {reports} recoveries, {snapshots} snapshots, died at {died_at:?}");
    }

    let data = recover(Arc::new(RealDisk), dir.path());
    expected.recovered(&summary(&data), 0);
    assert!(ostler_storage::check(&RealDisk, &dir.path().join("data"), &dir.path().join("log")).is_good());
}

impl Expected {
    /// `report`: the snapshot's index and digest, then the terms of the entries after it.
    fn recovered(&mut self, report: &[u64], life: u64) {
        let (snapshot, digest, terms) = (report[0], report[1], &report[2..]);
        assert!(snapshot >= self.snapshot, "life {life}: snapshot {snapshot}, not {}", self.snapshot);
        let mut all = self.acknowledged.clone();
        all.extend(&self.attempted);
        let last = snapshot as usize + terms.len();
        assert!(last >= self.acknowledged.len(), "life {life}: only {last} of {}", self.acknowledged.len());
        assert!(last <= all.len(), "life {life}: {last} entries of {}", all.len());
        assert_eq!(
            digest,
            digest_of(&all[..snapshot as usize]),
            "life {life}: the snapshot is of something else"
        );
        assert_eq!(terms, &all[snapshot as usize..last], "life {life}");
        all.truncate(last);
        self.acknowledged = all;
        self.attempted.clear();
    }
}

/// Stands for the state after entries of these terms.
fn digest_of(terms: &[u64]) -> u64 {
    terms.iter().fold(7, |digest, term| (digest ^ term).wrapping_mul(0x0100_0000_01b3).rotate_left(5))
}

// --- the process that dies ---

fn recover(disk: Arc<dyn Disk>, dir: &Path) -> RecoveredData {
    let data_dir = DataDir::open(disk, &dir.join("data"), &dir.join("log")).unwrap();
    let identity = Identity { cluster_id: 0xc1, node_id: 0x01 };
    let options = LogOptions { segment_bytes: 4096, reserve_bytes: 256 };
    let data = data_dir.recover(ExpectIdentity::OrCreate(identity), options).unwrap();
    // The process is alone; the lock dies with it.
    std::mem::forget(data_dir);
    data
}

/// See [`Expected::recovered`].
fn summary(data: &RecoveredData) -> Vec<u64> {
    let mut report = vec![0, digest_of(&[])];
    if let Some(info) = &data.snapshot {
        let mut digest = [0; 8];
        let mut reader = data.snapshots.read(info).unwrap();
        reader.read_exact(&mut digest).unwrap();
        assert_eq!(reader.read(&mut [0; 1]).unwrap(), 0);
        report = vec![info.meta.index, u64::from_le_bytes(digest)];
    }
    for entry in &data.recovered.entries {
        assert_eq!(entry, &make_entry(entry.term, entry.index));
        report.push(entry.term);
    }
    let commit = data.recovered.hard_state.map_or(0, |s| s.commit);
    assert!(commit <= data.recovered.last_index);
    report
}

fn make_entry(term: u64, index: u64) -> Entry {
    let data = vec![(term + index) as u8; (index * 37 % 400) as usize];
    Entry { term, index, kind: 0, data: data.into() }
}

fn say(kind: &str, numbers: &[u64]) {
    let words: String = numbers.iter().map(|n| format!(" {n}")).collect();
    io::stderr().write_all(format!("{kind}{words}\n").as_bytes()).unwrap();
}

/// Works until the doom strikes.
fn live(dir: &Path, life: u64, doom: Doom) -> ! {
    let disk = Arc::new(AbortAt { doom: Arc::new((doom, AtomicU64::new(0))) });
    let mut data = recover(disk, dir);
    let report = summary(&data);
    say("recovered", &report);
    // Only the digest up to the last snapshot is known, and the terms after it.
    let (mut snapshot, mut digest) = (report[0], report[1]);
    let mut since: Vec<u64> = report[2..].to_vec();
    for step in 0.. {
        let first = data.log.last_index() + 1;
        let count = 1 + (life + step) % 3;
        let entries: Vec<Entry> = (first..first + count).map(|index| make_entry(life, index)).collect();
        let terms: Vec<u64> = entries.iter().map(|e| e.term).collect();
        say("try", &terms);
        let hard_state = Some(HardState { term: life, vote: 1, commit: first + count - 1 });
        let batch = Batch { entries, hard_state, must_sync: true, ..Batch::default() };
        data.log.append(&[batch]).unwrap();
        say("ack", &[]);
        since.extend(terms);
        if step % 2 == 1 {
            data.log.prepare_spare().unwrap();
        }
        if step % 4 == 3 {
            snapshot += since.len() as u64;
            digest = since
                .drain(..)
                .fold(digest, |digest, term| (digest ^ term).wrapping_mul(0x0100_0000_01b3).rotate_left(5));
            let meta = SnapshotMeta {
                identity: data.log.identity(),
                index: snapshot,
                term: life,
                zxid: 0,
                conf_state: vec![],
                created_ms: 0,
                origin: Origin::Local,
            };
            let mut writer = data.snapshots.create(&meta).unwrap();
            writer.push(&digest.to_le_bytes()).unwrap();
            writer.finish(1, digest.into()).unwrap();
            say("snapshot", &[snapshot]);
            let oldest = data.snapshots.purge(2).unwrap().unwrap();
            data.log.purge(oldest).unwrap();
        }
    }
    unreachable!("the doom strikes at some operation")
}

/// At which operation to die, and when: 0 before, 1 in the middle (of a write), 2 after.
#[derive(Clone, Copy)]
struct Doom {
    at: u64,
    moment: u64,
}

/// The real disk until the doom strikes.
struct AbortAt {
    doom: Arc<(Doom, AtomicU64)>,
}

struct AbortFile {
    file: Box<dyn DiskFile>,
    kind: String,
    doom: Arc<(Doom, AtomicU64)>,
}

/// Counts one operation; dies before or after it if it is the one.
fn guarded<T>(
    doom: &(Doom, AtomicU64),
    what: &str,
    middle: impl FnOnce(),
    operation: impl FnOnce() -> T,
) -> T {
    let (Doom { at, moment }, count) = doom;
    let due = count.fetch_add(1, Ordering::SeqCst) == *at;
    if !due {
        return operation();
    }
    io::stderr().write_all(format!("dying at {what}\n").as_bytes()).unwrap();
    match moment {
        0 => {}
        1 => middle(),
        _ => drop(operation()),
    }
    std::process::abort()
}

/// An operation and the kind of file: "write wal", "rename snap.tmp".
fn name(operation: &str, path: &Path) -> String {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    format!("{operation} {}", file.split_once('.').map_or(&*file, |(_, kind)| kind))
}

impl Disk for AbortAt {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let open = || RealDisk.open(path, mode);
        let file = if mode == OpenMode::CreateNew {
            guarded(&self.doom, &name("create", path), || (), open)?
        } else {
            open()?
        };
        Ok(Box::new(AbortFile { file, kind: name("", path).trim().to_owned(), doom: Arc::clone(&self.doom) }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        guarded(&self.doom, &name("rename", from), || (), || RealDisk.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        guarded(&self.doom, &name("remove", path), || (), || RealDisk.remove(path))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        guarded(&self.doom, "sync_dir", || (), || RealDisk.sync_dir(dir))
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        guarded(&self.doom, "create_dir", || (), || RealDisk.create_dir_all(dir))
    }

    fn lock(&self, path: &Path, note: &str) -> Result<Box<dyn DiskLock>, LockError> {
        guarded(&self.doom, "lock", || (), || RealDisk.lock(path, note))
    }

    fn lock_holder(&self, path: &Path) -> io::Result<Option<String>> {
        RealDisk.lock_holder(path)
    }
}

impl DiskFile for AbortFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        // In the middle of a write a process dies between two pages.
        let half = buf.len() / 2;
        let middle = || self.file.write_all_at(&buf[..half - half % 128], offset).unwrap();
        guarded(&self.doom, &format!("write {}", self.kind), middle, || self.file.write_all_at(buf, offset))
    }

    fn sync_data(&self) -> io::Result<()> {
        guarded(&self.doom, &format!("sync {}", self.kind), || (), || self.file.sync_data())
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        guarded(&self.doom, &format!("resize {}", self.kind), || (), || self.file.set_len(len))
    }
}
