//! `srvr`, `stat`, `isro` and `hash`: the server as a whole.

use std::fmt::{self, Write};

use ostler_types::Zxid;

use super::connections::{ConnectionReport, Detail, write_connection};
use super::number::{Summary, java_double};

/// The version Ostler gives to tools: that of the ZooKeeper it behaves like, then its own. Tools read the digits
/// up to the first `-` to know what they may ask for, and some (go-zookeeper) insist on a date in exactly this
/// form. ZooKeeper's is the time of the build; Ostler's builds are reproducible, so this is the day of the release.
pub const VERSION: &str = concat!("3.9.5-ostler-", env!("CARGO_PKG_VERSION"), ", built on 2026-11-20 00:00 UTC");

/// What a server is, in ZooKeeper's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The only server.
    Standalone,
    /// Leader of an ensemble.
    Leader,
    /// Voting member of an ensemble.
    Follower,
    /// Member of an ensemble without a vote.
    Observer,
    /// Cut off from its ensemble, serving reads.
    ReadOnly,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Standalone => "standalone",
            Mode::Leader => "leader",
            Mode::Follower => "follower",
            Mode::Observer => "observer",
            Mode::ReadOnly => "read-only",
        })
    }
}

/// The facts of `srvr`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ServerReport {
    /// What this server is.
    pub mode: Mode,
    /// From a request's arrival to its reply, in milliseconds; heartbeats left out.
    pub latency_ms: Summary,
    /// Packets received, four-letter words included.
    pub received: u64,
    /// Packets sent, watch events included.
    pub sent: u64,
    /// Open connections, the one that asks included.
    pub connections: u64,
    /// Requests received and not yet answered.
    pub outstanding: u64,
    /// The last one applied.
    pub zxid: Zxid,
    /// Znodes, `/` and the `/zookeeper` subtree included.
    pub nodes: u64,
}

/// An entry of the history of ZooKeeper's digest of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DigestReport {
    /// The transaction after which it was taken.
    pub zxid: Zxid,
    /// The digest; ZooKeeper prints it as a signed number.
    pub digest: i64,
}

/// Text of `srvr`.
pub fn srvr(server: &ServerReport) -> String {
    let mut out = String::new();
    write_head(&mut out, server);
    write_figures(&mut out, server);
    out
}

/// Text of `stat`: `srvr` with a line for each connection.
pub fn stat(server: &ServerReport, connections: &[ConnectionReport]) -> String {
    let mut out = String::new();
    write_head(&mut out, server);
    out.push_str("Clients:\n");
    for connection in connections {
        write_connection(&mut out, connection, Detail::Brief);
    }
    out.push('\n');
    write_figures(&mut out, server);
    out
}

/// Text of `isro`; `None` while the server is not serving. No line end.
pub fn isro(mode: Option<Mode>) -> &'static str {
    match mode {
        None => "null",
        Some(Mode::ReadOnly) => "ro",
        Some(Mode::Standalone | Mode::Leader | Mode::Follower | Mode::Observer) => "rw",
    }
}

/// Text of `hash`.
pub fn hash(history: &[DigestReport]) -> String {
    history.iter().fold(String::new(), |mut out, entry| {
        let _ = writeln!(out, "{:x}: {}", entry.zxid.0, entry.digest);
        out
    })
}

fn write_head(out: &mut String, server: &ServerReport) {
    let _ = writeln!(out, "Zookeeper version: {VERSION}");
    if server.mode == Mode::ReadOnly {
        out.push_str("READ-ONLY mode; serving only read-only clients\n");
    }
}

fn write_figures(out: &mut String, server: &ServerReport) {
    let ServerReport { mode, latency_ms, received, sent, connections, outstanding, zxid, nodes } = server;
    let average = java_double(latency_ms.average());
    let _ = writeln!(out, "Latency min/avg/max: {}/{average}/{}", latency_ms.min, latency_ms.max);
    let _ = writeln!(out, "Received: {received}");
    let _ = writeln!(out, "Sent: {sent}");
    let _ = writeln!(out, "Connections: {connections}");
    let _ = writeln!(out, "Outstanding: {outstanding}");
    let _ = writeln!(out, "Zxid: {zxid}");
    let _ = writeln!(out, "Mode: {mode}");
    let _ = writeln!(out, "Node count: {nodes}");
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::words::connections::tests::{fresh, working};

    pub(in crate::words) fn report() -> ServerReport {
        ServerReport {
            mode: Mode::Standalone,
            latency_ms: Summary { count: 97, sum: 60, min: 0, max: 10 },
            received: 315,
            sent: 317,
            connections: 3,
            outstanding: 0,
            zxid: Zxid(0x132),
            nodes: 9,
        }
    }

    const FIGURES: &str = "Latency min/avg/max: 0/0.6186/10\nReceived: 315\nSent: 317\nConnections: 3\n\
                           Outstanding: 0\nZxid: 0x132\nMode: standalone\nNode count: 9\n";

    #[test]
    fn srvr_is_zookeepers() {
        assert_eq!(srvr(&report()), format!("Zookeeper version: {VERSION}\n{FIGURES}"));
        assert!(VERSION.starts_with("3.9.5-ostler-"));
    }

    #[test]
    fn a_read_only_server_says_so_twice() {
        let text = srvr(&ServerReport { mode: Mode::ReadOnly, ..report() });
        assert_eq!(text.lines().nth(1), Some("READ-ONLY mode; serving only read-only clients"));
        assert!(text.contains("\nMode: read-only\n"));
        let modes = [None, Some(Mode::ReadOnly), Some(Mode::Standalone), Some(Mode::Leader)];
        assert_eq!(modes.map(isro), ["null", "ro", "rw", "rw"]);
    }

    #[test]
    fn stat_lists_clients_before_the_figures() {
        assert_eq!(
            stat(&report(), &[fresh(), working()]),
            format!(
                "Zookeeper version: {VERSION}\nClients:\n /127.0.0.1:43200[0](queued=0,recved=1,sent=0)\n \
                 /127.0.0.1:43164[1](queued=0,recved=309,sent=311)\n\n{FIGURES}"
            )
        );
    }

    #[test]
    fn hash_is_hexadecimal_then_decimal() {
        let history = [(0x80, 10_503_641_860), (0x100, -1)];
        let history = history.map(|(zxid, digest)| DigestReport { zxid: Zxid(zxid), digest });
        assert_eq!(hash(&history), "80: 10503641860\n100: -1\n");
        assert_eq!(hash(&[]), "");
    }
}
