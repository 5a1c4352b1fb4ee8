//! Frames: how bytes are cut into messages on a connection between servers; see `docs/peer-protocol.md`.
//!
//! ```text
//! 0  length   u32  of the payload, 1 to the connection's limit
//! 4  crc      u32  CRC-32C of the length's four bytes and the payload
//! 8  payload  length bytes
//! ```
//! Integers are little-endian.

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes before the payload.
pub(crate) const FRAME_HEADER: usize = 8;
/// The longest payload on a link, in bytes. The longest log entry is shorter.
pub const MAX_FRAME_BYTES: usize = (64 << 20) + (64 << 10);
/// Memory offered to one read. A frame longer than this grows its buffer only as its bytes arrive.
const READ_BYTES: usize = 256 << 10;
/// Payloads up to this size are copied out of the read buffer: a small one must not keep a large buffer alive.
const COPY_BYTES: usize = 32 << 10;

/// Why a connection's bytes are no frames. The connection is closed: what follows cannot be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// A length of zero or above the limit.
    #[error("a frame claims to be {length} bytes long (1 to {limit} are possible)")]
    Length {
        /// What it claims.
        length: u32,
        /// What this connection allows.
        limit: usize,
    },
    /// Bytes were changed on their way.
    #[error("a frame of {length} bytes does not match its checksum")]
    Checksum {
        /// The payload's length.
        length: usize,
    },
}

/// Why no more frames come.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("the other side closed the connection")]
    Closed,
    #[error("the connection ended in the middle of a frame")]
    Cut,
    #[error(transparent)]
    Bad(#[from] BadFrame),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// The eight bytes that go before `payload`.
///
/// # Panics
/// If the payload is empty or longer than [`MAX_FRAME_BYTES`].
pub(crate) fn frame_header(payload: &[u8]) -> [u8; FRAME_HEADER] {
    assert!((1..=MAX_FRAME_BYTES).contains(&payload.len()), "{} bytes are no frame", payload.len());
    let length = (payload.len() as u32).to_le_bytes();
    let crc = crc32c::crc32c_append(crc32c::crc32c(&length), payload).to_le_bytes();
    let mut header = [0; FRAME_HEADER];
    header[..4].copy_from_slice(&length);
    header[4..].copy_from_slice(&crc);
    header
}

/// Finds frames in the bytes of one connection, in bounded memory: two reads beyond the longest frame.
pub(crate) struct FrameReader {
    buffer: BytesMut,
    limit: usize,
}

impl FrameReader {
    /// `limit` is the longest payload accepted, in bytes.
    pub(crate) fn new(limit: usize) -> FrameReader {
        FrameReader { buffer: BytesMut::new(), limit }
    }

    /// From now on `limit` is the longest payload accepted.
    pub(crate) fn limit_to(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Waits for bytes and takes in what is there.
    pub(crate) async fn fill(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> Result<(), ReadError> {
        self.buffer.reserve(READ_BYTES);
        match stream.read_buf(&mut self.buffer).await? {
            0 if self.buffer.is_empty() => Err(ReadError::Closed),
            0 => Err(ReadError::Cut),
            _ => Ok(()),
        }
    }

    /// The next frame's payload, `None` if it has not arrived completely.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, BadFrame> {
        let Some((header, rest)) = self.buffer.split_first_chunk::<FRAME_HEADER>() else { return Ok(None) };
        let [a, b, c, d, crc @ ..] = *header;
        let claimed = u32::from_le_bytes([a, b, c, d]);
        let length = claimed as usize;
        if !(1..=self.limit).contains(&length) {
            return Err(BadFrame::Length { length: claimed, limit: self.limit });
        }
        let Some(payload) = rest.get(..length) else { return Ok(None) };
        if crc32c::crc32c_append(crc32c::crc32c(&header[..4]), payload) != u32::from_le_bytes(crc) {
            return Err(BadFrame::Checksum { length });
        }
        if length <= COPY_BYTES {
            let payload = Bytes::copy_from_slice(payload);
            self.buffer.advance(FRAME_HEADER + length);
            return Ok(Some(payload));
        }
        self.buffer.advance(FRAME_HEADER);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    /// Waits for one frame.
    pub(crate) async fn read(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> Result<Bytes, ReadError> {
        loop {
            if let Some(payload) = self.next()? {
                return Ok(payload);
            }
            self.fill(stream).await?;
        }
    }

    /// Skips `expected`; `Ok(false)` if not all of it has arrived, and an error as soon as something else has.
    pub(crate) fn skip(&mut self, expected: &[u8]) -> Result<bool, ()> {
        let n = self.buffer.len().min(expected.len());
        if self.buffer[..n] != expected[..n] {
            return Err(());
        }
        if n == expected.len() {
            self.buffer.advance(n);
        }
        Ok(n == expected.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn framed(payload: &[u8]) -> Vec<u8> {
        [&frame_header(payload)[..], payload].concat()
    }

    /// All frames of `bytes`, given to a reader in pieces of `step`.
    fn read_all(bytes: &[u8], step: usize, limit: usize) -> Result<Vec<Bytes>, BadFrame> {
        let mut reader = FrameReader::new(limit);
        let mut frames = Vec::new();
        for piece in bytes.chunks(step) {
            reader.buffer.extend_from_slice(piece);
            while let Some(frame) = reader.next()? {
                frames.push(frame);
            }
        }
        Ok(frames)
    }

    #[test]
    fn the_bytes_of_version_1() {
        // The check value of CRC-32C is that of "123456789": e3069283.
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(framed(b"ostler"), *b"\x06\0\0\0\xba\x71\xdb\xf6ostler");
    }

    #[test]
    fn lengths_out_of_range_are_refused_before_anything_is_allocated() {
        for claimed in [0, 11, u32::MAX] {
            let bytes = [claimed.to_le_bytes(), [0; 4]].concat();
            assert_eq!(read_all(&bytes, 8, 10), Err(BadFrame::Length { length: claimed, limit: 10 }));
        }
    }

    proptest! {
        #[test]
        fn frames_read_back_however_they_are_cut(
            lengths in prop::collection::vec(1..60_000usize, 1..5), seed: u8, step in 1..100_000usize,
        ) {
            let payload = |(n, length): (usize, &usize)| vec![seed.wrapping_add(n as u8); *length];
            let payloads: Vec<_> = lengths.iter().enumerate().map(payload).collect();
            let bytes = payloads.iter().flat_map(|p| framed(p)).collect::<Vec<_>>();
            let step = step.max(bytes.len() / 1000 + 1);
            prop_assert_eq!(read_all(&bytes, step, 60_000).unwrap(), payloads);
        }

        #[test]
        fn one_changed_bit_is_always_noticed(
            payload in prop::collection::vec(any::<u8>(), 1..500), at in any::<prop::sample::Index>(), bit in 0..8u32,
        ) {
            let mut bytes = framed(&payload);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            // A longer length waits for bytes that never come.
            prop_assert!(read_all(&bytes, 64, 1000).is_ok_and(|frames| frames.is_empty() && at < 4)
                || read_all(&bytes, 64, 1000).is_err());
        }

        #[test]
        fn hostile_bytes_never_panic_and_never_grow_the_buffer(
            bytes in prop::collection::vec(any::<u8>(), 0..400), step in 1..50usize,
        ) {
            let mut reader = FrameReader::new(MAX_FRAME_BYTES);
            for piece in bytes.chunks(step) {
                reader.buffer.extend_from_slice(piece);
                if reader.next().is_err() {
                    break;
                }
                prop_assert!(reader.buffer.capacity() <= 4 * 400);
            }
        }
    }
}
