//! Runs of one server and the ids of the sessions they create (invariant 5b).

use ostler_model::boot::{Boots, Bounds, Place, Property, Rules};
use ostler_model::{Report, search};

const LIMIT: usize = 3_000_000;
const BOUNDS: Bounds = Bounds { restarts: 1, requests: 1, leader_changes: 1, ends: 1 };

fn search_with(rules: Rules, bounds: Bounds) -> Report<Property> {
    let report = search(&Boots { rules, bounds }, LIMIT);
    println!("{report}");
    report
}

#[test]
fn two_runs_with_everything_in_flight() {
    search_with(Rules::ALL, BOUNDS).assert_holds();
    search_with(Rules::ALL, Bounds { requests: 2, leader_changes: 0, ..BOUNDS }).assert_holds();
}

#[test]
fn three_runs() {
    search_with(Rules::ALL, Bounds { restarts: 2, leader_changes: 0, ends: 0, ..BOUNDS }).assert_holds();
}

#[test]
fn without_the_nonce_a_run_takes_the_registration_of_the_one_before_for_its_own() {
    let rules = Rules { nonce: false, ..Rules::ALL };
    let bounds = Bounds { leader_changes: 0, ends: 0, ..BOUNDS };
    search_with(rules, bounds).assert_breaks(Property::OwnSession);
}

#[test]
fn creating_before_the_registration_is_applied_answers_for_somebody_else() {
    let rules = Rules { registers_first: false, ..Rules::ALL };
    search_with(rules, BOUNDS).assert_breaks(Property::OwnSession);
}

#[test]
fn a_lane_that_takes_any_boot_makes_an_id_twice() {
    let rules = Rules { place: Place::NextOfAnyBoot, ..Rules::ALL };
    search_with(rules, BOUNDS).assert_breaks(Property::IdsAreNew);
}

#[test]
fn a_lane_with_gaps_leaves_clients_waiting() {
    let rules = Rules { place: Place::AnyLarger, ..Rules::ALL };
    let bounds = Bounds { restarts: 0, requests: 2, leader_changes: 1, ends: 0 };
    search_with(rules, bounds).assert_hangs();
}

#[test]
fn judging_by_the_living_raises_the_dead() {
    let rules = Rules { place: Place::NoSuchSession, ..Rules::ALL };
    search_with(rules, BOUNDS).assert_breaks(Property::DeadStaysDead);
}

#[test]
fn not_trying_again_leaves_clients_waiting() {
    let rules = Rules { tries_again: false, ..Rules::ALL };
    search_with(rules, BOUNDS).assert_hangs();
}
