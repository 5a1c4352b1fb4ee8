//! A disk that fills up and gets room again, and the thread that prepares segments.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;

use ostler_storage::{
    AppendError, Batch, Disk, Entry, ExpectIdentity, Fault, Identity, Log, LogOptions, RealDisk, SimDisk,
    Space,
};

const DIR: &str = "/data/ostler";
const ME: Identity = Identity { cluster_id: 1, node_id: 2 };
const OPTIONS: LogOptions = LogOptions { segment_bytes: 64 << 10, reserve_bytes: 8 << 10 };

fn open(disk: &SimDisk) -> Log {
    disk.create_dir_all(Path::new(DIR)).unwrap();
    Log::open(Arc::new(disk.clone()), Path::new(DIR), ExpectIdentity::OrCreate(ME), OPTIONS, 1).unwrap().0
}

fn batch(index: u64, bytes: usize) -> Batch {
    let entry = Entry { term: 1, index, kind: 0, data: vec![1; bytes].into() };
    Batch { entries: vec![entry], must_sync: true, ..Batch::default() }
}

#[test]
fn space_runs_low_then_out_and_comes_back_without_a_restart() {
    let disk = SimDisk::new(1);
    let mut log = open(&disk);
    disk.set_capacity(Some(100 << 10));
    let mut index = 0;
    let mut seen = vec![];
    loop {
        // Fails from the moment on when a second segment is wanted; appending goes on regardless.
        let prepared = log.prepare_spare();
        assert!(prepared.is_ok() || log.last_index() * 500 > OPTIONS.segment_bytes / 3, "{prepared:?}");
        if seen.last() != Some(&log.space()) {
            seen.push(log.space());
        }
        if log.space() == Space::Full {
            break;
        }
        index += 1;
        log.append(&[batch(index, 500)]).unwrap();
    }
    assert_eq!(seen, [Space::Ok, Space::Low, Space::Full]);
    let problem = log.space_problem().unwrap();
    assert!(problem.contains("0000000000000002.wal.tmp"), "{problem}");
    // What does not fit is refused and changes nothing; what fits still goes in.
    let last = log.last_index();
    assert!(matches!(log.append(&[batch(last + 1, 2000)]), Err(AppendError::Full { .. })));
    assert_eq!(log.last_index(), last);
    log.append(&[batch(last + 1, 10)]).unwrap();

    disk.set_capacity(None);
    log.prepare_spare().unwrap();
    assert_eq!((log.space(), log.space_problem()), (Space::Ok, None));
    log.append(&[batch(last + 2, 2000)]).unwrap();
    drop(log);
    disk.power_cut(1);
    assert_eq!(open(&disk).last_index(), last + 2);
}

#[test]
fn purging_makes_room_for_the_next_segment() {
    let disk = SimDisk::new(1);
    let mut log = open(&disk);
    // Room for two segments and no more.
    disk.set_capacity(Some(130 << 10));
    for index in 1..=1000 {
        log.append(&[batch(index, 1000)]).unwrap();
        log.purge(index).unwrap();
        log.prepare_spare().unwrap();
        assert_eq!(log.space(), Space::Ok, "at {index}");
    }
    assert!(disk.used() <= 130 << 10);
}

#[test]
fn a_failed_overwrite_is_taken_back_before_anything_else_is_written() {
    let disk = SimDisk::new(1);
    let mut log = open(&disk);
    log.append(&[batch(1, 100)]).unwrap();
    disk.fail_from(0, Fault::Enospc);
    let long: Vec<Batch> = (2..20).map(|index| batch(index, 300)).collect();
    assert!(matches!(log.append(&long), Err(AppendError::Full { .. })));
    assert_eq!(log.space(), Space::Full);
    assert!(log.space_problem().is_some());
    assert!(matches!(log.append(&[batch(2, 1)]), Err(AppendError::Full { .. })));
    disk.clear_faults();
    // A shorter append: nothing of the longer one may show behind it.
    log.append(&[batch(2, 1)]).unwrap();
    assert_eq!(log.space(), Space::Ok);
    drop(log);
    disk.kill();
    assert_eq!(open(&disk).last_index(), 2);
}

#[test]
fn after_a_failed_sync_nothing_is_appended_any_more() {
    let disk = SimDisk::new(1);
    let mut log = open(&disk);
    disk.fail_at(1, Fault::Eio);
    let first = log.append(&[batch(1, 100)]).unwrap_err();
    assert!(first.to_string().contains("cannot sync /data/ostler/0000000000000001.wal"), "{first}");
    let ops = disk.ops();
    for _ in 0..3 {
        assert!(matches!(log.append(&[batch(1, 100)]), Err(AppendError::Fatal { .. })));
        assert!(matches!(log.sync(), Err(AppendError::Fatal { .. })));
    }
    assert_eq!(disk.ops(), ops, "a sync is never retried");
}

#[test]
fn mistakes_of_the_caller_change_nothing() {
    let disk = SimDisk::new(1);
    let mut log = open(&disk);
    log.append(&[batch(1, 1), batch(2, 1)]).unwrap();
    let ops = disk.ops();
    assert!(matches!(
        log.append(&[batch(4, 1)]),
        Err(AppendError::NotContiguous { got: 4, first: 1, last: 2 })
    ));
    assert!(matches!(log.append(&[batch(0, 1)]), Err(AppendError::NotContiguous { .. })));
    let huge = batch(3, ostler_storage::MAX_ENTRY_BYTES + 1);
    assert!(matches!(log.append(&[huge]), Err(AppendError::TooLarge { .. })));
    assert_eq!((disk.ops(), log.last_index()), (ops, 2));
    let options = LogOptions { segment_bytes: 5000, reserve_bytes: 0 };
    let opened = Log::open(Arc::new(disk.clone()), Path::new(DIR), ExpectIdentity::Existing, options, 1);
    assert!(opened.err().unwrap().to_string().contains("segment_bytes is 5000"));
}

#[test]
fn an_append_costs_one_write_and_one_sync() {
    let disk = SimDisk::new(1);
    let mut log = open(&disk);
    let ops = disk.ops();
    let batches: Vec<Batch> = (1..=50).map(|index| batch(index, 100)).collect();
    log.append(&batches).unwrap();
    assert_eq!(disk.ops() - ops, 2);
    log.append(&[Batch { must_sync: false, ..batch(51, 100) }]).unwrap();
    assert_eq!(disk.ops() - ops, 3, "no sync unless a batch asks");
    log.append(&[Batch { must_sync: true, ..Batch::default() }]).unwrap();
    assert_eq!(disk.ops() - ops, 4, "an empty batch can ask for one");
    log.append(&[Batch { must_sync: true, ..Batch::default() }]).unwrap();
    assert_eq!(disk.ops() - ops, 4, "nothing to sync");
    // Rolling over to a prepared segment: one more write and sync at most.
    let mut index = 51;
    while log.segments() == 1 {
        log.prepare_spare().unwrap();
        let ops = disk.ops();
        index += 1;
        log.append(&[batch(index, 1000)]).unwrap();
        assert_eq!(disk.ops() - ops, 2);
    }
}

#[test]
fn a_thread_prepares_segments_until_the_log_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let mut log =
        Log::open(Arc::new(RealDisk), dir.path(), ExpectIdentity::OrCreate(ME), OPTIONS, 1).unwrap().0;
    let maker = log.spare_maker();
    let (failures, failed) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        maker.run(|news| failures.send(news.map(ToString::to_string)).unwrap());
    });
    for index in 1..=400 {
        log.append(&[batch(index, 1000)]).unwrap();
        log.purge(index.saturating_sub(100)).unwrap();
    }
    assert_eq!(log.space(), Space::Ok);
    drop(log);
    thread.join().unwrap();
    assert_eq!(failed.try_iter().count(), 0);
    let log = Log::open(Arc::new(RealDisk), dir.path(), ExpectIdentity::Existing, OPTIONS, 301).unwrap().0;
    assert_eq!(log.last_index(), 400);
    assert!(RealDisk.list(dir.path()).unwrap().len() <= 5);
}

#[test]
fn the_thread_tells_of_a_failure_once_and_of_its_end() {
    let disk = SimDisk::new(1);
    let mut log = open(&disk);
    let maker = log.spare_maker();
    disk.set_capacity(Some(disk.used()));
    let (news, told) = mpsc::channel();
    let thread = std::thread::spawn(move || maker.run(|e| news.send(e.map(ToString::to_string)).unwrap()));
    for index in 1..=40 {
        log.append(&[batch(index, 1000)]).unwrap();
    }
    let first = told.recv().unwrap().unwrap();
    assert!(first.contains("0000000000000002.wal.tmp"), "{first}");
    // Until it has been tried again in vain.
    let ops = disk.ops();
    while disk.ops() == ops {
        std::thread::yield_now();
    }
    disk.set_capacity(None);
    assert_eq!(told.recv().unwrap(), None);
    drop(log);
    thread.join().unwrap();
    assert_eq!(told.try_iter().count(), 0);
}
