//! What kind of znode a create asks for (protocol, "CreateMode flags").

/// The `flags` field of a create request. The values are a list, not a bit mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum CreateMode {
    /// Stays until deleted.
    Persistent = 0,
    /// Lives as long as its session.
    Ephemeral = 1,
    /// Persistent, with a counter appended to its name.
    PersistentSequential = 2,
    /// Ephemeral, with a counter appended to its name.
    EphemeralSequential = 3,
    /// Removed by the server some time after its last child went.
    Container = 4,
    /// Removed by the server when childless and unmodified for its TTL.
    PersistentWithTtl = 5,
    /// As above, with a counter appended to its name.
    PersistentSequentialWithTtl = 6,
}

impl CreateMode {
    /// The mode with this wire value, if there is one.
    pub fn from_flags(flags: i32) -> Option<CreateMode> {
        Some(match flags {
            0 => CreateMode::Persistent,
            1 => CreateMode::Ephemeral,
            2 => CreateMode::PersistentSequential,
            3 => CreateMode::EphemeralSequential,
            4 => CreateMode::Container,
            5 => CreateMode::PersistentWithTtl,
            6 => CreateMode::PersistentSequentialWithTtl,
            _ => return None,
        })
    }

    /// Whether a counter is appended to the name.
    pub fn is_sequential(self) -> bool {
        matches!(
            self,
            CreateMode::PersistentSequential
                | CreateMode::EphemeralSequential
                | CreateMode::PersistentSequentialWithTtl
        )
    }

    /// Whether the znode is owned by the session that creates it.
    pub fn is_ephemeral(self) -> bool {
        matches!(self, CreateMode::Ephemeral | CreateMode::EphemeralSequential)
    }

    /// Whether a time to live comes with it.
    pub fn is_ttl(self) -> bool {
        matches!(self, CreateMode::PersistentWithTtl | CreateMode::PersistentSequentialWithTtl)
    }
}

/// Which opcode asked for a create: it, not the flags, decides what kind of znode is stored
/// (semantics, "create": "Opcode vs flags").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NodeKind {
    /// `create` and `create2`: plain or ephemeral by the flags.
    Plain,
    /// `createContainer`.
    Container,
    /// `createTTL`; the time to live in milliseconds as sent, unchecked.
    Ttl(i64),
}
