//! Log entries and membership changes as the rest of Ostler sees them, and their form inside the library.

use bytes::{BufMut, Bytes, BytesMut};
use ostler_types::{LogIndex, Term};
use protobuf::Message as _;
use raft::eraftpb::{ConfChangeSingle, ConfChangeType, ConfChangeV2, Entry, EntryType};

/// What an entry is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum EntryKind {
    /// A batch of commands, or nothing: the entry that opens a term.
    #[default]
    Normal = 0,
    /// A [`MembershipEntry`].
    Membership = 1,
}

/// One entry of the replicated log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogEntry {
    /// Term of the leader that proposed it.
    pub term: Term,
    /// Its position.
    pub index: LogIndex,
    /// How to read `data`.
    pub kind: EntryKind,
    /// The batch of commands, empty for the entry that opens a term; or an encoded [`MembershipEntry`].
    pub data: Bytes,
}

/// One step of a change of membership. Steps are single: any two majorities of neighbouring memberships overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The node votes from now on.
    AddVoter,
    /// The node gets the log and never votes; a voter loses its vote.
    AddLearner,
    /// The node is no part of it any more.
    Remove,
}

/// A membership change as an entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembershipEntry {
    /// What happens.
    pub step: Step,
    /// To which node.
    pub node: u64,
    /// For the state that is replicated beside it; consensus does not read it.
    pub context: Bytes,
}

/// An entry kind or membership entry that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot be understood: {0}; it was written by a newer version of Ostler, or is damaged")]
pub struct EntryError(pub &'static str);

impl EntryKind {
    /// The kind with this value in a log record or message.
    ///
    /// # Errors
    /// There is none.
    pub fn from_code(code: u8) -> Result<EntryKind, EntryError> {
        match code {
            0 => Ok(EntryKind::Normal),
            1 => Ok(EntryKind::Membership),
            _ => Err(EntryError("unknown kind of log entry")),
        }
    }
}

/// Version of the encoding of [`MembershipEntry`].
const MEMBERSHIP_VERSION: u8 = 1;

impl MembershipEntry {
    /// version u8, step u8, node u64, context.
    pub(crate) fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(10 + self.context.len());
        bytes.put_u8(MEMBERSHIP_VERSION);
        bytes.put_u8(match self.step {
            Step::AddVoter => 0,
            Step::Remove => 1,
            Step::AddLearner => 2,
        });
        bytes.put_u64(self.node);
        bytes.put_slice(&self.context);
        bytes.freeze()
    }

    /// Reads the data of an entry of kind [`EntryKind::Membership`].
    ///
    /// # Errors
    /// It is of an unknown version or cut short.
    pub fn decode(data: &Bytes) -> Result<MembershipEntry, EntryError> {
        let (Some(&version), Some(&step), Some(node)) =
            (data.first(), data.get(1), data.get(2..10).and_then(|b| b.first_chunk::<8>()))
        else {
            return Err(EntryError("a membership entry is cut short"));
        };
        if version != MEMBERSHIP_VERSION {
            return Err(EntryError("unknown version of a membership entry"));
        }
        let step = match step {
            0 => Step::AddVoter,
            1 => Step::Remove,
            2 => Step::AddLearner,
            _ => return Err(EntryError("unknown step in a membership entry")),
        };
        Ok(MembershipEntry { step, node: u64::from_be_bytes(*node), context: data.slice(10..) })
    }

    pub(crate) fn to_library(&self) -> ConfChangeV2 {
        let change = ConfChangeSingle {
            change_type: match self.step {
                Step::AddVoter => ConfChangeType::AddNode,
                Step::AddLearner => ConfChangeType::AddLearnerNode,
                Step::Remove => ConfChangeType::RemoveNode,
            },
            node_id: self.node,
            ..Default::default()
        };
        ConfChangeV2 { changes: vec![change].into(), context: self.context.clone(), ..Default::default() }
    }

    /// Reads what [`to_library`](Self::to_library) made.
    fn from_library(change: &ConfChangeV2) -> Option<MembershipEntry> {
        let [single] = change.get_changes() else { return None };
        let step = match single.get_change_type() {
            ConfChangeType::AddNode => Step::AddVoter,
            ConfChangeType::AddLearnerNode => Step::AddLearner,
            ConfChangeType::RemoveNode => Step::Remove,
        };
        Some(MembershipEntry { step, node: single.node_id, context: change.context.clone() })
    }
}

/// An entry as the library keeps it.
///
/// # Errors
/// It is a membership entry that cannot be read.
pub(crate) fn to_raft(entry: LogEntry) -> Result<Entry, EntryError> {
    let (entry_type, data) = match entry.kind {
        EntryKind::Normal => (EntryType::EntryNormal, entry.data),
        EntryKind::Membership => {
            let change = MembershipEntry::decode(&entry.data)?.to_library();
            let data = change.write_to_bytes().expect("writing to memory does not fail");
            (EntryType::EntryConfChangeV2, data.into())
        }
    };
    Ok(Entry { entry_type, term: entry.term.0, index: entry.index.0, data, ..Default::default() })
}

/// The reverse of [`to_raft`]. Entries of the library come from `to_raft` or from our own proposals.
pub(crate) fn from_raft(entry: &Entry) -> LogEntry {
    let (term, index) = (Term(entry.term), LogIndex(entry.index));
    match entry.get_entry_type() {
        EntryType::EntryNormal => LogEntry { term, index, kind: EntryKind::Normal, data: entry.data.clone() },
        EntryType::EntryConfChange | EntryType::EntryConfChangeV2 => {
            let mut change = ConfChangeV2::default();
            change.merge_from_bytes(&entry.data).expect("encoded by to_raft or by a proposal of ours");
            let change = MembershipEntry::from_library(&change).expect("only single steps are proposed");
            LogEntry { term, index, kind: EntryKind::Membership, data: change.encode() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_membership_entry_survives_the_library() {
        for step in [Step::AddVoter, Step::AddLearner, Step::Remove] {
            let change = MembershipEntry { step, node: 7, context: Bytes::from_static(b"who") };
            let entry = LogEntry {
                term: Term(3),
                index: LogIndex(9),
                kind: EntryKind::Membership,
                data: change.encode(),
            };
            assert_eq!(from_raft(&to_raft(entry.clone()).unwrap()), entry);
            assert_eq!(MembershipEntry::decode(&entry.data).unwrap(), change);
        }
    }

    #[test]
    fn the_encoding_of_a_membership_entry_stays() {
        let change =
            MembershipEntry { step: Step::AddLearner, node: 0x0102, context: Bytes::from_static(b"x") };
        assert_eq!(change.encode()[..], [1, 2, 0, 0, 0, 0, 0, 0, 1, 2, b'x']);
        for bad in [&[1, 2, 0][..], &[2, 0, 0, 0, 0, 0, 0, 0, 0, 1], &[1, 9, 0, 0, 0, 0, 0, 0, 0, 1]] {
            assert!(MembershipEntry::decode(&Bytes::copy_from_slice(bad)).is_err());
        }
    }
}
