//! The log on a real disk: what is appended is there after reopening.

use std::sync::Arc;

use ostler_storage::{
    Batch, Entry, ExpectIdentity, HardState, Identity, Log, LogOptions, LogStart, OpenError, RealDisk,
    Recovered,
};

const ME: Identity = Identity { cluster_id: 0xc1, node_id: 0x01 };

fn open(dir: &std::path::Path, needed: u64) -> Result<(Log, Recovered), OpenError> {
    Log::open(
        Arc::new(RealDisk),
        dir,
        ExpectIdentity::OrCreate(ME),
        LogOptions::with_segment_bytes(64 << 10),
        needed,
    )
}

fn entry(term: u64, index: u64) -> Entry {
    Entry { term, index, kind: 0, data: vec![index as u8; 1000].into() }
}

fn batch(entries: Vec<Entry>, hard_state: Option<HardState>) -> Batch {
    Batch { entries, hard_state, must_sync: true, ..Batch::default() }
}

#[test]
fn entries_and_hard_state_survive_reopening_across_segments() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, recovered) = open(dir.path(), 1).unwrap();
    assert!(recovered.created && recovered.entries.is_empty() && recovered.hard_state.is_none());
    let state = |commit| HardState { term: 1, vote: 1, commit };
    for index in 1..=500 {
        log.append(&[batch(vec![entry(1, index)], Some(state(index)))]).unwrap();
    }
    assert!(log.segments() > 7);
    drop(log);
    let (mut log, recovered) = open(dir.path(), 1).unwrap();
    assert_eq!(recovered.entries, (1..=500).map(|i| entry(1, i)).collect::<Vec<_>>());
    assert_eq!((recovered.hard_state, recovered.cut, recovered.created), (Some(state(500)), None, false));
    assert_eq!((log.last_index(), log.last_term()), (500, 1));

    // A snapshot at 300 lets the segments before it go.
    let before = log.segments();
    assert!(log.purge(300).unwrap() >= 3);
    assert!(log.segments() < before && log.first_index() > 200);
    drop(log);
    assert!(matches!(open(dir.path(), 1), Err(OpenError::Gap { .. })));
    let (mut log, recovered) = open(dir.path(), 301).unwrap();
    assert_eq!(recovered.entries, (301..=500).map(|i| entry(1, i)).collect::<Vec<_>>());
    assert_eq!(recovered.term_before, Some(1));

    // A later entry at an index that exists replaces everything from there on.
    let state = HardState { term: 2, vote: 3, commit: 400 };
    log.append(&[batch(vec![entry(2, 450), entry(2, 451)], Some(state))]).unwrap();
    drop(log);
    let (mut log, recovered) = open(dir.path(), 301).unwrap();
    assert_eq!(recovered.last_index, 451);
    assert_eq!(recovered.entries.last(), Some(&entry(2, 451)));
    assert_eq!(recovered.hard_state, Some(state));

    // A received snapshot at 1,000 voids what is there.
    let start = Some(LogStart { index: 1000, term: 3 });
    log.append(&[Batch { log_start: start, entries: vec![entry(3, 1001)], ..batch(vec![], None) }]).unwrap();
    drop(log);
    let (_, recovered) = open(dir.path(), 1001).unwrap();
    assert_eq!((recovered.entries, recovered.term_before), (vec![entry(3, 1001)], Some(3)));
}

#[test]
fn another_disks_log_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path(), 1).unwrap();
    let other = ExpectIdentity::Exactly(Identity { node_id: 2, ..ME });
    let result = Log::open(Arc::new(RealDisk), dir.path(), other, LogOptions::default(), 1);
    let message = result.err().unwrap().to_string();
    assert!(
        message.contains("node 0000000000000001") && message.contains("node 0000000000000002"),
        "{message}"
    );
}

#[test]
fn a_log_that_must_exist_is_not_made() {
    let dir = tempfile::tempdir().unwrap();
    let result =
        Log::open(Arc::new(RealDisk), dir.path(), ExpectIdentity::Existing, LogOptions::default(), 1);
    assert!(matches!(result.err(), Some(OpenError::NoLog { .. })));
}
