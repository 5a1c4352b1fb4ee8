//! The connections between the servers of an ensemble.
//!
//! Each server dials every other one for what it *sends*; what it receives comes on connections that the others
//! dialed. So a link has one direction, and losing it says exactly which frames are in doubt. Frames are opaque here.
//! They arrive in the order sent, each at most once; a link that breaks takes what was under way with it.
//! `docs/peer-protocol.md` describes every byte and what each refusal means.
//!
//! * [`Peers`] is the handle; [`PeerEvent`] is everything it reports.
//! * [`Myself`] says who this server is, [`Membership`] who the others are to it.
//! * A server without a cluster, *unborn*, exchanges introductions with the others ([`PeerEvent::Heard`]) and no
//!   frames.
//! * [`Peers::fetch_snapshot`] copies a snapshot file from another server, on a connection of its own.
//!
//! One thread, "ostler-peers", does all of it. It never waits for a disk, and nobody who uses the handle waits for it.

mod complaints;
mod dialer;
mod frame;
mod greet;
mod hello;
mod incoming;
mod judge;
mod links;
mod shared;
mod socket;
#[cfg(test)]
mod tests;
mod transfer;

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use ostler_storage::{IncomingSnapshot, SnapshotStore, SnapshotTicket};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

pub use frame::{BadFrame, MAX_FRAME_BYTES};
pub use hello::{
    BadGreeting, Hello, MAX_MEMBERS_BYTES, Myself, PROTOCOL, Purpose, Refusal, RefusalCode, Standing,
    Versions,
};
pub use incoming::Credit;
pub use links::{Delivery, Sent};
pub use transfer::FetchError;

use links::Links;
use shared::Command;
use transfer::Fetch;

/// What can be set.
#[derive(Clone, Debug)]
pub struct PeerSettings {
    /// Where to listen: this server's quorum port on one or more addresses.
    pub listen: Vec<SocketAddr>,
    /// The versions of the peer protocol to offer; [`PROTOCOL`]. Anything else is for tests of upgrades: a version
    /// this release does not have is spoken like its newest.
    pub versions: Versions,
    /// Bytes that may wait for one server; what comes beyond is not sent. 64 MiB.
    pub queue_bytes: usize,
    /// How long to wait for a connection to be made. 1 s.
    pub connect_timeout: Duration,
    /// How fast snapshots are sent, all together, in bytes per second. 100 MiB/s.
    pub snapshot_bytes_per_second: Option<NonZeroU64>,
}

impl Default for PeerSettings {
    fn default() -> PeerSettings {
        PeerSettings {
            listen: Vec::new(),
            versions: PROTOCOL,
            queue_bytes: 64 << 20,
            connect_timeout: Duration::from_secs(1),
            snapshot_bytes_per_second: NonZeroU64::new(100 << 20),
        }
    }
}

/// A server to dial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerTarget {
    /// Its `myid`.
    pub server_id: u8,
    /// Its quorum addresses, tried in this order.
    pub addresses: Vec<PeerAddress>,
}

/// A quorum address as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAddress {
    /// A name, looked up at each attempt, or an IP address without brackets.
    pub host: String,
    /// The quorum port.
    pub port: u16,
}

/// Who the others are to this server. Asked on the peers' thread, for each connection: it must not wait.
pub trait Membership: Send + Sync {
    /// What the server that says `hello` is to this one, which has a cluster. If `hello` has one too it is the same,
    /// and every standing but [`Standing::Refused`] lets it in: a server that lags behind does not know every member
    /// yet, and learns of them only by listening to them.
    fn standing(&self, hello: &Hello) -> Standing;
}

/// What happens between this server and the others.
#[derive(Debug)]
pub enum PeerEvent {
    /// There is a link: from now on frames can be sent.
    Up {
        /// What the other server says of itself. With another incarnation than last time the process was started
        /// anew, even if no [`PeerEvent::Gone`] told of its end.
        hello: Hello,
        /// The version of the protocol that is spoken. It is beyond [`PROTOCOL`] only if [`PeerSettings::versions`]
        /// was.
        version: u16,
        /// What this server is to it.
        standing: Standing,
        /// For [`Peers::send_on`].
        link: u64,
    },
    /// The link is lost, and with it any of the frames given to it.
    Down {
        /// Whose it was.
        server_id: u8,
        /// The disk.
        node_id: u64,
    },
    /// After [`PeerEvent::Down`], at most once: a new connection was refused, so no process listens there any more.
    Gone {
        /// Who is gone.
        server_id: u8,
        /// The disk.
        node_id: u64,
    },
    /// An introduction between two servers of which at least one is unborn. It comes again and again, until both
    /// belong to a cluster.
    Heard {
        /// What the other server says of itself.
        hello: Hello,
        /// What this server is to it, if this one asked; `None` if the other one did.
        standing: Option<Standing>,
    },
    /// Frames have come.
    Frames {
        /// From which server.
        server_id: u8,
        /// From which disk.
        node_id: u64,
        /// In the order sent; at least one, none empty.
        frames: Vec<Bytes>,
        /// To be dropped when the frames are dealt with. While much is not, no more is read from that server.
        credit: Credit,
    },
    /// More of a snapshot has come; told every 16 MiB.
    SnapshotProgress {
        /// From which server.
        server_id: u8,
        /// From which disk.
        node_id: u64,
        /// Which snapshot.
        ticket: SnapshotTicket,
        /// Bytes of the file so far.
        received: u64,
    },
    /// All bytes of a snapshot file have come. What they are worth [`IncomingSnapshot::adopt`] finds out, which
    /// reads all of it.
    SnapshotFetched {
        /// From which server.
        server_id: u8,
        /// From which disk.
        node_id: u64,
        /// Which snapshot.
        ticket: SnapshotTicket,
        /// The file.
        file: IncomingSnapshot,
    },
    /// A snapshot could not be fetched; nothing is left of it.
    SnapshotFailed {
        /// From which server.
        server_id: u8,
        /// From which disk.
        node_id: u64,
        /// Which snapshot.
        ticket: SnapshotTicket,
        /// The reason.
        error: FetchError,
    },
}

/// The handle; dropped, it ends all connections at once.
pub struct Peers {
    commands: UnboundedSender<Command>,
    links: Arc<Links>,
    addresses: Vec<SocketAddr>,
    thread: Option<JoinHandle<()>>,
}

impl Peers {
    /// Listens, and begins to talk when [`Peers::set_targets`] says to whom. Events go to `on_event`, which must not
    /// wait.
    ///
    /// # Errors
    /// An address cannot be listened at, or the thread cannot be started.
    ///
    /// # Panics
    /// If `members` is longer than [`MAX_MEMBERS_BYTES`].
    pub fn start(
        settings: PeerSettings,
        myself: Myself,
        membership: Arc<dyn Membership>,
        on_event: impl Fn(PeerEvent) + Send + 'static,
    ) -> io::Result<Peers> {
        check(&myself);
        let listeners: Vec<_> =
            settings.listen.iter().map(|&address| socket::listen(address)).collect::<io::Result<_>>()?;
        let addresses: Vec<_> =
            listeners.iter().map(|listener| listener.local_addr()).collect::<io::Result<_>>()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .thread_name("ostler-peers-blocking")
            .max_blocking_threads(BLOCKING_THREADS)
            .build()?;
        let (commands, receiver) = unbounded_channel();
        let links = Arc::new(Links::new(settings.queue_bytes));
        // The thread logs where its starter does.
        let log = tracing::dispatcher::get_default(tracing::Dispatch::clone);
        let thread = std::thread::Builder::new().name("ostler-peers".to_owned()).spawn({
            let links = Arc::clone(&links);
            move || {
                let _log = tracing::dispatcher::set_default(&log);
                let run =
                    shared::run(settings, myself, membership, Box::new(on_event), links, listeners, receiver);
                tokio::task::LocalSet::new().block_on(&runtime, run);
                // A name that is still being looked up is nobody's business any more.
                runtime.shutdown_background();
            }
        })?;
        let shown: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        tracing::warn!(
            addresses = shown.join(","),
            "peer connections are neither encrypted nor authenticated: the quorum port must be reachable by the \
             servers of this ensemble only"
        );
        Ok(Peers { commands, links, addresses, thread: Some(thread) })
    }

    /// Where it listens, with the ports that the system chose.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Dials exactly these servers from now on. Never this one: an entry with its own id is left out. Links to
    /// servers whose entry is unchanged stay.
    pub fn set_targets(&self, targets: Vec<PeerTarget>) {
        self.command(Command::Targets(targets));
    }

    /// Changes what this server says of itself. If its cluster or node id changes, all connections begin anew.
    ///
    /// # Panics
    /// If `members` is longer than [`MAX_MEMBERS_BYTES`].
    pub fn set_myself(&self, myself: Myself) {
        check(&myself);
        self.command(Command::Myself(myself));
    }

    /// Queues frames for a node, all or none, without waiting.
    ///
    /// # Panics
    /// If a frame is empty or longer than [`MAX_FRAME_BYTES`].
    pub fn send(&self, node_id: u64, frames: Vec<Bytes>, delivery: Delivery) -> Sent {
        self.links.send(node_id, None, frames, delivery)
    }

    /// As [`send`](Self::send), but only on the link with this number: what belongs behind frames of a link that is
    /// lost, and about whose loss the caller has not heard yet, must not go before them on the next one.
    ///
    /// # Panics
    /// As [`send`](Self::send).
    pub fn send_on(&self, link: u64, node_id: u64, frames: Vec<Bytes>, delivery: Delivery) -> Sent {
        self.links.send(node_id, Some(link), frames, delivery)
    }

    /// Lets other servers fetch these snapshots. Until then there are none.
    pub fn serve_snapshots(&self, store: SnapshotStore) {
        self.command(Command::Snapshots(store));
    }

    /// Fetches a snapshot from a server that is among those to dial, into a file that
    /// [`SnapshotStore::receive`] has made. A connection that breaks is made again and goes on where it was.
    /// [`PeerEvent::SnapshotFetched`] or [`PeerEvent::SnapshotFailed`] tells the end. An earlier fetch that is not
    /// ended is given up, without a word.
    pub fn fetch_snapshot(
        &self,
        server_id: u8,
        node_id: u64,
        ticket: SnapshotTicket,
        file: IncomingSnapshot,
    ) {
        self.command(Command::Fetch(Box::new(Fetch { server_id, node_id, ticket, file })));
    }

    /// Sends what is queued, for a second at most, and ends.
    pub fn stop(mut self) {
        self.command(Command::Stop);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the peers' thread had panicked");
        }
    }

    fn command(&self, command: Command) {
        // The thread ends only when told to, or with the process.
        let _ = self.commands.send(command);
    }
}

fn check(myself: &Myself) {
    assert!(
        myself.members.len() <= MAX_MEMBERS_BYTES,
        "the list of members has {} bytes",
        myself.members.len()
    );
}

/// Threads for what cannot be done without waiting: looking up names, and files of snapshots.
/// Names may be slow to look up, and must not keep a snapshot from its file.
const BLOCKING_THREADS: usize = 64;
