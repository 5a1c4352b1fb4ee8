//! Membership, election and synchronisation of servers.

use super::{Refusal, Setting, honoured, no_effect, refused};

const RAFT: &str =
    "elections are Raft's and use the quorum port; their timing is ostler.tickMs and ostler.electionTicks";
const RAFT_FOLLOWS: &str = "a server that lags stays a member and catches up, however long that takes; whether it is alive, heartbeats tell (ostler.tickMs)";
const NO_ELECTION_PORT: &str =
    "elections use the quorum port; the election port of a server line is accepted and stays closed";
const ONE_SOURCE: &str = "observers are fed by the leader, like followers";
const AS_OTHERS: &str = "observers find and follow the leader as other servers do";
const OWN_LINKS: &str = "connections between servers are Ostler's own, with nothing of this kind to tune";
const RATE: &str =
    "what is sent to servers that lag is limited in bytes per second: ostler.snapshotBytesPerSecond";

const QUORUM_RULES: Refusal = Refusal {
    why: "hierarchical and oracle quorums change how many failures are survived, and are not implemented",
    instead: "remove it; a majority of servers decides",
};
const ONE_ELECTION: Refusal =
    Refusal { why: "ZooKeeper itself no longer has another election algorithm", instead: "remove it" };

pub(super) const SETTINGS: &[Setting] = &[
    honoured(
        "server.*",
        "(none)",
        "host:quorumPort:electionPort[:role][;[clientHost:]clientPort]",
        "one line for each server, this one included; the file `myid` in dataDir, or --id, says which one this is (1 to 254). role is participant or observer. The election port is accepted and stays closed. The lines say how a new cluster begins; afterwards its replicated membership decides",
    ),
    refused("group.*", "(none)", "ids", "groups of a hierarchical quorum", &[], QUORUM_RULES),
    refused("weight.*", "1", "votes", "weight of a server's vote", &["1"], QUORUM_RULES),
    no_effect(
        "version",
        "0",
        "hex",
        "version of the server lines in this file",
        "the replicated membership has a version of its own; that of a dynamic file is in its name",
    ),
    honoured(
        "dynamicConfigFile",
        "(none)",
        "path",
        "file that has the server lines instead of this one, which `reconfig` replaces; its name ends in the version. Relative to where the server was started",
    ),
    honoured(
        "peerType",
        "participant",
        "participant/observer",
        "whether this server votes; its server line decides, and start notes a contradiction",
    ),
    refused("electionAlg", "3", "number", "election algorithm", &["3"], ONE_ELECTION),
    refused("oraclePath", "(none)", "path", "oracle of a two-server quorum", &[], QUORUM_RULES),
    no_effect("initLimit", "(none)", "ticks", "time for a follower to connect and catch up", RAFT_FOLLOWS),
    no_effect("syncLimit", "(none)", "ticks", "time a follower may lag", RAFT_FOLLOWS),
    no_effect("connectToLearnerMasterLimit", "0", "ticks", "time for a follower to connect", RAFT_FOLLOWS),
    honoured(
        "quorumListenOnAllIPs",
        "false",
        "true/false",
        "listen for other servers on every interface instead of the address in this server's line",
    ),
    no_effect(
        "syncEnabled",
        "true",
        "true/false",
        "observers keep a log",
        "observers always keep a log, so that each can be promoted",
    )
    .alias(&["observer.syncEnabled"]),
    no_effect("observerMasterPort", "0", "port", "followers serve observers", ONE_SOURCE),
    honoured(
        "standaloneEnabled",
        "true",
        "true/false",
        "a `reconfig` must leave at least two participants; false: at least one. One server alone runs the same code as an ensemble either way",
    ),
    honoured(
        "reconfigEnabled",
        "false",
        "true/false",
        "allow `reconfig` to those who may write /zookeeper/config (at first only the super user), and write the result back to the configuration files; false answers RECONFIGDISABLED. A server without server lines cannot grow",
    ),
    honoured(
        "multiAddress.enabled",
        "false",
        "true/false",
        "allow several addresses, separated by vertical bars, in a server line",
    ),
    no_effect(
        "multiAddress.reachabilityCheckEnabled",
        "true",
        "true/false",
        "ping the addresses of a server line",
        "an address is tried by connecting to it",
    ),
    no_effect(
        "multiAddress.reachabilityCheckTimeoutMs",
        "1000",
        "ms",
        "wait for the ping",
        "an address is tried by connecting to it",
    ),
    no_effect("quorum.cnxn.threads.size", "20", "threads", "threads for connections of servers", OWN_LINKS),
    no_effect(
        "tcpKeepAlive",
        "false",
        "true/false",
        "TCP keep-alive between servers (clients: clientTcpKeepAlive)",
        "it is always on; heartbeats find a dead connection sooner",
    ),
    no_effect(
        "leaderServes",
        "yes",
        "yes/no",
        "the leader accepts clients",
        "every server serves clients: consensus has a thread of its own, which they do not hold up",
    ),
    no_effect("cnxTimeout", "5000", "ms", "connect timeout of elections", RAFT),
    no_effect("quorumCnxnTimeoutMs", "-1", "ms", "read timeout of elections", RAFT),
    no_effect("electionPortBindRetry", "3", "times", "tries to bind the election port", NO_ELECTION_PORT),
    no_effect("fastleader.minNotificationInterval", "200", "ms", "pace of elections", RAFT),
    no_effect("fastleader.maxNotificationInterval", "60000", "ms", "pace of elections", RAFT),
    no_effect("leader.maxTimeToWaitForEpoch", "-1", "ms", "wait for followers after an election", RAFT),
    no_effect("leader.maxConcurrentSnapSyncs", "10", "servers", "observers sent a snapshot at a time", RATE),
    no_effect("leader.maxConcurrentDiffSyncs", "100", "servers", "observers sent log at a time", RATE),
    no_effect(
        "leader.ackLoggingFrequency",
        "1000",
        "transactions",
        "how often acknowledgements are logged",
        "acknowledgements are not logged; `mntr` shows how far each server is",
    ),
    no_effect("leader.closeSocketAsync", "false", "true/false", "sockets between servers", OWN_LINKS),
    no_effect("learner.closeSocketAsync", "false", "true/false", "sockets between servers", OWN_LINKS),
    no_effect("learner.asyncSending", "false", "true/false", "sockets between servers", OWN_LINKS),
    no_effect(
        "leaderConnectDelayDuringRetryMs",
        "100",
        "ms",
        "pause between tries to reach the leader",
        OWN_LINKS,
    ),
    no_effect(
        "forceSnapshotSync",
        "false",
        "true/false",
        "followers always get a snapshot",
        "a snapshot is sent when the log does not reach back far enough, and only then",
    ),
    no_effect(
        "forward_learner_requests_to_commit_processor_disabled",
        "false",
        "true/false",
        "request processing of followers",
        "there is no chain of request processors to tune",
    ),
    no_effect(
        "follower.skipLearnerRequestToNextProcessor",
        "false",
        "true/false",
        "request processing of followers",
        "there is no chain of request processors to tune",
    ),
    no_effect("observer.reconnectDelayMs", "0", "ms", "pause before an observer reconnects", AS_OTHERS),
    no_effect(
        "observer.election.DelayMs",
        "200",
        "ms",
        "pause before an observer looks for a leader",
        AS_OTHERS,
    ),
    no_effect("observerMaster.sizeLimit", "33554432", "bytes", "transactions kept for observers", ONE_SOURCE),
    no_effect("leader.nodelay", "true", "true/false", "TCP_NODELAY between servers", "it is always set"),
    no_effect("follower.nodelay", "true", "true/false", "TCP_NODELAY between servers", "it is always set"),
];
