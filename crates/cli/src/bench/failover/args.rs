//! What can be asked for.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::bench::args::{root, seconds};

/// Servers that are killed, paused or restarted under a steady load.
#[derive(Args, Clone, Debug)]
pub struct FailoverArgs {
    /// Client addresses of all servers [default: those in --dev-json]
    #[arg(long, value_name = "HOST:PORT,...", value_delimiter = ',', required_unless_present = "dev_json")]
    pub servers: Vec<String>,
    /// File that `ostler dev --json` writes its output to: which process is which server. It starts servers again
    #[arg(long, value_name = "FILE", conflicts_with_all = ["pid", "pid_file"])]
    pub dev_json: Option<PathBuf>,
    /// Process of a server; for actions after which it is still the same one
    #[arg(long, value_name = "HOST:PORT=PID")]
    pub pid: Vec<ServerPid>,
    /// File that holds the process id of a server, written anew by whoever starts it again
    #[arg(long, value_name = "HOST:PORT=FILE")]
    pub pid_file: Vec<PidFile>,
    /// What happens in each round
    #[arg(long, value_enum, default_value = "kill-leader")]
    pub action: Action,
    /// How often
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// How long `stop-leader` pauses it
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub stop: Duration,
    /// Clients on each server
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..1000))]
    pub clients: u32,
    /// Time between two writes of a client, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    pub interval_ms: u64,
    /// Writes a client has under way at most
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    pub outstanding: u32,
    /// Session timeout to ask for, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 10_000, value_parser = clap::value_parser!(i32).range(1..))]
    pub session_timeout_ms: i32,
    /// Znode below which everything happens; made and removed. One that an earlier run has not made is left alone
    #[arg(long, value_name = "PATH", default_value = "/ostler-failover", value_parser = root)]
    pub root: String,
    /// Leave the znodes
    #[arg(long)]
    pub keep: bool,
    /// What `kill-random` draws from
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,
}

/// What happens to the servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// kill -9 of the leader
    KillLeader,
    /// SIGSTOP of the leader, and SIGCONT after --stop
    StopLeader,
    /// kill -9 of any server
    KillRandom,
    /// SIGTERM, one server after the other, each when all serve again
    RestartEach,
    /// kill -9 of all servers at once
    KillAll,
}

/// Which process a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerPid {
    /// Its client address, `HOST:PORT`.
    pub server: String,
    /// Its process id.
    pub pid: i32,
}

impl FromStr for ServerPid {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text.split_once('=').and_then(|(server, pid)| Some((server, pid.parse().ok()?)));
        match parsed {
            Some((server, pid)) if pid > 0 => Ok(ServerPid { server: server.into(), pid }),
            _ => Err("expected HOST:PORT=PID".into()),
        }
    }
}

/// Where to learn which process a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PidFile {
    /// Its client address, `HOST:PORT`.
    pub server: String,
    /// Holds its process id.
    pub file: PathBuf,
}

impl FromStr for PidFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((server, file)) if !server.is_empty() && !file.is_empty() => {
                Ok(PidFile { server: server.into(), file: file.into() })
            }
            _ => Err("expected HOST:PORT=FILE".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        failover: FailoverArgs,
    }

    fn parse(line: &str) -> Result<FailoverArgs, clap::Error> {
        Program::try_parse_from(line.split(' ')).map(|program| program.failover)
    }

    #[test]
    fn servers_and_their_processes() {
        Program::command().debug_assert();
        let args = parse("failover --servers h:1,h:2 --pid h:1=7 --pid-file h:2=/run/two --action kill-all")
            .unwrap();
        assert_eq!((args.servers.len(), args.action), (2, Action::KillAll));
        assert_eq!(args.pid, [ServerPid { server: "h:1".into(), pid: 7 }]);
        assert_eq!(args.pid_file, [PidFile { server: "h:2".into(), file: "/run/two".into() }]);
        assert!(parse("failover --dev-json x --stop 2.5").unwrap().servers.is_empty());
        for line in ["failover", "failover --servers h:1 --pid h:1=0", "failover --dev-json x --pid h:1=2"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
