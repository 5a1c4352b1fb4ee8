//! ZooKeeper's serialisation, "jute": big-endian integers, length-prefixed strings, buffers and vectors
//! (protocol, "Framing and jute primitives").

use std::borrow::Cow;

/// Bounds on what a decoder accepts inside a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest string or buffer in bytes. ZooKeeper: `jute.maxbuffer` + `zookeeper.jute.maxbuffer.extrasize`.
    pub max_field_bytes: usize,
}

impl Default for Limits {
    /// ZooKeeper's defaults: 1,048,575 + 1,048,575 bytes.
    fn default() -> Self {
        Limits { max_field_bytes: 2 * 0xf_ffff }
    }
}

/// Why bytes are not the record they should be. A server answers a request body with `MARSHALLINGERROR` and
/// closes the connection for anything before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The frame ends inside a field.
    #[error("frame ends inside a field: {missing} more bytes needed")]
    Truncated {
        /// How many bytes that field lacks.
        missing: usize,
    },
    /// A string or buffer length below -1 or above the limit.
    #[error("unreasonable field length {0}")]
    FieldLength(i32),
    /// A path or other string that must be there is null.
    #[error("a string that must be present is null")]
    NullString,
    /// A vector that must be there is null.
    #[error("a vector that must be present is null")]
    NullVector,
    /// A field has a value outside its list.
    #[error("{field} has no meaning for value {value}")]
    UnknownValue {
        /// Which field.
        field: &'static str,
        /// What it holds.
        value: i32,
    },
    /// An operation that may not be part of a multi, or a read in a multi, or a write in a multiRead.
    #[error("operation type {0} is not allowed here")]
    OperationNotAllowed(i32),
    /// The flags of a create inside a multi name no mode, or one that needs a time to live.
    #[error("create flags {0} are not allowed here")]
    CreateFlags(i32),
}

/// Result of decoding.
pub type Result<T, E = DecodeError> = std::result::Result<T, E>;

/// Reads primitives from the front of a byte slice.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    limits: Limits,
}

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`.
    pub fn new(bytes: &'a [u8], limits: Limits) -> Self {
        Reader { rest: bytes, limits }
    }

    /// What has not been read yet. Whatever a record leaves is ignored by ZooKeeper on both sides.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        match self.rest.split_at_checked(len) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(DecodeError::Truncated { missing: len - self.rest.len() }),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        match self.rest.split_first_chunk() {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(*taken)
            }
            None => Err(DecodeError::Truncated { missing: N - self.rest.len() }),
        }
    }

    /// A boolean: any byte but 0 is true.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`]
    pub fn boolean(&mut self) -> Result<bool> {
        self.array().map(|[byte]| byte != 0)
    }

    /// A 32-bit integer.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`]
    pub fn int(&mut self) -> Result<i32> {
        self.array().map(i32::from_be_bytes)
    }

    /// A 64-bit integer.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`]
    pub fn long(&mut self) -> Result<i64> {
        self.array().map(i64::from_be_bytes)
    }

    /// A buffer, or null.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] or [`DecodeError::FieldLength`]
    pub fn buffer(&mut self) -> Result<Option<&'a [u8]>> {
        let len = self.int()?;
        if len == -1 {
            return Ok(None);
        }
        match usize::try_from(len) {
            Ok(len) if len <= self.limits.max_field_bytes => self.take(len).map(Some),
            _ => Err(DecodeError::FieldLength(len)),
        }
    }

    /// A string, or null. Invalid UTF-8 reads as U+FFFD, exactly as the Java server reads it.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] or [`DecodeError::FieldLength`]
    pub fn nullable_string(&mut self) -> Result<Option<Cow<'a, str>>> {
        Ok(self.buffer()?.map(decode_utf8))
    }

    /// A string that has to be there.
    ///
    /// # Errors
    /// As [`nullable_string`](Self::nullable_string), and [`DecodeError::NullString`].
    pub fn string(&mut self) -> Result<Cow<'a, str>> {
        self.nullable_string()?.ok_or(DecodeError::NullString)
    }

    /// A vector, or null. A count below -1 is an empty vector, as in Java; the count is never used to allocate.
    ///
    /// # Errors
    /// The first error of `element`.
    pub fn nullable_vector<T>(
        &mut self,
        mut element: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Option<Vec<T>>> {
        let count = self.int()?;
        if count == -1 {
            return Ok(None);
        }
        // Every element takes at least a byte, so the frame's own length bounds the loop.
        let mut elements = Vec::new();
        for _ in 0..count {
            elements.push(element(self)?);
        }
        Ok(Some(elements))
    }

    /// A vector that has to be there.
    ///
    /// # Errors
    /// As [`nullable_vector`](Self::nullable_vector), and [`DecodeError::NullVector`].
    pub fn vector<T>(&mut self, element: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        self.nullable_vector(element)?.ok_or(DecodeError::NullVector)
    }
}

/// Decodes as Java does. Rust's own lossy decoding differs in one case: an encoded surrogate (`ED A0..BF xx`,
/// which Java's *writer* produces for characters beyond U+FFFF), cut short or not, is one U+FFFD to Java and up
/// to three to Rust.
fn decode_utf8(bytes: &[u8]) -> Cow<'_, str> {
    let mut rest = bytes;
    let mut text = String::new();
    loop {
        let error = match std::str::from_utf8(rest) {
            Ok(valid) if text.is_empty() && rest.len() == bytes.len() => return Cow::Borrowed(valid),
            Ok(valid) => {
                text.push_str(valid);
                return Cow::Owned(text);
            }
            Err(error) => error,
        };
        let (valid, invalid) = rest.split_at(error.valid_up_to());
        text.push_str(&String::from_utf8_lossy(valid));
        text.push(char::REPLACEMENT_CHARACTER);
        let skipped = match invalid {
            [0xed, 0xa0..=0xbf, 0x80..=0xbf, ..] => 3,
            [0xed, 0xa0..=0xbf, ..] => 2,
            _ => error.error_len().unwrap_or(invalid.len()),
        };
        rest = &invalid[skipped..];
    }
}

/// Appends primitives to a byte vector.
///
/// Lengths are 32-bit on the wire. What is written here comes from memory that was read from frames and files
/// of at most 2^31-1 bytes, so a longer field is a bug of the caller and panics.
#[derive(Debug)]
pub struct Writer<'o> {
    out: &'o mut Vec<u8>,
}

impl<'o> Writer<'o> {
    /// A writer that appends to `out`.
    pub fn new(out: &'o mut Vec<u8>) -> Self {
        Writer { out }
    }

    /// A boolean.
    pub fn boolean(&mut self, value: bool) {
        self.out.push(u8::from(value));
    }

    /// A 32-bit integer.
    pub fn int(&mut self, value: i32) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    /// A 64-bit integer.
    pub fn long(&mut self, value: i64) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    /// A buffer, or null.
    pub fn nullable_buffer(&mut self, value: Option<&[u8]>) {
        match value {
            Some(value) => self.buffer(value),
            None => self.int(-1),
        }
    }

    /// A buffer.
    pub fn buffer(&mut self, value: &[u8]) {
        self.int(i32::try_from(value.len()).expect("a jute field holds at most 2^31-1 bytes"));
        self.out.extend_from_slice(value);
    }

    /// A string, as UTF-8.
    pub fn string(&mut self, value: &str) {
        self.buffer(value.as_bytes());
    }

    /// A string, or null.
    pub fn nullable_string(&mut self, value: Option<&str>) {
        self.nullable_buffer(value.map(str::as_bytes));
    }

    /// A vector; `element` writes each of `items`. The count is filled in at the end.
    pub fn vector<T>(
        &mut self,
        items: impl IntoIterator<Item = T>,
        mut element: impl FnMut(&mut Writer<'_>, T),
    ) {
        let count_at = self.out.len();
        self.int(0);
        let mut count = 0i32;
        for item in items {
            element(self, item);
            count = count.checked_add(1).expect("a jute vector holds at most 2^31-1 elements");
        }
        self.out[count_at..count_at + 4].copy_from_slice(&count.to_be_bytes());
    }

    /// A null vector.
    pub fn null_vector(&mut self) {
        self.int(-1);
    }

    pub(crate) fn len(&self) -> usize {
        self.out.len()
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(bytes: &[u8]) -> Reader<'_> {
        Reader::new(bytes, Limits::default())
    }

    #[test]
    fn null_and_empty_are_different() {
        assert_eq!(reader(&[0xff; 4]).buffer(), Ok(None));
        assert_eq!(reader(&[0; 4]).buffer(), Ok(Some(&b""[..])));
        assert_eq!(reader(&[0xff; 4]).nullable_vector(Reader::int), Ok(None));
        assert_eq!(reader(&[0; 4]).nullable_vector(Reader::int), Ok(Some(vec![])));
        assert_eq!(reader(&[0xff; 4]).string(), Err(DecodeError::NullString));
        assert_eq!(reader(&[0xff; 4]).vector(Reader::int), Err(DecodeError::NullVector));
    }

    #[test]
    fn lengths_are_checked_before_they_are_used() {
        assert_eq!(reader(&(-2i32).to_be_bytes()).buffer(), Err(DecodeError::FieldLength(-2)));
        assert_eq!(reader(&i32::MAX.to_be_bytes()).buffer(), Err(DecodeError::FieldLength(i32::MAX)));
        assert_eq!(reader(&5i32.to_be_bytes()).buffer(), Err(DecodeError::Truncated { missing: 5 }));
        let limits = Limits { max_field_bytes: 3 };
        assert_eq!(Reader::new(b"\0\0\0\x03abc", limits).string(), Ok(Cow::Borrowed("abc")));
        assert_eq!(Reader::new(b"\0\0\0\x04abcd", limits).string(), Err(DecodeError::FieldLength(4)));
    }

    #[test]
    fn a_vector_count_beyond_the_frame_ends_at_the_frame() {
        let bytes = [&i32::MAX.to_be_bytes()[..], &[0; 12]].concat();
        assert_eq!(reader(&bytes).vector(Reader::int), Err(DecodeError::Truncated { missing: 4 }));
        assert_eq!(reader(&(-7i32).to_be_bytes()).vector(Reader::int), Ok(vec![]));
    }

    #[test]
    fn any_non_zero_byte_is_true() {
        assert_eq!(reader(&[0x80]).boolean(), Ok(true));
        assert_eq!(reader(&[0]).boolean(), Ok(false));
    }

    /// Expectations printed by `new String(bytes, UTF_8)` on OpenJDK 17.
    #[test]
    fn invalid_utf8_reads_as_java_reads_it() {
        for (bytes, expected) in [
            (&b"plain"[..], "plain"),
            (b"gr\xc3\xbcn", "gr\u{fc}n"),
            (b"\xf0\x9f\x98\x80", "\u{1f600}"),
            (b"a\xffb", "a\u{fffd}b"),
            (b"\xed\xa0\xbd\xed\xb8\x80", "\u{fffd}\u{fffd}"),
            (b"a\xed\xa0\x80b", "a\u{fffd}b"),
            (b"a\xed\xa0", "a\u{fffd}"),
            (b"a\xed", "a\u{fffd}"),
            (b"\xed\xa0b", "\u{fffd}b"),
            (b"\xe2\x82", "\u{fffd}"),
            (b"\xe2\x82x", "\u{fffd}x"),
            (b"\xc0\x80", "\u{fffd}\u{fffd}"),
            (b"\xf4\x90\x80\x80", "\u{fffd}\u{fffd}\u{fffd}\u{fffd}"),
            (b"\xf0\x9f\x98", "\u{fffd}"),
            (b"\xf0\x9f\x98x", "\u{fffd}x"),
            (b"\xe0\x80\x80", "\u{fffd}\u{fffd}\u{fffd}"),
        ] {
            assert_eq!(decode_utf8(bytes), expected, "{bytes:x?}");
        }
        assert!(matches!(decode_utf8(b"borrowed"), Cow::Borrowed(_)));
    }
}
