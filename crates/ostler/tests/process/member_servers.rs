//! Servers of one ensemble, each a process, on loopback.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use ostler_client::{Client, ConnectOptions};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::server::{PATIENCE, command, run, text, wait_for};

/// `super:secret`.
const SUPER_DIGEST: &str = "super:lK75jTNcA+U9vtVEw5vB51mj/w4=";

/// The directories and addresses of servers, and those that run. They are killed with the test.
pub struct Ensemble {
    dir: tempfile::TempDir,
    ports: BTreeMap<u8, [u16; 3]>,
    running: BTreeMap<u8, Child>,
}

impl Ensemble {
    /// Room for the servers 1 to `count`; none runs.
    pub fn new(count: u8) -> Ensemble {
        // All at once, so that they differ.
        let listeners: Vec<_> = (0..usize::from(count) * 3)
            .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap())
            .collect();
        let ports: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        let ports = (1..=count).zip(ports.chunks(3).map(|three| three.try_into().unwrap())).collect();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("auth"), "super:secret\n").unwrap();
        Ensemble { dir, ports, running: BTreeMap::new() }
    }

    /// A port of this server that its configuration may use for something else: the election port stays closed.
    pub fn spare_address(&self, id: u8) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports[&id][2]).into()
    }

    pub fn address(&self, id: u8) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports[&id][0]).into()
    }

    /// `host:port:port:role;host:port`.
    pub fn spec(&self, id: u8, role: &str) -> String {
        let [client, quorum, election] = self.ports[&id];
        format!("127.0.0.1:{quorum}:{election}:{role};127.0.0.1:{client}")
    }

    /// As `reconfig --add` takes it.
    pub fn member(&self, id: u8, role: &str) -> String {
        format!("{id}={}", self.spec(id, role))
    }

    pub fn server_dir(&self, id: u8) -> PathBuf {
        self.dir.path().join(format!("server-{id}"))
    }

    /// Writes the configuration of a server, with lines for `members`.
    pub fn configure(&self, id: u8, members: &[(u8, &str)], settings: &str) {
        let lines: Vec<_> =
            members.iter().map(|&(id, role)| format!("server.{id}={}\n", self.spec(id, role))).collect();
        self.write_config(id, &format!("{settings}\n{}", lines.concat()));
    }

    /// Writes a configuration without server lines.
    pub fn configure_standalone(&self, id: u8) {
        let address = self.address(id);
        self.write_config(
            id,
            &format!("clientPortAddress={}\nclientPort={}\n", address.ip(), address.port()),
        );
    }

    fn write_config(&self, id: u8, settings: &str) {
        let data = self.server_dir(id).join("data");
        std::fs::create_dir_all(&data).unwrap();
        std::fs::write(data.join("myid"), format!("{id}\n")).unwrap();
        let text = format!(
            "dataDir={}\npreAllocSize=1024\nmaxClientCnxns=0\n4lw.commands.whitelist=*\nreconfigEnabled=true\n\
             DigestAuthenticationProvider.superDigest={SUPER_DIGEST}\n{settings}\n",
            data.display()
        );
        std::fs::write(self.config_file(id), text).unwrap();
    }

    pub fn config_file(&self, id: u8) -> PathBuf {
        self.server_dir(id).join("zoo.cfg")
    }

    /// Starts a server. It may not serve for a long time.
    pub fn start(&mut self, id: u8) {
        let mut log = File::options();
        let log = log.append(true).create(true).open(self.log_file(id)).unwrap();
        let mut command = command();
        command.arg("serve").arg(self.config_file(id)).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let before = self.running.insert(id, command.spawn().unwrap());
        assert!(before.is_none(), "server {id} runs");
    }

    /// Configures and starts servers that form an ensemble, and waits until they serve.
    pub fn form(&mut self, ids: &[u8], settings: &str) {
        let members: Vec<_> = ids.iter().map(|&id| (id, "participant")).collect();
        for &id in ids {
            self.configure(id, &members, settings);
            self.start(id);
        }
        for &id in ids {
            self.wait_for_mode(id, &["leader", "follower"]);
        }
    }

    fn log_file(&self, id: u8) -> PathBuf {
        self.server_dir(id).join("log")
    }

    pub fn log(&self, id: u8) -> String {
        std::fs::read_to_string(self.log_file(id)).unwrap_or_default()
    }

    pub fn wait_for_log(&self, id: u8, text: &str) {
        wait_for(&format!("{text:?} in the log of server {id}:\n{}", self.log(id)), || {
            self.log(id).contains(text)
        });
    }

    pub fn signal(&self, id: u8, signal: Signal) {
        kill_process(Pid::from_child(&self.running[&id]), signal).unwrap();
    }

    /// `kill -9`.
    pub fn kill(&mut self, id: u8) {
        let mut child = self.running.remove(&id).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM and the end.
    pub fn stop(&mut self, id: u8) {
        self.signal(id, Signal::TERM);
        let status = self.running.remove(&id).unwrap().wait().unwrap();
        assert_eq!(status.code(), Some(0), "{}", self.log(id));
    }

    /// Removes all data of a server that does not run, except `myid`.
    pub fn wipe(&self, id: u8) {
        std::fs::remove_dir_all(self.server_dir(id).join("data/ostler")).unwrap();
    }

    /// What a four-letter word is answered; empty if nothing is.
    pub fn word(&self, id: u8, word: &str) -> String {
        let ask = || {
            let mut socket = TcpStream::connect(self.address(id))?;
            socket.set_read_timeout(Some(Duration::from_secs(5)))?;
            socket.write_all(word.as_bytes())?;
            let mut answer = String::new();
            socket.read_to_string(&mut answer)?;
            std::io::Result::Ok(answer)
        };
        ask().unwrap_or_default()
    }

    /// What a server says it is, if it serves.
    pub fn mode(&self, id: u8) -> Option<String> {
        let answer = self.word(id, "srvr");
        answer.lines().find_map(|line| line.strip_prefix("Mode: ")).map(str::to_owned)
    }

    pub fn wait_for_mode(&self, id: u8, modes: &[&str]) {
        let started = std::time::Instant::now();
        loop {
            let mode = self.mode(id);
            if mode.as_deref().is_some_and(|mode| modes.contains(&mode)) {
                return;
            }
            assert!(
                started.elapsed() < PATIENCE,
                "server {id} is {mode:?}, not {modes:?}:\n{}",
                self.log(id)
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The server of `ids` that leads.
    pub fn leader(&self, ids: &[u8]) -> u8 {
        let mut leader = None;
        wait_for("a leader", || {
            leader = ids.iter().copied().find(|&id| self.mode(id).as_deref() == Some("leader"));
            leader.is_some()
        });
        leader.unwrap()
    }

    /// Runs `ostler reconfig` through a server; the members after it, or what was refused.
    pub fn reconfig(&self, through: u8, arguments: &[&str]) -> Result<Vec<u8>, String> {
        let (server, auth) = (self.address(through).to_string(), self.dir.path().join("auth"));
        let mut all = vec!["reconfig", "--json", "--server", &server, "--auth-file", auth.to_str().unwrap()];
        all.extend(arguments);
        let output = run(&all);
        if output.status.success() { Ok(ids(&text(&output.stdout))) } else { Err(text(&output.stderr)) }
    }

    /// Adds a server in a role.
    pub fn add(&self, through: u8, id: u8, role: &str) -> Result<Vec<u8>, String> {
        self.reconfig(through, &["--add", &self.member(id, role)])
    }

    /// The members, as a server tells them.
    pub fn members(&self, through: u8) -> Vec<u8> {
        let output = run(&["config", "--json", "--server", &self.address(through).to_string()]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        ids(&text(&output.stdout))
    }

    pub async fn client(&self, id: u8) -> Client {
        self.connect(id, ConnectOptions::default()).await
    }

    pub async fn connect(&self, id: u8, options: ConnectOptions) -> Client {
        let options = ConnectOptions { connect_timeout: PATIENCE, ..options };
        let started = std::time::Instant::now();
        loop {
            match Client::connect(self.address(id), &options).await {
                Ok((client, _)) => return client,
                Err(error) => assert!(started.elapsed() < PATIENCE, "server {id}: {error}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Ensemble {
    fn drop(&mut self) {
        for child in self.running.values_mut() {
            // Fails if it has ended, which is as good.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            for id in self.ports.keys() {
                eprintln!("--- server {id}\n{}", self.log(*id));
            }
        }
    }
}

/// The server ids in the answer of `config` and `reconfig`.
fn ids(json: &str) -> Vec<u8> {
    let answer: Value = serde_json::from_str(json).unwrap();
    answer["servers"].as_array().unwrap().iter().map(|server| server["id"].as_u64().unwrap() as u8).collect()
}
