//! Snapshot files on their way, over connections that break.

use std::io::Read;
use std::path::Path;

use ostler_storage::{Disk, Fault, Identity, Origin, SimDisk, SnapshotInfo, SnapshotMeta};

use super::*;

const DIR: &str = "/snapshots";

fn store(disk: &SimDisk) -> SnapshotStore {
    disk.create_dir_all(Path::new(DIR)).unwrap();
    SnapshotStore::open(Arc::new(disk.clone()), Path::new(DIR)).unwrap()
}

fn identity(server_id: u8) -> Identity {
    Identity { cluster_id: 0xc1, node_id: myself(server_id).node_id }
}

/// Bytes that do not compress.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 7u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

/// A snapshot of server 1's with so many bytes in it.
fn snapshot(store: &SnapshotStore, len: usize) -> SnapshotInfo {
    let meta = SnapshotMeta {
        identity: identity(1),
        index: 20,
        term: 3,
        zxid: 5,
        conf_state: vec![1, 2, 3],
        created_ms: 1_700_000_000_000,
        origin: Origin::Local,
    };
    let mut writer = store.create(&meta).unwrap();
    writer.push(&noise(len)).unwrap();
    writer.finish(1, 0xd1).unwrap()
}

/// Server 1, which has a snapshot.
fn sender(len: usize) -> (Server, SnapshotInfo) {
    let store = store(&SimDisk::new(1));
    let info = snapshot(&store, len);
    let one = Server::new(1);
    one.peers.serve_snapshots(store);
    (one, info)
}

/// Passes connections on to `server`, each for a number of bytes from it that `lives` says; then it is cut.
fn proxy(server: SocketAddr, mut lives: impl FnMut() -> usize + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            // The test may be over.
            let (Ok(client), Ok(there)) = (client, TcpStream::connect(server)) else { return };
            let life = lives();
            let (mut from_client, mut to_client) = (client.try_clone().unwrap(), client);
            let (mut from_there, mut to_there) = (there.try_clone().unwrap(), there);
            std::thread::spawn(move || drop(std::io::copy(&mut from_client, &mut to_there)));
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut (&mut from_there).take(life as u64), &mut to_client);
                // One end or the other may be gone already.
                let _ = to_client.shutdown(std::net::Shutdown::Both);
                let _ = from_there.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    address
}

enum End {
    Fetched(IncomingSnapshot),
    Failed(FetchError),
}

impl Server {
    fn wait_fetch(&mut self, ticket: SnapshotTicket) -> End {
        loop {
            match self.events.recv_timeout(FAILED).expect("a fetch ends") {
                PeerEvent::SnapshotFetched { server_id: 1, ticket: of, file, .. } => {
                    assert_eq!(of, ticket);
                    return End::Fetched(file);
                }
                PeerEvent::SnapshotFailed { server_id: 1, ticket: of, error, .. } => {
                    assert_eq!(of, ticket);
                    return End::Failed(error);
                }
                other => self.passed.push_back(other),
            }
        }
    }

    fn fetched(&mut self, ticket: SnapshotTicket) -> IncomingSnapshot {
        match self.wait_fetch(ticket) {
            End::Fetched(file) => file,
            End::Failed(error) => panic!("{error}"),
        }
    }

    fn fetch_failed(&mut self, ticket: SnapshotTicket) -> FetchError {
        match self.wait_fetch(ticket) {
            End::Fetched(file) => panic!("{file:?}"),
            End::Failed(error) => error,
        }
    }
}

#[test]
fn a_snapshot_arrives_and_its_progress_is_told() {
    let (one, info) = sender(40 << 20);
    let mut two = Server::new(2);
    two.peers.set_targets(vec![one.target()]);
    let store = store(&SimDisk::new(2));
    two.peers.fetch_snapshot(1, one.node_id(), info.ticket(), store.receive(20).unwrap());
    let adopted = two.fetched(info.ticket()).adopt(identity(2), &info.ticket()).unwrap();
    assert_eq!((adopted.meta.origin, adopted.meta.identity), (Origin::Received, identity(2)));
    let told: Vec<u64> = two
        .passed
        .iter()
        .filter_map(|event| match event {
            PeerEvent::SnapshotProgress { received, .. } => Some(*received),
            _ => None,
        })
        .collect();
    assert_eq!(told, [16 << 20, 32 << 20]);
}

#[test]
fn a_transfer_that_is_cut_again_and_again_goes_on_where_it_was() {
    let log = Log::start();
    let (one, info) = sender(6 << 20);
    let mut cuts = [100, 300, 1 << 10, 700_000, 5, 600_000].into_iter().cycle();
    let address = proxy(one.address(), move || cuts.next().expect("it has no end"));
    let mut two = Server::new(2);
    two.peers.set_targets(vec![target(1, address)]);
    let disk = SimDisk::new(2);
    let store = store(&disk);
    two.peers.fetch_snapshot(1, one.node_id(), info.ticket(), store.receive(20).unwrap());
    two.fetched(info.ticket()).adopt(identity(2), &info.ticket()).unwrap();
    let file = Path::new(DIR).join("0000000000000014.snap");
    assert_eq!(disk.contents(&file).unwrap().len() as u64, info.file_bytes);
    // No attempt began anew: the starts are all different.
    let text = log.text();
    let starts: Vec<_> = text.lines().filter(|line| line.contains("sending a snapshot server=2")).collect();
    assert!(starts.len() >= 10, "{text}");
    let offset = |line: &str| line.rsplit_once("offset=").unwrap().1.parse::<u64>().unwrap();
    assert!(starts.iter().map(|line| offset(line)).is_sorted(), "{starts:?}");
    assert!(offset(starts.last().unwrap()) > 5 << 20);
    assert_eq!(log.count("a snapshot broke off, going on: the connection ended in the middle of a frame"), 1);
}

#[test]
fn bytes_changed_on_their_way_are_fetched_again() {
    let log = Log::start();
    let (one, info) = sender(1 << 20);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let server = one.address();
    std::thread::spawn(move || {
        for (n, client) in listener.incoming().enumerate() {
            let (Ok(client), Ok(there)) = (client, TcpStream::connect(server)) else { return };
            let (mut from_client, mut to_client) = (client.try_clone().unwrap(), client);
            let (mut from_there, mut to_there) = (there.try_clone().unwrap(), there);
            std::thread::spawn(move || drop(std::io::copy(&mut from_client, &mut to_there)));
            std::thread::spawn(move || {
                // One bit, somewhere behind the introduction, of every second connection.
                let _ = std::io::copy(&mut (&mut from_there).take(300_000), &mut to_client);
                let mut byte = [0];
                if from_there.read_exact(&mut byte).is_ok() {
                    byte[0] ^= (n as u8) & 1;
                    let _ = to_client.write_all(&byte);
                }
                let _ = std::io::copy(&mut from_there, &mut to_client);
                let _ = to_client.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    let mut two = Server::new(2);
    two.peers.set_targets(vec![target(1, address)]);
    let store = store(&SimDisk::new(2));
    for _ in 0..4 {
        two.peers.fetch_snapshot(1, one.node_id(), info.ticket(), store.receive(20).unwrap());
        two.fetched(info.ticket()).adopt(identity(2), &info.ticket()).unwrap();
    }
    assert_eq!(log.count("bytes were damaged on their way: a frame of"), 1, "{}", log.text());
}

#[test]
fn attempts_that_bring_nothing_are_given_up() {
    let (one, info) = sender(1 << 20);
    let address = proxy(one.address(), || 250);
    let mut two = Server::new(2);
    two.peers.set_targets(vec![target(1, address)]);
    let disk = SimDisk::new(2);
    let store = store(&disk);
    two.peers.fetch_snapshot(1, one.node_id(), info.ticket(), store.receive(20).unwrap());
    let error = two.fetch_failed(info.ticket());
    assert_eq!(
        error.to_string(),
        "given up after 10 attempts that brought nothing, the last because the connection ended in the middle of a \
         frame"
    );
    wait_empty(&disk);
}

/// Waits until the file that is given up is removed.
fn wait_empty(disk: &SimDisk) {
    while !disk.list(Path::new(DIR)).unwrap().is_empty() {
        std::thread::yield_now();
    }
}

#[test]
fn what_cannot_be_had_is_refused_for_its_reason() {
    let (one, info) = sender(10);
    let mut two = Server::new(2);
    two.peers.set_targets(vec![one.target()]);
    let disk = SimDisk::new(2);
    let store = store(&disk);
    let fetch = |server_id, node_id, ticket| {
        two.peers.fetch_snapshot(server_id, node_id, ticket, store.receive(20).unwrap());
        match two.events.iter().find_map(|event| match event {
            PeerEvent::SnapshotFailed { error, .. } => Some(Some(error)),
            PeerEvent::SnapshotFetched { .. } => Some(None),
            _ => None,
        }) {
            Some(Some(error)) => error,
            other => panic!("{other:?}"),
        }
    };
    let ticket = info.ticket();
    assert!(matches!(fetch(3, 0xd3, ticket), FetchError::NoTarget(3)));
    assert!(matches!(fetch(1, 0xaa, ticket), FetchError::OtherNode { found: 0xd1 }));
    let other = SnapshotTicket { index: 21, ..ticket };
    assert!(matches!(fetch(1, 0xd1, other), FetchError::Missing));
    // The receiver's disk fails.
    let incoming = store.receive(20).unwrap();
    disk.fail_from(0, Fault::Enospc);
    two.peers.fetch_snapshot(1, 0xd1, ticket, incoming);
    let error = two.fetch_failed(ticket);
    assert!(matches!(&error, FetchError::Disk(error) if error.is_full()), "{error}");
    disk.clear_faults();
    wait_empty(&disk);
    two.peers.fetch_snapshot(1, 0xd1, ticket, store.receive(20).unwrap());
    two.fetched(ticket).adopt(identity(2), &ticket).unwrap();
}

#[test]
fn a_new_fetch_takes_the_place_of_one_that_is_under_way() {
    let (one, info) = sender(8 << 20);
    // The first one gets nowhere.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut two = Server::new(2);
    let disk = SimDisk::new(2);
    let store = store(&disk);
    two.peers.set_targets(vec![target(1, silent.local_addr().unwrap())]);
    two.peers.fetch_snapshot(1, one.node_id(), info.ticket(), store.receive(20).unwrap());
    two.peers.set_targets(vec![one.target()]);
    two.peers.fetch_snapshot(1, one.node_id(), info.ticket(), store.receive(20).unwrap());
    two.fetched(info.ticket()).adopt(identity(2), &info.ticket()).unwrap();
    while disk.list(Path::new(DIR)).unwrap() != ["0000000000000014.snap"] {
        std::thread::yield_now();
    }
}

#[test]
fn a_slow_rate_still_moves() {
    let store_of_one = store(&SimDisk::new(1));
    let info = snapshot(&store_of_one, 100 << 10);
    let settings = PeerSettings { snapshot_bytes_per_second: NonZeroU64::new(1 << 20), ..loopback() };
    let one = Server::with(settings, myself(1), Standing::Member);
    one.peers.serve_snapshots(store_of_one);
    let mut two = Server::new(2);
    two.peers.set_targets(vec![one.target()]);
    let store = store(&SimDisk::new(2));
    two.peers.fetch_snapshot(1, one.node_id(), info.ticket(), store.receive(20).unwrap());
    two.fetched(info.ticket()).adopt(identity(2), &info.ticket()).unwrap();
}
