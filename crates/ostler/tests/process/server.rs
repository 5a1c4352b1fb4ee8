//! A child process that serves.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ostler_client::{Client, ConnectOptions, Session};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::mpsc::UnboundedReceiver;

/// How long a test waits for something that must happen. Only a bug makes it wait that long.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A server, killed with the test if it still runs.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    /// What it has printed until it served.
    pub greeting: String,
    log: Arc<Mutex<String>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

/// A configuration file in `dir` with its data there too.
pub fn write_config(dir: &Path, settings: &str) -> PathBuf {
    let text = format!(
        "dataDir={}\nclientPortAddress=127.0.0.1\nclientPort=0\npreAllocSize=1024\nmaxClientCnxns=0\n\
         4lw.commands.whitelist=*\n{settings}\n",
        dir.join("data").display()
    );
    let path = dir.join("zoo.cfg");
    std::fs::write(&path, text).unwrap();
    path
}

pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ostler"));
    command.env_remove("OSTLER_LOG");
    command
}

/// Runs a command to its end.
pub fn run(arguments: &[&str]) -> Output {
    command().args(arguments).output().unwrap()
}

impl Server {
    /// Starts on `dir` and waits until it serves.
    pub fn start(dir: &Path, settings: &str) -> Server {
        let config = write_config(dir, settings);
        Server::spawn(command().arg("serve").arg(config))
    }

    /// Runs `command`, which must become a server.
    pub fn spawn(command: &mut Command) -> Server {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let mut stderr = child.stderr.take().unwrap();
        let reader = std::thread::spawn({
            let log = log.clone();
            move || {
                let mut chunk = [0; 4096];
                while let Ok(count @ 1..) = stderr.read(&mut chunk) {
                    log.lock().unwrap().push_str(&String::from_utf8_lossy(&chunk[..count]));
                }
            }
        });
        let mut greeting = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        while !greeting.contains("stop:") {
            if stdout.read_line(&mut greeting).unwrap() == 0 {
                let status = child.wait().unwrap();
                reader.join().unwrap();
                panic!("it did not start ({status}): {greeting}{}", log.lock().unwrap());
            }
        }
        let first = greeting.lines().next().unwrap();
        let address = first.rsplit(' ').next().unwrap().parse().unwrap();
        Server { child, address, greeting, log, reader: Some(reader) }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end; its status and its log.
    pub fn wait(mut self) -> (ExitStatus, String) {
        let status = self.child.wait().unwrap();
        self.reader.take().unwrap().join().unwrap();
        let log = self.log.lock().unwrap().clone();
        (status, log)
    }

    /// SIGTERM and the end; it must go well.
    pub fn stop(self) -> String {
        self.signal(Signal::TERM);
        let (status, log) = self.wait();
        assert_eq!(status.code(), Some(0), "{log}");
        log
    }

    /// Waits until the log has a line with `text`.
    pub fn wait_for_log(&self, text: &str) {
        wait_for(&format!("{text:?} in the log"), || self.log.lock().unwrap().contains(text));
    }

    /// A client with a new session.
    pub async fn client(&self) -> Client {
        self.connect(30_000, None).await.0
    }

    pub async fn connect(
        &self,
        timeout_ms: u64,
        resume: Option<Session>,
    ) -> (Client, UnboundedReceiver<ostler_client::Event>) {
        let options = ConnectOptions {
            session_timeout: Duration::from_millis(timeout_ms),
            connect_timeout: PATIENCE,
            resume,
            ..ConnectOptions::default()
        };
        Client::connect(self.address, &options).await.unwrap()
    }

    /// The process's memory now, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails if it has ended, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "waited for {what}");
        // Leaves the processor to the process that is waited for.
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
