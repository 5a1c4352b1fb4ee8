//! Taking over a snapshot file that another server sent, and giving one away.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::format::{self, FOOTER, Origin};
use super::reader::SnapshotReader;
use super::writer::SYNC_EVERY;
use super::{SnapshotError, SnapshotInfo};
use crate::Identity;
use crate::disk::{Disk, DiskFile, OpenMode, read_full};
use crate::error::{Damage, DiskError, IoContext};

/// Which snapshot a server means, when it tells another one about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SnapshotTicket {
    /// The last log entry in it.
    pub index: u64,
    /// That entry's term.
    pub term: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// The state's digest.
    pub digest: u128,
}

impl SnapshotInfo {
    /// What another server needs to know to ask for this file.
    pub fn ticket(&self) -> SnapshotTicket {
        SnapshotTicket {
            index: self.meta.index,
            term: self.meta.term,
            file_bytes: self.file_bytes,
            digest: self.digest,
        }
    }
}

/// A finished snapshot's bytes as they are on the disk, for another server. They can be read even if the file is
/// purged meanwhile.
pub struct SnapshotFile {
    pub(super) file: Box<dyn DiskFile>,
    pub(super) info: SnapshotInfo,
}

impl SnapshotFile {
    /// What the file says about itself.
    pub fn info(&self) -> &SnapshotInfo {
        &self.info
    }

    /// Reads at `offset` until `buf` is full or the file ends; returns how many bytes were read.
    ///
    /// # Errors
    /// The disk cannot be read.
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, DiskError> {
        read_full(&*self.file, buf, offset).on("read", &self.info.path)
    }
}

/// A snapshot file that is being received. Dropped without [`IncomingSnapshot::adopt`], or after an error, it leaves
/// nothing behind.
pub struct IncomingSnapshot {
    disk: Arc<dyn Disk>,
    file: Box<dyn DiskFile>,
    dir: PathBuf,
    temporary: PathBuf,
    target: PathBuf,
    written: u64,
    synced: u64,
    finished: bool,
}

impl IncomingSnapshot {
    pub(super) fn begin(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        temporary: PathBuf,
        target: PathBuf,
    ) -> Result<IncomingSnapshot, DiskError> {
        let file = disk.open(&temporary, OpenMode::CreateNew).on("create", &temporary)?;
        Ok(IncomingSnapshot { disk, file, dir, temporary, target, written: 0, synced: 0, finished: false })
    }

    /// Appends the next bytes of the file. They are believed only by [`IncomingSnapshot::adopt`].
    ///
    /// # Errors
    /// A full or failing disk. What was received is lost, nothing else.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), DiskError> {
        self.file.write_all_at(bytes, self.written).on("write", &self.temporary)?;
        self.written += bytes.len() as u64;
        if self.written - self.synced >= SYNC_EVERY {
            self.file.sync_data().on("sync", &self.temporary)?;
            self.synced = self.written;
        }
        Ok(())
    }

    /// Bytes received so far.
    pub fn bytes_written(&self) -> u64 {
        self.written
    }

    /// Reads all of it, and only if it is the snapshot that `ticket` means, of this cluster and good from the first
    /// byte to the last, makes it a durable snapshot of this disk with the origin [`Origin::Received`]. It replaces
    /// one with the same index.
    ///
    /// # Errors
    /// A full or failing disk, damage, or another snapshot than expected; nothing is left of it.
    pub fn adopt(
        mut self,
        identity: Identity,
        ticket: &SnapshotTicket,
    ) -> Result<SnapshotInfo, SnapshotError> {
        let mut reader = SnapshotReader::open(&*self.disk, &self.temporary)?;
        let info = reader.info();
        let not_it = |found: String| SnapshotError::from(Damage::new(&self.temporary, 0, found));
        if info.ticket() != *ticket {
            return Err(not_it(format!("it is {:?} where {ticket:?} was expected", info.ticket())));
        }
        if info.meta.identity.cluster_id != identity.cluster_id {
            return Err(not_it(format!("it is of {}, and this server of {identity}", info.meta.identity)));
        }
        let mut meta = info.meta;
        meta.identity = identity;
        meta.origin = Origin::Received;
        let header = format::encode_header(&meta);
        reader.hash_with_header(&header);
        while !reader.next_block()?.is_empty() {}
        let footer = reader.footer_with_header();
        self.file.write_all_at(&header, 0).on("write", &self.temporary)?;
        let footer_at = self.written - FOOTER as u64;
        self.file.write_all_at(&footer.encode(), footer_at).on("write", &self.temporary)?;
        self.file.sync_data().on("sync", &self.temporary)?;
        let mut info = SnapshotReader::open(&*self.disk, &self.temporary)?.verify()?;
        self.disk.rename(&self.temporary, &self.target).on("rename", &self.temporary)?;
        self.finished = true;
        self.disk.sync_dir(&self.dir).on("sync", &self.dir)?;
        info.path = self.target.clone();
        Ok(info)
    }
}

impl fmt::Debug for IncomingSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IncomingSnapshot({}, {} bytes)", self.temporary.display(), self.written)
    }
}

impl Drop for IncomingSnapshot {
    fn drop(&mut self) {
        if !self.finished {
            // What cannot be removed now is removed at the next start.
            let _ = self.disk.remove(&self.temporary);
        }
    }
}
