//! The server as a process: start message, signals, exit.

use std::io::Write as _;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::config::{Loaded, ServerConfig};
use crate::server::{Server, StartError};

/// Runs a server until SIGTERM or SIGINT, then stops it gracefully; a second signal ends the process at once.
///
/// # Errors
/// The server did not start.
pub fn run(loaded: Loaded) -> Result<(), StartError> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    loaded.log_notes();
    let config = loaded.config;
    let message = StartMessage::new(&config);
    let server = Server::start(config)?;
    message.print(&server);
    let first = signals.forever().next();
    tracing::info!(signal = first, "stopping: finishing requests in flight; a second signal stops at once");
    let (done_sender, done) = std::sync::mpsc::channel();
    let handle = signals.handle();
    let watcher = std::thread::spawn(move || {
        if signals.forever().next().is_some() && done.try_recv().is_err() {
            tracing::warn!("second signal: stopping at once; acknowledged writes are safe");
            std::process::exit(crate::EXIT_FAILURE);
        }
    });
    server.stop();
    // The watcher ends with its signals.
    let _ = done_sender.send(());
    handle.close();
    if watcher.join().is_err() {
        tracing::error!("the thread that watches for signals had panicked");
    }
    tracing::info!("stopped");
    Ok(())
}

/// What a newcomer wants to know once the server runs. On standard output, apart from the log.
struct StartMessage {
    data_dir: std::path::PathBuf,
    data_log_dir: std::path::PathBuf,
}

impl StartMessage {
    fn new(config: &ServerConfig) -> StartMessage {
        StartMessage {
            data_dir: config.data.data_dir.clone(),
            data_log_dir: config.data.data_log_dir.clone(),
        }
    }

    fn print(self, server: &Server) {
        let address = server.address();
        let host = if address.ip().is_unspecified() { "127.0.0.1".into() } else { address.ip().to_string() };
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
        text += &format!(
            "  connect: any ZooKeeper client, connection string {host}:{port}\n  look:    echo srvr | nc {host} {port}\n  \
             stop:    Ctrl-C (sessions and data stay)\n",
            port = address.port()
        );
        // Nobody may be reading; the server serves all the same.
        let _ = std::io::stdout().write_all(text.as_bytes());
    }
}
