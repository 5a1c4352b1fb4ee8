//! Looks after the servers: starts them, notices their end, stops them.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::args::DevArgs;
use super::output::{Output, Then};
use super::plan::Plan;
use super::server::{Event, Server};
use super::{DevError, Result};

/// How long a server that has ended stays down.
const RESTART_PAUSE: Duration = Duration::from_secs(1);
/// After this long it is said who does not serve yet.
const START_PATIENCE: Duration = Duration::from_secs(10);
/// After this long a server that was asked to stop is killed.
const STOP_PATIENCE: Duration = Duration::from_secs(30);
/// Exit statuses of a server that would end in the same way again: wrong settings, unusable data.
const HOPELESS: [i32; 2] = [2, 3];

pub(super) struct Supervisor {
    plan: Plan,
    program: PathBuf,
    restart: bool,
    /// Whether the directory is removed at the end.
    removed: bool,
    output: Output,
    /// In the order of the plan's members.
    slots: Vec<Slot>,
    events: Receiver<Event>,
    sender: Sender<Event>,
}

/// What there is of one server.
#[derive(Debug, Default)]
struct Slot {
    server: Option<Server>,
    /// Which of its processes this is.
    run: u32,
    serves: bool,
    restart_at: Option<Instant>,
}

impl Supervisor {
    pub(super) fn new(plan: Plan, args: &DevArgs, removed: bool) -> Result<Supervisor> {
        // The servers are this very program.
        let program = std::env::current_exe().map_err(DevError::Start)?;
        let (sender, events) = channel();
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(DevError::Signals)?;
        let on_signal = sender.clone();
        std::thread::spawn(move || {
            signals.forever().for_each(|_| {
                // The supervisor is gone only at the very end.
                let _ = on_signal.send(Event::Signal);
            });
        });
        Ok(Supervisor {
            slots: plan.members.iter().map(|_| Slot::default()).collect(),
            plan,
            program,
            restart: !args.no_restart,
            removed,
            output: Output { json: args.json },
            events,
            sender,
        })
    }

    /// Runs until a signal, or until it cannot go on; then no server is left.
    pub(super) fn run(mut self) -> Result<()> {
        for index in 0..self.slots.len() {
            self.start(index)?;
        }
        if self.wait_until_all_serve()? {
            let pids: Vec<_> =
                self.slots.iter().filter_map(|slot| Some(slot.server.as_ref()?.pid())).collect();
            self.output.serving(&self.plan, &pids, self.removed);
            self.look_after()?;
        }
        self.stop();
        Ok(())
    }

    fn start(&mut self, index: usize) -> Result<u32> {
        let slot = &mut self.slots[index];
        slot.run += 1;
        (slot.serves, slot.restart_at) = (false, None);
        let (member, echo) = (&self.plan.members[index], !self.output.json);
        let server = Server::start(&self.program, &self.plan, member, slot.run, echo, &self.sender)?;
        let pid = server.pid();
        slot.server = Some(server);
        Ok(pid)
    }

    /// `false` if a signal came before. A server that ends before it has served is an error.
    fn wait_until_all_serve(&mut self) -> Result<bool> {
        let mut patience = Some(Instant::now() + START_PATIENCE);
        while !self.slots.iter().all(|slot| slot.serves) {
            match self.next(patience) {
                None => {
                    patience = None;
                    let late = self.plan.members.iter().zip(&self.slots).filter(|(_, slot)| !slot.serves);
                    for (member, _) in late {
                        let log = self.plan.log_file(member);
                        eprintln!("still waiting for server {}; its log is {}", member.id, log.display());
                    }
                }
                Some(Event::Signal) => return Ok(false),
                Some(Event::Serving { id, run }) => {
                    if let Some(index) = self.index(id, run) {
                        self.slots[index].serves = true;
                    }
                }
                Some(Event::Ended { id, run }) => {
                    let Some(index) = self.index(id, run) else { continue };
                    let Some(mut server) = self.slots[index].server.take() else { continue };
                    let status = server.wait().map_err(DevError::Start)?;
                    let log = self.plan.log_file(&self.plan.members[index]);
                    return Err(DevError::DidNotStart { id, status, log });
                }
            }
        }
        Ok(true)
    }

    /// Until a signal.
    fn look_after(&mut self) -> Result<()> {
        loop {
            let due = self.slots.iter().filter_map(|slot| slot.restart_at).min();
            match self.next(due) {
                None => {
                    let now = Instant::now();
                    for index in 0..self.slots.len() {
                        if self.slots[index].restart_at.is_some_and(|at| at <= now) {
                            let pid = self.start(index)?;
                            self.output.started_again(self.plan.members[index].id, pid);
                        }
                    }
                }
                Some(Event::Signal) => return Ok(()),
                Some(Event::Serving { id, run }) => {
                    let Some(index) = self.index(id, run) else { continue };
                    self.slots[index].serves = true;
                    if let Some(server) = &self.slots[index].server {
                        self.output.serving_again(id, server.pid());
                    }
                }
                Some(Event::Ended { id, run }) => {
                    if let Some(index) = self.index(id, run) {
                        self.ended(index)?;
                    }
                    if self.slots.iter().all(|slot| slot.server.is_none() && slot.restart_at.is_none()) {
                        return Err(DevError::NoneLeft);
                    }
                }
            }
        }
    }

    fn ended(&mut self, index: usize) -> Result<()> {
        let slot = &mut self.slots[index];
        let Some(mut server) = slot.server.take() else { return Ok(()) };
        let status = server.wait().map_err(DevError::Start)?;
        let then = match status.code() {
            Some(code) if HOPELESS.contains(&code) => Then::Hopeless,
            _ if self.restart => Then::Again,
            _ => Then::Left,
        };
        slot.restart_at = (then == Then::Again).then(|| Instant::now() + RESTART_PAUSE);
        self.output.ended(self.plan.members[index].id, server.pid(), status, then);
        Ok(())
    }

    /// Stops every server, gracefully unless another signal comes or it takes too long.
    fn stop(&mut self) {
        self.slots.iter().filter_map(|slot| slot.server.as_ref()).for_each(Server::stop);
        let patience = Instant::now() + STOP_PATIENCE;
        while self.slots.iter().any(|slot| slot.server.is_some()) {
            match self.next(Some(patience)) {
                Some(Event::Ended { id, run }) => {
                    if let Some(index) = self.index(id, run) {
                        self.slots[index].server = None;
                    }
                }
                Some(Event::Serving { .. }) => {}
                Some(Event::Signal) | None => {
                    let late =
                        self.plan.members.iter().zip(&self.slots).filter(|(_, slot)| slot.server.is_some());
                    for (member, _) in late {
                        eprintln!("server {} has not stopped: killing it", member.id);
                    }
                    self.slots.iter_mut().for_each(|slot| slot.server = None);
                }
            }
        }
    }

    /// The next event; `None` at `deadline`.
    fn next(&self, deadline: Option<Instant>) -> Option<Event> {
        match deadline {
            None => self.events.recv().ok(),
            // The other error cannot be: the supervisor has a sender itself.
            Some(at) => self.events.recv_timeout(at.saturating_duration_since(Instant::now())).ok(),
        }
    }

    /// The slot of server `id`, if `run` is its present process.
    fn index(&self, id: u8, run: u32) -> Option<usize> {
        let index = self.plan.members.iter().position(|member| member.id == id)?;
        (self.slots[index].run == run).then_some(index)
    }
}
