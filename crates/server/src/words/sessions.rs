//! `dump`: sessions, their ephemerals, and when they would expire.

use std::fmt::Write;
use std::net::SocketAddr;

use ostler_types::SessionId;
use time::OffsetDateTime;

use super::connections::JavaAddress;

/// A session and when it expires unless its client is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionDeadline {
    /// Milliseconds since 1970.
    pub expires_unix_ms: u64,
    /// The session.
    pub session: SessionId,
}

/// A connection and when it is closed unless its client is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionDeadline {
    /// Milliseconds since 1970.
    pub expires_unix_ms: u64,
    /// The client's address.
    pub peer: SocketAddr,
    /// Its session, or [`SessionId::NONE`].
    pub session: SessionId,
}

/// The facts of `dump`, in any order.
#[derive(Clone, Debug, Default)]
pub struct DumpReport {
    /// Every session of this server's ensemble.
    pub sessions: Vec<SessionDeadline>,
    /// Sessions that have ephemeral nodes, and those.
    pub ephemerals: Vec<(SessionId, Vec<String>)>,
    /// Every connection of this server.
    pub connections: Vec<ConnectionDeadline>,
}

/// Text of `dump`. ZooKeeper expires sessions in steps of `tickTime` and lists them by step; Ostler expires each at
/// its own millisecond, and lists them by second, which is what the format shows. Times are in UTC.
pub fn dump(mut report: DumpReport) -> String {
    let mut out = String::from("SessionTracker dump:\n");
    report.sessions.sort_by_key(|s| (s.expires_unix_ms, s.session));
    write_sets(&mut out, "Session", &report.sessions, |s| s.expires_unix_ms, |s| s.session.to_string());

    out.push_str("ephemeral nodes dump:\n");
    let _ = writeln!(out, "Sessions with Ephemerals ({}):", report.ephemerals.len());
    report.ephemerals.sort_by_key(|(session, _)| *session);
    for (session, paths) in &mut report.ephemerals {
        let _ = writeln!(out, "{session}:");
        paths.sort();
        for path in paths {
            let _ = writeln!(out, "\t{path}");
        }
    }

    out.push_str("Connections dump:\n");
    report.connections.sort_by_key(|c| (c.expires_unix_ms, c.peer));
    let line = |c: &ConnectionDeadline| format!("ip: {} sessionId: {}", JavaAddress(c.peer), c.session);
    write_sets(&mut out, "Connections", &report.connections, |c| c.expires_unix_ms, line);
    out
}

/// `all` is sorted by time.
fn write_sets<T>(
    out: &mut String,
    name: &str,
    all: &[T],
    unix_ms: impl Fn(&T) -> u64,
    line: impl Fn(&T) -> String,
) {
    let sets = || all.chunk_by(|a, b| unix_ms(a) / 1000 == unix_ms(b) / 1000);
    let _ = writeln!(out, "{name} Sets ({})/({}):", sets().count(), all.len());
    for set in sets() {
        let _ = writeln!(out, "{} expire at {}:", set.len(), java_date(unix_ms(&set[0])));
        for item in set {
            let _ = writeln!(out, "\t{}", line(item));
        }
    }
}

/// `java.util.Date.toString` in UTC: `Fri Nov 20 18:37:01 UTC 2026`. What is beyond year 9999 shows as its end.
fn java_date(unix_ms: u64) -> String {
    const LAST_SECOND: i64 = 253_402_300_799;
    let seconds = i64::try_from(unix_ms / 1000).unwrap_or(LAST_SECOND).min(LAST_SECOND);
    let date =
        OffsetDateTime::from_unix_timestamp(seconds).expect("time knows every second from 1970 to 9999");
    let short = |name: String| name[..3].to_owned();
    format!(
        "{} {} {:02} {:02}:{:02}:{:02} UTC {}",
        short(date.weekday().to_string()),
        short(date.month().to_string()),
        date.day(),
        date.hour(),
        date.minute(),
        date.second(),
        date.year()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_javas() {
        assert_eq!(java_date(1_795_199_821_999), "Fri Nov 20 18:37:01 UTC 2026");
        assert_eq!(java_date(0), "Thu Jan 01 00:00:00 UTC 1970");
        assert_eq!(java_date(u64::MAX), "Fri Dec 31 23:59:59 UTC 9999");
    }

    #[test]
    fn dump_is_zookeepers() {
        let session = |id, expires_unix_ms| SessionDeadline { expires_unix_ms, session: SessionId(id) };
        let connection = |peer: &str, id, expires_unix_ms| ConnectionDeadline {
            expires_unix_ms,
            peer: peer.parse().unwrap(),
            session: SessionId(id),
        };
        let report = DumpReport {
            sessions: vec![
                session(2, 1_795_199_841_500),
                session(1, 1_795_199_821_900),
                session(3, 1_795_199_821_000),
            ],
            ephemerals: vec![
                (SessionId(2), vec![String::from("/a/e2"), String::from("/a/e1")]),
                (SessionId(1), vec![String::from("/a/e3")]),
            ],
            connections: vec![
                connection("127.0.0.1:43164", 2, 1_795_199_841_500),
                connection("127.0.0.1:43228", 0, 1_795_199_831_000),
            ],
        };
        assert_eq!(
            dump(report),
            "SessionTracker dump:\nSession Sets (2)/(3):\n2 expire at Fri Nov 20 18:37:01 UTC 2026:\n\t0x3\n\t0x1\n\
             1 expire at Fri Nov 20 18:37:21 UTC 2026:\n\t0x2\nephemeral nodes dump:\n\
             Sessions with Ephemerals (2):\n0x1:\n\t/a/e3\n0x2:\n\t/a/e1\n\t/a/e2\nConnections dump:\n\
             Connections Sets (2)/(2):\n1 expire at Fri Nov 20 18:37:11 UTC 2026:\n\
             \tip: /127.0.0.1:43228 sessionId: 0x0\n1 expire at Fri Nov 20 18:37:21 UTC 2026:\n\
             \tip: /127.0.0.1:43164 sessionId: 0x2\n"
        );
        assert_eq!(
            dump(DumpReport::default()),
            "SessionTracker dump:\nSession Sets (0)/(0):\nephemeral nodes dump:\nSessions with Ephemerals (0):\n\
             Connections dump:\nConnections Sets (0)/(0):\n"
        );
    }
}
