//! Settings that ZooKeeper does not have.

use super::{Setting, honoured};

pub(super) const SETTINGS: &[Setting] = &[
    honoured(
        "linearizableClientPort",
        "(none)",
        "port",
        "one more client port, on the same host, whose reads are linearizable: each waits until this server has everything acknowledged before it; 0 takes any free port and logs it",
    ),
    honoured(
        "ostler.tickMs",
        "50",
        "ms",
        "unit of the two settings below, 1 to 10000; the same on every server. tickTime has no part in elections",
    ),
    honoured(
        "ostler.electionTicks",
        "8",
        "ticks",
        "a server that has not heard from a leader for this long, and up to as much again at random, calls an election; 2 to 1000. A leader whose process dies is replaced sooner: its closed connections tell",
    ),
    honoured(
        "ostler.heartbeatTicks",
        "2",
        "ticks",
        "how often a leader is heard; at most half of ostler.electionTicks",
    ),
    honoured(
        "ostler.snapshotBytesPerSecond",
        "104857600",
        "bytes/s",
        "the most this server sends of snapshots to those that lag, all of them together; 0 is no limit",
    ),
    honoured(
        "ostler.test.peerVersions",
        "(all it knows)",
        "OLDEST..NEWEST",
        "for tests of upgrades only: act as a server that speaks just these versions of the protocol between servers",
    ),
];
