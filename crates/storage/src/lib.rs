//! Ostler's durable bytes: a segmented write-ahead log, snapshot files, and the guard of the directories they lie
//! in. Raft and the tree are the owner's business; storage knows entries by term and index and snapshots as
//! streams of bytes.
//!
//! * [`DataDir`] takes the directories, and [`DataDir::recover`] finds out what is durable: the newest good
//!   snapshot and the log that goes on from it.
//! * [`Log`] appends batches, with one write and at most one sync for all that have come together.
//! * [`SnapshotStore`] writes and reads snapshots.
//! * [`check()`] looks at everything without changing it.
//! * [`Disk`] is what all of them stand on: [`RealDisk`], or [`SimDisk`], which loses power, fills up and fails.
//!
//! What holds, whatever fails: what was acknowledged is there at the next start, or the start is refused with file,
//! offset and remedy. An interrupted last write is removed; nothing else ever is. After a failed sync nothing more
//! is written. `docs/log-and-snapshot.md` describes every byte.
//!
//! ```
//! use std::path::Path;
//! use std::sync::Arc;
//! use ostler_storage::{Batch, DataDir, Entry, ExpectIdentity, HardState, Identity, LogOptions, SimDisk};
//!
//! let disk = Arc::new(SimDisk::new(1));
//! let me = ExpectIdentity::OrCreate(Identity { cluster_id: 1, node_id: 2 });
//! let options = LogOptions::with_segment_bytes(64 << 10);
//! {
//!     let data_dir = DataDir::open(disk.clone(), Path::new("/data"), Path::new("/log"))?;
//!     let mut data = data_dir.recover(me, options)?;
//!     data.log.append(&[Batch {
//!         entries: vec![Entry { term: 1, index: 1, kind: 0, data: "hello".into() }],
//!         hard_state: Some(HardState { term: 1, vote: 2, commit: 1 }),
//!         must_sync: true,
//!         ..Batch::default()
//!     }])?;
//! }
//! disk.power_cut(42);
//! let data_dir = DataDir::open(disk, Path::new("/data"), Path::new("/log"))?;
//! let data = data_dir.recover(me, options)?;
//! assert_eq!(data.recovered.entries[0].data, "hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod bytes_at;
mod check;
mod data_dir;
mod disk;
mod error;
mod identity;
mod log;
mod sim_disk;
mod snapshot;

pub use check::{LogReport, Report, SegmentReport, SnapshotReport, check};
pub use data_dir::{DataDir, DataDirError, RecoverError, RecoveredData, SUBDIRECTORY};
pub use disk::{Disk, DiskFile, DiskLock, LockError, OpenMode, RealDisk};
pub use error::{AppendError, Damage, DiskError, OpenError};
pub use identity::{ExpectIdentity, Identity};
pub use log::{
    Batch, Entry, HardState, Log, LogOptions, LogStart, MAX_ENTRY_BYTES, Recovered, Space, SpareMaker,
    TornTail,
};
pub use sim_disk::{Fault, SimDisk};
pub use snapshot::{
    IncomingSnapshot, Newest, Origin, SnapshotError, SnapshotFile, SnapshotInfo, SnapshotMeta,
    SnapshotReader, SnapshotStore, SnapshotTicket, SnapshotWriter,
};
