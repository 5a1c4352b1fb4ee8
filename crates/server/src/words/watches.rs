//! `wchs`, `wchc` and `wchp`: who watches what.

use std::fmt::{Display, Write};

use ostler_types::SessionId;

/// The facts of `wchs`. ZooKeeper counts data watches (those of `getData` and `exists`) and persistent ones, not
/// child watches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchTotals {
    /// Connections that watch something.
    pub connections: u64,
    /// Paths that are watched.
    pub paths: u64,
    /// Pairs of both.
    pub watches: u64,
}

/// Text of `wchs`.
pub fn wchs(totals: WatchTotals) -> String {
    let WatchTotals { connections, paths, watches } = totals;
    format!("{connections} connections watching {paths} paths\nTotal watches:{watches}\n")
}

/// Text of `wchc`: watched paths by session, in the order given.
pub fn wchc<P>(sessions: impl IntoIterator<Item = (SessionId, P)>) -> String
where
    P: IntoIterator<Item: Display>,
{
    groups(sessions)
}

/// Text of `wchp`: watching sessions by path, in the order given.
pub fn wchp<S>(paths: impl IntoIterator<Item = (impl Display, S)>) -> String
where
    S: IntoIterator<Item = SessionId>,
{
    groups(paths)
}

fn groups<K: Display, V: Display>(
    groups: impl IntoIterator<Item = (K, impl IntoIterator<Item = V>)>,
) -> String {
    let mut out = String::new();
    for (key, values) in groups {
        let _ = writeln!(out, "{key}");
        for value in values {
            let _ = writeln!(out, "\t{value}");
        }
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watches_are_listed_as_zookeeper_does() {
        let session = SessionId(0x1000011441c0000);
        assert_eq!(
            wchs(WatchTotals { connections: 2, paths: 2, watches: 2 }),
            "2 connections watching 2 paths\nTotal watches:2\n"
        );
        assert_eq!(wchc([(session, ["/a", "/nope"])]), "0x1000011441c0000\n\t/a\n\t/nope\n\n");
        assert_eq!(
            wchp([("/a", vec![session]), ("/nope", vec![session, SessionId(1)])]),
            "/a\n\t0x1000011441c0000\n/nope\n\t0x1000011441c0000\n\t0x1\n\n"
        );
        assert_eq!(wchc::<Vec<String>>([]), "\n");
    }
}
