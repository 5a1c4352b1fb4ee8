//! The session rules of Ostler as small models, searched exhaustively.
//!
//! What makes sessions hard is not any single rule but their meeting: a write that is forwarded again while its
//! duplicate is still on an old link, an expiry decided just before the client comes back, a server that starts
//! again while what it sent before is still under way. Each model here is a world small enough to visit *every*
//! order in which such things can happen. The rules of the design (`ARCHITECTURE.md`, "Invariants") are
//! switches: with all of them nothing breaks; without one of them [`search()`] finds the shortest run in which
//! something does. To learn what a rule is for, switch it off and read that run:
//!
//! ```
//! use ostler_model::forwarding::{Bounds, Forwarding, Property, Rules};
//! use ostler_model::search;
//!
//! let rules = Rules { expire_names_generation: false, ..Rules::ALL };
//! let bounds = Bounds { connections: 2, connection_losses: 1, expiries: 1, ..Bounds::CALM };
//! let report = search(&Forwarding { rules, bounds }, 1_000_000);
//! report.assert_breaks(Property::NoWrongKill);
//! println!("{report}");
//! ```
//!
//! | model | invariants | world |
//! |---|---|---|
//! | [`forwarding`] | 5, 6 | a client's writes, two servers, links, leaders |
//! | [`boot`] | 5b | runs of one server, the sessions they create |
//! | [`lease`] | 8a to 8d | a client, its server, the leader and its successor, time |
//! | [`epoch`] | 10a | zxids on two servers, one of which restores a snapshot |
//!
//! The rules are structs of switches (`Rules`), what can go wrong and how often is in `Bounds`, what must not happen
//! is in `Property`. Besides, nobody may hang: from every state a settled one must be reachable without
//! another fault. The tests search small bounds; `cargo run -p ostler-model --release --example deep` larger ones.
//!
//! Not modelled: several sessions, watches, changes of membership, drifting clocks, the in-doubt record (5d).
//!
//! A model shares no code with the server: it says what the rules are, the tests of `node` and `tree` whether the
//! server keeps them.

pub mod boot;
pub mod epoch;
pub mod forwarding;
pub mod lease;
mod list;
mod search;

pub use search::{Model, Report, Verdict, search};
