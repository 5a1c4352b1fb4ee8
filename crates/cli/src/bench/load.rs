//! A closed loop of requests, and what it shows about the server.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::args::LoadArgs;
use super::fleet::{Fleet, Handler, PATIENCE};
use super::mix::{Mix, Operation};
use super::process::usage_of;
use super::report::{Measurement, OperationFigures, ServerProcess, latency};
use super::workload::{Random, Workload};
use super::{BenchError, Result, report, znodes};

/// Measures once and prints the result.
pub(super) fn run(args: &LoadArgs) -> Result<u64> {
    let measurement = measure(args)?;
    report::print(&measurement, args.common.json)?;
    Ok(measurement.failed)
}

/// Prepares the znodes, measures, and removes them, also if the measurement failed.
pub(super) fn measure(args: &LoadArgs) -> Result<Measurement> {
    znodes::prepare(args)?;
    let measured = run_load(args);
    let removed = znodes::remove(&args.server, &args.common.root);
    let measurement = measured?;
    removed?;
    Ok(measurement)
}

/// What the threads are to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Stage {
    Prepare,
    WarmUp,
    Measure,
    Stop,
}

#[derive(Clone, Debug)]
struct SharedStage(Arc<AtomicU8>);

impl SharedStage {
    fn set(&self, stage: Stage) {
        self.0.store(stage as u8, Ordering::Release);
    }

    fn get(&self) -> Stage {
        match self.0.load(Ordering::Acquire) {
            0 => Stage::Prepare,
            1 => Stage::WarmUp,
            2 => Stage::Measure,
            _ => Stage::Stop,
        }
    }
}

/// What a thread tells the main one.
enum Notice {
    Ready,
    Failed,
}

fn run_load(args: &LoadArgs) -> Result<Measurement> {
    let threads = args.common.threads.min(args.sessions);
    let stage = SharedStage(Arc::new(AtomicU8::new(Stage::Prepare as u8)));
    let (notify, notices) = mpsc::channel();
    let workers: Vec<_> = (0..threads)
        .map(|thread| {
            // Sessions as even as can be; each thread's numbers are consecutive.
            let share = |n: u32| u64::from(args.sessions) * u64::from(n) / u64::from(threads);
            let sessions = share(thread) as u32..share(thread + 1) as u32;
            let (args, stage, notify) = (args.clone(), stage.clone(), notify.clone());
            thread::spawn(move || {
                let outcome = Worker::run(&args, sessions, &stage, &notify);
                if outcome.is_err() {
                    // The main thread may have given up already.
                    let _ = notify.send(Notice::Failed);
                }
                outcome
            })
        })
        .collect();

    let mut healthy = (0..threads).all(|_| matches!(notices.recv(), Ok(Notice::Ready)));
    // A failing thread ends the wait early.
    let mut wait = |time| healthy = healthy && notices.recv_timeout(time).is_err();
    stage.set(Stage::WarmUp);
    wait(args.common.warmup);
    let before = usage_of(&args.server_pid);
    let own_before = usage_of(&[std::process::id()]);
    stage.set(Stage::Measure);
    wait(args.common.seconds);
    stage.set(Stage::Stop);
    let after = usage_of(&args.server_pid);
    let own_after = usage_of(&[std::process::id()]);

    let mut total = Counts::new();
    let mut operations_per_second = 0.0;
    let mut failure = None;
    for worker in workers {
        match worker.join().expect("a worker does not panic") {
            Ok((counts, measured)) => {
                operations_per_second += counts.operations() as f64 / measured.as_secs_f64();
                total.add(&counts);
            }
            Err(error) => failure = Some(error),
        }
    }
    if let Some(error) = failure {
        return Err(error);
    }
    let operations = total.operations();
    let per_operation = |us: u64| us as f64 / operations.max(1) as f64;
    let server_process = before?.zip(after?).map(|(before, after)| ServerProcess {
        cpu_us_per_operation: per_operation(after.cpu_us - before.cpu_us),
        cpu_cores: (after.cpu_us - before.cpu_us) as f64 / 1e6 / args.common.seconds.as_secs_f64(),
        resident_kib_before: before.resident_kib,
        resident_kib_after: after.resident_kib,
    });
    let own = own_before.ok().flatten().zip(own_after.ok().flatten());
    let mut merged = new_histogram();
    let mut by_operation = Vec::new();
    for (operation, histogram) in Operation::ALL.into_iter().zip(&total.latencies) {
        merged.add(histogram).expect("all histograms have the same bounds");
        if !histogram.is_empty() {
            let figures = OperationFigures {
                operation: operation.name(),
                operations: histogram.len(),
                latency_us: latency(histogram),
            };
            by_operation.push(figures);
        }
    }
    Ok(Measurement {
        server: args.server.clone(),
        sessions: args.sessions,
        outstanding: args.outstanding,
        mix: args.mix.to_string(),
        value_bytes: args.common.value_bytes,
        znodes: args.common.znodes,
        seconds: args.common.seconds.as_secs_f64(),
        operations,
        operations_per_second,
        failed: total.failed,
        first_error: total.first_error,
        latency_us: latency(&merged),
        by_operation,
        server_process,
        generator_cpu_us_per_operation: own
            .map(|(before, after)| per_operation(after.cpu_us - before.cpu_us)),
    })
}

/// What was seen while measuring.
struct Counts {
    /// In nanoseconds, by operation in the order of [`Operation::ALL`].
    latencies: [Histogram<u64>; 3],
    failed: u64,
    first_error: Option<i32>,
}

fn new_histogram() -> Histogram<u64> {
    // A microsecond to PATIENCE and more, to three digits.
    Histogram::new_with_bounds(1_000, 60_000_000_000, 3).expect("the bounds are valid")
}

impl Counts {
    fn new() -> Self {
        Counts { latencies: [(); 3].map(|()| new_histogram()), failed: 0, first_error: None }
    }

    fn operations(&self) -> u64 {
        self.latencies.iter().map(Histogram::len).sum()
    }

    fn add(&mut self, other: &Counts) {
        for (mine, theirs) in self.latencies.iter_mut().zip(&other.latencies) {
            mine.add(theirs).expect("all histograms have the same bounds");
        }
        self.failed += other.failed;
        self.first_error = self.first_error.or(other.first_error);
    }
}

/// One thread's sessions and requests.
struct Worker {
    workload: Workload,
    mix: Mix,
    znodes: u32,
    random: Random,
    first_session: u32,
    sessions: Vec<Session>,
    /// Time of the last batch; close enough to that of each of its requests.
    now: Instant,
    stage: Stage,
    under_way: usize,
    counts: Counts,
}

struct Session {
    next_xid: i32,
    created: u32,
    /// Oldest first; replies come in that order.
    under_way: VecDeque<UnderWay>,
}

struct UnderWay {
    xid: i32,
    operation: Operation,
    sent: Instant,
}

impl Worker {
    /// Drives `sessions` until the stage says stop. Returns what it counted, and during which time.
    fn run(
        args: &LoadArgs,
        sessions: std::ops::Range<u32>,
        stage: &SharedStage,
        notify: &mpsc::Sender<Notice>,
    ) -> Result<(Counts, Duration)> {
        let mut fleet = Fleet::new(&args.server, args.common.session_timeout_ms)?;
        fleet.open(sessions.len())?;
        // An error means that the main thread is gone, and with it this one soon.
        let _ = notify.send(Notice::Ready);
        while stage.get() == Stage::Prepare {
            fleet.keep_alive()?;
        }

        let mut worker = Worker {
            workload: Workload::new(&args.common.root, args.common.value_bytes),
            mix: args.mix,
            znodes: args.common.znodes,
            random: Random::new(u64::from(sessions.start)),
            first_session: sessions.start,
            sessions: sessions
                .clone()
                .map(|_| Session { next_xid: 1, created: 0, under_way: VecDeque::new() })
                .collect(),
            now: Instant::now(),
            stage: Stage::WarmUp,
            under_way: 0,
            counts: Counts::new(),
        };
        for index in 0..sessions.len() {
            fleet.send(index, |out| {
                for _ in 0..args.outstanding {
                    worker.send_next(index, out);
                }
            })?;
        }
        let mut begun = Instant::now();
        while worker.stage != Stage::Stop {
            fleet.turn(Duration::from_millis(20), &mut worker)?;
            let stage = stage.get();
            if worker.stage != Stage::Measure && stage == Stage::Measure {
                begun = Instant::now();
                worker.counts = Counts::new();
            }
            worker.stage = stage;
        }
        let counts = std::mem::replace(&mut worker.counts, Counts::new());
        let measured = begun.elapsed();

        let deadline = Instant::now() + PATIENCE;
        while worker.under_way > 0 {
            if Instant::now() > deadline {
                let unanswered = worker.under_way;
                return Err(BenchError::Unanswered { unanswered, waited_s: PATIENCE.as_secs() });
            }
            fleet.turn(Duration::from_millis(100), &mut worker)?;
        }
        fleet.close()?;
        Ok((counts, measured))
    }

    fn send_next(&mut self, index: usize, out: &mut Vec<u8>) {
        let operation = self.mix.choose(self.random.below(100) as u8);
        let session = &mut self.sessions[index];
        let number = match operation {
            Operation::Get | Operation::Set => self.random.below(self.znodes),
            Operation::Create => {
                session.created += 1;
                session.created
            }
        };
        let xid = session.next_xid;
        session.next_xid = xid.checked_add(1).unwrap_or(1);
        self.workload.append(operation, xid, self.first_session + index as u32, number, out);
        session.under_way.push_back(UnderWay { xid, operation, sent: self.now });
        self.under_way += 1;
    }
}

impl Handler for Worker {
    fn on_batch(&mut self, _index: usize) {
        self.now = Instant::now();
    }

    fn on_reply(&mut self, index: usize, payload: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let Ok((header, _)) = ostler_wire::ReplyHeader::decode(payload) else {
            return Err(BenchError::Protocol { index });
        };
        if header.xid == ostler_types::Xid::PING {
            return Ok(());
        }
        let Some(first) =
            self.sessions[index].under_way.pop_front().filter(|first| first.xid == header.xid.0)
        else {
            return Err(BenchError::Protocol { index });
        };
        self.under_way -= 1;
        let latency_ns = (self.now - first.sent).as_nanos() as u64;
        self.counts.latencies[first.operation as usize].saturating_record(latency_ns);
        if header.err != 0 {
            self.counts.failed += 1;
            self.counts.first_error.get_or_insert(header.err);
        }
        if self.stage != Stage::Stop {
            self.send_next(index, out);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::fake_server::{FakeServer, Fault};
    use clap::Parser;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        load: LoadArgs,
    }

    fn args(server: &FakeServer, mix: &str, threads: &str) -> LoadArgs {
        let line = ["bench", "--server", &server.address, "--mix", mix, "--threads", threads];
        let rest = "--sessions 5 --outstanding 3 --znodes 20 --seconds 0.2 --warmup 0.05";
        Program::parse_from(line.into_iter().chain(rest.split(' '))).load
    }

    #[test]
    fn every_operation_is_measured_and_nothing_is_left() {
        let server = FakeServer::start(Fault::Nothing);
        for threads in ["1", "2", "9"] {
            let measurement = measure(&args(&server, "50/30/20", threads)).unwrap();
            let names: Vec<_> = measurement.by_operation.iter().map(|figures| figures.operation).collect();
            assert_eq!(names, ["get", "set", "create"], "{threads} threads");
            let sum: u64 = measurement.by_operation.iter().map(|figures| figures.operations).sum();
            assert_eq!(sum, measurement.operations);
            assert_eq!((measurement.failed, measurement.first_error), (0, None));
            assert!(server.znodes().is_empty(), "{:?}", server.znodes());
        }
    }

    #[test]
    fn errors_are_counted() {
        let server = FakeServer::start(Fault::RefuseSets);
        let measurement = measure(&args(&server, "set", "1")).unwrap();
        assert!(measurement.operations > 0);
        assert_eq!((measurement.failed, measurement.first_error), (measurement.operations, Some(-102)));
    }

    #[test]
    fn a_lost_connection_is_no_measurement_and_leaves_nothing_either() {
        let server = FakeServer::start(Fault::CloseOnSet);
        let error = measure(&args(&server, "set", "2")).unwrap_err();
        let lost = matches!(error, BenchError::ClosedByServer { .. } | BenchError::Socket { .. });
        assert!(lost, "{error}");
        assert!(server.znodes().is_empty(), "{:?}", server.znodes());
    }

    #[test]
    fn what_an_interrupted_run_left_is_removed_and_what_is_not_ours_is_not() {
        let server = FakeServer::start(Fault::CloseOnSet);
        server.insert("/ostler-bench", b"someone's data");
        server.insert("/ostler-bench/n0000000", b"someone's data");
        let error = measure(&args(&server, "get", "1")).unwrap_err();
        assert!(matches!(error, BenchError::ForeignRoot { .. }), "{error}");
        assert_eq!(server.znodes().len(), 2);

        let server = FakeServer::start(Fault::Nothing);
        znodes::prepare(&args(&server, "create", "1")).unwrap();
        server.insert("/ostler-bench/s00003/c000000001", b"");
        assert_eq!(server.znodes().len(), 1 + 20 + 5 + 1);
        measure(&args(&server, "create", "1")).unwrap();
        assert!(server.znodes().is_empty(), "{:?}", server.znodes());
    }
}
