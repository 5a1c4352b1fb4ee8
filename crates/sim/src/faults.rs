//! What goes wrong.

use crate::server::Mail;
use crate::world::{Event, World};
use crate::{Micros, Scenario};

const SECOND: Micros = 1_000_000;

/// Something that goes wrong, or right again.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault {
    /// The next one is drawn.
    Next,
    /// A process is started again.
    Start { server: usize },
    /// The leader, having handed over, ends.
    StopGracefully { server: usize },
}

impl World {
    /// From now on things go wrong.
    pub(crate) fn begin_faults(&mut self) {
        self.at(3 * SECOND, Event::Fault(Fault::Next));
    }

    /// Nothing new goes wrong, and what can be mended is. What is held up stays so for its time, or it would be
    /// overtaken. Returns when that is over.
    pub(crate) fn end_faults(&mut self) -> Micros {
        self.note(format_args!("calm"));
        self.is_calm = true;
        self.network.heal();
        let now = self.now;
        let mut over = self.network.blocked_until().max(now);
        for server in 0..self.servers.len() {
            let machine = &mut self.servers[server];
            over = over.max(machine.paused_until);
            machine.slow_disk = (0, 0);
            machine.dies_after = None;
            self.start(server);
        }
        for client in &mut self.clients {
            client.mend();
        }
        over = self.sockets.iter().map(|socket| socket.blocked_until).max().unwrap_or(0).max(over);
        self.trouble(over);
        over
    }

    /// Since when nothing has been wrong with servers and their network.
    pub(crate) fn steady_since(&self) -> Micros {
        let is_whole =
            self.servers.iter().all(|server| server.process.is_some() && server.paused_until <= self.now)
                && self.network.is_whole(self.now);
        if is_whole { self.trouble_until.min(self.now) } else { self.now }
    }

    fn trouble(&mut self, until: Micros) {
        self.trouble_until = self.trouble_until.max(until);
    }

    pub(crate) fn fault(&mut self, fault: Fault) {
        match fault {
            Fault::Next if self.is_calm => {}
            Fault::Next => {
                match self.options.scenario {
                    Scenario::Chaos | Scenario::Membership => self.something_goes_wrong(),
                    Scenario::LeaderChanges => self.leader_goes(),
                }
                let pause = match self.options.scenario {
                    Scenario::Chaos if self.random.chance(30) => self.random.between(10_000, SECOND / 2),
                    Scenario::Chaos => self.random.between(SECOND / 4, 6 * SECOND),
                    Scenario::Membership => self.random.between(SECOND, 8 * SECOND),
                    Scenario::LeaderChanges => self.random.between(6 * SECOND, 10 * SECOND),
                };
                self.at(pause, Event::Fault(Fault::Next));
            }
            Fault::Start { server } => {
                self.trouble(self.now);
                self.start(server);
            }
            Fault::StopGracefully { server } => {
                if !self.is_calm {
                    self.end_process(server);
                }
            }
        }
    }

    fn end_process(&mut self, server: usize) {
        self.die(server);
        let down = if self.options.scenario == Scenario::LeaderChanges || self.random.chance(70) {
            self.random.between(50_000, 2 * SECOND)
        } else {
            self.random.between(2 * SECOND, 12 * SECOND)
        };
        self.trouble(self.now + down);
        self.at(down, Event::Fault(Fault::Start { server }));
    }

    fn leader(&self) -> Option<usize> {
        self.servers
            .iter()
            .position(|server| server.process.as_ref().is_some_and(|process| process.core.status().is_leader))
    }

    /// The leader's process ends, or hands over and ends; everything else is well.
    fn leader_goes(&mut self) {
        let Some(server) = self.leader() else { return };
        if self.servers.iter().any(|server| server.process.is_none()) {
            return;
        }
        self.is_gentle_death = true;
        if self.random.chance(50) {
            self.end_process(server);
        } else {
            self.note(format_args!("s{} hands over and ends", server + 1));
            self.mail(server, Mail::HandOver);
            self.at(200_000, Event::Fault(Fault::StopGracefully { server }));
        }
    }

    fn something_goes_wrong(&mut self) {
        let servers = self.servers.len() as u64;
        let server = match self.leader() {
            // Leaders are the interesting ones.
            Some(leader) if self.random.chance(30) => leader,
            _ => self.random.below(servers) as usize,
        };
        let other = (server + 1 + self.random.below(servers.max(2) - 1) as usize) % self.servers.len();
        let length = if self.random.chance(60) {
            self.random.between(10_000, 2 * SECOND)
        } else {
            self.random.between(SECOND, 9 * SECOND)
        };
        let until = self.now + length;
        let number = server + 1;
        match self.random.below(100) {
            0..18 => self.end_process(server),
            18..26 => {
                self.servers[server].dies_after = Some(self.random.below(40));
                // Whoever dies of it comes back.
                self.trouble(self.now + 20 * SECOND);
                let back = self.random.between(SECOND, 10 * SECOND);
                self.at(back, Event::Fault(Fault::Start { server }));
            }
            26..38 => {
                let length = if self.random.chance(20) { length * 3 } else { length };
                self.note(format_args!("s{number} pauses for {} ms", length / 1_000));
                self.servers[server].paused_until = self.now + length;
                self.trouble(self.now + length);
            }
            38..48 if servers > 1 => {
                self.note(format_args!("nothing from s{number} to s{} for {} ms", other + 1, length / 1_000));
                self.block(server, other, until);
                if self.random.chance(50) {
                    self.note(format_args!("nor back"));
                    self.block(other, server, until);
                }
                self.trouble(until);
            }
            48..58 if servers > 1 => {
                let ways = self.random.pick(&[(true, true), (true, false), (false, true)]);
                self.note(format_args!("s{number} is alone for {} ms, {ways:?}", length / 1_000));
                for peer in (0..self.servers.len()).filter(|&peer| peer != server) {
                    if ways.0 {
                        self.block(server, peer, until);
                    }
                    if ways.1 {
                        self.block(peer, server, until);
                    }
                }
                self.trouble(until);
            }
            58..66 if servers > 1 => {
                self.note(format_args!("link of s{number} and s{} breaks", other + 1));
                self.break_link(server, other, false);
                self.trouble(self.now + SECOND);
            }
            66..75 if servers > 1 => {
                let extra = self.random.between(1_000, 700_000);
                self.note(format_args!("s{number} to s{} slow by {} ms", other + 1, extra / 1_000));
                self.network.way(server, other).slow = (until, extra);
                self.trouble(until + extra);
            }
            75..85 => {
                let extra = self.random.between(5_000, 900_000);
                self.note(format_args!(
                    "disk of s{number} slow by {} ms for {} ms",
                    extra / 1_000,
                    length / 1_000
                ));
                self.servers[server].slow_disk = (until, extra);
                self.trouble(until + extra);
            }
            85..92 if !self.clients.is_empty() => {
                let client = self.random.below(self.clients.len() as u64) as usize;
                self.note(format_args!("nothing between c{client} and s{number} for {} ms", length / 1_000));
                self.clients[client].cut(server, until);
                for socket in &mut self.sockets {
                    if socket.client == client && socket.server == server && socket.at_client {
                        socket.blocked_until = until;
                    }
                }
            }
            _ => {
                if let Some(leader) = self.leader() {
                    self.note(format_args!("s{} hands over", leader + 1));
                    self.trouble(self.now + SECOND);
                    self.mail(leader, Mail::HandOver);
                }
            }
        }
    }
}
