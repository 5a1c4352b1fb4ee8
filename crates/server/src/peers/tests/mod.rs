//! Servers in one process, over real sockets on loopback.

mod faults;
mod links;
mod refusals;
mod snapshots;

use std::collections::VecDeque;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::hello::tests::myself;
use super::*;

/// So long that only a test that has failed waits for it.
const FAILED: Duration = Duration::from_secs(60);

/// A server with nothing but its peers.
struct Server {
    peers: Peers,
    events: Receiver<PeerEvent>,
    /// Events that came while another one was waited for.
    passed: VecDeque<PeerEvent>,
    server_id: u8,
}

/// Says the same of everybody.
struct Everybody(Mutex<Standing>);

impl Membership for Everybody {
    fn standing(&self, _: &Hello) -> Standing {
        self.0.lock().unwrap().clone()
    }
}

fn loopback() -> PeerSettings {
    PeerSettings { listen: vec![(Ipv4Addr::LOCALHOST, 0).into()], ..PeerSettings::default() }
}

impl Server {
    fn new(server_id: u8) -> Server {
        Server::with(loopback(), myself(server_id), Standing::Member)
    }

    fn with(settings: PeerSettings, myself: Myself, standing: Standing) -> Server {
        Server::asking(settings, myself, Arc::new(Everybody(Mutex::new(standing))))
    }

    fn asking(settings: PeerSettings, myself: Myself, membership: Arc<dyn Membership>) -> Server {
        let (sender, events) = std::sync::mpsc::channel();
        let server_id = myself.server_id;
        // Nobody listens when the test is over.
        let peers =
            Peers::start(settings, myself, membership, move |event| drop(sender.send(event))).unwrap();
        Server { peers, events, passed: VecDeque::new(), server_id }
    }

    fn address(&self) -> SocketAddr {
        self.peers.addresses()[0]
    }

    fn target(&self) -> PeerTarget {
        target(self.server_id, self.address())
    }

    fn node_id(&self) -> u64 {
        myself(self.server_id).node_id
    }

    /// Waits for an event that `wanted` makes something of, leaving others for later.
    fn wait<T>(&mut self, what: &str, mut wanted: impl FnMut(&PeerEvent) -> Option<T>) -> T {
        for at in 0..self.passed.len() {
            if let Some(found) = wanted(&self.passed[at]) {
                self.passed.remove(at);
                return found;
            }
        }
        loop {
            let event = self.events.recv_timeout(FAILED).unwrap_or_else(|_| {
                panic!("server {} waits for {what}, but there was {:?}", self.server_id, self.passed)
            });
            if let Some(found) = wanted(&event) {
                return found;
            }
            self.passed.push_back(event);
        }
    }

    fn wait_up(&mut self, server_id: u8) -> Hello {
        self.wait("Up", |event| match event {
            PeerEvent::Up { hello, .. } if hello.from.server_id == server_id => Some(hello.clone()),
            _ => None,
        })
    }

    fn wait_down(&mut self, from: u8) {
        self.wait("Down", |event| {
            matches!(event, PeerEvent::Down { server_id, .. } if *server_id == from).then_some(())
        });
    }

    fn wait_gone(&mut self, from: u8) {
        self.wait("Gone", |event| {
            matches!(event, PeerEvent::Gone { server_id, .. } if *server_id == from).then_some(())
        });
    }

    fn wait_heard(&mut self, from: u8) -> Hello {
        self.wait("Heard", |event| match event {
            PeerEvent::Heard { hello, .. } if hello.from.server_id == from => Some(hello.clone()),
            _ => None,
        })
    }

    /// The next `count` frames of a server.
    fn wait_frames(&mut self, from: u8, count: usize) -> Vec<Bytes> {
        let mut all = Vec::new();
        while all.len() < count {
            all.extend(self.wait("Frames", |event| match event {
                PeerEvent::Frames { server_id, frames, .. } if *server_id == from => Some(frames.clone()),
                _ => None,
            }));
        }
        all
    }

    fn send(&self, to: &Server, frame: &'static [u8]) -> Sent {
        self.peers.send(to.node_id(), vec![frame.into()], Delivery::MayDrop)
    }
}

/// Waits for a connection that is dialed to a test.
fn accept(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    let given_up = Instant::now() + FAILED;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).unwrap();
                stream.set_read_timeout(Some(FAILED)).unwrap();
                return stream;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                assert!(Instant::now() < given_up, "nobody connects");
                std::thread::yield_now();
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn target(server_id: u8, address: SocketAddr) -> PeerTarget {
    let address = PeerAddress { host: address.ip().to_string(), port: address.port() };
    PeerTarget { server_id, addresses: vec![address] }
}

/// Two servers with links both ways.
fn pair() -> (Server, Server) {
    let (mut one, mut two) = (Server::new(1), Server::new(2));
    one.peers.set_targets(vec![two.target()]);
    two.peers.set_targets(vec![one.target()]);
    one.wait_up(2);
    two.wait_up(1);
    (one, two)
}

/// What is logged by the servers started while it exists.
struct Log {
    lines: Arc<Mutex<Vec<u8>>>,
    _guard: tracing::dispatcher::DefaultGuard,
}

#[derive(Clone)]
struct LogLines(Arc<Mutex<Vec<u8>>>);

impl Write for LogLines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn start() -> Log {
        use tracing_subscriber::layer::SubscriberExt;
        let lines = Arc::new(Mutex::new(Vec::new()));
        let to = LogLines(Arc::clone(&lines));
        let layer =
            tracing_subscriber::fmt::layer().with_ansi(false).without_time().with_writer(move || to.clone());
        let dispatch = tracing::Dispatch::new(tracing_subscriber::registry().with(layer));
        Log { lines, _guard: tracing::dispatcher::set_default(&dispatch) }
    }

    fn text(&self) -> String {
        String::from_utf8(self.lines.lock().unwrap().clone()).unwrap()
    }

    /// Waits until this is in the log.
    fn wait(&self, expected: &str) {
        let given_up = Instant::now() + FAILED;
        while !self.text().contains(expected) {
            assert!(Instant::now() < given_up, "not logged: {expected}\nbut:\n{}", self.text());
            std::thread::yield_now();
        }
    }

    fn count(&self, expected: &str) -> usize {
        self.text().matches(expected).count()
    }
}
