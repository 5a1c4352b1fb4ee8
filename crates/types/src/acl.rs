//! Access control entries (semantics, "ACLs").

/// Permission bits of an [`Acl`]. ZooKeeper does not range-check them, so any 32-bit value is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Perms(pub i32);

impl Perms {
    /// Read data, children and existence of the znode.
    pub const READ: Perms = Perms(1);
    /// Set the znode's data.
    pub const WRITE: Perms = Perms(2);
    /// Create children.
    pub const CREATE: Perms = Perms(4);
    /// Delete children.
    pub const DELETE: Perms = Perms(8);
    /// Change the ACL.
    pub const ADMIN: Perms = Perms(16);
    /// All of the above.
    pub const ALL: Perms = Perms(31);

    /// Whether any of `wanted`'s bits is granted.
    pub fn intersects(self, wanted: Perms) -> bool {
        self.0 & wanted.0 != 0
    }
}

impl std::ops::BitOr for Perms {
    type Output = Perms;
    fn bitor(self, other: Perms) -> Perms {
        Perms(self.0 | other.0)
    }
}

/// An identity: the scheme that vouches for it and the scheme's name for it. Held by a connection once
/// authenticated, and named by ACL entries.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AuthId {
    /// `world`, `ip`, `digest`, `auth`, `super`, ...
    pub scheme: String,
    /// Meaning depends on the scheme: `anyone`, an address, `user:hash`.
    pub id: String,
}

impl AuthId {
    /// An identity of `scheme` named `id`.
    pub fn new(scheme: impl Into<String>, id: impl Into<String>) -> Self {
        AuthId { scheme: scheme.into(), id: id.into() }
    }
}

/// One entry of an access control list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Acl {
    /// What is allowed.
    pub perms: Perms,
    /// To whom.
    pub id: AuthId,
}

impl Acl {
    /// `perms` for `scheme:id`.
    pub fn new(perms: Perms, scheme: impl Into<String>, id: impl Into<String>) -> Self {
        Acl { perms, id: AuthId::new(scheme, id) }
    }
}

/// The list `world:anyone:cdrwa`, ZooKeeper's `OPEN_ACL_UNSAFE`.
pub fn open_acl() -> Vec<Acl> {
    vec![Acl::new(Perms::ALL, "world", "anyone")]
}
