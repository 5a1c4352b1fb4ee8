//! `ostler dev`: a whole ensemble on this machine, for trying things out and for tests.
//!
//! Each server is a process of its own, this program started again with a configuration file. This one only looks
//! after them: it waits until they serve, shows what they print, starts those again that end, and stops all. A
//! server stops by itself when the pipe on its standard input ends, so none outlives this program.

mod args;
mod output;
mod plan;
mod ports;
mod server;
mod supervisor;

use std::io;
use std::path::PathBuf;
use std::process::{ExitCode, ExitStatus};

pub use args::{DevArgs, Setting};

use plan::Plan;
use supervisor::Supervisor;

/// Why there is no ensemble.
#[derive(Debug, thiserror::Error)]
enum DevError {
    #[error("cannot use {}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{}: not a plan that `ostler dev` has written: {source}", path.display())]
    Plan { path: PathBuf, source: serde_json::Error },
    #[error("the name of the directory cannot stand in a configuration file: {}", dir.display())]
    Name { dir: PathBuf },
    #[error(
        "{} holds an ensemble of {servers} servers and {observers} observers; use another directory for another one",
        dir.display()
    )]
    OtherSize { dir: PathBuf, servers: u8, observers: u8 },
    #[error(
        "{} holds an ensemble already, with ports and settings of its own: change the zoo.cfg of its servers, or use \
         another directory",
        dir.display()
    )]
    OtherSettings { dir: PathBuf },
    #[error("there are not {wanted} free ports on 127.0.0.1 from {first} to {last}")]
    NoPorts { wanted: usize, first: u16, last: u16 },
    #[error("port {port} on 127.0.0.1 is not free: {source}")]
    PortTaken { port: u16, source: io::Error },
    #[error("ports from {base} on would go beyond 65535")]
    PortsEnd { base: u16 },
    #[error("cannot start a server: {0}")]
    Start(io::Error),
    #[error("server {id} did not start ({status}); its log is {}", log.display())]
    DidNotStart { id: u8, status: ExitStatus, log: PathBuf },
    #[error("no server is left")]
    NoneLeft,
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
}

type Result<T, E = DevError> = std::result::Result<T, E>;

/// Runs the ensemble until SIGINT or SIGTERM, or until it cannot go on.
///
/// Exit status 0: stopped when asked to; 1: it could not be started, or no server was left.
pub fn run(args: &DevArgs) -> ExitCode {
    match dev(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn dev(args: &DevArgs) -> Result<()> {
    let (dir, temporary) = match &args.dir {
        Some(dir) => (std::path::absolute(dir).map_err(|source| file(dir, source))?, None),
        None => {
            let made = tempfile::Builder::new().prefix("ostler-dev-").tempdir();
            let temporary = made.map_err(|source| file(&std::env::temp_dir(), source))?;
            (temporary.path().to_owned(), Some(temporary))
        }
    };
    let plan = Plan::make(&dir, args)?;
    let removed = temporary.is_some() && !args.keep;
    let ended = Supervisor::new(plan, args, removed).and_then(Supervisor::run);
    if let Some(temporary) = temporary {
        if args.keep || ended.is_err() {
            // After a failure the logs in it are what is needed.
            eprintln!("the files are in {}", temporary.keep().display());
        } else if let Err(error) = temporary.close() {
            eprintln!("cannot remove {}: {error}", dir.display());
        }
    }
    ended
}

fn file(path: &std::path::Path, source: io::Error) -> DevError {
    DevError::File { path: path.to_owned(), source }
}
