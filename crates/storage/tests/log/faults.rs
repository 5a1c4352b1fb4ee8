//! The log on a disk that loses power, dies, fills up and fails, at every single operation.
//!
//! The rule that every test checks (in [`support::Model::settle`]): what comes back is everything that was
//! acknowledged as durable, plus at most a prefix of what was attempted after it.

use crate::support::{Driver, Step};
use ostler_storage::{Batch, Entry, Fault, LogOptions, OpenError, Space};

const TINY: LogOptions = LogOptions { segment_bytes: 4096, reserve_bytes: 512 };
const STEPS: usize = 14;

fn run(driver: &mut Driver, steps: usize) -> Step {
    if driver.log.is_none() && driver.open() == Step::Dead {
        return Step::Dead;
    }
    for _ in 0..steps {
        if driver.step() == Step::Dead {
            return Step::Dead;
        }
    }
    Step::Done
}

/// How many operations the work of `seed` takes when nothing goes wrong.
fn operations(seed: u64) -> u64 {
    let mut driver = Driver::new(seed, TINY);
    assert_eq!(run(&mut driver, STEPS), Step::Done);
    driver.disk.ops()
}

fn crash_everywhere(seeds: std::ops::Range<u64>, then: usize, revive: impl Fn(&mut Driver, u64)) {
    for seed in seeds {
        for at in 0..operations(seed) {
            let mut driver = Driver::new(seed, TINY);
            driver.disk.fail_at(at, Fault::Crash);
            let context = format!("seed {seed}, crash at operation {at}");
            let guard = Context(context);
            assert_eq!(run(&mut driver, STEPS), Step::Dead, "{}", guard.0);
            revive(&mut driver, seed * 1000 + at);
            assert_eq!(run(&mut driver, then), Step::Done, "{}", guard.0);
            driver.disk.power_cut(seed + at);
            assert_eq!(driver.open(), Step::Done, "{}", guard.0);
            std::mem::forget(guard);
        }
    }
}

/// Says where a test was when it panicked.
struct Context(String);

impl Drop for Context {
    fn drop(&mut self) {
        eprintln!("while at {}", self.0);
    }
}

#[test]
fn a_power_cut_at_every_operation_loses_nothing_acknowledged() {
    crash_everywhere(0..150, 4, |driver, seed| {
        driver.disk.power_cut(seed);
        assert_eq!(driver.open(), Step::Done);
    });
}

#[test]
fn a_kill_at_every_operation_followed_by_a_power_cut_loses_nothing_acknowledged() {
    // Long enough to use files whose names only the dead process knew to be un-synced.
    crash_everywhere(1000..1060, 12, |driver, seed| {
        driver.disk.kill();
        assert_eq!(driver.open(), Step::Done);
        // What recovery reported counts as durable: a vote or an entry may have been answered for already.
        driver.disk.power_cut(seed);
        assert_eq!(driver.open(), Step::Done);
    });
}

#[test]
fn a_spare_whose_name_was_not_yet_durable_is_made_so_before_it_is_used() {
    for seed in 0..20 {
        let mut driver = Driver::new(seed, TINY);
        assert_eq!(driver.open(), Step::Done);
        assert_eq!(driver.append(&[one_entry(1, 2500)]), Step::Done);
        // Create, write, sync, rename, and then the process dies instead of syncing the directory.
        driver.disk.fail_at(4, Fault::Crash);
        assert!(driver.log.as_mut().unwrap().prepare_spare().is_err());
        driver.disk.kill();
        assert_eq!(driver.open(), Step::Done);
        assert_eq!(driver.append(&[one_entry(2, 2500)]), Step::Done);
        assert_eq!(driver.log.as_ref().unwrap().segments(), 2);
        driver.disk.power_cut(seed);
        assert_eq!(driver.open(), Step::Done);
        assert_eq!(driver.log.as_ref().unwrap().last_index(), 2);
    }
}

fn one_entry(index: u64, bytes: usize) -> Batch {
    let entry = Entry { term: 1, index, kind: 0, data: vec![1; bytes].into() };
    Batch { entries: vec![entry], must_sync: true, ..Batch::default() }
}

#[test]
fn a_crash_during_recovery_is_recovered_from() {
    for seed in 2000..2020 {
        let total = operations(seed);
        for at in [total / 3, total / 2, total - 1] {
            for during in 0..12 {
                let mut driver = Driver::new(seed, TINY);
                driver.disk.fail_at(at, Fault::Crash);
                run(&mut driver, STEPS);
                driver.disk.power_cut(seed * 7 + at);
                driver.disk.fail_at(during, Fault::Crash);
                if driver.open() == Step::Dead {
                    driver.disk.power_cut(seed * 11 + during);
                    assert_eq!(driver.open(), Step::Done, "seed {seed}, crash at {at}, then at {during}");
                }
            }
        }
    }
}

#[test]
fn an_io_error_at_every_operation_loses_nothing_acknowledged() {
    for seed in 3000..3060 {
        for at in 0..operations(seed) {
            let mut driver = Driver::new(seed, TINY);
            driver.disk.fail_at(at, Fault::Eio);
            let context = Context(format!("seed {seed}, I/O error at operation {at}"));
            if run(&mut driver, STEPS) == Step::Dead {
                // The process aborts; the page cache still shows what a failed sync lost.
                driver.disk.kill();
            }
            assert_eq!(driver.open(), Step::Done);
            driver.disk.power_cut(seed + at);
            assert_eq!(driver.open(), Step::Done);
            std::mem::forget(context);
        }
    }
}

#[test]
fn a_full_disk_at_every_operation_is_survived_without_restart() {
    for seed in 4000..4060 {
        for at in 0..operations(seed) {
            let mut driver = Driver::new(seed, TINY);
            let context = Context(format!("seed {seed}, full from operation {at}"));
            assert_eq!(driver.open(), Step::Done);
            driver.disk.fail_from(at, Fault::Enospc);
            assert_eq!(run(&mut driver, STEPS), Step::Done, "a full disk is never fatal");
            if at % 3 == 0 {
                // A crash while full.
                driver.disk.power_cut(seed + at);
                assert_eq!(driver.open(), Step::Done);
            }
            driver.disk.clear_faults();
            driver.log.as_mut().unwrap().prepare_spare().unwrap();
            assert_eq!(driver.log.as_ref().unwrap().space(), Space::Ok);
            for _ in 0..4 {
                assert_eq!(driver.step(), Step::Done);
            }
            driver.disk.power_cut(seed + at);
            assert_eq!(driver.open(), Step::Done);
            std::mem::forget(context);
        }
    }
}

#[test]
fn a_read_error_at_start_is_reported_and_the_next_start_succeeds() {
    let mut driver = Driver::new(5000, TINY);
    assert_eq!(run(&mut driver, 40), Step::Done);
    let before = driver.disk.reads();
    assert_eq!(driver.open(), Step::Done);
    for at in 0..driver.disk.reads() - before {
        driver.disk.fail_read_at(at);
        match driver.try_open() {
            Err(OpenError::Disk(e)) => assert!(e.to_string().contains("/data/ostler"), "{e}"),
            Err(e) => panic!("an I/O error is not {e}"),
            Ok(_) => panic!("read {at} did not fail"),
        }
        driver.disk.clear_faults();
        assert_eq!(driver.open(), Step::Done);
    }
}
