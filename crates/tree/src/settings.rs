//! Settings that change what apply does. They are replicated state (invariant 4a): a server's configuration
//! file reaches them only as a logged command.

/// What [`Command::Configure`](crate::Command::Configure) sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `skipACL`: every ACL check succeeds.
    pub skip_acl: bool,
    /// `zookeeper.enforceQuota`: a write over a hard quota fails.
    pub enforce_quota: bool,
    /// `zookeeper.extendedTypesEnabled`: TTL znodes can be created.
    pub extended_types_enabled: bool,
    /// `zookeeper.digest.enabled`: the history behind the `hash` word is kept.
    pub digest_enabled: bool,
    /// `reconfigEnabled`: without it reconfig answers ReconfigDisabled.
    pub reconfig_enabled: bool,
    /// `standaloneEnabled`: a reconfig must leave two voters, without it one.
    pub standalone_enabled: bool,
    /// `znode.container.maxNeverUsedIntervalMs`: a container that never had a child may be cleaned after this
    /// many milliseconds; 0 never.
    pub container_max_never_used_ms: i64,
    /// Newest rules of apply that every member supports (4b). Nothing depends on it yet.
    pub feature_level: u32,
}

impl Default for Settings {
    /// ZooKeeper's defaults.
    fn default() -> Self {
        Settings {
            skip_acl: false,
            enforce_quota: false,
            extended_types_enabled: false,
            digest_enabled: true,
            reconfig_enabled: false,
            standalone_enabled: true,
            container_max_never_used_ms: 0,
            feature_level: 1,
        }
    }
}
