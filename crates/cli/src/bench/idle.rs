//! Sessions that do nothing but live.

use std::time::{Duration, Instant};

use ostler_types::Xid;
use ostler_wire::Request;

use super::args::LoadArgs;
use super::fleet::{Fleet, Handler, PATIENCE};
use super::process::usage_of;
use super::report::{IdleMeasurement, IdleServerProcess};
use super::{BenchError, Result, report};

/// How many sessions to open between two lines of progress.
const STEP: u32 = 1000;

/// Measures and prints the result.
pub(super) fn run(args: &LoadArgs, sessions: u32) -> Result<u64> {
    let mut fleet = Fleet::new(&args.server, args.common.session_timeout_ms)?;
    let before = usage_of(&args.server_pid)?;
    let begun = Instant::now();
    for open in (STEP..sessions).step_by(STEP as usize).chain([sessions]) {
        fleet.open(open as usize)?;
        eprintln!("{open} sessions open after {:.1} s", begun.elapsed().as_secs_f64());
    }
    let opening = begun.elapsed();
    let opened = usage_of(&args.server_pid)?;
    let watches = u64::from(sessions) * u64::from(args.watches_per_session);
    if watches > 0 {
        watch(&mut fleet, sessions, args.watches_per_session, &args.common.root)?;
    }
    let watched = usage_of(&args.server_pid)?;
    let begun = Instant::now();
    while begun.elapsed() < args.common.seconds {
        fleet.keep_alive()?;
    }
    let after = usage_of(&args.server_pid)?;
    fleet.close()?;

    let server_process = match (before, opened, watched, after) {
        (Some(before), Some(opened), Some(watched), Some(after)) => {
            let grown = |from: u64, to: u64| (to as f64 - from as f64) * 1024.0;
            let cpu = |us: u64, time: Duration| us as f64 / 1e6 / time.as_secs_f64();
            Some(IdleServerProcess {
                resident_kib_before: before.resident_kib,
                resident_kib_after: after.resident_kib,
                resident_bytes_per_session: grown(
                    before.resident_kib,
                    opened.resident_kib.min(after.resident_kib),
                ) / f64::from(sessions),
                resident_bytes_per_watch: (watches > 0)
                    .then(|| grown(opened.resident_kib, watched.resident_kib) / watches as f64),
                cpu_us_per_session_opened: (opened.cpu_us - before.cpu_us) as f64 / f64::from(sessions),
                cpu_cores_while_idle: cpu(after.cpu_us - watched.cpu_us, args.common.seconds),
            })
        }
        _ => None,
    };
    let measurement = IdleMeasurement {
        server: args.server.clone(),
        sessions,
        watches,
        session_timeout_ms: args.common.session_timeout_ms,
        opening_seconds: opening.as_secs_f64(),
        seconds: args.common.seconds.as_secs_f64(),
        server_process,
    };
    report::print(&measurement, args.common.json)?;
    Ok(0)
}

/// Has every session watch `each` znodes that do not exist, one session at a time.
fn watch(fleet: &mut Fleet, sessions: u32, each: u32, root: &str) -> Result<()> {
    let begun = Instant::now();
    for session in 0..sessions {
        let mut answers = Answers { missing: each };
        fleet.send(session as usize, |out| {
            for i in 0..each {
                let path = format!("{root}-watch-{session:05}-{i:07}");
                Request::Exists { path: path.into(), watch: true }.encode(Xid(i as i32 + 1), out);
            }
        })?;
        let deadline = Instant::now() + PATIENCE;
        while answers.missing > 0 {
            if Instant::now() > deadline {
                let (unanswered, waited_s) = (answers.missing as usize, PATIENCE.as_secs());
                return Err(BenchError::Unanswered { unanswered, waited_s });
            }
            fleet.turn(Duration::from_millis(100), &mut answers)?;
        }
    }
    let (watches, seconds) = (u64::from(sessions) * u64::from(each), begun.elapsed().as_secs_f64());
    eprintln!("{watches} watches set after {seconds:.1} s");
    Ok(())
}

/// Counts the answers to requests; heartbeats may come in between.
struct Answers {
    missing: u32,
}

impl Handler for Answers {
    fn on_batch(&mut self, _index: usize) {}

    fn on_reply(&mut self, index: usize, payload: &[u8], _out: &mut Vec<u8>) -> Result<()> {
        match payload.first_chunk().map(|&xid| i32::from_be_bytes(xid)) {
            Some(xid) if xid == Xid::PING.0 => {}
            Some(xid) if xid > 0 && self.missing > 0 => self.missing -= 1,
            _ => return Err(BenchError::Protocol { index }),
        }
        Ok(())
    }
}
