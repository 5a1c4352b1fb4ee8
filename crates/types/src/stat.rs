//! A znode's metadata as clients see it (protocol, "Stat and how operations change it").

use crate::{SessionId, Zxid};

/// What `exists` and its relatives return about a znode. Times are Unix milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// zxid of the create.
    pub czxid: Zxid,
    /// zxid of the last data change.
    pub mzxid: Zxid,
    /// When it was created.
    pub ctime: i64,
    /// When its data last changed.
    pub mtime: i64,
    /// How often its data changed.
    pub version: i32,
    /// How often its children changed (creates and deletes).
    pub cversion: i32,
    /// How often its ACL changed.
    pub aversion: i32,
    /// The owning session of an ephemeral znode, else [`SessionId::NONE`]: containers and TTL znodes show
    /// none.
    pub ephemeral_owner: SessionId,
    /// Bytes of data.
    pub data_length: i32,
    /// Number of direct children.
    pub num_children: i32,
    /// zxid of the last create or delete of a direct child.
    pub pzxid: Zxid,
}
