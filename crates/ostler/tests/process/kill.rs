//! `kill -9` under load, again and again: what was acknowledged stays, exactly once.

use std::collections::BTreeMap;

use ostler_client::{Client, Error, Session};
use ostler_types::{CreateMode, open_acl};
use ostler_wire::{AclEntry, Create, CreateForm, Request, Response};

use crate::server::{Server, block_on};

/// Rounds, unless `OSTLER_KILL_ROUNDS` says otherwise.
const ROUNDS: u64 = 12;
const WORKERS: usize = 4;
/// Requests each worker keeps in flight.
const DEPTH: usize = 8;

pub fn create<'a>(path: &str, data: &'a [u8], mode: CreateMode) -> Request<'a> {
    let acl = open_acl();
    let acl = acl.iter().map(|acl| AclEntry {
        perms: acl.perms,
        scheme: Some(acl.id.scheme.to_string().into()),
        id: Some(acl.id.id.to_string().into()),
    });
    Request::Create(Create {
        form: CreateForm::Create,
        path: path.to_owned().into(),
        data: Some(data),
        acl: Some(acl.collect()),
        flags: mode as i32,
    })
}

/// What became of a create, as far as its client can know.
#[derive(Clone, Debug, PartialEq)]
enum Known {
    Acknowledged(String),
    /// Sent and never answered.
    Unknown,
}

/// One session that creates sequential znodes with numbers in them, and counts in a second znode.
struct Worker {
    home: String,
    session: Session,
    next: u64,
    creates: BTreeMap<u64, Known>,
    /// Newest acknowledged and newest sent value of the counter.
    counter: (u64, u64),
}

impl Worker {
    async fn new(server: &Server, index: usize) -> (Worker, Client) {
        let client = server.client().await;
        let home = format!("/w{index}");
        let acl = open_acl();
        client.create(&home, b"", &acl, CreateMode::Persistent).await.unwrap();
        client.create(&format!("{home}/counter"), b"0", &acl, CreateMode::Persistent).await.unwrap();
        client.create(&format!("/e{index}"), b"", &acl, CreateMode::Ephemeral).await.unwrap();
        let session = client.session().clone();
        (Worker { home, session, next: 1, creates: BTreeMap::new(), counter: (0, 0) }, client)
    }

    /// Writes until the connection is lost, noting every answer; tells `progress` of each.
    async fn work(&mut self, client: &Client, progress: &std::cell::Cell<u64>) {
        let mut in_flight = std::collections::VecDeque::new();
        loop {
            while in_flight.len() < DEPTH {
                let number = self.next;
                self.next += 1;
                let data = number.to_string().into_bytes();
                let request = create(&format!("{}/n-", self.home), &data, CreateMode::PersistentSequential);
                let created = client.start(&request).await;
                self.creates.insert(number, Known::Unknown);
                let path = format!("{}/counter", self.home);
                let set = Request::SetData { path: path.into(), data: Some(&data), version: -1 };
                let counted = client.start(&set).await;
                self.counter.1 = number;
                in_flight.push_back((number, created, counted));
            }
            let (number, created, counted) = in_flight.pop_front().expect("just filled");
            let mut lost = false;
            match created.await {
                Ok(reply) => {
                    let Response::Path { path } = reply.response else { panic!("{reply:?}") };
                    self.creates.insert(number, Known::Acknowledged(path));
                    progress.set(progress.get() + 1);
                }
                Err(Error::OutcomeUnknown(_) | Error::NotSent(_)) => lost = true,
                Err(error) => panic!("a create failed: {error}"),
            }
            match counted.await {
                Ok(_) => self.counter.0 = number,
                Err(Error::OutcomeUnknown(_) | Error::NotSent(_)) => lost = true,
                Err(error) => panic!("a setData failed: {error}"),
            }
            if lost {
                return;
            }
        }
    }

    /// Comes back after a kill and compares what is there with what was promised.
    async fn verify(&mut self, server: &Server, index: usize) -> Client {
        let (client, _) = server.connect(30_000, Some(self.session.clone())).await;
        assert_eq!(client.session().id, self.session.id);
        assert_eq!(client.session().password, self.session.password);
        let ephemeral = client.exists(&format!("/e{index}"), false).await.unwrap();
        assert_eq!(ephemeral.expect("the ephemeral is there").ephemeral_owner, self.session.id);

        let mut found = BTreeMap::new();
        let children = client.get_children(&self.home, false).await.unwrap();
        let pending: Vec<_> = {
            let mut pending = vec![];
            for name in children.into_iter().filter(|name| name.starts_with("n-")) {
                let path = format!("{}/{name}", self.home);
                let get = Request::GetData { path: path.clone().into(), watch: false };
                pending.push((path, client.start(&get).await));
            }
            pending
        };
        for (path, reply) in pending {
            let Response::DataAndStat { data, stat } = reply.await.unwrap().response else { panic!() };
            let number: u64 = String::from_utf8(data.unwrap()).unwrap().parse().unwrap();
            assert_eq!(stat.version, 0);
            let twice = found.insert(number, path);
            assert_eq!(twice, None, "create {number} was carried out twice");
        }
        // Later creates have later numbers, whoever was killed in between.
        assert!(found.values().is_sorted(), "{found:?}");
        for (number, known) in &mut self.creates {
            match (&known, found.get(number)) {
                (Known::Acknowledged(path), there) => {
                    assert_eq!(Some(path), there, "acknowledged create {number}");
                }
                // What was seen once must stay.
                (Known::Unknown, Some(path)) => *known = Known::Acknowledged(path.clone()),
                (Known::Unknown, None) => {}
            }
        }
        self.creates.retain(|_, known| *known != Known::Unknown);
        assert_eq!(found.len(), self.creates.len(), "something is there that was never asked for");

        let (data, _) = client.get_data(&format!("{}/counter", self.home), false).await.unwrap();
        let counter: u64 = String::from_utf8(data.unwrap()).unwrap().parse().unwrap();
        let (acknowledged, sent) = self.counter;
        assert!((acknowledged..=sent).contains(&counter), "{acknowledged} <= {counter} <= {sent}");
        self.counter = (counter, counter);
        client
    }
}

#[test]
fn kill_9_under_load_loses_and_repeats_nothing() {
    let rounds = std::env::var("OSTLER_KILL_ROUNDS").map_or(ROUNDS, |n| n.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    // Snapshots and new segments happen between the kills, too.
    let settings = "snapCount=700\npreAllocSize=128\nautopurge.purgeInterval=1";
    block_on(async {
        let mut server = Server::start(dir.path(), settings);
        let mut workers = vec![];
        for index in 0..WORKERS {
            workers.push(Worker::new(&server, index).await);
        }
        for round in 0..rounds {
            let progress = std::cell::Cell::new(0);
            // A different number of acknowledgements each time.
            let enough = 20 + (round * 7919) % 400;
            let killer = async {
                while progress.get() < enough {
                    tokio::task::yield_now().await;
                }
                server.kill();
            };
            let [a, b, c, d] = &mut workers[..] else { unreachable!("four workers") };
            tokio::join!(
                killer,
                a.0.work(&a.1, &progress),
                b.0.work(&b.1, &progress),
                c.0.work(&c.1, &progress),
                d.0.work(&d.1, &progress)
            );
            server = Server::start(dir.path(), settings);
            for (index, (worker, client)) in workers.iter_mut().enumerate() {
                *client = worker.verify(&server, index).await;
            }
        }
        for (_, client) in &workers {
            client.close().await.unwrap();
        }
        let left = server.client().await.get_children("/", false).await.unwrap();
        assert!(left.iter().all(|name| !name.starts_with('e')), "ephemerals went with their sessions");
        server.stop();
    });
}

#[test]
fn after_a_restart_a_session_has_its_whole_timeout_again() {
    let dir = tempfile::tempdir().unwrap();
    block_on(async {
        let server = Server::start(dir.path(), "tickTime=500");
        let (client, _) = server.connect(1_000, None).await;
        assert_eq!(client.session().timeout.as_millis(), 1_000);
        client.create("/e", b"", &open_acl(), CreateMode::Ephemeral).await.unwrap();
        server.kill();
        let restarted = std::time::Instant::now();
        let server = Server::start(dir.path(), "tickTime=500");
        let watcher = server.client().await;
        while watcher.exists("/e", false).await.unwrap().is_some() {
            assert!(restarted.elapsed() < crate::server::PATIENCE, "it never expires");
        }
        assert!(restarted.elapsed().as_millis() >= 1_000, "{:?}", restarted.elapsed());
        server.stop();
    });
}
