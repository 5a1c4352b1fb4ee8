//! The bytes of a snapshot file; see `docs/log-and-snapshot.md`.
//!
//! ```text
//! header   0  magic "OSTLRSNP"
//!          8  version      u32  1
//!         12  header_len   u32  all of the header, its checksum included
//!         16  cluster_id   u64
//!         24  node_id      u64  of the disk this file was written on
//!         32  index        u64
//!         40  term         u64
//!         48  zxid         i64
//!         56  created_ms   u64  Unix time
//!         64  origin       u32  1 local, 2 received
//!         68  conf_len     u32
//!         72  conf_state   conf_len bytes
//!             header_crc   u32  CRC-32C of everything before
//! block    0  magic "OBLK"
//!          4  raw_len      u32  1 to 1 MiB
//!          8  stored_len   u32
//!         12  block_crc    u32  CRC-32C of the block's number (u64, from 0), bytes 0..12 and the stored bytes
//!         16  stored bytes: a zstd frame
//! footer   0  magic "OSTLREND"
//!          8  records      u64
//!         16  raw_bytes    u64  before compression
//!         24  blocks       u64
//!         32  digest       u128
//!         48  file_hash    u64  XXH3-64 of all bytes of the file before this field
//!         56  zero         u32
//!         60  footer_crc   u32  CRC-32C of bytes 0..60 of the footer
//! ```
//! Integers are little-endian. The footer is the end of the file.

use crate::Identity;
use crate::bytes_at::{u32_at, u64_at};

pub(crate) const BLOCK_BYTES: usize = 1 << 20;
pub(crate) const HEADER_FIXED: usize = 72;
pub(crate) const BLOCK_HEADER: usize = 16;
pub(crate) const FOOTER: usize = 64;
/// More members than any ensemble has; a header claiming more is damage, never an allocation.
pub(crate) const MAX_CONF_STATE: usize = 1 << 20;
const MAGIC: &[u8; 8] = b"OSTLRSNP";
const VERSION: u32 = 1;
const BLOCK_MAGIC: &[u8; 4] = b"OBLK";
const FOOTER_MAGIC: &[u8; 8] = b"OSTLREND";

/// Where a snapshot's state comes from. It decides what a log that ends before the snapshot means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Made from entries of this disk's own log, which therefore reaches at least to the snapshot.
    Local,
    /// Made from a snapshot that another server sent; the log may still end before it or disagree with it.
    Received,
}

/// What a snapshot is of.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct SnapshotMeta {
    /// The disk it is written on.
    pub identity: Identity,
    /// The last log entry it contains.
    pub index: u64,
    /// That entry's term.
    pub term: u64,
    /// The last zxid it contains.
    pub zxid: i64,
    /// Raft's membership at `index`, in the owner's encoding; at most 1 MiB.
    pub conf_state: Vec<u8>,
    /// When it was begun, in milliseconds since 1970.
    pub created_ms: u64,
    /// Made here or received.
    pub origin: Origin,
}

/// The end of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) records: u64,
    pub(crate) raw_bytes: u64,
    pub(crate) blocks: u64,
    pub(crate) digest: u128,
    pub(crate) file_hash: u64,
}

/// The start of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockHeader {
    pub(crate) raw_len: usize,
    pub(crate) stored_len: usize,
    crc: u32,
}

/// Why bytes are not what they should be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Bad {
    Damaged(&'static str),
    Newer(u32),
}

pub(crate) fn encode_header(meta: &SnapshotMeta) -> Vec<u8> {
    let len = HEADER_FIXED + meta.conf_state.len() + 4;
    let mut out = Vec::with_capacity(len);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&(len as u32).to_le_bytes());
    for word in [meta.identity.cluster_id, meta.identity.node_id, meta.index, meta.term] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(&meta.zxid.to_le_bytes());
    out.extend_from_slice(&meta.created_ms.to_le_bytes());
    let origin: u32 = match meta.origin {
        Origin::Local => 1,
        Origin::Received => 2,
    };
    out.extend_from_slice(&origin.to_le_bytes());
    out.extend_from_slice(&(meta.conf_state.len() as u32).to_le_bytes());
    out.extend_from_slice(&meta.conf_state);
    let crc = crc32c::crc32c(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

/// How long the header is, from its first [`HEADER_FIXED`] bytes.
pub(crate) fn header_len(fixed: &[u8; HEADER_FIXED]) -> Result<usize, Bad> {
    if &fixed[..8] != MAGIC {
        return Err(Bad::Damaged("this is not an Ostler snapshot"));
    }
    let version = u32_at(fixed, 8);
    if version != VERSION {
        return Err(Bad::Newer(version));
    }
    let (len, conf) = (u32_at(fixed, 12) as usize, u32_at(fixed, 68) as usize);
    if conf > MAX_CONF_STATE || len != HEADER_FIXED + conf + 4 {
        return Err(Bad::Damaged("the header's length makes no sense"));
    }
    Ok(len)
}

/// Decodes a header of the length that [`header_len`] gave.
pub(crate) fn decode_header(bytes: &[u8]) -> Result<SnapshotMeta, Bad> {
    let (content, crc) = bytes.split_at(bytes.len() - 4);
    if crc != crc32c::crc32c(content).to_le_bytes() {
        return Err(Bad::Damaged("the header does not match its checksum"));
    }
    Ok(SnapshotMeta {
        identity: Identity { cluster_id: u64_at(content, 16), node_id: u64_at(content, 24) },
        index: u64_at(content, 32),
        term: u64_at(content, 40),
        zxid: u64_at(content, 48).cast_signed(),
        created_ms: u64_at(content, 56),
        origin: match u32_at(content, 64) {
            1 => Origin::Local,
            2 => Origin::Received,
            _ => return Err(Bad::Damaged("the header names an unknown origin")),
        },
        conf_state: content[HEADER_FIXED..].to_vec(),
    })
}

pub(crate) fn encode_block_header(number: u64, raw_len: usize, stored: &[u8]) -> [u8; BLOCK_HEADER] {
    let mut out = [0; BLOCK_HEADER];
    out[..4].copy_from_slice(BLOCK_MAGIC);
    out[4..8].copy_from_slice(&(raw_len as u32).to_le_bytes());
    out[8..12].copy_from_slice(&(stored.len() as u32).to_le_bytes());
    let crc = block_crc(number, &out[..12], stored);
    out[12..].copy_from_slice(&crc.to_le_bytes());
    out
}

/// Decodes a block's header; `None` if this is where the footer begins.
pub(crate) fn decode_block_header(bytes: &[u8; BLOCK_HEADER]) -> Result<Option<BlockHeader>, Bad> {
    if bytes[..8] == FOOTER_MAGIC[..] {
        return Ok(None);
    }
    let header = BlockHeader {
        raw_len: u32_at(bytes, 4) as usize,
        stored_len: u32_at(bytes, 8) as usize,
        crc: u32_at(bytes, 12),
    };
    let sizes_ok = (1..=BLOCK_BYTES).contains(&header.raw_len)
        && (1..=zstd::zstd_safe::compress_bound(BLOCK_BYTES)).contains(&header.stored_len);
    if &bytes[..4] != BLOCK_MAGIC || !sizes_ok {
        return Err(Bad::Damaged("there is neither a block nor the footer"));
    }
    Ok(Some(header))
}

impl BlockHeader {
    /// True if the header and the stored bytes are what was written as block `number`.
    pub(crate) fn matches(&self, number: u64, header: &[u8; BLOCK_HEADER], stored: &[u8]) -> bool {
        self.crc == block_crc(number, &header[..12], stored)
    }
}

fn block_crc(number: u64, header: &[u8], stored: &[u8]) -> u32 {
    let crc = crc32c::crc32c_append(crc32c::crc32c(&number.to_le_bytes()), header);
    crc32c::crc32c_append(crc, stored)
}

impl Footer {
    /// The bytes that `file_hash` still covers.
    pub(crate) fn encode_hashed(&self) -> [u8; 48] {
        let mut out = [0; 48];
        out[..8].copy_from_slice(FOOTER_MAGIC);
        out[8..16].copy_from_slice(&self.records.to_le_bytes());
        out[16..24].copy_from_slice(&self.raw_bytes.to_le_bytes());
        out[24..32].copy_from_slice(&self.blocks.to_le_bytes());
        out[32..48].copy_from_slice(&self.digest.to_le_bytes());
        out
    }

    pub(crate) fn encode(&self) -> [u8; FOOTER] {
        let mut out = [0; FOOTER];
        out[..48].copy_from_slice(&self.encode_hashed());
        out[48..56].copy_from_slice(&self.file_hash.to_le_bytes());
        let crc = crc32c::crc32c(&out[..60]);
        out[60..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8; FOOTER]) -> Result<Footer, Bad> {
        if bytes[..8] != FOOTER_MAGIC[..] {
            return Err(Bad::Damaged("the file does not end with a snapshot's footer"));
        }
        if u32_at(bytes, 60) != crc32c::crc32c(&bytes[..60]) {
            return Err(Bad::Damaged("the footer does not match its checksum"));
        }
        Ok(Footer {
            records: u64_at(bytes, 8),
            raw_bytes: u64_at(bytes, 16),
            blocks: u64_at(bytes, 24),
            digest: u128::from(u64_at(bytes, 32)) | u128::from(u64_at(bytes, 40)) << 64,
            file_hash: u64_at(bytes, 48),
        })
    }
}
