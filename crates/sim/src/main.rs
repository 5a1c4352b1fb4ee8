//! Runs seeds one after the other and says what became of them.

use std::process::ExitCode;

use clap::Parser;
use ostler_sim::{Options, Outcome, Scenario, run, run_printing};

/// Simulates ensembles of Ostler servers with clients, seed by seed.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Only this one.
    #[arg(long)]
    seed: Option<u64>,
    /// Print everything that happens; with --seed.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Servers in the ensemble.
    #[arg(long, default_value_t = 3)]
    servers: u8,
    /// Clients.
    #[arg(long, default_value_t = 6)]
    clients: usize,
    /// Virtual minutes in which things go wrong.
    #[arg(long, default_value_t = 0.5)]
    minutes: f64,
    /// Only leaders end; without it one seed in four is like that.
    #[arg(long)]
    leader_changes: bool,
    /// Servers join and leave, too.
    #[arg(long)]
    membership: bool,
    /// Go on after a failure.
    #[arg(long)]
    keep_going: bool,
    /// Lines of the trace shown after a failure.
    #[arg(long, default_value_t = 60)]
    tail: usize,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let options = |seed| {
        let mut options = Options::new(seed);
        (options.servers, options.clients) = (arguments.servers, arguments.clients);
        options.faults_ms = (arguments.minutes * 60_000.0) as u64;
        if arguments.leader_changes {
            options.scenario = Scenario::LeaderChanges;
        }
        if arguments.membership {
            options.scenario = Scenario::Membership;
        }
        options
    };
    let (from, seeds) = arguments.seed.map_or((arguments.from, arguments.seeds), |seed| (seed, 1));
    let mut total = Outcome::default();
    let mut failed = Vec::new();
    for seed in from..from + seeds {
        let result = if arguments.trace { run_printing(options(seed)) } else { run(options(seed), false) };
        match result {
            Ok(outcome) => total.add(&outcome),
            Err(failure) => {
                failed.push(seed);
                println!("seed {seed}: {}", failure.why);
                if !arguments.trace && !arguments.keep_going {
                    // The same again, with its lines.
                    if let Err(failure) = run(options(seed), true) {
                        let skipped = failure.tail.len().saturating_sub(arguments.tail);
                        failure.tail[skipped..].iter().for_each(|line| println!("  {line}"));
                    }
                    println!(
                        "run it with: --servers {} --minutes {} --seed {seed} --trace",
                        arguments.servers, arguments.minutes
                    );
                    return ExitCode::FAILURE;
                }
            }
        }
        if (seed + 1 - from) % 50 == 0 {
            println!(
                "{} seeds, {} failed, {} virtual minutes",
                seed + 1 - from,
                failed.len(),
                total.virtual_ms / 60_000
            );
        }
    }
    println!("{total:#?}");
    if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        println!("failed: {failed:?}");
        ExitCode::FAILURE
    }
}
