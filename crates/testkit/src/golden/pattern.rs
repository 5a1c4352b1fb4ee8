//! Bytes with masks: what a recorded frame looks like, and whether received bytes fit it.

use std::collections::BTreeMap;
use std::fmt;

/// Length of a session password on the wire, in bytes.
const PASSWORD_LEN: usize = 16;

/// One field of a recorded frame.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Chunk {
    /// Compared byte for byte.
    Literal(Vec<u8>),
    /// A session id, bound to a name when first received.
    SessionId(String),
    /// A session password, bound to a name when first received.
    Password(String),
    /// A zxid this far from the scenario's base.
    Zxid(i64),
    /// The time of a transaction, bound when first received.
    Time(String),
    /// Elements in any order, each of them encoded with its length so that none is a prefix of another.
    Set(Vec<Vec<u8>>),
    /// One byte repeated, only ever sent.
    Fill(u8, usize),
}

impl Chunk {
    /// Number of bytes it stands for.
    pub(crate) fn len(&self) -> usize {
        match self {
            Chunk::Literal(bytes) => bytes.len(),
            Chunk::SessionId(_) | Chunk::Zxid(_) | Chunk::Time(_) => 8,
            Chunk::Password(_) => PASSWORD_LEN,
            Chunk::Set(elements) => elements.iter().map(Vec::len).sum(),
            Chunk::Fill(_, count) => *count,
        }
    }
}

/// What the masks of a scenario stand for in this run.
#[derive(Clone, Default, Debug)]
pub(crate) struct Bindings {
    session_ids: BTreeMap<String, Vec<u8>>,
    passwords: BTreeMap<String, Vec<u8>>,
    times: BTreeMap<String, Vec<u8>>,
    zxid_base: Option<i64>,
}

impl Bindings {
    /// The bytes to send for `chunks`.
    ///
    /// # Errors
    /// Names the first mask that nothing received so far has bound.
    pub(crate) fn render(&self, chunks: &[Chunk]) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        for chunk in chunks {
            match chunk {
                Chunk::Literal(literal) => bytes.extend_from_slice(literal),
                Chunk::SessionId(name) => bytes.extend_from_slice(bound(&self.session_ids, "sid", name)?),
                Chunk::Password(name) => bytes.extend_from_slice(bound(&self.passwords, "pw", name)?),
                Chunk::Time(name) => bytes.extend_from_slice(bound(&self.times, "time", name)?),
                Chunk::Zxid(offset) => {
                    let base = self.zxid_base.ok_or("no zxid has been received to count from")?;
                    bytes.extend_from_slice(&base.wrapping_add(*offset).to_be_bytes());
                }
                Chunk::Set(elements) => elements.iter().for_each(|element| bytes.extend_from_slice(element)),
                Chunk::Fill(byte, count) => bytes.resize(bytes.len() + count, *byte),
            }
        }
        Ok(bytes)
    }

    /// Compares a received frame with `chunks`, binding what is seen for the first time.
    ///
    /// # Errors
    /// The first field that does not fit.
    pub(crate) fn compare(&mut self, chunks: &[Chunk], received: &[u8]) -> Result<(), Mismatch> {
        let mut offset = 0;
        for (index, chunk) in chunks.iter().enumerate() {
            let mismatch = |expected: String| {
                let end = received.len().min(offset + chunk.len());
                Mismatch { field: index + 1, offset, expected, received: hex(&received[offset..end]) }
            };
            let Some(field) = received.get(offset..offset + chunk.len()) else {
                return Err(mismatch(format!("{} bytes, but the frame ends", chunk.len())));
            };
            self.compare_field(chunk, field).map_err(mismatch)?;
            offset += field.len();
        }
        if offset < received.len() {
            let rest = hex(&received[offset..]);
            return Err(Mismatch {
                field: chunks.len() + 1,
                offset,
                expected: "the end".to_owned(),
                received: rest,
            });
        }
        Ok(())
    }

    /// `Err` holds what was expected instead of `field`.
    fn compare_field(&mut self, chunk: &Chunk, field: &[u8]) -> Result<(), String> {
        match chunk {
            Chunk::Literal(literal) => fits(literal == field, || hex(literal)),
            Chunk::SessionId(name) => bind_distinct(&mut self.session_ids, "session id", name, field),
            Chunk::Password(name) => bind(&mut self.passwords, "password", name, field),
            Chunk::Time(name) => bind(&mut self.times, "time", name, field),
            Chunk::Zxid(offset) => {
                let zxid = i64::from_be_bytes(field.try_into().expect("a zxid chunk is 8 bytes long"));
                let base = *self.zxid_base.get_or_insert(zxid.wrapping_sub(*offset));
                let expected = base.wrapping_add(*offset);
                fits(zxid == expected && zxid > 0, || {
                    format!("zxid {:016x} (base {offset:+}), which is greater than 0", expected)
                })
            }
            Chunk::Set(elements) => fits(is_permutation(elements, field), || {
                let elements: Vec<String> = elements.iter().map(|element| hex(element)).collect();
                format!("in any order: {}", elements.join(" "))
            }),
            Chunk::Fill(byte, count) => {
                fits(field.iter().all(|b| b == byte), || format!("{count} times {byte:02x}"))
            }
        }
    }
}

fn fits(condition: bool, expected: impl FnOnce() -> String) -> Result<(), String> {
    if condition { Ok(()) } else { Err(expected()) }
}

fn bound<'a>(values: &'a BTreeMap<String, Vec<u8>>, kind: &str, name: &str) -> Result<&'a [u8], String> {
    values.get(name).map(Vec::as_slice).ok_or_else(|| format!("{{{kind}:{name}}} has not been received yet"))
}

/// Binds `name` to a value that is not all zeros, or compares with what it was bound to.
fn bind(values: &mut BTreeMap<String, Vec<u8>>, kind: &str, name: &str, field: &[u8]) -> Result<(), String> {
    if let Some(known) = values.get(name) {
        return fits(known == field, || format!("{kind} {name}: {}", hex(known)));
    }
    fits(field.iter().any(|byte| *byte != 0), || format!("a {kind}, which is not zero"))?;
    values.insert(name.to_owned(), field.to_vec());
    Ok(())
}

/// Like [`bind`], and no two names stand for the same value.
fn bind_distinct(
    values: &mut BTreeMap<String, Vec<u8>>,
    kind: &str,
    name: &str,
    field: &[u8],
) -> Result<(), String> {
    let taken = values.iter().find(|(other, value)| other.as_str() != name && value.as_slice() == field);
    if let Some((other, _)) = taken {
        return Err(format!("{kind} {name}, which is not that of {other}"));
    }
    bind(values, kind, name, field)
}

/// Whether `field` is all of `elements` in some order. Elements are self-delimiting, so the first that fits is
/// the only one that can.
fn is_permutation(elements: &[Vec<u8>], mut field: &[u8]) -> bool {
    let mut left: Vec<&[u8]> = elements.iter().map(Vec::as_slice).collect();
    while !left.is_empty() {
        let Some(index) = left.iter().position(|element| field.starts_with(element)) else {
            return false;
        };
        field = &field[left.swap_remove(index).len()..];
    }
    field.is_empty()
}

/// The first field of a frame that is not what was recorded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mismatch {
    /// Which chunk of the line, counted from 1.
    pub field: usize,
    /// Where it begins in the frame, in bytes, the length prefix included.
    pub offset: usize,
    /// What was expected, in words or hexadecimal digits.
    pub expected: String,
    /// What came, as hexadecimal digits.
    pub received: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Mismatch { field, offset, expected, received } = self;
        write!(f, "field {field} (byte {offset}): expected {expected}, received {received}")
    }
}

/// `bytes` as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(bytes: &[u8]) -> Chunk {
        Chunk::Literal(bytes.to_vec())
    }

    #[test]
    fn a_name_stands_for_one_value() {
        let mut bindings = Bindings::default();
        let chunks = [Chunk::SessionId("A".to_owned()), Chunk::Password("A".to_owned())];
        let mut frame = vec![1; 24];
        assert_eq!(bindings.compare(&chunks, &frame), Ok(()));
        assert_eq!(bindings.render(&chunks).unwrap(), frame);
        frame[7] = 2;
        assert_eq!(bindings.compare(&chunks, &frame).unwrap_err().field, 1);
        frame[7] = 1;
        frame[8] = 2;
        assert_eq!(bindings.compare(&chunks, &frame).unwrap_err().field, 2);
    }

    #[test]
    fn two_sessions_never_share_an_id_and_none_is_zero() {
        let mut bindings = Bindings::default();
        bindings.compare(&[Chunk::SessionId("A".to_owned())], &[1; 8]).unwrap();
        assert!(bindings.compare(&[Chunk::SessionId("B".to_owned())], &[1; 8]).is_err());
        assert!(bindings.compare(&[Chunk::SessionId("B".to_owned())], &[0; 8]).is_err());
        assert!(bindings.compare(&[Chunk::Time("+1".to_owned())], &[0; 8]).is_err());
    }

    #[test]
    fn zxids_are_counted_from_the_first() {
        let mut bindings = Bindings::default();
        bindings.compare(&[Chunk::Zxid(0)], &7i64.to_be_bytes()).unwrap();
        bindings.compare(&[Chunk::Zxid(3)], &10i64.to_be_bytes()).unwrap();
        assert!(bindings.compare(&[Chunk::Zxid(3)], &11i64.to_be_bytes()).is_err());
        assert_eq!(bindings.render(&[Chunk::Zxid(-1)]).unwrap(), 6i64.to_be_bytes());
    }

    #[test]
    fn a_set_is_complete_and_unordered() {
        let set = Chunk::Set(vec![vec![1, b'a'], vec![1, b'b'], vec![2, b'a', b'b']]);
        let fits = |field: &[u8]| Bindings::default().compare(std::slice::from_ref(&set), field).is_ok();
        assert!(fits(&[1, b'a', 1, b'b', 2, b'a', b'b']));
        assert!(fits(&[2, b'a', b'b', 1, b'b', 1, b'a']));
        assert!(!fits(&[1, b'a', 1, b'a', 2, b'a', b'b']));
        assert!(!fits(&[1, b'a', 1, b'b', 2, b'a', b'c']));
        assert!(!fits(&[1, b'a', 1, b'b']));
    }

    #[test]
    fn frames_that_are_too_short_or_too_long_do_not_fit() {
        let chunks = [literal(&[1, 2]), literal(&[3])];
        let compare = |frame: &[u8]| Bindings::default().compare(&chunks, frame);
        assert_eq!(compare(&[1, 2, 3]), Ok(()));
        assert_eq!(compare(&[1, 2]).unwrap_err().field, 2);
        assert_eq!(compare(&[1]).unwrap_err().field, 1);
        assert_eq!(compare(&[1, 2, 3, 4]).unwrap_err().received, "04");
        assert_eq!(
            compare(&[1, 9, 3]).unwrap_err().to_string(),
            "field 1 (byte 0): expected 0102, received 0109"
        );
    }

    #[test]
    fn what_has_not_been_received_cannot_be_sent() {
        let bindings = Bindings::default();
        for chunk in [Chunk::SessionId("A".into()), Chunk::Password("A".into()), Chunk::Zxid(1)] {
            assert!(bindings.render(&[chunk]).is_err());
        }
        assert_eq!(bindings.render(&[Chunk::Fill(7, 3), literal(&[1])]).unwrap(), [7, 7, 7, 1]);
    }
}
