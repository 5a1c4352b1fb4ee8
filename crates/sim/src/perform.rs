//! What a server's threads do: they perform what its core and its shards decide.

use ostler_node::{ConnId, ConnectionEnd, CoreEffect, Effect, News, Persist};
use ostler_replication::SnapshotOffer;
use ostler_storage::{Origin, SimDisk, SnapshotInfo, SnapshotReader, SnapshotStore};
use ostler_tree::Settings;
use ostler_tree::snapshot::Progress;
use ostler_types::{LogIndex, SessionId};

use crate::server::{Fetch, Mail, TICK_MS, Walking, restore};
use crate::world::{Event, World};
use crate::{Micros, Plant, Scenario};

/// The kind of a peer frame that carries clients' commands (`docs/peer-protocol.md`).
const FORWARD: u8 = 2;
/// A report counts by then at the latest: a shard's interval and a core's, and a margin.
const REPORTED_WITHIN_MS: u64 = 250;
/// A server that has run for so long has found the others.
const SETTLED_US: Micros = 5_000_000;
/// Slots of the tree walked at a time: few, so that writes come in between.
const SLICE_SLOTS: u32 = 64;
/// Snapshots kept.
const RETAIN: usize = 2;

impl World {
    /// Puts something into a core's channel.
    pub(crate) fn mail(&mut self, server: usize, mail: Mail) {
        let at = self.now + self.random.below(60);
        let life = self.servers[server].life;
        let Some(process) = &mut self.servers[server].process else { return };
        process.mail.push_back(mail);
        if process.turn_at.is_none_or(|planned| planned > at) {
            process.turn_at = Some(at);
            self.at_time(at, Event::CoreTurn { server, life });
        }
    }

    /// A turn of the core's loop.
    pub(crate) fn core_turn(&mut self, server: usize) {
        let (at, skewed) = (self.now, &self.servers[server].clock);
        let (now, wall_ms) = (skewed.now(at), skewed.wall_ms(at));
        let process = self.servers[server].process.as_mut().expect("it lives");
        if process.turn_at.is_none_or(|planned| planned > at) {
            // An earlier turn did what this one was for.
            return;
        }
        process.turn_at = None;
        if now >= process.next_tick {
            process.core.tick(now);
            process.next_tick = now + TICK_MS;
        }
        let mail = std::mem::take(&mut process.mail);
        for mail in mail {
            if let Err(error) = self.open_mail(server, mail, now) {
                return self.stopped(server, &error);
            }
        }
        let process = self.servers[server].process.as_mut().expect("it lives");
        if let Err(error) = process.core.advance(now, wall_ms) {
            return self.stopped(server, &error.to_string());
        }
        for effect in process.core.take_effects() {
            if let Some(left) = &mut self.servers[server].dies_after {
                if *left == 0 {
                    self.servers[server].dies_after = None;
                    return self.die(server);
                }
                *left -= 1;
            }
            self.perform(server, effect);
        }
        if self.servers[server].process.is_none() {
            return;
        }
        self.observe(server);
        let clock = self.servers[server].clock.clone();
        let life = self.servers[server].life;
        let Some(process) = &mut self.servers[server].process else { return };
        let deadline =
            process.core.next_deadline().map_or(process.next_tick, |at| at.clamp(now + 1, process.next_tick));
        let next = clock.when(deadline, at);
        if process.turn_at.is_none_or(|planned| planned > next) {
            process.turn_at = Some(next);
            self.at_time(next, Event::CoreTurn { server, life });
        }
    }

    /// The core says that going on would do harm.
    fn stopped(&mut self, server: usize, why: &str) {
        self.fail(format!("server {} has stopped: {why}", self.servers[server].id));
    }

    fn open_mail(&mut self, server: usize, mail: Mail, now: u64) -> Result<(), String> {
        let node_of = |world: &World, peer: usize| (world.servers[peer].node, world.servers[peer].id);
        let peers = match &mail {
            Mail::LinkUp { peer, .. } | Mail::LinkDown { peer, .. } => Some(node_of(self, *peer)),
            _ => None,
        };
        let process = self.servers[server].process.as_mut().expect("it lives");
        let core = &mut process.core;
        match mail {
            Mail::Shard(requests) => core.receive(requests, now),
            Mail::Persisted(number) => core.persisted(number),
            Mail::Frame { node, bytes } => {
                core.frame(node, bytes, now).map_err(|error| error.to_string())?;
            }
            Mail::LinkUp { peer, epoch } => {
                let (node, id) = peers.expect("named above");
                process.links.insert(peer, epoch);
                core.link_up(node, id, now);
            }
            Mail::LinkDown { peer, is_gone } => {
                let (node, _) = peers.expect("named above");
                process.links.remove(&peer);
                core.link_down(node, is_gone, now);
            }
            Mail::Unreachable { node } => core.unreachable(node),
            Mail::SnapshotWritten(offer) => core.snapshot_written(offer),
            Mail::SnapshotFailed => core.snapshot_failed(),
            Mail::Fetched { index, state } => {
                core.snapshot_fetched(index, state).map_err(|error| error.to_string())?;
            }
            Mail::FetchFailed(index) => core.fetch_failed(index),
            Mail::HandOver => {
                core.hand_over();
            }
        }
        Ok(())
    }

    fn perform(&mut self, server: usize, effect: CoreEffect) {
        match effect {
            CoreEffect::Send { node, frame, must_deliver } => {
                let is_forward = frame.get(1) == Some(&FORWARD);
                match self.options.plant {
                    Some(Plant::LostForward) if is_forward && self.random.chance(5) => {}
                    Some(Plant::TwiceForwarded) if is_forward => {
                        self.send_frame(server, node, frame.clone(), must_deliver);
                        self.send_frame(server, node, frame, must_deliver);
                    }
                    _ => self.send_frame(server, node, frame, must_deliver),
                }
            }
            CoreEffect::Persist(round) => self.persist(server, round),
            CoreEffect::Wake(shard) => self.wake_shard(server, shard.0 as usize),
            CoreEffect::WriteSnapshot { term, index, membership } => {
                let process = self.servers[server].process.as_mut().expect("it lives");
                let walk = process.state.write().begin_snapshot_walk();
                process.walking = Some(Walking { walk, writer: None, term, index, membership });
                self.note(format_args!("s{} snapshot of {index} begun", server + 1));
                let life = self.servers[server].life;
                self.at(500, Event::SnapshotStep { server, life });
            }
            CoreEffect::FetchSnapshot { node, offer } => self.fetch(server, node, offer),
            CoreEffect::Discard(_) => {}
            CoreEffect::News(news) => self.news(server, news),
        }
    }

    fn news(&mut self, server: usize, news: News) {
        self.note(format_args!("s{} {news:?}", server + 1));
        match news {
            News::Leader { .. } => self.outcome.leader_changes += 1,
            News::SessionEnded(end) => {
                let result = self.promises.sessions.ended(&end, self.now);
                self.check(result);
            }
            News::Diverged { .. } | News::PeerDiverged { .. } | News::BadFrame { .. } => {
                self.fail(format!("server {}: {news:?}", server + 1));
            }
            News::Installed { .. } => self.outcome.installs += 1,
            News::Removed if self.options.scenario == Scenario::Membership => {}
            News::Removed => self.fail(format!("server {} thinks it is no member", server + 1)),
            News::Stalled(_)
            | News::ClockAlarm(_)
            | News::DiskStuck { .. }
            | News::Fetching { .. }
            | News::Membership(_) => {}
        }
    }

    fn persist(&mut self, server: usize, round: Persist) {
        let process = self.servers[server].process.as_mut().expect("it lives");
        process.mirror(&round);
        if self.options.plant == Some(Plant::AnsweredBeforeDurable) {
            let sends = round.then_send.clone();
            let number = round.number;
            process.log_queue.push(Persist { then_send: Vec::new(), ..round });
            for (node, frame) in sends {
                self.send_frame(server, node, frame, false);
            }
            self.mail(server, Mail::Persisted(number));
        } else {
            process.log_queue.push(round);
        }
        self.run_log(server);
    }

    /// The log thread takes everything that waits.
    fn run_log(&mut self, server: usize) {
        let (life, slow) = (self.servers[server].life, self.servers[server].slow_disk);
        let process = self.servers[server].process.as_mut().expect("it lives");
        if !process.at_disk.is_empty() || process.log_queue.is_empty() {
            return;
        }
        process.at_disk = std::mem::take(&mut process.log_queue);
        let needs_sync = process.at_disk.iter().any(|round| round.must_sync);
        let mut delay = if needs_sync { self.random.between(200, 3_000) } else { 50 };
        if slow.0 > self.now {
            delay += slow.1;
        }
        self.at(delay, Event::LogDone { server, life });
    }

    pub(crate) fn log_done(&mut self, server: usize) {
        let process = self.servers[server].process.as_mut().expect("it lives");
        let rounds = std::mem::take(&mut process.at_disk);
        if let Err(why) = process.write_log(&rounds) {
            return self.stopped(server, &why);
        }
        let number = rounds.last().expect("there was something to do").number;
        for round in rounds {
            for (node, frame) in round.then_send {
                self.send_frame(server, node, frame, false);
            }
        }
        if self.options.plant != Some(Plant::AnsweredBeforeDurable) {
            self.mail(server, Mail::Persisted(number));
        }
        self.run_log(server);
    }

    /// A slice of the snapshot that is being written.
    pub(crate) fn snapshot_step(&mut self, server: usize) {
        let machine = &self.servers[server];
        let process = machine.process.as_ref().expect("it lives");
        let Some(walking) = &process.walking else { return };
        let zxid = process.state.read().last_zxid().0;
        let meta = machine.meta(walking.index, walking.term, zxid, Origin::Local);
        let life = machine.life;
        let process = self.servers[server].process.as_mut().expect("it lives");
        let mut walking = process.walking.take().expect("just seen");
        let mut slice = Vec::new();
        let progress = process.state.read().walk_slice(&mut walking.walk, SLICE_SLOTS, &mut slice);
        if progress == Progress::Ended {
            // Another snapshot has replaced the state.
            return self.mail(server, Mail::SnapshotFailed);
        }
        let writer = match walking.writer.take() {
            Some(writer) => Ok(writer),
            None => process.store.create(&meta),
        };
        let written = writer.and_then(|mut writer| writer.push(&slice).map(|()| writer));
        match written {
            Err(error) => self.stopped(server, &error.to_string()),
            Ok(writer) if progress == Progress::More => {
                walking.writer = Some(writer);
                process.walking = Some(walking);
                self.at(300, Event::SnapshotStep { server, life });
            }
            Ok(writer) => {
                let (records, digest) = (walking.walk.znodes(), walking.walk.agreement_digest());
                drop(process.state.write().end_snapshot_walk());
                if let Err(error) = writer.finish(records, digest.into()) {
                    return self.stopped(server, &error.to_string());
                }
                if let Ok(Some(up_to)) = process.store.log_may_go_up_to(RETAIN) {
                    process.log.purge(up_to).expect("a working disk purges");
                }
                process.store.purge(RETAIN).expect("a working disk purges");
                self.outcome.snapshots += 1;
                let offer = SnapshotOffer {
                    index: walking.index,
                    term: walking.term,
                    voters: walking.membership.voters,
                    learners: walking.membership.learners,
                    ticket: bytes::Bytes::new(),
                };
                self.mail(server, Mail::SnapshotWritten(offer));
            }
        }
    }

    fn fetch(&mut self, server: usize, from: u64, offer: SnapshotOffer) {
        let index = offer.index.0;
        let life = self.servers[server].life;
        let process = self.servers[server].process.as_mut().expect("it lives");
        process.fetches.insert(index, Fetch { from, offer });
        let delay = self.random.between(5_000, 800_000);
        self.at(delay, Event::Fetched { server, life, index });
    }

    /// A snapshot that was asked for has arrived, or will not.
    pub(crate) fn fetched(&mut self, server: usize, index: u64) {
        let process = self.servers[server].process.as_mut().expect("it lives");
        let Some(Fetch { from, offer }) = process.fetches.remove(&index) else { return };
        let sender = self.servers.iter().position(|other| other.node == from);
        let is_there = sender.is_some_and(|sender| {
            self.servers[sender].process.is_some() && self.network.is_up(sender, server)
        });
        let fails = !is_there || self.random.chance(15);
        let file = sender.filter(|_| !fails).and_then(|sender| {
            let store = &self.servers[sender].process.as_ref()?.store;
            let infos = store.list().ok()?;
            let info = infos.into_iter().flatten().find(|info| info.meta.index == index)?;
            Some((self.servers[sender].disk.clone(), info))
        });
        let machine = &self.servers[server];
        let meta = machine.meta(offer.index, offer.term, 0, Origin::Received);
        let store = machine.process.as_ref().expect("it lives").store.clone();
        let mail = match file.map(|(disk, info)| adopt(&disk, &info, &store, &meta)) {
            Some(Ok(state)) if state.applied_index() == offer.index => {
                Mail::Fetched { index: offer.index, state: Box::new(state) }
            }
            Some(Err(why)) => return self.stopped(server, &why),
            Some(Ok(_)) | None => Mail::FetchFailed(LogIndex(index)),
        };
        self.mail(server, mail);
    }

    /// Looks at what a core has done.
    fn observe(&mut self, server: usize) {
        let process = self.servers[server].process.as_mut().expect("it lives");
        let status = process.core.status();
        let applied = status.applied.0;
        let mut result = Ok(());
        for index in process.compared + 1..=applied {
            match process.mirror.get(&index) {
                Some(&entry) => result = result.and(self.promises.history.applied(server, index, entry)),
                None => {
                    result = result.and(Err(format!(
                        "server {} has applied {index}, which is not in its log",
                        server + 1
                    )))
                }
            }
        }
        process.compared = process.compared.max(applied);
        let state = process.state.read();
        // While a snapshot is being installed the core knows more than the state.
        if state.applied_index().0 == applied {
            result = result.and(self.promises.history.digest(server, applied, state.agreement_digest()));
        }
        drop(state);
        if status.is_leader {
            result = result.and(self.promises.history.leads(server, status.term.0));
        }
        // Whom it has heard, and told the others of.
        let contact = process.lease.contact();
        let mut told: Vec<(SessionId, Micros)> = Vec::new();
        while let Some(&(local, at, session)) = process.heard.front()
            && local + REPORTED_WITHIN_MS <= contact
        {
            told.push((session, at));
            process.heard.pop_front();
        }
        for (session, at) in told {
            self.promises.sessions.heard(session, at);
        }
        self.check(result);
    }

    pub(crate) fn wake_shard(&mut self, server: usize, shard: usize) {
        let at = self.now + self.random.below(40);
        let life = self.servers[server].life;
        let Some(process) = &mut self.servers[server].process else { return };
        let worker = &mut process.workers[shard];
        if worker.turn_at.is_none_or(|planned| planned > at) {
            worker.turn_at = Some(at);
            self.at_time(at, Event::ShardTurn { server, life, shard });
        }
    }

    /// A turn of an I/O worker's loop.
    pub(crate) fn shard_turn(&mut self, server: usize, shard: usize) {
        let at = self.now;
        let now = self.servers[server].clock.now(at);
        let process = self.servers[server].process.as_mut().expect("it lives");
        let worker = &mut process.workers[shard];
        if worker.turn_at.is_none_or(|planned| planned > at) {
            return;
        }
        worker.turn_at = None;
        let mut again = Vec::new();
        for number in std::mem::take(&mut worker.ready) {
            let socket = &mut self.sockets[number];
            socket.is_ready = false;
            let Some(id) = socket.at_server.map(ConnId) else { continue };
            if !worker.shard.wants_read(id) {
                // It stays noted until the shard asks for it.
                again.push(number);
                continue;
            }
            let bytes = std::mem::take(&mut socket.received);
            if !bytes.is_empty() {
                worker.shard.receive(id, &bytes, now);
                if socket.session != SessionId::NONE && !worker.shard.is_closing(id) {
                    process.heard.push_back((now, at, socket.session));
                }
            }
        }
        for number in again {
            if !self.sockets[number].is_ready && !self.sockets[number].received.is_empty() {
                self.sockets[number].is_ready = true;
                worker.ready.push(number);
            }
        }
        worker.shard.process_inbox(now);
        worker.shard.tick(now);
        let mut is_busy = false;
        let mut outgoing = Vec::new();
        for effect in worker.shard.take_effects() {
            match effect {
                Effect::Flush(id) => outgoing.push(id),
                Effect::Resume(_) => is_busy = true,
                Effect::Text(..) => unreachable!("nobody asks four-letter words here"),
            }
        }
        for id in outgoing {
            self.flush(server, shard, id, now);
        }
        let process = self.servers[server].process.as_mut().expect("it lives");
        let worker = &mut process.workers[shard];
        is_busy |= worker.shard.has_effects();
        let requests = worker.shard.take_requests(now, now);
        let deadline = worker.shard.next_deadline();
        if let Some(mut requests) = requests {
            if self.options.plant == Some(Plant::ForgottenTouches) {
                requests.touches.clear();
            }
            self.mail(server, Mail::Shard(requests));
        }
        let next = if is_busy { at + 20 } else { self.servers[server].clock.when(deadline.max(now + 1), at) };
        let life = self.servers[server].life;
        let worker = &mut self.servers[server].process.as_mut().expect("it lives").workers[shard];
        if worker.turn_at.is_none_or(|planned| planned > next) {
            worker.turn_at = Some(next);
            self.at_time(next, Event::ShardTurn { server, life, shard });
        }
    }

    fn flush(&mut self, server: usize, shard: usize, id: ConnId, now: u64) {
        let process = self.servers[server].process.as_mut().expect("it lives");
        let Some(&socket) = process.workers[shard].sockets.get(&id.0) else { return };
        let worker = &mut process.workers[shard];
        let Some(output) = worker.shard.output(id) else { return };
        let bytes = output.unsent().to_vec();
        output.advance(bytes.len());
        worker.shard.output_progress(id, now);
        let closed = if worker.shard.is_finished(id) {
            worker.sockets.remove(&id.0);
            worker.shard.remove(id, ConnectionEnd::PeerClosed, now)
        } else {
            None
        };
        if !bytes.is_empty() {
            self.server_sends(socket, bytes);
        }
        if let Some(closed) = closed {
            let client = self.sockets[socket].client;
            self.note(format_args!("s{} closes c{client}: {:?}", server + 1, closed.end));
            self.server_closes(socket);
            // Whoever is no member is in touch with nobody.
            let is_membership = self.options.scenario == Scenario::Membership;
            let steady_since = if is_membership { self.now } else { self.steady_since() };
            let result = self.promises.connections.closed(closed.end, self.now, steady_since);
            self.check(result);
            let has_stayed = self.servers[server].started + SETTLED_US < self.now;
            if self.options.scenario == Scenario::LeaderChanges && has_stayed && closed.session.is_some() {
                let result = self.promises.connections.left_alone(closed.end);
                self.check(result);
            }
        }
    }

    /// Starts a server's process on what its disk holds.
    pub(crate) fn start(&mut self, server: usize) {
        if self.servers[server].process.is_some() {
            return;
        }
        self.note(format_args!("s{} starts", server + 1));
        self.servers[server].life += 1;
        self.servers[server].started = self.now;
        self.servers[server].paused_until = 0;
        self.servers[server].dies_after = None;
        let (shards, now) = (self.options.shards, self.now);
        let mut random = self.random.clone();
        let is_open = self.options.scenario == Scenario::Membership;
        let replicated = Settings { reconfig_enabled: is_open, skip_acl: is_open, ..Settings::default() };
        let started = self.servers[server].start(shards, replicated, &mut random, now);
        self.random = random;
        if let Err(why) = started {
            return self.fail(format!("server {} does not start: {why}", server + 1));
        }
        let life = self.servers[server].life;
        let process = self.servers[server].process.as_mut().expect("just started");
        process.turn_at = Some(now);
        self.at(0, Event::CoreTurn { server, life });
        for shard in 0..shards {
            self.wake_shard(server, shard);
        }
    }

    /// The process ends without warning.
    pub(crate) fn die(&mut self, server: usize) {
        let Some(mut process) = self.servers[server].process.take() else { return };
        self.outcome.crashes += 1;
        self.servers[server].life += 1;
        let loses_power = self.random.chance(50) && !std::mem::take(&mut self.is_gentle_death);
        self.note(format_args!(
            "s{} dies{}",
            server + 1,
            if loses_power { ", and its machine loses power" } else { "" }
        ));
        // The disk was in the middle of something.
        if !process.at_disk.is_empty() && self.random.chance(60) {
            let operation = self.random.below(3);
            self.servers[server].disk.fail_at(operation, ostler_storage::Fault::Crash);
            let rounds = std::mem::take(&mut process.at_disk);
            // It is dead whatever came of it.
            let _ = process.write_log(&rounds);
        }
        drop(process);
        if loses_power {
            let seed = self.random.number();
            self.servers[server].disk.power_cut(seed);
        } else {
            self.servers[server].disk.kill();
        }
        for peer in 0..self.servers.len() {
            if peer != server && self.network.is_up(server, peer) {
                self.break_link(server, peer, !loses_power);
            }
        }
        for socket in 0..self.sockets.len() {
            if self.sockets[socket].server == server && self.sockets[socket].at_server.is_some() {
                self.sockets[socket].at_server = None;
                self.sockets[socket].received.clear();
                self.sockets[socket].is_ready = false;
                if !loses_power {
                    self.server_closes(socket);
                }
            }
        }
    }
}

/// Copies a snapshot from another server's disk and reads it back.
fn adopt(
    from: &SimDisk,
    info: &SnapshotInfo,
    to: &SnapshotStore,
    meta: &ostler_storage::SnapshotMeta,
) -> Result<ostler_tree::State, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let mut reader = SnapshotReader::open(from, &info.path).map_err(|e| text(&e))?;
    let mut writer = to.create(meta).map_err(|e| text(&e))?;
    loop {
        let block = reader.next_block().map_err(|e| text(&e))?;
        if block.is_empty() {
            break;
        }
        writer.push(block).map_err(|e| text(&e))?;
    }
    let written = writer.finish(info.records, info.digest).map_err(|e| text(&e))?;
    restore(to.read(&written).map_err(|e| text(&e))?)
}
