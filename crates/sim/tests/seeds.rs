//! A few dozen short runs. `cargo run -p ostler-sim --release -- --seeds 1000` does more of them.

use ostler_sim::{Options, Scenario, run};

fn all_keep_their_promises(options: impl Iterator<Item = Options>) {
    for options in options {
        let seed = options.seed;
        if let Err(failure) = run(options.clone(), false) {
            // The same again, with its lines.
            let tail = run(options, true).err().map(|failure| failure.tail).unwrap_or_default();
            let last = tail[tail.len().saturating_sub(60)..].join("\n");
            panic!("seed {seed}: {}\n{last}", failure.why);
        }
    }
}

#[test]
fn three_servers_and_everything_goes_wrong() {
    all_keep_their_promises((0..12).map(|seed| Options {
        scenario: Scenario::Chaos,
        faults_ms: 20_000,
        ..Options::new(seed)
    }));
}

#[test]
fn clients_of_servers_that_stay_do_not_notice_a_change_of_leader() {
    all_keep_their_promises((100..106).map(|seed| Options {
        scenario: Scenario::LeaderChanges,
        faults_ms: 30_000,
        ..Options::new(seed)
    }));
}

#[test]
fn servers_join_and_leave() {
    all_keep_their_promises((400..406).map(|seed| Options {
        scenario: Scenario::Membership,
        faults_ms: 15_000,
        ..Options::new(seed)
    }));
}

#[test]
fn one_server_two_and_five() {
    all_keep_their_promises([1, 2, 5].into_iter().flat_map(|servers| {
        (200..203).map(move |seed| Options { servers, faults_ms: 12_000, ..Options::new(seed) })
    }));
}

#[test]
fn a_seed_repeats() {
    for seed in 300..304 {
        let options = Options { faults_ms: 10_000, ..Options::new(seed) };
        let [first, second] = [(), ()].map(|()| run(options.clone(), false).unwrap().trace_hash);
        assert_eq!(first, second, "seed {seed}");
    }
    let other = run(Options { faults_ms: 10_000, ..Options::new(304) }, false).unwrap();
    let first = run(Options { faults_ms: 10_000, ..Options::new(300) }, false).unwrap();
    assert_ne!(other.trace_hash, first.trace_hash);
}
