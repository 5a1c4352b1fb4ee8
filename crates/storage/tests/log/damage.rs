//! Damage to the log's files, as opposed to crashes: found, or harmless.

use std::path::{Path, PathBuf};

use crate::support::{DIR, Driver, Step};
use ostler_storage::{Batch, Disk, Entry, HardState, LogOptions, OpenError, Recovered};

const TINY: LogOptions = LogOptions { segment_bytes: 4096, reserve_bytes: 512 };

fn batch(entries: std::ops::RangeInclusive<u64>, data: &[u8]) -> Batch {
    let entries: Vec<Entry> =
        entries.map(|index| Entry { term: 1, index, kind: 0, data: data.to_vec().into() }).collect();
    let commit = entries.last().map_or(0, |e| e.index);
    Batch {
        entries,
        hard_state: Some(HardState { term: 1, vote: 1, commit }),
        must_sync: true,
        ..Batch::default()
    }
}

/// Three segments: two full, one begun, and everything synced.
fn three_segments() -> Driver {
    let mut driver = Driver::new(1, TINY);
    assert_eq!(driver.open(), Step::Done);
    for index in 1..=7 {
        assert_eq!(driver.append(&[batch(index..=index, &[index as u8; 1000])]), Step::Done);
    }
    assert_eq!(driver.log.as_ref().unwrap().segments(), 3);
    driver.log = None;
    driver
}

fn segment(number: u64) -> PathBuf {
    Path::new(DIR).join(format!("{number:016x}.wal"))
}

fn refused(driver: &Driver) -> String {
    match driver.try_open() {
        Ok((_, recovered)) => panic!("accepted: {recovered:?}"),
        Err(e) => e.to_string(),
    }
}

fn copy(driver: &Driver) -> Driver {
    Driver {
        disk: driver.disk.fork(),
        log: None,
        model: driver.model.clone(),
        random: driver.random.clone(),
        options: driver.options,
    }
}

#[test]
fn every_flipped_bit_is_found_or_harmless() {
    let original = three_segments();
    let good = original.try_open().unwrap().1;
    let (mut found, mut harmless) = (0, 0);
    for number in 1..=3 {
        let path = segment(number);
        for bit in (0..4096 * 8).step_by(if cfg!(debug_assertions) { 3 } else { 1 }) {
            let driver = copy(&original);
            driver.disk.damage(&path, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
            match driver.try_open() {
                Ok((_, recovered)) => {
                    harmless += 1;
                    let same = Recovered { cut: None, ..recovered };
                    assert_eq!(same, good, "segment {number} bit {bit}");
                }
                Err(OpenError::Disk(e)) => panic!("{e}"),
                Err(_) => found += 1,
            }
        }
    }
    assert!(found > 20_000 / 3 && harmless > 1000, "{found} found, {harmless} harmless");
}

#[test]
fn every_file_cut_short_is_refused() {
    let original = three_segments();
    for number in 1..=3 {
        for len in (0..4096).step_by(61) {
            let driver = copy(&original);
            driver.disk.damage(&segment(number), |bytes| bytes.truncate(len));
            let message = refused(&driver);
            assert!(message.contains("Remedy"), "{message}");
        }
    }
}

#[test]
fn a_message_names_file_offset_finding_and_remedy() {
    let driver = copy(&three_segments());
    driver.disk.damage(&segment(1), |bytes| bytes[128 + 500] ^= 1);
    let message = refused(&driver);
    let expected = "/data/ostler/0000000000000001.wal is damaged at offset 128: the record does not match its \
                    checksum, and /data/ostler/0000000000000002.wal proves that it was durable. Nothing was changed. \
                    Remedy: ";
    assert!(message.starts_with(expected), "{message}");
}

#[test]
fn zeros_over_what_was_durable_are_damage_if_anything_later_knows() {
    // The middle of the last segment, followed by a record that was written after it had been synced.
    let driver = three_segments();
    let last = copy(&driver);
    let mut grown = copy(&driver);
    assert_eq!(grown.open(), Step::Done);
    assert_eq!(grown.append(&[batch(8..=8, b"x")]), Step::Done);
    grown.log = None;
    grown.disk.damage(&segment(3), |bytes| bytes[128..1024].fill(0));
    assert!(refused(&grown).contains("zeros where a record must be, and the record at"));
    // The end of an earlier segment.
    last.disk.damage(&segment(2), |bytes| bytes[2048..].fill(0));
    assert!(refused(&last).contains("proves that it was durable"));
    // The header of the last segment.
    grown.disk.damage(&segment(3), |bytes| bytes[..512].fill(0));
    assert!(refused(&grown).contains("the segment's header is gone"));
}

#[test]
fn a_hole_in_a_segment_is_damage_if_the_next_one_was_begun() {
    let driver = three_segments();
    // As if the first write to the third segment had been torn: its header is not there, so it vouches for nothing.
    driver.disk.damage(&segment(3), |bytes| bytes[..512].fill(0));
    let (_, recovered) = copy(&driver).try_open().unwrap();
    assert_eq!(recovered.last_index, 6);
    driver.disk.damage(&segment(2), |bytes| bytes[3072..].fill(0));
    assert!(refused(&driver).contains("the next segment, already begun, proves that it was durable"));
}

#[test]
fn lost_and_misplaced_segments_are_refused() {
    let original = three_segments();
    for (lost, expected) in [(1, "index 1 is needed"), (2, "is missing, but later ones exist")] {
        let driver = copy(&original);
        driver.disk.lose(&segment(lost));
        let message = refused(&driver);
        assert!(message.contains(expected), "{message}");
    }
    let driver = copy(&original);
    driver.disk.rename(&segment(3), &segment(2)).unwrap();
    assert!(refused(&driver).contains("under another's name"));
    let driver = copy(&original);
    driver.disk.rename(&segment(2), &segment(4)).unwrap();
    refused(&driver);
}

#[test]
fn segments_that_only_an_old_snapshot_needed_may_be_missing() {
    let mut driver = three_segments();
    driver.disk.lose(&segment(1));
    driver.model.needed = 7;
    let (log, recovered) = driver.try_open().unwrap();
    assert_eq!(recovered.entries.iter().map(|e| e.index).collect::<Vec<_>>(), [7]);
    assert_eq!(log.segments(), 2);
}

#[test]
fn a_foreign_segment_is_refused() {
    let driver = three_segments();
    driver.disk.damage(&segment(3), |bytes| {
        bytes[32] ^= 1;
        let crc = crc32c::crc32c(&bytes[..120]);
        bytes[120..124].copy_from_slice(&crc.to_le_bytes());
    });
    let message = refused(&driver);
    assert!(message.contains("belongs to cluster 00000000000000c1 node 0000000000000000"), "{message}");
}

#[test]
fn a_newer_format_is_refused_as_such() {
    let driver = three_segments();
    driver.disk.damage(&segment(3), |bytes| {
        bytes[8] = 2;
        let crc = crc32c::crc32c(&bytes[..120]);
        bytes[120..124].copy_from_slice(&crc.to_le_bytes());
    });
    assert!(refused(&driver).contains("written by a newer Ostler"));
}

#[test]
fn a_record_that_claims_a_huge_length_allocates_nothing() {
    let driver = three_segments();
    // A whole, valid header of an absurd record, as the last thing in the log.
    driver.disk.damage(&segment(3), |bytes| {
        let end = bytes.iter().rposition(|b| *b != 0).unwrap().next_multiple_of(32);
        let seed = crc32c::crc32c(&0xc1u64.to_le_bytes());
        let seed = crc32c::crc32c_append(seed, &1u64.to_le_bytes());
        let header = &mut bytes[end..end + 32];
        header[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        header[8..16].copy_from_slice(&3u64.to_le_bytes());
        header[24] = 1;
        header[25] = 1;
        let crc = crc32c::crc32c_append(seed, &header[..28]);
        header[28..].copy_from_slice(&crc.to_le_bytes());
    });
    assert!(refused(&driver).contains("claims more bytes than any record has"));
}

#[test]
fn garbage_after_the_end_is_cut_and_cannot_come_back() {
    let mut driver = three_segments();
    driver.disk.damage(&segment(3), |bytes| bytes[3000..3500].fill(0x77));
    let (log, recovered) = driver.try_open().unwrap();
    let cut = recovered.cut.expect("the garbage was found");
    assert_eq!((cut.file, cut.offset + cut.bytes), (segment(3), 3500));
    assert_eq!(recovered.last_index, 7);
    drop(log);
    driver.disk.power_cut(1);
    assert_eq!(driver.try_open().unwrap().1.cut, None);
    assert_eq!(driver.open(), Step::Done);
}

#[test]
fn a_commit_index_beyond_the_log_is_refused() {
    let mut driver = Driver::new(1, TINY);
    assert_eq!(driver.open(), Step::Done);
    let state = HardState { term: 1, vote: 0, commit: 5 };
    let wrong = Batch { hard_state: Some(state), must_sync: true, ..Batch::default() };
    driver.log.as_mut().unwrap().append(&[wrong]).unwrap();
    driver.log = None;
    assert!(refused(&driver).contains("the log ends at index 0, but 5 was committed"));
}
