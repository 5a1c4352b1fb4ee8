//! The server put together: threads, channels, start and stop.
//!
//! ```text
//!  acceptor --sockets--> worker (one per core): mio loop + session shard --requests--> core: consensus,
//!                          ^   |                                                        replica, apply
//!                          |   '--four-letter words--> reporter                          |  |    |
//!                          '------------- inbox + wake-up ------------------------------'  |    |
//!                                                        log writer <--rounds to persist---'    |
//!                                                        snapshot writer <--walk from here on---'
//!  http: metrics for Prometheus, from what the others count
//! ```

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use ostler_node::{
    AuthSettings, CleanerSettings, Core as DecidingCore, CoreSettings, DigestAlgorithm, Inbox, Lease,
    Replica, ReplicaSettings, Shard, ShardId, ShardSettings, ShardStats, SharedState,
};
use ostler_replication::{Replicator, Settings as ConsensusSettings};
use ostler_storage::SpareMaker;
use ostler_tree::{Member, Settings};
use ostler_types::{LogIndex, Term};
use ostler_wire::Limits;
use parking_lot::Mutex;

use crate::acceptor::{self, Acceptor, AcceptorHandle, ListenError, Listener, PortUse};
use crate::admission::Gate;
use crate::clock;
use crate::config::{self, ServerConfig};
use crate::core::{Core, CoreEvent, CoreParts};
use crate::ensemble::{self, Opened};
use crate::log_writer::{LogStats, LogWriter};
use crate::membership_writer::{self, MembershipWriter};
use crate::metrics::{HttpHandle, HttpServer, Metrics, Sources};
use crate::peers::Peers;
use crate::recovery::{self, RecoveryError};
use crate::reports::{Question, Reporter};
use crate::snapshots::{self, SnapshotJob, SnapshotStats, SnapshotWriter};
use crate::worker::{Worker, WorkerHandle, WorkerMessage};

/// A standalone server's number, as in ZooKeeper: the top byte of its session ids.
const STANDALONE_ID: u8 = 1;
/// How often it is looked whether waiting for a majority is to be given up.
const SERVING_POLL: Duration = Duration::from_millis(50);
/// Unsent output a worker keeps for all its clients, bytes.
const UNSENT_BYTES: usize = 256 << 20;
/// Most I/O workers: past this the core, not the sockets, is what is busy.
const MAX_WORKERS: usize = 8;
/// Scrapers that the kernel keeps waiting.
const METRICS_BACKLOG: i32 = 128;

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The client port, or that of the metrics.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The port for other servers.
    #[error("cannot listen for other servers on {address}: {source}; correct this server's server.N line")]
    QuorumPort {
        /// Where.
        address: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The data directory.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// The operating system refused a thread or a descriptor.
    #[error("cannot start: {0}")]
    System(#[from] std::io::Error),
}

/// A running server.
pub struct Server {
    address: SocketAddr,
    linearizable_address: Option<SocketAddr>,
    metrics_address: Option<SocketAddr>,
    acceptor: AcceptorHandle,
    acceptor_thread: Option<JoinHandle<()>>,
    http: Option<HttpHandle>,
    http_thread: Option<JoinHandle<()>>,
    workers: Vec<WorkerHandle>,
    worker_threads: Vec<JoinHandle<()>>,
    core: Sender<CoreEvent>,
    /// The other servers, unless there can be none.
    peers: Option<Arc<Peers>>,
    /// The core and those that end after it.
    rest: Vec<JoinHandle<()>>,
    /// Hears once from the core, when sessions can be served, if that was not waited for at the start.
    serving: Mutex<Option<(Receiver<()>, Arc<Metrics>)>>,
    /// Held as long as the server runs.
    _data: ostler_storage::DataDir,
}

/// Everything that gets a thread, assembled and not yet running.
struct Parts {
    log_writer: LogWriter,
    snapshot_writer: SnapshotWriter,
    snapshot_jobs: Receiver<SnapshotJob>,
    spares: SpareMaker,
    membership_writer: Option<MembershipWriter>,
    core: Core,
    /// Hears once from the core, when sessions can be served.
    serving: Receiver<()>,
    metrics: Arc<Metrics>,
    http: Option<HttpServer>,
    reporter: Reporter,
    questions: Receiver<Question>,
    workers: Vec<Worker>,
    acceptor: Acceptor,
}

impl Server {
    /// Opens the ports, recovers the data and starts everything. A server that can be alone serves when this returns;
    /// another one as soon as it is in touch with a majority, see [`wait_until_serving`](Self::wait_until_serving). One
    /// with an empty data directory returns from here only when it belongs to a cluster.
    ///
    /// # Errors
    /// See [`StartError`]; nothing runs then.
    pub fn start(config: ServerConfig) -> Result<Server, StartError> {
        // The ports first: of two servers started by mistake the second must not touch anything.
        let listener = Listener::bind(&config.listen)?;
        let address = listener.address()?;
        let linearizable_address = listener.linearizable_address()?;
        let metrics_listener = match &config.metrics.prometheus {
            Some(endpoint) => Some(acceptor::bind(PortUse::Metrics, &endpoint.listen, METRICS_BACKLOG)?),
            None => None,
        };
        let metrics_address = metrics_listener.as_ref().map(|listener| listener.local_addr()).transpose()?;
        let started = clock::now();
        let (core_sender, core_events) = channel();
        let in_ensemble = config.ensemble.as_ref().is_some_and(|ensemble| ensemble.servers.len() > 1);
        let turned_away = in_ensemble.then(|| listener.turn_away()).transpose()?;
        let Opened { recovered, peers, membership } = ensemble::open(&config, &core_sender, &core_events)?;
        let now = clock::now();
        let state: SharedState = Arc::new(parking_lot::RwLock::new(recovered.state));
        if let Some((peers, roster)) = &peers {
            roster.set_state(state.clone());
            peers.serve_snapshots(recovered.snapshots.clone());
        }
        let gate = Arc::new(Gate::new(&config.listen, now));
        let lease = Arc::new(Lease::new(config.elections.longest_election().as_millis() as u64));
        let (question_sender, questions) = channel();

        let worker_count = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_WORKERS);
        let (mut workers, mut handles, mut inboxes) = (Vec::new(), Vec::new(), Vec::new());
        let mut shards = Vec::new();
        for index in 0..worker_count {
            let id = ShardId(index as u16);
            let (inbox, stats) = (Arc::new(Inbox::default()), Arc::new(ShardStats::default()));
            let settings = shard_settings(&config, gate.clone(), lease.clone(), worker_count);
            let make_shard = {
                let (state, inbox, stats) = (state.clone(), inbox.clone(), stats.clone());
                move |now| Shard::new(id, settings, state, inbox, stats, now)
            };
            let (worker, handle) =
                Worker::new(id, core_sender.clone(), question_sender.clone(), gate.clone(), make_shard)?;
            workers.push(worker);
            shards.push(stats.clone());
            handles.push((handle, stats));
            inboxes.push(inbox);
        }
        drop(question_sender);

        let log_stats = Arc::new(LogStats::default());
        let spares = recovered.log.spare_maker();
        let (log_writer, log_handle) = LogWriter::new(
            recovered.log,
            core_sender.clone(),
            peers.as_ref().map(|(peers, _)| peers.clone()),
            gate.clone(),
            log_stats.clone(),
            config.data.fsync_warning,
        );
        let snapshot_stats = Arc::new(SnapshotStats::default());
        let (snapshot_sender, snapshot_jobs) = channel();
        let snapshot_writer = SnapshotWriter::new(
            recovered.snapshots.clone(),
            recovered.identity,
            state.clone(),
            core_sender.clone(),
            snapshot_stats.clone(),
            &config.data,
        );
        let consensus = ConsensusSettings {
            election_ticks: config.elections.election_ticks.get() as usize,
            heartbeat_ticks: config.elections.heartbeat_ticks.get() as usize,
            seed: recovery::random_id(),
            ..ConsensusSettings::new(recovered.identity.node_id)
        };
        let mut replicator = Replicator::new(consensus, recovered.log_tail, &membership)
            .map_err(|error| RecoveryError::Inconsistent(error.to_string()))?;
        if let Some(info) = &recovered.snapshot {
            let (index, term) = (LogIndex(info.meta.index), Term(info.meta.term));
            replicator.offer_snapshot(snapshots::offer(&info.ticket(), index, term, membership));
        }
        let (serving_sender, serving) = sync_channel(1);
        let worker_handles: Vec<WorkerHandle> = handles.iter().map(|(handle, _)| handle.clone()).collect();
        let replica = Replica::new(replica_settings(&config), state.clone(), inboxes);
        let settings = core_settings(&config, recovered.identity.node_id);
        let core = DecidingCore::new(settings, replicator, replica, lease.clone(), worker_count, now);
        let status = Arc::new(Mutex::new(core.status()));
        let (membership, membership_writer) = membership_writer::watch(&config, server_id(&config));
        let core = Core::new(CoreParts {
            events: core_events,
            core,
            log: log_handle,
            snapshots: snapshot_sender,
            store: recovered.snapshots,
            state: state.clone(),
            workers: worker_handles.clone(),
            peers: peers.clone(),
            membership,
            status: status.clone(),
            tick_ms: config.elections.tick.as_millis() as u64,
            serving: serving_sender,
        });
        let sources = Sources {
            state: state.clone(),
            shards,
            gate: gate.clone(),
            log: log_stats,
            snapshots: snapshot_stats,
            status,
            lease: lease.clone(),
            read_only_mode: config.read_only_mode,
            in_ensemble: config.ensemble.as_ref().is_some_and(|ensemble| ensemble.servers.len() > 1),
        };
        let metrics = Arc::new(Metrics::new(sources, started));
        let process = config.metrics.prometheus.as_ref().is_some_and(|endpoint| endpoint.process);
        let http = metrics_listener
            .map(|listener| HttpServer::new(listener, metrics.clone(), process))
            .transpose()?;
        let (http, http_handle) = http.unzip();
        let reporter = Reporter {
            config,
            client_port: address.port(),
            state,
            workers: worker_handles.clone(),
            core: core_sender.clone(),
            metrics: metrics.clone(),
            trace_mask: 306,
        };
        drop(turned_away);
        let (acceptor, acceptor_handle) = Acceptor::new(listener, gate, handles)?;
        let mut server = Server {
            address,
            linearizable_address,
            metrics_address,
            acceptor: acceptor_handle,
            acceptor_thread: None,
            http: http_handle,
            http_thread: None,
            workers: worker_handles,
            worker_threads: Vec::new(),
            core: core_sender,
            peers: peers.map(|(peers, _)| peers),
            rest: Vec::new(),
            serving: Mutex::new(None),
            _data: recovered.data_dir,
        };
        let launched = server.launch(Parts {
            log_writer,
            snapshot_writer,
            snapshot_jobs,
            spares,
            membership_writer,
            core,
            serving,
            metrics,
            http,
            reporter,
            questions,
            workers,
            acceptor,
        });
        match launched {
            Ok(()) => Ok(server),
            Err(error) => {
                server.stop();
                Err(error)
            }
        }
    }

    /// Gives each part its thread. After an error [`stop`](Self::stop) ends those that have theirs.
    fn launch(&mut self, parts: Parts) -> Result<(), StartError> {
        let Parts { log_writer, snapshot_writer, snapshot_jobs, spares, core, serving, .. } = parts;
        let Parts { metrics, http, reporter, questions, workers, acceptor, membership_writer, .. } = parts;
        // Before the data is served, so that a start that takes long can be watched.
        if let Some(http) = http {
            self.http_thread = Some(spawn("http", move || http.run())?);
        }
        self.rest.push(spawn("log", move || log_writer.run())?);
        self.rest.push(spawn("snapshot", move || snapshot_writer.run(snapshot_jobs))?);
        self.rest.push(spawn("segments", move || {
            spares.run(|news| match news {
                Some(error) => tracing::warn!(%error, "cannot prepare the next log segment, trying on"),
                None => tracing::info!("the next log segment can be prepared again"),
            });
        })?);
        if let Some(writer) = membership_writer {
            self.rest.push(spawn("membership", move || writer.run())?);
        }
        self.rest.push(spawn("core", move || core.run())?);
        if self.peers.is_none() {
            // The core ends the process if it cannot get there.
            if serving.recv().is_err() {
                let ended = "the log ended before it could be served".to_owned();
                return Err(RecoveryError::Inconsistent(ended).into());
            }
            metrics.serving();
        } else {
            // Four-letter words are answered, and clients turned away, until there is a majority.
            *self.serving.get_mut() = Some((serving, metrics));
        }
        self.rest.push(spawn("report", move || reporter.run(questions))?);
        for (index, worker) in workers.into_iter().enumerate() {
            self.worker_threads.push(spawn(&format!("io-{index}"), move || worker.run())?);
        }
        self.acceptor_thread = Some(spawn("accept", move || acceptor.run())?);
        Ok(())
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where clients connect whose reads are all linearizable, if there is such a port.
    pub fn linearizable_address(&self) -> Option<SocketAddr> {
        self.linearizable_address
    }

    /// Where Prometheus finds `/metrics`, if it does.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// Waits until sessions can be served, or until `give_up` says not to wait any longer. Returns whether they can.
    pub fn wait_until_serving(&self, give_up: impl Fn() -> bool) -> bool {
        let Some((serving, metrics)) = self.serving.lock().take() else { return true };
        loop {
            match serving.recv_timeout(SERVING_POLL) {
                Ok(()) => {
                    metrics.serving();
                    return true;
                }
                Err(RecvTimeoutError::Timeout) if !give_up() => {}
                Err(_) => return false,
            }
        }
    }

    /// Stops gracefully: leadership goes to another server, there are no new connections, requests in flight are
    /// answered, the log is synced. Sessions stay: they go on when the server is started again, or at once on another
    /// server.
    pub fn stop(self) {
        let (handed_over, done) = sync_channel(1);
        if self.peers.is_some() && self.core.send(CoreEvent::HandOver(handed_over)).is_ok() {
            // The core ends the process if it cannot go on.
            let _ = done.recv();
        }
        self.acceptor.stop();
        self.acceptor_thread.into_iter().for_each(join);
        for worker in &self.workers {
            worker.send(WorkerMessage::Stop);
        }
        self.worker_threads.into_iter().for_each(join);
        // The core ends when it finds the log idle, and with it everybody who waits for it.
        let _ = self.core.send(CoreEvent::Stop);
        drop(self.core);
        self.rest.into_iter().for_each(join);
        drop(self.http);
        self.http_thread.into_iter().for_each(join);
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(format!("ostler-{name}")).spawn(work)
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        // It has said why. With panic=abort this is never reached.
        tracing::error!("a thread of the server had panicked");
    }
}

fn shard_settings(
    config: &ServerConfig,
    gate: Arc<Gate>,
    lease: Arc<Lease>,
    workers: usize,
) -> ShardSettings {
    let requests = &config.requests;
    let max_frame = requests.max_frame_bytes.get() as usize;
    let timeouts = config.sessions.timeouts;
    ShardSettings {
        server: server_id(config),
        max_frame,
        limits: Limits { max_field_bytes: max_frame.saturating_add(requests.extra_bytes.get() as usize) },
        session_timeout_ms: timeouts.min_ms()..=timeouts.max_ms(),
        outstanding_limit: (requests.max_outstanding.get() as usize / workers).max(1),
        unsent_limit: UNSENT_BYTES,
        sessionless_timeout_ms: config.listen.sessionless_timeout.as_millis() as u64,
        auth: auth_settings(&config.auth),
        admission: gate,
        lease,
        read_only_mode: config.read_only_mode,
        draw_secret: Box::new(|| {
            let mut secret = [0; 16];
            // Without randomness there are no secrets, and without secrets no sessions.
            getrandom::fill(&mut secret).expect("the operating system has random numbers");
            secret
        }),
    }
}

fn auth_settings(config: &config::AuthConfig) -> AuthSettings {
    let Some(digest) = &config.digest else {
        return AuthSettings { digest_enabled: false, ..AuthSettings::default() };
    };
    AuthSettings {
        digest_enabled: true,
        digest_algorithm: match digest.algorithm {
            config::DigestAlgorithm::Sha1 => DigestAlgorithm::Sha1,
            config::DigestAlgorithm::Sha224 => DigestAlgorithm::Sha224,
            config::DigestAlgorithm::Sha256 => DigestAlgorithm::Sha256,
            config::DigestAlgorithm::Sha384 => DigestAlgorithm::Sha384,
            config::DigestAlgorithm::Sha512 => DigestAlgorithm::Sha512,
        },
        super_digest: digest.super_digest.as_ref().map(|digest| digest.as_str().to_owned()),
    }
}

fn replica_settings(config: &ServerConfig) -> ReplicaSettings {
    ReplicaSettings {
        server: server_id(config),
        nonce: recovery::random_id(),
        snap_count: config.data.snapshot_after_transactions.get().into(),
        snap_bytes: config.data.snapshot_after_log_bytes.map(|bytes| bytes.get()),
    }
}

fn core_settings(config: &ServerConfig, node_id: u64) -> CoreSettings {
    let tree = &config.tree;
    let own_member = |ensemble: &config::EnsembleConfig| {
        (ensemble.server_id, Member { node: Some(node_id), spec: ensemble.this().clone() })
    };
    CoreSettings {
        replicated: Settings {
            skip_acl: tree.skip_acl,
            enforce_quota: tree.enforce_quota,
            extended_types_enabled: tree.ttl_nodes,
            digest_enabled: tree.digest,
            reconfig_enabled: config.reconfig_enabled,
            standalone_enabled: config.standalone_enabled,
            container_max_never_used_ms: tree
                .cleaner
                .max_never_used
                .map_or(0, |interval| interval.as_millis() as i64),
            ..Settings::default()
        },
        cleaner: CleanerSettings {
            interval_ms: tree.cleaner.check_interval.as_millis() as u64,
            per_minute: tree.cleaner.max_per_minute.get(),
        },
        own_members: config.ensemble.iter().map(own_member).collect(),
    }
}

/// This server's number: what others and clients know it by.
fn server_id(config: &ServerConfig) -> u8 {
    config.ensemble.as_ref().map_or(STANDALONE_ID, |ensemble| ensemble.server_id)
}
