//! Reading the state: znodes, sessions, figures.

use ostler_types::{Acl, AuthId, LogIndex, Perms, SessionId, Stat, Term, Zxid};

use crate::acl::AclList;
use crate::nodes::{NodeId, Owner};
use crate::quota::{QuotaText, limits_path, stats_path};
use crate::session::Session;
use crate::settings::Settings;
use crate::state::{State, TreeDigest};
use crate::tree::Tree;

/// A znode of a [`State`].
#[derive(Clone, Copy)]
pub struct ZnodeRef<'s> {
    tree: &'s Tree,
    id: NodeId,
}

impl<'s> ZnodeRef<'s> {
    /// Its data; null is not the same as empty.
    pub fn data(&self) -> Option<&'s [u8]> {
        self.tree.nodes.get(self.id).data.as_deref()
    }

    /// Its Stat.
    pub fn stat(&self) -> Stat {
        self.tree.nodes.get(self.id).stat()
    }

    /// Whose it is.
    pub fn owner(&self) -> Owner {
        self.tree.nodes.get(self.id).meta.owner
    }

    /// Its access control list.
    pub fn acl(&self) -> &'s AclList {
        self.tree.acl(self.id)
    }

    /// The names of its children, in no particular order.
    pub fn children(&self) -> impl ExactSizeIterator<Item = &'s str> + use<'s> {
        let nodes = &self.tree.nodes;
        nodes.children(self.id).map(|id| nodes.get(id).name.as_str())
    }
}

/// A container or TTL znode that [`Command::Clean`](crate::Command::Clean) would delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CleanerCandidate {
    /// Which znode.
    pub path: String,
    /// Its creation.
    pub czxid: Zxid,
    /// Its last change.
    pub mzxid: Zxid,
}

/// A quota: what a subtree may hold, and what is charged to it. -1 is unset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota<'s> {
    /// Path of the top of the subtree.
    pub subtree: &'s str,
    /// Most znodes: the hard limit where there is one, else the soft one.
    pub count_limit: i64,
    /// Most bytes, likewise.
    pub byte_limit: i64,
    /// Znodes charged.
    pub count: i64,
    /// Bytes charged.
    pub bytes: i64,
}

/// Where a round of the cleaner goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CleanerCursor(Option<NodeId>);

impl State {
    /// The znode at `path`, exactly as ZooKeeper looks it up: "" and "/" are the root, and what is not a valid
    /// path is not the path of anything.
    pub fn lookup(&self, path: &str) -> Option<ZnodeRef<'_>> {
        self.tree.nodes.lookup(path).map(|id| ZnodeRef { tree: &self.tree, id })
    }

    /// Whether `auth` may do one of `wanted` with a znode.
    pub fn is_allowed(&self, znode: &ZnodeRef<'_>, wanted: Perms, auth: &[AuthId]) -> bool {
        self.settings.skip_acl || znode.acl().allows(wanted, auth)
    }

    /// A znode's list as getACL shows it to `auth`: without ADMIN the hashes of `digest` ids read `x`.
    pub fn acl_shown_to(&self, znode: &ZnodeRef<'_>, auth: &[AuthId]) -> Vec<Acl> {
        znode.acl().shown_to(auth, self.settings.skip_acl)
    }

    /// Number of znodes as `srvr` and `mntr` show it, where the root counts twice (as "" and as "/").
    pub fn node_count(&self) -> usize {
        self.tree.nodes.len() + 1
    }

    /// Number of znodes owned by sessions.
    pub fn ephemeral_count(&self) -> usize {
        self.tree.ephemeral_count()
    }

    /// Bytes of all paths and data (`zk_approximate_data_size`).
    pub fn approximate_data_size(&self) -> u64 {
        self.tree.data_size()
    }

    /// The quotas on subtrees after the path `after`, in the order of their paths.
    pub fn quotas_after(&self, after: &str) -> impl Iterator<Item = Quota<'_>> {
        self.tree.quotas.after(after).map(|subtree| {
            let text = |path: String| QuotaText::parse(self.lookup(&path).and_then(|znode| znode.data()));
            let (limits, stats) = (text(limits_path(subtree)), text(stats_path(subtree)));
            let first = |hard: i64, soft: i64| if hard > -1 { hard } else { soft };
            Quota {
                subtree,
                count_limit: first(limits.count_hard_limit, limits.count),
                byte_limit: first(limits.byte_hard_limit, limits.bytes),
                count: stats.count,
                bytes: stats.bytes,
            }
        })
    }

    /// Number of different access control lists in memory, the open one always among them.
    pub fn acl_list_count(&self) -> usize {
        self.tree.acls.len()
    }

    /// How many znodes are below `path`, or nothing if there is no such znode (getAllChildrenNumber). Walks
    /// them, except for the root.
    pub fn all_descendants_count(&self, path: &str) -> Option<usize> {
        let nodes = &self.tree.nodes;
        let top = nodes.lookup(path)?;
        if top == NodeId::ROOT {
            // ZooKeeper's tree knows the root as "" and as "/", and counts the one when asked about the other.
            return Some(nodes.len() - usize::from(path == "/"));
        }
        let mut count = 0;
        let mut at = nodes.next_below(top, top);
        while let Some(id) = at {
            count += 1;
            at = nodes.next_below(top, id);
        }
        Some(count)
    }

    /// The zxid of the last transaction.
    pub fn last_zxid(&self) -> Zxid {
        self.position.zxid
    }

    /// The term of the last entry.
    pub fn last_term(&self) -> Term {
        self.position.term
    }

    /// The term of the last entry begun.
    pub fn applied_term(&self) -> Term {
        self.position.term
    }

    /// The last entry begun.
    pub fn applied_index(&self) -> LogIndex {
        self.position.index
    }

    /// The log's clock, Unix milliseconds.
    pub fn time_ms(&self) -> i64 {
        self.position.time_ms
    }

    /// What [`Command::Configure`](crate::Command::Configure) set.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// A session's row.
    pub fn session(&self, session: SessionId) -> Option<&Session> {
        self.sessions.get(session)
    }

    /// All sessions, in the order of their ids.
    pub fn sessions(&self) -> impl ExactSizeIterator<Item = (SessionId, &Session)> {
        self.sessions.iter()
    }

    /// The newest run of `server` that has registered, and how many sessions it has created.
    pub fn lane(&self, server: u8) -> Option<(u32, u64)> {
        self.lanes.iter().find(|&(other, _)| other == server).map(|(_, lane)| (lane.boot, lane.last))
    }

    /// Paths of a session's ephemerals, sorted.
    pub fn ephemerals_of(&self, session: SessionId) -> Vec<String> {
        let mut paths: Vec<String> =
            self.tree.ephemerals(session).map(|id| self.tree.nodes.path(id)).collect();
        paths.sort_unstable();
        paths
    }

    /// Sessions that own ephemerals, in the order of their ids.
    pub fn ephemeral_owners(&self) -> impl Iterator<Item = SessionId> {
        self.tree.ephemeral_owners()
    }

    /// Looks at up to `scan` containers and TTL znodes from `cursor` on and adds those that are idle at
    /// `now_ms` to `found`. Returns where to go on, or nothing after the last one.
    pub fn cleaner_candidates(
        &self,
        now_ms: i64,
        cursor: CleanerCursor,
        scan: usize,
        found: &mut Vec<CleanerCandidate>,
    ) -> Option<CleanerCursor> {
        let mut last = None;
        let mut scanned = 0;
        for id in self.tree.cleanable_after(cursor.0).take(scan) {
            scanned += 1;
            last = Some(id);
            if self.is_idle(id, now_ms) {
                let meta = self.tree.nodes.get(id).meta;
                let path = self.tree.nodes.path(id);
                found.push(CleanerCandidate { path, czxid: meta.czxid, mzxid: meta.mzxid });
            }
        }
        (scanned == scan && last.is_some()).then_some(CleanerCursor(last))
    }

    /// ZooKeeper's tree digest at every zxid that is a multiple of 128, oldest first, the newest 1,024.
    pub fn tree_digest_history(&self) -> impl ExactSizeIterator<Item = &TreeDigest> {
        self.tree_digests.iter()
    }
}
