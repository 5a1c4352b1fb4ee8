//! Searches further than the tests do, with all rules: `cargo run -p ostler-model --release --example deep`.
//!
//! Takes some minutes and 5 GiB of memory. Words as arguments choose the searches whose names contain them all.

use std::time::Instant;

use ostler_model::boot::{self, Boots};
use ostler_model::epoch::{Epoch, Zxids};
use ostler_model::forwarding::{self, Bounds, Forwarding};
use ostler_model::lease::{self, Lease};
use ostler_model::{Model, Verdict, search};

/// No search visits more states.
const LIMIT: usize = 30_000_000;

const CALM: Bounds = Bounds::CALM;
const RECONNECT: Bounds = Bounds { connections: 2, connection_losses: 1, ..CALM };

/// Every search: what it is about, and the bounds of the model of forwarding.
const FORWARDING: [(&str, Bounds); 9] = [
    ("three writes, leader change, broken link, drop", {
        Bounds { writes: 3, leader_changes: 1, broken_links: 1, drops: 1, ..CALM }
    }),
    ("four writes, two leader changes", Bounds { writes: 4, leader_changes: 2, ..CALM }),
    ("close, two leader changes, broken link, drop", {
        Bounds { closes: true, leader_changes: 2, broken_links: 1, drops: 1, ..CALM }
    }),
    ("reconnect, two leader changes", Bounds { leader_changes: 2, ..RECONNECT }),
    ("reconnect, leader change, drop", Bounds { leader_changes: 1, drops: 1, ..RECONNECT }),
    ("two reconnects, leader change", {
        Bounds { connections: 3, connection_losses: 2, leader_changes: 1, ..CALM }
    }),
    ("reconnect, leader change, expiry", Bounds { leader_changes: 1, expiries: 1, ..RECONNECT }),
    ("reconnect, snapshot, crash, broken link", {
        Bounds { connections: 3, snapshots: 1, crashes: 1, broken_links: 1, ..RECONNECT }
    }),
    ("one write, every fault", {
        let faults = Bounds { leader_changes: 1, broken_links: 1, drops: 1, snapshots: 1, ..RECONNECT };
        Bounds { writes: 1, closes: true, expiries: 1, ..faults }
    }),
];

fn main() {
    let mut all_hold = true;
    for (name, bounds) in FORWARDING {
        all_hold &= run("forwarding", name, &Forwarding { rules: forwarding::Rules::ALL, bounds });
    }
    let bounds =
        lease::Bounds { client_pauses: true, client_reads: true, workers_stall: true, log_is_slow: false };
    all_hold &= run("lease", "pauses and stalls", &Lease { rules: lease::Rules::ALL, bounds });
    let bounds = lease::Bounds { log_is_slow: true, ..bounds };
    all_hold &= run("lease", "pauses, stalls and a slow log", &Lease { rules: lease::Rules::ALL, bounds });
    let bounds = boot::Bounds { restarts: 2, requests: 2, leader_changes: 1, ends: 1 };
    all_hold &= run("boot", "three runs", &Boots { rules: boot::Rules::ALL, bounds });
    let zxids = Zxids { epoch: Epoch::NextOfZxid, snapshot_holds_term: true, entries: 60 };
    all_hold &= run("epoch", "60 entries", &zxids);
    if !all_hold {
        std::process::exit(1);
    }
}

/// Searches, says what came of it, and whether nothing is broken.
fn run<M: Model>(model_name: &str, name: &str, model: &M) -> bool {
    let name = format!("{model_name}: {name}");
    if !std::env::args().skip(1).all(|word| name.contains(&word)) {
        return true;
    }
    let start = Instant::now();
    let report = search(model, LIMIT);
    println!("{name}: {report}, {:.1} s", start.elapsed().as_secs_f32());
    matches!(report.verdict, Verdict::Holds | Verdict::Unfinished)
}
