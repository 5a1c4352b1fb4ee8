//! Operations: each is validated completely, in ZooKeeper's order (semantics, "Per-operation validation
//! order"), before it changes anything. A multi applies one operation after the other and is rolled back as a
//! whole when one fails.
//!
//! The counter behind sequential names wraps from 2147483647 to -2147483648, as ZooKeeper documents; Apache
//! ZooKeeper's own gets stuck there, and every later sequential create of that parent fails.

use std::borrow::Cow;
use std::sync::Arc;

use ostler_types::{
    AuthId, CreateMode, ErrorCode, EventType, NodeKind, Perms, SessionId, Stat, ZnodePath, Zxid,
};

use crate::Settings;
use crate::acl::{self, AclList};
use crate::command::{AclEntry, Operation};
use crate::nodes::{Meta, NodeId, Owner};
use crate::outcome::{Change, MultiResult, OpResult, QuotaExceeded, QuotaResource};
use crate::quota::{QuotaNode, QuotaText, limits_path, stats_path};
use crate::tree::Tree;

/// Largest TTL in milliseconds: ZooKeeper keeps 40 bits for it.
const MAX_TTL_MS: i64 = (1 << 40) - 1;

/// The znode that shows the membership.
pub(crate) const CONFIG_PATH: &str = "/zookeeper/config";

/// Paths that cannot be deleted. (Nor can "", which has no slash.)
const SPECIAL_PATHS: [&str; 4] = ["/", "/zookeeper", "/zookeeper/quota", CONFIG_PATH];

/// One transaction at work on the tree.
pub(crate) struct Transaction<'t, 'c> {
    pub(crate) tree: &'t mut Tree,
    pub(crate) settings: &'t Settings,
    pub(crate) zxid: Zxid,
    /// The log's clock, Unix milliseconds.
    pub(crate) time_ms: i64,
    /// Where to note changes, if anybody wants to know.
    pub(crate) changes: Option<&'c mut Vec<Change>>,
    pub(crate) over_quota: Vec<QuotaExceeded>,
}

/// Who asks.
#[derive(Clone, Copy)]
pub(crate) struct Requester<'a> {
    pub(crate) session: SessionId,
    pub(crate) auth: &'a [AuthId],
}

impl Transaction<'_, '_> {
    /// Does what a write asks.
    pub(crate) fn run(
        &mut self,
        who: Requester<'_>,
        operation: &Operation<'_>,
    ) -> Result<OpResult, ErrorCode> {
        match operation {
            Operation::Create { path, data, acl, flags, kind, want_stat } => {
                let created = self.create(who, path, *data, acl.as_deref(), *flags, *kind)?;
                Ok(OpResult::Created { path: created.path, stat: want_stat.then_some(created.stat) })
            }
            Operation::Delete { path, version } => self.delete(who, path, *version),
            Operation::SetData { path, data, version } => self.set_data(who, path, *data, *version),
            Operation::SetAcl { path, acl, version } => self.set_acl(who, path, acl.as_deref(), *version),
            Operation::Check { path, version } => self.check(who, path, *version),
            Operation::Multi(operations) => Ok(OpResult::Multi(self.multi(who, operations))),
            // Judged by the state, which holds the membership; what comes here is inside a multi.
            Operation::Reconfig(_) => Err(ErrorCode::MarshallingError),
        }
    }

    /// Deletes a znode that may be deleted, with everything that goes with it.
    pub(crate) fn delete_node(&mut self, path: &str, id: NodeId) {
        let node = self.tree.nodes.get(id);
        let bytes = node.data_len() as i64;
        let Some(parent) = node.parent() else { return };
        let deleted_acl = self.changes.is_some().then(|| self.tree.acl(id).clone());
        self.tree.remove(path, id);
        let zxid = self.zxid;
        self.tree.set_meta(parent, |meta| meta.pzxid = meta.pzxid.max(zxid));
        match QuotaNode::at(path) {
            Some(QuotaNode::Limits(subtree)) => self.tree.remove_quota(subtree),
            Some(QuotaNode::Stats(_)) | None => {}
        }
        self.charge(path, -1, -bytes);
        if let Some(acl) = deleted_acl {
            self.note(EventType::NodeDeleted, path.into(), acl);
            self.note_children_changed(path, parent);
        }
    }

    /// Writes what the membership has become, as if a member of the ensemble had: the version is set, not
    /// counted.
    pub(crate) fn set_config(&mut self, text: &str) -> Stat {
        let Some(id) = self.tree.nodes.lookup(CONFIG_PATH) else { return Stat::default() };
        let (zxid, time_ms) = (self.zxid, self.time_ms);
        self.tree.set_data(CONFIG_PATH, id, Some(text.as_bytes().into()), |meta| {
            meta.version = -1;
            meta.mzxid = zxid;
            meta.mtime = time_ms;
        });
        if self.changes.is_some() {
            self.note(EventType::NodeDataChanged, CONFIG_PATH.into(), self.tree.acl(id).clone());
        }
        self.tree.nodes.get(id).stat()
    }

    fn create(
        &mut self,
        who: Requester<'_>,
        path: &str,
        data: Option<&[u8]>,
        acl: Option<&[AclEntry<'_>]>,
        flags: i32,
        kind: NodeKind,
    ) -> Result<CreatedNode, ErrorCode> {
        let mode = CreateMode::from_flags(flags).ok_or(ErrorCode::BadArguments)?;
        if mode.is_ttl() && !self.settings.extended_types_enabled {
            return Err(ErrorCode::Unimplemented);
        }
        let owner = owner(mode, kind, who.session)?;
        let slash = last_slash(path)?;
        let acl = acl::fix_up(acl, who.auth)?;
        let parent = self.tree.nodes.lookup(&path[..slash]).ok_or(ErrorCode::NoNode)?;
        self.permit(parent, Perms::CREATE, who)?;
        let path = if mode.is_sequential() {
            Cow::Owned(format!("{path}{}", SequenceSuffix(self.tree.nodes.get(parent).meta.cversion)))
        } else {
            Cow::Borrowed(path)
        };
        let path = path.as_ref();
        ZnodePath::parse(path).map_err(|_| ErrorCode::BadArguments)?;
        let name = &path[slash + 1..];
        // "/" is the root's own path, not a child with an empty name.
        if name.is_empty() || self.tree.nodes.child(parent, name).is_some() {
            return Err(ErrorCode::NodeExists);
        }
        if let Owner::Ephemeral(_) = self.tree.nodes.get(parent).meta.owner {
            return Err(ErrorCode::NoChildrenForEphemerals);
        }
        let bytes = data.map_or(0, <[u8]>::len) as i64;
        self.check_quota(path, 1, bytes)?;

        let meta = Meta {
            czxid: self.zxid,
            mzxid: self.zxid,
            pzxid: self.zxid,
            ctime: self.time_ms,
            mtime: self.time_ms,
            version: 0,
            cversion: 0,
            aversion: 0,
            owner,
            acl: self.tree.acls.intern(acl),
        };
        let id = self.tree.insert(path, Some(parent), name, meta, data.map(Into::into));
        let stat = self.tree.nodes.get(id).stat();
        self.tree.set_meta(parent, |parent| {
            parent.cversion = parent.cversion.wrapping_add(1);
            parent.pzxid = meta.pzxid;
        });
        match QuotaNode::at(path) {
            Some(QuotaNode::Limits(subtree)) => self.tree.add_quota(subtree),
            Some(QuotaNode::Stats(subtree)) => self.recount(subtree),
            None => {}
        }
        self.charge(path, 1, bytes);
        let path: Arc<str> = path.into();
        if self.changes.is_some() {
            self.note(EventType::NodeCreated, path.clone(), self.tree.acl(id).clone());
            self.note_children_changed(&path, parent);
        }
        Ok(CreatedNode { path, stat })
    }

    fn delete(&mut self, who: Requester<'_>, path: &str, version: i32) -> Result<OpResult, ErrorCode> {
        let slash = last_slash(path)?;
        if SPECIAL_PATHS.contains(&path) {
            return Err(ErrorCode::BadArguments);
        }
        let parent = self.tree.nodes.lookup(&path[..slash]).ok_or(ErrorCode::NoNode)?;
        self.permit(parent, Perms::DELETE, who)?;
        // Not the child of that name: the parent of "//a" is the root, but "//a" is not "/a".
        let id = self.tree.nodes.lookup(path).ok_or(ErrorCode::NoNode)?;
        let node = self.tree.nodes.get(id);
        expect_version(node.meta.version, version)?;
        if node.child_count() > 0 {
            return Err(ErrorCode::NotEmpty);
        }
        self.delete_node(path, id);
        Ok(OpResult::Deleted)
    }

    fn set_data(
        &mut self,
        who: Requester<'_>,
        path: &str,
        data: Option<&[u8]>,
        version: i32,
    ) -> Result<OpResult, ErrorCode> {
        let id = self.valid(path)?;
        self.permit(id, Perms::WRITE, who)?;
        let node = self.tree.nodes.get(id);
        let (current, old_len) = (node.meta.version, node.data_len());
        let growth = data.map_or(0, <[u8]>::len) as i64 - old_len as i64;
        self.check_quota(path, 0, growth)?;
        expect_version(current, version)?;

        let (zxid, time_ms) = (self.zxid, self.time_ms);
        self.tree.set_data(path, id, data.map(Into::into), |meta| {
            meta.version = meta.version.wrapping_add(1);
            meta.mzxid = zxid;
            meta.mtime = time_ms;
        });
        let stat = self.tree.nodes.get(id).stat();
        self.charge(path, 0, growth);
        if self.changes.is_some() {
            self.note(EventType::NodeDataChanged, path.into(), self.tree.acl(id).clone());
        }
        Ok(OpResult::DataSet(stat))
    }

    fn set_acl(
        &mut self,
        who: Requester<'_>,
        path: &str,
        acl: Option<&[AclEntry<'_>]>,
        version: i32,
    ) -> Result<OpResult, ErrorCode> {
        ZnodePath::parse(path).map_err(|_| ErrorCode::BadArguments)?;
        let acl = acl::fix_up(acl, who.auth)?;
        let id = self.tree.nodes.lookup(path).ok_or(ErrorCode::NoNode)?;
        self.permit(id, Perms::ADMIN, who)?;
        let aversion = self.tree.nodes.get(id).meta.aversion;
        expect_version(aversion, version)?;

        let acl = self.tree.acls.intern(acl);
        self.tree.set_acl(id, acl, aversion.wrapping_add(1));
        Ok(OpResult::AclSet(self.tree.nodes.get(id).stat()))
    }

    fn check(&mut self, who: Requester<'_>, path: &str, version: i32) -> Result<OpResult, ErrorCode> {
        let id = self.valid(path)?;
        self.permit(id, Perms::READ, who)?;
        expect_version(self.tree.nodes.get(id).meta.version, version)?;
        Ok(OpResult::Checked)
    }

    fn multi(&mut self, who: Requester<'_>, operations: &[Operation<'_>]) -> Vec<MultiResult> {
        let noted = self.changes.as_ref().map_or(0, |changes| changes.len());
        self.tree.begin_undoable();
        let mut results = Vec::with_capacity(operations.len());
        for operation in operations {
            let result = match operation {
                Operation::Multi(_) => Err(ErrorCode::MarshallingError),
                operation => self.run(who, operation),
            };
            match result {
                Ok(result) => results.push(MultiResult::Done(result)),
                Err(error) => {
                    self.tree.roll_back();
                    if let Some(changes) = &mut self.changes {
                        changes.truncate(noted);
                    }
                    return failed_multi(operations.len(), results.len(), error);
                }
            }
        }
        self.tree.keep();
        results
    }

    /// The znode at a path that must be valid.
    fn valid(&self, path: &str) -> Result<NodeId, ErrorCode> {
        ZnodePath::parse(path).map_err(|_| ErrorCode::BadArguments)?;
        self.tree.nodes.lookup(path).ok_or(ErrorCode::NoNode)
    }

    fn permit(&self, id: NodeId, wanted: Perms, who: Requester<'_>) -> Result<(), ErrorCode> {
        let allowed = self.settings.skip_acl || self.tree.acl(id).allows(wanted, who.auth);
        if allowed { Ok(()) } else { Err(ErrorCode::NoAuth) }
    }

    /// Compares what a write would bring the governing quota to with its limits; a hard limit counts before a
    /// soft one. What is over goes into `over_quota`, and fails the write if the limit is hard and enforced.
    /// Within a multi earlier operations count (Apache ZooKeeper looks at the state before the multi).
    fn check_quota(&mut self, path: &str, count: i64, bytes: i64) -> Result<(), ErrorCode> {
        let Some(subtree) = self.tree.quotas.governing(path) else { return Ok(()) };
        let text = |path: String| {
            let id = self.tree.nodes.lookup(&path)?;
            Some(QuotaText::parse(self.tree.nodes.get(id).data.as_deref()))
        };
        let (Some(limits), Some(used)) = (text(limits_path(subtree)), text(stats_path(subtree))) else {
            return Ok(());
        };
        for (resource, change, used, soft, hard) in [
            (QuotaResource::Count, count, used.count, limits.count, limits.count_hard_limit),
            (QuotaResource::Bytes, bytes, used.bytes, limits.bytes, limits.byte_hard_limit),
        ] {
            let (limit, hard) = if hard > -1 { (hard, true) } else { (soft, false) };
            let value = used.saturating_add(change);
            if change != 0 && limit > -1 && value > limit {
                self.over_quota.push(QuotaExceeded { path: subtree.into(), resource, hard, limit, value });
                if hard && self.settings.enforce_quota {
                    return Err(ErrorCode::QuotaExceeded);
                }
            }
        }
        Ok(())
    }

    /// Adds to the statistics of the governing quota: data edited in place, without a transaction's marks.
    fn charge(&mut self, path: &str, count: i64, bytes: i64) {
        let Some(subtree) = self.tree.quotas.governing(path) else { return };
        let stats_path = stats_path(subtree);
        let Some(id) = self.tree.nodes.lookup(&stats_path) else { return };
        let mut used = QuotaText::parse(self.tree.nodes.get(id).data.as_deref());
        used.count = used.count.saturating_add(count);
        used.bytes = used.bytes.saturating_add(bytes);
        self.tree.set_data(&stats_path, id, Some(used.format().into_bytes().into()), |_| {});
    }

    /// Fills new statistics: counts the subtree, its top included.
    fn recount(&mut self, subtree: &str) {
        let stats_path = stats_path(subtree);
        let Some(id) = self.tree.nodes.lookup(&stats_path) else { return };
        let (mut count, mut bytes) = (0, 0);
        let top = self.tree.nodes.lookup(subtree);
        let mut at = top;
        while let (Some(top), Some(node)) = (top, at) {
            count += 1;
            bytes += self.tree.nodes.get(node).data_len() as i64;
            at = self.tree.nodes.next_below(top, node);
        }
        let used = QuotaText::new(count, bytes);
        self.tree.set_data(&stats_path, id, Some(used.format().into_bytes().into()), |_| {});
    }

    fn note(&mut self, event: EventType, path: Arc<str>, acl: AclList) {
        let acl =
            if self.settings.skip_acl { self.tree.acls.list(crate::acl::AclId::OPEN).clone() } else { acl };
        if let Some(changes) = &mut self.changes {
            changes.push(Change { event, path, zxid: self.zxid, acl });
        }
    }

    fn note_children_changed(&mut self, child_path: &str, parent: NodeId) {
        let path = match child_path.rfind('/') {
            Some(slash) if slash > 0 => &child_path[..slash],
            _ => "/",
        };
        self.note(EventType::NodeChildrenChanged, path.into(), self.tree.acl(parent).clone());
    }
}

struct CreatedNode {
    path: Arc<str>,
    /// As it was created, before quota statistics are filled in.
    stat: Stat,
}

/// `%010d` of the parent's counter.
struct SequenceSuffix(i32);

impl std::fmt::Display for SequenceSuffix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:010}", self.0)
    }
}

/// Who owns a new znode. The opcode decides the kind, the flags whether a session owns it; only createTTL
/// brings a TTL, the others count as -1.
///
/// createTTL without a TTL flag is BadArguments whatever its TTL. Apache ZooKeeper lets it pass with TTL -1 and
/// then cannot apply it, now or after a restart.
fn owner(mode: CreateMode, kind: NodeKind, session: SessionId) -> Result<Owner, ErrorCode> {
    match kind {
        NodeKind::Ttl(ttl_ms) if mode.is_ttl() && (1..=MAX_TTL_MS).contains(&ttl_ms) => {
            Ok(Owner::Ttl(ttl_ms))
        }
        NodeKind::Ttl(_) => Err(ErrorCode::BadArguments),
        NodeKind::Plain | NodeKind::Container if mode.is_ttl() => Err(ErrorCode::BadArguments),
        NodeKind::Container => Ok(Owner::Container),
        NodeKind::Plain if mode.is_ephemeral() => Ok(Owner::Ephemeral(session)),
        NodeKind::Plain => Ok(Owner::Persistent),
    }
}

/// Where the name begins, less one. The little that create and delete ask of a path before they look for its
/// parent.
fn last_slash(path: &str) -> Result<usize, ErrorCode> {
    path.rfind('/').filter(|_| !path.contains('\0')).ok_or(ErrorCode::BadArguments)
}

fn expect_version(current: i32, expected: i32) -> Result<(), ErrorCode> {
    if expected == -1 || expected == current { Ok(()) } else { Err(ErrorCode::BadVersion) }
}

/// Code 0 before the operation that failed, its error, and "not tried" after it.
fn failed_multi(count: usize, failed: usize, error: ErrorCode) -> Vec<MultiResult> {
    (0..count)
        .map(|at| match at.cmp(&failed) {
            std::cmp::Ordering::Less => MultiResult::RolledBack,
            std::cmp::Ordering::Equal => MultiResult::Failed(error),
            std::cmp::Ordering::Greater => MultiResult::Failed(ErrorCode::RuntimeInconsistency),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequential_counter_wraps() {
        let mut tree = Tree::built_in(0);
        tree.set_meta(NodeId::ROOT, |meta| meta.cversion = i32::MAX);
        let mut names = Vec::new();
        for zxid in 1..=3 {
            let mut transaction = Transaction {
                tree: &mut tree,
                settings: &Settings::default(),
                zxid: Zxid(zxid),
                time_ms: 0,
                changes: None,
                over_quota: Vec::new(),
            };
            let who = Requester { session: SessionId(1), auth: &[] };
            let open = AclEntry::open();
            let created = transaction.create(who, "/n", None, Some(&open), 2, NodeKind::Plain).unwrap();
            names.push(created.path.to_string());
        }
        assert_eq!(names, ["/n2147483647", "/n-2147483648", "/n-2147483647"]);
        // Twice the counter less the children, in 32 bits.
        assert_eq!(tree.nodes.get(NodeId::ROOT).stat().cversion, 4 - 4);
    }
}
