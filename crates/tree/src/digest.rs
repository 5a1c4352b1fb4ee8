//! Two digests of the state, both sums over its parts, so that a change costs the parts it touches.
//!
//! * The *agreement digest* is ours: 64 bits over znodes, their ACLs and data, sessions and everything else
//!   apply reads. Servers compare it at equal applied index (invariant 4), snapshots are verified with it.
//! * The *tree digest* is ZooKeeper's (semantics, "Tree digest"): a sum of CRC-32 over znodes outside
//!   `/zookeeper/`, shown by the `hash` four-letter word.
//!
//! Sums of good 64-bit hashes detect accidents; they are no defence against somebody who constructs a state.

use crc32fast::Hasher as Crc32;
use ostler_types::{Acl, Perms, SessionId};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::membership::Membership;
use crate::nodes::{Meta, Node};
use crate::session::{Lanes, LastWrite, Session};
use crate::settings::Settings;
use crate::snapshot::encode_membership;
use crate::state::Position;

/// Version of ZooKeeper's digest algorithm that [`crate::State::tree_digest`] follows.
pub const TREE_DIGEST_VERSION: i32 = 2;

/// What one or many znodes add to the two digests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) agreement: u64,
    pub(crate) tree: u64,
}

impl Sums {
    pub(crate) fn add(&mut self, other: Sums) {
        self.agreement = self.agreement.wrapping_add(other.agreement);
        self.tree = self.tree.wrapping_add(other.tree);
    }

    pub(crate) fn subtract(&mut self, other: Sums) {
        self.agreement = self.agreement.wrapping_sub(other.agreement);
        self.tree = self.tree.wrapping_sub(other.tree);
    }
}

/// Hashes of a znode's path and data, kept with it so that a change of its Stat alone (every create and delete
/// of a child is one) does not read the data again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ContentHash {
    /// xxh3 over path and data.
    pub(crate) xxh3: u64,
    /// CRC-32 over path and data.
    pub(crate) crc32: u32,
    /// Whether ZooKeeper's digest counts the znode.
    pub(crate) in_tree_digest: bool,
}

/// Hashes of a znode's path and data; the root's path is "".
pub(crate) fn of_content(path: &str, data: Option<&[u8]>) -> ContentHash {
    let path = if path == "/" { "" } else { path };
    let bytes = data.unwrap_or_default();
    let seed = xxh3_64_with_seed(path.as_bytes(), u64::from(data.is_some()));
    let mut crc32 = Crc32::new();
    crc32.update(path.as_bytes());
    crc32.update(bytes);
    ContentHash {
        xxh3: xxh3_64_with_seed(bytes, seed),
        crc32: crc32.finalize(),
        in_tree_digest: !path.starts_with("/zookeeper/"),
    }
}

/// What a znode adds to the digests; `acl` is the digest of its list.
pub(crate) fn of_node(node: &Node, acl: u64) -> Sums {
    of_znode(&node.meta, node.content, acl)
}

/// As [`of_node`], from its parts.
pub(crate) fn of_znode(meta: &Meta, content: ContentHash, acl: u64) -> Sums {
    let meta = meta_bytes(meta);
    let tree = if content.in_tree_digest {
        let mut crc32 = Crc32::new_with_initial(content.crc32);
        crc32.update(&meta);
        u64::from(crc32.finalize())
    } else {
        0
    };
    let mut item = [0; META_BYTES + 16];
    item[..META_BYTES].copy_from_slice(&meta);
    item[META_BYTES..META_BYTES + 8].copy_from_slice(&content.xxh3.to_be_bytes());
    item[META_BYTES + 8..].copy_from_slice(&acl.to_be_bytes());
    Sums { agreement: xxh3_64(&item), tree }
}

const META_BYTES: usize = 60;

/// The 60 bytes of ZooKeeper's digest: five longs, three ints, the owner in its internal form.
fn meta_bytes(meta: &Meta) -> [u8; META_BYTES] {
    let mut bytes = [0; META_BYTES];
    let longs = [meta.czxid.0, meta.mzxid.0, meta.pzxid.0, meta.ctime, meta.mtime];
    let ints = [meta.version, meta.cversion, meta.aversion];
    for (at, long) in longs.iter().enumerate() {
        bytes[at * 8..at * 8 + 8].copy_from_slice(&long.to_be_bytes());
    }
    for (at, int) in ints.iter().enumerate() {
        bytes[40 + at * 4..44 + at * 4].copy_from_slice(&int.to_be_bytes());
    }
    bytes[52..].copy_from_slice(&meta.owner.internal().to_be_bytes());
    bytes
}

/// Digest of one entry of a list.
pub(crate) fn of_acl_entry(perms: Perms, scheme: &str, id: &str) -> u64 {
    let seed = xxh3_64_with_seed(scheme.as_bytes(), u64::from(perms.0.cast_unsigned()));
    xxh3_64_with_seed(id.as_bytes(), seed)
}

/// Digest of a list; its order counts.
pub(crate) fn of_acl(list: &[Acl]) -> u64 {
    list.iter().fold(list.len() as u64, |digest, entry| {
        digest.rotate_left(7).wrapping_mul(0x9e37_79b9_7f4a_7c15)
            ^ of_acl_entry(entry.perms, &entry.id.scheme, &entry.id.id)
    })
}

/// What a session adds to the agreement digest.
pub(crate) fn of_session(id: SessionId, row: &Session) -> u64 {
    let mut bytes = [0; 90];
    let mut at = 0;
    let mut put = |field: &[u8]| {
        bytes[at..at + field.len()].copy_from_slice(field);
        at += field.len();
    };
    put(&id.0.to_be_bytes());
    put(&row.timeout_ms.to_be_bytes());
    put(&row.secret_hash);
    put(&[row.server]);
    put(&row.generation.0.to_be_bytes());
    put(&row.sequence.0.to_be_bytes());
    put(&[u8::from(row.last_write.is_some())]);
    if let Some(LastWrite { generation, sequence, zxid, error }) = row.last_write {
        put(&generation.0.to_be_bytes());
        put(&sequence.0.to_be_bytes());
        put(&zxid.0.to_be_bytes());
        put(&error.to_be_bytes());
    }
    xxh3_64(&bytes)
}

/// What the membership adds to the agreement digest; nothing on a standalone server.
pub(crate) fn of_membership(membership: &Membership) -> Option<u64> {
    (*membership != Membership::default()).then(|| {
        let mut bytes = Vec::new();
        encode_membership(&mut bytes, membership);
        xxh3_64(&bytes)
    })
}

/// The agreement digest from the sums over znodes and sessions and from the parts that are few.
///
/// It must not change with the software: servers of two versions compare it while an ensemble is upgraded. A
/// new field may be counted only once it differs from its default, or from a feature level on.
pub(crate) fn agreement(
    znodes: u64,
    sessions: u64,
    position: &Position,
    settings: &Settings,
    lanes: &Lanes,
    membership: Option<u64>,
) -> u64 {
    let &Position { term, index, zxid, time_ms } = position;
    let &Settings {
        skip_acl,
        enforce_quota,
        extended_types_enabled,
        digest_enabled,
        reconfig_enabled,
        standalone_enabled,
        container_max_never_used_ms,
        feature_level,
    } = settings;
    let flags = [
        skip_acl,
        enforce_quota,
        extended_types_enabled,
        digest_enabled,
        reconfig_enabled,
        !standalone_enabled,
    ];
    let flags = flags.iter().rev().fold(0, |bits, &flag| bits << 1 | u64::from(flag));
    let fixed = [
        znodes,
        sessions,
        term.0,
        index.0,
        zxid.0.cast_unsigned(),
        time_ms.cast_unsigned(),
        flags,
        container_max_never_used_ms.cast_unsigned(),
        u64::from(feature_level),
    ];
    let lanes = lanes.iter().flat_map(|(server, lane)| [u64::from(server), u64::from(lane.boot), lane.last]);
    fixed
        .into_iter()
        .chain(lanes)
        .chain(membership)
        .fold(0, |digest, part| xxh3_64_with_seed(&part.to_be_bytes(), digest))
}
