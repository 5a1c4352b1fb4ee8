//! Snapshots: the state at one log index, written while it goes on changing.
//!
//! Nothing is copied but the small tables. A walk visits the slab of znodes slot by slot, in slices as long as
//! its caller likes; while it is under way, whoever changes or frees a slot the walk has not reached first puts
//! the slot's record aside, and the walk emits that instead. What comes out is exactly the state at the moment
//! the walk began (invariant 16), whatever was applied meanwhile.
//!
//! The stream is a sequence of self-describing records; `docs/log-and-snapshot.md` specifies them byte by byte.

mod records;
mod restore;
mod walk;

pub(crate) use records::encode_membership;
pub use restore::{RestoreError, Restorer};
pub(crate) use walk::Stash;
pub use walk::{Progress, SnapshotWalk, WalkRemains};
