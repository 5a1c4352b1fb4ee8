//! CPU time and memory of a process, from Linux's `/proc`.

use std::fs;
use std::io;

use super::{BenchError, Result};

/// Ticks per second in `/proc/PID/stat`: Linux's `USER_HZ`, fixed at 100 for every architecture of today.
const TICK_US: u64 = 10_000;

/// What a process has used so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Usage {
    /// User and system time of all threads, in microseconds, to the nearest 10,000.
    pub(super) cpu_us: u64,
    /// Resident memory in KiB.
    pub(super) resident_kib: u64,
}

/// The counters of process `pid`.
pub(super) fn usage(pid: u32) -> Result<Usage> {
    let read = || {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        parse(&stat, &status).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
    };
    read().map_err(|source| BenchError::Process { pid, source })
}

/// The counters of these processes together, if there is one to look at.
pub(super) fn usage_of(pids: &[u32]) -> Result<Option<Usage>> {
    let mut sum: Option<Usage> = None;
    for &pid in pids {
        let Usage { cpu_us, resident_kib } = usage(pid)?;
        let sum = sum.get_or_insert(Usage { cpu_us: 0, resident_kib: 0 });
        sum.cpu_us += cpu_us;
        sum.resident_kib += resident_kib;
    }
    Ok(sum)
}

fn parse(stat: &str, status: &str) -> Option<Usage> {
    // The command's name, in parentheses, may hold spaces and parentheses; behind the last one the third field
    // follows. utime and stime are fields 14 and 15 (proc_pid_stat(5)).
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(14 - 3);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(Usage {
        cpu_us: (user + system) * TICK_US,
        resident_kib: resident.trim().strip_suffix("kB")?.trim_end().parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_behind_the_name() {
        let stat = "42 (a ) b) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 7 8 20 0 1 0 99 1000 200";
        let status = "Name:\ta\nVmHWM:\t  900 kB\nVmRSS:\t  800 kB\n";
        assert_eq!(parse(stat, status), Some(Usage { cpu_us: 3_000_000, resident_kib: 800 }));
        assert_eq!(parse("42 (a) S 1", status), None);
        assert_eq!(parse(stat, "Name:\ta\n"), None);
    }

    #[test]
    fn this_process_has_memory() {
        assert!(usage(std::process::id()).unwrap().resident_kib > 100);
    }
}
