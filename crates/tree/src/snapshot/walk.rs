//! Writing a snapshot in slices.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU32, Ordering};

use super::records::{self, Footer};
use crate::acl::AclId;
use crate::nodes::{Node, NodeId};
use crate::state::State;

/// A slice ends early once it has written this many bytes: half a millisecond of copying.
const SLICE_BYTES: usize = 1 << 20;

/// The number of no walk: a handle that has written its footer writes nothing more.
const FINISHED: u64 = 0;

/// A snapshot under way; belongs to the thread that writes it.
pub struct SnapshotWalk {
    number: u64,
    /// Header, settings, membership, lanes and sessions as they were, until the first slice writes them.
    preamble: Vec<u8>,
    next: u32,
    end: u32,
    /// Lists written so far: each goes before the first znode that has it.
    acls: BTreeSet<AclId>,
    footer: Footer,
}

impl SnapshotWalk {
    /// Znodes in the snapshot.
    pub fn znodes(&self) -> u64 {
        self.footer.znodes
    }

    /// The state's agreement digest at the moment the walk shows.
    pub fn agreement_digest(&self) -> u64 {
        self.footer.agreement_digest
    }
}

/// How far a slice brought the walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is more.
    More,
    /// The stream is complete.
    Done,
    /// The walk was ended, or replaced by another: its stream is of no use.
    Ended,
}

/// What a walk leaves behind. Large after a long walk over a busy tree, so drop it where nobody waits.
pub struct WalkRemains {
    _stash: Option<Stash>,
}

impl State {
    /// Begins a snapshot of the state as it is now, replacing a walk that is still under way. Copies the
    /// session table and smaller ones, but no znode.
    pub fn begin_snapshot_walk(&mut self) -> SnapshotWalk {
        self.end_snapshot_walk();
        self.walks += 1;
        let end = self.tree.nodes.slots();
        self.tree.nodes.stash = Some(Stash { end, reached: AtomicU32::new(0), kept: BTreeMap::new() });
        self.tree.acls.pin();

        let mut preamble = Vec::new();
        records::put_header(&mut preamble, &self.position);
        records::put_settings(&mut preamble, &self.settings);
        records::put_membership(&mut preamble, &self.membership);
        for (server, lane) in self.lanes.iter() {
            records::put_lane(&mut preamble, server, lane);
        }
        for (id, row) in self.sessions.iter() {
            records::put_session(&mut preamble, id, row);
        }
        records::put_tree_digests(&mut preamble, self.tree_digests.iter());
        let footer = Footer {
            znodes: self.tree.nodes.len() as u64,
            sessions: self.sessions.len() as u64,
            agreement_digest: self.agreement_digest(),
            tree_digest: self.tree_digest(),
        };
        SnapshotWalk { number: self.walks, preamble, next: 0, end, acls: BTreeSet::new(), footer }
    }

    /// Appends the next part of the stream to `out`: up to `slots` slots of the slab, fewer if they are large.
    /// Only reads the state, so readers need not wait; apply must.
    pub fn walk_slice(&self, walk: &mut SnapshotWalk, slots: u32, out: &mut Vec<u8>) -> Progress {
        let Some(stash) = self.tree.nodes.stash.as_ref().filter(|_| walk.number == self.walks) else {
            return Progress::Ended;
        };
        let enough = out.len() + SLICE_BYTES;
        if !walk.preamble.is_empty() {
            out.append(&mut std::mem::take(&mut walk.preamble));
        }
        let slice_end = walk.next.saturating_add(slots).min(walk.end);
        while walk.next < slice_end && out.len() < enough {
            let id = NodeId(walk.next);
            walk.next += 1;
            match stash.kept.get(&id) {
                Some(None) => {}
                Some(Some(Kept { acl, record })) => {
                    self.write_acl_once(walk, *acl, out);
                    out.extend_from_slice(record);
                }
                None => {
                    if let Some(node) = self.tree.nodes.slot(id) {
                        self.write_acl_once(walk, node.meta.acl, out);
                        records::put_znode(out, id, node);
                    }
                }
            }
        }
        // Only apply reads this, and the lock around the state orders the two.
        stash.reached.store(walk.next, Ordering::Relaxed);
        if walk.next < walk.end {
            return Progress::More;
        }
        records::put_footer(out, &walk.footer);
        walk.number = FINISHED;
        Progress::Done
    }

    /// Ends the walk that is under way, if any, whether it is complete or not.
    pub fn end_snapshot_walk(&mut self) -> WalkRemains {
        self.tree.acls.unpin();
        WalkRemains { _stash: self.tree.nodes.stash.take() }
    }

    fn write_acl_once(&self, walk: &mut SnapshotWalk, id: AclId, out: &mut Vec<u8>) {
        if walk.acls.insert(id) {
            records::put_acl(out, id, self.tree.acls.list(id));
        }
    }
}

/// Records of slots as they were when the walk began, kept for slots that have changed since.
pub(crate) struct Stash {
    /// Slots from here on were not there.
    end: u32,
    /// Slots below have been written.
    reached: AtomicU32,
    /// What was in a slot; nothing if it was free.
    kept: BTreeMap<NodeId, Option<Kept>>,
}

/// A znode's record, and the list that must precede it.
struct Kept {
    acl: AclId,
    record: Box<[u8]>,
}

impl Stash {
    /// Called before a slot changes.
    pub(crate) fn keep(&mut self, id: NodeId, node: Option<&Node>) {
        let reached = *self.reached.get_mut();
        if id.0 < reached || id.0 >= self.end || self.kept.contains_key(&id) {
            return;
        }
        // Two written ones go for each one that comes: memory returns, and no single change pays for it.
        for _ in 0..2 {
            if self.kept.first_key_value().is_some_and(|(first, _)| first.0 < reached) {
                self.kept.pop_first();
            }
        }
        let record = node.map(|node| {
            let mut record = Vec::with_capacity(128 + node.data_len());
            records::put_znode(&mut record, id, node);
            Kept { acl: node.meta.acl, record: record.into() }
        });
        self.kept.insert(id, record);
    }
}
