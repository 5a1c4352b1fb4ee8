//! The authentication schemes an ACL can name. `world` and `auth` are not among them: one needs no identity,
//! the other never reaches a stored list; `super` identities pass every check and can stand in no list.

use super::{digest_scheme, ip_scheme};

/// A scheme with a provider, in ZooKeeper's terms. `x509` and `sasl` join here with TLS and SASL; until then
/// they are unknown, as in an Apache ZooKeeper where they are not configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    /// User and password.
    Digest,
    /// Client address.
    Ip,
}

impl Scheme {
    pub(super) fn named(name: &str) -> Option<Scheme> {
        match name {
            "digest" => Some(Scheme::Digest),
            "ip" => Some(Scheme::Ip),
            _ => None,
        }
    }

    /// Whether an identity of this scheme proves who the client is, so that `auth` expands to it.
    pub(super) fn is_authenticated(self) -> bool {
        match self {
            Scheme::Digest => true,
            Scheme::Ip => false,
        }
    }

    /// Whether an ACL may hold `id`.
    pub(super) fn accepts(self, id: &str) -> bool {
        match self {
            Scheme::Digest => digest_scheme::accepts(id),
            Scheme::Ip => ip_scheme::accepts(id),
        }
    }

    /// Whether a connection's `identity` is meant by an ACL's `id`.
    pub(super) fn matches(self, identity: &str, id: &str) -> bool {
        match self {
            Scheme::Digest => identity == id,
            Scheme::Ip => ip_scheme::matches(identity, id),
        }
    }
}
