//! Access control (semantics, "ACLs"): who may do what, and which lists a client may set.

mod cache;
mod digest_scheme;
mod ip_scheme;
mod scheme;

use std::ops::Deref;
use std::sync::Arc;

use hashbrown::HashTable;
use ostler_types::{Acl, AuthId, ErrorCode, Perms};

pub(crate) use cache::{AclCache, AclId};
pub use digest_scheme::digest_auth_id;
pub use ip_scheme::ip_auth_id;
use scheme::Scheme;

use crate::command::AclEntry;
use crate::digest;

/// A znode's list. Cloning shares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AclList(Arc<[Acl]>);

impl AclList {
    /// Whether somebody with the identities `auth` has any of `wanted`: an empty list and the scheme `super`
    /// allow everything, permissions are not inherited. `skipACL` is not looked at.
    pub fn allows(&self, wanted: Perms, auth: &[AuthId]) -> bool {
        self.is_empty()
            || auth.iter().any(|id| id.scheme == "super")
            || self.iter().filter(|entry| entry.perms.intersects(wanted)).any(|entry| names(&entry.id, auth))
    }

    /// The list as getACL shows it to `auth`: without ADMIN the hashes of digest ids are masked.
    pub(crate) fn shown_to(&self, auth: &[AuthId], skip_acl: bool) -> Vec<Acl> {
        let mut shown = self.to_vec();
        if !skip_acl && !self.allows(Perms::ADMIN, auth) {
            for entry in shown.iter_mut().filter(|entry| entry.id.scheme == "digest") {
                let user = entry.id.id.split(':').next().unwrap_or("");
                if user.len() < entry.id.id.len() {
                    entry.id.id = format!("{user}:x");
                }
            }
        }
        shown
    }
}

impl Deref for AclList {
    type Target = [Acl];
    fn deref(&self) -> &[Acl] {
        &self.0
    }
}

impl From<Vec<Acl>> for AclList {
    fn from(entries: Vec<Acl>) -> Self {
        AclList(entries.into())
    }
}

fn names(entry: &AuthId, auth: &[AuthId]) -> bool {
    if entry.scheme == "world" && entry.id == "anyone" {
        return true;
    }
    let Some(scheme) = Scheme::named(&entry.scheme) else { return false };
    auth.iter().any(|id| id.scheme == entry.scheme && scheme.matches(&id.id, &entry.id))
}

/// Turns a list from a request into one that can be stored: duplicates go (the first stays), `auth` becomes
/// the requester's authenticated identities, everything else must be valid. Order is kept.
///
/// # Errors
/// `InvalidAcl` for a null or empty list, a null string, an unknown scheme, an id its scheme rejects, and
/// `auth` without an authenticated identity. (A null id makes Apache ZooKeeper fail with MarshallingError, by
/// way of a NullPointerException.)
pub(crate) fn fix_up(entries: Option<&[AclEntry<'_>]>, auth: &[AuthId]) -> Result<Vec<Acl>, ErrorCode> {
    let entries = entries.filter(|entries| !entries.is_empty()).ok_or(ErrorCode::InvalidAcl)?;
    let mut fixed = Vec::new();
    for entry in distinct(entries) {
        let scheme = entry.scheme.ok_or(ErrorCode::InvalidAcl)?;
        if scheme == "auth" {
            let before = fixed.len();
            fixed.extend(
                auth.iter()
                    .filter(|id| Scheme::named(&id.scheme).is_some_and(Scheme::is_authenticated))
                    .map(|id| Acl { perms: entry.perms, id: id.clone() }),
            );
            if fixed.len() == before {
                return Err(ErrorCode::InvalidAcl);
            }
            continue;
        }
        let id = entry.id.ok_or(ErrorCode::InvalidAcl)?;
        let anyone = scheme == "world" && id == "anyone";
        if !anyone && !Scheme::named(scheme).is_some_and(|scheme| scheme.accepts(id)) {
            return Err(ErrorCode::InvalidAcl);
        }
        fixed.push(Acl::new(entry.perms, scheme, id));
    }
    Ok(fixed)
}

/// The entries without exact repetitions. Linear, because a request may hold tens of thousands.
fn distinct<'e, 'a>(entries: &'e [AclEntry<'a>]) -> impl Iterator<Item = &'e AclEntry<'a>> {
    let mut seen: HashTable<&AclEntry<'_>> = HashTable::new();
    entries.iter().filter(move |&entry| {
        if entries.len() == 1 {
            return true;
        }
        let hash = digest::of_acl_entry(entry.perms, entry.scheme.unwrap_or(""), entry.id.unwrap_or(""));
        if seen.find(hash, |&other| other == entry).is_some() {
            return false;
        }
        seen.insert_unique(hash, entry, |&other| {
            digest::of_acl_entry(other.perms, other.scheme.unwrap_or(""), other.id.unwrap_or(""))
        });
        true
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry<'a>(perms: i32, scheme: Option<&'a str>, id: Option<&'a str>) -> AclEntry<'a> {
        AclEntry { perms: Perms(perms), scheme, id }
    }

    fn fixed(entries: &[AclEntry<'_>], auth: &[AuthId]) -> Result<String, ErrorCode> {
        let list = fix_up(Some(entries), auth)?;
        let shown: Vec<String> =
            list.iter().map(|a| format!("{}:{}:{}", a.id.scheme, a.id.id, a.perms.0)).collect();
        Ok(shown.join(" "))
    }

    #[test]
    fn lists_are_fixed_up_as_zookeeper_does() {
        let auth = [AuthId::new("ip", "10.0.0.1"), AuthId::new("digest", "u:h"), AuthId::new("super", "")];
        let world = entry(31, Some("world"), Some("anyone"));
        let invalid = Err(ErrorCode::InvalidAcl);
        for (entries, auth, expected) in [
            (vec![world, world], &auth[..], Ok("world:anyone:31".to_owned())),
            (
                vec![world, entry(1, Some("world"), Some("anyone"))],
                &auth,
                Ok("world:anyone:31 world:anyone:1".to_owned()),
            ),
            (vec![entry(31, Some("world"), Some("all"))], &auth, invalid.clone()),
            (vec![entry(31, Some("super"), Some(""))], &auth, invalid.clone()),
            (vec![entry(31, None, Some("anyone"))], &auth, invalid.clone()),
            (vec![entry(31, Some("world"), None)], &auth, invalid.clone()),
            (vec![entry(3, Some("auth"), None)], &auth, Ok("digest:u:h:3".to_owned())),
            (vec![entry(3, Some("auth"), Some("x"))], &auth[..1], invalid.clone()),
            (
                vec![entry(3, Some("auth"), None), entry(3, Some("digest"), Some("u:h"))],
                &auth,
                Ok("digest:u:h:3 digest:u:h:3".to_owned()),
            ),
            (vec![entry(1, Some("digest"), Some("u:"))], &auth, invalid.clone()),
            (vec![entry(-1, Some("ip"), Some("10.0.0.0/8"))], &auth, Ok("ip:10.0.0.0/8:-1".to_owned())),
            (vec![entry(1, Some("x509"), Some("CN=a"))], &auth, invalid.clone()),
            (vec![], &auth, invalid.clone()),
        ] {
            assert_eq!(fixed(&entries, auth), expected, "{entries:?}");
        }
        assert_eq!(fix_up(None, &auth), Err(ErrorCode::InvalidAcl));
    }

    #[test]
    fn permission_needs_a_matching_entry_with_one_of_the_bits() {
        let list = AclList::from(vec![
            Acl::new(Perms::READ, "world", "anyone"),
            Acl::new(Perms::WRITE | Perms::ADMIN, "digest", "u:h"),
            Acl::new(Perms::CREATE, "ip", "10.0.0.0/8"),
            Acl::new(Perms::DELETE, "sasl", "u"),
        ]);
        let user = [AuthId::new("digest", "u:h")];
        let host = [AuthId::new("ip", "10.9.9.9")];
        assert!(list.allows(Perms::READ, &[]));
        assert!(!list.allows(Perms::WRITE, &[]));
        assert!(list.allows(Perms::WRITE, &user));
        assert!(list.allows(Perms::WRITE | Perms::DELETE, &user), "any of the bits is enough");
        assert!(!list.allows(Perms::WRITE, &[AuthId::new("digest", "u:H")]));
        assert!(list.allows(Perms::CREATE, &host));
        assert!(!list.allows(Perms::DELETE, &[AuthId::new("sasl", "u")]), "no provider, no match");
        assert!(list.allows(Perms::DELETE, &[AuthId::new("super", "")]));
        assert!(AclList::from(vec![]).allows(Perms::ADMIN, &[]));
    }

    #[test]
    fn digest_hashes_are_masked_without_admin() {
        let list = AclList::from(vec![
            Acl::new(Perms::ADMIN, "digest", "u:hash"),
            Acl::new(Perms::READ, "world", "anyone"),
        ]);
        let ids = |shown: Vec<Acl>| shown.into_iter().map(|a| a.id.id).collect::<Vec<_>>();
        assert_eq!(ids(list.shown_to(&[], false)), ["u:x", "anyone"]);
        assert_eq!(ids(list.shown_to(&[], true)), ["u:hash", "anyone"]);
        assert_eq!(ids(list.shown_to(&[AuthId::new("digest", "u:hash")], false)), ["u:hash", "anyone"]);
    }
}
