//! The data directory as a whole: first start, restarts, what is refused, and what `check` says.

use std::path::Path;
use std::sync::Arc;

use ostler_storage::{
    Batch, DataDir, DataDirError, Disk, Entry, ExpectIdentity, HardState, Identity, LogOptions, OpenError,
    OpenMode, Origin, RealDisk, RecoverError, RecoveredData, SimDisk, SnapshotMeta, check,
};

const ME: Identity = Identity { cluster_id: 0xc1, node_id: 0x01 };
const DATA: &str = "/data";
const LOGS: &str = "/logs";
const OPTIONS: LogOptions = LogOptions { segment_bytes: 4096, reserve_bytes: 256 };

fn open(disk: &SimDisk) -> Result<DataDir, DataDirError> {
    DataDir::open(Arc::new(disk.clone()), Path::new(DATA), Path::new(LOGS))
}

fn recover(disk: &SimDisk) -> Result<RecoveredData, RecoverError> {
    open(disk).unwrap().recover(ExpectIdentity::OrCreate(ME), OPTIONS)
}

fn refused(disk: &SimDisk) -> String {
    match recover(disk) {
        Ok(data) => panic!("accepted with {:?} and {:?}", data.snapshot, data.recovered),
        Err(e) => e.to_string(),
    }
}

fn append(data: &mut RecoveredData, indexes: std::ops::RangeInclusive<u64>, term: u64) {
    for index in indexes {
        let entry = Entry { term, index, kind: 0, data: vec![index as u8; 500].into() };
        let hard_state = Some(HardState { term, vote: 1, commit: index });
        data.log
            .append(&[Batch { entries: vec![entry], hard_state, must_sync: true, ..Batch::default() }])
            .unwrap();
    }
}

fn snapshot(data: &RecoveredData, index: u64, term: u64, origin: Origin) {
    let meta = SnapshotMeta {
        identity: data.log.identity(),
        index,
        term,
        zxid: index as i64,
        conf_state: vec![],
        created_ms: 0,
        origin,
    };
    let mut writer = data.snapshots.create(&meta).unwrap();
    writer.push(b"state").unwrap();
    writer.finish(1, index.into()).unwrap();
}

/// A server that has run for a while: snapshots at 20 and 40, entries to 60, the log purged up to 20.
fn used() -> SimDisk {
    let disk = SimDisk::new(1);
    let mut data = recover(&disk).unwrap();
    append(&mut data, 1..=60, 1);
    snapshot(&data, 20, 1, Origin::Local);
    snapshot(&data, 40, 1, Origin::Local);
    assert_eq!(data.snapshots.purge(2).unwrap(), Some(20));
    assert!(data.log.purge(20).unwrap() > 0);
    disk
}

fn snap(index: u64) -> String {
    format!("/data/ostler/{index:016x}.snap")
}

#[test]
fn a_restart_finds_snapshot_and_log() {
    let disk = used();
    disk.power_cut(1);
    let data = recover(&disk).unwrap();
    assert_eq!(data.snapshot.unwrap().meta.index, 40);
    assert_eq!(
        data.recovered.entries.iter().map(|e| e.index).collect::<Vec<_>>(),
        (41..=60).collect::<Vec<_>>()
    );
    assert!(data.unusable.is_empty() && !data.completed_install && !data.recovered.created);
    assert_eq!(data.recovered.identity, ME);
}

#[test]
fn an_existing_identity_stays_and_another_is_refused() {
    let disk = used();
    let other = Identity { cluster_id: 9, node_id: 9 };
    let data = open(&disk).unwrap().recover(ExpectIdentity::OrCreate(other), OPTIONS).unwrap();
    assert_eq!(data.recovered.identity, ME);
    drop(data);
    let result = open(&disk).unwrap().recover(ExpectIdentity::Exactly(other), OPTIONS);
    assert!(matches!(result, Err(RecoverError::Log(OpenError::WrongIdentity { .. }))));
}

#[test]
fn a_second_server_is_refused_until_the_first_is_gone() {
    let disk = SimDisk::new(1);
    let first = open(&disk).unwrap();
    let message = open(&disk).err().unwrap().to_string();
    let pid = std::process::id();
    assert!(
        message.starts_with(&format!("/data/ostler is in use by another server (pid {pid})")),
        "{message}"
    );
    // One that shares only the log directory.
    let sharing = DataDir::open(Arc::new(disk.clone()), Path::new("/other"), Path::new(LOGS));
    assert!(matches!(sharing.err(), Some(DataDirError::InUse { .. })));
    let warning = check(&disk, Path::new(DATA), Path::new(LOGS)).warnings.join("\n");
    assert!(warning.contains(&format!("a server (pid {pid}) is running")), "{warning}");
    drop(first);
    open(&disk).unwrap();
}

#[test]
fn data_and_log_may_share_one_directory() {
    let dir = tempfile::tempdir().unwrap();
    let open = || DataDir::open(Arc::new(RealDisk), dir.path(), dir.path());
    let data_dir = open().unwrap();
    assert!(data_dir.is_fresh().unwrap());
    let mut data = data_dir.recover(ExpectIdentity::OrCreate(ME), OPTIONS).unwrap();
    append(&mut data, 1..=20, 1);
    snapshot(&data, 10, 1, Origin::Local);
    assert!(matches!(open().err(), Some(DataDirError::InUse { .. })));
    drop((data, data_dir));
    let data_dir = open().unwrap();
    assert!(!data_dir.is_fresh().unwrap());
    let data = data_dir.recover(ExpectIdentity::Existing, OPTIONS).unwrap();
    assert_eq!((data.snapshot.unwrap().meta.index, data.recovered.last_index), (10, 20));
    drop(data_dir);
    let report = check(&RealDisk, dir.path(), dir.path());
    assert!(report.is_good() && report.warnings.is_empty(), "{report}");
}

#[test]
fn zookeepers_own_data_is_refused_unless_ours_is_there() {
    for (dir, name) in [(DATA, "snapshot.0"), (LOGS, "log.100000001"), (LOGS, "snapshot.5")] {
        let put = |disk: &SimDisk| {
            let version_2 = Path::new(dir).join("version-2");
            disk.create_dir_all(&version_2).unwrap();
            disk.open(&version_2.join(name), OpenMode::CreateNew).unwrap();
            version_2.join(name)
        };
        let disk = SimDisk::new(1);
        let file = put(&disk);
        let message = open(&disk).err().unwrap().to_string();
        assert!(message.starts_with(&format!("{} is data of Apache ZooKeeper", file.display())), "{message}");
        let disk = used();
        put(&disk);
        recover(&disk).unwrap();
    }
    let disk = SimDisk::new(1);
    disk.create_dir_all(&Path::new(DATA).join("version-2")).unwrap();
    recover(&disk).unwrap();
}

#[test]
fn a_log_that_is_gone_is_never_replaced_by_an_empty_one() {
    // With snapshots.
    let disk = used();
    for name in disk.list(Path::new("/logs/ostler")).unwrap() {
        disk.lose(&Path::new("/logs/ostler").join(name));
    }
    assert!(refused(&disk).starts_with("there is no log in /logs/ostler, but there must be one"));
    // Before the first snapshot, when only the identity file remembers.
    let disk = SimDisk::new(1);
    append(&mut recover(&disk).unwrap(), 1..=1, 1);
    disk.lose(Path::new("/logs/ostler/0000000000000001.wal"));
    assert!(refused(&disk).starts_with("there is no log in /logs/ostler"));
    assert!(!check(&disk, Path::new(DATA), Path::new(LOGS)).is_good());
}

#[test]
fn snapshots_that_are_gone_are_noticed_if_the_log_needs_them() {
    let disk = used();
    disk.lose(Path::new(&snap(40)));
    assert_eq!(recover(&disk).unwrap().snapshot.unwrap().meta.index, 20, "the log reaches back to it");
    disk.lose(Path::new(&snap(20)));
    let message = refused(&disk);
    assert!(message.contains("but index 1 is needed"), "{message}");
}

#[test]
fn a_damaged_snapshot_is_passed_over_only_if_the_log_reaches_back() {
    let disk = used();
    disk.damage(Path::new(&snap(40)), |bytes| bytes[90] ^= 1);
    let data = recover(&disk).unwrap();
    assert_eq!(data.snapshot.as_ref().unwrap().meta.index, 20);
    assert_eq!(data.recovered.entries.first().unwrap().index, 21);
    assert!(data.unusable[0].to_string().contains("0000000000000028.snap"));
    drop(data);
    disk.damage(Path::new(&snap(20)), |bytes| bytes[90] ^= 1);
    let message = refused(&disk);
    for part in ["0000000000000028.snap is damaged", "0000000000000014.snap is damaged", "index 1 is needed"]
    {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_log_that_ends_before_a_snapshot_made_from_it_is_refused() {
    let disk = SimDisk::new(1);
    let mut data = recover(&disk).unwrap();
    append(&mut data, 1..=5, 1);
    snapshot(&data, 8, 1, Origin::Local);
    drop(data);
    let message = refused(&disk);
    assert!(message.contains("made here at index 8") && message.contains("ends at index 5"), "{message}");
    let report = check(&disk, Path::new(DATA), Path::new(LOGS));
    assert!(report.problems[0].contains("entries are lost"), "{report}");
}

#[test]
fn the_installation_of_a_received_snapshot_is_completed() {
    // The log ends before it, or reaches beyond it with entries of an older term.
    for (last, term) in [(5, 1), (12, 1)] {
        let disk = SimDisk::new(1);
        let mut data = recover(&disk).unwrap();
        append(&mut data, 1..=5, term);
        let uncommitted = (6..=last).map(|index| Entry { term, index, ..Entry::default() }).collect();
        data.log.append(&[Batch { entries: uncommitted, must_sync: true, ..Batch::default() }]).unwrap();
        snapshot(&data, 8, 3, Origin::Received);
        drop(data);
        assert!(
            check(&disk, Path::new(DATA), Path::new(LOGS)).warnings[0].contains("completes its installation")
        );
        let mut data = recover(&disk).unwrap();
        assert!(data.completed_install && data.recovered.entries.is_empty());
        assert_eq!(data.recovered.hard_state, Some(HardState { term: 3, vote: 0, commit: 8 }));
        append(&mut data, 9..=10, 3);
        drop(data);
        disk.power_cut(7);
        let data = recover(&disk).unwrap();
        assert!(!data.completed_install);
        assert_eq!(
            data.recovered.entries.iter().map(|e| (e.index, e.term)).collect::<Vec<_>>(),
            [(9, 3), (10, 3)]
        );
    }
}

#[test]
fn a_damaged_identity_file_is_refused() {
    let disk = used();
    disk.damage(Path::new("/data/ostler/identity"), |bytes| bytes[20] ^= 1);
    assert!(refused(&disk).starts_with("/data/ostler/identity cannot be understood"));
}

#[test]
fn a_crash_at_every_operation_of_the_first_start_is_survived() {
    let operations = {
        let disk = SimDisk::new(1);
        recover(&disk).unwrap();
        disk.ops()
    };
    for at in 0..operations {
        for seed in 0..50 {
            let disk = SimDisk::new(seed);
            disk.fail_at(at, ostler_storage::Fault::Crash);
            assert!(open(&disk).unwrap().recover(ExpectIdentity::OrCreate(ME), OPTIONS).is_err());
            disk.power_cut(seed);
            let mut data = recover(&disk).unwrap_or_else(|e| panic!("crash at {at}, seed {seed}: {e}"));
            append(&mut data, 1..=1, 1);
            drop(data);
            disk.power_cut(seed + 1);
            assert_eq!(recover(&disk).unwrap().recovered.last_index, 1);
        }
    }
}

#[test]
fn check_says_what_is_there_and_changes_nothing() {
    let disk = used();
    // A torn tail, as a power cut would leave it.
    disk.damage(Path::new("/logs/ostler/000000000000000a.wal"), |bytes| bytes[4000..4080].fill(9));
    let before = disk.ops();
    let report = check(&disk, Path::new(DATA), Path::new(LOGS));
    assert_eq!(disk.ops(), before);
    let log = report.log.as_ref().unwrap();
    assert_eq!((log.last_index, log.last_term), (60, 1));
    assert_eq!(log.hard_state, Some(HardState { term: 1, vote: 1, commit: 60 }));
    assert_eq!(log.torn_tail.as_ref().unwrap().bytes, 4080 - log.torn_tail.as_ref().unwrap().offset);
    assert_eq!(
        report.snapshots.iter().map(|s| s.info.as_ref().unwrap().meta.index).collect::<Vec<_>>(),
        [40, 20]
    );
    assert!(report.is_good() && report.identity == Some(ME));
    let text = report.to_string();
    for part in [
        "identity   cluster 00000000000000c1 node 0000000000000001",
        "term 1 vote 0000000000000001 commit 60",
        "0000000000000028.snap  index 40 term 1 zxid 0x28  1 records",
        "digest 00000000000000000000000000000028",
        "was interrupted at offset",
        "good: a server can start on this",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["snapshots"][0]["info"]["digest"], "00000000000000000000000000000028");
    assert_eq!(json["log"]["hard_state"]["commit"], 60);

    disk.damage(Path::new("/logs/ostler/0000000000000009.wal"), |bytes| bytes[200] ^= 1);
    disk.damage(Path::new(&snap(40)), |bytes| bytes[90] ^= 1);
    let report = check(&disk, Path::new(DATA), Path::new(LOGS));
    assert!(!report.is_good() && report.log.is_none());
    assert!(report.to_string().contains("0000000000000009.wal is damaged at offset 128"), "{report}");
    assert!(report.to_string().contains("the newest snapshot is not usable"), "{report}");
    assert!(refused(&disk).contains("0000000000000009.wal is damaged at offset 128"));
}

#[test]
fn check_of_nothing_is_not_good() {
    let disk = SimDisk::new(1);
    assert!(!check(&disk, Path::new(DATA), Path::new(LOGS)).is_good());
}
