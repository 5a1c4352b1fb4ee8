//! Znodes in memory: a slab of nodes, one index from (parent, name) to node, and children as linked lists.
//!
//! A small znode costs 158 to 191 bytes beyond its name and data (`cargo run --release -p ostler-tree --example
//! memory` measures it; the target is 200): 152 for the slot, with names of up to 24 bytes inside it, some 8
//! for the index and the allocator's overhead for the data. Slab and index grow in small steps, so that no
//! single create pays for a reallocation of everything.

use std::fmt;

use compact_str::CompactString;
use hashbrown::HashTable;
use ostler_types::{SessionId, Stat, Zxid};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::acl::AclId;
use crate::digest::ContentHash;
use crate::snapshot::Stash;

/// A znode's place in the slab. Ids are local to one server: they are reused and never leave it except inside
/// one snapshot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeId(pub(crate) u32);

impl NodeId {
    pub(crate) const ROOT: NodeId = NodeId(0);
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// Whose znode it is, which decides how it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Nobody's: stays until deleted.
    Persistent,
    /// A session's: goes with it, and can have no children.
    Ephemeral(SessionId),
    /// A container: may go once it has no children any more.
    Container,
    /// May go once it has been childless and unchanged for these milliseconds.
    Ttl(i64),
}

impl Owner {
    /// ZooKeeper's internal `ephemeralOwner` (protocol, "Stat and how operations change it"), which its tree
    /// digest covers.
    pub(crate) fn internal(self) -> i64 {
        match self {
            Owner::Persistent => 0,
            Owner::Ephemeral(session) => session.0,
            Owner::Container => i64::MIN,
            Owner::Ttl(ttl_ms) => (0xff << 56) | ttl_ms,
        }
    }
}

/// What is stored of a znode's Stat, its owner and ACL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub(crate) czxid: Zxid,
    pub(crate) mzxid: Zxid,
    pub(crate) pzxid: Zxid,
    /// Unix milliseconds.
    pub(crate) ctime: i64,
    /// Unix milliseconds.
    pub(crate) mtime: i64,
    pub(crate) version: i32,
    /// As ZooKeeper stores it: how many children were created. The Stat shows creates plus deletes.
    pub(crate) cversion: i32,
    pub(crate) aversion: i32,
    pub(crate) owner: Owner,
    pub(crate) acl: AclId,
}

/// A znode.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) meta: Meta,
    /// Last component of the path; empty for the root.
    pub(crate) name: CompactString,
    pub(crate) data: Option<Box<[u8]>>,
    pub(crate) content: ContentHash,
    links: Links,
}

/// Its place in the hierarchy. `NONE` stands for "no node".
#[derive(Clone, Copy, Debug)]
struct Links {
    parent: u32,
    first_child: u32,
    /// Next sibling; `NONE` at the last.
    next: u32,
    /// Previous sibling; the first child's is the last child, so that appending needs no other pointer.
    previous: u32,
    child_count: u32,
}

const NONE: u32 = u32::MAX;

impl Node {
    pub(crate) fn new(meta: Meta, name: &str, data: Option<Box<[u8]>>, content: ContentHash) -> Node {
        let links = Links { parent: NONE, first_child: NONE, next: NONE, previous: NONE, child_count: 0 };
        Node { meta, name: CompactString::new(name), data, content, links }
    }

    pub(crate) fn parent(&self) -> Option<NodeId> {
        (self.links.parent != NONE).then_some(NodeId(self.links.parent))
    }

    pub(crate) fn child_count(&self) -> u32 {
        self.links.child_count
    }

    pub(crate) fn data_len(&self) -> usize {
        self.data.as_ref().map_or(0, |data| data.len())
    }

    /// The Stat as clients see it.
    pub(crate) fn stat(&self) -> Stat {
        let meta = &self.meta;
        let children = self.links.child_count.cast_signed();
        Stat {
            czxid: meta.czxid,
            mzxid: meta.mzxid,
            ctime: meta.ctime,
            mtime: meta.mtime,
            version: meta.version,
            cversion: meta.cversion.wrapping_mul(2).wrapping_sub(children),
            aversion: meta.aversion,
            ephemeral_owner: match meta.owner {
                Owner::Ephemeral(session) => session,
                Owner::Persistent | Owner::Container | Owner::Ttl(_) => SessionId::NONE,
            },
            data_length: i32::try_from(self.data_len()).unwrap_or(i32::MAX),
            num_children: children,
            pzxid: meta.pzxid,
        }
    }
}

enum Slot {
    Occupied(Node),
    /// The next free slot, or `NONE`.
    Free(u32),
}

/// Nodes per allocation: small enough to be cheap, large enough to be few.
const CHUNK: usize = 1024;

/// All znodes.
pub(crate) struct NodeStore {
    chunks: Vec<Vec<Slot>>,
    /// Slots ever used.
    slots: u32,
    /// First free slot, or `NONE`. Last freed, first reused: undoing in reverse gives every node its id back.
    free: u32,
    live: usize,
    index: NameIndex,
    /// Present while a snapshot walk is under way.
    pub(crate) stash: Option<Stash>,
}

impl NodeStore {
    /// An empty store; the first node inserted must be the root.
    pub(crate) fn new(index_seed: u64) -> Self {
        NodeStore {
            chunks: Vec::new(),
            slots: 0,
            free: NONE,
            live: 0,
            index: NameIndex::new(index_seed),
            stash: None,
        }
    }

    /// How many znodes there are, the root included.
    pub(crate) fn len(&self) -> usize {
        self.live
    }

    /// Slots ever used: ids are below this.
    pub(crate) fn slots(&self) -> u32 {
        self.slots
    }

    /// The node in a slot, if it is in use.
    pub(crate) fn slot(&self, id: NodeId) -> Option<&Node> {
        match self.chunks.get(id.0 as usize / CHUNK)?.get(id.0 as usize % CHUNK)? {
            Slot::Occupied(node) => Some(node),
            Slot::Free(_) => None,
        }
    }

    /// A node known to exist.
    pub(crate) fn get(&self, id: NodeId) -> &Node {
        self.slot(id).expect("ids are only kept while their node lives")
    }

    /// A node about to change; a snapshot walk gets to keep it as it is.
    pub(crate) fn edit(&mut self, id: NodeId) -> &mut Node {
        self.stash_slot(id);
        self.get_mut(id)
    }

    /// The node at `path`. "" and "/" are the root; anything that is not a valid path names nothing.
    pub(crate) fn lookup(&self, path: &str) -> Option<NodeId> {
        if path.is_empty() || path == "/" {
            return Some(NodeId::ROOT);
        }
        path.strip_prefix('/')?.split('/').try_fold(NodeId::ROOT, |id, name| self.child(id, name))
    }

    /// The child of `parent` with this name.
    pub(crate) fn child(&self, parent: NodeId, name: &str) -> Option<NodeId> {
        self.index.find(parent.0, name, |id| {
            let node = self.get(NodeId(id));
            node.links.parent == parent.0 && node.name == name
        })
    }

    /// The children of a node, oldest first on the server that created them; the order is promised to nobody.
    pub(crate) fn children(&self, id: NodeId) -> Children<'_> {
        let links = self.get(id).links;
        Children { nodes: self, next: links.first_child, left: links.child_count as usize }
    }

    /// The node after `id` when walking `top` and everything below it, parents first. Needs no stack, however
    /// deep the tree.
    pub(crate) fn next_below(&self, top: NodeId, id: NodeId) -> Option<NodeId> {
        let mut links = &self.get(id).links;
        if links.first_child != NONE {
            return Some(NodeId(links.first_child));
        }
        let mut at = id;
        while at != top {
            if links.next != NONE {
                return Some(NodeId(links.next));
            }
            at = NodeId(links.parent);
            links = &self.get(at).links;
        }
        None
    }

    /// The path of a node.
    pub(crate) fn path(&self, id: NodeId) -> String {
        let mut names = Vec::new();
        let mut at = self.get(id);
        while let Some(parent) = at.parent() {
            names.push(at.name.as_str());
            at = self.get(parent);
        }
        if names.is_empty() {
            return "/".to_owned();
        }
        let mut path = String::with_capacity(names.iter().map(|name| name.len() + 1).sum());
        for name in names.iter().rev() {
            path.push('/');
            path.push_str(name);
        }
        path
    }

    /// Adds a node as the last child of `parent`, which has none of that name.
    pub(crate) fn insert(&mut self, parent: Option<NodeId>, node: Node) -> NodeId {
        let id = self.insert_unlinked(node);
        if let Some(parent) = parent {
            self.link(parent, id);
        }
        id
    }

    /// Adds a node that is nobody's child until [`NodeStore::link`].
    pub(crate) fn insert_unlinked(&mut self, node: Node) -> NodeId {
        let id = self.allocate();
        self.stash_slot(id);
        *self.slot_mut(id) = Slot::Occupied(node);
        self.live += 1;
        id
    }

    /// Makes `id` the last child of `parent`, which has none of that name.
    pub(crate) fn link(&mut self, parent: NodeId, id: NodeId) {
        let first = self.get(parent).links.first_child;
        let last = if first == NONE { NONE } else { self.get(NodeId(first)).links.previous };
        {
            let node = self.get_mut(id);
            node.links.parent = parent.0;
            node.links.next = NONE;
            node.links.previous = if first == NONE { id.0 } else { last };
        }
        if first == NONE {
            self.get_mut(parent).links.first_child = id.0;
        } else {
            self.get_mut(NodeId(last)).links.next = id.0;
            self.get_mut(NodeId(first)).links.previous = id.0;
        }
        self.get_mut(parent).links.child_count += 1;

        let Self { index, chunks, .. } = self;
        let node = occupied(chunks, id.0);
        index.insert(parent.0, &node.name, id.0, |other| {
            let node = occupied(chunks, other);
            (node.links.parent, node.name.as_str())
        });
    }

    /// Takes out a node without children.
    pub(crate) fn remove(&mut self, id: NodeId) -> Node {
        self.stash_slot(id);
        let Links { parent, next, previous, child_count, .. } = self.get(id).links;
        debug_assert_eq!(child_count, 0);
        if parent != NONE {
            let Self { index, chunks, .. } = self;
            index.remove(parent, &occupied(chunks, id.0).name, id.0);
            let first = self.get(NodeId(parent)).links.first_child;
            if first == id.0 {
                self.get_mut(NodeId(parent)).links.first_child = next;
            } else {
                self.get_mut(NodeId(previous)).links.next = next;
            }
            // The successor, or for the last child the first one, points back past the gap.
            let after = if next != NONE { next } else { self.get(NodeId(parent)).links.first_child };
            if after != NONE {
                self.get_mut(NodeId(after)).links.previous = previous;
            }
            self.get_mut(NodeId(parent)).links.child_count -= 1;
        }
        let free = self.free;
        self.free = id.0;
        self.live -= 1;
        match std::mem::replace(self.slot_mut(id), Slot::Free(free)) {
            Slot::Occupied(mut node) => {
                node.links.first_child = NONE;
                node
            }
            Slot::Free(_) => unreachable!("the slot was read as occupied above"),
        }
    }

    fn allocate(&mut self) -> NodeId {
        if self.free != NONE {
            let id = NodeId(self.free);
            if let Slot::Free(next) = *self.slot_mut(id) {
                self.free = next;
            }
            return id;
        }
        let id = self.slots;
        // 4 billion znodes need 600 GB for their slots alone.
        assert!(id < NONE, "more than 2^32 - 1 znodes");
        if (id as usize).is_multiple_of(CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        self.chunks[id as usize / CHUNK].push(Slot::Free(NONE));
        self.slots += 1;
        NodeId(id)
    }

    fn stash_slot(&mut self, id: NodeId) {
        let Self { stash, chunks, .. } = self;
        if let Some(stash) = stash {
            let node = match &chunks[id.0 as usize / CHUNK][id.0 as usize % CHUNK] {
                Slot::Occupied(node) => Some(node),
                Slot::Free(_) => None,
            };
            stash.keep(id, node);
        }
    }

    fn slot_mut(&mut self, id: NodeId) -> &mut Slot {
        &mut self.chunks[id.0 as usize / CHUNK][id.0 as usize % CHUNK]
    }

    fn get_mut(&mut self, id: NodeId) -> &mut Node {
        match self.slot_mut(id) {
            Slot::Occupied(node) => node,
            Slot::Free(_) => unreachable!("ids are only kept while their node lives"),
        }
    }
}

fn occupied(chunks: &[Vec<Slot>], id: u32) -> &Node {
    match &chunks[id as usize / CHUNK][id as usize % CHUNK] {
        Slot::Occupied(node) => node,
        Slot::Free(_) => unreachable!("the index only holds living nodes"),
    }
}

/// Iterator over the children of a znode.
pub(crate) struct Children<'a> {
    nodes: &'a NodeStore,
    next: u32,
    left: usize,
}

impl Iterator for Children<'_> {
    type Item = NodeId;

    fn next(&mut self) -> Option<NodeId> {
        if self.next == NONE {
            return None;
        }
        let id = NodeId(self.next);
        self.next = self.nodes.get(id).links.next;
        self.left -= 1;
        Some(id)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Children<'_> {}

/// Walks all nodes below the root, parents first, and knows their paths.
pub(crate) struct PathCursor {
    id: NodeId,
    /// The root's is "".
    path: String,
}

impl PathCursor {
    pub(crate) fn at_root() -> Self {
        PathCursor { id: NodeId::ROOT, path: String::new() }
    }

    /// Where it stands.
    pub(crate) fn node(&self) -> (NodeId, &str) {
        (self.id, &self.path)
    }

    /// Goes to the next node, if there is one.
    pub(crate) fn advance(&mut self, nodes: &NodeStore) -> bool {
        let Some(next) = nodes.next_below(NodeId::ROOT, self.id) else { return false };
        let node = nodes.get(next);
        // Up to the parent of `next`, then down to `next`.
        let mut up = self.id;
        while Some(up) != node.parent() {
            self.path.truncate(self.path.rfind('/').unwrap_or(0));
            up = nodes.get(up).parent().unwrap_or(NodeId::ROOT);
        }
        self.path.push('/');
        self.path.push_str(&node.name);
        self.id = next;
        true
    }
}

/// (parent, name) to id, in many small tables: growing one of them never takes long.
struct NameIndex {
    tables: Vec<HashTable<u32>>,
    seed: u64,
}

const TABLES: usize = 1024;

impl NameIndex {
    fn new(seed: u64) -> Self {
        NameIndex { tables: (0..TABLES).map(|_| HashTable::new()).collect(), seed }
    }

    fn find(&self, parent: u32, name: &str, is_it: impl Fn(u32) -> bool) -> Option<NodeId> {
        let hash = self.hash(parent, name);
        self.tables[table(hash)].find(hash, |&id| is_it(id)).map(|&id| NodeId(id))
    }

    fn insert<'n>(&mut self, parent: u32, name: &str, id: u32, key: impl Fn(u32) -> (u32, &'n str)) {
        let hash = self.hash(parent, name);
        let seed = self.seed;
        self.tables[table(hash)].insert_unique(hash, id, |&id| {
            let (parent, name) = key(id);
            name_hash(seed, parent, name)
        });
    }

    fn remove(&mut self, parent: u32, name: &str, id: u32) {
        let hash = self.hash(parent, name);
        if let Ok(entry) = self.tables[table(hash)].find_entry(hash, |&other| other == id) {
            entry.remove();
        }
    }

    fn hash(&self, parent: u32, name: &str) -> u64 {
        name_hash(self.seed, parent, name)
    }
}

fn name_hash(seed: u64, parent: u32, name: &str) -> u64 {
    xxh3_64_with_seed(name.as_bytes(), seed ^ u64::from(parent).wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// Middle bits choose the table: the table itself uses the lowest and the highest.
fn table(hash: u64) -> usize {
    (hash >> 32) as usize % TABLES
}
