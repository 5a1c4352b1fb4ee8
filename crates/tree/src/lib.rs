//! Ostler's replicated state: znodes, ACLs, quotas, sessions, membership, and what a log entry does to them.
//!
//! Everything here is deterministic. [`State::apply`] reads a [`Command`] and the state, never a clock, a
//! random number, a local setting or the order of a hash map, so every server that applies the same log has
//! the same state; [`State::agreement_digest`] proves it cheaply. Bracketed numbers are the invariants of
//! `ARCHITECTURE.md`, "semantics" and "protocol" are the documents of these names.
//!
//! ```
//! use ostler_tree::{AclEntry, Command, Operation, OpResult, Outcome, State, Verdict};
//! use ostler_types::{Generation, LogIndex, NodeKind, Sequence, SessionId, Term};
//!
//! let mut state = State::new();
//! state.begin_entry(Term(1), LogIndex(1), 1_700_000_000_000);
//! state.apply(&Command::RegisterBoot { server: 1, boot: 1, nonce: 1 }, None);
//! let created = Command::CreateSession {
//!     server: 1, boot: 1, number: 1, timeout_ms: 10_000, secret_hash: [0; 32],
//! };
//! let Outcome::SessionCreated { session, generation, .. } = state.apply(&created, None) else { panic!() };
//!
//! let create = Command::Write {
//!     session, generation, sequence: Sequence(1), auth: &[],
//!     operation: Operation::Create {
//!         path: "/app", data: Some(b"hello"), acl: Some(AclEntry::open()), flags: 0,
//!         kind: NodeKind::Plain, want_stat: false,
//!     },
//! };
//! let mut changes = Vec::new();
//! let Outcome::Write(Verdict::Applied { result, .. }) = state.apply(&create, Some(&mut changes)) else { panic!() };
//! assert_eq!(result, Ok(OpResult::Created { path: "/app".into(), stat: None }));
//! assert_eq!(changes.len(), 2, "the znode was created, the root's children changed");
//! assert_eq!(state.lookup("/app").unwrap().data(), Some(&b"hello"[..]));
//! ```
//!
//! Inside: `transaction` validates and performs operations on `tree`, whose primitives keep digests, sizes and
//! ephemerals right and can be undone; `nodes` is the memory they live in; `session` judges numbered requests;
//! `membership` is who belongs to the ensemble and how that changes;
//! `snapshot` writes the state at one log index while it goes on changing, and reads it back.

pub mod acl;
mod command;
mod digest;
mod membership;
mod nodes;
mod outcome;
mod quota;
mod read;
mod session;
mod settings;
pub mod snapshot;
mod state;
mod transaction;
mod tree;

pub use command::{AclEntry, Command, EndCause, EndCondition, MAX_BOOT, Operation};
pub use digest::TREE_DIGEST_VERSION;
pub use membership::{
    Member, Membership, MembershipChange, PendingChange, PendingReconfig, ReconfigRequest, Step,
};
pub use nodes::Owner;
pub use outcome::{
    Change, Ignored, MultiResult, OpResult, Outcome, QuotaExceeded, QuotaResource, Verdict, Void,
};
pub use read::{CleanerCandidate, CleanerCursor, Quota, ZnodeRef};
pub use session::{LastWrite, Session};
pub use settings::Settings;
pub use state::{State, TreeDigest};
