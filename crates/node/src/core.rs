//! One server's part in the ensemble: consensus, its own [`Replica`], and what servers tell each other.
//!
//! Sans-io like the rest of the crate: the caller hands it what happened and the time, and performs the
//! [`CoreEffect`]s. An ensemble of one takes the same path as an ensemble of many.
//!
//! * Commands of this server's clients wait in the replica until apply has judged them. They are passed on to whoever
//!   leads: into the leader's own batch, or as [`PeerFrame::Forward`] to another server. Whenever the leader or its
//!   term changes, or the link to it breaks, everything pending is passed on again.
//! * Whom the clients' sockets were heard from goes to the leader in numbered reports; what it acknowledges renews the
//!   serving lease ([`Contact`]).

mod agreement;
mod contact;
mod durability;
mod office;
mod removal;

use std::collections::BTreeMap;

use bytes::Bytes;
use ostler_replication::{
    EntryKind, LogEntry, Membership, Output, PeerMessage, ProposeError, Replicator, SnapshotOffer,
};
use ostler_tree::{Member, Settings, State};
use ostler_types::{LogIndex, SessionId, Term};

use crate::cleaner::CleanerSettings;
use crate::command::{BatchBuilder, CommandError, parse_membership_context};
use crate::leader::{Leader, take_proposal};
use crate::peer::{FrameError, PeerFrame};
use crate::replica::{Replica, SessionEnd, ShardRequests};
use crate::{Lease, Millis, ShardId};
use agreement::Agreement;
use contact::Contact;
use durability::Rounds;

pub(crate) use office::to_tree;
pub use ostler_replication::HardState;

/// While this many rounds wait for the disk, further requests are collected: they become one entry.
const MAX_ROUNDS_AT_DISK: usize = 2;
/// After the leader's process has died, the servers stand for election one after the other, this far apart.
const CAMPAIGN_STAGGER_MS: Millis = 30;
/// How often each of them does, in turn, until there is a leader. One that is early is not heard by those who do not yet
/// know that the leader is gone, and the next one's log may be too short. After that the usual timeout decides.
const CAMPAIGNS: u8 = 4;
/// Commands in one forwarded frame, bytes; a single group of commands may overshoot it.
const FORWARD_BYTES: usize = 1 << 20;
/// Forwarded commands that apply has not judged, bytes; a single group may overshoot it. What waits beyond follows as
/// they are judged, so that a new leader's heartbeats never wait behind all that a follower has parked.
const FORWARD_WINDOW_BYTES: usize = 8 << 20;
/// A follower that is to fetch a snapshot and has not been heard of for this long is offered another one.
const SNAPSHOT_SILENCE_MS: Millis = 30_000;

/// How the core behaves; what is replicated comes as [`Settings`].
#[derive(Clone, Debug)]
pub struct CoreSettings {
    /// The settings apply is to use while this server leads; logged if they differ from those in the state.
    pub replicated: Settings,
    /// The container and TTL cleaner.
    pub cleaner: CleanerSettings,
    /// This server as a member, by its configuration: what a standalone server records of itself, so that others can
    /// join it. Empty if its configuration does not name it.
    pub own_members: BTreeMap<u8, Member>,
}

/// Something the server must do, in this order.
pub enum CoreEffect {
    /// Send a frame to a node. If it cannot be queued: one that must be delivered breaks the link, any other is
    /// dropped and [`Core::unreachable`] told.
    Send {
        /// To whom.
        node: u64,
        /// What.
        frame: Bytes,
        /// Whether the receiver must notice if it does not get it.
        must_deliver: bool,
    },
    /// Make a round durable, then send what depends on it and call [`Core::persisted`].
    Persist(Persist),
    /// A shard has something in its inbox.
    Wake(ShardId),
    /// Write a snapshot of the state as it is now; then call [`Core::snapshot_written`] or
    /// [`Core::snapshot_failed`].
    WriteSnapshot {
        /// Term of the last entry in it.
        term: Term,
        /// The last entry in it.
        index: LogIndex,
        /// Who takes part at that index.
        membership: Membership,
    },
    /// Fetch a snapshot from a node, verify it, make it durable and restore it; then call
    /// [`Core::snapshot_fetched`] or [`Core::fetch_failed`].
    FetchSnapshot {
        /// From whom.
        node: u64,
        /// Which.
        offer: SnapshotOffer,
    },
    /// The old state, replaced by a snapshot's; dropping it may take long.
    Discard(Box<State>),
    /// Something worth a line in the log, or more.
    News(News),
}

/// One round for the disk.
#[derive(Debug)]
pub struct Persist {
    /// What to call [`Core::persisted`] with.
    pub number: u64,
    /// The log goes on from a snapshot: written first.
    pub install: Option<(LogIndex, Term)>,
    /// Entries to append, overwriting any of the same or a higher index.
    pub entries: Vec<LogEntry>,
    /// Hard state to append after the entries.
    pub hard_state: Option<HardState>,
    /// Whether it needs an fsync.
    pub must_sync: bool,
    /// Frames to send as soon as it is durable.
    pub then_send: Vec<(u64, Bytes)>,
}

/// What happened, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// The leader, or that there is none, changed.
    Leader {
        /// The node, if one is known.
        leader: Option<u64>,
        /// Its server id, if it is a member.
        server: Option<u8>,
        /// In this term.
        term: Term,
    },
    /// A session ended.
    SessionEnded(SessionEnd),
    /// The leader stood still for this many milliseconds; sessions get the time back.
    Stalled(Millis),
    /// Stamped time runs ahead of elapsed time by this many milliseconds: nothing is removed by age.
    ClockAlarm(i64),
    /// This server's state differs from what most servers have after this entry; it must not serve.
    Diverged {
        /// After which entry.
        index: LogIndex,
        /// Its own digest there.
        ours: u64,
        /// The others'.
        expected: u64,
    },
    /// Another server's state differs.
    PeerDiverged {
        /// Which node.
        node: u64,
        /// After which entry.
        index: LogIndex,
    },
    /// A peer sent a frame that cannot be read.
    BadFrame {
        /// Which node.
        node: u64,
        /// What is wrong.
        error: FrameError,
    },
    /// This server is being brought up by a snapshot.
    Fetching {
        /// From which node.
        node: u64,
        /// Its index.
        index: LogIndex,
    },
    /// A snapshot is in place.
    Installed {
        /// Its index.
        index: LogIndex,
    },
    /// This server has been removed from the ensemble and serves nobody.
    Removed,
    /// This server leads and its disk has not done a round for this long: it hands over to another.
    DiskStuck {
        /// Milliseconds.
        for_ms: Millis,
    },
    /// A membership entry is applied: who takes part now.
    Membership(Membership),
}

/// The server must stop: going on could lose or falsify data.
#[derive(Debug, thiserror::Error)]
pub enum CoreError {
    /// A committed entry cannot be applied.
    #[error("cannot apply log entry {index}: {error}")]
    Entry {
        /// Which.
        index: LogIndex,
        /// Why.
        error: CommandError,
    },
    /// A membership entry cannot be read.
    #[error("cannot apply log entry {index}: it {error}")]
    Membership {
        /// Which.
        index: LogIndex,
        /// Why.
        error: ostler_replication::EntryError,
    },
    /// See [`ostler_replication::HistoryError`].
    #[error(transparent)]
    History(#[from] ostler_replication::HistoryError),
}

/// How this server stands, for reports.
#[derive(Clone, Debug, Default)]
pub struct CoreStatus {
    /// This server's node id.
    pub node: u64,
    /// Whether it leads.
    pub is_leader: bool,
    /// Node id of the leader.
    pub leader: Option<u64>,
    /// The term.
    pub term: Term,
    /// Highest index known to be committed.
    pub committed: LogIndex,
    /// Last entry applied.
    pub applied: LogIndex,
    /// Last entry in the log.
    pub last: LogIndex,
    /// Who takes part.
    pub membership: Membership,
    /// On the leader: how far the others are.
    pub peers: Vec<ostler_replication::PeerProgress>,
    /// Bytes and groups of this server's clients' commands that wait for the log.
    pub pending: (usize, usize),
    /// Whether sessions can be opened here.
    pub serving: bool,
    /// When there was contact last.
    pub contact: Millis,
    /// Whether this server's state was found to differ from the others'.
    pub diverged: bool,
    /// Whether this server has been removed from the ensemble.
    pub removed: bool,
    /// Changes of leader seen since the start.
    pub leader_changes: u64,
    /// Times that pending commands were passed on again.
    pub passed_on_again: u64,
    /// Total time credited to sessions for stalls while leading, milliseconds.
    pub stalled_ms: u64,
}

/// The way to another node.
#[derive(Debug)]
struct Link {
    server: u8,
    up: bool,
    /// Last heard anything from it.
    heard: Millis,
    /// Last known to be up.
    was_up: Millis,
}

/// A snapshot being installed.
enum Install {
    /// It is being fetched; the message that offered it waits.
    Fetching { message: Box<PeerMessage>, offer: SnapshotOffer },
    /// Its state is here; consensus has been told and its round is not durable yet.
    Restored { index: LogIndex, state: Box<State>, round: Option<u64> },
}

/// See the module's documentation.
pub struct Core {
    settings: CoreSettings,
    replicator: Replicator,
    replica: Replica,
    lease: std::sync::Arc<Lease>,
    leader: Option<Leader>,
    /// Commands on their way into the log, while this server leads.
    batch: BatchBuilder,
    /// Leader and term as last seen.
    known: (Option<u64>, Term),
    /// Whether commands can be passed on now: this server leads, or the link to the leader is up.
    can_pass_on: bool,
    links: BTreeMap<u64, Link>,
    /// Servers without a cluster: their nodes, and when they were heard of.
    unborn: BTreeMap<u8, (u64, Millis)>,
    contact: Contact,
    agreement: Agreement,
    rounds: Rounds,
    install: Option<Install>,
    snapshot_running: bool,
    /// When to stand for election because the leader's process has died.
    campaign_at: Option<Millis>,
    /// How often it still does.
    campaigns_left: u8,
    membership: Membership,
    reconfiguring: office::Reconfiguring,
    /// Whether the leader may have something of its own to do at once.
    is_office_stirred: bool,
    applied: LogIndex,
    woken: Vec<ShardId>,
    effects: Vec<CoreEffect>,
    status: CoreStatus,
}

impl Core {
    /// A core that goes on from what was recovered. `shards` is how many shards report to it.
    pub fn new(
        settings: CoreSettings,
        replicator: Replicator,
        replica: Replica,
        lease: std::sync::Arc<Lease>,
        shards: usize,
        now: Millis,
    ) -> Core {
        let membership = replicator.membership();
        let mut core = Core {
            settings,
            known: (None, replicator.term()),
            replicator,
            replica,
            lease,
            leader: None,
            batch: BatchBuilder::default(),
            can_pass_on: false,
            links: BTreeMap::new(),
            unborn: BTreeMap::new(),
            contact: Contact::new(shards, now),
            agreement: Agreement::default(),
            rounds: Rounds::default(),
            install: None,
            snapshot_running: false,
            campaign_at: None,
            campaigns_left: 0,
            membership,
            reconfiguring: office::Reconfiguring::default(),
            is_office_stirred: false,
            applied: LogIndex(0),
            woken: Vec::new(),
            effects: Vec::new(),
            status: CoreStatus::default(),
        };
        core.applied = core.replica.state().read().applied_index();
        if core.replicator.is_alone() {
            core.replicator.campaign();
        }
        core
    }

    /// Takes what a shard has.
    pub fn receive(&mut self, requests: ShardRequests, now: Millis) {
        let ShardRequests { shard, commands, handshakes, touches, heard_through, barrier, installs } =
            requests;
        self.contact.heard(shard, touches, heard_through, barrier);
        self.replica.receive(shard, commands, handshakes, installs, now);
    }

    /// A tick of consensus has passed. Ticks that were missed stay missed: catching up would depose a leader.
    pub fn tick(&mut self, now: Millis) {
        self.replicator.tick();
        // A leader whose disk has stopped could go on for ever without one write being answered.
        let stuck = self.rounds.oldest().map_or(0, |since| now.saturating_sub(since));
        if stuck > self.lease.longest_election() && self.hand_over() {
            self.effects.push(CoreEffect::News(News::DiskStuck { for_ms: stuck }));
        }
        self.give_up_on_silent_fetchers(now);
    }

    /// A round, and every round before it, is durable.
    pub fn persisted(&mut self, number: u64) {
        let durable = self.rounds.persisted(number);
        if let Some(Install::Restored { round: Some(round), .. }) = &self.install
            && *round <= durable
            && let Some(Install::Restored { index, state, .. }) = self.install.take()
        {
            self.applied = index;
            let old = self.replica.install(*state);
            self.status.diverged = false;
            self.effects.push(CoreEffect::Discard(Box::new(old)));
            self.effects.push(CoreEffect::News(News::Installed { index }));
        }
        self.replicator.persisted(durable);
    }

    /// There is a link on which frames can be sent to `node`, which is server `server`.
    pub fn link_up(&mut self, node: u64, server: u8, now: Millis) {
        self.links.insert(node, Link { server, up: true, heard: now, was_up: now });
        // Reports may have been lost with the link before, or with a process whose successor this is.
        if let Some(leader) = &mut self.leader {
            leader.expiry.interrupted(server, now);
        }
        // It belongs to the cluster now.
        self.unborn.remove(&server);
        self.link_changed(node);
    }

    /// The link to `node` is broken. `is_gone` says that nobody listens there any more: its process has ended.
    pub fn link_down(&mut self, node: u64, is_gone: bool, now: Millis) {
        if let Some(link) = self.links.get_mut(&node) {
            link.up = false;
            link.was_up = now;
        }
        self.link_changed(node);
        if is_gone && self.replicator.leader() == Some(node) {
            self.leader_is_gone(node, now);
        }
    }

    /// A server without a cluster has introduced itself. The leader gives it the place that is waiting for it, or that
    /// of the disk this server id had.
    pub fn unborn(&mut self, server: u8, node: u64, now: Millis) {
        self.unborn.insert(server, (node, now));
        self.replace(server, node, now);
    }

    fn link_changed(&mut self, node: u64) {
        if self.replicator.leader() == Some(node) {
            // What was under way on the old link may be lost.
            self.pass_on_again();
        }
        self.begin_snapshot_again(node);
    }

    fn begin_snapshot_again(&mut self, node: u64) {
        if self.replicator.progress().iter().any(|peer| peer.node == node && peer.in_snapshot) {
            self.replicator.snapshot_failed(node);
        }
    }

    /// A frame for `node` was dropped.
    pub fn unreachable(&mut self, node: u64) {
        self.replicator.unreachable(node);
        // It may have been the offer of a snapshot, or a report: a later one is acknowledged together with those
        // before it.
        self.begin_snapshot_again(node);
        if self.replicator.leader() == Some(node) {
            self.contact.begin_again();
        }
    }

    /// The servers that are left stand for election one after the other, so that they do not split the votes.
    fn leader_is_gone(&mut self, leader: u64, now: Millis) {
        self.replicator.leader_is_gone();
        let me = self.replicator.node_id();
        let mut voters = self.replicator.membership().voters;
        voters.retain(|&node| node != leader);
        if let Some(rank) = voters.iter().position(|&node| node == me) {
            // Each term another one begins.
            let turn = (rank + self.replicator.term().0 as usize) % voters.len();
            self.campaign_at = Some(now + turn as Millis * CAMPAIGN_STAGGER_MS);
            self.campaigns_left = CAMPAIGNS;
            self.campaign_if_due(now);
        }
    }

    fn campaign_if_due(&mut self, now: Millis) {
        if self.campaign_at.is_none_or(|at| now < at) {
            return;
        }
        self.campaigns_left -= 1;
        let turns = self.membership.voters.len().max(1) as Millis;
        let again = now + turns * CAMPAIGN_STAGGER_MS;
        self.campaign_at = (self.campaigns_left > 0).then_some(again);
        if self.replicator.leader().is_none() {
            self.replicator.campaign();
        }
    }

    /// A frame came from `node`.
    ///
    /// # Errors
    /// This server must stop.
    pub fn frame(&mut self, node: u64, bytes: Bytes, now: Millis) -> Result<(), CoreError> {
        if let Some(link) = self.links.get_mut(&node) {
            link.heard = now;
        }
        let frame = match PeerFrame::decode(bytes) {
            Ok(frame) => frame,
            Err(error) => {
                self.effects.push(CoreEffect::News(News::BadFrame { node, error }));
                return Ok(());
            }
        };
        match frame {
            PeerFrame::Consensus(message) => {
                // Nobody speaks for somebody else.
                if message.from() == node && message.to() == self.replicator.node_id() {
                    self.consensus(node, message)?;
                }
            }
            PeerFrame::Forward { term, commands } => {
                if self.replicator.is_leader() && self.replicator.term() == term {
                    self.batch.append(&commands);
                } else {
                    self.send(node, &PeerFrame::NotLeading { term }, false);
                }
            }
            // Whoever led in a term and does not any more never will again in that term: everything is passed on when
            // there is news of another, and until then there is nobody to pass it on to.
            PeerFrame::NotLeading { .. } => {}
            PeerFrame::Report(report) => self.take_report(node, report, now),
            PeerFrame::ReportAck { number, commit } => {
                if self.replicator.leader() == Some(node) {
                    self.contact.acknowledged(number, commit);
                }
            }
            PeerFrame::SnapshotFailed { .. } => self.replicator.snapshot_failed(node),
            PeerFrame::Diverged { index, expected } => self.judge_own_state(index, expected),
        }
        Ok(())
    }

    fn consensus(&mut self, node: u64, message: PeerMessage) -> Result<(), CoreError> {
        let Some(offer) = message.snapshot() else {
            return Ok(self.replicator.receive(message)?);
        };
        let applied = self.applied();
        if offer.index <= applied {
            // Consensus answers that it is further already.
            return Ok(self.replicator.receive(message)?);
        }
        match &self.install {
            // A newer offer of the same snapshot: its message counts, the transfer goes on.
            Some(Install::Fetching { offer: known, .. })
                if (known.index, known.term) == (offer.index, offer.term) =>
            {
                self.install = Some(Install::Fetching { message: Box::new(message), offer });
            }
            // The one at hand first; its sender asks again if that is not enough.
            Some(Install::Restored { index, .. }) => {
                if offer.index > *index {
                    self.send(node, &PeerFrame::SnapshotFailed { index: offer.index }, true);
                }
            }
            _ => {
                self.effects.push(CoreEffect::News(News::Fetching { node, index: offer.index }));
                self.effects.push(CoreEffect::FetchSnapshot { node, offer: offer.clone() });
                self.install = Some(Install::Fetching { message: Box::new(message), offer });
            }
        }
        Ok(())
    }

    /// The snapshot that was to be fetched is durable, and this is its state.
    ///
    /// # Errors
    /// This server must stop.
    pub fn snapshot_fetched(&mut self, index: LogIndex, state: Box<State>) -> Result<(), CoreError> {
        match self.install.take() {
            Some(Install::Fetching { message, offer }) if offer.index == index => {
                self.install = Some(Install::Restored { index, state, round: None });
                self.replicator.receive(*message)?;
            }
            // Overtaken by another offer.
            other => {
                self.install = other;
                self.effects.push(CoreEffect::Discard(state));
            }
        }
        Ok(())
    }

    /// The snapshot could not be fetched, or is damaged.
    pub fn fetch_failed(&mut self, index: LogIndex) {
        if let Some(Install::Fetching { message, offer }) = &self.install
            && offer.index == index
        {
            let leader = message.from();
            self.install = None;
            self.send(leader, &PeerFrame::SnapshotFailed { index }, true);
        }
    }

    /// A snapshot is durable here and can be sent to others.
    pub fn snapshot_written(&mut self, offer: SnapshotOffer) {
        self.snapshot_running = false;
        self.replicator.offer_snapshot(offer);
    }

    /// The snapshot begun last could not be written.
    pub fn snapshot_failed(&mut self) {
        self.snapshot_running = false;
    }

    fn give_up_on_silent_fetchers(&mut self, now: Millis) {
        for peer in self.replicator.progress() {
            if peer.in_snapshot
                && self
                    .links
                    .get(&peer.node)
                    .is_none_or(|link| now.saturating_sub(link.heard) > SNAPSHOT_SILENCE_MS)
            {
                self.replicator.snapshot_failed(peer.node);
            }
        }
    }

    /// Ends a session whatever it is doing. Only the leader can; returns whether it does.
    pub fn kill(&mut self, session: SessionId, now: Millis, wall_ms: i64) -> bool {
        let Some(leader) = &mut self.leader else { return false };
        leader.kill(session, now, wall_ms);
        true
    }

    /// Hands leadership to the voter that is furthest, before this server stops. Returns whether there is anything to
    /// wait for: call it again until there is not.
    pub fn hand_over(&mut self) -> bool {
        if !self.replicator.is_leader() {
            return false;
        }
        let up = |node| self.links.get(&node).is_some_and(|link| link.up);
        let best = self
            .replicator
            .progress()
            .into_iter()
            .filter(|peer| peer.voter && peer.active && up(peer.node))
            .max_by_key(|peer| (peer.matched, std::cmp::Reverse(peer.node)));
        let Some(best) = best else { return false };
        if self.replicator.may_propose() {
            self.replicator.transfer_leadership(best.node);
        }
        true
    }

    /// Whether every round that was begun is durable and nothing of this server's clients waits for the log.
    pub fn is_settled(&self) -> bool {
        self.rounds.are_durable() && self.replica.is_settled()
    }

    /// Whether every round that was begun is durable.
    pub fn is_durable(&self) -> bool {
        self.rounds.are_durable()
    }

    /// Proposes, hands rounds to the disk, applies what is committed, until nothing is left to do now.
    ///
    /// # Errors
    /// This server must stop.
    pub fn advance(&mut self, now: Millis, wall_ms: i64) -> Result<(), CoreError> {
        self.campaign_if_due(now);
        self.is_office_stirred = true;
        loop {
            self.notice_leader(now);
            if std::mem::take(&mut self.is_office_stirred) {
                self.run_office(now, wall_ms);
            }
            self.pass_on();
            self.propose(wall_ms);
            self.keep_contact(now);
            let Some(output) = self.replicator.poll() else { break };
            self.perform(output, now)?;
        }
        self.replica.publish_now(&mut self.woken);
        for shard in std::mem::take(&mut self.woken) {
            self.effects.push(CoreEffect::Wake(shard));
        }
        for end in self.replica.take_ended() {
            self.effects.push(CoreEffect::News(News::SessionEnded(end)));
        }
        self.want_snapshot();
        Ok(())
    }

    /// When [`advance`](Self::advance) has something to do although nothing happened, beside ticks.
    pub fn next_deadline(&self) -> Option<Millis> {
        let office = self.leader.as_ref().and_then(Leader::next_deadline);
        [office, self.contact.next_deadline(), self.campaign_at].into_iter().flatten().min()
    }

    /// What the server must do, in order.
    pub fn take_effects(&mut self) -> Vec<CoreEffect> {
        std::mem::take(&mut self.effects)
    }

    /// Quotas that writes went over since the last call.
    pub fn take_over_quota(&mut self) -> Vec<ostler_tree::QuotaExceeded> {
        self.replica.take_over_quota()
    }

    /// How this server stands.
    pub fn status(&self) -> CoreStatus {
        CoreStatus {
            node: self.replicator.node_id(),
            is_leader: self.replicator.is_leader(),
            leader: self.replicator.leader(),
            term: self.replicator.term(),
            committed: self.replicator.committed(),
            applied: self.applied(),
            last: self.replicator.last().0,
            membership: self.membership.clone(),
            peers: self.replicator.progress(),
            pending: self.replica.pending(),
            serving: self.replica.is_registered(),
            contact: self.lease.contact(),
            stalled_ms: self.leader.as_ref().map_or(self.status.stalled_ms, |l| l.expiry.stalled_ms()),
            ..self.status.clone()
        }
    }

    /// Whether sessions can be opened here.
    pub fn is_serving(&self) -> bool {
        self.replica.is_registered() && !self.status.diverged
    }

    /// When sessions expire, if this server leads.
    pub fn deadlines(&self, now: Millis) -> Vec<(Millis, SessionId)> {
        self.leader.as_ref().map_or_else(Vec::new, |leader| leader.expiry.deadlines(now))
    }

    /// Last entry applied.
    pub fn applied(&self) -> LogIndex {
        self.applied
    }

    fn send(&mut self, node: u64, frame: &PeerFrame, must_deliver: bool) {
        self.effects.push(CoreEffect::Send { node, frame: frame.encode(), must_deliver });
    }

    /// Looks whether the leader, its term, or the way to it has changed.
    fn notice_leader(&mut self, now: Millis) {
        let known = (self.replicator.leader(), self.replicator.term());
        if known != self.known {
            let had = std::mem::replace(&mut self.known, known);
            if self.leader.is_some() || had.0 == Some(self.replicator.node_id()) {
                self.leave_office();
            }
            // When a process has died, that its server leads no more is no news. A leader is, and a newer term.
            if known.0.is_some() || known.1 != had.1 {
                self.campaign_at = None;
            }
            // What others had in the batch they pass on again, too, when they learn of the change.
            self.batch.clear();
            self.agreement.begin_again();
            self.pass_on_again();
            if known.0 != had.0 {
                self.status.leader_changes += u64::from(known.0.is_some());
                let server = known.0.and_then(|node| self.server_of(node));
                let news = News::Leader { leader: known.0, server, term: known.1 };
                self.effects.push(CoreEffect::News(news));
            }
        }
        self.lease.set_alone(self.replicator.is_alone() && self.replicator.is_leader(), now);
        self.can_pass_on = self.replicator.is_leader()
            || known.0.is_some_and(|leader| self.links.get(&leader).is_some_and(|link| link.up));
    }

    fn pass_on_again(&mut self) {
        if !self.replica.is_settled() {
            self.status.passed_on_again += 1;
        }
        self.replica.pass_on_again();
        self.contact.begin_again();
    }

    /// Passes on what this server's clients have for the log.
    fn pass_on(&mut self) {
        if !self.can_pass_on || !self.replica.has_new_commands() {
            return;
        }
        if self.replicator.is_leader() {
            for commands in self.replica.take_new_commands(usize::MAX) {
                self.batch.append(&commands);
            }
            return;
        }
        let Some(leader) = self.known.0 else { return };
        let term = self.known.1;
        let mut frames = Vec::new();
        let mut commands = Vec::new();
        for chunk in self.replica.take_new_commands(FORWARD_WINDOW_BYTES) {
            if !commands.is_empty() && commands.len() + chunk.len() > FORWARD_BYTES {
                frames.push(Bytes::from(std::mem::take(&mut commands)));
            }
            commands.extend_from_slice(&chunk);
        }
        if !commands.is_empty() {
            frames.push(commands.into());
        }
        for commands in frames {
            self.send(leader, &PeerFrame::Forward { term, commands }, true);
        }
    }

    fn propose(&mut self, wall_ms: i64) {
        if !self.replicator.may_propose()
            || self.batch.is_empty()
            || self.rounds.at_disk() >= MAX_ROUNDS_AT_DISK
        {
            return;
        }
        match self.replicator.propose(take_proposal(&mut self.batch, wall_ms)) {
            // What applies at that place decides; whoever waits for it is found by what he asked for.
            Ok(_) => {}
            Err(ProposeError::NotLeader | ProposeError::Dropped) => {
                unreachable!("a leader that is not handing over, and sets no limit, takes proposals")
            }
        }
    }

    fn perform(&mut self, output: Output, now: Millis) -> Result<(), CoreError> {
        let needs_disk = output.needs_disk();
        let Output { number, messages, install, append, hard_state, must_sync, .. } = output;
        for message in messages {
            self.send(message.to(), &PeerFrame::Consensus(message), false);
        }
        if let Some((index, _)) = install {
            self.replica.begin_install(&mut self.woken);
            self.contact.begin_again();
            match &mut self.install {
                Some(Install::Restored { index: restored, round, .. }) if *restored == index => {
                    *round = Some(number);
                }
                _ => unreachable!("consensus installs the snapshot it was handed"),
            }
            self.membership = self.replicator.membership();
        } else if let Some(Install::Restored { round: None, .. }) = &self.install {
            // Consensus had no use for it any more.
            if let Some(Install::Restored { state, .. }) = self.install.take() {
                self.effects.push(CoreEffect::Discard(state));
            }
        }
        let then_send: Vec<(u64, Bytes)> = output
            .persisted_messages
            .into_iter()
            .map(|message| (message.to(), PeerFrame::Consensus(message).encode()))
            .collect();
        if needs_disk || (!then_send.is_empty() && !self.rounds.are_durable()) {
            self.rounds.sent(number, now);
            let entries = append;
            let persist = Persist { number, install, entries, hard_state, must_sync, then_send };
            self.effects.push(CoreEffect::Persist(persist));
        } else {
            for (node, frame) in then_send {
                self.effects.push(CoreEffect::Send { node, frame, must_deliver: false });
            }
            if self.rounds.skipped(number) {
                self.replicator.persisted(number);
            }
        }
        for (number, commit) in output.confirmed {
            self.confirmed(number, commit);
        }
        self.apply(&output.committed, now)
    }

    fn apply(&mut self, committed: &[LogEntry], now: Millis) -> Result<(), CoreError> {
        let Some(last) = committed.last() else { return Ok(()) };
        let was_node = self.is_node();
        for entry in committed {
            let at = (entry.term, entry.index);
            match entry.kind {
                EntryKind::Normal => self
                    .replica
                    .apply(at, &entry.data, self.leader.as_mut(), now, &mut self.woken)
                    .map_err(|error| CoreError::Entry { index: entry.index, error })?,
                EntryKind::Membership => self.apply_membership(entry)?,
            }
        }
        self.applied = last.index;
        self.replicator.applied(last.index);
        self.judge_own_place(was_node);
        if self.replicator.is_leader() && self.leader.is_none() && last.term == self.replicator.term() {
            self.take_office(now);
        }
        Ok(())
    }

    fn apply_membership(&mut self, entry: &LogEntry) -> Result<(), CoreError> {
        let wrong = |error| CoreError::Membership { index: entry.index, error };
        let change = self.replicator.apply_membership(entry).map_err(wrong)?;
        let server = parse_membership_context(&change.context);
        let change = office::to_tree(&change);
        self.replica.apply_membership((entry.term, entry.index), change, server, &mut self.woken);
        self.membership = self.replicator.membership();
        self.is_office_stirred = true;
        self.effects.push(CoreEffect::News(News::Membership(self.membership.clone())));
        Ok(())
    }

    /// The state is at the last entry applied: a snapshot of it is one of that index.
    fn start_snapshot(&mut self) {
        self.snapshot_running = true;
        self.replica.snapshot_taken();
        let state = self.replica.state().read();
        let (term, index) = (state.applied_term(), state.applied_index());
        drop(state);
        let membership = self.membership.clone();
        self.effects.push(CoreEffect::WriteSnapshot { term, index, membership });
    }

    /// A snapshot is due, or somebody needs a newer one than there is. Nothing is applied between this and the moment
    /// the caller begins it: what it says it holds is what it holds.
    fn want_snapshot(&mut self) {
        let is_wanted = self.replicator.wanted_snapshot().is_some_and(|wanted| self.applied() >= wanted);
        if (is_wanted || self.replica.snapshot_due()) && !self.snapshot_running && self.install.is_none() {
            self.start_snapshot();
        }
    }

    fn server_of(&self, node: u64) -> Option<u8> {
        let state = self.replica.state().read();
        let of_member = state.membership().server_of(node);
        drop(state);
        of_member.or_else(|| self.links.get(&node).map(|link| link.server))
    }
}

#[cfg(test)]
mod tests;
