//! Sessions that do nothing but live.

use std::time::{Duration, Instant};

use super::args::LoadArgs;
use super::fleet::Fleet;
use super::process::usage_of;
use super::report::{IdleMeasurement, IdleServerProcess};
use super::{Result, report};

/// How many sessions to open between two lines of progress.
const STEP: u32 = 1000;

/// Measures and prints the result.
pub(super) fn run(args: &LoadArgs, sessions: u32) -> Result<u64> {
    let mut fleet = Fleet::new(&args.server, args.common.session_timeout_ms)?;
    let before = usage_of(args.server_pid)?;
    let begun = Instant::now();
    for open in (STEP..sessions).step_by(STEP as usize).chain([sessions]) {
        fleet.open(open as usize)?;
        eprintln!("{open} sessions open after {:.1} s", begun.elapsed().as_secs_f64());
    }
    let opening = begun.elapsed();
    let opened = usage_of(args.server_pid)?;
    let begun = Instant::now();
    while begun.elapsed() < args.common.seconds {
        fleet.keep_alive()?;
    }
    let after = usage_of(args.server_pid)?;
    fleet.close()?;

    let server_process = match (before, opened, after) {
        (Some(before), Some(opened), Some(after)) => {
            let grown_kib = after.resident_kib as f64 - before.resident_kib as f64;
            let cpu = |us: u64, time: Duration| us as f64 / 1e6 / time.as_secs_f64();
            Some(IdleServerProcess {
                resident_kib_before: before.resident_kib,
                resident_kib_after: after.resident_kib,
                resident_bytes_per_session: grown_kib * 1024.0 / f64::from(sessions),
                cpu_us_per_session_opened: (opened.cpu_us - before.cpu_us) as f64 / f64::from(sessions),
                cpu_cores_while_idle: cpu(after.cpu_us - opened.cpu_us, args.common.seconds),
            })
        }
        _ => None,
    };
    let measurement = IdleMeasurement {
        server: args.server.clone(),
        sessions,
        session_timeout_ms: args.common.session_timeout_ms,
        opening_seconds: opening.as_secs_f64(),
        seconds: args.common.seconds.as_secs_f64(),
        server_process,
    };
    report::print(&measurement, args.common.json)?;
    Ok(0)
}
