//! Figures of the process, under the names that every Prometheus client library gives them.

use std::fs;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::{Metric, Number, Value};

/// Open descriptors of this process and their limit, where the system tells.
pub(super) fn file_descriptors() -> Option<(u64, u64)> {
    let open = fs::read_dir("/proc/self/fd").ok()?.count() as u64;
    let limit = getrlimit(Resource::Nofile).current?;
    Some((open, limit))
}

/// The rows of `metricsProvider.exportJvmInfo`: what a ZooKeeper exports there and a program without a JVM has too.
/// Figures that cannot be read are left out.
pub(super) fn rows(started_unix_ms: i64) -> Vec<Metric> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let cpu_seconds = cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9;
    let mut rows = vec![
        Metric {
            name: "process_cpu_seconds_total",
            help: "User and system CPU time of the process, seconds",
            value: Value::Counter(Number::Real(cpu_seconds)),
        },
        Metric::gauge(
            "process_start_time_seconds",
            "When the server was started, Unix seconds",
            started_unix_ms as f64 / 1e3,
        ),
    ];
    for (name, help, field) in [
        ("process_resident_memory_bytes", "Memory in use, bytes", "VmRSS:"),
        ("process_virtual_memory_bytes", "Address space in use, bytes", "VmSize:"),
    ] {
        rows.extend(kib(&status, field).map(|kib| Metric::gauge(name, help, kib << 10)));
    }
    if let Some((open, limit)) = file_descriptors() {
        rows.push(Metric::gauge("process_open_fds", "Open file descriptors", open));
        rows.push(Metric::gauge("process_max_fds", "Most file descriptors that may be open", limit));
    }
    rows
}

/// The number after `field` in a text whose lines look like `Name:   123 kB`.
fn kib(text: &str, field: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(field))?;
    rest.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_is_measured() {
        let rows = rows(1_500);
        let names: Vec<&str> = rows.iter().map(|row| row.name).collect();
        assert_eq!(
            names,
            [
                "process_cpu_seconds_total",
                "process_start_time_seconds",
                "process_resident_memory_bytes",
                "process_virtual_memory_bytes",
                "process_open_fds",
                "process_max_fds"
            ]
        );
        assert_eq!(rows[1].value, Value::Gauge(Number::Real(1.5)));
        for row in &rows {
            let (Value::Gauge(number) | Value::Counter(number)) = row.value else { panic!("{row:?}") };
            assert!(number.as_f64() > 0.0, "{row:?}");
        }
        assert_eq!(kib("VmSize: much kB\n", "VmSize:"), None);
    }
}
