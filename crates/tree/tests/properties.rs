//! Random histories: the state against a simple model, multis against their own undoing, snapshots against the
//! state they were taken of.

mod commands;
mod model;

use commands::{Auth, Op, Step, all_paths, dump, multi, session_id, step, take, world};
use model::{Expected, Model};
use ostler_tree::snapshot::{Progress, Restorer};
use ostler_tree::{Command, MultiResult, OpResult, Outcome, Settings, State, Verdict};
use ostler_types::EventType;
use proptest::prelude::*;

/// Cases per property: together they take some seconds without optimisation. `PROPTEST_CASES` raises them.
const CASES: u32 = 192;

fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    /// The same answers, events, znodes and Stats as the model, after every single command.
    #[test]
    fn the_state_agrees_with_the_model(steps in prop::collection::vec(step(), 1..120)) {
        let mut state = world();
        let mut model = Model::new();
        model.begin_entry(1, 1_000);
        model.apply(&Command::Configure(Settings { extended_types_enabled: true, ..Settings::default() }));
        for number in 1..=commands::SESSIONS {
            model.apply(&Command::CreateSession {
                server: 1, boot: 1, number, timeout_ms: 5_000, secret_hash: [0; 32],
            });
        }
        for step in &steps {
            let taken = commands::take_with(&mut state, step, |state, command| match command {
                Some(command) => Some(model.apply(command)),
                None => {
                    model.begin_entry(state.last_term().0, state.time_ms());
                    None
                }
            });
            if let (Some((outcome, changes)), Some((expected, events))) = taken {
                prop_assert_eq!(Expected::of(outcome), expected, "{:?}", step);
                let seen: Vec<(EventType, String)> =
                    changes.iter().map(|change| (change.event, change.path.to_string())).collect();
                prop_assert_eq!(seen, events, "{:?}", step);
                prop_assert!(changes.iter().all(|change| change.zxid == state.last_zxid()));
            }
            prop_assert_eq!(state.last_zxid().0, model.zxid);
            prop_assert_eq!(all_paths(&state), model.paths(), "{:?}", step);
            for path in model.paths() {
                let znode = state.lookup(&path).unwrap();
                let acl: &[_] = znode.acl();
                prop_assert_eq!((znode.data(), acl, znode.stat()), model.shown(&path), "{} {:?}", path, step);
            }
            prop_assert_eq!(state.acl_list_count(), model.acl_lists());
            prop_assert_eq!(state.node_count(), model.paths().len() + 1);
            prop_assert_eq!(state.approximate_data_size(), model.bytes() as u64);
            for number in 1..=commands::SESSIONS + 2 {
                let session = session_id(number);
                prop_assert_eq!(state.ephemerals_of(session), model.ephemerals(session));
            }
            let kept = (state.agreement_digest(), state.tree_digest());
            prop_assert_eq!(kept, state.recompute_digests(), "{:?}", step);
        }
    }

    /// A multi that fails leaves no trace but its zxid and sequence.
    #[test]
    fn a_failed_multi_leaves_no_trace(
        steps in prop::collection::vec(step(), 1..80),
        multis in prop::collection::vec(multi(), 1..20),
    ) {
        let mut state = world();
        for step in &steps {
            take(&mut state, step);
        }
        let session = (1..=commands::SESSIONS + 2).find(|&number| state.session(session_id(number)).is_some());
        // All of them may have ended, rarely.
        let Some(session) = session else { return Ok(()) };
        for op in multis {
            let Op::Multi(mut ops) = op else { unreachable!() };
            ops.push(Op::Delete { path: "/no/such/parent", version: -1 });
            let znodes = |state: &State| {
                let text = dump(state);
                let znodes = text.lines().filter(|line| line.starts_with('/'));
                (znodes.map(str::to_owned).collect::<Vec<_>>(), state.tree_digest(), state.node_count())
            };
            let before = znodes(&state);
            let step = Step::Write {
                session, behind: 0, ahead: 0, auth: Auth::User, op: Op::Multi(ops),
            };
            let (outcome, changes) = take(&mut state, &step).unwrap();
            let Outcome::Write(Verdict::Applied { result: Ok(OpResult::Multi(results)), .. }) = outcome else {
                return Err(TestCaseError::fail(format!("{outcome:?}")));
            };
            prop_assert!(results.iter().any(|result| matches!(result, MultiResult::Failed(_))));
            prop_assert!(changes.is_empty());
            prop_assert_eq!(znodes(&state), before);
            let kept = (state.agreement_digest(), state.tree_digest());
            prop_assert_eq!(kept, state.recompute_digests());
        }
    }

    /// A snapshot written slice by slice while the state changes is the state at its beginning; the state
    /// restored from it goes on as the original did.
    #[test]
    fn a_snapshot_is_exact_and_a_restored_state_goes_on_alike(
        before in prop::collection::vec(step(), 0..120),
        after in prop::collection::vec(step(), 0..120),
        slots in 1u32..4,
        pause in 1usize..6,
    ) {
        let mut state = world();
        for step in &before {
            take(&mut state, step);
        }
        let expected = dump(&state);
        let digest = state.agreement_digest();
        let mut walk = state.begin_snapshot_walk();
        let mut stream = Vec::new();
        let mut done = false;
        let mut original = Vec::new();
        for (at, step) in after.iter().enumerate() {
            original.push(take(&mut state, step));
            if at % pause == 0 && !done {
                done = state.walk_slice(&mut walk, slots, &mut stream) == Progress::Done;
            }
        }
        while !done {
            done = state.walk_slice(&mut walk, slots, &mut stream) == Progress::Done;
        }
        prop_assert_eq!(state.walk_slice(&mut walk, slots, &mut stream), Progress::Ended);
        drop(state.end_snapshot_walk());

        let mut restored = restore(&stream, 1 + pause * 7).map_err(|e| TestCaseError::fail(e.to_string()))?;
        prop_assert_eq!(dump(&restored), expected);
        prop_assert_eq!(restored.agreement_digest(), digest);
        prop_assert_eq!(restored.recompute_digests(), (digest, restored.tree_digest()));
        for (step, original) in after.iter().zip(original) {
            prop_assert_eq!(take(&mut restored, step), original, "{:?}", step);
        }
        prop_assert_eq!(dump(&restored), dump(&state));
        prop_assert_eq!(restored.agreement_digest(), state.agreement_digest());
    }

    /// Damage is found: what can be restored from a damaged stream is the undamaged state.
    #[test]
    fn a_damaged_snapshot_is_refused(
        steps in prop::collection::vec(step(), 0..60),
        damage in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..3),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut state = world();
        for step in &steps {
            take(&mut state, step);
        }
        let stream = snapshot(&mut state);
        let mut damaged = stream.clone();
        for (at, flip) in damage {
            damaged[at.index(stream.len())] ^= flip;
        }
        if let Some(cut) = cut {
            prop_assert!(restore(&stream[..cut.index(stream.len())], 100).is_err());
            damaged.truncate(cut.index(damaged.len()));
        }
        if let Ok(restored) = restore(&damaged, 100) {
            prop_assert_eq!(restored.agreement_digest(), state.agreement_digest());
        }
    }

    /// Bytes that never were a snapshot.
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300), piece in 1usize..50) {
        prop_assert!(restore(&bytes, piece).is_err());
    }
}

fn snapshot(state: &mut State) -> Vec<u8> {
    let mut stream = Vec::new();
    let mut walk = state.begin_snapshot_walk();
    while state.walk_slice(&mut walk, 16, &mut stream) == Progress::More {}
    state.end_snapshot_walk();
    stream
}

fn restore(stream: &[u8], piece: usize) -> Result<State, ostler_tree::snapshot::RestoreError> {
    let mut restorer = Restorer::new(77);
    for piece in stream.chunks(piece) {
        restorer.feed(piece)?;
    }
    restorer.finish()
}
