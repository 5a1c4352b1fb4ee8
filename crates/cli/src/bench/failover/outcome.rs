//! What clients noticed, and whether promises were kept.

use std::fmt;
use std::io::{self, Write};
use std::time::Instant;

use serde::Serialize;

use super::args::{Action, FailoverArgs};
use super::writer::Writer;
use crate::bench::report::Report;

/// A run of the benchmark.
#[derive(Debug, Serialize)]
pub(super) struct Failover {
    pub(super) action: Action,
    pub(super) rounds: u32,
    pub(super) clients_per_server: u32,
    pub(super) interval_ms: u64,
    pub(super) session_timeout_ms: i32,
    pub(super) total: Total,
    pub(super) events: Vec<Event>,
}

/// One time that something happened to a server.
#[derive(Debug, Serialize)]
pub(super) struct Event {
    pub(super) round: u32,
    pub(super) action: Action,
    /// To which one; none: to all.
    pub(super) server: Option<String>,
    pub(super) was_leader: bool,
    /// From the signal until all serve again.
    pub(super) recovered_ms: f64,
    #[serde(flatten)]
    pub(super) observed: Observed,
    #[serde(flatten)]
    pub(super) verdict: Verdict,
}

/// What clients noticed. Those of surviving servers: all but the one that something happened to, or simply all if it
/// happened to all.
#[derive(Debug, Serialize)]
pub(super) struct Observed {
    /// Writes acknowledged to all clients.
    pub(super) acknowledged: u64,
    /// Longest time without any acknowledged write of clients of surviving servers.
    pub(super) write_gap_ms: f64,
    /// The same before the signal.
    pub(super) calm_gap_ms: f64,
    /// Longest time without an acknowledged write of a single client of a surviving server.
    pub(super) client_gap_ms: f64,
    /// Of clients of surviving servers.
    pub(super) failed_operations: u64,
    /// Of clients of surviving servers.
    pub(super) disconnects: u64,
    /// Of all clients.
    pub(super) sessions_lost: u64,
    /// The first few, of any client.
    pub(super) errors: Vec<String>,
}

/// Promises broken, as seen on the server where it is worst.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Verdict {
    /// Acknowledged writes that are not there.
    pub(super) missing: u64,
    /// Writes carried out more than once.
    pub(super) repeated: u64,
    /// Writes carried out before an earlier one of the same client.
    pub(super) out_of_order: u64,
    /// Ephemeral znodes of sessions that live.
    pub(super) ephemerals_lost: u64,
    /// Servers with another tree than the first one.
    pub(super) servers_that_differ: u64,
}

/// All events together.
#[derive(Debug, Serialize)]
pub(super) struct Total {
    pub(super) acknowledged: u64,
    pub(super) write_gap_ms: Spread,
    pub(super) client_gap_ms: Spread,
    pub(super) recovered_ms: Spread,
    pub(super) failed_operations: u64,
    pub(super) disconnects: u64,
    pub(super) sessions_lost: u64,
    /// After each event, or of all at the end.
    pub(super) missing: u64,
    pub(super) repeated: u64,
    pub(super) out_of_order: u64,
    pub(super) ephemerals_lost: u64,
    /// After any event, or of the whole trees at the end.
    pub(super) servers_that_differ: u64,
}

/// Milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Spread {
    min: f64,
    median: f64,
    max: f64,
}

impl Observed {
    pub(super) fn of(writers: &[Writer], victim: Option<usize>, began: Instant) -> Observed {
        let survivors = || writers.iter().filter(|writer| Some(writer.home) != victim);
        let mut together: Vec<Instant> =
            survivors().flat_map(|writer| writer.notes.acknowledged_at.iter().copied()).collect();
        together.sort_unstable();
        let each = survivors().map(|writer| gaps(&writer.notes.acknowledged_at, began).1);
        let (calm_gap_ms, write_gap_ms) = gaps(&together, began);
        let errors = writers.iter().flat_map(|writer| &writer.notes.errors).take(6).cloned().collect();
        Observed {
            acknowledged: writers.iter().map(|writer| writer.notes.acknowledged_at.len() as u64).sum(),
            write_gap_ms,
            calm_gap_ms,
            client_gap_ms: each.fold(0.0, f64::max),
            failed_operations: survivors().map(|writer| writer.notes.failed).sum(),
            disconnects: survivors().map(|writer| writer.notes.disconnects).sum(),
            sessions_lost: writers.iter().map(|writer| writer.notes.sessions_lost).sum(),
            errors,
        }
    }
}

/// Longest time between two of `times`, which are in order: those before `began`, and those that ended after it.
fn gaps(times: &[Instant], began: Instant) -> (f64, f64) {
    let mut longest = (0.0_f64, 0.0_f64);
    for pair in times.windows(2) {
        let gap = (pair[1] - pair[0]).as_secs_f64() * 1e3;
        let side = if pair[1] < began { &mut longest.0 } else { &mut longest.1 };
        *side = side.max(gap);
    }
    longest
}

impl Failover {
    /// `differing` and `missing` are what the comparison at the end found.
    pub(super) fn new(args: &FailoverArgs, events: Vec<Event>, differing: u64, missing: u64) -> Failover {
        let sum = |figure: fn(&Event) -> u64| events.iter().map(figure).sum::<u64>();
        let spread = |figure: fn(&Event) -> f64| Spread::of(events.iter().map(figure).collect());
        let total = Total {
            acknowledged: sum(|event| event.observed.acknowledged),
            write_gap_ms: spread(|event| event.observed.write_gap_ms),
            client_gap_ms: spread(|event| event.observed.client_gap_ms),
            recovered_ms: spread(|event| event.recovered_ms),
            failed_operations: sum(|event| event.observed.failed_operations),
            disconnects: sum(|event| event.observed.disconnects),
            sessions_lost: sum(|event| event.observed.sessions_lost),
            missing: sum(|event| event.verdict.missing).max(missing),
            repeated: sum(|event| event.verdict.repeated),
            out_of_order: sum(|event| event.verdict.out_of_order),
            ephemerals_lost: sum(|event| event.verdict.ephemerals_lost),
            servers_that_differ: sum(|event| event.verdict.servers_that_differ).max(differing),
        };
        Failover {
            action: args.action,
            rounds: args.rounds,
            clients_per_server: args.clients,
            interval_ms: args.interval_ms,
            session_timeout_ms: args.session_timeout_ms,
            total,
            events,
        }
    }
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Spread {
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or_default();
        Spread { min: at(0), median: at(values.len() / 2), max: at(values.len().saturating_sub(1)) }
    }
}

impl Total {
    /// What no server may ever do, whatever happens to others: failed operations and disconnects are not among it.
    pub(super) fn broken_promises(&self) -> u64 {
        self.sessions_lost
            + self.missing
            + self.repeated
            + self.out_of_order
            + self.ephemerals_lost
            + self.servers_that_differ
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Event { round, server, was_leader, recovered_ms, observed, verdict, .. } = self;
        let server = server.as_deref().unwrap_or("all");
        let leader = if *was_leader { " (leader)" } else { "" };
        write!(
            f,
            "round {round}: {server}{leader}: write gap {:.0} ms (calm {:.0}, one client {:.0}), all serve after \
             {recovered_ms:.0} ms; {} acknowledged; failed {}, disconnects {}, sessions lost {}; missing {}, repeated \
             {}, out of order {}, ephemerals lost {}, differing {}",
            observed.write_gap_ms,
            observed.calm_gap_ms,
            observed.client_gap_ms,
            observed.acknowledged,
            observed.failed_operations,
            observed.disconnects,
            observed.sessions_lost,
            verdict.missing,
            verdict.repeated,
            verdict.out_of_order,
            verdict.ephemerals_lost,
            verdict.servers_that_differ,
        )?;
        if !observed.errors.is_empty() {
            write!(f, "\n  {}", observed.errors.join("\n  "))?;
        }
        Ok(())
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "min {:.0}, median {:.0}, max {:.0} ms", self.min, self.median, self.max)
    }
}

impl Report for Failover {
    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let Total { acknowledged, write_gap_ms, client_gap_ms, recovered_ms, .. } = &self.total;
        writeln!(
            out,
            "{:?} x {}: {} clients per server, a write every {} ms each, {acknowledged} acknowledged",
            self.action, self.rounds, self.clients_per_server, self.interval_ms
        )?;
        writeln!(out, "  clients of surviving servers")?;
        writeln!(out, "    write gap                    {write_gap_ms}")?;
        writeln!(out, "    write gap of a single client {client_gap_ms}")?;
        writeln!(out, "    failed operations            {}", self.total.failed_operations)?;
        writeln!(out, "    disconnects                  {}", self.total.disconnects)?;
        writeln!(out, "  all serve again after          {recovered_ms}")?;
        writeln!(out, "  sessions lost                  {}", self.total.sessions_lost)?;
        writeln!(out, "  acknowledged writes missing    {}", self.total.missing)?;
        writeln!(out, "  writes repeated                {}", self.total.repeated)?;
        writeln!(out, "  writes out of order            {}", self.total.out_of_order)?;
        writeln!(out, "  ephemerals lost                {}", self.total.ephemerals_lost)?;
        writeln!(out, "  servers that differ            {}", self.total.servers_that_differ)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_gap_belongs_to_the_side_on_which_it_ends() {
        let start = Instant::now();
        let at = |ms: &[u64]| ms.iter().map(|&ms| start + Duration::from_millis(ms)).collect::<Vec<_>>();
        let began = start + Duration::from_millis(100);
        assert_eq!(gaps(&at(&[0, 30, 90, 290, 300]), began), (60.0, 200.0));
        assert_eq!(gaps(&at(&[5]), began), (0.0, 0.0));
    }

    #[test]
    fn the_middle_of_values_in_any_order() {
        assert_eq!(Spread::of(vec![3.0, 1.0, 2.0]), Spread { min: 1.0, median: 2.0, max: 3.0 });
        assert_eq!(Spread::of(vec![]).to_string(), "min 0, median 0, max 0 ms");
    }
}
