//! An ensemble whose servers a test starts, kills and pauses one by one.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use ostler_client::{Client, ConnectError, ConnectOptions, Session};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::server::{PATIENCE, command, wait_for};

/// Made by `ostler dev`; each server a child of the test. All are killed with it.
pub struct Ensemble {
    pub servers: Vec<Member>,
    /// Removed at the end.
    _dir: Option<tempfile::TempDir>,
}

/// One server, running or not.
pub struct Member {
    pub id: u8,
    pub address: String,
    pub data_dir: PathBuf,
    config_file: PathBuf,
    log_file: PathBuf,
    child: Option<Child>,
}

/// A plan for `servers` servers in `dir`, with its data directories empty.
fn plan(dir: &Path, servers: u8, settings: &[&str]) -> Vec<Member> {
    // It writes its plan and is stopped before or while the servers form an ensemble; what they did is undone.
    let mut dev = command();
    dev.args(["dev", "--json", "--servers", &servers.to_string(), "--dir"]).arg(dir);
    for setting in settings {
        dev.args(["--set", setting]);
    }
    let mut dev = dev.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for("the plan", || dir.join("ensemble.json").exists());
    kill_process(Pid::from_child(&dev), Signal::TERM).unwrap();
    dev.wait().unwrap();
    let plan: Value = serde_json::from_slice(&fs::read(dir.join("ensemble.json")).unwrap()).unwrap();
    let member = |value: &Value| {
        let id = value["id"].as_u64().unwrap().try_into().unwrap();
        let home = dir.join(format!("server-{id}"));
        let member = Member {
            id,
            address: format!("127.0.0.1:{}", value["client_port"]),
            data_dir: home.join("data"),
            config_file: home.join("zoo.cfg"),
            log_file: home.join("server.log"),
            child: None,
        };
        member.wipe();
        let _ = fs::remove_file(&member.log_file);
        member
    };
    plan.as_array().unwrap().iter().map(member).collect()
}

impl Ensemble {
    /// Three servers that serve.
    pub fn form(settings: &[&str]) -> Ensemble {
        let dir = tempfile::tempdir().unwrap();
        let mut ensemble = Ensemble { servers: plan(dir.path(), 3, settings), _dir: Some(dir) };
        ensemble.servers.iter_mut().for_each(Member::start);
        ensemble.wait_until_all_serve();
        ensemble
    }

    /// Waits until all servers that run serve and one of them leads; which one.
    #[track_caller]
    pub fn wait_until_all_serve(&self) -> usize {
        let started = Instant::now();
        loop {
            let running: Vec<usize> = (0..self.servers.len()).filter(|&at| self.servers[at].runs()).collect();
            let modes: Vec<_> = running.iter().map(|&at| self.servers[at].mode()).collect();
            let leaders: Vec<_> =
                running.iter().zip(&modes).filter(|(_, mode)| mode.as_deref() == Some("leader")).collect();
            if let [(leader, _)] = leaders[..]
                && modes.iter().all(Option::is_some)
            {
                return *leader;
            }
            if started.elapsed() > PATIENCE {
                let logs = self.servers.iter().map(Member::log).collect::<Vec<_>>().join("\n");
                panic!("servers {running:?} are {modes:?}\n{logs}");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// A server that does not lead.
    pub fn follower(&self) -> usize {
        (self.wait_until_all_serve() + 1) % self.servers.len()
    }
}

impl Member {
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "server {} runs", self.id);
        let log = || File::options().append(true).create(true).open(&self.log_file).unwrap();
        let mut serve = command();
        serve.arg("serve").arg("--stop-on-eof").arg(&self.config_file);
        serve.stdin(Stdio::piped()).stdout(log()).stderr(log());
        self.child = Some(serve.spawn().unwrap());
    }

    pub fn runs(&self) -> bool {
        self.child.is_some()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.child.as_ref().unwrap()), signal).unwrap();
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM and the end, which must go well.
    #[track_caller]
    pub fn stop(&mut self) {
        self.signal(Signal::TERM);
        assert_eq!(self.wait().code(), Some(0), "{}", self.log());
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let mut child = self.child.take().unwrap();
        // Held until then: at the end of its input it would stop.
        let _input = child.stdin.take();
        child.wait().unwrap()
    }

    /// Everything it has logged since it was made.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log_file).unwrap_or_default()
    }

    #[track_caller]
    pub fn wait_for_log(&self, text: &str) {
        let started = Instant::now();
        while !self.log().contains(text) {
            assert!(started.elapsed() < PATIENCE, "{text:?} is not in the log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Empties its disk: only its number is left.
    pub fn wipe(&self) {
        fs::remove_dir_all(&self.data_dir).unwrap();
        fs::create_dir(&self.data_dir).unwrap();
        fs::write(self.data_dir.join("myid"), format!("{}\n", self.id)).unwrap();
    }

    /// A copy of what another disk holds, or held; only its number stays.
    pub fn restore(&self, from: &Path) {
        self.wipe();
        copy_files(&from.join("ostler"), &self.data_dir.join("ostler"));
    }

    /// Saves what its disk holds.
    pub fn back_up(&self, to: &Path) {
        copy_files(&self.data_dir.join("ostler"), &to.join("ostler"));
    }

    /// `leader`, `follower`, or none if it does not serve.
    pub fn mode(&self) -> Option<String> {
        let answer = self.ask("srvr");
        answer.lines().find_map(|line| line.strip_prefix("Mode: ")).map(str::to_owned)
    }

    /// The answer to a four-letter word; empty if it cannot be asked.
    pub fn ask(&self, word: &str) -> String {
        let ask = || -> std::io::Result<String> {
            let mut socket = TcpStream::connect(&self.address)?;
            socket.set_read_timeout(Some(Duration::from_secs(2)))?;
            socket.write_all(word.as_bytes())?;
            let mut answer = String::new();
            socket.read_to_string(&mut answer)?;
            Ok(answer)
        };
        ask().unwrap_or_default()
    }

    /// A client with a new session.
    pub async fn client(&self) -> Client {
        self.connect(30_000, None).await
    }

    /// Tries until the server takes the session.
    pub async fn connect(&self, timeout_ms: u64, resume: Option<Session>) -> Client {
        let started = Instant::now();
        loop {
            match self.try_connect(timeout_ms, resume.clone()).await {
                Ok(client) => return client,
                Err(ConnectError::SessionExpired) => panic!("the session has expired"),
                Err(error) => {
                    assert!(started.elapsed() < PATIENCE, "server {}: {error}\n{}", self.id, self.log());
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
    }

    pub async fn try_connect(
        &self,
        timeout_ms: u64,
        resume: Option<Session>,
    ) -> Result<Client, ConnectError> {
        let options = ConnectOptions {
            session_timeout: Duration::from_millis(timeout_ms),
            resume,
            ..ConnectOptions::default()
        };
        Ok(Client::connect(&self.address, &options).await?.0)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Fails if it has ended, which is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn copy_files(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
