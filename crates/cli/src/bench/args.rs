//! What can be asked for on the command line.

use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::failover::FailoverArgs;
use super::mix::Mix;

/// Measure how fast a server is, and at what cost
#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct BenchArgs {
    /// `compare`, or one measurement.
    #[command(subcommand)]
    pub command: Option<BenchCommand>,
    /// The measurement.
    #[command(flatten)]
    pub load: LoadArgs,
}

/// Other things `ostler bench` does.
#[derive(Clone, Debug, Subcommand)]
pub enum BenchCommand {
    /// Measure two servers in turn and print medians and ratios
    Compare(CompareArgs),
    /// Kill, pause or restart servers of an ensemble under load and report what its clients notice
    Failover(FailoverArgs),
}

/// One measurement of one server.
#[derive(Args, Clone, Debug)]
pub struct LoadArgs {
    /// Server to measure; anything that speaks ZooKeeper's client protocol. Of several, separated by commas, each
    /// session takes the next
    #[arg(long, value_name = "HOST:PORT,...", default_value = "127.0.0.1:2181")]
    pub server: String,
    /// Sessions, each on its own connection
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    pub sessions: u32,
    /// Requests each session keeps under way
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    pub outstanding: u32,
    /// Operations: get, set, create, or percentages as GET/SET or GET/SET/CREATE
    #[arg(long, default_value = "get")]
    pub mix: Mix,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would replace the command's own help")]
    pub common: CommonArgs,
    /// Process id of the server, on this machine: also report its CPU time and memory; of several servers the sums
    #[arg(long, value_name = "PID,...", value_delimiter = ',')]
    pub server_pid: Vec<u32>,
    /// Instead of load, open this many sessions, keep them alive for --seconds, and report the server's memory
    /// before and after. Needs as many file descriptors
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..),
          conflicts_with_all = ["sessions", "outstanding", "mix", "value_bytes", "znodes", "warmup", "threads"])]
    pub idle_sessions: Option<u32>,
    /// With --idle-sessions: let each session watch this many znodes that do not exist, and report the server's
    /// memory per watch
    #[arg(long, value_name = "N", default_value_t = 0, requires = "idle_sessions")]
    pub watches_per_session: u32,
}

/// What every measurement has.
#[derive(Args, Clone, Debug)]
pub struct CommonArgs {
    /// How long to measure
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub seconds: Duration,
    /// How long to run the load before measuring
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub warmup: Duration,
    /// Bytes of data per znode
    #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = clap::value_parser!(u32).range(..1_000_000))]
    pub value_bytes: u32,
    /// Znodes that get and set choose from
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..10_000_000))]
    pub znodes: u32,
    /// Threads of the load generator; more than one only if its own CPU time says so
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..64))]
    pub threads: u32,
    /// Znode below which everything happens; made and removed. One that an earlier run has not made is left alone
    #[arg(long, value_name = "PATH", default_value = "/ostler-bench", value_parser = root)]
    pub root: String,
    /// Session timeout to ask for, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 30_000, value_parser = clap::value_parser!(i32).range(1..))]
    pub session_timeout_ms: i32,
    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,
}

/// Two servers, in turn.
#[derive(Args, Clone, Debug)]
pub struct CompareArgs {
    /// First server, or the servers of the first ensemble
    #[arg(long, value_name = "HOST:PORT,...")]
    pub a: String,
    /// Process id of the first server, or of all of the ensemble
    #[arg(long, value_name = "PID,...", value_delimiter = ',')]
    pub a_pid: Vec<u32>,
    /// Second server, or ensemble: ratios are the first one's figure over this one's
    #[arg(long, value_name = "HOST:PORT,...")]
    pub b: String,
    /// Process id of the second server, or of all of the ensemble
    #[arg(long, value_name = "PID,...", value_delimiter = ',')]
    pub b_pid: Vec<u32>,
    /// How often to measure each cell on each server; figures are medians
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// Sessions x outstanding requests
    #[arg(long, value_name = "SxO,...", value_delimiter = ',', default_value = "1x1,16x16,128x64")]
    pub cells: Vec<Cell>,
    /// Mixes, as for --mix
    #[arg(long, value_name = "MIX,...", value_delimiter = ',', default_value = "get,set,90/10")]
    pub mixes: Vec<Mix>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would replace the command's own help")]
    pub common: CommonArgs,
}

/// How much load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Cell {
    /// Sessions.
    pub sessions: u32,
    /// Requests under way per session.
    pub outstanding: u32,
}

impl FromStr for Cell {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text
            .split_once('x')
            .and_then(|(sessions, outstanding)| Some((sessions.parse().ok()?, outstanding.parse().ok()?)));
        match parsed {
            Some((sessions, outstanding)) if sessions > 0 && outstanding > 0 => {
                Ok(Cell { sessions, outstanding })
            }
            _ => Err("expected SESSIONSxOUTSTANDING, such as 16x16".into()),
        }
    }
}

impl std::fmt::Display for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.sessions, self.outstanding)
    }
}

pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map_err(|_| "expected a number of seconds")?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

/// Removing the root must never remove anything but the benchmark's own.
pub(super) fn root(path: &str) -> Result<String, String> {
    match ostler_types::ZnodePath::parse(path) {
        Ok(parsed) if parsed.is_root() || path == "/zookeeper" || path.starts_with("/zookeeper/") => {
            Err("this znode is not for benchmarks: it would be removed".into())
        }
        Ok(_) => Ok(path.into()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        bench: BenchArgs,
    }

    fn parse(line: &str) -> Result<BenchArgs, clap::Error> {
        Program::try_parse_from(line.split(' ')).map(|program| program.bench)
    }

    #[test]
    fn the_definition_is_consistent() {
        Program::command().debug_assert();
    }

    #[test]
    fn a_measurement_and_a_comparison() {
        let load = parse("bench --sessions 3 --outstanding 4 --mix 70/30 --seconds 0.5 --json").unwrap().load;
        assert_eq!((load.sessions, load.outstanding, load.mix.to_string().as_str()), (3, 4, "70/30"));
        assert_eq!((load.common.seconds, load.common.json), (Duration::from_millis(500), true));

        let compare = parse("bench compare --a h:1 --b h:2 --cells 1x1,8x2 --mixes get,90/10").unwrap();
        let Some(BenchCommand::Compare(compare)) = compare.command else { panic!("{compare:?}") };
        assert_eq!(compare.cells[1], Cell { sessions: 8, outstanding: 2 });
        assert_eq!((compare.mixes.len(), compare.rounds), (2, 3));
    }

    #[test]
    fn nonsense_is_refused() {
        for line in [
            "bench --sessions 0",
            "bench --mix 50/49",
            "bench --seconds -1",
            "bench --root /",
            "bench --root /zookeeper/quota",
            "bench --root no-slash",
            "bench --idle-sessions 5 --outstanding 2",
            "bench compare --a h:1",
            "bench compare --a h:1 --b h:2 --cells 0x1",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
