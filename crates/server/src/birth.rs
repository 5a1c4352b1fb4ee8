//! The birth of a cluster, and of a server in one (design, 4c).
//!
//! A server with an empty data directory is *unborn*: it has a node id, kept in the file `unborn`, and nothing else.
//! It introduces itself to the servers of its configuration until one of two things is known:
//!
//! * a server that has a cluster says that this node is a member of it: this server *joins*, with an empty log that the
//!   leader fills;
//! * all voters of the configuration are unborn too and are configured with the same voters: the one with the lowest
//!   server id *founds* the cluster. It alone mints the cluster id, so there cannot be two.
//!
//! Whatever happens in between, a crash included, leaves the server unborn with the same node id; the file `unborn` is
//! removed when everything else is durable, and what lies beside it before that was never used.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use ostler_storage::Identity;
use ostler_tree::Member;
use ostler_types::member::ServerSpec;

use crate::config::EnsembleConfig;
use crate::core::CoreEvent;
use crate::peers::{Hello, PeerEvent, Standing};
use crate::recovery::random_id;

/// The file that says that a directory belongs to nobody yet.
const FILE: &str = "unborn";
/// Time between two lines about what is being waited for.
const REMIND: Duration = Duration::from_secs(10);

/// How a server came into the world.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Birth {
    /// It founds a cluster with these members.
    Founded(Identity, BTreeMap<u8, Member>),
    /// It joins one.
    Joined(Identity),
}

/// Whether `directory` is that of an unborn server: if so, its node id. What lies beside the file was never used.
pub(crate) fn unborn_node(directory: &Path) -> io::Result<Option<u64>> {
    match std::fs::read_to_string(directory.join(FILE)) {
        Ok(text) => match u64::from_str_radix(text.trim(), 16) {
            Ok(node) if node != 0 => Ok(Some(node)),
            // It was not written whole, so nobody has heard of it.
            _ => Ok(None),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes `directory` that of an unborn server with a node id of its own.
pub(crate) fn begin(directory: &Path) -> io::Result<u64> {
    let node = random_id();
    let temporary = directory.join("unborn.tmp");
    std::fs::write(&temporary, format!("{node:016x}\n"))?;
    std::fs::File::open(&temporary)?.sync_all()?;
    std::fs::rename(&temporary, directory.join(FILE))?;
    sync_dir(directory)?;
    Ok(node)
}

/// Removes what an interrupted birth has left, except the node id.
pub(crate) fn clear(directories: [&Path; 2]) -> io::Result<()> {
    for directory in directories {
        for entry in std::fs::read_dir(directory)? {
            let path: PathBuf = entry?.path();
            let is_ours = path.file_name().is_some_and(|name| name == "identity" || name == "identity.tmp")
                || path.extension().is_some_and(|e| e == "wal" || e == "snap" || e == "tmp");
            if is_ours {
                std::fs::remove_file(path)?;
            }
        }
        sync_dir(directory)?;
    }
    Ok(())
}

/// The server is born: everything it needs is durable.
pub(crate) fn complete(directory: &Path) -> io::Result<()> {
    std::fs::remove_file(directory.join(FILE))?;
    sync_dir(directory)
}

fn sync_dir(directory: &Path) -> io::Result<()> {
    std::fs::File::open(directory)?.sync_all()
}

/// The `server.N` lines of the voters, as they are compared with those of the others.
pub(crate) fn voters_text(config: &EnsembleConfig) -> String {
    let voters = config.servers.iter().filter(|(_, spec)| spec.votes());
    voters.map(|(server, spec)| format!("server.{server}={spec}")).collect::<Vec<_>>().join(",")
}

fn parse_voters(text: &str) -> BTreeMap<u8, ServerSpec> {
    text.split(',')
        .filter_map(|line| {
            let (server, spec) = line.strip_prefix("server.")?.split_once('=')?;
            Some((server.parse().ok()?, ServerSpec::parse(spec)?))
        })
        .collect()
}

/// What an unborn server knows of the others.
struct Nursery<'a> {
    node: u64,
    config: &'a EnsembleConfig,
    /// The last introduction of each unborn server.
    unborn: BTreeMap<u8, Hello>,
    /// Servers that have a cluster, and what this one is to them.
    born: BTreeMap<u8, (u64, Option<Standing>)>,
}

/// Introduces this server to the others until it is born. `events` has nothing but what the peers say.
///
/// # Errors
/// There is nobody to hear from any more: the server is stopping.
pub(crate) fn wait(
    node: u64,
    config: &EnsembleConfig,
    events: &Receiver<CoreEvent>,
) -> Result<Birth, RecvTimeoutError> {
    let mut nursery = Nursery { node, config, unborn: BTreeMap::new(), born: BTreeMap::new() };
    let mut remind = Instant::now() + Duration::from_secs(2);
    loop {
        match events.recv_timeout(remind.saturating_duration_since(Instant::now())) {
            Ok(CoreEvent::Peer(PeerEvent::Heard { hello, standing })) => {
                if let Some(birth) = nursery.heard(hello, standing) {
                    return Ok(birth);
                }
            }
            Ok(_) => {}
            Err(RecvTimeoutError::Timeout) => {
                nursery.tell();
                remind = Instant::now() + REMIND;
            }
            Err(error @ RecvTimeoutError::Disconnected) => return Err(error),
        }
    }
}

impl Nursery<'_> {
    fn heard(&mut self, hello: Hello, standing: Option<Standing>) -> Option<Birth> {
        let server = hello.from.server_id;
        if let Some(cluster_id) = hello.from.cluster_id {
            self.unborn.remove(&server);
            let is_member = standing == Some(Standing::Member);
            let known = self.born.entry(server).or_insert((cluster_id, None));
            known.0 = cluster_id;
            if standing.is_some() {
                known.1 = standing;
            }
            return is_member.then_some(Birth::Joined(Identity { cluster_id, node_id: self.node }));
        }
        self.born.remove(&server);
        self.unborn.insert(server, hello);
        self.found()
    }

    fn voters(&self) -> impl Iterator<Item = (u8, &ServerSpec)> {
        self.config.servers.iter().filter(|(_, spec)| spec.votes()).map(|(&server, spec)| (server, spec))
    }

    /// Founds the cluster if that is this server's to do and everybody is there.
    fn found(&self) -> Option<Birth> {
        let me = self.config.server_id;
        if !self.born.is_empty() || self.voters().next()?.0 != me {
            return None;
        }
        let agree = self.voters().filter(|&(server, _)| server != me).all(|(server, _)| {
            self.unborn.get(&server).is_some_and(|hello| self.is_same_list(&hello.from.members))
        });
        if !agree {
            return None;
        }
        let members = self
            .config
            .servers
            .iter()
            .map(|(&server, spec)| {
                let node = if server == me {
                    Some(self.node)
                } else {
                    self.unborn.get(&server).map(|hello| hello.from.node_id)
                };
                (server, Member { node, spec: self.reachable(server, spec) })
            })
            .collect();
        Some(Birth::Founded(Identity { cluster_id: random_id(), node_id: self.node }, members))
    }

    /// The line of a server as the others have it: many write 0.0.0.0 for themselves.
    fn reachable(&self, server: u8, spec: &ServerSpec) -> ServerSpec {
        if !has_wildcard(spec) {
            return spec.clone();
        }
        let others = self.unborn.values().filter(|hello| hello.from.server_id != server);
        let mut lines = others.filter_map(|hello| parse_voters(&hello.from.members).remove(&server));
        lines.find(|line| !has_wildcard(line)).unwrap_or_else(|| spec.clone())
    }

    fn is_same_list(&self, theirs: &str) -> bool {
        let theirs = parse_voters(theirs);
        theirs.len() == self.voters().count()
            && self.voters().all(|(server, mine)| theirs.get(&server).is_some_and(|their| same(mine, their)))
    }

    /// Says what is being waited for.
    fn tell(&self) {
        let me = self.config.server_id;
        if self.born.is_empty() {
            let missing: BTreeSet<u8> = self
                .voters()
                .map(|(server, _)| server)
                .filter(|server| *server != me && !self.unborn.contains_key(server))
                .collect();
            let other_lists: Vec<u8> = self
                .unborn
                .iter()
                .filter(|(_, hello)| !self.is_same_list(&hello.from.members))
                .map(|(&server, _)| server)
                .collect();
            tracing::warn!(
                ?missing,
                ?other_lists,
                "this server is empty and waits for every voter of its configuration, to found a cluster with them: \
                 start those that are missing, and give all the same server.N lines"
            );
            return;
        }
        let servers: Vec<u8> = self.born.keys().copied().collect();
        match self.born.values().find_map(|(_, standing)| standing.clone()) {
            Some(Standing::Replaceable { node_id }) => tracing::warn!(
                ?servers,
                old_node = format_args!("{node_id:016x}"),
                "this server is empty, and the cluster knows server {me} with another disk: the leader gives this one \
                 its place as soon as the old one is not connected. If most servers have lost their disks there is no \
                 leader; then see `ostler recover --help`"
            ),
            _ => tracing::warn!(
                ?servers,
                "this server is empty and the cluster does not know server {me}: add it with reconfig"
            ),
        }
    }
}

fn has_wildcard(spec: &ServerSpec) -> bool {
    spec.addresses.iter().any(|address| is_wildcard(&address.host))
}

fn is_wildcard(host: &str) -> bool {
    matches!(host, "0.0.0.0" | "::" | "0:0:0:0:0:0:0:0")
}

/// Whether two lines mean the same server.
fn same(a: &ServerSpec, b: &ServerSpec) -> bool {
    a.role == b.role
        && a.addresses.len() == b.addresses.len()
        && a.addresses.iter().zip(&b.addresses).all(|(a, b)| {
            a.quorum_port == b.quorum_port
                && (a.host == b.host || is_wildcard(&a.host) || is_wildcard(&b.host))
        })
}
