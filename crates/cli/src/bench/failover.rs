//! `ostler bench failover`: what clients of an ensemble notice while its servers are killed, paused and restarted.
//!
//! Works on any ensemble that speaks ZooKeeper's protocol. Clients write at a steady pace, as many on every server, and
//! each remembers what was acknowledged. Then something happens to a server, and when all serve again, everything is
//! read back from each of them: what was acknowledged must be there, once and in order, and all must have the same.

mod args;
mod judge;
mod outcome;
mod servers;
mod writer;

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::task::{JoinHandle, LocalSet, spawn_local};

pub use args::{Action, FailoverArgs, PidFile, ServerPid};

use super::workload::Random;
use super::{BenchError, Result, report};
use judge::Judge;
use outcome::{Event, Failover, Observed};
use servers::Servers;
use writer::{Plan, Writer};

/// How long servers may take to serve again, after everything that was done to them has been undone.
const RECOVERY_LIMIT: Duration = Duration::from_secs(120);
/// The clients write undisturbed for this long before and after.
const CALM: Duration = Duration::from_millis(500);

/// Runs the rounds, prints what happened, and returns how many promises were broken.
pub(super) fn run(args: &FailoverArgs) -> Result<u64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let local = LocalSet::new();
    let report = runtime.map_err(BenchError::Poll)?.block_on(local.run_until(measure(args)))?;
    report::print(&report, args.json)?;
    Ok(report.total.broken_promises())
}

async fn measure(args: &FailoverArgs) -> Result<Failover> {
    let servers = Servers::find(args)?;
    servers.all_serve(RECOVERY_LIMIT).await?;
    let judge = Judge::new(servers.addresses(), &args.root);
    judge.prepare().await?;
    let plan = Rc::new(Plan {
        addresses: servers.addresses(),
        root: args.root.clone(),
        interval: Duration::from_millis(args.interval_ms),
        outstanding: args.outstanding as usize,
        session_timeout: Duration::from_millis(args.session_timeout_ms.unsigned_abs().into()),
    });
    let mut writers = Vec::new();
    for number in 0..servers.len() * args.clients as usize {
        writers.push(Writer::new(plan.clone(), number, number % servers.len()));
    }
    let mut run = Run { args, servers, judge, writers, random: Random::new(args.seed), events: Vec::new() };
    for round in 1..=args.rounds {
        run.round(round).await?;
    }
    let differing = run.judge.whole_trees_differ().await?;
    let lost_later = run.judge.everything_is_there(&run.writers).await?;
    for writer in run.writers {
        writer.close().await;
    }
    if !args.keep {
        run.judge.clean_up().await?;
    }
    Ok(Failover::new(args, run.events, differing, lost_later))
}

struct Run<'a> {
    args: &'a FailoverArgs,
    servers: Servers,
    judge: Judge,
    /// Taken while they write.
    writers: Vec<Writer>,
    random: Random,
    events: Vec<Event>,
}

impl Run<'_> {
    async fn round(&mut self, round: u32) -> Result<()> {
        let every: Vec<Option<usize>> = match self.args.action {
            Action::KillLeader | Action::StopLeader => vec![Some(self.servers.leader(RECOVERY_LIMIT).await?)],
            Action::KillRandom => vec![Some(self.random.below(self.servers.len() as u32) as usize)],
            Action::RestartEach => (0..self.servers.len()).map(Some).collect(),
            Action::KillAll => vec![None],
        };
        for victim in every {
            let event = self.event(round, victim).await?;
            eprintln!("{event}");
            self.events.push(event);
        }
        Ok(())
    }

    /// Something happens to one server, or to all.
    async fn event(&mut self, round: u32, victim: Option<usize>) -> Result<Event> {
        let leader = self.servers.leader(RECOVERY_LIMIT).await?;
        let number = self.events.len();
        self.judge.make_homes(number, self.writers.len()).await?;
        let stop = Rc::new(Cell::new(false));
        let mut running: Vec<JoinHandle<Writer>> = Vec::new();
        for mut writer in self.writers.drain(..) {
            writer.go_home().await?;
            let stop = stop.clone();
            running.push(spawn_local(async move {
                writer.write(number, &stop).await;
                writer
            }));
        }
        tokio::time::sleep(CALM).await;
        let began = Instant::now();
        self.act(victim).await?;
        let recovered = self.servers.all_serve(RECOVERY_LIMIT).await;
        let recovered_after = began.elapsed();
        tokio::time::sleep(CALM).await;
        stop.set(true);
        for writer in running {
            self.writers.push(writer.await.expect("a writer neither panics nor is cancelled"));
        }
        // What happened is told even if the servers did not come back.
        let observed = Observed::of(&self.writers, victim, began);
        let verdict = match recovered {
            Ok(()) => self.judge.verdict(number, &self.writers).await?,
            Err(error) => {
                eprintln!("round {round}: {observed:?}");
                return Err(error);
            }
        };
        Ok(Event {
            round,
            action: self.args.action,
            server: victim.map(|victim| self.servers.addresses()[victim].clone()),
            was_leader: victim.is_none_or(|victim| victim == leader),
            recovered_ms: recovered_after.as_secs_f64() * 1e3,
            observed,
            verdict,
        })
    }

    async fn act(&mut self, victim: Option<usize>) -> Result<()> {
        let servers = &mut self.servers;
        match (self.args.action, victim) {
            (Action::StopLeader, Some(victim)) => {
                servers.signal(victim, Signal::STOP)?;
                tokio::time::sleep(self.args.stop).await;
                servers.signal(victim, Signal::CONT)
            }
            (Action::RestartEach, Some(victim)) => {
                servers.signal(victim, Signal::TERM)?;
                servers.has_ended(victim, RECOVERY_LIMIT).await
            }
            (_, Some(victim)) => {
                servers.signal(victim, Signal::KILL)?;
                servers.has_ended(victim, RECOVERY_LIMIT).await
            }
            (_, None) => {
                for victim in 0..servers.len() {
                    servers.signal(victim, Signal::KILL)?;
                }
                for victim in 0..servers.len() {
                    servers.has_ended(victim, RECOVERY_LIMIT).await?;
                }
                Ok(())
            }
        }
    }
}
