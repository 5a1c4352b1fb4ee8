//! Data directories, log, snapshots, the tree and its rules.

use super::{Refusal, Setting, honoured, no_effect, refused};

const GROUP_COMMIT: &str =
    "group commit is automatic: every write waiting when the disk is free goes into one fsync";
const OWN_FORMAT: &str =
    "Ostler's log and snapshots have their own format, which always has this information";
const NO_CACHE: &str = "replies are built from the tree; there is no cache of serialized ones";
const NO_PIPELINE: &str = "there is no chain of request processors to tune";
const ONE_WATCH_TABLE: &str = "there is one kind of watch table, compact and with every kind of watch";
const NO_PATH_STATS: &str = "hot paths are not sampled yet";

const NO_FSYNC: Refusal = Refusal {
    why: "acknowledged writes would be lost when the machine loses power",
    instead: "remove it; use a throw-away dataDir on a memory file system where durability does not matter",
};
const OLD_TTL: Refusal = Refusal {
    why: "Ostler stores what kind a znode is and its TTL explicitly, and shows an ephemeral owner as ZooKeeper \
          does since 3.5.4; nothing here reads or writes 3.5.3's encoding",
    instead: "remove it; extendedTypesEnabled alone allows TTL nodes, and data from 3.5.3 is a matter for the \
              importer of a later release",
};
const EMPTY_START: Refusal = Refusal {
    why: "it promises that an empty data directory is not started without the file `initialize`, which is \
          not implemented yet",
    instead: "remove it, and check dataDir before the first start",
};

const CATCH_UP: &str = "a server that lags gets the log as far back as the leader's disk has it, and a snapshot only when that is not far enough";
const NO_TRACKER: &str = "messages between servers are not recorded";

pub(super) const SETTINGS: &[Setting] = &[
    honoured(
        "dataDir",
        "(required with a file)",
        "path",
        "snapshots, under `ostler/`; relative to where the server was started",
    ),
    honoured("dataLogDir", "(= dataDir)", "path", "the log, under `ostler/`; best on a disk of its own"),
    honoured(
        "datadir.autocreate",
        "true",
        "true/false",
        "create dataDir and dataLogDir if they do not exist",
    ),
    refused(
        "db.autocreate",
        "true",
        "true/false",
        "start with an empty tree if there is no data",
        &["true"],
        EMPTY_START,
    ),
    honoured(
        "preAllocSize",
        "65536",
        "KiB",
        "size of a log segment, written ahead; 1 to 63 count as 64, 0 or less as the default",
    ),
    honoured(
        "snapCount",
        "100000",
        "transactions",
        "a snapshot after half to all of this many; below 2 counts as 2",
    ),
    honoured(
        "snapSizeLimitInKb",
        "4194304",
        "KiB",
        "a snapshot after half to all of this much log; 0 or less is no limit",
    ),
    no_effect(
        "txnLogSizeLimitInKb",
        "-1",
        "KiB",
        "start a new log file above this size",
        "log segments have a fixed size: preAllocSize",
    ),
    no_effect(
        "commitLogCount",
        "500",
        "transactions",
        "kept in memory for followers that catch up",
        CATCH_UP,
    ),
    no_effect(
        "snapshotSizeFactor",
        "0.33",
        "ratio",
        "how much log may be sent to a follower instead of a snapshot",
        CATCH_UP,
    ),
    refused("forceSync", "yes", "yes/no", "fsync before a write is acknowledged", &["yes", "true"], NO_FSYNC),
    honoured("fsync.warningthresholdms", "1000", "ms", "an fsync that takes longer is logged as a warning"),
    no_effect("flushDelay", "0", "ms", "wait for more writes before an fsync", GROUP_COMMIT),
    no_effect(
        "maxWriteQueuePollTime",
        "(flushDelay / 3)",
        "ms",
        "wait for more writes before an fsync",
        GROUP_COMMIT,
    ),
    no_effect("maxBatchSize", "1000", "requests", "writes per fsync", GROUP_COMMIT),
    no_effect(
        "snapshot.compression.method",
        "(none)",
        "gz/snappy",
        "compression of snapshots",
        "snapshots are always compressed (zstd)",
    ),
    no_effect(
        "snapshot.trust.empty",
        "false",
        "true/false",
        "accept a log without a snapshot",
        "Ostler's log says itself where it begins; a gap always refuses to start",
    ),
    no_effect(
        "serializeLastProcessedZxid.enabled",
        "true",
        "true/false",
        "write the last zxid into snapshots",
        OWN_FORMAT,
    ),
    no_effect(
        "closeSessionTxn.enabled",
        "true",
        "true/false",
        "write the ephemerals of a closed session into the log",
        OWN_FORMAT,
    ),
    honoured(
        "autopurge.snapRetainCount",
        "3",
        "snapshots",
        "kept when purging, with the log after the oldest of them; below 3 counts as 3. Without purging the log is kept after the second newest",
    ),
    honoured(
        "autopurge.purgeInterval",
        "0",
        "hours",
        "how often old snapshots are deleted, first at start; 0 is never. Log that no kept snapshot needs goes after every snapshot",
    ),
    honoured(
        "digest.enabled",
        "true",
        "true/false",
        "keep ZooKeeper's digest of the tree, shown by the word `hash`",
    ),
    honoured("enforceQuota", "false", "true/false", "refuse writes beyond a hard quota"),
    honoured("skipACL", "no", "yes/no", "`yes` lets everybody do everything, whatever the ACLs say"),
    no_effect(
        "enableEagerACLCheck",
        "false",
        "true/false",
        "check ACLs before a write is logged",
        "ACLs are checked when a write is applied, which gives the same answers",
    ),
    honoured("extendedTypesEnabled", "false", "true/false", "allow TTL nodes"),
    refused(
        "emulate353TTLNodes",
        "false",
        "true/false",
        "encode TTLs in the ephemeral owner as ZooKeeper 3.5.3 did",
        &["false"],
        OLD_TTL,
    ),
    honoured(
        "znode.container.checkIntervalMs",
        "60000",
        "ms",
        "how often empty containers and expired TTL nodes are looked for",
    ),
    honoured("znode.container.maxPerMinute", "10000", "nodes", "most of them deleted in a minute"),
    honoured(
        "znode.container.maxNeverUsedIntervalMs",
        "0",
        "ms",
        "delete a container that never had a child after this long; 0 is never",
    ),
    no_effect("maxResponseCacheSize", "400", "entries", "cached getData replies", NO_CACHE),
    no_effect("maxGetChildrenResponseCacheSize", "400", "entries", "cached getChildren replies", NO_CACHE),
    no_effect(
        "commitProcessor.numWorkerThreads",
        "(cores)",
        "threads",
        "threads that serve requests",
        NO_PIPELINE,
    ),
    no_effect("commitProcessor.shutdownTimeout", "5000", "ms", "wait for those threads at stop", NO_PIPELINE),
    no_effect(
        "commitProcessor.maxReadBatchSize",
        "-1",
        "requests",
        "reads served between writes",
        NO_PIPELINE,
    ),
    no_effect(
        "commitProcessor.maxCommitBatchSize",
        "1",
        "requests",
        "writes served between reads",
        NO_PIPELINE,
    ),
    no_effect(
        "watchManagerName",
        "org.apache.zookeeper.server.watch.WatchManager",
        "class",
        "implementation of the watch table",
        ONE_WATCH_TABLE,
    ),
    no_effect(
        "watcherCleanThreadsNum",
        "2",
        "threads",
        "cleaning of the optimized watch table",
        ONE_WATCH_TABLE,
    ),
    no_effect(
        "watcherCleanThreshold",
        "1000",
        "watches",
        "cleaning of the optimized watch table",
        ONE_WATCH_TABLE,
    ),
    no_effect(
        "watcherCleanIntervalInSeconds",
        "600",
        "s",
        "cleaning of the optimized watch table",
        ONE_WATCH_TABLE,
    ),
    no_effect(
        "maxInProcessingDeadWatchers",
        "-1",
        "watches",
        "cleaning of the optimized watch table",
        ONE_WATCH_TABLE,
    ),
    no_effect("bitHashCacheSize", "10", "entries", "cleaning of the optimized watch table", ONE_WATCH_TABLE),
    no_effect("pathStats.enabled", "false", "true/false", "log the busiest paths", NO_PATH_STATS),
    no_effect("pathStats.slotCapacity", "60", "slots", "sampling of paths", NO_PATH_STATS),
    no_effect("pathStats.slotDuration", "15", "s", "sampling of paths", NO_PATH_STATS),
    no_effect("pathStats.maxDepth", "6", "levels", "sampling of paths", NO_PATH_STATS),
    no_effect("pathStats.sampleRate", "0.1", "ratio", "sampling of paths", NO_PATH_STATS),
    no_effect("pathStats.initialDelay", "5", "s", "sampling of paths", NO_PATH_STATS),
    no_effect("pathStats.delay", "5", "s", "sampling of paths", NO_PATH_STATS),
    no_effect("pathStats.topPathMax", "20", "paths", "sampling of paths", NO_PATH_STATS),
    honoured(
        "readonlymode.enabled",
        "false",
        "true/false",
        "a server without a quorum serves read-only sessions to clients that allow it; also adds `isro` to 4lw.commands.whitelist. One server alone never turns read-only",
    ),
    no_effect(
        "messageTracker.Enabled",
        "false",
        "true/false",
        "keep the last messages between servers",
        NO_TRACKER,
    ),
    no_effect("messageTracker.BufferSize", "10", "messages", "kept by the message tracker", NO_TRACKER),
];
