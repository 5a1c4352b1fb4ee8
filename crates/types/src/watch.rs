//! Watch kinds and events (protocol, "Watches").

/// What happened, in a watch event a server sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum EventType {
    /// The znode came into being.
    NodeCreated = 1,
    /// The znode is gone.
    NodeDeleted = 2,
    /// The znode's data changed.
    NodeDataChanged = 3,
    /// A child of the znode came or went.
    NodeChildrenChanged = 4,
}

impl EventType {
    /// The event with this wire value, if a server can send it.
    pub fn from_code(code: i32) -> Option<EventType> {
        Some(match code {
            1 => EventType::NodeCreated,
            2 => EventType::NodeDeleted,
            3 => EventType::NodeDataChanged,
            4 => EventType::NodeChildrenChanged,
            _ => return None,
        })
    }
}

/// The `mode` of an addWatch request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum AddWatchMode {
    /// Data, existence and children of one path, until removed.
    Persistent = 0,
    /// Data and existence of a path and everything below it, until removed.
    PersistentRecursive = 1,
}

impl AddWatchMode {
    /// The mode with this wire value, if there is one.
    pub fn from_code(code: i32) -> Option<AddWatchMode> {
        Some(match code {
            0 => AddWatchMode::Persistent,
            1 => AddWatchMode::PersistentRecursive,
            _ => return None,
        })
    }
}

/// The `type` of a checkWatches or removeWatches request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum WatcherKind {
    /// One-shot child watches.
    Children = 1,
    /// One-shot data and existence watches.
    Data = 2,
    /// Every watch on the path.
    Any = 3,
    /// Persistent watches.
    Persistent = 4,
    /// Persistent recursive watches.
    PersistentRecursive = 5,
}

impl WatcherKind {
    /// The kind with this wire value, if there is one.
    pub fn from_code(code: i32) -> Option<WatcherKind> {
        Some(match code {
            1 => WatcherKind::Children,
            2 => WatcherKind::Data,
            3 => WatcherKind::Any,
            4 => WatcherKind::Persistent,
            5 => WatcherKind::PersistentRecursive,
            _ => return None,
        })
    }
}
