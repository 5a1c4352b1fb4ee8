//! The servers as processes: who leads, who serves, and signals.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::args::FailoverArgs;
use crate::bench::{BenchError, Result};

/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a server may take to answer `srvr`.
const PATIENCE: Duration = Duration::from_secs(1);
/// Most bytes of an answer that are read; real ones have some hundred.
const MAX_ANSWER_BYTES: u64 = 1 << 16;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Servers {
    servers: Vec<Server>,
}

#[derive(Debug)]
struct Server {
    address: String,
    process: Process,
    /// The process that was sent a signal last.
    signalled: Option<Pid>,
}

/// Where to learn which process it is.
#[derive(Clone, Debug)]
enum Process {
    Pid(i32),
    File(PathBuf),
    /// Written by `ostler dev --json`.
    Dev(PathBuf),
}

/// What a server says it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Leads,
    Follows,
    /// Or cannot be asked.
    DoesNotServe,
}

impl Servers {
    pub(super) fn find(args: &FailoverArgs) -> Result<Servers> {
        let mut processes: BTreeMap<String, Process> = BTreeMap::new();
        let mut order = args.servers.clone();
        if let Some(file) = &args.dev_json {
            for address in dev_processes(file)?.into_keys() {
                if args.servers.is_empty() {
                    order.push(address.clone());
                }
                processes.insert(address, Process::Dev(file.clone()));
            }
        }
        let pids = args.pid.iter().map(|pid| (pid.server.clone(), Process::Pid(pid.pid)));
        let files = args.pid_file.iter().map(|pid| (pid.server.clone(), Process::File(pid.file.clone())));
        processes.extend(pids.chain(files));
        let servers = order.into_iter().map(|address| match processes.remove(&address) {
            Some(process) => Ok(Server { address, process, signalled: None }),
            None => Err(BenchError::NoProcess { address }),
        });
        Ok(Servers { servers: servers.collect::<Result<_>>()? })
    }

    pub(super) fn len(&self) -> usize {
        self.servers.len()
    }

    pub(super) fn addresses(&self) -> Vec<String> {
        self.servers.iter().map(|server| server.address.clone()).collect()
    }

    /// Waits until every server serves and exactly one of them leads.
    pub(super) async fn all_serve(&self, limit: Duration) -> Result<()> {
        self.leader(limit).await.map(drop)
    }

    /// As [`all_serve`](Self::all_serve); which one leads.
    pub(super) async fn leader(&self, limit: Duration) -> Result<usize> {
        let started = Instant::now();
        loop {
            let mut modes = Vec::new();
            for server in &self.servers {
                modes.push(mode(&server.address).await);
            }
            let leaders: Vec<_> = (0..modes.len()).filter(|&at| modes[at] == Mode::Leads).collect();
            if let [leader] = leaders[..]
                && !modes.contains(&Mode::DoesNotServe)
            {
                return Ok(leader);
            }
            if started.elapsed() > limit {
                let states = self
                    .servers
                    .iter()
                    .zip(modes)
                    .map(|(server, mode)| format!("{}: {mode:?}", server.address));
                let states = states.collect::<Vec<_>>().join(", ");
                return Err(BenchError::NotServing { waited_s: limit.as_secs(), states });
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    pub(super) fn signal(&mut self, index: usize, signal: Signal) -> Result<()> {
        let server = &mut self.servers[index];
        let address = &server.address;
        let no_process = || BenchError::NoProcess { address: address.clone() };
        let pid = match &server.process {
            Process::Pid(pid) => *pid,
            Process::File(file) => {
                read(file)?.trim().parse().ok().filter(|&pid| pid > 0).ok_or_else(no_process)?
            }
            Process::Dev(file) => *dev_processes(file)?.get(address).ok_or_else(no_process)?,
        };
        let pid = Pid::from_raw(pid).ok_or_else(no_process)?;
        kill_process(pid, signal).map_err(|error| BenchError::Signal {
            pid: pid.as_raw_nonzero().get(),
            address: address.clone(),
            source: error.into(),
        })?;
        server.signalled = Some(pid);
        Ok(())
    }

    /// Waits for the end of the process that was sent a signal last.
    pub(super) async fn has_ended(&self, index: usize, limit: Duration) -> Result<()> {
        let (started, server) = (Instant::now(), &self.servers[index]);
        while server.signalled.is_some_and(|pid| test_kill_process(pid).is_ok() && !is_zombie(pid)) {
            if started.elapsed() > limit {
                let states = format!("{} has not ended", server.address);
                return Err(BenchError::NotServing { waited_s: limit.as_secs(), states });
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }
}

/// Ended, but whoever started it has not asked how.
fn is_zombie(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')))
}

async fn mode(address: &str) -> Mode {
    let ask = async {
        let mut socket = TcpStream::connect(address).await?;
        socket.write_all(b"srvr").await?;
        let mut answer = Vec::new();
        socket.take(MAX_ANSWER_BYTES).read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let Ok(Ok(answer)) = tokio::time::timeout(PATIENCE, ask).await else { return Mode::DoesNotServe };
    let answer = String::from_utf8_lossy(&answer);
    match answer.lines().find_map(|line| line.strip_prefix("Mode: ")).map(str::trim) {
        Some("leader" | "standalone") => Mode::Leads,
        Some("follower" | "observer") => Mode::Follows,
        _ => Mode::DoesNotServe,
    }
}

fn read(file: &Path) -> Result<String> {
    std::fs::read_to_string(file).map_err(|source| BenchError::File { file: file.to_owned(), source })
}

/// The newest process of each server, by client address.
fn dev_processes(file: &Path) -> Result<BTreeMap<String, i32>> {
    let text = read(file)?;
    parse_dev(&text).ok_or_else(|| BenchError::NotDev { file: file.to_owned() })
}

fn parse_dev(text: &str) -> Option<BTreeMap<String, i32>> {
    // A line that is being written is no JSON yet.
    let mut lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut by_id = BTreeMap::new();
    for server in lines.next()?["servers"].as_array()? {
        let pid = i32::try_from(server["pid"].as_i64()?).ok()?;
        by_id.insert(server["id"].as_u64()?, (server["client_address"].as_str()?.to_owned(), pid));
    }
    for news in lines.filter(|news| news["event"] == "started") {
        if let Some((_, pid)) = by_id.get_mut(&news["id"].as_u64()?) {
            *pid = i32::try_from(news["pid"].as_i64()?).ok()?;
        }
    }
    Some(by_id.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_process_counts() {
        let text = "{\"servers\":[{\"id\":1,\"client_address\":\"h:1\",\"pid\":5},{\"id\":2,\"client_address\":\"h:2\",\
                    \"pid\":6}]}\n{\"event\":\"ended\",\"id\":1,\"pid\":5}\n{\"event\":\"started\",\"id\":1,\"pid\":9}\n\
                    {\"event\":\"sta";
        let expected = BTreeMap::from([("h:1".to_owned(), 9), ("h:2".to_owned(), 6)]);
        assert_eq!(parse_dev(text), Some(expected));
        assert_eq!(parse_dev("{}\n"), None);
        assert_eq!(parse_dev(""), None);
    }
}
