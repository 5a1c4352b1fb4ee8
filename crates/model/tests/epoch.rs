//! Where a zxid's epoch comes from (invariant 10a).

use ostler_model::epoch::{Epoch, Property, Zxids};
use ostler_model::{Report, search};

const ALL: Zxids = Zxids { epoch: Epoch::NextOfZxid, snapshot_holds_term: true, entries: 14 };

fn search_with(model: Zxids) -> Report<Property> {
    let report = search(&model, 1_000_000);
    println!("{report}");
    report
}

#[test]
fn zxids_grow_and_servers_agree() {
    search_with(ALL).assert_holds();
}

#[test]
fn an_epoch_of_rafts_term_goes_back_behind_one_that_was_carried() {
    search_with(Zxids { epoch: Epoch::Term, ..ALL }).assert_breaks(Property::Growing);
}

#[test]
fn the_larger_of_term_and_epoch_hands_out_the_same_zxids_twice() {
    search_with(Zxids { epoch: Epoch::TermOrZxid, ..ALL }).assert_breaks(Property::Growing);
}

#[test]
fn a_snapshot_without_the_term_begins_an_epoch_too_many() {
    search_with(Zxids { snapshot_holds_term: false, ..ALL }).assert_breaks(Property::Agreed);
}
