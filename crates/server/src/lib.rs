//! The Ostler server around the decisions of `node`: configuration, sockets, files, logging and
//! four-letter words.
//!
//! [`Server::start`] runs one inside any process; [`run`] is what the `ostler` binary does: start, say where
//! everything is, and stop gracefully when told to.

mod acceptor;
mod admission;
mod birth;
mod check;
mod clock;
pub mod config;
mod core;
mod ensemble;
mod events;
mod log_writer;
pub mod logging;
mod membership_writer;
pub mod metrics;
pub mod peers;
mod recover;
mod recovery;
mod reports;
mod roster;
mod run;
mod server;
mod snapshots;
pub mod words;
mod worker;

pub use check::{CheckReport, StateSummary, check};
pub use recover::{NewCluster, RecoverError, RecoverReport, Survivor, examine, finish_interrupted};
pub use recovery::RecoveryError;
pub use run::{run, stop_when_input_ends};
pub use server::{Server, StartError};

/// Exit code: the server could not start or go on, and the log says why.
pub const EXIT_FAILURE: i32 = 1;
/// Exit code: the command line or the configuration is wrong.
pub const EXIT_USAGE: i32 = 2;
/// Exit code: the data directory cannot be used, or the disk failed.
pub const EXIT_DATA: i32 = 3;

/// Ends the process: going on would break a promise.
fn die(code: i32, why: std::fmt::Arguments<'_>) -> ! {
    tracing::error!("{why}");
    exit(code)
}

/// Ends the process when its log is written.
fn exit(code: i32) -> ! {
    logging::finish();
    std::process::exit(code)
}
