//! Ostler's durable bytes.

pub mod disk;
mod error;
mod identity;
mod log;
mod sim_disk;

pub use disk::{Disk, DiskFile, DiskLock, LockError, OpenMode, RealDisk};
pub use error::{AppendError, Damage, DiskError, OpenError};
pub use identity::{ExpectIdentity, Identity};
pub use log::{
    Batch, Entry, HardState, Log, LogOptions, LogStart, MAX_ENTRY_BYTES, Recovered, Space, SpareMaker,
    TornTail,
};
pub use sim_disk::{Fault, SimDisk};
