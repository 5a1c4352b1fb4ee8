//! `ostler bench`: how fast a server is, at what cost. How to use it: `docs/benchmarking.md`.
//!
//! The load is closed-loop: each session keeps a fixed number of requests under way and sends the next one when
//! a reply comes. The generator shares the machine with the server, so its own cost per operation matters: one
//! thread, frames encoded beforehand, one read and one write per batch of replies.

mod args;
mod compare;
mod failover;
#[cfg(test)]
mod fake_server;
mod fleet;
mod idle;
mod load;
mod mix;
mod process;
mod report;
mod workload;
mod znodes;

use std::path::PathBuf;
use std::process::ExitCode;

pub use args::{BenchArgs, BenchCommand, CompareArgs, LoadArgs};
pub use failover::{Action, FailoverArgs, PidFile, ServerPid};

/// Why a measurement could not be made.
#[derive(Debug, thiserror::Error)]
enum BenchError {
    #[error("cannot connect to {address}: {source}")]
    Connect { address: String, source: std::io::Error },
    #[error("connection {index} failed: {source}")]
    Socket { index: usize, source: std::io::Error },
    #[error("the server closed connection {index}")]
    ClosedByServer { index: usize },
    #[error("connection {index} received what is no reply to its request")]
    Protocol { index: usize },
    #[error("the server did not grant session {index}")]
    NoSession { index: usize },
    #[error("{unanswered} requests had no reply {waited_s} s after the last one was sent")]
    Unanswered { unanswered: usize, waited_s: u64 },
    #[error("cannot prepare or remove the znodes: {0}")]
    Connection(#[from] ostler_client::ConnectError),
    #[error("cannot prepare or remove the znodes: {0}")]
    Request(#[from] ostler_client::Error),
    #[error("{root} exists and was not made by a benchmark: remove it or choose another --root")]
    ForeignRoot { root: String },
    #[error("cannot read the counters of process {pid}: {source}")]
    Process { pid: u32, source: std::io::Error },
    #[error("cannot write the result: {0}")]
    Output(std::io::Error),
    #[error("cannot read {}: {source}", file.display())]
    File { file: PathBuf, source: std::io::Error },
    #[error("{} does not begin with what `ostler dev --json` prints", file.display())]
    NotDev { file: PathBuf },
    #[error("which process is the server at {address}? See --dev-json, --pid and --pid-file")]
    NoProcess { address: String },
    #[error("cannot send a signal to process {pid}, the server at {address}: {source}")]
    Signal { pid: i32, address: String, source: std::io::Error },
    #[error("not one leader and all others serving after {waited_s} s: {states}")]
    NotServing { waited_s: u64, states: String },
    #[error("no client can connect to {address}: {errors}")]
    NoClient { address: String, errors: String },
    #[error("cannot wait for sockets: {0}")]
    Poll(std::io::Error),
}

type Result<T, E = BenchError> = std::result::Result<T, E>;

/// Measures what `args` ask for, and prints the result to stdout and progress to stderr.
///
/// Exit status 0: measured; 1: could not be measured; 3: measured, but requests were answered with
/// errors, or an ensemble lost what it had promised to keep. (2 is clap's, for wrong arguments.)
pub fn run(args: &BenchArgs) -> ExitCode {
    let mut broken = "requests were answered with an error";
    let outcome = match &args.command {
        Some(BenchCommand::Compare(compare)) => compare::run(compare),
        Some(BenchCommand::Failover(failover)) => {
            broken = "promises were broken";
            failover::run(failover)
        }
        None => match args.load.idle_sessions {
            Some(sessions) => idle::run(&args.load, sessions),
            None => load::run(&args.load),
        },
    };
    match outcome {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failed) => {
            eprintln!("{failed} {broken}");
            ExitCode::from(3)
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
