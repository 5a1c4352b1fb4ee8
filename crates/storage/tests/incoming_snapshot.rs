//! Snapshots that another server sent: taken over completely and for good, or not at all.

use std::path::Path;
use std::sync::Arc;

use ostler_storage::{
    DataDir, Disk, ExpectIdentity, Fault, Identity, IncomingSnapshot, LogOptions, Origin, SimDisk,
    SnapshotError, SnapshotInfo, SnapshotMeta, SnapshotStore,
};

const DIR: &str = "/data/ostler";
const SENDER: Identity = Identity { cluster_id: 0xc1, node_id: 0x01 };
const RECEIVER: Identity = Identity { cluster_id: 0xc1, node_id: 0x02 };

fn disk() -> SimDisk {
    let disk = SimDisk::new(1);
    disk.create_dir_all(Path::new(DIR)).unwrap();
    disk
}

fn store(disk: &SimDisk) -> SnapshotStore {
    SnapshotStore::open(Arc::new(disk.clone()), Path::new(DIR)).unwrap()
}

/// Bytes that do not compress.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 7u64;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    })
    .take(len)
    .collect()
}

fn write(store: &SnapshotStore, identity: Identity, index: u64, content: &[u8]) -> SnapshotInfo {
    let meta = SnapshotMeta {
        identity,
        index,
        term: 3,
        zxid: 0x1_0000_0000 + index as i64,
        conf_state: vec![1, 2, 3],
        created_ms: 1_700_000_000_000,
        origin: Origin::Local,
    };
    let mut writer = store.create(&meta).unwrap();
    writer.push(content).unwrap();
    writer.finish(1, 0xd1).unwrap()
}

/// A snapshot of the sender's, and the bytes of its file as it gives them away.
fn sent(content: &[u8]) -> (SnapshotInfo, Vec<u8>) {
    let disk = disk();
    let store = store(&disk);
    let info = write(&store, SENDER, 20, content);
    let file = store.open_file(&info.ticket()).unwrap().expect("it is there");
    assert_eq!(*file.info(), info);
    let mut bytes = vec![0; info.file_bytes as usize + 1];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap() as u64, info.file_bytes);
    bytes.pop();
    (info, bytes)
}

fn receive(store: &SnapshotStore, bytes: &[u8]) -> Result<IncomingSnapshot, SnapshotError> {
    let mut incoming = store.receive(20)?;
    for piece in bytes.chunks(1000) {
        incoming.push(piece)?;
    }
    assert_eq!(incoming.bytes_written(), bytes.len() as u64);
    Ok(incoming)
}

fn content(store: &SnapshotStore, info: &SnapshotInfo) -> Vec<u8> {
    let mut reader = store.read(info).unwrap();
    let mut all = Vec::new();
    loop {
        let block = reader.next_block().unwrap();
        if block.is_empty() {
            return all;
        }
        all.extend_from_slice(block);
    }
}

#[test]
fn what_was_sent_becomes_a_snapshot_of_the_receiver() {
    for len in [0, 1, 5_000, 3 << 20, 9 << 20] {
        let (info, bytes) = sent(&noise(len));
        let disk = disk();
        let store = store(&disk);
        let taken = receive(&store, &bytes).unwrap().adopt(RECEIVER, &info.ticket()).unwrap();
        assert_eq!((taken.meta.identity, taken.meta.origin), (RECEIVER, Origin::Received));
        assert_eq!(SnapshotMeta { identity: SENDER, origin: Origin::Local, ..taken.meta.clone() }, info.meta);
        assert_eq!(taken.ticket(), info.ticket());
        assert_eq!(store.newest().unwrap().usable, Some(taken.clone()));
        assert!(content(&store, &taken) == noise(len));
        assert_eq!(disk.list(Path::new(DIR)).unwrap(), ["0000000000000014.snap"]);
        // It can be handed on.
        let again = store.open_file(&taken.ticket()).unwrap().expect("it is there");
        let mut bytes = vec![0; taken.file_bytes as usize];
        again.read_at(&mut bytes, 0).unwrap();
        let third = Identity { node_id: 3, ..RECEIVER };
        receive(&store, &bytes).unwrap().adopt(third, &taken.ticket()).unwrap();
    }
}

#[test]
fn only_the_snapshot_that_is_meant_is_opened() {
    let store = store(&disk());
    let info = write(&store, SENDER, 20, b"x");
    let ticket = info.ticket();
    assert!(store.open_file(&ticket).unwrap().is_some());
    for other in [
        ostler_storage::SnapshotTicket { index: 21, ..ticket },
        ostler_storage::SnapshotTicket { term: 4, ..ticket },
        ostler_storage::SnapshotTicket { digest: 0, ..ticket },
        ostler_storage::SnapshotTicket { file_bytes: 1, ..ticket },
    ] {
        assert!(store.open_file(&other).unwrap().is_none());
    }
}

#[test]
fn a_file_that_is_open_outlives_its_purge() {
    let store = store(&disk());
    let info = write(&store, SENDER, 20, &noise(5_000));
    let file = store.open_file(&info.ticket()).unwrap().unwrap();
    write(&store, SENDER, 21, b"newer");
    store.purge(1).unwrap();
    assert!(store.open_file(&info.ticket()).unwrap().is_none());
    let mut bytes = vec![0; info.file_bytes as usize];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap() as u64, info.file_bytes);
    receive(&store, &bytes).unwrap().adopt(RECEIVER, &info.ticket()).unwrap();
}

#[test]
fn every_flipped_bit_and_every_cut_is_refused_and_leaves_nothing() {
    let (info, bytes) = sent(b"some state");
    let disk = disk();
    let store = store(&disk);
    let refused = |bytes: &[u8]| {
        let error = receive(&store, bytes).unwrap().adopt(RECEIVER, &info.ticket()).unwrap_err();
        assert!(!matches!(error, SnapshotError::Disk(_)), "{error}");
        assert_eq!(disk.list(Path::new(DIR)).unwrap(), [""; 0]);
    };
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        refused(&damaged);
    }
    for len in 0..bytes.len() {
        refused(&bytes[..len]);
    }
    refused(&[&bytes[..], b"x"].concat());
    receive(&store, &bytes).unwrap().adopt(RECEIVER, &info.ticket()).unwrap();
}

#[test]
fn a_snapshot_of_another_cluster_or_index_is_refused() {
    let (info, bytes) = sent(b"some state");
    let store = store(&disk());
    let stranger = Identity { cluster_id: 0xc2, node_id: 2 };
    let error = receive(&store, &bytes).unwrap().adopt(stranger, &info.ticket()).unwrap_err();
    let expected = "it is of cluster 00000000000000c1 node 0000000000000001, and this server of cluster \
                    00000000000000c2 node 0000000000000002";
    assert!(error.to_string().contains(expected), "{error}");
    let ticket = ostler_storage::SnapshotTicket { index: 21, ..info.ticket() };
    let error = receive(&store, &bytes).unwrap().adopt(RECEIVER, &ticket).unwrap_err();
    assert!(error.to_string().contains("where SnapshotTicket { index: 21"), "{error}");
}

#[test]
fn one_given_up_does_not_disturb_its_successor() {
    let (info, bytes) = sent(b"some state");
    let disk = disk();
    let store = store(&disk);
    let mut first = store.receive(20).unwrap();
    first.push(b"wrong").unwrap();
    let second = receive(&store.clone(), &bytes).unwrap();
    drop(first);
    second.adopt(RECEIVER, &info.ticket()).unwrap();
    // What a dead process left is removed.
    std::mem::forget(store.receive(30).unwrap());
    assert_eq!(disk.list(Path::new(DIR)).unwrap().len(), 2);
    self::store(&disk);
    assert_eq!(disk.list(Path::new(DIR)).unwrap(), ["0000000000000014.snap"]);
}

#[test]
fn a_power_cut_at_every_operation_leaves_the_old_or_the_new_snapshot() {
    let (info, bytes) = sent(&noise(5_000));
    let work = |disk: &SimDisk| -> Result<(), SnapshotError> {
        let store = SnapshotStore::open(Arc::new(disk.clone()), Path::new(DIR))?;
        receive(&store, &bytes)?.adopt(RECEIVER, &info.ticket())?;
        Ok(())
    };
    let fresh = || {
        let disk = disk();
        write(&store(&disk), RECEIVER, 10, b"old");
        disk
    };
    let count = {
        let disk = fresh();
        let before = disk.ops();
        work(&disk).unwrap();
        disk.ops() - before
    };
    assert!(count >= 10, "{count}");
    for at in 0..count {
        for seed in 0..40 {
            for fault in [Fault::Crash, Fault::Eio, Fault::Enospc] {
                let disk = fresh();
                disk.fail_at(at, fault);
                let outcome = work(&disk);
                if let (Fault::Enospc, Err(error)) = (fault, &outcome) {
                    assert!(error.is_full(), "{error}");
                    assert_eq!(disk.list(Path::new(DIR)).unwrap(), ["000000000000000a.snap"]);
                }
                disk.power_cut(seed);
                let store = store(&disk);
                let newest = store.newest().unwrap();
                assert!(newest.unusable.is_empty(), "{:?}", newest.unusable);
                let usable = newest.usable.expect("one of the two is there");
                match usable.meta.index {
                    10 => assert!(outcome.is_err() && content(&store, &usable) == b"old"),
                    20 => assert!(content(&store, &usable) == noise(5_000)),
                    other => panic!("index {other}"),
                }
                let leftovers = disk.list(Path::new(DIR)).unwrap();
                assert!(leftovers.iter().all(|name| name.ends_with(".snap")), "{leftovers:?}");
            }
        }
    }
}

#[test]
fn a_start_after_a_snapshot_was_adopted_completes_its_installation() {
    let (info, bytes) = sent(b"some state");
    let disk = SimDisk::new(1);
    let me = ExpectIdentity::OrCreate(RECEIVER);
    let options = LogOptions::with_segment_bytes(64 << 10);
    let open = || DataDir::open(Arc::new(disk.clone()), Path::new("/data"), Path::new("/log")).unwrap();
    {
        let data_dir = open();
        let data = data_dir.recover(me, options).unwrap();
        receive(&data.snapshots, &bytes).unwrap().adopt(RECEIVER, &info.ticket()).unwrap();
    }
    disk.power_cut(3);
    let data_dir = open();
    let data = data_dir.recover(me, options).unwrap();
    assert!(data.completed_install);
    assert_eq!(data.recovered.last_index, 20);
}
