//! Cores that talk to each other without a network or a disk: every frame arrives at once, every round is durable at
//! once. What chance does to them is the simulator's affair.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use ostler_replication::{Membership, Recovered, Replicator};
use ostler_tree::{Command, Member, Settings, State};
use ostler_types::member::ServerSpec;
use ostler_types::{ErrorCode, Generation, LogIndex, Sequence, SessionId, Term};

use super::{Core, CoreEffect, CoreSettings, News};
use crate::cleaner::CleanerSettings;
use crate::command::CommandBuffer;
use crate::inbox::Inbox;
use crate::peer::PeerFrame;
use crate::replica::{Handshake, Replica, ReplicaSettings, ShardRequests};
use crate::{ConnId, ConnToken, Lease, Millis, ShardId};

const TICK_MS: Millis = 50;

struct World {
    now: Millis,
    cores: Vec<Core>,
    inboxes: Vec<Arc<Inbox>>,
    /// Whose frames are lost without anybody being told, by sender.
    muted: BTreeSet<u64>,
    /// What was sent, by sender and receiver.
    sent: Vec<(u64, u64, PeerFrame)>,
    news: Vec<(u64, News)>,
    dead: BTreeSet<u64>,
    /// Whose disk does nothing.
    stuck: BTreeSet<u64>,
}

impl World {
    /// Nodes 1, 2, ... of an ensemble that has just been founded, linked with each other.
    fn new(nodes: u64) -> World {
        let ids: BTreeSet<u64> = (1..=nodes).collect();
        let (mut cores, mut inboxes) = (Vec::new(), Vec::new());
        for &id in &ids {
            let members: BTreeMap<u8, Member> = ids
                .iter()
                .map(|&node| {
                    let spec = ServerSpec::parse(&format!("h{node}:1:2;3")).unwrap();
                    (node as u8, Member { node: Some(node), spec })
                })
                .collect();
            let state = Arc::new(parking_lot::RwLock::new(State::founded(7, members, ids.clone(), 0)));
            let recovered = Recovered { snapshot: (1, 1), ..Recovered::default() };
            let membership = Membership { voters: ids.iter().copied().collect(), learners: vec![] };
            let settings = ostler_replication::Settings::new(id);
            let replicator = Replicator::new(settings, recovered, &membership).unwrap();
            let inbox = Arc::new(Inbox::default());
            let settings =
                ReplicaSettings { server: id as u8, nonce: id, snap_count: 100_000, snap_bytes: None };
            let replica = Replica::new(settings, state, vec![inbox.clone()]);
            let settings = CoreSettings {
                replicated: Settings::default(),
                cleaner: CleanerSettings::default(),
                own_members: BTreeMap::new(),
            };
            let lease = Arc::new(Lease::new(800));
            cores.push(Core::new(settings, replicator, replica, lease, 1, 1_000));
            inboxes.push(inbox);
        }
        let mut world = World {
            now: 1_000,
            cores,
            inboxes,
            muted: BTreeSet::new(),
            sent: Vec::new(),
            news: Vec::new(),
            dead: BTreeSet::new(),
            stuck: BTreeSet::new(),
        };
        for a in &ids {
            for b in ids.iter().filter(|b| *b != a) {
                world.core(*a).link_up(*b, *b as u8, 1_000);
            }
        }
        world
    }

    fn core(&mut self, node: u64) -> &mut Core {
        &mut self.cores[node as usize - 1]
    }

    /// Until nobody has anything to do now.
    fn settle(&mut self) {
        let mut is_busy = true;
        while std::mem::take(&mut is_busy) {
            for node in
                (1..=self.cores.len() as u64).filter(|node| !self.dead.contains(node)).collect::<Vec<_>>()
            {
                let now = self.now;
                self.core(node).advance(now, now as i64).unwrap();
                for effect in self.core(node).take_effects() {
                    is_busy = true;
                    match effect {
                        CoreEffect::Send { node: to, frame, .. } => self.deliver(node, to, frame),
                        CoreEffect::Persist(_) if self.stuck.contains(&node) => {}
                        CoreEffect::Persist(round) => {
                            self.core(node).persisted(round.number);
                            for (to, frame) in round.then_send {
                                self.deliver(node, to, frame);
                            }
                        }
                        CoreEffect::News(news) => self.news.push((node, news)),
                        CoreEffect::FetchSnapshot { .. }
                        | CoreEffect::Wake(_)
                        | CoreEffect::Discard(_)
                        | CoreEffect::WriteSnapshot { .. } => {}
                    }
                }
            }
        }
    }

    fn deliver(&mut self, from: u64, to: u64, frame: Bytes) {
        self.sent.push((from, to, PeerFrame::decode(frame.clone()).unwrap()));
        if !self.muted.contains(&from) && !self.dead.contains(&to) {
            let now = self.now;
            self.core(to).frame(from, frame, now).unwrap();
        }
    }

    fn pass(&mut self, ms: Millis) {
        for _ in 0..ms / TICK_MS {
            self.now += TICK_MS;
            let now = self.now;
            for node in
                (1..=self.cores.len() as u64).filter(|node| !self.dead.contains(node)).collect::<Vec<_>>()
            {
                self.core(node).tick(now);
            }
            self.settle();
        }
    }

    /// Elects node 1, and has everybody in touch with it.
    fn led_by_first(nodes: u64) -> World {
        let mut world = World::new(nodes);
        world.core(1).replicator.campaign();
        world.settle();
        world.pass(500);
        for node in 1..=nodes {
            assert_eq!(world.core(node).known.0, Some(1));
            assert!(world.core(node).is_serving());
        }
        world.sent.clear();
        world
    }

    /// A client of `node` asks for a session.
    fn ask_session(&mut self, node: u64) {
        let now = self.now;
        let connection = ConnToken { id: ConnId(0), serial: 1 };
        let create = Handshake::Create { connection, timeout_ms: 4_000, secret_hash: [0; 32], received: now };
        let requests = ShardRequests {
            shard: ShardId(0),
            commands: Default::default(),
            handshakes: vec![create],
            touches: vec![],
            heard_through: now,
            barrier: None,
            installs: 0,
        };
        self.core(node).receive(requests, now);
    }

    fn sessions(&mut self, node: u64) -> usize {
        self.core(node).replica.state().read().sessions().len()
    }

    fn reports(&self, from: u64) -> Vec<u64> {
        let number = |frame: &PeerFrame| match frame {
            PeerFrame::Report(report) => Some(report.number),
            _ => None,
        };
        self.sent
            .iter()
            .filter(|(sender, ..)| *sender == from)
            .filter_map(|(.., frame)| number(frame))
            .collect()
    }
}

#[test]
fn whatever_its_place_in_line_somebody_stands_when_the_leaders_process_has_died() {
    for lagging in 2..=3 {
        let mut world = World::led_by_first(3);
        world.dead.insert(1);
        // The other one does not notice yet, so that it cannot be the one who stands.
        let now = world.now;
        world.core(lagging).link_down(1, true, now);
        world.core(5 - lagging).replicator.leader_is_gone();
        world.settle();
        // Less than the shortest election timeout.
        for _ in 0..12 {
            world.now += 10;
            world.settle();
        }
        assert_eq!(world.core(lagging).known.0, Some(lagging), "node {lagging} stands in its turn");
    }
}

#[test]
fn who_stood_before_the_others_had_noticed_stands_again() {
    for early in 2..=3 {
        let mut world = World::led_by_first(3);
        world.dead.insert(1);
        let now = world.now;
        world.core(early).link_down(1, true, now);
        // To the other one the leader is alive: it does not answer.
        for _ in 0..4 {
            world.settle();
            world.now += 10;
        }
        assert_eq!(world.core(early).known.0, None);
        world.core(5 - early).replicator.leader_is_gone();
        for _ in 0..12 {
            world.settle();
            world.now += 10;
        }
        assert_eq!(world.core(early).known.0, Some(early));
    }
}

#[test]
fn a_new_disk_gets_the_place_of_one_that_stays_away_and_no_vote_before_it_has_the_log() {
    let mut world = World::led_by_first(3);
    world.dead.extend([3, 4]);
    let now = world.now;
    world.core(1).link_down(3, true, now);
    world.core(1).unborn(3, 4, now);
    world.pass(1_000);
    assert_eq!(world.core(1).membership.voters, [1, 2, 3], "the old disk may only be restarting");
    world.pass(5_000);
    let now = world.now;
    world.core(1).unborn(3, 4, now);
    world.settle();
    world.pass(300);
    let expected = Membership { voters: vec![1, 2], learners: vec![4] };
    assert_eq!(world.core(1).membership, expected, "two steps in a quiet ensemble");
    let now = world.now;
    world.core(1).link_up(4, 3, now);
    world.pass(1_000);
    assert_eq!(world.core(1).membership, expected, "it has acknowledged nothing");
}

#[test]
fn a_leader_whose_disk_has_stopped_hands_over() {
    let mut world = World::led_by_first(3);
    world.stuck.insert(1);
    // The others make up for the first rounds; then no more are begun.
    for _ in 0..5 {
        world.ask_session(2);
        world.settle();
    }
    assert!(world.sessions(2) < 5);
    world.pass(3_000);
    assert!(world.news.iter().any(|(node, news)| *node == 1 && matches!(news, News::DiskStuck { .. })));
    assert_ne!(world.core(2).known.0, Some(1));
    assert_eq!((world.sessions(2), world.sessions(3)), (5, 5));
}

#[test]
fn what_could_not_be_sent_is_reported_again() {
    let mut world = World::led_by_first(2);
    world.muted.insert(2);
    let session = SessionId(5);
    let now = world.now;
    world.core(2).contact.heard(ShardId(0), vec![(session, now)], now, Some(1));
    world.settle();
    world.muted.clear();
    world.core(2).unreachable(1);
    world.sent.clear();
    world.settle();
    assert!(!world.reports(2).is_empty());
    let again = world.sent.iter().any(|(_, _, frame)| {
        matches!(frame, PeerFrame::Report(report) if report.touches.iter().any(|&(id, _)| id == session))
    });
    assert!(again, "the touch is in the next report");
}

#[test]
fn a_server_that_does_not_lead_is_not_asked_twice_in_a_term() {
    let mut world = World::led_by_first(2);
    // It has lost its office, and nobody has been told.
    world.core(1).replicator.leader_is_gone();
    world.muted.insert(1);
    world.ask_session(2);
    world.settle();
    let forwards = |world: &World| {
        world
            .sent
            .iter()
            .filter(|(from, _, frame)| *from == 2 && matches!(frame, PeerFrame::Forward { .. }))
            .count()
    };
    assert_eq!(forwards(&world), 1);
    let (term, now) = (world.core(2).replicator.term(), world.now);
    world.core(2).frame(1, PeerFrame::NotLeading { term }.encode(), now).unwrap();
    world.settle();
    assert_eq!(forwards(&world), 1);
    world.muted.clear();
    world.core(2).replicator.leader_is_gone();
    world.core(2).replicator.campaign();
    world.settle();
    assert_eq!(world.sessions(1), 1, "the next leader gets it");
}

/// Node 2 is offered a snapshot by node 1 (`docs/peer-protocol.md`, "Consensus messages").
fn offer(world: &mut World, index: u64) {
    let (now, term) = (world.now, world.core(1).replicator.term());
    let mut bytes = vec![1, 7, 2];
    // to, from, term; then log term, index, commit, commit term, reject hint, request of a snapshot.
    let numbers = [2, 1, term.0, 0, 0, 0, 0, 0, 0];
    numbers.into_iter().for_each(|number: u64| bytes.extend_from_slice(&number.to_be_bytes()));
    // No context, no entries.
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(&index.to_be_bytes());
    bytes.extend_from_slice(&term.0.to_be_bytes());
    bytes.extend_from_slice(&2u16.to_be_bytes());
    [1u64, 2].into_iter().for_each(|voter| bytes.extend_from_slice(&voter.to_be_bytes()));
    // No learners, no ticket.
    bytes.extend_from_slice(&[0; 6]);
    let message = ostler_replication::PeerMessage::decode(bytes.into()).unwrap();
    world.core(2).frame(1, PeerFrame::Consensus(message).encode(), now).unwrap();
}

fn state_at(index: u64, term: Term) -> Box<State> {
    let mut state = State::new();
    state.begin_entry(term, LogIndex(index), 0);
    Box::new(state)
}

#[test]
fn requests_from_before_a_snapshot_are_dropped_with_their_connections() {
    let mut world = World::led_by_first(2);
    let term = world.core(1).replicator.term();
    offer(&mut world, 500);
    world.dead.insert(1);
    world.core(2).snapshot_fetched(LogIndex(500), state_at(500, term)).unwrap();
    world.settle();
    assert!(world.news.contains(&(2, News::Installed { index: LogIndex(500) })));
    assert!(world.inboxes[1].is_waiting(), "the shard is told");
    let pending = world.core(2).replica.pending().1;
    // Numbered before the shard heard of the snapshot, and after.
    for (installs, groups) in [(0, pending), (1, pending + 1)] {
        let mut commands = CommandBuffer::default();
        let (session, generation) = (SessionId(1), Generation(1));
        let (sequence, error) = (Sequence(2), ErrorCode::BadArguments);
        commands.push_command(&Command::Refused { session, generation, sequence, error });
        let (shard, heard_through, now) = (ShardId(0), world.now, world.now);
        let (handshakes, touches, barrier) = (vec![], vec![], None);
        let requests =
            ShardRequests { shard, commands, handshakes, touches, heard_through, barrier, installs };
        world.core(2).receive(requests, now);
        assert_eq!(world.core(2).replica.pending().1, groups);
    }
}

#[test]
fn an_offer_that_comes_while_another_is_put_in_place_is_refused() {
    let mut world = World::led_by_first(2);
    let term = world.core(1).replicator.term();
    offer(&mut world, 500);
    world.core(2).snapshot_fetched(LogIndex(500), state_at(500, term)).unwrap();
    offer(&mut world, 600);
    world.sent.clear();
    world.dead.insert(1);
    world.settle();
    assert!(world.sent.contains(&(2, 1, PeerFrame::SnapshotFailed { index: LogIndex(600) })));
}
