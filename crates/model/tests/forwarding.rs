//! Writes on their way (invariants 5 and 6): with all rules nothing breaks, without any of them something does.

use ostler_model::forwarding::{AtSnapshot, Bounds, Forwarding, Judge, Property, Rules};
use ostler_model::{Report, search};

/// No test looks at more states.
const LIMIT: usize = 3_000_000;

const CALM: Bounds = Bounds::CALM;
/// The client loses one connection and opens another.
const RECONNECT: Bounds = Bounds { connections: 2, connection_losses: 1, ..Bounds::CALM };

fn search_with(rules: Rules, bounds: Bounds) -> Report<Property> {
    let report = search(&Forwarding { rules, bounds }, LIMIT);
    println!("{report}");
    report
}

// --- all rules ---

fn holds(bounds: Bounds) {
    search_with(Rules::ALL, bounds).assert_holds();
}

#[test]
fn two_leader_changes() {
    holds(Bounds { leader_changes: 2, ..CALM });
}

#[test]
fn three_writes_while_the_leader_changes_and_drops() {
    holds(Bounds { writes: 3, leader_changes: 1, drops: 1, ..CALM });
}

#[test]
fn three_writes_over_a_broken_link() {
    holds(Bounds { writes: 3, broken_links: 1, drops: 1, ..CALM });
}

#[test]
fn a_close_while_everything_breaks_once() {
    holds(Bounds { closes: true, leader_changes: 1, broken_links: 1, drops: 1, ..CALM });
}

#[test]
fn a_reconnect_while_the_leader_changes() {
    holds(Bounds { leader_changes: 1, ..RECONNECT });
}

#[test]
fn a_reconnect_over_a_broken_link() {
    holds(Bounds { broken_links: 1, ..RECONNECT });
}

#[test]
fn a_reconnect_while_the_session_is_being_expired() {
    holds(Bounds { expiries: 1, ..RECONNECT });
}

#[test]
fn two_reconnects() {
    holds(Bounds { connections: 3, connection_losses: 2, ..CALM });
}

#[test]
fn snapshots_and_crashes() {
    holds(Bounds { connections: 3, snapshots: 1, crashes: 1, broken_links: 1, ..CALM });
}

#[test]
fn a_crash_while_the_leader_changes() {
    holds(Bounds { connections: 2, crashes: 1, leader_changes: 1, ..CALM });
}

#[test]
fn writes_behind_the_connect_request_on_half_open_connections() {
    holds(Bounds { writes_before_connected: true, connections: 3, connection_losses: 2, ..CALM });
}

#[test]
fn a_refused_write_before_others() {
    holds(Bounds { writes: 3, first_is_refused: true, leader_changes: 1, ..CALM });
}

#[test]
fn an_addauth_between_writes() {
    holds(Bounds { adds_auth: true, leader_changes: 1, drops: 1, ..CALM });
}

#[test]
fn a_lost_connection_costs_at_most_one_reconnect_more() {
    holds(Bounds { writes: 1, connections: 4, connection_losses: 2, ..CALM });
    holds(Bounds { writes: 1, connections: 4, leader_changes: 1, ..RECONNECT });
}

// --- one rule less ---

fn breaks(rules: Rules, bounds: Bounds, property: Property) {
    search_with(rules, bounds).assert_breaks(property);
}

fn hangs(rules: Rules, bounds: Bounds) {
    search_with(rules, bounds).assert_hangs();
}

#[test]
fn taking_any_larger_sequence_skips_writes() {
    let rules = Rules { judge: Judge::AnyLarger, ..Rules::ALL };
    breaks(rules, Bounds { drops: 1, ..CALM }, Property::NoWriteSkipped);
    breaks(rules, Bounds { leader_changes: 1, ..CALM }, Property::NoWriteSkipped);
}

#[test]
fn judging_no_sequence_applies_writes_twice() {
    let rules = Rules { judge: Judge::Everything, ..Rules::ALL };
    breaks(rules, Bounds { writes: 1, leader_changes: 1, ..CALM }, Property::ExactlyOnce);
}

#[test]
fn a_write_without_its_generation_is_taken_for_one_of_another_connection() {
    let rules = Rules { write_names_generation: false, ..Rules::ALL };
    breaks(rules, RECONNECT, Property::OwnersWritesOnly);
}

#[test]
fn applying_what_is_not_committed_answers_what_will_be_lost() {
    let rules = Rules { applies_only_committed: false, ..Rules::ALL };
    breaks(rules, CALM, Property::AcknowledgedStays);
}

#[test]
fn an_attach_without_a_generation_throws_its_own_client_out() {
    let rules = Rules { attach_names_generation: false, ..Rules::ALL };
    breaks(rules, Bounds { leader_changes: 1, ..RECONNECT }, Property::NotThrownOutByItself);
    breaks(rules, Bounds { broken_links: 1, ..RECONNECT }, Property::NotThrownOutByItself);
}

#[test]
fn an_expiry_without_a_generation_kills_who_has_come_back() {
    let rules = Rules { expire_names_generation: false, ..Rules::ALL };
    breaks(rules, Bounds { expiries: 1, ..RECONNECT }, Property::NoWrongKill);
}

#[test]
fn a_create_outside_a_lane_raises_the_dead() {
    let rules = Rules { create_in_lane: false, ..Rules::ALL };
    breaks(rules, Bounds { writes: 1, closes: true, leader_changes: 1, ..CALM }, Property::DeadStaysDead);
}

#[test]
fn a_connect_request_handled_late_lets_an_old_write_overtake() {
    let rules = Rules { late_connect_requests_are_discarded: false, ..Rules::ALL };
    let bounds =
        Bounds { writes_before_connected: true, connections: 3, connection_losses: 2, ..Bounds::CALM };
    breaks(rules, bounds, Property::FifoOrder);
}

#[test]
fn without_forwarding_again_clients_hang() {
    let bounds = Bounds { leader_changes: 1, ..CALM };
    hangs(Rules { leader_change_reforwards: false, ..Rules::ALL }, bounds);
    let bounds = Bounds { broken_links: 1, ..CALM };
    hangs(Rules { broken_link_reforwards: false, ..Rules::ALL }, bounds);
    let bounds = Bounds { drops: 1, ..CALM };
    hangs(Rules { refusal_reforwards: false, ..Rules::ALL }, bounds);
}

#[test]
fn a_silent_drop_leaves_a_client_hanging() {
    hangs(Rules { drops_are_refusals: false, ..Rules::ALL }, Bounds { drops: 1, ..CALM });
}

#[test]
fn forwarding_the_newest_first_leaves_a_client_hanging() {
    hangs(Rules { oldest_first: false, ..Rules::ALL }, Bounds { leader_changes: 1, ..CALM });
}

#[test]
fn a_number_given_to_a_refused_write_leaves_later_ones_hanging() {
    hangs(Rules { refused_before_numbered: false, ..Rules::ALL }, Bounds { first_is_refused: true, ..CALM });
}

#[test]
fn identities_read_again_are_not_those_of_the_write() {
    let rules = Rules { identities_are_captured: false, ..Rules::ALL };
    let bounds = Bounds { adds_auth: true, leader_changes: 1, ..CALM };
    breaks(rules, bounds, Property::SenderIdentities);
}

#[test]
fn waiting_across_a_snapshot_hangs() {
    let rules = Rules { at_snapshot: AtSnapshot::KeepWaiting, ..Rules::ALL };
    hangs(rules, Bounds { writes: 1, snapshots: 1, ..CALM });
    // With a second write the answer comes, to the wrong one.
    breaks(rules, Bounds { snapshots: 1, ..CALM }, Property::RepliesInOrder);
}

#[test]
fn answering_across_a_snapshot_is_guessing() {
    let rules = Rules { at_snapshot: AtSnapshot::AnswerIfSeen, ..Rules::ALL };
    breaks(rules, Bounds { snapshots: 1, ..CALM }, Property::KnownOutcomesOnly);
}

#[test]
fn judging_the_zxid_before_the_attach_turns_clients_away() {
    let rules = Rules { zxid_judged_after_attach: false, ..Rules::ALL };
    breaks(rules, RECONNECT, Property::NotTurnedAway);
}
