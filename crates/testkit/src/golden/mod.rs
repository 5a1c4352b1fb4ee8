//! Golden exchanges: scenarios recorded from Apache ZooKeeper, replayed to a running server.
//!
//! The scenarios and their format are in `crates/testkit/golden/` (README.md there). They need neither Java
//! nor ZooKeeper to be played:
//!
//! ```no_run
//! use ostler_testkit::golden;
//!
//! let text = std::fs::read_to_string("crates/testkit/golden/create.txt").unwrap();
//! let report = golden::replay("127.0.0.1:2181".parse().unwrap(), &text).unwrap();
//! assert!(report.frames_compared > 0);
//! ```
//!
//! [`replay`] expects what Ostler answers, which differs from ZooKeeper in a few places on purpose;
//! [`replay_as`] with [`Side::ZooKeeper`] expects exactly what was recorded.

mod pattern;
mod play;
#[cfg(test)]
mod recorded;
mod scenario;

pub use pattern::Mismatch;
pub use play::{Failure, Reason, Report, StepFailure, replay, replay_as};
pub use scenario::{ParseError, Scenario, Setting};

/// Whose answers are expected where Ostler differs from Apache ZooKeeper on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The bytes recorded from Apache ZooKeeper.
    ZooKeeper,
    /// What Ostler answers instead.
    Ostler,
}
