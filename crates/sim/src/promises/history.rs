//! All servers apply the same entries and have the same state after them, and each term has at most one leader.

use std::collections::BTreeMap;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// Term and hash of each entry, by index, as the first server to apply it had it.
    entries: BTreeMap<u64, (u64, u64)>,
    /// Agreement digest after an entry, and who had it first.
    digests: BTreeMap<u64, (u64, usize)>,
    leaders: BTreeMap<u64, usize>,
    pub(crate) comparisons: u64,
}

impl History {
    /// `server` has applied an entry.
    pub(crate) fn applied(&mut self, server: usize, index: u64, entry: (u64, u64)) -> Result<(), String> {
        let first = *self.entries.entry(index).or_insert(entry);
        if first != entry {
            return Err(format!(
                "server {} has applied entry {index} of term {}, another one has applied one of term {}",
                server + 1,
                entry.0,
                first.0
            ));
        }
        Ok(())
    }

    /// `server` has this digest after an entry.
    pub(crate) fn digest(&mut self, server: usize, index: u64, digest: u64) -> Result<(), String> {
        let &mut (first, who) = self.digests.entry(index).or_insert((digest, server));
        self.comparisons += u64::from(who != server);
        if first != digest {
            return Err(format!(
                "after entry {index} server {} has another state than server {}",
                server + 1,
                who + 1
            ));
        }
        Ok(())
    }

    /// `server` leads in this term.
    pub(crate) fn leads(&mut self, server: usize, term: u64) -> Result<(), String> {
        match *self.leaders.entry(term).or_insert(server) {
            first if first == server => Ok(()),
            first => Err(format!("servers {} and {} both lead in term {term}", first + 1, server + 1)),
        }
    }

    /// How many entries have been applied anywhere.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}
