//! Lists are stored once and counted, because most znodes share a few.

use hashbrown::HashTable;
use ostler_types::{Acl, open_acl};

use super::AclList;
use crate::digest;

/// A list in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct AclId(pub(crate) u32);

impl AclId {
    /// `world:anyone:cdrwa`, always in the cache.
    pub(crate) const OPEN: AclId = AclId(0);
}

struct Entry {
    list: AclList,
    /// Digest of the list's content, equal on every server whatever the ids are.
    hash: u64,
    /// How many holders there are; 0 for a free entry.
    count: u32,
}

/// Every list in use.
pub(crate) struct AclCache {
    entries: Vec<Entry>,
    index: HashTable<u32>,
    free: Vec<u32>,
    /// While a snapshot walk is under way ids are not given to other lists: the walk names lists by id.
    pinned: bool,
    unused_while_pinned: Vec<u32>,
}

impl AclCache {
    pub(crate) fn new() -> Self {
        let mut cache = AclCache {
            entries: Vec::new(),
            index: HashTable::new(),
            free: Vec::new(),
            pinned: false,
            unused_while_pinned: Vec::new(),
        };
        let open = cache.intern(open_acl());
        debug_assert_eq!(open, AclId::OPEN);
        cache
    }

    pub(crate) fn list(&self, id: AclId) -> &AclList {
        &self.entries[id.0 as usize].list
    }

    /// Digest of the list's content.
    pub(crate) fn hash(&self, id: AclId) -> u64 {
        self.entries[id.0 as usize].hash
    }

    /// Stores a list, or finds it, for one more holder.
    pub(crate) fn intern(&mut self, list: Vec<Acl>) -> AclId {
        let hash = digest::of_acl(&list);
        let entries = &self.entries;
        let found = self.index.find(hash, |&id| entries[id as usize].list[..] == list[..]);
        if let Some(&id) = found {
            self.entries[id as usize].count += 1;
            return AclId(id);
        }
        let entry = Entry { list: list.into(), hash, count: 1 };
        let id = match self.free.pop() {
            Some(id) => {
                self.entries[id as usize] = entry;
                id
            }
            None => {
                let id =
                    u32::try_from(self.entries.len()).expect("fewer lists than znodes, whose ids are u32");
                self.entries.push(entry);
                id
            }
        };
        let entries = &self.entries;
        self.index.insert_unique(hash, id, |&id| entries[id as usize].hash);
        AclId(id)
    }

    /// One holder more.
    pub(crate) fn share(&mut self, id: AclId) {
        self.entries[id.0 as usize].count += 1;
    }

    /// One holder less. The open list stays without any.
    pub(crate) fn release(&mut self, id: AclId) {
        let entry = &mut self.entries[id.0 as usize];
        entry.count -= 1;
        if entry.count > 0 {
            return;
        }
        if id == AclId::OPEN {
            entry.count = 1;
        } else if self.pinned {
            self.unused_while_pinned.push(id.0);
        } else {
            self.forget(id.0);
        }
    }

    /// From now on every id keeps its list.
    pub(crate) fn pin(&mut self) {
        self.pinned = true;
    }

    /// Ids of lists nobody holds may be given to others again.
    pub(crate) fn unpin(&mut self) {
        self.pinned = false;
        for id in std::mem::take(&mut self.unused_while_pinned) {
            // It may have found holders again, or be noted twice.
            if self.entries[id as usize].count == 0 {
                self.forget(id);
            }
        }
    }

    fn forget(&mut self, id: u32) {
        let hash = self.entries[id as usize].hash;
        if let Ok(found) = self.index.find_entry(hash, |&other| other == id) {
            found.remove();
            self.entries[id as usize].list = AclList::from(Vec::new());
            self.free.push(id);
        }
    }

    /// Lists in use.
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }
}

#[cfg(test)]
mod tests {
    use ostler_types::Perms;

    use super::*;

    fn list(user: &str) -> Vec<Acl> {
        vec![Acl::new(Perms::ALL, "digest", user)]
    }

    #[test]
    fn equal_lists_share_an_id_until_the_last_holder_goes() {
        let mut cache = AclCache::new();
        assert_eq!(cache.intern(open_acl()), AclId::OPEN);
        let a = cache.intern(list("a:x"));
        assert_eq!(cache.intern(list("a:x")), a);
        cache.release(a);
        assert_eq!(cache.len(), 2);
        cache.release(a);
        assert_eq!(cache.len(), 1);
        assert_eq!(cache.intern(list("b:x")), a, "the id is free for another list");
    }

    #[test]
    fn pinned_ids_keep_their_lists() {
        let mut cache = AclCache::new();
        let a = cache.intern(list("a:x"));
        let b = cache.intern(list("b:x"));
        cache.pin();
        cache.release(a);
        cache.release(b);
        let again = cache.intern(list("a:x"));
        cache.release(again);
        let kept = cache.intern(list("b:x"));
        let c = cache.intern(list("c:x"));
        assert!(c != a && c != b && kept == b && again == a);
        assert_eq!(cache.list(a)[..], list("a:x")[..]);
        cache.unpin();
        assert_eq!(cache.len(), 3, "open, b and c");
        assert_eq!(cache.intern(list("d:x")), a);
    }
}
