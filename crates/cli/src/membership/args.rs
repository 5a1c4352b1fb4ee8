//! What can be asked for on the command line, and what that asks of the ensemble.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use ostler_types::Zxid;
use ostler_types::member::ServerSpec;

use super::{MembershipError, Result};

/// Where to ask, and how to answer.
#[derive(Args, Clone, Debug)]
pub struct ServerArgs {
    /// Servers to ask, of which the first that answers is taken
    #[arg(long, value_name = "HOST:PORT,...", value_delimiter = ',', default_value = "127.0.0.1:2181")]
    pub server: Vec<String>,
    /// Print a line of JSON instead of text
    #[arg(long)]
    pub json: bool,
}

/// Show who is in an ensemble
#[derive(Args, Clone, Debug)]
pub struct ConfigArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would replace the command's own help")]
    pub server: ServerArgs,
}

/// Change who is in an ensemble, while it runs
///
/// Waits until the change is made, which for a new server means that it has all the data, and prints the result. Needs
/// reconfigEnabled=true on the servers, and the super user's identity or another one that may write /zookeeper/config.
/// Either --add and --remove, or --members or --file.
#[derive(Args, Clone, Debug)]
#[command(group = clap::ArgGroup::new("change").required(true).multiple(true).args(["add", "remove", "members", "file"]))]
pub struct ReconfigArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "a doc comment here would replace the command's own help")]
    pub server: ServerArgs,
    /// Server to add, or to change if there is one of this number:
    /// N=HOST:QUORUMPORT:ELECTIONPORT[:participant|:observer];[CLIENTHOST:]CLIENTPORT. Can be given many times
    #[arg(long, value_name = "SERVER", conflicts_with_all = ["members", "file"])]
    pub add: Vec<Member>,
    /// Numbers of servers to remove, separated by commas
    #[arg(long, value_name = "N,...", value_delimiter = ',', conflicts_with_all = ["members", "file"],
          value_parser = clap::value_parser!(u8).range(1..=254))]
    pub remove: Vec<u8>,
    /// All servers there shall be, each as for --add; can be given many times
    #[arg(long, value_name = "SERVER", conflicts_with = "file")]
    pub members: Vec<Member>,
    /// File with all servers there shall be: server.N lines
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Only if the membership is of this version, as `ostler config` shows it (hexadecimal)
    #[arg(long, value_name = "VERSION", value_parser = version)]
    pub version: Option<Zxid>,
    /// File with USER:PASSWORD of the digest scheme in its first line
    #[arg(long, value_name = "FILE")]
    pub auth_file: Option<PathBuf>,
}

/// A server and its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// 1 to 254.
    pub id: u8,
    /// With a client address.
    pub spec: ServerSpec,
}

/// What a `reconfig` request says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) joining: Option<String>,
    pub(super) leaving: Option<String>,
    pub(super) members: Option<String>,
}

impl ReconfigArgs {
    pub(super) fn change(&self) -> Result<Change> {
        if let Some(path) = &self.file {
            let members = from_file(path, &read(path)?)?;
            return Ok(Change { members: Some(lines(&members)), ..Change::default() });
        }
        let list = |members: &[Member]| (!members.is_empty()).then(|| lines(members));
        let ids: Vec<_> = self.remove.iter().map(u8::to_string).collect();
        Ok(Change {
            joining: list(&self.add),
            leaving: (!ids.is_empty()).then(|| ids.join(",")),
            members: list(&self.members),
        })
    }

    /// The identity to act with.
    pub(super) fn auth(&self) -> Result<Option<String>> {
        let Some(path) = &self.auth_file else { return Ok(None) };
        let text = read(path)?;
        let line = text.lines().next().unwrap_or_default();
        if !line.contains(':') {
            let text = "the first line is not USER:PASSWORD".to_owned();
            return Err(MembershipError::FileContent { path: path.clone(), text });
        }
        Ok(Some(line.to_owned()))
    }
}

impl FromStr for Member {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected =
            || format!("expected N={};CLIENTPORT, with N from 1 to 254", "HOST:QUORUMPORT:ELECTIONPORT");
        let text = text.strip_prefix("server.").unwrap_or(text);
        let (id, spec) = text.split_once('=').ok_or_else(expected)?;
        let digits = id.bytes().all(|b| b.is_ascii_digit());
        let id = id.parse().ok().filter(|id| digits && (1..=254).contains(id)).ok_or_else(expected)?;
        let spec = ServerSpec::parse(spec.trim()).ok_or_else(expected)?;
        if spec.client.is_none() {
            return Err("the client port is missing: ;CLIENTPORT at the end".to_owned());
        }
        Ok(Member { id, spec })
    }
}

fn lines(members: &[Member]) -> String {
    members.iter().map(|Member { id, spec }| format!("server.{id}={spec}")).collect::<Vec<_>>().join(",")
}

/// Server lines, as a dynamic file has them; one with a version has been written for something else.
fn from_file(path: &Path, text: &str) -> Result<Vec<Member>> {
    let wrong = |text: String| MembershipError::FileContent { path: path.to_owned(), text };
    let mut members = Vec::new();
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if line.is_empty() || line.starts_with(['#', '!']) {
            continue;
        }
        if !line.starts_with("server.") {
            return Err(wrong(format!("line {number}: only server.N lines belong into this file")));
        }
        members.push(line.parse().map_err(|text| wrong(format!("line {number}: {text}")))?);
    }
    if members.is_empty() { Err(wrong("no server.N line".to_owned())) } else { Ok(members) }
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|source| MembershipError::File { path: path.to_owned(), source })
}

fn version(text: &str) -> Result<Zxid, &'static str> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let number =
        i64::from_str_radix(digits, 16).ok().filter(|_| digits.bytes().all(|b| b.is_ascii_hexdigit()));
    number.map(Zxid).ok_or("expected a hexadecimal number")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        reconfig: ReconfigArgs,
    }

    fn parse(line: &str) -> Result<ReconfigArgs, clap::Error> {
        Program::try_parse_from(line.split(' ')).map(|program| program.reconfig)
    }

    #[test]
    fn the_definition_is_consistent() {
        Program::command().debug_assert();
    }

    #[test]
    fn a_difference_or_a_whole() {
        let args =
            parse("reconfig --add 4=d:1:2;3 --add server.5=e:1:2:observer;h:3 --remove 1,2 --version 0x1f");
        let args = args.unwrap();
        assert_eq!(args.version, Some(Zxid(0x1f)));
        assert_eq!(
            args.change().unwrap(),
            Change {
                joining: Some("server.4=d:1:2:participant;0.0.0.0:3,server.5=e:1:2:observer;h:3".to_owned()),
                leaving: Some("1,2".to_owned()),
                members: None,
            }
        );
        let whole = parse("reconfig --members 1=a:1:2;3").unwrap().change().unwrap();
        assert_eq!(whole.members.as_deref(), Some("server.1=a:1:2:participant;0.0.0.0:3"));
        for line in [
            "reconfig",
            "reconfig --add 4=d:1:2",
            "reconfig --add 0=d:1:2;3",
            "reconfig --add 255=d:1:2;3",
            "reconfig --add d:1:2;3",
            "reconfig --remove 0",
            "reconfig --remove x",
            "reconfig --remove 1 --members 1=a:1:2;3",
            "reconfig --file f --add 1=a:1:2;3",
            "reconfig --remove 1 --version xyz",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_file_has_server_lines_and_nothing_else() {
        let read = |text: &str| from_file(Path::new("f"), text).map_err(|error| error.to_string());
        let members = read("# all\n\nserver.1=a:1:2;3\n server.2=b:1:2;3\n").unwrap();
        assert_eq!(
            lines(&members),
            "server.1=a:1:2:participant;0.0.0.0:3,server.2=b:1:2:participant;0.0.0.0:3"
        );
        assert_eq!(
            read("server.1=a:1:2;3\nversion=1").unwrap_err(),
            "f: line 2: only server.N lines belong into this file"
        );
        assert_eq!(read("").unwrap_err(), "f: no server.N line");
        assert!(read("server.1=a").unwrap_err().starts_with("f: line 1: expected N="));
    }
}
