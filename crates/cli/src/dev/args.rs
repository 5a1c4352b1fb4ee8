//! What can be asked for on the command line.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;

/// Run a whole ensemble on this machine, to try things out
///
/// Each server is a process of its own, on 127.0.0.1, with a configuration file and data in a directory of its own.
/// Once all of them serve, the connection string is printed. A server that ends is started again, so kill one and see
/// what clients notice. Ctrl-C or SIGTERM stops all; none outlives this command, whatever ends it.
#[derive(Args, Clone, Debug)]
pub struct DevArgs {
    /// Servers that vote [default: 3, or what is in DIR]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=9))]
    pub servers: Option<u8>,
    /// Servers that do not vote, besides those [default: 0, or what is in DIR]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=9))]
    pub observers: Option<u8>,
    /// Keep everything here, and go on from what an earlier run has left [default: a temporary directory, removed at
    /// the end]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Do not remove the temporary directory
    #[arg(long, conflicts_with = "dir")]
    pub keep: bool,
    /// Client ports PORT, PORT+1 and so on, and behind them two more for each server [default: any free ones]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub base_port: Option<u16>,
    /// A line for every server's configuration file, such as tickTime=500; can be given many times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub settings: Vec<Setting>,
    /// Leave a server that ends as it is, instead of starting it again after a second
    #[arg(long)]
    pub no_restart: bool,
    /// For programs: print a line of JSON with all servers once they serve, then one whenever a server ends, is
    /// started again or serves again. What servers print then goes to their log files only
    #[arg(long)]
    pub json: bool,
}

/// A line of a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Left of the first `=`.
    pub key: String,
    /// Right of it.
    pub value: String,
}

/// What `ostler dev` decides itself: names, and beginnings of names that end in a dot.
const OWN: [&str; 9] = [
    "dataDir",
    "dataLogDir",
    "clientPort",
    "clientPortAddress",
    "dynamicConfigFile",
    "peerType",
    "server.",
    "group.",
    "weight.",
];

impl FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
        let (key, value) = (key.trim(), value.trim());
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if key.is_empty() || !key.chars().all(plain) {
            return Err("a key is made of letters, digits, dots, dashes and underscores".into());
        }
        if value.chars().any(char::is_control) || value.ends_with('\\') {
            return Err("a value is one line".into());
        }
        let bare = bare(key);
        if OWN.iter().any(|own| bare == *own || (own.ends_with('.') && bare.starts_with(own))) {
            return Err(format!("`ostler dev` decides about {bare} itself"));
        }
        Ok(Setting { key: key.into(), value: value.into() })
    }
}

/// The name of a setting without the prefix it may have.
pub(super) fn bare(key: &str) -> &str {
    key.strip_prefix("zookeeper.").unwrap_or(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        dev: DevArgs,
    }

    fn parse(line: &str) -> Result<DevArgs, clap::Error> {
        Program::try_parse_from(line.split(' ')).map(|program| program.dev)
    }

    #[test]
    fn the_definition_is_consistent() {
        Program::command().debug_assert();
    }

    #[test]
    fn settings_are_passed_on_and_those_of_its_own_are_not() {
        let args =
            parse("dev --servers 5 --set tickTime=500 --set 4lw.commands.whitelist=ruok,srvr").unwrap();
        let setting = |key: &str, value: &str| Setting { key: key.into(), value: value.into() };
        assert_eq!(
            args.settings,
            [setting("tickTime", "500"), setting("4lw.commands.whitelist", "ruok,srvr")]
        );
        assert_eq!(args.servers, Some(5));
        for line in [
            "dev --servers 0",
            "dev --servers 10",
            "dev --observers x",
            "dev --keep --dir d",
            "dev --base-port 0",
            "dev --set tickTime",
            "dev --set =1",
            "dev --set dataDir=/x",
            "dev --set zookeeper.clientPort=1",
            "dev --set server.1=a:1:2",
            "dev --set a=b\\",
            "dev --set a=b\nserver.1=c",
            "dev --set a\nb=c",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
