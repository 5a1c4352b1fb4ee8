//! The listening socket: admits connections and deals them out to the workers.

use std::io::ErrorKind;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mio::{Events, Interest, Poll, Token, Waker};
use ostler_node::ShardStats;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use crate::admission::{Gate, Refusal};
use crate::config::{ListenAddress, ListenConfig};
use crate::worker::{WorkerHandle, WorkerMessage};

const WAKE: Token = Token(0);
/// The first listener; the others follow.
const LISTENER: usize = 1;
/// Connections the kernel keeps waiting for us; it caps this at `net.core.somaxconn`. ZooKeeper leaves it at
/// Java's 50, which a reconnect storm overruns at once.
const DEFAULT_BACKLOG: i32 = 4096;
/// After running out of file descriptors.
const BACK_OFF: Duration = Duration::from_millis(100);

/// Why a port cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}{}: {source}; {}", port_use.purpose(), remedy(*port_use, source))]
pub struct ListenError {
    port_use: PortUse,
    address: String,
    source: std::io::Error,
}

/// What a port is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PortUse {
    /// `clientPort`.
    Clients,
    /// `linearizableClientPort`.
    Linearizable,
    /// `metricsProvider.httpPort`.
    Metrics,
}

impl PortUse {
    fn purpose(self) -> &'static str {
        match self {
            PortUse::Clients => "",
            PortUse::Linearizable => " for linearizable reads",
            PortUse::Metrics => " for metrics",
        }
    }

    /// The settings that choose the port, and the address.
    fn settings(self) -> (&'static str, &'static str) {
        match self {
            PortUse::Clients => ("clientPort or --listen", "clientPortAddress or --listen"),
            PortUse::Linearizable => ("linearizableClientPort", "clientPortAddress or --listen"),
            PortUse::Metrics => ("metricsProvider.httpPort", "metricsProvider.httpHost"),
        }
    }
}

fn remedy(port_use: PortUse, error: &std::io::Error) -> String {
    let (port, address) = port_use.settings();
    match error.kind() {
        ErrorKind::AddrInUse => {
            format!("another server is running there: stop it, or choose another port with {port}")
        }
        ErrorKind::PermissionDenied => {
            format!("ports below 1024 need privileges: choose another with {port}")
        }
        _ => format!("{address} must name an address of this machine, or none for every interface"),
    }
}

/// The client ports, open but not yet served.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: std::net::TcpListener,
    linearizable: Option<std::net::TcpListener>,
    keep_alive: bool,
}

impl Listener {
    /// Opens the ports. Until [`Acceptor::run`] the kernel queues who connects.
    pub(crate) fn bind(config: &ListenConfig) -> Result<Listener, ListenError> {
        let backlog = config.backlog.map_or(DEFAULT_BACKLOG, |n| n.get() as i32);
        let socket = bind(PortUse::Clients, &config.client, backlog)?;
        let linearizable = config
            .linearizable
            .as_ref()
            .map(|address| bind(PortUse::Linearizable, address, backlog))
            .transpose()?;
        Ok(Listener { socket, linearizable, keep_alive: config.tcp_keep_alive })
    }

    /// Where reads are linearizable, if there is such a port.
    pub(crate) fn linearizable_address(&self) -> std::io::Result<Option<SocketAddr>> {
        self.linearizable.as_ref().map(std::net::TcpListener::local_addr).transpose()
    }

    pub(crate) fn address(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

impl Listener {
    /// Hangs up on whoever connects, until what is returned is dropped: a client of an ensemble that has to wait here,
    /// while this server reads its data or waits for its cluster, should try another server instead.
    pub(crate) fn turn_away(&self) -> std::io::Result<TurnAway> {
        let mut sockets = vec![self.socket.try_clone()?];
        if let Some(linearizable) = &self.linearizable {
            sockets.push(linearizable.try_clone()?);
        }
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new().name("ostler-turn-away".to_owned()).spawn({
            let stop = stop.clone();
            move || {
                while !stop.load(Ordering::Relaxed) {
                    for socket in &sockets {
                        while let Ok((stream, _)) = socket.accept() {
                            drop(stream);
                        }
                    }
                    std::thread::sleep(TURN_AWAY_PAUSE);
                }
            }
        })?;
        Ok(TurnAway { stop, thread: Some(thread) })
    }
}

/// See [`Listener::turn_away`].
pub(crate) struct TurnAway {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for TurnAway {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It only accepts and closes.
            let _ = thread.join();
        }
    }
}

/// How long somebody may wait to be turned away.
const TURN_AWAY_PAUSE: std::time::Duration = std::time::Duration::from_millis(20);

/// Opens a port, not blocking, on which the kernel queues at most `backlog` connections.
pub(crate) fn bind(
    port_use: PortUse,
    address: &ListenAddress,
    backlog: i32,
) -> Result<std::net::TcpListener, ListenError> {
    let fail = |source| ListenError { port_use, address: address.to_string(), source };
    bind_first(address, backlog).map_err(fail)
}

fn bind_first(address: &ListenAddress, backlog: i32) -> std::io::Result<std::net::TcpListener> {
    let candidates: Vec<SocketAddr> = match &address.host {
        Some(host) => (host.as_str(), address.port).to_socket_addrs()?.collect(),
        // One socket for both families where the system has IPv6.
        None => vec![SocketAddr::from(([0u16; 8], address.port)), SocketAddr::from(([0u8; 4], address.port))],
    };
    let mut last = std::io::Error::new(ErrorKind::NotFound, "the host has no address");
    for candidate in candidates {
        let attempt = || {
            let socket = Socket::new(Domain::for_address(candidate), Type::STREAM, Some(Protocol::TCP))?;
            socket.set_reuse_address(true)?;
            if candidate.is_ipv6() {
                socket.set_only_v6(address.host.is_some())?;
            }
            socket.bind(&candidate.into())?;
            socket.listen(backlog)?;
            socket.set_nonblocking(true)?;
            Ok(std::net::TcpListener::from(socket))
        };
        match attempt() {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// See the module's documentation.
pub(crate) struct Acceptor {
    poll: Poll,
    /// With whether it is the one for linearizable reads.
    listeners: Vec<(mio::net::TcpListener, bool)>,
    keep_alive: bool,
    gate: Arc<Gate>,
    workers: Vec<(WorkerHandle, Arc<ShardStats>)>,
    next: usize,
    stop: Arc<AtomicBool>,
}

/// Stops the acceptor.
pub(crate) struct AcceptorHandle {
    stop: Arc<AtomicBool>,
    waker: Waker,
}

impl AcceptorHandle {
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        // Fails only if the acceptor is gone.
        let _ = self.waker.wake();
    }
}

impl Acceptor {
    pub(crate) fn new(
        listener: Listener,
        gate: Arc<Gate>,
        workers: Vec<(WorkerHandle, Arc<ShardStats>)>,
    ) -> std::io::Result<(Acceptor, AcceptorHandle)> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKE)?;
        let keep_alive = listener.keep_alive;
        let sockets = [Some((listener.socket, false)), listener.linearizable.map(|socket| (socket, true))];
        let mut listeners = Vec::new();
        for (index, (socket, is_linearizable)) in sockets.into_iter().flatten().enumerate() {
            let mut listener = mio::net::TcpListener::from_std(socket);
            poll.registry().register(&mut listener, Token(LISTENER + index), Interest::READABLE)?;
            listeners.push((listener, is_linearizable));
        }
        let stop = Arc::new(AtomicBool::new(false));
        let acceptor = Acceptor { poll, listeners, keep_alive, gate, workers, next: 0, stop: stop.clone() };
        Ok((acceptor, AcceptorHandle { stop, waker }))
    }

    /// Accepts until told to stop.
    pub(crate) fn run(mut self) {
        let mut events = Events::with_capacity(4);
        let mut retry = None;
        while !self.stop.load(Ordering::Relaxed) {
            if let Err(error) = self.poll.poll(&mut events, retry)
                && error.kind() != ErrorKind::Interrupted
            {
                tracing::error!(%error, "cannot wait for connections, stopping");
                crate::exit(crate::EXIT_FAILURE);
            }
            retry = None;
            for index in 0..self.listeners.len() {
                if !self.accept_all(index) {
                    retry = Some(BACK_OFF);
                }
            }
        }
    }

    /// Accepts whoever waits at a port; returns whether that was possible.
    fn accept_all(&mut self, index: usize) -> bool {
        loop {
            let (listener, is_linearizable) = &self.listeners[index];
            let is_linearizable = *is_linearizable;
            match listener.accept() {
                Ok((stream, peer)) => self.admit(stream, peer, is_linearizable),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // The client was gone before we came to it.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::error!(%error, "cannot accept connections; if this says \"too many open files\", raise the limit (ulimit -n)");
                    return false;
                }
            }
        }
    }

    fn admit(&mut self, stream: mio::net::TcpStream, peer: SocketAddr, is_linearizable: bool) {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        if let Err(refusal) = self.gate.admit(peer.ip()) {
            match refusal {
                Refusal::PerAddress(limit) => {
                    tracing::warn!(%peer, limit, "too many connections from this address (maxClientCnxns)");
                }
                Refusal::Total(limit) => tracing::warn!(%peer, limit, "too many connections (maxCnxns)"),
            }
            // A reset tells the client at once, and leaves nothing behind here.
            let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
            return;
        }
        // Neither setting matters for correctness; the next read or write will tell if the peer is gone.
        let _ = stream.set_nodelay(true);
        if self.keep_alive {
            let _ = SockRef::from(&stream).set_tcp_keepalive(&TcpKeepalive::new());
        }
        // The least loaded worker; among equals, in turn.
        let count = self.workers.len();
        let chosen = (0..count)
            .map(|i| (self.next + i) % count)
            .min_by_key(|&i| self.workers[i].1.connections.get())
            .expect("there is a worker");
        self.next = (chosen + 1) % count;
        self.workers[chosen].0.send(WorkerMessage::Accepted { stream: stream.into(), peer, is_linearizable });
    }
}
