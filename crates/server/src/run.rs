//! The server as a process: start message, signals, exit.

use std::io::Write as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::Sender;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::config::{EnsembleConfig, Loaded, ServerConfig};
use crate::server::{Server, StartError};

/// Runs a server until SIGTERM or SIGINT, then stops it gracefully; a second signal, or one before it serves, ends
/// the process at once.
///
/// # Errors
/// The server did not start.
pub fn run(loaded: Loaded) -> Result<(), StartError> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let handle = signals.handle();
    let phase = Arc::new(AtomicU8::new(STARTING));
    let (first_sender, first) = std::sync::mpsc::channel();
    // Before anything that takes long: a start may read gigabytes.
    let watcher = std::thread::spawn({
        let phase = phase.clone();
        move || signals.forever().for_each(|signal| on_signal(signal, &phase, &first_sender))
    });
    loaded.log_notes();
    let config = loaded.config;
    let message = StartMessage::new(&config);
    let server = Server::start(config).inspect_err(|_| handle.close())?;
    phase.store(SERVING, Ordering::Relaxed);
    if server.wait_until_serving(|| phase.load(Ordering::Relaxed) != SERVING) {
        message.print(&server);
    }
    // The watcher sends it before it can end.
    let signal = first.recv().ok();
    tracing::info!(signal, "stopping: finishing requests in flight; a second signal stops at once");
    server.stop();
    phase.store(STOPPED, Ordering::Relaxed);
    handle.close();
    if watcher.join().is_err() {
        tracing::error!("the thread that watches for signals had panicked");
    }
    tracing::info!("stopped");
    Ok(())
}

/// Sends this process SIGTERM when its standard input ends: with a pipe there, when whoever holds the other end is
/// gone, whatever ended it.
pub fn stop_when_input_ends() {
    std::thread::spawn(|| {
        // An input that cannot be read has ended as well.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        tracing::info!("standard input has ended");
        if let Err(error) =
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM)
        {
            crate::die(crate::EXIT_FAILURE, format_args!("cannot stop gracefully: {error}"));
        }
    });
}

/// What a signal means: it ends the start, then begins the stop, then cuts that short.
const STARTING: u8 = 0;
const SERVING: u8 = 1;
const STOPPING: u8 = 2;
const STOPPED: u8 = 3;

fn on_signal(signal: i32, phase: &AtomicU8, first: &Sender<i32>) {
    match phase.load(Ordering::Relaxed) {
        STARTING => {
            tracing::warn!(signal, "stopping before it served; the data is as it was");
            crate::exit(crate::EXIT_FAILURE);
        }
        SERVING => {
            phase.store(STOPPING, Ordering::Relaxed);
            // Received, or nobody waits for it any more.
            let _ = first.send(signal);
        }
        STOPPING => {
            tracing::warn!(signal, "second signal: stopping at once; acknowledged writes are safe");
            crate::exit(crate::EXIT_FAILURE);
        }
        _ => {}
    }
}

/// What a newcomer wants to know once the server runs. On standard output, apart from the log.
struct StartMessage {
    data_dir: std::path::PathBuf,
    data_log_dir: std::path::PathBuf,
    /// Which server this is, of an ensemble.
    member: Option<String>,
}

impl StartMessage {
    fn new(config: &ServerConfig) -> StartMessage {
        StartMessage {
            data_dir: config.data.data_dir.clone(),
            data_log_dir: config.data.data_log_dir.clone(),
            member: config.ensemble.as_ref().filter(|ensemble| ensemble.servers.len() > 1).map(member),
        }
    }

    fn print(self, server: &Server) {
        let address = server.address();
        tracing::info!(%address, "serving");
        if let Some(address) = server.linearizable_address() {
            tracing::info!(%address, "serving linearizable reads");
        }
        if let Some(address) = server.metrics_address() {
            tracing::info!(%address, path = "/metrics", "serving metrics over plain HTTP, to whoever can reach it");
        }
        let host = match address.ip() {
            ip if ip.is_unspecified() => "127.0.0.1".into(),
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        let absolute = |path: &std::path::Path| {
            std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).display().to_string()
        };
        let mut text = format!(
            "Ostler {} is serving on {address}\n  data:    {}\n",
            env!("CARGO_PKG_VERSION"),
            absolute(&self.data_dir)
        );
        if self.data_log_dir != self.data_dir {
            text += &format!("  log:     {}\n", absolute(&self.data_log_dir));
        }
        if let Some(member) = self.member {
            text += &format!("  member:  {member}\n");
        }
        text += &format!(
            "  connect: any ZooKeeper client, connection string {host}:{port}\n  look:    echo srvr | nc {bare} {port}\n  \
             stop:    Ctrl-C (sessions and data stay)\n",
            port = address.port(),
            bare = host.trim_matches(['[', ']'])
        );
        // Nobody may be reading; the server serves all the same.
        let _ = std::io::stdout().write_all(text.as_bytes());
    }
}

/// Which server of its ensemble this is, and what its operator must know of its other port.
fn member(ensemble: &EnsembleConfig) -> String {
    let this = ensemble.this();
    let port = this.addresses.first().map_or(0, |address| address.quorum_port);
    format!(
        "server {} of {} ({}); port {port} is for the other servers, plain and unauthenticated: shield it from others",
        ensemble.server_id,
        ensemble.servers.len(),
        this.role
    )
}
