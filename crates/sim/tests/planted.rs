//! A judge that finds nothing proves nothing: bugs that are put in on purpose must be found.

use ostler_sim::{Options, Plant, Scenario, run};

/// The first complaint among these seeds.
fn complaint(plant: Plant, seeds: std::ops::Range<u64>) -> Option<String> {
    seeds
        .map(|seed| Options {
            plant: Some(plant),
            scenario: Scenario::Chaos,
            faults_ms: 20_000,
            ..Options::new(seed)
        })
        .find_map(|options| run(options, false).err().map(|failure| failure.why))
}

fn found(plant: Plant, words: &[&str]) {
    let why = complaint(plant, 0..30).unwrap_or_else(|| panic!("{plant:?} was not found"));
    assert!(words.iter().any(|word| why.contains(word)), "{plant:?}: {why}");
}

#[test]
fn answers_before_they_are_durable() {
    found(
        Plant::AnsweredBeforeDurable,
        &[
            "has applied entry",
            "is gone",
            "can be",
            "has stopped",
            "does not start",
            "acknowledged",
            "is shown zxid",
            "has another state",
        ],
    );
}

#[test]
fn forwarded_commands_that_are_lost() {
    found(Plant::LostForward, &["not settled"]);
}

#[test]
fn clocks_that_are_too_fast() {
    found(Plant::FastClocks, &["has expired"]);
}

#[test]
fn touches_that_are_forgotten() {
    found(Plant::ForgottenTouches, &["has expired"]);
}

#[test]
fn frames_that_arrive_twice_do_no_harm() {
    assert_eq!(complaint(Plant::TwiceForwarded, 0..6), None);
}
