//! The course of a run, and what must hold at its end.

use ostler_types::SessionId;

use crate::world::World;
use crate::{Failure, Micros, Outcome};

const SECOND: Micros = 1_000_000;
/// Clients go on for so long after the last fault.
const AFTERWARDS: Micros = 8 * SECOND;
/// By then everybody must have a session again and all requests their answers.
const PATIENCE: Micros = 30 * SECOND;

impl World {
    /// Faults, then calm, then silence, then the reckoning.
    pub(crate) fn whole_run(mut self) -> Result<Outcome, Box<Failure>> {
        self.begin_faults();
        self.run_until(self.options.faults_ms * 1_000);
        let faults = self.end_faults();
        self.run_until(faults + AFTERWARDS);
        self.is_quiet = true;
        let deadline = faults + AFTERWARDS + PATIENCE;
        while self.failure.is_none() && !self.is_settled() {
            if self.now >= deadline {
                let why = self.unsettled();
                self.fail(format!(
                    "not settled {} s after the last fault: {why}",
                    (self.now - faults) / SECOND
                ));
                break;
            }
            self.run_until(self.now + SECOND / 2);
        }
        if self.failure.is_none() {
            let result = self.reckon();
            self.check(result);
        }
        self.outcome.closed = self.promises.connections.closed.clone();
        self.outcome.watch_events = self.promises.watches.events;
        self.outcome.comparisons = self.promises.history.comparisons;
        self.finish()
    }

    fn is_settled(&self) -> bool {
        self.unsettled().is_empty()
    }

    /// Who belongs to the ensemble, as the server that has applied most knows.
    fn members(&self) -> Vec<u8> {
        let processes = self.servers.iter().filter_map(|server| server.process.as_ref());
        let furthest = processes.max_by_key(|process| process.core.applied());
        furthest.map_or_else(Vec::new, |process| {
            process.state.read().membership().members.keys().copied().collect()
        })
    }

    /// What is still to come, in words.
    fn unsettled(&self) -> String {
        let mut words = Vec::new();
        let members = self.members();
        let processes = || {
            let servers = self.servers.iter().filter(|server| members.contains(&server.id));
            servers.filter_map(|server| server.process.as_ref())
        };
        let leaders = processes().filter(|process| process.core.status().is_leader).count();
        if leaders != 1 {
            words.push(format!("{leaders} leaders"));
        }
        let applied: Vec<u64> = processes().map(|process| process.core.applied().0).collect();
        if applied.iter().any(|&index| index != applied[0]) {
            words.push(format!("applied {applied:?}"));
        }
        for (server, process) in members.iter().zip(processes()) {
            if !process.core.is_serving() || !process.core.is_settled() {
                words.push(format!("server {server} has {:?} pending", process.core.status().pending));
            }
        }
        for (number, client) in self.clients.iter().enumerate() {
            if !client.is_idle() {
                words.push(format!(
                    "client {number} waits{}",
                    if client.is_up() { "" } else { " for a session" }
                ));
            }
        }
        words.join(", ")
    }

    fn reckon(&mut self) -> Result<(), String> {
        self.settle_watches();
        let members = self.members();
        let one =
            self.servers.iter().find(|server| members.contains(&server.id)).ok_or("there is no member")?;
        let process = one.process.as_ref().ok_or("a member is gone")?;
        let state = process.state.read();
        let digests: Vec<u64> = self
            .servers
            .iter()
            .filter(|server| members.contains(&server.id))
            .filter_map(|server| server.process.as_ref())
            .map(|process| process.state.read().agreement_digest())
            .collect();
        if digests.iter().any(|&digest| digest != digests[0]) {
            return Err(format!("the servers' states differ: {digests:x?}"));
        }
        for client in 0..self.clients.len() {
            let version = state.lookup(&format!("/c{client}")).map(|znode| znode.stat().version);
            self.promises.counters.finish(client, version)?;
            let session = self.clients[client].session().unwrap_or(SessionId::NONE);
            if state.session(session).is_none() {
                return Err(format!("client {client} believes in session {session}, which is not there"));
            }
        }
        let sessions = &self.promises.sessions;
        let sequential = state.lookup("/seq").map_or(0, |znode| znode.children().len() as u64);
        self.promises.names.finish(
            |path| state.lookup(path).is_some(),
            |id| sessions.is_ended(id),
            sequential,
        )?;
        if self.promises.zxids.largest() > state.last_zxid().0 {
            return Err(format!(
                "the last acknowledged zxid is {:#x}, the state's {}",
                self.promises.zxids.largest(),
                state.last_zxid()
            ));
        }
        let counters = &self.promises.counters;
        self.promises.watches.finish(|of| counters.changes(of).collect())
    }
}
