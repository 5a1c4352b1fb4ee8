//! Membership, election and synchronisation of servers.

use super::{Refusal, Setting, honoured, no_effect, refused};

const ONE_SERVER: &str = "there is one server; the ensemble comes in a later release";
const ELECTION: &str = "elections will be Raft's, which has its own timing";
const ALWAYS_ONE: &str = "one server is an ensemble of one here; there is no second mode";

const LATER: Refusal = Refusal {
    why: "one server only; the ensemble comes in a later release",
    instead: "run one server: remove it, or leave a single server.N line",
};
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
        "host:port:port",
        "a single one runs standalone and may give the client port after `;`; more than one is refused: the ensemble comes in a later release",
    ),
    refused("group.*", "(none)", "ids", "groups of a hierarchical quorum", &[], QUORUM_RULES),
    refused("weight.*", "1", "votes", "weight of a server's vote", &["1"], QUORUM_RULES),
    no_effect("version", "0", "hex", "version of the membership in a dynamic file", ONE_SERVER),
    refused(
        "dynamicConfigFile",
        "(none)",
        "path",
        "file with the server.N lines",
        &[],
        Refusal {
            why: "membership files come with the ensemble, in a later release",
            instead: "put the one server.N line, or clientPort, into this file",
        },
    ),
    refused(
        "peerType",
        "participant",
        "participant/observer",
        "whether this server votes",
        &["participant"],
        LATER,
    ),
    refused("electionAlg", "3", "number", "election algorithm", &["3"], ONE_ELECTION),
    refused("oraclePath", "(none)", "path", "oracle of a two-server quorum", &[], QUORUM_RULES),
    no_effect("initLimit", "(none)", "ticks", "time for a follower to connect and catch up", ONE_SERVER),
    no_effect("syncLimit", "(none)", "ticks", "time a follower may lag", ONE_SERVER),
    no_effect("connectToLearnerMasterLimit", "0", "ticks", "time for a follower to connect", ONE_SERVER),
    no_effect(
        "quorumListenOnAllIPs",
        "false",
        "true/false",
        "address of the ports between servers",
        ONE_SERVER,
    ),
    no_effect("syncEnabled", "true", "true/false", "observers keep a log", ONE_SERVER)
        .alias(&["observer.syncEnabled"]),
    no_effect("observerMasterPort", "0", "port", "followers serve observers", ONE_SERVER),
    no_effect(
        "standaloneEnabled",
        "true",
        "true/false",
        "run a single server without quorum code",
        ALWAYS_ONE,
    ),
    honoured(
        "reconfigEnabled",
        "false",
        "true/false",
        "which error reconfig answers on one server: RECONFIGDISABLED if false, UNIMPLEMENTED if true",
    ),
    no_effect("multiAddress.enabled", "false", "true/false", "several addresses per server.N", ONE_SERVER),
    no_effect("multiAddress.reachabilityCheckEnabled", "true", "true/false", "ping them", ONE_SERVER),
    no_effect("multiAddress.reachabilityCheckTimeoutMs", "1000", "ms", "wait for the ping", ONE_SERVER),
    no_effect("quorum.cnxn.threads.size", "20", "threads", "threads for connections of servers", ONE_SERVER),
    no_effect(
        "tcpKeepAlive",
        "false",
        "true/false",
        "TCP keep-alive between servers (clients: clientTcpKeepAlive)",
        ONE_SERVER,
    ),
    no_effect("leaderServes", "yes", "yes/no", "the leader accepts clients", ONE_SERVER),
    no_effect("cnxTimeout", "5000", "ms", "connect timeout of elections", ELECTION),
    no_effect("quorumCnxnTimeoutMs", "-1", "ms", "read timeout of elections", ELECTION),
    no_effect("electionPortBindRetry", "3", "times", "tries to bind the election port", ELECTION),
    no_effect("fastleader.minNotificationInterval", "200", "ms", "pace of elections", ELECTION),
    no_effect("fastleader.maxNotificationInterval", "60000", "ms", "pace of elections", ELECTION),
    no_effect("leader.maxTimeToWaitForEpoch", "-1", "ms", "wait for followers after an election", ELECTION),
    no_effect(
        "leader.maxConcurrentSnapSyncs",
        "10",
        "servers",
        "observers sent a snapshot at a time",
        ONE_SERVER,
    ),
    no_effect("leader.maxConcurrentDiffSyncs", "100", "servers", "observers sent log at a time", ONE_SERVER),
    no_effect(
        "leader.ackLoggingFrequency",
        "1000",
        "transactions",
        "how often acknowledgements are logged",
        ONE_SERVER,
    ),
    no_effect("leader.closeSocketAsync", "false", "true/false", "sockets between servers", ONE_SERVER),
    no_effect("learner.closeSocketAsync", "false", "true/false", "sockets between servers", ONE_SERVER),
    no_effect("learner.asyncSending", "false", "true/false", "sockets between servers", ONE_SERVER),
    no_effect(
        "leaderConnectDelayDuringRetryMs",
        "100",
        "ms",
        "pause between tries to reach the leader",
        ONE_SERVER,
    ),
    no_effect("forceSnapshotSync", "false", "true/false", "followers always get a snapshot", ONE_SERVER),
    no_effect(
        "forward_learner_requests_to_commit_processor_disabled",
        "false",
        "true/false",
        "request processing of followers",
        ONE_SERVER,
    ),
    no_effect(
        "follower.skipLearnerRequestToNextProcessor",
        "false",
        "true/false",
        "request processing of followers",
        ONE_SERVER,
    ),
    no_effect("observer.reconnectDelayMs", "0", "ms", "pause before an observer reconnects", ONE_SERVER),
    no_effect(
        "observer.election.DelayMs",
        "200",
        "ms",
        "pause before an observer looks for a leader",
        ONE_SERVER,
    ),
    no_effect("observerMaster.sizeLimit", "33554432", "bytes", "transactions kept for observers", ONE_SERVER),
    no_effect("leader.nodelay", "true", "true/false", "TCP_NODELAY between servers", ONE_SERVER),
    no_effect("follower.nodelay", "true", "true/false", "TCP_NODELAY between servers", ONE_SERVER),
];
