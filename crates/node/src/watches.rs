//! Which connection watches what (protocol, "Watches").
//!
//! ZooKeeper keeps two tables, data and child, of (connection, path, mode). Here one entry per
//! (connection, path) holds a set of [`Modes`], which is the same information in a fraction of the memory:
//! a path is stored once, with the list of connections interested in it, and each connection keeps the modes.

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashTable};
use ostler_types::{AddWatchMode, EventType, WatcherKind};
use smallvec::SmallVec;
use std::hash::BuildHasher;

use crate::ConnId;

type PathId = u32;

/// A set of watch modes one connection holds on one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modes(u8);

impl Modes {
    /// One-shot, set by exists and getData.
    pub const DATA: Modes = Modes(1);
    /// One-shot, set by getChildren.
    pub const CHILD: Modes = Modes(2);
    /// Until removed: data, existence and children of the path.
    pub const PERSISTENT: Modes = Modes(4);
    /// Until removed: data and existence of the path and everything below.
    pub const RECURSIVE: Modes = Modes(8);
    /// What events of the data table match on the path itself.
    const DATA_TABLE: Modes = Modes(1 | 4 | 8);
    /// What events of the child table match.
    const CHILD_TABLE: Modes = Modes(2 | 4);
    const ALL: Modes = Modes(15);

    fn intersects(self, other: Modes) -> bool {
        self.0 & other.0 != 0
    }

    fn without(self, other: Modes) -> Modes {
        Modes(self.0 & !other.0)
    }

    fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl std::ops::BitOr for Modes {
    type Output = Modes;
    fn bitor(self, other: Modes) -> Modes {
        Modes(self.0 | other.0)
    }
}

impl From<AddWatchMode> for Modes {
    fn from(mode: AddWatchMode) -> Modes {
        match mode {
            AddWatchMode::Persistent => Modes::PERSISTENT,
            AddWatchMode::PersistentRecursive => Modes::RECURSIVE,
        }
    }
}

/// Which modes a check or removal speaks of.
fn modes_of(kind: WatcherKind) -> Modes {
    match kind {
        WatcherKind::Children => Modes::CHILD,
        WatcherKind::Data => Modes::DATA,
        WatcherKind::Any => Modes::ALL,
        WatcherKind::Persistent => Modes::PERSISTENT,
        WatcherKind::PersistentRecursive => Modes::RECURSIVE,
    }
}

#[derive(Debug)]
struct WatchedPath {
    path: Box<str>,
    watchers: SmallVec<[ConnId; 4]>,
}

/// The watches of every connection of one shard.
#[derive(Debug, Default)]
pub struct WatchTable {
    index: HashTable<PathId>,
    paths: Vec<WatchedPath>,
    free: Vec<PathId>,
    connections: HashMap<ConnId, HashMap<PathId, Modes, FixedState>, FixedState>,
    /// (connection, path) pairs that hold a recursive mode; 0 spares the walk up the path.
    recursive: usize,
    /// (connection, path) pairs of the data table.
    data_entries: usize,
    /// (connection, path, mode) triples, as ZooKeeper's `watch_count` counts them.
    entries: usize,
}

fn hash(path: &str) -> u64 {
    FixedState::with_seed(0).hash_one(path)
}

impl WatchTable {
    /// Registers `modes` for `connection` on `path`, beside those it has there.
    pub fn add(&mut self, connection: ConnId, path: &str, modes: Modes) {
        let id = self.intern(path);
        let held = self.connections.entry(connection).or_default().entry(id).or_insert(Modes(0));
        let before = *held;
        *held = before | modes;
        let after = *held;
        if before.is_empty() {
            self.paths[id as usize].watchers.push(connection);
        }
        self.recount(before, after);
    }

    /// Whether the connection holds any of `kind`'s modes on exactly this path.
    pub fn holds(&self, connection: ConnId, path: &str, kind: WatcherKind) -> bool {
        self.find(path)
            .and_then(|id| self.connections.get(&connection)?.get(&id))
            .is_some_and(|held| held.intersects(modes_of(kind)))
    }

    /// Removes `kind`'s modes. Returns whether there was anything to remove.
    pub fn remove(&mut self, connection: ConnId, path: &str, kind: WatcherKind) -> bool {
        if !self.holds(connection, path, kind) {
            return false;
        }
        let id = self.find(path).expect("a held path is indexed");
        self.clear_modes(connection, id, modes_of(kind));
        true
    }

    /// Forgets a connection.
    pub fn remove_connection(&mut self, connection: ConnId) {
        for (id, held) in self.connections.remove(&connection).unwrap_or_default() {
            self.recount(held, Modes(0));
            self.forget_watcher(id, connection);
        }
    }

    /// Appends to `notified` the connections to which `event` on `path` must be sent, each once, and uses
    /// up their one-shot watches.
    pub fn trigger(&mut self, event: EventType, path: &str, notified: &mut Vec<ConnId>) {
        let (table, one_shot) = match event {
            EventType::NodeCreated | EventType::NodeDataChanged => (Modes::DATA_TABLE, Modes::DATA),
            // Child watchers hear of the deletion too, unless they have as data watchers.
            EventType::NodeDeleted => (Modes::DATA_TABLE | Modes::CHILD_TABLE, Modes::DATA | Modes::CHILD),
            EventType::NodeChildrenChanged => (Modes::CHILD_TABLE, Modes::CHILD),
        };
        let start = notified.len();
        if let Some(id) = self.find(path) {
            let watchers = &self.paths[id as usize].watchers;
            notified.extend(watchers.iter().copied().filter(|c| self.connections[c][&id].intersects(table)));
            let mut is_anyone_done = false;
            for &connection in &notified[start..] {
                is_anyone_done |= self.take_modes(connection, id, one_shot);
            }
            if is_anyone_done {
                // Once for all of them: a path may have a hundred thousand.
                let connections = &self.connections;
                let holds = |c: &ConnId| connections.get(c).is_some_and(|held| held.contains_key(&id));
                self.paths[id as usize].watchers.retain(|c| holds(c));
                self.forget_if_unwatched(id);
            }
        }
        if self.recursive > 0 && event != EventType::NodeChildrenChanged {
            let exact = notified.len();
            let mut ancestor = path;
            while let Some(slash) = ancestor.rfind('/').filter(|_| ancestor.len() > 1) {
                ancestor = if slash == 0 { "/" } else { &ancestor[..slash] };
                let Some(id) = self.find(ancestor) else { continue };
                for connection in &self.paths[id as usize].watchers {
                    if self.connections[connection][&id].intersects(Modes::RECURSIVE) {
                        notified.push(*connection);
                    }
                }
            }
            if notified.len() > exact {
                notified[start..].sort_unstable();
                let mut kept = start;
                for i in start..notified.len() {
                    if kept == start || notified[i] != notified[kept - 1] {
                        notified[kept] = notified[i];
                        kept += 1;
                    }
                }
                notified.truncate(kept);
            }
        }
    }

    /// Whether nobody watches anything.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Watches as ZooKeeper's `zk_watch_count` and `wchs` count them: entries of the data table.
    pub fn data_entries(&self) -> usize {
        self.data_entries
    }

    /// Every (connection, path) of the data table, for `wchs`, `wchc` and `wchp`.
    pub fn data_watches(&self) -> impl Iterator<Item = (ConnId, &str)> {
        self.connections.iter().flat_map(move |(&connection, held)| {
            held.iter()
                .filter(|(_, modes)| modes.intersects(Modes::DATA_TABLE))
                .map(move |(&id, _)| (connection, &*self.paths[id as usize].path))
        })
    }

    fn find(&self, path: &str) -> Option<PathId> {
        self.index.find(hash(path), |&id| &*self.paths[id as usize].path == path).copied()
    }

    fn intern(&mut self, path: &str) -> PathId {
        if let Some(id) = self.find(path) {
            return id;
        }
        let watched = WatchedPath { path: path.into(), watchers: SmallVec::new() };
        let id = match self.free.pop() {
            Some(id) => {
                self.paths[id as usize] = watched;
                id
            }
            None => {
                self.paths.push(watched);
                (self.paths.len() - 1) as PathId
            }
        };
        let paths = &self.paths;
        self.index.insert_unique(hash(path), id, |&id| hash(&paths[id as usize].path));
        id
    }

    fn clear_modes(&mut self, connection: ConnId, id: PathId, modes: Modes) {
        if self.take_modes(connection, id, modes) {
            self.forget_watcher(id, connection);
        }
    }

    /// Returns whether the connection holds nothing on the path any more; the path's list still has it then.
    fn take_modes(&mut self, connection: ConnId, id: PathId, modes: Modes) -> bool {
        let Some(held_paths) = self.connections.get_mut(&connection) else { return false };
        let Some(held) = held_paths.get_mut(&id) else { return false };
        let before = *held;
        *held = before.without(modes);
        let after = *held;
        if after.is_empty() {
            held_paths.remove(&id);
            if held_paths.is_empty() {
                self.connections.remove(&connection);
            }
        }
        self.recount(before, after);
        after.is_empty()
    }

    fn forget_watcher(&mut self, id: PathId, connection: ConnId) {
        let watchers = &mut self.paths[id as usize].watchers;
        if let Some(at) = watchers.iter().position(|&c| c == connection) {
            watchers.swap_remove(at);
        }
        self.forget_if_unwatched(id);
    }

    fn forget_if_unwatched(&mut self, id: PathId) {
        let watched = &mut self.paths[id as usize];
        if watched.watchers.is_empty() {
            let path = std::mem::take(&mut watched.path);
            watched.watchers.shrink_to_fit();
            if let Ok(entry) = self.index.find_entry(hash(&path), |&other| other == id) {
                entry.remove();
            }
            self.free.push(id);
        }
    }

    fn recount(&mut self, before: Modes, after: Modes) {
        let shift = |count: &mut usize, was: bool, is: bool| match (was, is) {
            (false, true) => *count += 1,
            (true, false) => *count -= 1,
            _ => {}
        };
        shift(&mut self.recursive, before.intersects(Modes::RECURSIVE), after.intersects(Modes::RECURSIVE));
        shift(
            &mut self.data_entries,
            before.intersects(Modes::DATA_TABLE),
            after.intersects(Modes::DATA_TABLE),
        );
        self.entries += after.0.count_ones() as usize;
        self.entries -= before.0.count_ones() as usize;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use EventType::*;
    use proptest::prelude::*;

    fn fired(table: &mut WatchTable, event: EventType, path: &str) -> Vec<u32> {
        let mut notified = vec![];
        table.trigger(event, path, &mut notified);
        notified.sort_unstable();
        notified.into_iter().map(|c| c.0).collect()
    }

    const A: ConnId = ConnId(1);
    const B: ConnId = ConnId(2);

    #[test]
    fn one_shot_watches_fire_once() {
        let mut table = WatchTable::default();
        table.add(A, "/x", Modes::DATA);
        table.add(A, "/x", Modes::CHILD);
        assert_eq!(fired(&mut table, NodeDataChanged, "/x"), [1]);
        assert_eq!(fired(&mut table, NodeDataChanged, "/x"), []);
        assert_eq!(fired(&mut table, NodeDeleted, "/x"), [1]);
        assert!(table.is_empty());
        assert_eq!(table.index.len(), 0);
    }

    #[test]
    fn a_deletion_is_told_once_and_uses_up_both_tables() {
        let mut table = WatchTable::default();
        table.add(A, "/x", Modes::DATA | Modes::CHILD);
        assert_eq!(fired(&mut table, NodeDeleted, "/x"), [1]);
        assert!(table.is_empty());
    }

    /// Quadratic, this would be minutes: 300,000 one-shot watches of one path, a few of which stay.
    #[test]
    fn a_path_with_very_many_watchers_fires_once_for_each_and_keeps_those_that_stay() {
        let mut table = WatchTable::default();
        let everybody: Vec<u32> = (0..300_000).collect();
        for &i in &everybody {
            table.add(ConnId(i), "/x", Modes::DATA);
        }
        let staying: Vec<u32> = everybody.iter().copied().step_by(1_000).collect();
        for &i in &staying {
            table.add(ConnId(i), "/x", Modes::PERSISTENT);
        }
        assert_eq!(fired(&mut table, NodeDataChanged, "/x"), everybody);
        assert_eq!(table.data_entries(), staying.len());
        assert_eq!(fired(&mut table, NodeDataChanged, "/x"), staying);
        for &i in &staying {
            table.remove_connection(ConnId(i));
        }
        assert!(table.is_empty() && table.index.is_empty());
    }

    #[test]
    fn recursive_watches_hear_everything_below_but_no_child_events() {
        let mut table = WatchTable::default();
        table.add(A, "/", Modes::RECURSIVE);
        table.add(B, "/x", Modes::RECURSIVE | Modes::DATA);
        assert_eq!(fired(&mut table, NodeCreated, "/x/y/z"), [1, 2]);
        assert_eq!(fired(&mut table, NodeDataChanged, "/x"), [1, 2]);
        assert_eq!(fired(&mut table, NodeChildrenChanged, "/x"), []);
        assert_eq!(fired(&mut table, NodeCreated, "/xy"), [1]);
        table.add(A, "/x", Modes::CHILD);
        assert_eq!(fired(&mut table, NodeChildrenChanged, "/x"), [1]);
        table.add(A, "/x/y", Modes::RECURSIVE);
        assert_eq!(fired(&mut table, NodeCreated, "/x/y/z"), [1, 2]);
    }

    #[test]
    fn persistent_watches_stay_and_cover_children() {
        let mut table = WatchTable::default();
        table.add(A, "/x", Modes::PERSISTENT);
        for event in [NodeCreated, NodeDataChanged, NodeChildrenChanged, NodeDeleted, NodeCreated] {
            assert_eq!(fired(&mut table, event, "/x"), [1]);
        }
        assert!(!table.remove(A, "/x", WatcherKind::Data));
        assert!(table.remove(A, "/x", WatcherKind::Persistent));
        assert!(!table.remove(A, "/x", WatcherKind::Any));
    }

    /// Entries (connection, path, mode) in a plain list, as ZooKeeper's documentation describes them.
    #[derive(Default)]
    struct Model(Vec<(ConnId, String, Modes)>);

    impl Model {
        fn trigger(&mut self, event: EventType, path: &str) -> Vec<u32> {
            let is_ancestor = |of: &str| path != of && (of == "/" || path.starts_with(&format!("{of}/")));
            let mut told: Vec<u32> = vec![];
            let mut kept = vec![];
            for (connection, at, mode) in self.0.drain(..) {
                let data = event != NodeChildrenChanged;
                let child = matches!(event, NodeChildrenChanged | NodeDeleted);
                let exact = at == path;
                let hit = match mode {
                    Modes::DATA => exact && data,
                    Modes::CHILD => exact && child,
                    Modes::PERSISTENT => exact,
                    _ => data && (exact || is_ancestor(&at)),
                };
                if hit {
                    told.push(connection.0);
                }
                if !hit || mode == Modes::PERSISTENT || mode == Modes::RECURSIVE {
                    kept.push((connection, at, mode));
                }
            }
            self.0 = kept;
            told.sort_unstable();
            told.dedup();
            told
        }
    }

    proptest! {
        #[test]
        fn behaves_like_a_plain_list(
            steps in prop::collection::vec((0u8..8, 0u32..4, 0usize..6, 0u8..4), 1..200)
        ) {
            let paths = ["/", "/a", "/a/b", "/a/b/c", "/ab", "/z"];
            let mut table = WatchTable::default();
            let mut model = Model::default();
            for (what, connection, path, mode) in steps {
                let (connection, path, mode) = (ConnId(connection), paths[path], Modes(1 << mode));
                let events = [NodeCreated, NodeDeleted, NodeDataChanged, NodeChildrenChanged];
                match what {
                    0..=3 => {
                        table.add(connection, path, mode);
                        if !model.0.iter().any(|(c, p, m)| (*c, &**p, *m) == (connection, path, mode)) {
                            model.0.push((connection, path.into(), mode));
                        }
                    }
                    4..=5 => {
                        let event = events[mode.0.trailing_zeros() as usize];
                        prop_assert_eq!(fired(&mut table, event, path), model.trigger(event, path));
                    }
                    6 => {
                        let removed = table.remove(connection, path, WatcherKind::Any);
                        let before = model.0.len();
                        model.0.retain(|(c, p, _)| (*c, &**p) != (connection, path));
                        prop_assert_eq!(removed, before != model.0.len());
                    }
                    _ => {
                        table.remove_connection(connection);
                        model.0.retain(|(c, ..)| *c != connection);
                    }
                }
                prop_assert_eq!(table.entries, model.0.len());
            }
        }
    }
}
