//! Scheme `digest`: `user:base64(SHA-1("user:password"))`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ostler_types::AuthId;
use sha1::{Digest, Sha1};

/// The identity that the auth packet `user:password` proves. Any bytes do: without a colon the whole is the
/// user's name, and bytes that are not UTF-8 are replaced in the name (the hash covers them as sent).
///
/// ```
/// let id = ostler_tree::acl::digest_auth_id(b"user:pass");
/// assert_eq!(id.id, "user:smGaoVKd/cQkjm7b88GyorAUz20=");
/// ```
pub fn digest_auth_id(credentials: &[u8]) -> AuthId {
    let user = credentials.split(|&byte| byte == b':').next().unwrap_or_default();
    let hash = STANDARD.encode(Sha1::digest(credentials));
    AuthId::new("digest", format!("{}:{hash}", String::from_utf8_lossy(user)))
}

/// `user:hash`: two parts once trailing colons are gone, as Java's `split(":")` counts them.
pub(super) fn accepts(id: &str) -> bool {
    id.trim_end_matches(':').matches(':').count() == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_hashes() {
        for (credentials, expected) in [
            ("super:admin", "super:xQJmxLMiHGwaqBvst5y6rkB6HQs="),
            ("user:pass", "user:smGaoVKd/cQkjm7b88GyorAUz20="),
        ] {
            assert_eq!(digest_auth_id(credentials.as_bytes()), AuthId::new("digest", expected));
        }
        assert!(digest_auth_id(b"a:b:c").id.starts_with("a:"));
        assert!(digest_auth_id(b"\xff").id.starts_with("\u{fffd}:"));
    }

    #[test]
    fn ids_have_two_parts() {
        for (id, accepted) in [
            ("user:hash", true),
            (":hash", true),
            ("user:hash:", true),
            ("user:", false),
            ("user", false),
            ("a:b:c", false),
            (":", false),
            ("", false),
        ] {
            assert_eq!(accepts(id), accepted, "{id:?}");
        }
    }
}
