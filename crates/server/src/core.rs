//! The thread that decides: it runs [`ostler_node::Core`] and hands what that wants done to those who do it. It
//! touches neither a socket nor a disk, so neither a slow client nor a slow fsync stops heartbeats.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender};

use bytes::Bytes;
use ostler_node::{
    Core as Decider, CoreEffect, CoreError, CoreStatus, Millis, News, Persist, ShardRequests, SharedState,
};
use ostler_replication::{HistoryError, SnapshotOffer};
use ostler_storage::SnapshotStore;
use ostler_tree::State;
use ostler_types::{LogIndex, SessionId};
use parking_lot::Mutex;

use crate::clock;
use crate::events::{self, QuotaLog};
use crate::log_writer::{LogRequest, LogWriterHandle};
use crate::membership_writer::MembershipWatch;
use crate::peers::{Delivery, PeerEvent, Peers, Sent, Standing};
use crate::roster::Roster;
use crate::snapshots::{SnapshotJob, SnapshotRequest, ticket_from};
use crate::worker::WorkerHandle;

/// Events handled before the log and the shards have their turn.
const MAX_EVENTS_PER_TURN: usize = 4096;
/// A leader that is to stop gives up handing over after this long.
const HAND_OVER_MS: Millis = 1_500;

/// A stop waits at most this long for the log, once nobody waits for an answer any more.
const STOP_MS: Millis = 3_000;

/// What reaches the core.
pub(crate) enum CoreEvent {
    /// A shard has something.
    Shard(ShardRequests),
    /// Something happened between this server and the others.
    Peer(PeerEvent),
    /// Rounds up to this number are durable.
    Persisted(u64),
    /// The log writer was told to stop and found the disk full; it has ended.
    LogGivenUp,
    /// A snapshot is durable and validated, or failed; the next one may be begun.
    SnapshotDone {
        /// What others can be offered, if it is durable.
        offer: Option<SnapshotOffer>,
        /// Enough snapshots make up for the log up to this index.
        log_may_go_up_to: Option<u64>,
    },
    /// A snapshot from another server is durable and restored; or it is not, which has been logged.
    SnapshotRestored {
        /// Its index.
        index: LogIndex,
        /// The state.
        state: Option<Box<State>>,
    },
    /// When sessions expire, for `dump`: milliseconds from now.
    Deadlines(SyncSender<Vec<(Millis, SessionId)>>),
    /// Hand leadership to another server, if this one has it; answered when that is done or given up.
    HandOver(SyncSender<()>),
    /// Every worker has ended; finish what is in the log and end.
    Stop,
}

/// What the core is made of.
pub(crate) struct CoreParts {
    pub(crate) events: Receiver<CoreEvent>,
    pub(crate) core: Decider,
    pub(crate) log: LogWriterHandle,
    pub(crate) snapshots: Sender<SnapshotJob>,
    pub(crate) store: SnapshotStore,
    pub(crate) state: SharedState,
    /// One per shard, by its id.
    pub(crate) workers: Vec<WorkerHandle>,
    /// The other servers, unless there can be none.
    pub(crate) peers: Option<(Arc<Peers>, Arc<Roster>)>,
    /// What notices changes of the membership.
    pub(crate) membership: MembershipWatch,
    /// How this server stands, for reports.
    pub(crate) status: Arc<Mutex<CoreStatus>>,
    /// The unit of raft's clock.
    pub(crate) tick_ms: Millis,
    /// Told once, when sessions can be served.
    pub(crate) serving: SyncSender<()>,
}

/// See the module's documentation.
pub(crate) struct Core {
    events: Receiver<CoreEvent>,
    core: Decider,
    log: LogWriterHandle,
    snapshots: Sender<SnapshotJob>,
    store: SnapshotStore,
    state: SharedState,
    workers: Vec<WorkerHandle>,
    peers: Option<(Arc<Peers>, Arc<Roster>)>,
    membership: MembershipWatch,
    status: Arc<Mutex<CoreStatus>>,
    tick_ms: Millis,
    /// Told once, when sessions can be served.
    serving: Option<SyncSender<()>>,
    /// Whom to tell that leadership is handed over, and how long to try.
    handing_over: Option<(Millis, SyncSender<()>)>,
    log_given_up: bool,
    /// Server ids of the nodes heard from.
    servers: BTreeMap<u64, u8>,
    /// The links that the deciding core knows to be up, by node.
    links: BTreeMap<u64, u64>,
    quota_log: QuotaLog,
}

impl Core {
    pub(crate) fn new(parts: CoreParts) -> Core {
        let CoreParts {
            events,
            core,
            log,
            snapshots,
            store,
            state,
            workers,
            peers,
            membership,
            status,
            tick_ms,
            serving,
        } = parts;
        Core {
            events,
            core,
            log,
            snapshots,
            store,
            state,
            workers,
            peers,
            membership,
            status,
            tick_ms,
            serving: Some(serving),
            handing_over: None,
            log_given_up: false,
            servers: BTreeMap::new(),
            links: BTreeMap::new(),
            quota_log: QuotaLog::default(),
        }
    }

    /// Runs until told to stop.
    pub(crate) fn run(mut self) {
        let mut next_tick = clock::now() + self.tick_ms;
        let (mut stopping, mut stop_by) = (false, None);
        loop {
            let mut now = clock::now();
            let is_tick = now >= next_tick;
            if is_tick {
                self.core.tick(now);
                // After a stall the ticks that were missed stay missed: catching up would depose a leader.
                next_tick = now + self.tick_ms;
            }
            self.advance(now);
            self.hand_over(now);
            if is_tick {
                *self.status.lock() = self.core.status();
                self.watch_membership();
                if let Some((peers, roster)) = &self.peers
                    && let Some(targets) = roster.changed_targets()
                {
                    peers.set_targets(targets);
                }
            }
            // The leader may go on sending: what is not durable then counts nowhere yet.
            let is_over = self.core.is_durable() || self.log_given_up || stop_by.is_some_and(|at| now >= at);
            if stopping && is_over {
                return;
            }
            if stopping && stop_by.is_none() {
                stop_by = Some(now + STOP_MS);
            }
            let deadline = self.core.next_deadline().map_or(next_tick, |at| at.clamp(now + 1, next_tick));
            match self.events.recv_timeout(clock::until(deadline, now)) {
                Ok(first) => {
                    now = clock::now();
                    stopping |= self.handle(first, now);
                    for _ in 0..MAX_EVENTS_PER_TURN {
                        let Ok(event) = self.events.try_recv() else { break };
                        stopping |= self.handle(event, now);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Handles one event; returns whether it is time to stop.
    fn handle(&mut self, event: CoreEvent, now: Millis) -> bool {
        match event {
            CoreEvent::Shard(requests) => self.core.receive(requests, now),
            CoreEvent::Peer(event) => self.peer(event, now),
            CoreEvent::Persisted(number) => self.core.persisted(number),
            CoreEvent::SnapshotDone { offer, log_may_go_up_to } => {
                match offer {
                    Some(offer) => self.core.snapshot_written(offer),
                    None => self.core.snapshot_failed(),
                }
                if let Some(up_to) = log_may_go_up_to {
                    self.log.send(LogRequest::Purge { up_to });
                }
            }
            CoreEvent::SnapshotRestored { index, state } => match state {
                Some(state) => or_die(self.core.snapshot_fetched(index, state)),
                None => self.core.fetch_failed(index),
            },
            CoreEvent::Deadlines(reply) => {
                let deadlines = self.core.deadlines(now);
                let from_now = deadlines.into_iter().map(|(at, session)| (at.saturating_sub(now), session));
                // Whoever asked may have given up.
                let _ = reply.send(from_now.collect());
            }
            CoreEvent::HandOver(reply) => self.handing_over = Some((now + HAND_OVER_MS, reply)),
            CoreEvent::Stop => {
                self.log.give_up_if_full();
                return true;
            }
            CoreEvent::LogGivenUp => self.log_given_up = true,
        }
        false
    }

    fn peer(&mut self, event: PeerEvent, now: Millis) {
        match event {
            PeerEvent::Up { hello, link, standing, .. } => {
                let (node, server) = (hello.from.node_id, hello.from.server_id);
                self.servers.insert(node, server);
                tracing::info!(server, node = format_args!("{node:016x}"), "link to server is up");
                self.links.insert(node, link);
                self.core.link_up(node, server, now);
                if let Standing::NotMember { index } = standing {
                    self.core.told_not_member(LogIndex(index));
                }
            }
            PeerEvent::Down { server_id, node_id } => {
                tracing::info!(server = server_id, "link to server is down");
                self.links.remove(&node_id);
                self.core.link_down(node_id, false, now);
            }
            PeerEvent::Gone { server_id, node_id } => {
                tracing::info!(server = server_id, "no process listens at that server any more");
                self.core.link_down(node_id, true, now);
            }
            PeerEvent::Heard { hello, .. } => {
                if hello.from.cluster_id.is_none() {
                    self.core.unborn(hello.from.server_id, hello.from.node_id, now);
                }
            }
            PeerEvent::Frames { server_id, node_id, frames, credit } => {
                self.servers.insert(node_id, server_id);
                for frame in frames {
                    or_die(self.core.frame(node_id, frame, now));
                }
                drop(credit);
            }
            PeerEvent::SnapshotProgress { ticket, received, .. } => tracing::info!(
                index = ticket.index,
                received,
                of = ticket.file_bytes,
                "fetching the leader's snapshot"
            ),
            PeerEvent::SnapshotFetched { ticket, file, .. } => {
                let _ = self.snapshots.send(SnapshotJob::Restore { ticket, file: Box::new(file) });
            }
            PeerEvent::SnapshotFailed { ticket, error, .. } => {
                tracing::warn!(index = ticket.index, %error, "cannot fetch the leader's snapshot; it offers another");
                self.core.fetch_failed(LogIndex(ticket.index));
            }
        }
    }

    fn watch_membership(&mut self) {
        let Some((_, roster)) = &self.peers else { return };
        let state = self.state.read();
        if self.membership.look(state.membership(), state.last_zxid()) {
            roster.look_again();
        }
    }

    fn hand_over(&mut self, now: Millis) {
        if let Some((until, reply)) = &self.handing_over
            && (!self.core.hand_over() || now >= *until)
        {
            // Whoever asked may have given up.
            let _ = reply.send(());
            self.handing_over = None;
        }
    }

    /// Lets the core decide, and has done what it decides.
    fn advance(&mut self, now: Millis) {
        or_die(self.core.advance(now, clock::wall_ms()));
        let effects = self.core.take_effects();
        let mut outgoing: Option<(u64, Delivery, Vec<Bytes>)> = None;
        for effect in effects {
            if let CoreEffect::Send { node, frame, must_deliver } = effect {
                let delivery = if must_deliver { Delivery::OrBreak } else { Delivery::MayDrop };
                match &mut outgoing {
                    Some((to, how, frames)) if (*to, *how) == (node, delivery) => frames.push(frame),
                    _ => {
                        self.send(outgoing.replace((node, delivery, vec![frame])));
                    }
                }
                continue;
            }
            self.send(outgoing.take());
            self.perform(effect);
        }
        self.send(outgoing);
        let over_quota = self.core.take_over_quota();
        if !over_quota.is_empty() && self.core.is_serving() {
            self.quota_log.exceeded(&over_quota, now);
        }
        if self.core.is_serving()
            && let Some(serving) = self.serving.take()
        {
            *self.status.lock() = self.core.status();
            // The main thread waits for this and for nothing else.
            let _ = serving.send(());
        }
    }

    fn send(&mut self, outgoing: Option<(u64, Delivery, Vec<Bytes>)>) {
        let (Some((node, delivery, frames)), Some((peers, _))) = (outgoing, &self.peers) else { return };
        let Some(&link) = self.links.get(&node) else { return };
        if peers.send_on(link, node, frames, delivery) == Sent::Full {
            self.core.unreachable(node);
        }
    }

    fn perform(&mut self, effect: CoreEffect) {
        match effect {
            CoreEffect::Send { .. } => unreachable!("sent together"),
            CoreEffect::Persist(Persist { number, install, entries, hard_state, must_sync, then_send }) => {
                self.log.send(LogRequest::Append {
                    number,
                    install,
                    entries,
                    hard_state,
                    must_sync,
                    then_send,
                });
            }
            CoreEffect::Wake(shard) => self.workers[shard.0 as usize].wake(),
            CoreEffect::WriteSnapshot { term, index, membership } => {
                // From here on apply keeps what the walk has not reached.
                let mut state = self.state.write();
                let request = SnapshotRequest {
                    term,
                    index,
                    zxid: state.last_zxid(),
                    membership,
                    walk: state.begin_snapshot_walk(),
                };
                drop(state);
                // The snapshot thread ends after this one.
                let _ = self.snapshots.send(SnapshotJob::Write(request));
            }
            CoreEffect::FetchSnapshot { node, offer } => self.fetch(node, &offer),
            CoreEffect::Discard(state) => {
                // Dropping millions of znodes takes a while.
                let _ = self.snapshots.send(SnapshotJob::Discard(state));
            }
            CoreEffect::News(news) => self.tell(news),
        }
    }

    fn fetch(&mut self, node: u64, offer: &SnapshotOffer) {
        let server = self.servers.get(&node).copied();
        let ready = self
            .peers
            .as_ref()
            .zip(server)
            .and_then(|((peers, _), server)| Some((peers, server, ticket_from(offer)?)));
        let Some((peers, server, ticket)) = ready else {
            return self.core.fetch_failed(offer.index);
        };
        match self.store.receive(ticket.index) {
            Ok(file) => peers.fetch_snapshot(server, node, ticket, file),
            Err(error) => {
                tracing::error!(%error, "cannot make a file for the leader's snapshot");
                self.core.fetch_failed(offer.index);
            }
        }
    }

    fn tell(&mut self, news: News) {
        if let Some((_, roster)) = &self.peers
            && matches!(news, News::Membership(_) | News::Installed { .. })
        {
            roster.look_again();
        }
        // While the log is replayed these are old news, which an earlier run has told.
        if let News::SessionEnded(end) = &news {
            if self.core.is_serving() {
                events::session_ended(end);
            }
            return;
        }
        events::news(&news);
        if let News::Diverged { index, ours, expected } = news {
            crate::die(
                crate::EXIT_DATA,
                format_args!(
                    "after log entry {index} this server's state (digest {ours:016x}) differs from that of most \
                     servers ({expected:016x}), so nothing more is served from it. Keep a copy of dataDir and \
                     dataLogDir for the bug report, then empty both (myid stays) and start the server again: it takes \
                     its place with the others' state"
                ),
            );
        }
    }
}

fn or_die(result: Result<(), CoreError>) {
    if let Err(error) = result {
        let remedy = match &error {
            CoreError::History(HistoryError::LostLog(_)) => {
                ". Empty dataDir and dataLogDir of this server (myid stays) and start it again: it takes its place \
                 with the others' data"
            }
            CoreError::Entry { .. }
            | CoreError::Membership { .. }
            | CoreError::History(HistoryError::Contradicted { .. }) => "",
        };
        crate::die(crate::EXIT_DATA, format_args!("{error}{remedy}"));
    }
}
