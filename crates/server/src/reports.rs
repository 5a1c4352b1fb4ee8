//! Answers four-letter words: gathers the facts from every thread and has `words` put them into text.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, sync_channel};
use std::time::Duration;

use ostler_node::{ConnToken, ConnectionFacts, Millis, ShardId, SharedState};
use ostler_types::SessionId;
use ostler_wire::OpCode;

use crate::clock;
use crate::config::ServerConfig;
use crate::core::CoreEvent;
use crate::metrics::Metrics;
use crate::words::{
    self, ConnectionDeadline, ConnectionReport, DataSizes, DigestReport, DumpReport, Effect, Environment,
    LastOperation, Memory, SessionDeadline, SessionReport, Summary, WatchTotals, Word,
};
use crate::worker::{WorkerHandle, WorkerMessage};

/// A thread that does not answer by then is stuck; the rest of the report goes out without it.
const PATIENCE: Duration = Duration::from_secs(5);

/// A four-letter word somebody sent.
pub(crate) struct Question {
    pub(crate) shard: ShardId,
    pub(crate) connection: ConnToken,
    pub(crate) bytes: Vec<u8>,
}

/// Everything a report may speak of.
pub(crate) struct Reporter {
    pub(crate) config: ServerConfig,
    pub(crate) client_port: u16,
    pub(crate) state: SharedState,
    pub(crate) workers: Vec<WorkerHandle>,
    pub(crate) core: Sender<CoreEvent>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) trace_mask: i64,
}

impl Reporter {
    /// Answers until every worker is gone.
    pub(crate) fn run(mut self, questions: Receiver<Question>) {
        for question in questions {
            let text = self.answer(&question.bytes);
            let worker = &self.workers[question.shard.0 as usize];
            worker.send(WorkerMessage::Answer(question.connection, text));
        }
    }

    fn answer(&mut self, bytes: &[u8]) -> Vec<u8> {
        let Some(word) = bytes.first_chunk().and_then(|four| Word::from_bytes(*four)) else {
            // Not a word: ZooKeeper takes it for a length and closes.
            return Vec::new();
        };
        if !self.config.words.allows(word) {
            return words::not_whitelisted(word).into_bytes();
        }
        match word.effect() {
            Effect::None => {}
            Effect::ResetConnections => {
                self.ask_workers(WorkerMessage::ResetConnections);
            }
            Effect::ResetServer => self.metrics.reset(),
            Effect::SetTraceMask => {
                if let Some(mask) = bytes.get(4..).and_then(|rest| rest.first_chunk()) {
                    self.trace_mask = i64::from_be_bytes(*mask);
                }
            }
        }
        self.text(word).into_bytes()
    }

    fn text(&self, word: Word) -> String {
        if word.needs_serving() && self.metrics.mode().is_none() {
            return words::NOT_SERVING.to_owned();
        }
        match word {
            Word::Conf => {
                let membership = self.membership();
                words::conf(&self.config, self.client_port, &self.data_sizes(), &membership)
            }
            Word::Cons => words::cons(&self.connections()),
            Word::Crst => words::CONNECTION_STATS_RESET.to_owned(),
            Word::Dirs => words::dirs(&self.data_sizes()),
            Word::Dump => words::dump(self.dump()),
            Word::Envi => words::envi(&Environment::of_this_process(), Memory::now()),
            Word::Gtmk | Word::Stmk => words::trace_mask(self.trace_mask),
            Word::Hash => words::hash(&self.digests()),
            Word::Isro => words::isro(self.metrics.mode()).to_owned(),
            Word::Mntr => words::mntr(&self.metrics.table()),
            Word::Ruok => words::IMOK.to_owned(),
            Word::Srst => words::SERVER_STATS_RESET.to_owned(),
            Word::Srvr => words::srvr(&self.metrics.server()),
            Word::Stat => words::stat(&self.metrics.server(), &self.connections()),
            Word::Wchc => {
                let mut by_session: BTreeMap<SessionId, Vec<String>> = BTreeMap::new();
                for (session, path) in self.watches() {
                    by_session.entry(session).or_default().push(path);
                }
                words::wchc(by_session)
            }
            Word::Wchp => {
                let mut by_path: BTreeMap<String, Vec<SessionId>> = BTreeMap::new();
                for (session, path) in self.watches() {
                    by_path.entry(path).or_default().push(session);
                }
                words::wchp(by_path)
            }
            Word::Wchs => {
                let watches = self.watches();
                let distinct = |mut all: Vec<&str>| {
                    all.sort_unstable();
                    all.dedup();
                    all.len() as u64
                };
                let mut sessions: Vec<SessionId> = watches.iter().map(|(session, _)| *session).collect();
                sessions.sort_unstable();
                sessions.dedup();
                words::wchs(WatchTotals {
                    connections: sessions.len() as u64,
                    paths: distinct(watches.iter().map(|(_, path)| &**path).collect()),
                    watches: watches.len() as u64,
                })
            }
        }
    }

    /// Puts a question to every worker at once and collects the answers.
    fn ask_workers<T>(&self, question: impl Fn(SyncSender<T>) -> WorkerMessage) -> Vec<T> {
        let asked: Vec<_> = self
            .workers
            .iter()
            .map(|worker| {
                let (sender, answer) = sync_channel(1);
                worker.send(question(sender));
                answer
            })
            .collect();
        asked.into_iter().filter_map(|answer| answer.recv_timeout(PATIENCE).ok()).collect()
    }

    fn facts(&self) -> Vec<ConnectionFacts> {
        self.ask_workers(WorkerMessage::Connections).into_iter().flatten().collect()
    }

    fn watches(&self) -> Vec<(SessionId, String)> {
        let mut watches: Vec<_> = self.ask_workers(WorkerMessage::Watches).into_iter().flatten().collect();
        watches.sort_unstable();
        watches
    }

    fn connections(&self) -> Vec<ConnectionReport> {
        let (now, wall_ms) = (clock::now(), clock::wall_ms());
        self.facts().iter().map(|facts| connection_report(facts, now, wall_ms)).collect()
    }

    fn digests(&self) -> Vec<DigestReport> {
        let state = self.state.read();
        state
            .tree_digest_history()
            .map(|entry| DigestReport { zxid: entry.zxid, digest: entry.digest as i64 })
            .collect()
    }

    fn dump(&self) -> DumpReport {
        let (now, wall_ms) = (clock::now(), clock::wall_ms() as u64);
        let (sender, answer) = sync_channel(1);
        let deadlines = match self.core.send(CoreEvent::Deadlines(sender)) {
            Ok(()) => answer.recv_timeout(PATIENCE).unwrap_or_default(),
            Err(_) => Vec::new(),
        };
        let connections = self
            .facts()
            .iter()
            .map(|facts| ConnectionDeadline {
                expires_unix_ms: connection_deadline(facts, now, wall_ms),
                peer: facts.peer,
                session: facts.session,
            })
            .collect();
        // One session per hold of the lock: with millions of ephemerals writers must get in between.
        let owners: Vec<SessionId> = self.state.read().ephemeral_owners().collect();
        let of_owner = |session| (session, self.state.read().ephemerals_of(session));
        let ephemerals = owners.into_iter().map(of_owner).filter(|(_, paths)| !paths.is_empty()).collect();
        DumpReport {
            sessions: deadlines
                .into_iter()
                .map(|(from_now, session)| SessionDeadline { expires_unix_ms: wall_ms + from_now, session })
                .collect(),
            ephemerals,
            connections,
        }
    }

    /// The data of `/zookeeper/config`.
    fn membership(&self) -> String {
        let state = self.state.read();
        let data = state.lookup("/zookeeper/config").and_then(|znode| znode.data());
        String::from_utf8_lossy(data.unwrap_or_default()).into_owned()
    }

    fn data_sizes(&self) -> DataSizes {
        let data = &self.config.data;
        let (snapshot_dir, log_dir) = crate::recovery::directories(data);
        let size = |dir: &Path, ending: &str| {
            let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
            entries
                .flatten()
                .filter(|entry| entry.file_name().to_string_lossy().ends_with(ending))
                .filter_map(|entry| entry.metadata().ok())
                .map(|metadata| metadata.len())
                .sum()
        };
        DataSizes {
            snapshot_bytes: size(&snapshot_dir, ".snap"),
            log_bytes: size(&log_dir, ".wal"),
            snapshot_dir,
            log_dir,
        }
    }
}

/// When the connection would be closed for silence: with its session.
fn connection_deadline(facts: &ConnectionFacts, now: Millis, wall_ms: u64) -> u64 {
    let heard_ago = now.saturating_sub(facts.last_heard);
    wall_ms + u64::from(facts.timeout_ms).saturating_sub(heard_ago)
}

fn connection_report(facts: &ConnectionFacts, now: Millis, wall_ms: i64) -> ConnectionReport {
    let session = (facts.session != SessionId::NONE).then(|| SessionReport {
        id: facts.session,
        last_operation: facts.last_op.map_or(LastOperation::CreateSession, last_operation),
        established_unix_ms: (wall_ms as u64).saturating_sub(facts.age_ms),
        timeout_ms: facts.timeout_ms,
        last_cxid: facts.last_xid.map(|xid| xid.0),
        last_zxid: (facts.last_zxid.0 >= 0).then_some(facts.last_zxid),
        last_response_ms: facts.last_response_ago_ms.map_or(0, |ago| now.saturating_sub(ago)),
        last_latency_ms: facts.last_latency_ms.into(),
        latency_ms: latency_ms(facts),
    });
    ConnectionReport {
        peer: facts.peer,
        reading: facts.reading,
        writing: facts.writing,
        queued: facts.outstanding as u64,
        received: facts.received,
        sent: facts.sent,
        session,
    }
}

fn latency_ms(facts: &ConnectionFacts) -> Summary {
    Summary {
        count: facts.answered,
        sum: facts.total_latency_ms,
        min: facts.min_latency_ms.into(),
        max: facts.max_latency_ms.into(),
    }
}

fn last_operation(op: OpCode) -> LastOperation {
    match op {
        OpCode::Create | OpCode::Create2 | OpCode::CreateContainer | OpCode::CreateTtl => {
            LastOperation::Create
        }
        OpCode::Delete | OpCode::DeleteContainer => LastOperation::Delete,
        OpCode::Exists => LastOperation::Exists,
        OpCode::GetData => LastOperation::GetData,
        OpCode::SetData => LastOperation::SetData,
        OpCode::GetAcl => LastOperation::GetAcl,
        OpCode::SetAcl => LastOperation::SetAcl,
        OpCode::GetChildren | OpCode::GetChildren2 => LastOperation::GetChildren,
        OpCode::Sync => LastOperation::Sync,
        OpCode::Ping => LastOperation::Ping,
        OpCode::Check => LastOperation::Check,
        OpCode::Multi => LastOperation::Multi,
        OpCode::Reconfig => LastOperation::Reconfig,
        OpCode::CheckWatches => LastOperation::CheckWatches,
        OpCode::RemoveWatches => LastOperation::RemoveWatches,
        OpCode::MultiRead => LastOperation::MultiRead,
        OpCode::Auth | OpCode::Sasl => LastOperation::None,
        OpCode::SetWatches => LastOperation::SetWatches,
        OpCode::SetWatches2 => LastOperation::SetWatches2,
        OpCode::GetEphemerals => LastOperation::GetEphemerals,
        OpCode::GetAllChildrenNumber => LastOperation::GetAllChildrenNumber,
        OpCode::AddWatch => LastOperation::AddWatch,
        OpCode::WhoAmI => LastOperation::WhoAmI,
        OpCode::CreateSession => LastOperation::CreateSession,
        OpCode::CloseSession => LastOperation::CloseSession,
    }
}
