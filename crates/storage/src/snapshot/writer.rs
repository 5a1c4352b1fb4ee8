//! Writing a snapshot: compressed blocks to a temporary file, which gets its name only when it is whole.

use std::path::PathBuf;
use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3;
use zstd::bulk::Compressor;

use super::format::{self, BLOCK_BYTES, Footer, SnapshotMeta};
use super::reader::SnapshotReader;
use super::{SnapshotError, SnapshotInfo};
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::error::{Damage, DiskError, IoContext};

/// zstd's fastest ordinary level: a snapshot is written often and read once.
const ZSTD_LEVEL: i32 = 1;
/// Synced this often, so that the last sync does not hand the disk gigabytes at once which the log's next sync
/// would have to wait behind.
pub(super) const SYNC_EVERY: u64 = 8 << 20;

/// A snapshot being written. Dropped without [`SnapshotWriter::finish`], or after an error, it leaves nothing
/// behind.
pub struct SnapshotWriter {
    disk: Arc<dyn Disk>,
    file: Box<dyn DiskFile>,
    dir: PathBuf,
    temporary: PathBuf,
    target: PathBuf,
    /// At most [`BLOCK_BYTES`], not yet compressed.
    raw: Vec<u8>,
    compressor: Compressor<'static>,
    hash: Xxh3,
    written: u64,
    synced: u64,
    raw_bytes: u64,
    blocks: u64,
    finished: bool,
}

impl SnapshotWriter {
    pub(super) fn begin(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        temporary: PathBuf,
        target: PathBuf,
        meta: &SnapshotMeta,
    ) -> Result<SnapshotWriter, DiskError> {
        let compressor = Compressor::new(ZSTD_LEVEL).on("compress", &target)?;
        let file = disk.open(&temporary, OpenMode::CreateNew).on("create", &temporary)?;
        let mut writer = SnapshotWriter {
            disk,
            file,
            dir,
            temporary,
            target,
            raw: Vec::with_capacity(BLOCK_BYTES),
            compressor,
            hash: Xxh3::new(),
            written: 0,
            synced: 0,
            raw_bytes: 0,
            blocks: 0,
            finished: false,
        };
        writer.write(&format::encode_header(meta))?;
        Ok(writer)
    }

    /// Appends to the stream. Record boundaries are the caller's business.
    ///
    /// # Errors
    /// A full or failing disk. The snapshot is lost, nothing else.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), DiskError> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK_BYTES - self.raw.len()));
            self.raw.extend_from_slice(now);
            bytes = later;
            if self.raw.len() == BLOCK_BYTES {
                self.flush_block()?;
            }
        }
        Ok(())
    }

    /// Bytes written to the file so far.
    pub fn bytes_written(&self) -> u64 {
        self.written
    }

    /// Completes the file with the caller's record count and digest, makes it durable, reads all of it again to
    /// see that it is good, and only then gives it its name.
    ///
    /// # Errors
    /// A full or failing disk, or what was read back is not what was written.
    pub fn finish(mut self, records: u64, digest: u128) -> Result<SnapshotInfo, SnapshotError> {
        self.flush_block()?;
        let mut footer =
            Footer { records, raw_bytes: self.raw_bytes, blocks: self.blocks, digest, file_hash: 0 };
        self.hash.update(&footer.encode_hashed());
        footer.file_hash = self.hash.digest();
        self.file.write_all_at(&footer.encode(), self.written).on("write", &self.temporary)?;
        self.file.sync_data().on("sync", &self.temporary)?;
        let mut reader = SnapshotReader::open(&*self.disk, &self.temporary)?;
        while !reader.next_block()?.is_empty() {}
        let mut info = reader.info();
        if info.digest != digest || info.records != records {
            return Err(
                Damage::new(&self.temporary, self.written, "it reads back as another snapshot").into()
            );
        }
        self.disk.rename(&self.temporary, &self.target).on("rename", &self.temporary)?;
        self.finished = true;
        self.disk.sync_dir(&self.dir).on("sync", &self.dir)?;
        info.path = self.target.clone();
        Ok(info)
    }

    fn flush_block(&mut self) -> Result<(), DiskError> {
        if self.raw.is_empty() {
            return Ok(());
        }
        let stored = self.compressor.compress(&self.raw).on("compress", &self.target)?;
        let header = format::encode_block_header(self.blocks, self.raw.len(), &stored);
        self.write(&[&header[..], &stored].concat())?;
        self.raw_bytes += self.raw.len() as u64;
        self.blocks += 1;
        self.raw.clear();
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), DiskError> {
        self.hash.update(bytes);
        self.file.write_all_at(bytes, self.written).on("write", &self.temporary)?;
        self.written += bytes.len() as u64;
        if self.written - self.synced >= SYNC_EVERY {
            self.file.sync_data().on("sync", &self.temporary)?;
            self.synced = self.written;
        }
        Ok(())
    }
}

impl Drop for SnapshotWriter {
    fn drop(&mut self) {
        if !self.finished {
            // What cannot be removed now is removed at the next start.
            let _ = self.disk.remove(&self.temporary);
        }
    }
}
