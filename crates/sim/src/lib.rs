//! Whole ensembles with their clients, on one thread and in virtual time, from one number (`docs/testing.md`, "The simulator").
//!
//! A simulated server is what `ostler-server` is made of — a [`Core`](ostler_node::Core), shards, a log, snapshots —
//! on a disk that loses power ([`SimDisk`](ostler_storage::SimDisk)), a clock of its own and a network that is slow,
//! breaks, or goes silent. Simulated clients speak the wire protocol's bytes. What servers and clients promise is judged
//! in `promises`, by judges that see only what clients and disks see.
//!
//! ```
//! use ostler_sim::{Options, run};
//!
//! let options = Options { faults_ms: 5_000, ..Options::new(7) };
//! let first = run(options.clone(), false).unwrap();
//! assert_eq!(first.trace_hash, run(options, false).unwrap().trace_hash);
//! ```

mod client;
mod clock;
mod faults;
mod finish;
mod network;
mod perform;
mod promises;
mod random;
mod server;
mod trace;
mod world;

use std::collections::BTreeMap;

pub use clock::Clock;
pub use random::Random;
pub use trace::Trace;
use world::World;

/// Virtual time since the beginning of a run, microseconds.
pub type Micros = u64;

/// What goes wrong in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// Anything, at any time.
    Chaos,
    /// Only the leader's process ends, or hands over first: clients of the others must not notice.
    LeaderChanges,
    /// Anything, while clients add, remove and replace servers. There is one more server than the ensemble begins with.
    Membership,
}

/// A bug that is put into the servers on purpose, to see that it is found; or something that must do no harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// What must be durable first is answered before.
    AnsweredBeforeDurable,
    /// Forwarded commands are lost and nobody is told.
    LostForward,
    /// Every forwarded frame arrives twice: harmless.
    TwiceForwarded,
    /// The servers' clocks run three times as fast as the clients'.
    FastClocks,
    /// Nobody is told whom the sockets heard.
    ForgottenTouches,
}

/// How a run is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// Everything follows from it.
    pub seed: u64,
    /// Servers, 1 to 3 or more.
    pub servers: u8,
    /// Session shards of each server.
    pub shards: usize,
    /// Clients.
    pub clients: usize,
    /// Virtual milliseconds in which things go wrong; the time to heal comes on top.
    pub faults_ms: u64,
    /// What goes wrong.
    pub scenario: Scenario,
    /// A planted bug.
    pub plant: Option<Plant>,
}

impl Options {
    /// A run like most: three servers, half a virtual minute of everything.
    pub fn new(seed: u64) -> Options {
        Options {
            seed,
            servers: 3,
            shards: 1 + (seed % 2) as usize,
            clients: 6,
            faults_ms: 30_000,
            scenario: if seed % 4 == 3 { Scenario::LeaderChanges } else { Scenario::Chaos },
            plant: None,
        }
    }
}

/// A run that kept every promise.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Equal for equal runs.
    pub trace_hash: u64,
    /// Virtual time, milliseconds.
    pub virtual_ms: u64,
    /// Events.
    pub events: u64,
    /// Log entries applied.
    pub entries: u64,
    /// Requests clients have sent.
    pub requests: u64,
    /// Of these, answered.
    pub answers: u64,
    /// Of these, cut off by the end of their connection.
    pub unknown: u64,
    /// Handshakes that gave a client its session.
    pub connections: u64,
    /// Clients that were told that their session has expired.
    pub expired: u64,
    /// Watch events.
    pub watch_events: u64,
    /// Comparisons of two servers' states.
    pub comparisons: u64,
    /// Processes that died.
    pub crashes: u64,
    /// News of a leader, on all servers.
    pub leader_changes: u64,
    /// Snapshots written, and received.
    pub snapshots: u64,
    /// See [`snapshots`](Self::snapshots).
    pub installs: u64,
    /// Changes of membership that were answered with success.
    pub reconfigs: u64,
    /// Connections that servers closed, by reason.
    pub closed: BTreeMap<String, u64>,
    /// Reads of a counter that was there but not yet where it was read.
    pub late_counters: u64,
}

impl Outcome {
    /// Adds another run's figures to this one's.
    pub fn add(&mut self, other: &Outcome) {
        self.trace_hash ^= other.trace_hash;
        for (sum, value) in [
            (&mut self.virtual_ms, other.virtual_ms),
            (&mut self.events, other.events),
            (&mut self.entries, other.entries),
            (&mut self.requests, other.requests),
            (&mut self.answers, other.answers),
            (&mut self.unknown, other.unknown),
            (&mut self.connections, other.connections),
            (&mut self.expired, other.expired),
            (&mut self.watch_events, other.watch_events),
            (&mut self.comparisons, other.comparisons),
            (&mut self.crashes, other.crashes),
            (&mut self.leader_changes, other.leader_changes),
            (&mut self.snapshots, other.snapshots),
            (&mut self.installs, other.installs),
            (&mut self.late_counters, other.late_counters),
            (&mut self.reconfigs, other.reconfigs),
        ] {
            *sum += value;
        }
        for (reason, count) in &other.closed {
            *self.closed.entry(reason.clone()).or_default() += count;
        }
    }
}

/// A promise that was broken.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Repeats it.
    pub seed: u64,
    /// Which, and how.
    pub why: String,
    /// What happened last, oldest first; empty if lines were not kept.
    pub tail: Vec<String>,
}

/// Runs one seed. `keep_lines` makes a failure readable and the run slower.
///
/// # Errors
/// A promise was broken.
pub fn run(options: Options, keep_lines: bool) -> Result<Outcome, Box<Failure>> {
    World::new(options, Trace::new(keep_lines, false)).whole_run()
}

/// As [`run`], printing every line of the trace.
///
/// # Errors
/// A promise was broken.
pub fn run_printing(options: Options) -> Result<Outcome, Box<Failure>> {
    World::new(options, Trace::new(false, true)).whole_run()
}
