//! A server's way into its ensemble: its port for the others, and data that belongs to a cluster.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use ostler_replication::Membership;
use ostler_storage::{DataDir, Identity};

use crate::birth::{self, Birth};
use crate::config::{EnsembleConfig, ServerConfig};
use crate::core::CoreEvent;
use crate::peers::{Myself, PROTOCOL, PeerSettings, Peers, Versions};
use crate::recovery::{self, Recovered, RecoveryError};
use crate::roster::Roster;
use crate::server::StartError;

/// The feature levels this release can apply (`Settings::feature_level`).
const FEATURES: Versions = Versions { oldest: 1, newest: 1 };

/// What a server goes on from.
pub(crate) struct Opened {
    pub(crate) recovered: Recovered,
    /// The other servers, unless there can be none.
    pub(crate) peers: Option<(Arc<Peers>, Arc<Roster>)>,
    /// Who takes part, at the snapshot the state was restored from.
    pub(crate) membership: Membership,
}

/// Opens the port for the other servers, if there can be any, and the data directory; an empty one becomes part of a
/// cluster first.
pub(crate) fn open(
    config: &ServerConfig,
    sender: &Sender<CoreEvent>,
    events: &Receiver<CoreEvent>,
) -> Result<Opened, StartError> {
    let data_dir = recovery::open(&config.data)?;
    let Some(ensemble) = &config.ensemble else {
        let recovered = recovery::recover(data_dir, recovery::new_identity(), &config.data)?;
        let membership = membership(&recovered, false);
        return Ok(Opened { recovered, peers: None, membership });
    };
    let is_alone = ensemble.servers.len() == 1;
    let roster = Arc::new(Roster::new(ensemble.server_id, ensemble.servers.clone()));
    let directory = data_dir.snapshot_dir().to_owned();
    let in_birth = |source| RecoveryError::Birth { dir: directory.clone(), source };
    let unborn = match birth::unborn_node(&directory).map_err(in_birth)? {
        Some(node) => {
            birth::clear([data_dir.snapshot_dir(), data_dir.log_dir()]).map_err(in_birth)?;
            Some(node)
        }
        None if !is_alone && data_dir.is_fresh().map_err(RecoveryError::from)? => {
            Some(birth::begin(&directory).map_err(in_birth)?)
        }
        None => None,
    };
    let incarnation = recovery::random_id();
    let myself = |identity: Option<Identity>, node_id: u64, last: (u64, u64)| Myself {
        cluster_id: identity.map(|identity| identity.cluster_id),
        node_id,
        server_id: ensemble.server_id,
        incarnation,
        last_index: last.0,
        last_term: last.1,
        features: FEATURES,
        members: birth::voters_text(ensemble),
    };
    let (peers, recovered) = match unborn {
        Some(node) => {
            let peers = listen(config, ensemble, myself(None, node, (0, 0)), &roster, sender)?;
            if let Some(targets) = roster.changed_targets() {
                peers.set_targets(targets);
            }
            let identity = be_born(node, ensemble, config, events, &data_dir)?;
            // Everything is durable before the file that says it is not: a crash in between begins again with this node.
            let recovered = recovery::recover(data_dir, identity, &config.data)?;
            birth::complete(&directory).map_err(in_birth)?;
            (peers, recovered)
        }
        None => {
            let recovered = recovery::recover(data_dir, recovery::new_identity(), &config.data)?;
            let node = recovered.identity.node_id;
            let peers = listen(
                config,
                ensemble,
                myself(Some(recovered.identity), node, last_of(&recovered)),
                &roster,
                sender,
            )?;
            (peers, recovered)
        }
    };
    if unborn.is_some() {
        let last = last_of(&recovered);
        peers.set_myself(myself(Some(recovered.identity), recovered.identity.node_id, last));
    }
    let membership = membership(&recovered, !is_alone);
    Ok(Opened { recovered, peers: Some((Arc::new(peers), roster)), membership })
}

fn last_of(recovered: &Recovered) -> (u64, u64) {
    let tail = &recovered.log_tail;
    tail.entries.last().map_or(tail.snapshot, |entry| (entry.index.0, entry.term.0))
}

fn be_born(
    node: u64,
    ensemble: &EnsembleConfig,
    config: &ServerConfig,
    events: &Receiver<CoreEvent>,
    data_dir: &DataDir,
) -> Result<Identity, StartError> {
    tracing::info!(
        server = ensemble.server_id,
        node = format_args!("{node:016x}"),
        "the data directory is empty: looking for the cluster, or for the others to found one with"
    );
    let ended = |_| RecoveryError::Inconsistent("stopped before it belonged to a cluster".to_owned());
    Ok(match birth::wait(node, ensemble, events).map_err(ended)? {
        Birth::Founded(identity, members) => {
            recovery::found(data_dir, identity, members, &config.data)?;
            tracing::info!(cluster = format_args!("{:016x}", identity.cluster_id), "founded a cluster");
            identity
        }
        Birth::Joined(identity) => {
            tracing::info!(cluster = format_args!("{:016x}", identity.cluster_id), "joined a cluster");
            identity
        }
    })
}

/// Who takes part at the recovered snapshot. A state without members is that of a server alone, whose own node decides;
/// or, before anything has come from the leader, that of one that has just joined.
fn membership(recovered: &Recovered, has_others: bool) -> Membership {
    let of_state = recovered.state.membership();
    let is_new = recovered.log_tail.snapshot.0 == 0 && recovered.log_tail.entries.is_empty();
    if of_state.voters.is_empty() && !(has_others && is_new) {
        return Membership { voters: vec![recovered.identity.node_id], learners: Vec::new() };
    }
    Membership {
        voters: of_state.voters.iter().copied().collect(),
        learners: of_state.learners.iter().copied().collect(),
    }
}

fn listen(
    config: &ServerConfig,
    ensemble: &EnsembleConfig,
    myself: Myself,
    roster: &Arc<Roster>,
    sender: &Sender<CoreEvent>,
) -> Result<Peers, StartError> {
    let mut listen: Vec<SocketAddr> = Vec::new();
    for address in &ensemble.this().addresses {
        let host = if ensemble.listen_on_all { "0.0.0.0" } else { address.host.as_str() };
        let wrong =
            |source| StartError::QuorumPort { address: format!("{host}:{}", address.quorum_port), source };
        listen.extend((host, address.quorum_port).to_socket_addrs().map_err(wrong)?.take(1));
    }
    listen.dedup();
    let versions = config.peer_versions.as_ref();
    let settings = PeerSettings {
        versions: versions
            .map_or(PROTOCOL, |range| Versions { oldest: *range.start(), newest: *range.end() }),
        listen: listen.clone(),
        snapshot_bytes_per_second: config.snapshot_bytes_per_second,
        ..PeerSettings::default()
    };
    let on_event = {
        let sender = sender.clone();
        // The core ends with the process.
        move |event| drop(sender.send(CoreEvent::Peer(event)))
    };
    Peers::start(settings, myself, roster.clone(), on_event).map_err(|source| StartError::QuorumPort {
        address: listen.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        source,
    })
}
