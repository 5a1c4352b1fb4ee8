//! Ostler's durable bytes.

mod bytes_at;
mod check;
mod data_dir;
pub mod disk;
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
    Newest, Origin, SnapshotError, SnapshotInfo, SnapshotMeta, SnapshotReader, SnapshotStore, SnapshotWriter,
};
