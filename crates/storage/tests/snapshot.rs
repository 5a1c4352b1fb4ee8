//! Snapshot files: what is written is read back, damage is found, and no fault leaves half a snapshot behind.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use ostler_storage::{
    Disk, Fault, Identity, Origin, SimDisk, SnapshotError, SnapshotInfo, SnapshotMeta, SnapshotStore,
};
use proptest::prelude::*;

const DIR: &str = "/data/ostler";

fn meta(index: u64) -> SnapshotMeta {
    SnapshotMeta {
        identity: Identity { cluster_id: 0xc1, node_id: 0x01 },
        index,
        term: 3,
        zxid: 0x1_0000_0000 + index as i64,
        conf_state: vec![1, 2, 3],
        created_ms: 1_700_000_000_000,
        origin: Origin::Local,
    }
}

fn disk() -> SimDisk {
    let disk = SimDisk::new(1);
    disk.create_dir_all(Path::new(DIR)).unwrap();
    disk
}

fn store(disk: &SimDisk) -> SnapshotStore {
    SnapshotStore::open(Arc::new(disk.clone()), Path::new(DIR)).unwrap()
}

fn write(store: &SnapshotStore, index: u64, records: &[Vec<u8>]) -> Result<SnapshotInfo, SnapshotError> {
    let mut writer = store.create(&meta(index))?;
    for record in records {
        writer.push(record)?;
    }
    writer.finish(records.len() as u64, 0xd1)
}

fn read(store: &SnapshotStore, info: &SnapshotInfo) -> Result<Vec<u8>, std::io::Error> {
    let mut bytes = Vec::new();
    store.read(info).map_err(std::io::Error::other)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Bytes that do not compress, so that positions in the file are positions in the stream.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 7u64;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    })
    .take(len)
    .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_stream_reads_back(records in proptest::collection::vec((any::<u8>(), 0usize..700_000), 0..8)) {
        let disk = disk();
        let store = store(&disk);
        let records: Vec<Vec<u8>> = records.into_iter().map(|(fill, len)| vec![fill; len]).collect();
        let info = write(&store, 9, &records).unwrap();
        prop_assert_eq!(info.records, records.len() as u64);
        prop_assert_eq!(info.digest, 0xd1);
        prop_assert_eq!(&info.meta, &meta(9));
        prop_assert!(read(&store, &info).unwrap() == records.concat());
        prop_assert_eq!(store.newest().unwrap().usable, Some(info));
    }
}

#[test]
fn blocks_of_a_long_stream_can_be_read_in_any_portions() {
    let disk = disk();
    let store = store(&disk);
    let content = noise((2 << 20) + 12345);
    let info = write(&store, 1, std::slice::from_ref(&content)).unwrap();
    let mut reader = store.read(&info).unwrap();
    let mut first = [0; 1000];
    reader.read_exact(&mut first).unwrap();
    let rest = reader.next_block().unwrap();
    assert_eq!(rest.len(), (1 << 20) - 1000, "next_block returns what read has left of the block");
    let mut bytes = [&first[..], rest].concat();
    reader.read_to_end(&mut bytes).unwrap();
    assert!(bytes == content);
    assert_eq!(reader.next_block().unwrap(), b"");
}

#[test]
fn every_flipped_bit_and_every_cut_is_noticed() {
    let original = disk();
    let info = write(&store(&original), 5, &[noise(600), b"text".repeat(50)]).unwrap();
    let len = original.contents(&info.path).unwrap().len();
    for bit in 0..len * 8 {
        let disk = original.fork();
        disk.damage(&info.path, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        let newest = store(&disk).newest().unwrap();
        assert!(newest.usable.is_none() && newest.unusable.len() == 1, "bit {bit} of {len} bytes");
        let message = newest.unusable[0].to_string();
        assert!(message.contains("0000000000000005.snap"), "{message}");
        assert!(read(&store(&disk), &info).is_err(), "bit {bit}");
    }
    for cut in 0..len {
        let disk = original.fork();
        disk.damage(&info.path, |bytes| bytes.truncate(cut));
        assert!(store(&disk).newest().unwrap().usable.is_none(), "cut at {cut}");
    }
    let disk = original.fork();
    disk.damage(&info.path, |bytes| bytes.push(0));
    assert!(store(&disk).newest().unwrap().usable.is_none());
}

#[test]
fn damage_in_the_middle_of_a_stream_is_an_error_with_file_and_offset() {
    let disk = disk();
    let store = store(&disk);
    let info = write(&store, 5, &[noise(3 << 20)]).unwrap();
    disk.damage(&info.path, |bytes| bytes[(1 << 20) + 5000] ^= 1);
    let mut bytes = Vec::new();
    let error = store.read(&info).unwrap().read_to_end(&mut bytes).unwrap_err();
    assert_eq!(bytes.len(), 1 << 20, "whole blocks before the damage are delivered");
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    let message = error.to_string();
    assert!(message.contains("0000000000000005.snap is damaged at offset 10"), "{message}");
}

#[test]
fn blocks_that_changed_places_are_noticed() {
    let disk = disk();
    let store = store(&disk);
    let info = write(&store, 5, &[noise(1 << 20), noise(1 << 20)]).unwrap();
    disk.damage(&info.path, |bytes| {
        let header = 79;
        let block = (bytes.len() - header - 64) / 2;
        let first = bytes[header..header + block].to_vec();
        assert_eq!(&first[..4], b"OBLK");
        bytes.copy_within(header + block..header + 2 * block, header);
        bytes[header + block..header + 2 * block].copy_from_slice(&first);
    });
    // The two blocks hold the same bytes, so only their numbers tell.
    assert!(store.newest().unwrap().usable.is_none());
}

#[test]
fn a_power_cut_at_every_operation_leaves_the_old_or_the_new_snapshot() {
    let records = [noise(5000)];
    // Says whether the snapshot was finished, even if something after that failed.
    let work = |disk: &SimDisk| -> Result<(), (bool, SnapshotError)> {
        let store =
            SnapshotStore::open(Arc::new(disk.clone()), Path::new(DIR)).map_err(|e| (false, e.into()))?;
        write(&store, 20, &records).map_err(|e| (false, e))?;
        store.purge(1).map_err(|e| (true, e.into()))?;
        Ok(())
    };
    let fresh = || {
        let disk = disk();
        write(&store(&disk), 10, &[b"old".to_vec()]).unwrap();
        disk
    };
    let (count, before) = {
        let disk = fresh();
        let before = disk.ops();
        work(&disk).unwrap();
        (disk.ops() - before, before)
    };
    assert!(before > 0 && count >= 8);
    for at in 0..count {
        for seed in 0..40 {
            for fault in [Fault::Crash, Fault::Eio, Fault::Enospc] {
                let disk = fresh();
                disk.fail_at(at, fault);
                let outcome = work(&disk);
                if let (Fault::Enospc, Err((_, e))) = (fault, &outcome) {
                    assert!(e.is_full(), "{e}");
                    assert_eq!(disk.list(Path::new(DIR)).unwrap(), ["000000000000000a.snap"]);
                }
                disk.power_cut(seed);
                let store = store(&disk);
                let newest = store.newest().unwrap();
                assert!(newest.unusable.is_empty(), "{:?}", newest.unusable);
                let usable = newest.usable.expect("one of the two is there");
                let content = read(&store, &usable).unwrap();
                match usable.meta.index {
                    10 => assert!(matches!(outcome, Err((false, _))) && content == b"old"),
                    20 => assert!(content == records.concat()),
                    other => panic!("index {other}"),
                }
                let leftovers = disk.list(Path::new(DIR)).unwrap();
                assert!(leftovers.iter().all(|n| n.ends_with(".snap")), "{leftovers:?}");
            }
        }
    }
}

#[test]
fn parts_of_two_snapshots_do_not_make_one() {
    let disk = disk();
    let store = store(&disk);
    let five = write(&store, 5, &[noise(600)]).unwrap();
    let six = write(&store, 6, &[noise(600)]).unwrap();
    let header = disk.contents(&six.path).unwrap()[..79].to_vec();
    disk.damage(&five.path, |bytes| bytes[..79].copy_from_slice(&header));
    disk.lose(&six.path);
    let unusable = store.newest().unwrap().unusable;
    assert!(unusable[0].to_string().contains("the file does not match its hash"), "{}", unusable[0]);
}

#[test]
fn a_snapshot_that_a_start_has_found_is_there_to_stay() {
    for seed in 0..20 {
        let disk = disk();
        let store = store(&disk);
        let mut writer = store.create(&meta(5)).unwrap();
        writer.push(b"state").unwrap();
        // Block, footer, sync, rename, and then the process dies instead of syncing the directory.
        disk.fail_at(4, Fault::Crash);
        assert!(writer.finish(1, 1).is_err());
        disk.kill();
        let found = self::store(&disk).newest().unwrap().usable.map(|info| info.meta.index);
        disk.power_cut(seed);
        assert_eq!(found, Some(5));
        assert_eq!(self::store(&disk).newest().unwrap().usable.map(|info| info.meta.index), found);
    }
}

#[test]
fn a_writer_that_is_dropped_leaves_nothing() {
    let disk = disk();
    let store = store(&disk);
    let mut writer = store.create(&meta(3)).unwrap();
    writer.push(&noise(3 << 20)).unwrap();
    assert!(writer.bytes_written() > 2 << 20);
    assert!(store.create(&meta(3)).is_err(), "one writer per index");
    drop(writer);
    assert!(disk.list(Path::new(DIR)).unwrap().is_empty());
    assert!(store.newest().unwrap().usable.is_none());
    assert!(store.open_newest_valid().unwrap().is_none());
}

#[test]
fn purging_keeps_the_newest_good_ones() {
    let disk = disk();
    let store = store(&disk);
    for index in [10, 20, 30, 40] {
        write(&store, index, &[vec![1; 10]]).unwrap();
    }
    disk.damage(Path::new("/data/ostler/000000000000001e.snap"), |bytes| bytes[10] ^= 1);
    for (keep, up_to) in [(0, 20), (1, 20), (2, 20), (3, 10), (9, 10)] {
        assert_eq!(store.log_may_go_up_to(keep).unwrap(), Some(up_to), "keeping {keep}");
    }
    assert_eq!(store.purge(2).unwrap(), Some(20), "a damaged one does not count");
    let left = disk.list(Path::new(DIR)).unwrap();
    assert_eq!(left, ["0000000000000014.snap", "000000000000001e.snap", "0000000000000028.snap"]);
    assert_eq!(store.purge(0).unwrap(), Some(40), "one always stays");
    assert_eq!(store.log_may_go_up_to(3).unwrap(), None, "nothing to fall back to but the log");
    assert_eq!(store.list().unwrap().len(), 1);
}
