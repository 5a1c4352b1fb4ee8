//! The serving lease and expiry (invariants 8a to 8d).

use ostler_model::lease::{Bounds, Contact, Interrupted, Lease, Property, Rules};
use ostler_model::{Report, search};

const LIMIT: usize = 3_000_000;
/// The client always sends; only links and the quorum fail.
const CUT: Bounds =
    Bounds { client_pauses: false, client_reads: false, workers_stall: false, log_is_slow: false };
/// The client pauses, too.
const PAUSE: Bounds = Bounds { client_pauses: true, ..CUT };

fn search_with(rules: Rules, bounds: Bounds) -> Report<Property> {
    let report = search(&Lease { rules, bounds }, LIMIT);
    println!("{report}");
    report
}

// --- all rules ---

#[test]
fn links_and_quorums_fail() {
    search_with(Rules::ALL, CUT).assert_holds();
}

#[test]
fn the_client_pauses_too() {
    search_with(Rules::ALL, PAUSE).assert_holds();
}

#[test]
fn the_log_is_slow_too() {
    search_with(Rules::ALL, Bounds { client_reads: true, log_is_slow: true, ..PAUSE }).assert_holds();
}

#[test]
fn the_workers_stall() {
    let bounds = Bounds { client_reads: true, workers_stall: true, ..CUT };
    search_with(Rules::ALL, bounds).assert_holds();
}

// --- one rule less ---

fn breaks(rules: Rules, bounds: Bounds, property: Property) {
    search_with(rules, bounds).assert_breaks(property);
}

#[test]
fn contact_by_any_message_serves_an_expired_session() {
    let rules = Rules { contact: Contact::AnyMessage, ..Rules::ALL };
    breaks(rules, CUT, Property::ExpiredIsNotServed);
    breaks(rules, Bounds { client_reads: true, ..CUT }, Property::NoStalerThanLease);
}

#[test]
fn acknowledging_without_a_quorum_lets_an_old_leader_vouch_for_too_long() {
    let rules = Rules { acknowledged_after_quorum: false, ..Rules::ALL };
    breaks(rules, CUT, Property::HeardIsNotExpired);
    breaks(rules, Bounds { client_reads: true, ..CUT }, Property::NoStalerThanLease);
}

#[test]
fn a_contact_that_is_not_applied_yet_serves_stale_reads() {
    let rules = Rules { contact_waits_for_apply: false, ..Rules::ALL };
    breaks(rules, Bounds { client_reads: true, log_is_slow: true, ..CUT }, Property::NoStalerThanLease);
}

#[test]
fn without_the_grace_for_interrupted_reports_the_last_touches_are_not_known() {
    let rules = Rules { interrupted: Interrupted::WithoutGrace, ..Rules::ALL };
    breaks(rules, CUT, Property::HeardIsNotExpired);
}

#[test]
fn the_grace_does_not_help_when_it_is_counted_from_the_last_touch() {
    let rules = Rules { interrupted: Interrupted::FromLastTouch, ..Rules::ALL };
    // Enough for a client that never pauses, which is why this is easily overlooked.
    search_with(rules, CUT).assert_holds();
    breaks(rules, PAUSE, Property::HeardIsNotExpired);
}

#[test]
fn a_new_leader_that_grants_only_the_timeout_expires_who_was_just_heard() {
    let rules = Rules { new_leader_grants_more: false, ..Rules::ALL };
    breaks(rules, CUT, Property::HeardIsNotExpired);
}

#[test]
fn silence_measured_to_now_expires_who_was_heard_but_not_reported() {
    let rules = Rules { silence_to_heard_through: false, ..Rules::ALL };
    breaks(rules, PAUSE, Property::ExpiredIsNotServed);
}

#[test]
fn silence_measured_to_now_expires_for_a_stall_of_the_server() {
    let rules = Rules { silence_to_heard_through: false, ..Rules::ALL };
    breaks(rules, Bounds { workers_stall: true, ..CUT }, Property::StallIsNotSilence);
}

#[test]
fn closing_without_listening_takes_a_stall_for_silence() {
    let rules = Rules { hears_before_closing: false, ..Rules::ALL };
    breaks(rules, Bounds { workers_stall: true, ..CUT }, Property::StallIsNotSilence);
}
