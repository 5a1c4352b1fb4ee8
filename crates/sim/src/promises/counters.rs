//! Each client counts in a znode of its own: what it knows to have written is there, once and in its order, and
//! everybody who reads it sees the same history.

use std::collections::BTreeMap;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    by_client: BTreeMap<usize, Counter>,
}

#[derive(Debug, Default)]
struct Counter {
    is_made: bool,
    /// Version after the last write known to be applied.
    version: i32,
    /// Writes after that of which nobody knows.
    unknown: i32,
    /// Version to number written and zxid, as seen by anybody.
    seen: BTreeMap<i32, (u64, i64)>,
}

impl Counters {
    fn of(&mut self, client: usize) -> &mut Counter {
        self.by_client.entry(client).or_default()
    }

    pub(crate) fn made(&mut self, client: usize) {
        self.of(client).is_made = true;
    }

    pub(crate) fn is_made(&self, client: usize) -> bool {
        self.by_client.get(&client).is_some_and(|counter| counter.is_made)
    }

    /// A write's connection ended before its answer came.
    pub(crate) fn lost(&mut self, client: usize) {
        self.of(client).unknown += 1;
    }

    /// A write of `number` is acknowledged.
    pub(crate) fn wrote(
        &mut self,
        client: usize,
        version: i32,
        number: u64,
        zxid: i64,
    ) -> Result<(), String> {
        let counter = self.of(client);
        let (from, to) = (counter.version + 1, counter.version + 1 + counter.unknown);
        if !(from..=to).contains(&version) {
            return Err(format!(
                "client {client}'s write {number} made version {version} of its counter, where {from} to {to} can be"
            ));
        }
        (counter.version, counter.unknown) = (version, 0);
        self.saw(client, version, number, zxid)
    }

    /// The client itself reads its counter, with all its writes answered.
    pub(crate) fn read_own(&mut self, client: usize, version: i32) -> Result<(), String> {
        let counter = self.of(client);
        let (from, to) = (counter.version, counter.version + counter.unknown);
        if !(from..=to).contains(&version) {
            return Err(format!(
                "client {client} reads version {version} of its counter, where {from} to {to} can be"
            ));
        }
        Ok(())
    }

    /// Somebody reads a counter.
    pub(crate) fn saw(&mut self, client: usize, version: i32, number: u64, zxid: i64) -> Result<(), String> {
        let counter = self.of(client);
        let first = *counter.seen.entry(version).or_insert((number, zxid));
        if first != (number, zxid) {
            return Err(format!(
                "version {version} of client {client}'s counter is {number} at {zxid:#x} and {} at {:#x}",
                first.0, first.1
            ));
        }
        let before = counter.seen.range(..version).next_back();
        if let Some((&earlier, &(other, at))) = before
            && (other >= number || at >= zxid)
        {
            return Err(format!(
                "client {client}'s counter goes back: version {earlier} is {other}, {version} is {number}"
            ));
        }
        Ok(())
    }

    /// zxids of changes of a client's counter that anybody has seen.
    pub(crate) fn changes(&self, client: usize) -> impl Iterator<Item = i64> {
        self.by_client
            .get(&client)
            .into_iter()
            .flat_map(|counter| counter.seen.values().map(|&(_, zxid)| zxid))
    }

    /// What the counters are at the end.
    pub(crate) fn finish(&mut self, client: usize, version: Option<i32>) -> Result<(), String> {
        match version {
            None if self.is_made(client) => Err(format!("client {client}'s counter is gone")),
            None => Ok(()),
            Some(version) => self.read_own(client, version),
        }
    }
}
