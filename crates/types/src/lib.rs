//! The nouns every other crate shares: identifiers, znode paths, ACLs, [`Stat`] and error codes.
//!
//! Nothing here does I/O or decides anything; a value can be parsed, printed and compared, no more.
//! Sources are named per item: `protocol` is ZooKeeper's client protocol as described in
//! `docs/protocol.md`, `semantics` is `docs/semantics.md`.
//!
//! ```
//! use ostler_types::{SessionId, Zxid, ZnodePath};
//!
//! let path = ZnodePath::parse("/app/locks").unwrap();
//! assert_eq!((path.parent().unwrap().as_str(), path.name()), ("/app", "locks"));
//! assert_eq!(Zxid(0x1_0000_0002).to_string(), "0x100000002");
//! assert_eq!(SessionId(255).to_string(), "0xff");
//! ```

mod acl;
mod create;
mod error;
mod ids;
pub mod member;
mod path;
mod stat;
mod watch;

pub use acl::{Acl, AuthId, Perms, open_acl};
pub use create::{CreateMode, NodeKind};
pub use error::ErrorCode;
pub use ids::{Generation, LogIndex, Sequence, SessionId, Term, Xid, Zxid};
pub use path::{PathError, ZnodePath};
pub use stat::Stat;
pub use watch::{AddWatchMode, EventType, WatcherKind};
