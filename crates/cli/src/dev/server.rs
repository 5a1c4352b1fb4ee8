//! One server: its process, its output, and whether it serves.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use super::output;
use super::plan::{Member, Plan};
use super::{DevError, Result, file};

/// Pause between two looks whether a server serves.
const PROBE_PAUSE: Duration = Duration::from_millis(50);
/// How long a server may take to answer one.
const PROBE_PATIENCE: Duration = Duration::from_secs(1);
/// Most bytes of an answer that are read; real ones have some hundred.
const MAX_ANSWER_BYTES: u64 = 1 << 16;

/// What the supervisor waits for. `run` tells the processes of a server apart.
#[derive(Debug)]
pub(super) enum Event {
    /// This program was sent a signal.
    Signal,
    /// A server's process has ended and waits to be waited for.
    Ended { id: u8, run: u32 },
    /// A server serves clients.
    Serving { id: u8, run: u32 },
}

/// A server's process. Killed when dropped.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    /// Copies what the process logs, to its end.
    copier: Option<JoinHandle<()>>,
    /// Dropped with the server, which ends the thread that asks whether it serves.
    _probing: Sender<()>,
}

impl Server {
    /// Starts `program` as server `member`. Its log goes to its file and, with `echo`, to standard error.
    pub(super) fn start(
        program: &Path,
        plan: &Plan,
        member: &Member,
        run: u32,
        echo: bool,
        events: &Sender<Event>,
    ) -> Result<Server> {
        let id = member.id;
        let path = plan.log_file(member);
        let open =
            || OpenOptions::new().append(true).create(true).open(&path).map_err(|error| file(&path, error));
        let mut command = Command::new(program);
        command.arg("serve").arg("--stop-on-eof").arg(plan.config_file(member));
        // The pipe ends with this process, however that ends, and with it the server. In a group of its own Ctrl-C does
        // not reach it, so that all are stopped in one way; and should it be paused when this process ends, the system
        // wakes it up with SIGHUP.
        command.stdin(Stdio::piped()).process_group(0);
        command.stdout(open()?).stderr(if echo { Stdio::piped() } else { open()?.into() });
        let mut child = command.spawn().map_err(DevError::Start)?;
        let pid = Pid::from_child(&child);
        let log = open()?;
        let copier =
            child.stderr.take().map(|stderr| std::thread::spawn(move || copy_lines(id, stderr, log)));
        let ended = events.clone();
        std::thread::spawn(move || {
            wait_for_end(pid);
            // Nobody listens once everything stops.
            let _ = ended.send(Event::Ended { id, run });
        });
        let (probing, stopped) = channel();
        let (serving, address) =
            (events.clone(), SocketAddr::from((Ipv4Addr::LOCALHOST, member.client_port)));
        std::thread::spawn(move || {
            if wait_until_it_serves(address, &stopped) {
                let _ = serving.send(Event::Serving { id, run });
            }
        });
        Ok(Server { child, copier, _probing: probing })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to stop, paused or not.
    pub(super) fn stop(&self) {
        let pid = Pid::from_child(&self.child);
        // It is not waited for before it has ended, so this is its pid; if it has ended, all is well.
        let _ = kill_process(pid, Signal::TERM);
        let _ = kill_process(pid, Signal::CONT);
    }

    /// How it ended; waits for that, and until its last line is copied.
    pub(super) fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait()?;
        if let Some(copier) = self.copier.take() {
            // It has no way to fail.
            let _ = copier.join();
        }
        Ok(status)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails if it has been waited for.
        let _ = self.child.kill();
        let _ = self.wait();
    }
}

/// Returns when the process has ended, and leaves it to be waited for: until then its pid is not another's.
fn wait_for_end(pid: Pid) {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    while waitid(WaitId::Pid(pid), options).is_err_and(|error| error == rustix::io::Errno::INTR) {}
}

fn copy_lines(id: u8, stderr: ChildStderr, mut log: File) {
    let mut lines = BufReader::new(stderr);
    let mut line = Vec::new();
    while let Ok(1..) = lines.read_until(b'\n', &mut line) {
        // A full disk must not stop the server, which waits for whoever reads this.
        let _ = log.write_all(&line);
        output::server_line(id, &line);
        line.clear();
    }
}

/// Whether it serves; `false` when `stopped` ends before that.
fn wait_until_it_serves(address: SocketAddr, stopped: &Receiver<()>) -> bool {
    while !serves(address) {
        if stopped.recv_timeout(PROBE_PAUSE) == Err(RecvTimeoutError::Disconnected) {
            return false;
        }
    }
    true
}

/// Whether the server knows what it is: until then it answers `srvr` with one line that says it does not serve.
fn serves(address: SocketAddr) -> bool {
    let ask = || -> io::Result<Vec<u8>> {
        let mut socket = TcpStream::connect_timeout(&address, PROBE_PATIENCE)?;
        socket.set_read_timeout(Some(PROBE_PATIENCE))?;
        socket.write_all(b"srvr")?;
        let mut answer = Vec::new();
        socket.take(MAX_ANSWER_BYTES).read_to_end(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| String::from_utf8_lossy(&answer).contains("\nMode: "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_serves_when_it_says_its_mode() {
        for (answer, expected) in [
            ("Zookeeper version: 3\nLatency\nMode: follower\nNode count: 5\n", true),
            ("This ZooKeeper instance is not currently serving requests\n", false),
            ("", false),
        ] {
            let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let address = listener.local_addr().unwrap();
            let served = std::thread::spawn(move || {
                let (mut socket, _) = listener.accept().unwrap();
                let mut question = [0; 4];
                socket.read_exact(&mut question).unwrap();
                socket.write_all(answer.as_bytes()).unwrap();
                question
            });
            assert_eq!(serves(address), expected, "{answer:?}");
            assert_eq!(&served.join().unwrap(), b"srvr");
        }
    }
}
