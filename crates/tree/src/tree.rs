//! The znodes and everything derived from them: ACL holders, digests, sizes, ephemerals, quotas. Every change
//! goes through a handful of primitives here, each of which can be undone exactly.

use std::collections::{BTreeMap, BTreeSet};

use ostler_types::{Acl, Perms, SessionId, Zxid};

use crate::acl::{AclCache, AclId, AclList};
use crate::digest::{self, ContentHash, Sums};
use crate::nodes::{Meta, Node, NodeId, NodeStore, Owner};
use crate::quota::{QuotaNode, QuotaPaths};

pub(crate) struct Tree {
    pub(crate) nodes: NodeStore,
    pub(crate) acls: AclCache,
    sums: Sums,
    /// Bytes of all paths and data.
    data_size: u64,
    ephemerals: BTreeMap<SessionId, BTreeSet<NodeId>>,
    ephemeral_count: usize,
    /// Containers and TTL znodes.
    cleanable: BTreeSet<NodeId>,
    pub(crate) quotas: QuotaPaths,
    /// How to undo what was done since [`Tree::begin_undoable`], newest last.
    undo: Vec<Undo>,
    undoable: bool,
}

/// The inverse of one primitive.
enum Undo {
    Insert { id: NodeId, path_len: usize },
    Remove { parent: Option<NodeId>, node: Box<Node>, path_len: usize },
    Meta { id: NodeId, meta: Meta },
    Acl { id: NodeId, aversion: i32, acl: AclId },
    Data { id: NodeId, meta: Meta, data: Option<Box<[u8]>>, content: ContentHash },
    QuotaAdded(Box<str>),
    QuotaRemoved(Box<str>),
}

impl Tree {
    /// A tree without even a root.
    pub(crate) fn empty(index_seed: u64) -> Self {
        Tree {
            nodes: NodeStore::new(index_seed),
            acls: AclCache::new(),
            sums: Sums::default(),
            data_size: 0,
            ephemerals: BTreeMap::new(),
            ephemeral_count: 0,
            cleanable: BTreeSet::new(),
            quotas: QuotaPaths::default(),
            undo: Vec::new(),
            undoable: false,
        }
    }

    /// The tree of a fresh server (semantics, "Built-in tree"), as a standalone server has it: all Stats zero,
    /// `/zookeeper/config` empty.
    pub(crate) fn built_in(index_seed: u64) -> Self {
        let mut tree = Tree::empty(index_seed);
        let meta = |acl, aversion| Meta {
            czxid: Zxid::ZERO,
            mzxid: Zxid::ZERO,
            pzxid: Zxid::ZERO,
            ctime: 0,
            mtime: 0,
            version: 0,
            cversion: 0,
            aversion,
            owner: Owner::Persistent,
            acl,
        };
        let config_acl = tree.acls.intern(vec![Acl::new(Perms::READ, "world", "anyone")]);
        let open = || AclId::OPEN;
        let root = tree.insert("", None, "", meta(open(), 0), Some(Box::default()));
        let zookeeper =
            tree.insert("/zookeeper", Some(root), "zookeeper", meta(open(), 0), Some(Box::default()));
        tree.insert("/zookeeper/quota", Some(zookeeper), "quota", meta(open(), 0), Some(Box::default()));
        let mut config = meta(config_acl, -1);
        config.version = 0;
        tree.insert("/zookeeper/config", Some(zookeeper), "config", config, Some(Box::default()));
        tree
    }

    /// Sums over all znodes.
    pub(crate) fn sums(&self) -> Sums {
        self.sums
    }

    /// Bytes of all paths and data, as ZooKeeper estimates the size of its tree: the root counts its path as
    /// "/" once more.
    pub(crate) fn data_size(&self) -> u64 {
        self.data_size + 1
    }

    /// Znodes owned by sessions.
    pub(crate) fn ephemeral_count(&self) -> usize {
        self.ephemeral_count
    }

    /// The ephemerals of a session, unordered.
    pub(crate) fn ephemerals(&self, session: SessionId) -> impl Iterator<Item = NodeId> {
        self.ephemerals.get(&session).into_iter().flatten().copied()
    }

    /// Sessions that own ephemerals, in the order of their ids.
    pub(crate) fn ephemeral_owners(&self) -> impl Iterator<Item = SessionId> {
        self.ephemerals.keys().copied()
    }

    /// Containers and TTL znodes after `after`.
    pub(crate) fn cleanable_after(&self, after: Option<NodeId>) -> impl Iterator<Item = NodeId> {
        let from = after.map_or(NodeId::ROOT, |id| NodeId(id.0.saturating_add(1)));
        self.cleanable.range(from..).copied()
    }

    /// The list of a znode.
    pub(crate) fn acl(&self, id: NodeId) -> &AclList {
        self.acls.list(self.nodes.get(id).meta.acl)
    }

    /// What a znode adds to the digests, computed from its path, data and Stat.
    pub(crate) fn recompute_sums(&self, id: NodeId, path: &str) -> Sums {
        let node = self.nodes.get(id);
        let content = digest::of_content(path, node.data.as_deref());
        let acl = digest::of_acl(self.acls.list(node.meta.acl));
        digest::of_znode(&node.meta, content, acl)
    }

    /// Adds a znode as a child of `parent`, which exists and has none of that name. The tree takes over one
    /// holder of `meta.acl`.
    pub(crate) fn insert(
        &mut self,
        path: &str,
        parent: Option<NodeId>,
        name: &str,
        meta: Meta,
        data: Option<Box<[u8]>>,
    ) -> NodeId {
        let content = digest::of_content(path, data.as_deref());
        let id = self.nodes.insert(parent, Node::new(meta, name, data, content));
        self.derive(id, path.len());
        self.remember(Undo::Insert { id, path_len: path.len() });
        id
    }

    /// Enters a restored znode, whose path is only known now, into everything derived from znodes.
    pub(crate) fn adopt(&mut self, path: &str, id: NodeId) {
        let node = self.nodes.edit(id);
        node.content = digest::of_content(path, node.data.as_deref());
        self.derive(id, path.len());
        if let Some(QuotaNode::Limits(subtree)) = QuotaNode::at(path) {
            self.quotas.add(subtree);
        }
    }

    /// Removes a znode that has no children.
    pub(crate) fn remove(&mut self, path: &str, id: NodeId) {
        self.underive(id, path.len());
        let node = self.nodes.remove(id);
        self.remember(Undo::Remove { parent: node.parent(), node: Box::new(node), path_len: path.len() });
    }

    /// Changes a znode's Stat, owner and ACL excepted.
    pub(crate) fn set_meta(&mut self, id: NodeId, change: impl FnOnce(&mut Meta)) {
        let before = self.nodes.get(id).meta;
        self.alter(id, |node| change(&mut node.meta));
        self.remember(Undo::Meta { id, meta: before });
    }

    /// Changes a znode's ACL. The tree takes over one holder of it.
    pub(crate) fn set_acl(&mut self, id: NodeId, acl: AclId, aversion: i32) {
        let before = self.nodes.get(id).meta;
        self.alter(id, |node| {
            node.meta.acl = acl;
            node.meta.aversion = aversion;
        });
        self.remember(Undo::Acl { id, aversion: before.aversion, acl: before.acl });
    }

    /// Changes a znode's data and what of its Stat goes with it.
    pub(crate) fn set_data(
        &mut self,
        path: &str,
        id: NodeId,
        data: Option<Box<[u8]>>,
        change: impl FnOnce(&mut Meta),
    ) {
        let new = digest::of_content(path, data.as_deref());
        let (mut old_data, mut content) = (data, new);
        let meta = self.nodes.get(id).meta;
        self.alter(id, |node| {
            std::mem::swap(&mut node.data, &mut old_data);
            std::mem::swap(&mut node.content, &mut content);
            change(&mut node.meta);
        });
        self.remember(Undo::Data { id, meta, data: old_data, content });
    }

    /// Follows the creation of a limits znode.
    pub(crate) fn add_quota(&mut self, subtree: &str) {
        self.quotas.add(subtree);
        self.remember(Undo::QuotaAdded(subtree.into()));
    }

    /// Follows the deletion of a limits znode.
    pub(crate) fn remove_quota(&mut self, subtree: &str) {
        self.quotas.remove(subtree);
        self.remember(Undo::QuotaRemoved(subtree.into()));
    }

    /// From now on changes can be undone.
    pub(crate) fn begin_undoable(&mut self) {
        debug_assert!(!self.undoable && self.undo.is_empty());
        self.undoable = true;
    }

    /// Keeps what was done since [`Tree::begin_undoable`].
    pub(crate) fn keep(&mut self) {
        self.undoable = false;
        let mut undo = std::mem::take(&mut self.undo);
        for step in undo.drain(..) {
            self.forget(step);
        }
        self.undo = undo;
    }

    /// Undoes everything since [`Tree::begin_undoable`], newest first.
    pub(crate) fn roll_back(&mut self) {
        self.undoable = false;
        let mut undo = std::mem::take(&mut self.undo);
        while let Some(step) = undo.pop() {
            self.reverse(step);
        }
        self.undo = undo;
    }

    fn remember(&mut self, step: Undo) {
        if self.undoable {
            self.undo.push(step);
        } else {
            self.forget(step);
        }
    }

    /// The step will not be undone: lets go of the list it would have brought back.
    fn forget(&mut self, step: Undo) {
        match step {
            Undo::Remove { node, .. } => self.acls.release(node.meta.acl),
            Undo::Acl { acl, .. } => self.acls.release(acl),
            Undo::Insert { .. }
            | Undo::Meta { .. }
            | Undo::Data { .. }
            | Undo::QuotaAdded(_)
            | Undo::QuotaRemoved(_) => {}
        }
    }

    fn reverse(&mut self, step: Undo) {
        match step {
            Undo::Insert { id, path_len } => {
                self.underive(id, path_len);
                let node = self.nodes.remove(id);
                self.acls.release(node.meta.acl);
            }
            Undo::Remove { parent, node, path_len } => {
                let id = self.nodes.insert(parent, *node);
                self.derive(id, path_len);
            }
            Undo::Meta { id, meta } => self.alter(id, |node| node.meta = meta),
            Undo::Acl { id, aversion, acl } => {
                let undone = self.nodes.get(id).meta.acl;
                self.alter(id, |node| {
                    node.meta.acl = acl;
                    node.meta.aversion = aversion;
                });
                self.acls.release(undone);
            }
            Undo::Data { id, meta, data, content } => self.alter(id, |node| {
                node.meta = meta;
                node.data = data;
                node.content = content;
            }),
            Undo::QuotaAdded(subtree) => self.quotas.remove(&subtree),
            Undo::QuotaRemoved(subtree) => self.quotas.add(&subtree),
        }
    }

    /// Applies a change to a node and to the sums over all nodes.
    fn alter(&mut self, id: NodeId, change: impl FnOnce(&mut Node)) {
        let node = self.nodes.edit(id);
        let before = digest::of_node(node, self.acls.hash(node.meta.acl));
        let size = node.data_len();
        change(node);
        let after = digest::of_node(node, self.acls.hash(node.meta.acl));
        self.data_size = self.data_size + node.data_len() as u64 - size as u64;
        self.sums.subtract(before);
        self.sums.add(after);
    }

    /// Enters a new node into everything derived from nodes.
    fn derive(&mut self, id: NodeId, path_len: usize) {
        let node = self.nodes.get(id);
        self.sums.add(digest::of_node(node, self.acls.hash(node.meta.acl)));
        self.data_size += (path_len + node.data_len()) as u64;
        match node.meta.owner {
            Owner::Persistent => {}
            Owner::Ephemeral(session) => {
                self.ephemeral_count += 1;
                self.ephemerals.entry(session).or_default().insert(id);
            }
            Owner::Container | Owner::Ttl(_) => {
                self.cleanable.insert(id);
            }
        }
    }

    /// Takes a node out of everything derived from nodes.
    fn underive(&mut self, id: NodeId, path_len: usize) {
        let node = self.nodes.get(id);
        self.sums.subtract(digest::of_node(node, self.acls.hash(node.meta.acl)));
        self.data_size -= (path_len + node.data_len()) as u64;
        match node.meta.owner {
            Owner::Persistent => {}
            Owner::Ephemeral(session) => {
                self.ephemeral_count -= 1;
                if let Some(owned) = self.ephemerals.get_mut(&session) {
                    owned.remove(&id);
                    if owned.is_empty() {
                        self.ephemerals.remove(&session);
                    }
                }
            }
            Owner::Container | Owner::Ttl(_) => {
                self.cleanable.remove(&id);
            }
        }
    }
}
