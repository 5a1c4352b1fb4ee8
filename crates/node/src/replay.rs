//! A log applied to a state outside of any server.

use ostler_replication::{EntryKind, LogEntry, MembershipEntry};

use crate::command::parse_membership_context;
use crate::core::{CoreError, to_tree};
use crate::replica::{Replica, ReplicaSettings};
use crate::{Millis, SharedState};

/// Applies `entries`, which go on from `state`, whoever has agreed to them. Nobody hears of it.
///
/// # Errors
/// An entry cannot be read; those before it are applied.
pub fn replay(state: &SharedState, entries: &[LogEntry]) -> Result<(), CoreError> {
    const NEVER: Millis = 0;
    let settings = ReplicaSettings { server: 0, nonce: 0, snap_count: u64::MAX, snap_bytes: None };
    let mut replica = Replica::new(settings, state.clone(), Vec::new());
    let mut woken = Vec::new();
    for entry in entries {
        let (at, index) = ((entry.term, entry.index), entry.index);
        match entry.kind {
            EntryKind::Normal => replica
                .apply(at, &entry.data, None, NEVER, &mut woken)
                .map_err(|error| CoreError::Entry { index, error })?,
            EntryKind::Membership => {
                let change = MembershipEntry::decode(&entry.data)
                    .map_err(|error| CoreError::Membership { index, error })?;
                let server = parse_membership_context(&change.context);
                replica.apply_membership(at, to_tree(&change), server, &mut woken);
            }
        }
    }
    Ok(())
}
