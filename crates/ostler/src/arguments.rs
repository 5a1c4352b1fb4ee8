//! What can be typed. Parsing has no side effects; see `commands` for what it means.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use ostler_server::config::ListenAddress;
use ostler_server::logging::{LogFormat, LogLevels};

const VERSION: &str =
    concat!(env!("CARGO_PKG_VERSION"), " (speaks the client protocol of Apache ZooKeeper 3.9)");

const EXAMPLES: &str = "\
Examples:
  ostler                               serve 127.0.0.1:2181, data in ./ostler-data
  ostler serve /etc/zookeeper/zoo.cfg  serve as a ZooKeeper configuration file says
  ostler serve zoo.cfg --print-config  show what that file amounts to, and stop
  ostler dev --servers 3               try an ensemble on this machine, each server a process of its own
  ostler check /var/lib/zookeeper      verify a data directory while no server uses it
  ostler recover DATADIR --new-cluster go on from one disk when most are lost
  ostler config --server zk1:2181      show who is in an ensemble; `ostler reconfig` changes it
  echo srvr | nc 127.0.0.1 2181        ask a running server how it is

Signals:
  SIGTERM, SIGINT  stop cleanly: answer requests under way, sync the log; a second one stops at once

Environment:
  OSTLER_LOG       log levels, as --log-level; the option wins

Exit status:
  0  success
  1  the command failed
  2  wrong arguments or configuration; nothing was touched
  3  the data directory cannot be used: damaged, somebody else's, or not writable

Settings and their meaning: docs/operations.md";

/// A coordination service that ZooKeeper's clients cannot tell from Apache ZooKeeper.
///
/// Without a command it serves: `ostler` is `ostler serve`.
#[derive(Debug, Parser)]
#[command(name = "ostler", version = VERSION, after_long_help = EXAMPLES, after_help = "More, with examples: --help")]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) serve: ServeOptions,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a server until it is told to stop.
    ///
    /// Without a file it serves this machine only, keeps its data in ./ostler-data, and answers every four-letter
    /// word. With a ZooKeeper configuration file (zoo.cfg) it does what the file says, with ZooKeeper's defaults;
    /// settings it cannot keep the promise of are refused, never ignored.
    Serve(Serve),
    /// Verify a data directory that no server is using, and say what it holds. Changes nothing.
    Check(Check),
    /// Measure a server: any that speaks ZooKeeper's protocol.
    Bench(Box<ostler_cli::bench::BenchArgs>),
    Dev(ostler_cli::dev::DevArgs),
    /// Begin a new cluster with the data of one server, when a majority of the old one's disks is lost.
    ///
    /// For a directory that no server uses. Says what is in it and what may be lost, asks, and makes it the only server
    /// of a new cluster, with everything up to the last entry on this disk. The old data is kept beside it. Servers of
    /// the old cluster can never join the new one; start others with empty directories and add them with `ostler
    /// reconfig`.
    Recover(Recover),
    Config(ostler_cli::membership::ConfigArgs),
    Reconfig(Box<ostler_cli::membership::ReconfigArgs>),
}

#[derive(Args, Debug)]
#[command(
    override_usage = "ostler serve [OPTIONS] [FILE]\n       ostler serve [OPTIONS] PORT DATADIR [TICKTIME [MAXCLIENTCNXNS]]"
)]
pub(crate) struct Serve {
    /// A zoo.cfg, or ZooKeeper's other form: PORT DATADIR [TICKTIME [MAXCLIENTCNXNS]].
    #[arg(value_name = "FILE", num_args = 0..=4)]
    pub(crate) settings: Vec<String>,
    #[command(flatten)]
    pub(crate) options: ServeOptions,
}

#[derive(Args, Debug)]
pub(crate) struct ServeOptions {
    /// Keep the data here, whatever the file says.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Serve clients here, whatever the file says: HOST:PORT, or *:PORT for every interface; port 0 takes any free
    /// one.
    #[arg(long, value_name = "ADDRESS", value_parser = listen_address)]
    pub(crate) listen: Option<ListenAddress>,
    /// This server's number among the server.N lines of the file, 1 to 254. Without it, the file `myid` in the data
    /// directory says it; if both do, they must agree.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=254))]
    pub(crate) id: Option<u8>,
    /// Stop, as at SIGTERM, when standard input ends: with a pipe on it, when the program that started this one is gone.
    #[arg(long)]
    pub(crate) stop_on_eof: bool,
    /// Print the settings in use as JSON, with what is to be noted about them, and stop.
    #[arg(long)]
    pub(crate) print_config: bool,
    /// How log lines look, on standard error.
    #[arg(long, value_name = "FORMAT", value_enum, default_value = "text")]
    log_format: Format,
    /// Log this and worse: off, error, warn, info, debug or trace; by module as in info,ostler_server=debug.
    #[arg(long, value_name = "LEVELS", env = "OSTLER_LOG", default_value = "info")]
    pub(crate) log_level: LogLevels,
}

#[derive(Args, Debug)]
pub(crate) struct Check {
    /// The dataDir of the configuration, or the `ostler` directory in it.
    pub(crate) data_dir: PathBuf,
    /// The dataLogDir, if it is another directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) log_dir: Option<PathBuf>,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Recover {
    /// The dataDir of the configuration.
    pub(crate) data_dir: PathBuf,
    /// The dataLogDir, if it is another directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) log_dir: Option<PathBuf>,
    /// What to do; there is nothing else.
    #[arg(long, required = true)]
    pub(crate) new_cluster: bool,
    /// Do not ask: for scripts.
    #[arg(long)]
    pub(crate) yes_i_know: bool,
    /// Print lines of JSON: what there is, and what was done.
    #[arg(long, requires = "yes_i_know")]
    pub(crate) json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    Text,
    Json,
}

impl ServeOptions {
    pub(crate) fn log_format(&self) -> LogFormat {
        match self.log_format {
            Format::Text => LogFormat::Text,
            Format::Json => LogFormat::Json,
        }
    }
}

fn listen_address(text: &str) -> Result<ListenAddress, &'static str> {
    // A port alone means every interface in zoo.cfg; on the command line that has to be said.
    let address = ListenAddress::parse(text).filter(|_| text.contains(':'));
    address.ok_or("expected HOST:PORT, [IPV6]:PORT or *:PORT, with a port from 0 to 65535")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn serving_is_what_it_does_without_a_command() {
        let bare = Arguments::try_parse_from(["ostler"]).unwrap();
        assert!(bare.command.is_none() && bare.serve.data_dir.is_none());
        let listen = Arguments::try_parse_from(["ostler", "--listen", "*:0"]).unwrap().serve.listen;
        assert_eq!(listen, ListenAddress::parse("*:0"));
        assert!(
            Arguments::try_parse_from(["ostler", "zoo.cfg"]).is_err(),
            "a mistyped command is not a file"
        );
    }

    #[test]
    fn zookeepers_form_is_kept_in_order() {
        let arguments = Arguments::try_parse_from(["ostler", "serve", "2181", "/d", "2000", "9"]).unwrap();
        let Some(Command::Serve(serve)) = arguments.command else { panic!("{arguments:?}") };
        assert_eq!(serve.settings, ["2181", "/d", "2000", "9"]);
        assert!(Arguments::try_parse_from(["ostler", "serve", "1", "2", "3", "4", "5"]).is_err());
    }
}
