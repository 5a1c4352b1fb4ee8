//! Reading a snapshot back, and believing nothing of it that is not checked.

use std::collections::BTreeMap;
use std::fmt;

use super::records::{self, Footer, Kind, PREFIX, ZnodeRecord};
use crate::acl::AclId;
use crate::digest;
use crate::nodes::{Node, NodeId, Owner, PathCursor};
use crate::state::{State, TREE_DIGEST_LIMIT};

/// Builds a [`State`] from the stream of a snapshot, fed in pieces of any size.
///
/// Memory grows with the bytes that were fed, never with a length that a record claims.
pub struct Restorer {
    state: State,
    /// The beginning of a record whose end has not been fed.
    partial: Vec<u8>,
    /// Bytes of complete records so far: where the next record begins.
    offset: u64,
    header_seen: bool,
    footer: Option<Footer>,
    /// Ids in the snapshot to ids in the state. Lists hold one holder until the end.
    acls: BTreeMap<u32, AclId>,
    znodes: ZnodeIds,
    /// Child and parent by the ids of the snapshot; a parent may come after its children.
    links: Vec<(NodeId, u32)>,
    root: Option<NodeId>,
}

/// Why a stream is not a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestoreError {
    /// The record at this offset is of a kind or version that is not known here: newer software wrote it.
    Unsupported {
        /// Where the record begins in the stream.
        offset: u64,
        /// Its kind.
        kind: u8,
        /// Its version.
        version: u8,
    },
    /// The record at this offset is damaged or contradicts what came before.
    Damaged {
        /// Where the record begins in the stream.
        offset: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The stream ends too early.
    Truncated,
    /// Every record can be read, but they do not make the state they should.
    Inconsistent(&'static str),
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RestoreError::Unsupported { offset, kind, version } => write!(
                f,
                "snapshot record of kind {kind} version {version} at byte {offset} is not known to this version"
            ),
            RestoreError::Damaged { offset, what } => {
                write!(f, "snapshot record at byte {offset} is damaged: {what}")
            }
            RestoreError::Truncated => f.write_str("snapshot ends before its footer"),
            RestoreError::Inconsistent(what) => write!(f, "snapshot contradicts itself: {what}"),
        }
    }
}

impl std::error::Error for RestoreError {}

impl Restorer {
    /// Ready for the first byte; `index_seed` as for [`State::with_index_seed`].
    pub fn new(index_seed: u64) -> Restorer {
        Restorer {
            state: State::without_znodes(index_seed),
            partial: Vec::new(),
            offset: 0,
            header_seen: false,
            footer: None,
            acls: BTreeMap::new(),
            znodes: ZnodeIds::default(),
            links: Vec::new(),
            root: None,
        }
    }

    /// Takes the next bytes of the stream.
    ///
    /// # Errors
    /// The first record that is wrong; the restorer is of no use afterwards.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<(), RestoreError> {
        while !self.partial.is_empty() {
            let missing = record_length(&self.partial).map_or(4, |length| length) - self.partial.len();
            let (more, rest) = bytes.split_at(missing.min(bytes.len()));
            self.partial.extend_from_slice(more);
            bytes = rest;
            if more.len() < missing {
                return Ok(());
            }
            if record_length(&self.partial) == Some(self.partial.len()) {
                let record = std::mem::take(&mut self.partial);
                self.record(&record)?;
                self.partial = record;
                self.partial.clear();
            }
        }
        while let Some(record) = record_length(bytes).and_then(|length| bytes.get(..length)) {
            self.record(record)?;
            bytes = &bytes[record.len()..];
        }
        self.partial.extend_from_slice(bytes);
        Ok(())
    }

    /// Verifies the whole and returns the state.
    ///
    /// # Errors
    /// `Truncated` without the last byte of the footer; `Inconsistent` if the records do not make one tree with
    /// sessions for its ephemerals and the counts and digests of the footer.
    pub fn finish(mut self) -> Result<State, RestoreError> {
        let footer = self.footer.filter(|_| self.partial.is_empty()).ok_or(RestoreError::Truncated)?;
        let root = self.root.ok_or(RestoreError::Inconsistent("there is no root znode"))?;
        if root != NodeId::ROOT {
            return Err(RestoreError::Inconsistent("the root znode is not the first"));
        }
        self.link()?;
        self.derive()?;
        for &acl in self.acls.values() {
            self.state.tree.acls.release(acl);
        }
        let state = self.state;
        if footer.sessions != state.sessions.len() as u64 {
            return Err(RestoreError::Inconsistent("the number of sessions is not that of the footer"));
        }
        if footer.znodes != state.tree.nodes.len() as u64 {
            return Err(RestoreError::Inconsistent("the number of znodes is not that of the footer"));
        }
        if footer.agreement_digest != state.agreement_digest() || footer.tree_digest != state.tree_digest() {
            return Err(RestoreError::Inconsistent("the digest is not that of the footer"));
        }
        Ok(state)
    }

    /// Takes in one complete record.
    fn record(&mut self, record: &[u8]) -> Result<(), RestoreError> {
        let offset = self.offset;
        self.offset += record.len() as u64;
        let damaged = |what| RestoreError::Damaged { offset, what };
        let (&[_, _, _, _, kind, version], payload) =
            record.split_first_chunk::<PREFIX>().ok_or(damaged("it is too short"))?;
        let known = Kind::from_code(kind).filter(|kind| kind.has_version(version));
        let kind = known.ok_or(RestoreError::Unsupported { offset, kind, version })?;
        if self.header_seen == (kind == Kind::Header) {
            return Err(damaged("the header is not the first record, or not the only one"));
        }
        if self.footer.is_some() {
            return Err(damaged("it follows the footer"));
        }
        self.header_seen = true;
        self.take_in(kind, version, payload).map_err(damaged)
    }

    fn take_in(&mut self, kind: Kind, version: u8, payload: &[u8]) -> Result<(), &'static str> {
        const UNREADABLE: &str = "its fields cannot be read";
        match kind {
            Kind::Header => self.state.position = records::header(payload).ok_or(UNREADABLE)?,
            Kind::Settings => self.state.settings = records::settings(payload, version).ok_or(UNREADABLE)?,
            Kind::Membership => self.state.membership = records::membership(payload).ok_or(UNREADABLE)?,
            Kind::Lane => {
                let (server, lane) = records::lane(payload).ok_or(UNREADABLE)?;
                self.state.lanes.put(server, lane);
            }
            Kind::Session => {
                let (id, row) = records::session(payload).ok_or(UNREADABLE)?;
                if self.state.sessions.get(id).is_some() {
                    return Err("the session is there already");
                }
                self.state.sessions.put(id, row);
            }
            Kind::TreeDigests => {
                let digests = records::tree_digests(payload).ok_or(UNREADABLE)?;
                if digests.len() > TREE_DIGEST_LIMIT {
                    return Err("there are too many tree digests");
                }
                self.state.tree_digests = digests.into();
            }
            Kind::Acl => {
                let (id, list) = records::acl(payload).ok_or(UNREADABLE)?;
                let known = self.state.tree.acls.intern(list);
                if self.acls.insert(id, known).is_some() {
                    return Err("the ACL is there already");
                }
            }
            Kind::Znode => self.znode(records::znode(payload).ok_or(UNREADABLE)?)?,
            Kind::Footer => self.footer = Some(records::footer(payload).ok_or(UNREADABLE)?),
        }
        Ok(())
    }

    /// Stores a znode; its place in the hierarchy follows when all are there.
    fn znode(&mut self, record: ZnodeRecord<'_>) -> Result<(), &'static str> {
        let ZnodeRecord { id, parent, mut meta, name, data } = record;
        let acl = *self.acls.get(&meta.acl.0).ok_or("its ACL does not come before it")?;
        self.state.tree.acls.share(acl);
        meta.acl = acl;
        if parent.is_some() == (name.is_empty() || name.contains('/')) {
            return Err("its name is not that of a znode");
        }
        if let Owner::Ephemeral(session) = meta.owner
            && self.state.sessions.get(session).is_none()
        {
            return Err("its session is not there");
        }
        // The path is known when the hierarchy is; the hash of the content follows then.
        let content = digest::of_content("", None);
        let node = Node::new(meta, name, data.map(Into::into), content);
        let new = self.state.tree.nodes.insert_unlinked(node);
        if !self.znodes.insert(id, new) {
            return Err("its id is there already");
        }
        match parent {
            Some(parent) => self.links.push((new, parent)),
            None if self.root.is_none() => self.root = Some(new),
            None => return Err("it is a second root"),
        }
        Ok(())
    }

    fn link(&mut self) -> Result<(), RestoreError> {
        let nodes = &mut self.state.tree.nodes;
        for (child, parent) in std::mem::take(&mut self.links) {
            let parent =
                self.znodes.get(parent).ok_or(RestoreError::Inconsistent("a znode has no parent"))?;
            if let Owner::Ephemeral(_) = nodes.get(parent).meta.owner {
                return Err(RestoreError::Inconsistent("an ephemeral znode has children"));
            }
            if nodes.child(parent, &nodes.get(child).name).is_some() {
                return Err(RestoreError::Inconsistent("two znodes have the same path"));
            }
            nodes.link(parent, child);
        }
        Ok(())
    }

    /// Computes what depends on paths, for every znode below the root. Those on a cycle are not.
    fn derive(&mut self) -> Result<(), RestoreError> {
        let tree = &mut self.state.tree;
        let mut reached = 0;
        let mut cursor = PathCursor::at_root();
        loop {
            reached += 1;
            let (id, path) = cursor.node();
            tree.adopt(path, id);
            if !cursor.advance(&tree.nodes) {
                break;
            }
        }
        if reached != tree.nodes.len() {
            return Err(RestoreError::Inconsistent("some znodes are not below the root"));
        }
        Ok(())
    }
}

/// Length of the record that begins `bytes`, once its length field is there.
fn record_length(bytes: &[u8]) -> Option<usize> {
    let length = u32::from_be_bytes(*bytes.first_chunk()?);
    usize::try_from(length).ok()?.checked_add(4)
}

/// Ids in the snapshot to ids in the state. Snapshots have theirs in ascending order and nearly without gaps,
/// so a sorted list does.
#[derive(Default)]
struct ZnodeIds(Vec<(u32, NodeId)>);

impl ZnodeIds {
    /// Whether `id` was greater than all before it.
    fn insert(&mut self, id: u32, new: NodeId) -> bool {
        if self.0.last().is_some_and(|&(last, _)| last >= id) {
            return false;
        }
        self.0.push((id, new));
        true
    }

    fn get(&self, id: u32) -> Option<NodeId> {
        let at = self.0.binary_search_by_key(&id, |&(old, _)| old).ok()?;
        Some(self.0[at].1)
    }
}
