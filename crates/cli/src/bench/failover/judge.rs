//! Whether the servers have kept what they promised: read back from every one of them, after a sync.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ostler_client::{Client, ConnectOptions, Error, Pending};
use ostler_types::{CreateMode, ErrorCode, SessionId, Stat, Zxid, open_acl};
use ostler_wire::{Request, Response};

use super::outcome::Verdict;
use super::writer::{Plan, Writer};
use crate::bench::znodes::{MARK, is_ours};
use crate::bench::{BenchError, Result};

/// How long a server may take to let the judge read.
const LIMIT: Duration = Duration::from_secs(60);
/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(50);
/// Requests under way at a time.
const BATCH: usize = 1000;
/// How often servers are compared before they count as different: sessions may end in between.
const COMPARISONS: usize = 3;
/// Differences that are told.
const TOLD: usize = 5;

/// Apache ZooKeeper's servers each make it when they start, with a Stat of their own.
const CONFIG: &str = "/zookeeper/config";
const NO_STAT: Stat = Stat {
    czxid: Zxid::ZERO,
    mzxid: Zxid::ZERO,
    ctime: 0,
    mtime: 0,
    version: 0,
    cversion: 0,
    aversion: 0,
    ephemeral_owner: SessionId::NONE,
    data_length: 0,
    num_children: 0,
    pzxid: Zxid::ZERO,
};

/// A subtree, by path.
type Tree = BTreeMap<String, (Option<Vec<u8>>, Stat)>;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Judge {
    addresses: Vec<String>,
    root: String,
}

impl Judge {
    pub(super) fn new(addresses: Vec<String>, root: &str) -> Judge {
        Judge { addresses, root: root.to_owned() }
    }

    /// Makes the root, after removing what an earlier run may have left.
    pub(super) async fn prepare(&self) -> Result<()> {
        self.clean_up().await?;
        let client = self.connect(0).await?;
        let acl = open_acl();
        client.create(&self.root, MARK, &acl, CreateMode::Persistent).await?;
        client.create(&Plan::ephemerals(&self.root), b"", &acl, CreateMode::Persistent).await?;
        Ok(client.close().await?)
    }

    /// Removes everything.
    pub(super) async fn clean_up(&self) -> Result<()> {
        let client = self.connect(0).await?;
        if is_ours(&client, &self.root).await? {
            let tree = walk(&client, &self.root).await?;
            // Children come after their parents.
            let paths: Vec<_> = tree.into_keys().rev().collect();
            for batch in paths.chunks(BATCH) {
                let mut pending = Vec::new();
                for path in batch {
                    let request = Request::Delete { path: path.into(), version: -1 };
                    pending.push(client.start(&request).await);
                }
                for reply in pending {
                    match reply.await {
                        Ok(_) | Err(Error::Server(ErrorCode::NoNode)) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
        Ok(client.close().await?)
    }

    /// Makes a znode for each writer to write under.
    pub(super) async fn make_homes(&self, event: usize, writers: usize) -> Result<()> {
        let client = self.connect(0).await?;
        let acl = open_acl();
        client.create(&self.event_root(event), b"", &acl, CreateMode::Persistent).await?;
        for writer in 0..writers {
            let home = Plan::home(&self.root, event, writer);
            client.create(&home, b"", &acl, CreateMode::Persistent).await?;
        }
        // So that every server has them before anybody writes there.
        for index in 0..self.addresses.len() {
            let client = self.connect(index).await?;
            client.sync("/").await?;
            client.close().await?;
        }
        Ok(client.close().await?)
    }

    fn event_root(&self, event: usize) -> String {
        format!("{}/e{event}", self.root)
    }

    /// Reads back what was written in an event.
    pub(super) async fn verdict(&self, event: usize, writers: &[Writer]) -> Result<Verdict> {
        let mut verdict = Verdict::default();
        for index in 0..self.addresses.len() {
            let of_event = self.tree(index, &self.event_root(event)).await?;
            let ephemerals = self.tree(index, &Plan::ephemerals(&self.root)).await?;
            let mut here = Verdict::default();
            for writer in writers {
                judge_writer(&mut here, &Plan::home(&self.root, event, writer.number), writer, &of_event);
                let is_there =
                    writer.ephemeral.as_ref().zip(writer.session()).is_none_or(|(path, session)| {
                        ephemerals.get(path).is_some_and(|(_, stat)| stat.ephemeral_owner == session.id)
                    });
                here.ephemerals_lost += u64::from(!is_there);
            }
            // Each is counted once, not once per server.
            verdict.missing = verdict.missing.max(here.missing);
            verdict.repeated = verdict.repeated.max(here.repeated);
            verdict.out_of_order = verdict.out_of_order.max(here.out_of_order);
            verdict.ephemerals_lost = verdict.ephemerals_lost.max(here.ephemerals_lost);
        }
        verdict.servers_that_differ = self.differ(&self.event_root(event)).await?;
        Ok(verdict)
    }

    /// How many servers have another tree than the first one.
    pub(super) async fn whole_trees_differ(&self) -> Result<u64> {
        self.differ("/").await
    }

    /// How many of all acknowledged writes are not on every server.
    pub(super) async fn everything_is_there(&self, writers: &[Writer]) -> Result<u64> {
        let mut missing = 0;
        for index in 0..self.addresses.len() {
            let tree = self.tree(index, &self.root).await?;
            let here = writers.iter().flat_map(|writer| &writer.acknowledged);
            missing = missing.max(here.filter(|(path, number)| !holds(&tree, path, *number)).count() as u64);
        }
        Ok(missing)
    }

    async fn differ(&self, path: &str) -> Result<u64> {
        let mut differing = Vec::new();
        for _ in 0..COMPARISONS {
            differing.clear();
            let first = self.tree(0, path).await?;
            for (index, address) in self.addresses.iter().enumerate().skip(1) {
                let other = self.tree(index, path).await?;
                if other != first {
                    differing.push(differences(&self.addresses[0], &first, address, &other));
                }
            }
            if differing.is_empty() {
                break;
            }
        }
        differing.iter().for_each(|text| eprintln!("{text}"));
        Ok(differing.len() as u64)
    }

    /// What a server has below a znode.
    async fn tree(&self, index: usize, path: &str) -> Result<Tree> {
        let client = self.connect(index).await?;
        client.sync("/").await?;
        let mut tree = walk(&client, path).await?;
        client.close().await?;
        if let Some((_, stat)) = tree.get_mut(CONFIG) {
            *stat = NO_STAT;
        }
        Ok(tree)
    }

    async fn connect(&self, index: usize) -> Result<Client> {
        let (started, address) = (Instant::now(), self.addresses[index].as_str());
        loop {
            match Client::connect(address, &ConnectOptions::default()).await {
                Ok((client, _events)) => return Ok(client),
                Err(error) if started.elapsed() > LIMIT => {
                    return Err(BenchError::NoClient {
                        address: address.to_owned(),
                        errors: error.to_string(),
                    });
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}

/// Counts what is wrong with a writer's znodes.
fn judge_writer(verdict: &mut Verdict, home: &str, writer: &Writer, tree: &Tree) {
    let acknowledged = &writer.acknowledged[writer.notes.acknowledged_before..];
    verdict.missing +=
        acknowledged.iter().filter(|(path, number)| !holds(tree, path, *number)).count() as u64;
    // In the order of their names, which is the order in which they were carried out.
    let prefix = format!("{home}/");
    let mut seen = BTreeSet::new();
    let mut newest = 0;
    let below = tree.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix));
    for (_, (data, _)) in below {
        let number = number_in(data.as_deref());
        verdict.repeated += u64::from(!seen.insert(number));
        verdict.out_of_order += u64::from(number < newest);
        newest = newest.max(number);
    }
}

fn holds(tree: &Tree, path: &str, number: u64) -> bool {
    tree.get(path).is_some_and(|(data, _)| number_in(data.as_deref()) == number)
}

/// 0 if there is none, which no write has.
fn number_in(data: Option<&[u8]>) -> u64 {
    data.and_then(|data| std::str::from_utf8(data).ok()?.parse().ok()).unwrap_or(0)
}

fn differences(name: &str, first: &Tree, other_name: &str, other: &Tree) -> String {
    let mut text = format!("{name} and {other_name} differ:");
    let paths: BTreeSet<&String> = first.keys().chain(other.keys()).collect();
    for path in paths.into_iter().filter(|path| first.get(*path) != other.get(*path)).take(TOLD) {
        let shown = |tree: &Tree| {
            tree.get(path).map(|(data, stat)| {
                (data.as_deref().map(|data| String::from_utf8_lossy(data).into_owned()), *stat)
            })
        };
        text += &format!("\n  {path}: {:?} and {:?}", shown(first), shown(other));
    }
    text
}

/// Reads a subtree, level by level.
async fn walk(client: &Client, top: &str) -> Result<Tree> {
    let mut tree = Tree::new();
    let mut level = vec![top.to_owned()];
    while !level.is_empty() {
        let mut parents = Vec::new();
        for batch in level.chunks(BATCH) {
            let mut pending = Vec::new();
            for path in batch {
                let get = Request::GetData { path: path.into(), watch: false };
                pending.push((path, client.start(&get).await));
            }
            for (path, reply) in pending {
                let Some(Response::DataAndStat { data, stat }) = if_there(reply).await? else { continue };
                if stat.num_children > 0 {
                    parents.push(path.clone());
                }
                tree.insert(path.clone(), (data, stat));
            }
        }
        level.clear();
        for batch in parents.chunks(BATCH) {
            let mut pending = Vec::new();
            for path in batch {
                let get = Request::GetChildren { path: path.into(), watch: false };
                pending.push((path, client.start(&get).await));
            }
            for (path, reply) in pending {
                let Some(Response::Strings { strings }) = if_there(reply).await? else { continue };
                let parent = path.trim_end_matches('/');
                level.extend(strings.iter().map(|name| format!("{parent}/{name}")));
            }
        }
    }
    Ok(tree)
}

/// `None` if the znode has gone meanwhile.
async fn if_there(reply: Pending) -> Result<Option<Response>> {
    match reply.await {
        Ok(reply) => Ok(Some(reply.response)),
        Err(Error::Server(ErrorCode::NoNode)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
