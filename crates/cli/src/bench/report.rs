//! What a measurement found, as text and as JSON.

use std::io::{self, Write};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::{BenchError, Result};

/// One measurement of one server.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Measurement {
    pub(super) server: String,
    pub(super) sessions: u32,
    pub(super) outstanding: u32,
    pub(super) mix: String,
    pub(super) value_bytes: u32,
    pub(super) znodes: u32,
    pub(super) seconds: f64,
    pub(super) operations: u64,
    pub(super) operations_per_second: f64,
    pub(super) failed: u64,
    pub(super) first_error: Option<i32>,
    pub(super) latency_us: Latency,
    pub(super) by_operation: Vec<OperationFigures>,
    pub(super) server_process: Option<ServerProcess>,
    pub(super) generator_cpu_us_per_operation: Option<f64>,
}

/// Time from sending a request to reading its reply, in microseconds.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Latency {
    pub(super) mean: f64,
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
    #[serde(rename = "p99.9")]
    pub(super) p999: f64,
    pub(super) max: f64,
}

/// One kind of operation out of a mix.
#[derive(Clone, Debug, Serialize)]
pub(super) struct OperationFigures {
    pub(super) operation: &'static str,
    pub(super) operations: u64,
    pub(super) latency_us: Latency,
}

/// What the measurement cost the server.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ServerProcess {
    pub(super) cpu_us_per_operation: f64,
    pub(super) cpu_cores: f64,
    pub(super) resident_kib_before: u64,
    pub(super) resident_kib_after: u64,
}

/// What idle sessions cost the server.
#[derive(Clone, Debug, Serialize)]
pub(super) struct IdleMeasurement {
    pub(super) server: String,
    pub(super) sessions: u32,
    /// Of all sessions together.
    pub(super) watches: u64,
    pub(super) session_timeout_ms: i32,
    /// From the first connection to the last granted session.
    pub(super) opening_seconds: f64,
    /// How long all were kept alive.
    pub(super) seconds: f64,
    pub(super) server_process: Option<IdleServerProcess>,
}

/// The part of it that needs the server's process id.
#[derive(Clone, Debug, Serialize)]
pub(super) struct IdleServerProcess {
    pub(super) resident_kib_before: u64,
    pub(super) resident_kib_after: u64,
    pub(super) resident_bytes_per_session: f64,
    pub(super) resident_bytes_per_watch: Option<f64>,
    pub(super) cpu_us_per_session_opened: f64,
    /// Of one core, while the sessions were only kept alive.
    pub(super) cpu_cores_while_idle: f64,
}

/// Summary of latencies recorded in nanoseconds.
pub(super) fn latency(histogram: &Histogram<u64>) -> Latency {
    let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
    Latency {
        mean: histogram.mean() / 1e3,
        p50: at(0.5),
        p90: at(0.9),
        p99: at(0.99),
        p999: at(0.999),
        max: histogram.max() as f64 / 1e3,
    }
}

/// Something with a text form for people.
pub(super) trait Report: Serialize {
    fn write_text(&self, out: &mut dyn Write) -> io::Result<()>;
}

/// Prints to stdout.
pub(super) fn print(report: &impl Report, json: bool) -> Result<()> {
    let mut out = io::stdout().lock();
    let written = if json {
        let text = serde_json::to_string_pretty(report).map_err(io::Error::from);
        text.and_then(|text| writeln!(out, "{text}"))
    } else {
        report.write_text(&mut out)
    };
    written.and_then(|()| out.flush()).map_err(BenchError::Output)
}

impl Report for Measurement {
    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "{}: {} sessions x {} outstanding, {}, {} bytes x {} znodes, {} s",
            self.server,
            self.sessions,
            self.outstanding,
            self.mix,
            self.value_bytes,
            self.znodes,
            self.seconds
        )?;
        writeln!(out, "  throughput  {:>10.0} operations/s", self.operations_per_second)?;
        write_latency(out, "latency", &self.latency_us)?;
        if self.by_operation.len() > 1 {
            for figures in &self.by_operation {
                write_latency(out, figures.operation, &figures.latency_us)?;
            }
        }
        if let Some(server) = &self.server_process {
            writeln!(
                out,
                "  server      {:>10.2} us CPU/operation, {:.2} cores, memory {} -> {} MiB",
                server.cpu_us_per_operation,
                server.cpu_cores,
                server.resident_kib_before / 1024,
                server.resident_kib_after / 1024
            )?;
        }
        if let Some(cpu_us) = self.generator_cpu_us_per_operation {
            writeln!(out, "  generator   {cpu_us:>10.2} us CPU/operation")?;
        }
        if let Some(code) = self.first_error {
            writeln!(out, "  {} requests failed, the first one with code {code}", self.failed)?;
        }
        Ok(())
    }
}

fn write_latency(out: &mut dyn Write, name: &str, latency: &Latency) -> io::Result<()> {
    let Latency { mean, p50, p90, p99, p999, max } = latency;
    writeln!(
        out,
        "  {name:<10}  mean {mean:.0}  p50 {p50:.0}  p90 {p90:.0}  p99 {p99:.0}  p99.9 {p999:.0}  max {max:.0} us"
    )
}

impl Report for IdleMeasurement {
    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "{}: {} idle sessions, opened in {:.1} s, kept alive for {} s",
            self.server, self.sessions, self.opening_seconds, self.seconds
        )?;
        if let Some(server) = &self.server_process {
            writeln!(
                out,
                "  memory      {} -> {} MiB, {:.0} bytes per session",
                server.resident_kib_before / 1024,
                server.resident_kib_after / 1024,
                server.resident_bytes_per_session
            )?;
            if let Some(bytes) = server.resident_bytes_per_watch {
                writeln!(out, "  watches     {}, {bytes:.0} bytes each, path included", self.watches)?;
            }
            writeln!(
                out,
                "  CPU         {:.0} us per session opened, {:.3} cores while idle",
                server.cpu_us_per_session_opened, server.cpu_cores_while_idle
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_reported_in_microseconds() {
        let mut histogram = Histogram::new_with_bounds(1_000, 60_000_000_000, 3).unwrap();
        for us in 1..=1000u64 {
            histogram.record(us * 1_000).unwrap();
        }
        let latency = latency(&histogram);
        for (value, expected) in
            [(latency.mean, 500.5), (latency.p50, 500.0), (latency.p99, 990.0), (latency.max, 1000.0)]
        {
            assert!((value - expected).abs() <= expected * 0.002, "{value} is not {expected}");
        }
    }
}
