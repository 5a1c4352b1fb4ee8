//! Finding frames in a byte stream: a big-endian 32-bit length, then that many bytes (protocol, "Framing").

use std::ops::Range;

/// Largest frame a server accepts by default, in bytes without the length itself. ZooKeeper: `jute.maxbuffer`.
pub const DEFAULT_MAX_BUFFER: usize = 0xf_ffff;

/// Bytes of the length in front of every frame.
pub const LENGTH_BYTES: usize = 4;

/// What stands at the front of the bytes received so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scan {
    /// Not a whole frame yet; at least this many more bytes are needed. Read that much or less at a time: after
    /// the length it is a number the peer chose, though at most the limit.
    NeedMore(usize),
    /// A frame: its payload is this range, the next frame begins at the range's end.
    Frame(Range<usize>),
    /// The length is negative: the stream cannot be followed any further.
    Negative(i32),
    /// The frame is longer than the limit. Its payload of `len` bytes begins after the length and has not been
    /// looked at; a reader that wants to go on discards it.
    TooLong {
        /// Bytes of payload announced.
        len: usize,
    },
}

/// Looks for a frame of at most `max_len` bytes at the start of `available`. Nothing is copied or kept: the
/// caller owns the buffer and calls again from the end of the last frame, or with more bytes.
pub fn scan(available: &[u8], max_len: usize) -> Scan {
    let Some((length, payload)) = available.split_first_chunk::<LENGTH_BYTES>() else {
        return Scan::NeedMore(LENGTH_BYTES - available.len());
    };
    let length = i32::from_be_bytes(*length);
    match usize::try_from(length) {
        Err(_) => Scan::Negative(length),
        Ok(len) if len > max_len => Scan::TooLong { len },
        Ok(len) if len > payload.len() => Scan::NeedMore(len - payload.len()),
        Ok(len) => Scan::Frame(LENGTH_BYTES..LENGTH_BYTES + len),
    }
}

/// Appends one frame to `out`: a placeholder for the length, what `payload` writes, then the length.
pub(crate) fn write(out: &mut Vec<u8>, payload: impl FnOnce(&mut crate::jute::Writer<'_>)) {
    let start = begin(out);
    payload(&mut crate::jute::Writer::new(out));
    let len = out.len() - start - LENGTH_BYTES;
    let len = i32::try_from(len).expect("requests and events are built from fields far below 2 GiB");
    patch(out, start, len);
}

/// Appends a placeholder for the length and returns its offset.
pub(crate) fn begin(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    start
}

/// Fills in the length at `start`.
pub(crate) fn patch(out: &mut [u8], start: usize, len: i32) {
    out[start..start + LENGTH_BYTES].copy_from_slice(&len.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_one_after_the_other() {
        let stream = b"\0\0\0\x02ab\0\0\0\0\0\0\0\x01c\0\0";
        let mut at = 0;
        let mut frames = Vec::new();
        while let Scan::Frame(payload) = scan(&stream[at..], 10) {
            frames.push(&stream[at..][payload.clone()]);
            at += payload.end;
        }
        assert_eq!(frames, [&b"ab"[..], b"", b"c"]);
        assert_eq!(scan(&stream[at..], 10), Scan::NeedMore(2));
    }

    #[test]
    fn a_partial_frame_says_how_much_is_missing() {
        assert_eq!(scan(b"", 10), Scan::NeedMore(4));
        assert_eq!(scan(b"\0\0\0\x05ab", 10), Scan::NeedMore(3));
    }

    #[test]
    fn bad_lengths_are_seen_before_the_payload_arrives() {
        assert_eq!(scan(b"\xff\xff\xff\xff", 10), Scan::Negative(-1));
        assert_eq!(scan(b"\x80\0\0\0", 10), Scan::Negative(i32::MIN));
        assert_eq!(scan(b"\0\0\0\x0b", 10), Scan::TooLong { len: 11 });
        assert_eq!(scan(b"\0\0\0\x0a", 10), Scan::NeedMore(10));
    }
}
