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
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::thread::JoinHandle;

use ostler_node::{
    AuthSettings, CleanerSettings, DigestAlgorithm, Inbox, Replica, ReplicaSettings, Shard, ShardId,
    ShardSettings, ShardStats, SharedState,
};
use ostler_replication::Replicator;
use ostler_storage::SpareMaker;
use ostler_tree::Settings;
use ostler_wire::Limits;

use crate::acceptor::{self, Acceptor, AcceptorHandle, ListenError, Listener, PortUse};
use crate::admission::Gate;
use crate::clock;
use crate::config::{self, ServerConfig};
use crate::core::{Core, CoreEvent, CoreParts};
use crate::log_writer::{LogStats, LogWriter};
use crate::metrics::{HttpHandle, HttpServer, Metrics, Sources};
use crate::recovery::{self, RecoveryError};
use crate::reports::{Question, Reporter};
use crate::snapshots::{SnapshotRequest, SnapshotStats, SnapshotWriter};
use crate::worker::{Worker, WorkerHandle, WorkerMessage};

/// A standalone server's number, as in ZooKeeper: the top byte of its session ids.
const STANDALONE_ID: u8 = 1;
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
    metrics_address: Option<SocketAddr>,
    acceptor: AcceptorHandle,
    acceptor_thread: Option<JoinHandle<()>>,
    http: Option<HttpHandle>,
    http_thread: Option<JoinHandle<()>>,
    workers: Vec<WorkerHandle>,
    worker_threads: Vec<JoinHandle<()>>,
    core: Sender<CoreEvent>,
    /// The core and those that end after it.
    rest: Vec<JoinHandle<()>>,
    /// Held as long as the server runs.
    _data: ostler_storage::DataDir,
}

/// Everything that gets a thread, assembled and not yet running.
struct Parts {
    log_writer: LogWriter,
    snapshot_writer: SnapshotWriter,
    snapshot_requests: Receiver<SnapshotRequest>,
    spares: SpareMaker,
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
    /// Opens the port, recovers the data and serves. Returns once sessions can be served.
    ///
    /// # Errors
    /// See [`StartError`]; nothing runs then.
    pub fn start(config: ServerConfig) -> Result<Server, StartError> {
        // The ports first: of two servers started by mistake the second must not touch anything.
        let listener = Listener::bind(&config.listen)?;
        let address = listener.address()?;
        let metrics_listener = match &config.metrics.prometheus {
            Some(endpoint) => Some(acceptor::bind(PortUse::Metrics, &endpoint.listen, METRICS_BACKLOG)?),
            None => None,
        };
        let metrics_address = metrics_listener.as_ref().map(|listener| listener.local_addr()).transpose()?;
        let started = clock::now();
        let recovered = recovery::recover(&config.data)?;
        let now = clock::now();
        let state: SharedState = Arc::new(parking_lot::RwLock::new(recovered.state));
        let gate = Arc::new(Gate::new(&config.listen, now));
        let (core_sender, core_events) = channel();
        let (question_sender, questions) = channel();

        let worker_count = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_WORKERS);
        let (mut workers, mut handles, mut inboxes) = (Vec::new(), Vec::new(), Vec::new());
        let mut shards = Vec::new();
        for index in 0..worker_count {
            let id = ShardId(index as u16);
            let (inbox, stats) = (Arc::new(Inbox::default()), Arc::new(ShardStats::default()));
            let settings = shard_settings(&config, gate.clone(), worker_count);
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
            gate.clone(),
            log_stats.clone(),
            config.data.fsync_warning,
        );
        let snapshot_stats = Arc::new(SnapshotStats::default());
        let (snapshot_sender, snapshot_requests) = channel();
        let snapshot_writer = SnapshotWriter::new(
            recovered.snapshots,
            recovered.identity,
            state.clone(),
            core_sender.clone(),
            snapshot_stats.clone(),
            &config.data,
        );
        let replicator = Replicator::single_voter(recovered.identity.node_id, recovered.log_tail)
            .map_err(|error| RecoveryError::Inconsistent(error.to_string()))?;
        let replica = Replica::new(replica_settings(&config), state.clone(), inboxes, now);
        let (serving_sender, serving) = sync_channel(1);
        let worker_handles: Vec<WorkerHandle> = handles.iter().map(|(handle, _)| handle.clone()).collect();
        let core = Core::new(CoreParts {
            events: core_events,
            replicator,
            replica,
            log: log_handle,
            snapshots: snapshot_sender,
            state: state.clone(),
            workers: worker_handles.clone(),
            serving: serving_sender,
        });
        let sources = Sources {
            state: state.clone(),
            shards,
            gate: gate.clone(),
            log: log_stats,
            snapshots: snapshot_stats,
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
        let (acceptor, acceptor_handle) = Acceptor::new(listener, gate, handles)?;
        let mut server = Server {
            address,
            metrics_address,
            acceptor: acceptor_handle,
            acceptor_thread: None,
            http: http_handle,
            http_thread: None,
            workers: worker_handles,
            worker_threads: Vec::new(),
            core: core_sender,
            rest: Vec::new(),
            _data: recovered.data_dir,
        };
        let launched = server.launch(Parts {
            log_writer,
            snapshot_writer,
            snapshot_requests,
            spares,
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
        let Parts { log_writer, snapshot_writer, snapshot_requests, spares, core, serving, .. } = parts;
        let Parts { metrics, http, reporter, questions, workers, acceptor, .. } = parts;
        // Before the data is served, so that a start that takes long can be watched.
        if let Some(http) = http {
            self.http_thread = Some(spawn("http", move || http.run())?);
        }
        self.rest.push(spawn("log", move || log_writer.run())?);
        self.rest.push(spawn("snapshot", move || snapshot_writer.run(snapshot_requests))?);
        self.rest.push(spawn("segments", move || {
            spares.run(|news| match news {
                Some(error) => tracing::warn!(%error, "cannot prepare the next log segment, trying on"),
                None => tracing::info!("the next log segment can be prepared again"),
            });
        })?);
        self.rest.push(spawn("core", move || core.run())?);
        // The core ends the process if it cannot get there.
        if serving.recv().is_err() {
            return Err(RecoveryError::Inconsistent("the log ended before it could be served".into()).into());
        }
        metrics.serving();
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

    /// Where Prometheus finds `/metrics`, if it does.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    /// Stops gracefully: no new connections, requests in flight are answered, the log is synced. Sessions stay
    /// and go on when the server is started again.
    pub fn stop(self) {
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

fn shard_settings(config: &ServerConfig, gate: Arc<Gate>, workers: usize) -> ShardSettings {
    let requests = &config.requests;
    let max_frame = requests.max_frame_bytes.get() as usize;
    let timeouts = config.sessions.timeouts;
    ShardSettings {
        server: STANDALONE_ID,
        max_frame,
        limits: Limits { max_field_bytes: max_frame.saturating_add(requests.extra_bytes.get() as usize) },
        session_timeout_ms: timeouts.min_ms()..=timeouts.max_ms(),
        outstanding_limit: (requests.max_outstanding.get() as usize / workers).max(1),
        unsent_limit: UNSENT_BYTES,
        sessionless_timeout_ms: config.listen.sessionless_timeout.as_millis() as u64,
        auth: auth_settings(&config.auth),
        admission: gate,
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
    let (data, tree) = (&config.data, &config.tree);
    ReplicaSettings {
        server: STANDALONE_ID,
        replicated: Settings {
            skip_acl: tree.skip_acl,
            enforce_quota: tree.enforce_quota,
            extended_types_enabled: tree.ttl_nodes,
            digest_enabled: tree.digest,
            reconfig_enabled: config.reconfig_enabled,
            container_max_never_used_ms: tree
                .cleaner
                .max_never_used
                .map_or(0, |interval| interval.as_millis() as i64),
            ..Settings::default()
        },
        snap_count: data.snapshot_after_transactions.get().into(),
        snap_bytes: data.snapshot_after_log_bytes.map(|bytes| bytes.get()),
        cleaner: CleanerSettings {
            interval_ms: tree.cleaner.check_interval.as_millis() as u64,
            per_minute: tree.cleaner.max_per_minute.get(),
        },
    }
}
