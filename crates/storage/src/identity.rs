//! Who a set of files belongs to.

use std::fmt;

/// Which cluster and which disk a file belongs to. In every segment header and every snapshot.
///
/// A node id is a disk's identity, not a server's name (that is `myid`): a random 64-bit number made once per
/// disk. A server that lost its disk comes back under a new one, because the old id has promised things (votes,
/// acknowledged entries) which the empty disk no longer remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct Identity {
    /// The cluster, minted when it was formed.
    pub cluster_id: u64,
    /// This disk, minted when it was first used.
    pub node_id: u64,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cluster {:016x} node {:016x}", self.cluster_id, self.node_id)
    }
}

/// What the opener knows about the identity of a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpectIdentity {
    /// The directory must hold data already; its identity is taken from there.
    Existing,
    /// The directory must be empty and gets this identity, or belong to it already.
    Exactly(Identity),
    /// An empty directory gets this identity; one with data keeps its own.
    OrCreate(Identity),
}

impl ExpectIdentity {
    /// The identity that data on disk must have, if the opener insists on one.
    pub(crate) fn required(self) -> Option<Identity> {
        match self {
            ExpectIdentity::Exactly(identity) => Some(identity),
            ExpectIdentity::Existing | ExpectIdentity::OrCreate(_) => None,
        }
    }

    /// The identity an empty directory gets, if the opener allows an empty one.
    pub(crate) fn for_empty(self) -> Option<Identity> {
        match self {
            ExpectIdentity::Exactly(identity) | ExpectIdentity::OrCreate(identity) => Some(identity),
            ExpectIdentity::Existing => None,
        }
    }
}
