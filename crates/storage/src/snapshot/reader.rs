//! Reading a snapshot back, block by block, believing nothing.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;
use zstd::bulk::Decompressor;

use super::format::{self, BLOCK_HEADER, Bad, FOOTER, Footer, HEADER_FIXED, SnapshotMeta};
use super::{SnapshotError, SnapshotInfo};
use crate::disk::{Disk, DiskFile, OpenMode, read_full};
use crate::error::{Damage, IoContext};

/// Streams a snapshot's records in bounded memory (two blocks). As [`Read`] it fails with
/// [`io::ErrorKind::InvalidData`] and a [`SnapshotError`] inside where the file is damaged, and reports the end
/// only after the whole file has proved to be what was written.
pub struct SnapshotReader {
    file: Box<dyn DiskFile>,
    path: PathBuf,
    meta: SnapshotMeta,
    footer: Footer,
    file_len: u64,
    offset: u64,
    hash: Xxh3,
    /// The hash of the same blocks after another header.
    other_hash: Option<Xxh3>,
    blocks: u64,
    raw_bytes: u64,
    stored: Vec<u8>,
    decompressor: Decompressor<'static>,
    /// The block being read, and how much of it was.
    block: Vec<u8>,
    consumed: usize,
    ended: bool,
}

impl SnapshotReader {
    /// Opens a file and reads its header and footer.
    ///
    /// # Errors
    /// The file cannot be read, or is no snapshot of a version known here.
    pub fn open(disk: &dyn Disk, path: &Path) -> Result<SnapshotReader, SnapshotError> {
        let file = disk.open(path, OpenMode::Read).on("open", path)?;
        let file_len = file.len().on("examine", path)?;
        let bad = |offset, bad| match bad {
            Bad::Damaged(found) => SnapshotError::from(Damage::new(path, offset, found)),
            Bad::Newer(version) => SnapshotError::Newer { file: path.to_owned(), version },
        };
        let mut fixed = [0; HEADER_FIXED];
        read_full(&*file, &mut fixed, 0).on("read", path)?;
        let header_len = format::header_len(&fixed).map_err(|b| bad(0, b))?;
        let mut header = vec![0; header_len];
        read_full(&*file, &mut header, 0).on("read", path)?;
        let meta = format::decode_header(&header).map_err(|b| bad(0, b))?;
        let footer_at = file_len.saturating_sub(FOOTER as u64).max(header_len as u64);
        let mut footer = [0; FOOTER];
        read_full(&*file, &mut footer, footer_at).on("read", path)?;
        let footer = Footer::decode(&footer).map_err(|b| bad(footer_at, b))?;
        let mut hash = Xxh3::new();
        hash.update(&header);
        Ok(SnapshotReader {
            file,
            path: path.to_owned(),
            meta,
            footer,
            file_len,
            offset: header_len as u64,
            hash,
            other_hash: None,
            blocks: 0,
            raw_bytes: 0,
            stored: Vec::new(),
            decompressor: Decompressor::new().on("decompress", path)?,
            block: Vec::new(),
            consumed: 0,
            ended: false,
        })
    }

    /// What the snapshot is of.
    pub fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }

    /// What the file says about itself.
    pub fn info(&self) -> SnapshotInfo {
        SnapshotInfo {
            path: self.path.clone(),
            meta: self.meta.clone(),
            records: self.footer.records,
            digest: self.footer.digest,
            raw_bytes: self.footer.raw_bytes,
            file_bytes: self.file_len,
        }
    }

    /// The next piece of the stream, empty at its end.
    ///
    /// # Errors
    /// A disk that cannot be read, or the first byte that is not what was written.
    pub fn next_block(&mut self) -> Result<&[u8], SnapshotError> {
        if self.consumed < self.block.len() {
            let from = std::mem::replace(&mut self.consumed, self.block.len());
            return Ok(&self.block[from..]);
        }
        self.block.clear();
        self.consumed = 0;
        if let Some(raw_len) = self.next_stored()? {
            let at = self.offset - self.stored.len() as u64;
            self.block.reserve(raw_len);
            match self.decompressor.decompress_to_buffer(&self.stored, &mut self.block) {
                Ok(n) if n == raw_len => {}
                _ => return Err(Damage::new(&self.path, at, "the block cannot be decompressed").into()),
            }
            self.consumed = raw_len;
        }
        Ok(&self.block)
    }

    /// Reads and checks the rest of the file without looking into the blocks.
    ///
    /// # Errors
    /// As [`SnapshotReader::next_block`].
    pub fn verify(mut self) -> Result<SnapshotInfo, SnapshotError> {
        while self.next_stored()?.is_some() {}
        Ok(self.info())
    }

    /// The open file, to be read as it is.
    pub(super) fn into_file(self) -> Box<dyn DiskFile> {
        self.file
    }

    /// From here on also finds out what [`SnapshotReader::footer_with_header`] needs. Nothing is read yet.
    pub(super) fn hash_with_header(&mut self, header: &[u8]) {
        let mut hash = Xxh3::new();
        hash.update(header);
        self.other_hash = Some(hash);
    }

    /// The footer that the file has with the header given before. All of it has been read.
    pub(super) fn footer_with_header(self) -> Footer {
        assert!(self.ended, "the hash covers the whole file");
        let mut hash = self.other_hash.expect("it was asked for before");
        hash.update(&self.footer.encode_hashed());
        Footer { file_hash: hash.digest(), ..self.footer }
    }

    /// Reads one block into `stored` and returns its uncompressed length; `None` after the last one, when the
    /// whole file has been found good.
    fn next_stored(&mut self) -> Result<Option<usize>, SnapshotError> {
        if self.ended {
            return Ok(None);
        }
        let at = self.offset;
        let damaged = |found| SnapshotError::from(Damage::new(&self.path, at, found));
        let mut header = [0; BLOCK_HEADER];
        read_full(&*self.file, &mut header, at).on("read", &self.path)?;
        let Some(block) = format::decode_block_header(&header).map_err(|b| match b {
            Bad::Damaged(found) => damaged(found),
            Bad::Newer(version) => SnapshotError::Newer { file: self.path.clone(), version },
        })?
        else {
            return self.end().map(|()| None);
        };
        self.stored.resize(block.stored_len, 0);
        let read =
            read_full(&*self.file, &mut self.stored, at + BLOCK_HEADER as u64).on("read", &self.path)?;
        if read < block.stored_len {
            return Err(damaged("the file ends in the middle of a block"));
        }
        if !block.matches(self.blocks, &header, &self.stored) {
            return Err(damaged("the block does not match its checksum"));
        }
        for hash in std::iter::once(&mut self.hash).chain(&mut self.other_hash) {
            hash.update(&header);
            hash.update(&self.stored);
        }
        self.offset += (BLOCK_HEADER + block.stored_len) as u64;
        self.blocks += 1;
        self.raw_bytes += block.raw_len as u64;
        Ok(Some(block.raw_len))
    }

    /// At the footer: does everything add up?
    fn end(&mut self) -> Result<(), SnapshotError> {
        let footer = self.footer;
        self.hash.update(&footer.encode_hashed());
        let found = if self.offset + FOOTER as u64 != self.file_len {
            "there is something between the last block and the footer"
        } else if (footer.blocks, footer.raw_bytes) != (self.blocks, self.raw_bytes) {
            "the blocks are not as many as the footer says"
        } else if footer.file_hash != self.hash.digest() {
            "the file does not match its hash"
        } else {
            self.ended = true;
            return Ok(());
        };
        Err(Damage::new(&self.path, self.offset, found).into())
    }
}

impl Read for SnapshotReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        if self.consumed == self.block.len() {
            self.next_block().map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
            self.consumed = 0;
        }
        let n = out.len().min(self.block.len() - self.consumed);
        out[..n].copy_from_slice(&self.block[self.consumed..self.consumed + n]);
        self.consumed += n;
        Ok(n)
    }
}
