//! Who a connection is (semantics, "ACLs"): identities collected by authentication packets.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ostler_types::AuthId;

/// The hash of the `digest` scheme (`zookeeper.DigestAuthenticationProvider.digestAlg`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DigestAlgorithm {
    /// ZooKeeper's default.
    #[default]
    Sha1,
    /// SHA-224.
    Sha224,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

/// How connections may authenticate.
#[derive(Clone, Debug)]
pub struct AuthSettings {
    /// Whether the `digest` scheme is accepted.
    pub digest_enabled: bool,
    /// Its hash.
    pub digest_algorithm: DigestAlgorithm,
    /// `user:hash` of the super user, if there is one
    /// (`zookeeper.DigestAuthenticationProvider.superDigest`).
    pub super_digest: Option<String>,
}

impl Default for AuthSettings {
    fn default() -> Self {
        AuthSettings { digest_enabled: true, digest_algorithm: DigestAlgorithm::Sha1, super_digest: None }
    }
}

impl AuthSettings {
    /// The identities an authentication packet adds, or nothing if it fails.
    pub(crate) fn authenticate(&self, scheme: &str, auth: &[u8], peer: IpAddr) -> Option<Vec<AuthId>> {
        match scheme {
            "digest" if self.digest_enabled => {
                let id = match self.digest_algorithm {
                    DigestAlgorithm::Sha1 => ostler_tree::acl::digest_auth_id(auth),
                    DigestAlgorithm::Sha224 => digest_id::<sha2::Sha224>(auth),
                    DigestAlgorithm::Sha256 => digest_id::<sha2::Sha256>(auth),
                    DigestAlgorithm::Sha384 => digest_id::<sha2::Sha384>(auth),
                    DigestAlgorithm::Sha512 => digest_id::<sha2::Sha512>(auth),
                };
                let mut ids = Vec::with_capacity(2);
                if self.super_digest.as_deref() == Some(&*id.id) {
                    ids.push(AuthId::new("super", ""));
                }
                ids.push(id);
                Some(ids)
            }
            // The argument is ignored: a connection is where it comes from.
            "ip" => Some(vec![peer_id(peer)]),
            _ => None,
        }
    }
}

/// `user:hash` as ZooKeeper forms it: base64 of the hash over all of `user:password`.
fn digest_id<D: sha2::Digest>(credentials: &[u8]) -> AuthId {
    let user = credentials.split(|&b| b == b':').next().unwrap_or_default();
    let hash = BASE64.encode(D::digest(credentials));
    AuthId::new("digest", format!("{}:{hash}", String::from_utf8_lossy(user)))
}

/// The identity every connection starts with.
pub(crate) fn peer_id(peer: IpAddr) -> AuthId {
    ostler_tree::acl::ip_auth_id(peer.to_canonical())
}
