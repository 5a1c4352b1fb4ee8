//! Files of every format version ever released stay readable. `tests/golden/v<n>` holds them as that version wrote
//! them: a segment without its trailing zeros, a snapshot, an identity file.
//!
//! A new version adds a directory and a test; nothing here is ever changed or regenerated.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ostler_storage::{
    Batch, DataDir, Entry, ExpectIdentity, HardState, Identity, LogOptions, LogStart, Origin, RealDisk,
    SnapshotMeta, check,
};

const ME: Identity = Identity { cluster_id: 0x0123_4567_89ab_cdef, node_id: 0xfeed_f00d_dead_beef };
const SEGMENT_BYTES: u64 = 64 << 10;
const SEGMENT: &str = "0000000000000001.wal";
const SNAPSHOT: &str = "0000000000000003.snap";

fn golden(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(version)
}

fn entry(term: u64, index: u64, kind: u8, data: &[u8]) -> Entry {
    Entry { term, index, kind, data: data.to_vec().into() }
}

/// Every kind of record, an entry that replaces another, and one that spans sectors of zeros.
fn v1_batches() -> [Batch; 4] {
    let state = |term, commit| Some(HardState { term, vote: 0xfeed_f00d_dead_beef, commit });
    [
        Batch { entries: vec![entry(1, 1, 0, b"void")], must_sync: true, ..Batch::default() },
        Batch {
            log_start: Some(LogStart { index: 3, term: 2 }),
            entries: vec![],
            hard_state: state(2, 3),
            must_sync: true,
        },
        Batch {
            entries: vec![entry(2, 4, 1, b"replaced"), entry(2, 5, 1, b"void")],
            must_sync: true,
            ..Batch::default()
        },
        Batch {
            entries: vec![entry(3, 4, 0, b"four"), entry(3, 5, 2, &[0; 1500]), entry(3, 6, 0, b"")],
            hard_state: state(3, 5),
            must_sync: true,
            ..Batch::default()
        },
    ]
}

fn v1_meta() -> SnapshotMeta {
    SnapshotMeta {
        identity: ME,
        index: 3,
        term: 2,
        zxid: 0x1_0000_0003,
        conf_state: b"conf".to_vec(),
        created_ms: 1_763_596_800_000,
        origin: Origin::Received,
    }
}

const V1_STREAM: &[u8] = b"the state as a stream of records, the state as a stream of records";

/// Puts golden files where a server would have them.
fn lay_out(version: &str, dir: &Path) {
    let ours = dir.join("ostler");
    std::fs::create_dir(&ours).unwrap();
    for name in [SNAPSHOT, "identity"] {
        std::fs::copy(golden(version).join(name), ours.join(name)).unwrap();
    }
    let mut segment = std::fs::read(golden(version).join(SEGMENT)).unwrap();
    segment.resize(SEGMENT_BYTES as usize, 0);
    std::fs::write(ours.join(SEGMENT), segment).unwrap();
}

fn open(dir: &Path) -> ostler_storage::RecoveredData {
    let data_dir = DataDir::open(Arc::new(RealDisk), dir, dir).unwrap();
    data_dir.recover(ExpectIdentity::OrCreate(ME), LogOptions::with_segment_bytes(SEGMENT_BYTES)).unwrap()
}

#[test]
fn v1_is_readable() {
    let dir = tempfile::tempdir().unwrap();
    lay_out("v1", dir.path());
    let report = check(&RealDisk, dir.path(), dir.path());
    assert!(report.is_good() && report.warnings.is_empty(), "{report}");

    let data = open(dir.path());
    let info = data.snapshot.as_ref().unwrap();
    assert_eq!((&info.meta, info.records, info.digest), (&v1_meta(), 2, 0x00d1_6e57));
    let mut stream = Vec::new();
    data.snapshots.read(info).unwrap().read_to_end(&mut stream).unwrap();
    assert_eq!(stream, V1_STREAM);

    let recovered = &data.recovered;
    assert_eq!(recovered.identity, ME);
    assert_eq!(recovered.entries, [entry(3, 4, 0, b"four"), entry(3, 5, 2, &[0; 1500]), entry(3, 6, 0, b"")]);
    assert_eq!(recovered.hard_state, Some(HardState { term: 3, vote: ME.node_id, commit: 5 }));
    assert_eq!((recovered.first_index, recovered.last_index, recovered.term_before), (4, 6, Some(2)));
    assert!(recovered.cut.is_none() && !data.completed_install);
}

/// As long as version 1 is what is written, it is written byte by byte as it was. (Not the snapshot's blocks: the
/// compressor may improve.) `OSTLER_WRITE_GOLDEN=1` makes the files of a new version.
#[test]
fn what_is_written_is_v1() {
    let dir = tempfile::tempdir().unwrap();
    let mut data = open(dir.path());
    for batch in v1_batches() {
        data.log.append(&[batch]).unwrap();
    }
    let mut writer = data.snapshots.create(&v1_meta()).unwrap();
    writer.push(V1_STREAM).unwrap();
    writer.finish(2, 0x00d1_6e57).unwrap();
    let written = |name: &str| std::fs::read(dir.path().join("ostler").join(name)).unwrap();
    let mut segment = written(SEGMENT);
    assert_eq!(segment.len() as u64, SEGMENT_BYTES);
    segment.truncate(segment.iter().rposition(|b| *b != 0).unwrap() + 1);
    if std::env::var_os("OSTLER_WRITE_GOLDEN").is_some() {
        std::fs::create_dir_all(golden("v1")).unwrap();
        std::fs::write(golden("v1").join(SEGMENT), &segment).unwrap();
        for name in [SNAPSHOT, "identity"] {
            std::fs::write(golden("v1").join(name), written(name)).unwrap();
        }
    }
    let expected = |name: &str| std::fs::read(golden("v1").join(name)).unwrap();
    assert!(segment == expected(SEGMENT), "the segment differs from version 1");
    assert!(written("identity") == expected("identity"));
    let header = 72 + 4 + 4;
    assert!(written(SNAPSHOT)[..header] == expected(SNAPSHOT)[..header], "the snapshot's header differs");
}
