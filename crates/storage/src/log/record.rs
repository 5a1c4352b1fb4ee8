//! One record of the log: a 32-byte header, the payload, an end mark, padding.
//!
//! ```text
//!  0  payload_len  u32   bytes of payload
//!  4  payload_crc  u32   CRC-32C of the payload, seeded with the identity
//!  8  segment_seq  u64   the segment this was written for
//! 16  synced_to    u32   offset in this segment up to which data was known durable when this was written
//! 20  zero_sectors u32   how many whole 512-byte sectors of the record are zero because the payload is
//! 24  kind         u8    1 entry, 2 hard state, 3 log start
//! 25  version      u8    of the payload's layout, 1
//! 26  zero         u16
//! 28  header_crc   u32   CRC-32C of bytes 0..28, seeded with the identity
//! 32  payload
//!     end mark     u8    0xa5
//!     zeros up to the next multiple of 32
//! ```
//!
//! Integers are little-endian. Records start at multiples of 32, so a header lies within one sector: a power cut
//! leaves all of it or none of it. Segments are zeros before they are written. Together these tell a torn write
//! (some sector still zero) from damage (every sector written, but not with what we wrote), see [`Slot`].
//!
//! The checksums are seeded with the identity, a secret as far as clients go: nobody can store a znode whose bytes
//! pass for a record of this log.

use bytes::Bytes;

use super::{Entry, HardState, LogStart};
use crate::Identity;
use crate::bytes_at::{u32_at, u64_at};

/// Bytes of a record's header.
pub(crate) const HEADER: usize = 32;
/// Records begin at multiples of this.
pub(crate) const ALIGN: usize = 32;
/// The unit a power cut keeps or loses as a whole.
pub(crate) const SECTOR: usize = 512;
const END_MARK: u8 = 0xa5;
const VERSION: u8 = 1;

/// The largest [`Entry::data`], in bytes. A record claiming more is damage, never an allocation.
pub const MAX_ENTRY_BYTES: usize = 64 << 20;
/// Term, index and kind of an entry.
const ENTRY_PREFIX: usize = 17;
const MAX_PAYLOAD: usize = MAX_ENTRY_BYTES + ENTRY_PREFIX;

const KIND_ENTRY: u8 = 1;
const KIND_HARD_STATE: u8 = 2;
const KIND_LOG_START: u8 = 3;

/// What a record carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    Entry(Entry),
    HardState(HardState),
    LogStart(LogStart),
}

/// What a record's checksums are bound to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stamp {
    seed: u32,
    pub(crate) segment_seq: u64,
}

impl Stamp {
    pub(crate) fn new(identity: Identity, segment_seq: u64) -> Stamp {
        let seed = crc32c::crc32c(&identity.cluster_id.to_le_bytes());
        Stamp { seed: crc32c::crc32c_append(seed, &identity.node_id.to_le_bytes()), segment_seq }
    }
}

/// Bytes in the file of an entry's record with `data` bytes.
pub(crate) fn entry_size(data: usize) -> usize {
    size(ENTRY_PREFIX + data)
}

/// Bytes in the file of a [`HardState`]'s record.
pub(crate) fn hard_state_size() -> usize {
    size(24)
}

/// Bytes in the file of a [`LogStart`]'s record.
pub(crate) fn log_start_size() -> usize {
    size(16)
}

fn size(payload: usize) -> usize {
    (HEADER + payload + 1).next_multiple_of(ALIGN)
}

/// Appends records to a buffer that will be written at one place of one segment.
pub(crate) struct Encoder<'a> {
    /// The buffer; its first byte goes to `offset` in the file.
    pub(crate) buffer: &'a mut Vec<u8>,
    pub(crate) offset: u64,
    pub(crate) stamp: Stamp,
    pub(crate) synced_to: u32,
}

impl Encoder<'_> {
    pub(crate) fn entry(&mut self, entry: &Entry) {
        self.record(KIND_ENTRY, |buffer| {
            buffer.extend_from_slice(&entry.term.to_le_bytes());
            buffer.extend_from_slice(&entry.index.to_le_bytes());
            buffer.push(entry.kind);
            buffer.extend_from_slice(&entry.data);
        });
    }

    pub(crate) fn hard_state(&mut self, state: &HardState) {
        self.record(KIND_HARD_STATE, |buffer| {
            buffer.extend_from_slice(&state.term.to_le_bytes());
            buffer.extend_from_slice(&state.vote.to_le_bytes());
            buffer.extend_from_slice(&state.commit.to_le_bytes());
        });
    }

    pub(crate) fn log_start(&mut self, start: &LogStart) {
        self.record(KIND_LOG_START, |buffer| {
            buffer.extend_from_slice(&start.index.to_le_bytes());
            buffer.extend_from_slice(&start.term.to_le_bytes());
        });
    }

    fn record(&mut self, kind: u8, payload: impl FnOnce(&mut Vec<u8>)) {
        let start = self.buffer.len();
        debug_assert_eq!((self.offset as usize + start) % ALIGN, 0, "records are aligned");
        // Not zeros, so that the header's sector is not counted below.
        self.buffer.resize(start + HEADER, END_MARK);
        payload(self.buffer);
        self.buffer.push(END_MARK);
        let end = self.buffer.len();
        let body = &self.buffer[start + HEADER..end - 1];
        let body_len = u32::try_from(body.len()).expect("append() refuses entries above MAX_ENTRY_BYTES");
        let payload_crc = crc32c::crc32c_append(self.stamp.seed, body);
        let zeros = zero_sectors(&self.buffer[start..end], self.offset as usize + start);

        let mut header = [0; HEADER];
        header[0..4].copy_from_slice(&body_len.to_le_bytes());
        header[4..8].copy_from_slice(&payload_crc.to_le_bytes());
        header[8..16].copy_from_slice(&self.stamp.segment_seq.to_le_bytes());
        header[16..20].copy_from_slice(&self.synced_to.to_le_bytes());
        header[20..24].copy_from_slice(&zeros.to_le_bytes());
        header[24] = kind;
        header[25] = VERSION;
        let header_crc = crc32c::crc32c_append(self.stamp.seed, &header[..28]);
        header[28..32].copy_from_slice(&header_crc.to_le_bytes());
        self.buffer[start..start + HEADER].copy_from_slice(&header);
        self.buffer.resize(start + (end - start).next_multiple_of(ALIGN), 0);
    }
}

/// How many pieces of `bytes`, cut at sector boundaries of the file they lie in at `offset`, are all zero.
fn zero_sectors(bytes: &[u8], offset: usize) -> u32 {
    let first = (SECTOR - offset % SECTOR).min(bytes.len());
    let (head, rest) = bytes.split_at(first);
    let zero = |piece: &[u8]| u32::from(!piece.is_empty() && piece.iter().all(|b| *b == 0));
    zero(head) + rest.chunks(SECTOR).map(zero).sum::<u32>()
}

/// What lies at one record position of a segment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// A whole record; the next position is `next`.
    Record { payload: Payload, synced_to: u32, next: usize },
    /// Zeros where a header would be: nothing was written here, or the write of this sector was lost.
    Empty,
    /// The header is whole, but parts of the payload were never written: sectors are zero that should not be.
    TornPayload,
    /// A header cut off in the middle by the death of the process, with nothing but zeros behind.
    TornHeader,
    /// Every part was written, but these are not the bytes: damage.
    Damaged(&'static str),
    /// A whole record of a kind or version that this release does not know.
    Unknown { kind: u8, version: u8 },
}

struct Header {
    payload_len: u32,
    payload_crc: u32,
    synced_to: u32,
    zero_sectors: u32,
    kind: u8,
    version: u8,
}

impl Header {
    fn parse(bytes: &[u8], stamp: Stamp) -> Option<Header> {
        let bytes = bytes.get(..HEADER)?;
        if u64_at(bytes, 8) != stamp.segment_seq {
            return None;
        }
        if u32_at(bytes, 28) != crc32c::crc32c_append(stamp.seed, &bytes[..28]) {
            return None;
        }
        Some(Header {
            payload_len: u32_at(bytes, 0),
            payload_crc: u32_at(bytes, 4),
            synced_to: u32_at(bytes, 16),
            zero_sectors: u32_at(bytes, 20),
            kind: bytes[24],
            version: bytes[25],
        })
    }
}

/// Judges the record position `at` in a segment's bytes. What lies beyond the end of `segment` counts as zeros.
pub(crate) fn read(segment: &[u8], at: usize, stamp: Stamp) -> Slot {
    let rest = segment.get(at..).unwrap_or_default();
    let head = &rest[..HEADER.min(rest.len())];
    if head.iter().all(|b| *b == 0) {
        return Slot::Empty;
    }
    let Some(header) = Header::parse(head, stamp) else {
        // A complete record has its end mark behind the header.
        return if rest[head.len()..].iter().all(|b| *b == 0) {
            Slot::TornHeader
        } else {
            Slot::Damaged("the record's header does not match its checksum")
        };
    };
    let len = header.payload_len as usize;
    if len > MAX_PAYLOAD {
        return Slot::Damaged("the record claims more bytes than any record has");
    }
    let end = HEADER + len;
    let present = &rest[..rest.len().min(end + 1)];
    let body = &present[HEADER..present.len().min(end)];
    let mark = present.get(end).copied().unwrap_or(0);
    let whole = body.len() == len && header.payload_crc == crc32c::crc32c_append(stamp.seed, body);
    if !whole || mark != END_MARK {
        let torn = mark == 0 || zero_sectors(present, at) > header.zero_sectors;
        return if torn {
            Slot::TornPayload
        } else {
            Slot::Damaged("the record does not match its checksum")
        };
    }
    let payload = match (header.kind, header.version) {
        (KIND_ENTRY, VERSION) => decode_entry(body),
        (KIND_HARD_STATE, VERSION) => decode_hard_state(body),
        (KIND_LOG_START, VERSION) => decode_log_start(body),
        (kind, version) => return Slot::Unknown { kind, version },
    };
    match payload {
        Some(payload) => Slot::Record { payload, synced_to: header.synced_to, next: at + size(len) },
        None => Slot::Damaged("the record has the wrong length for its kind"),
    }
}

/// The first whole header after `at` which says that data up to beyond `at` was durable when it was written: the
/// proof that what is wrong at `at` is damage and not a torn write. Only a record's header is looked at, as it is
/// written whole or not at all.
pub(crate) fn proof_that_durable(segment: &[u8], at: usize, stamp: Stamp) -> Option<usize> {
    headers_after(segment, at, stamp)
        .find(|(_, header)| header.synced_to as usize > at)
        .map(|(offset, _)| offset)
}

fn headers_after(segment: &[u8], at: usize, stamp: Stamp) -> impl Iterator<Item = (usize, Header)> {
    (at + ALIGN..segment.len())
        .step_by(ALIGN)
        .filter_map(move |offset| Header::parse(&segment[offset..], stamp).map(|header| (offset, header)))
}

fn decode_entry(body: &[u8]) -> Option<Payload> {
    let (prefix, data) = body.split_at_checked(ENTRY_PREFIX)?;
    Some(Payload::Entry(Entry {
        term: u64_at(prefix, 0),
        index: u64_at(prefix, 8),
        kind: prefix[16],
        data: Bytes::copy_from_slice(data),
    }))
}

fn decode_hard_state(body: &[u8]) -> Option<Payload> {
    (body.len() == 24).then(|| {
        Payload::HardState(HardState {
            term: u64_at(body, 0),
            vote: u64_at(body, 8),
            commit: u64_at(body, 16),
        })
    })
}

fn decode_log_start(body: &[u8]) -> Option<Payload> {
    (body.len() == 16).then(|| Payload::LogStart(LogStart { index: u64_at(body, 0), term: u64_at(body, 8) }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stamp() -> Stamp {
        Stamp::new(Identity { cluster_id: 7, node_id: 9 }, 3)
    }

    fn encode(offset: usize, synced_to: u32, entries: &[Entry]) -> Vec<u8> {
        let mut buffer = Vec::new();
        let mut encoder = Encoder { buffer: &mut buffer, offset: offset as u64, stamp: stamp(), synced_to };
        for entry in entries {
            encoder.entry(entry);
        }
        let mut segment = vec![0; offset];
        segment.extend_from_slice(&buffer);
        segment
    }

    fn entry(index: u64, data: Vec<u8>) -> Entry {
        Entry { term: 5, index, kind: 1, data: data.into() }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_read_back(data in proptest::collection::vec(any::<u8>(), 0..3000), at in 0usize..40) {
            let at = at * ALIGN;
            let original = entry(17, data);
            let segment = encode(at, 64, std::slice::from_ref(&original));
            prop_assert_eq!(segment.len(), at + entry_size(original.data.len()));
            prop_assert_eq!(
                read(&segment, at, stamp()),
                Slot::Record { payload: Payload::Entry(original), synced_to: 64, next: segment.len() }
            );
        }

        #[test]
        fn any_lost_sectors_are_a_torn_write_and_any_flipped_bit_is_damage(
            fill in any::<u8>(), len in 0usize..4000, at in 0usize..40, lost in any::<u16>(), flip in any::<usize>(),
        ) {
            let at = at * ALIGN;
            let whole = encode(at, 0, &[entry(1, vec![fill; len])]);

            let mut torn = whole.clone();
            for sector in 0..torn.len().div_ceil(SECTOR) {
                let piece = (sector * SECTOR).max(at)..((sector + 1) * SECTOR).min(torn.len());
                if lost >> (sector % 16) & 1 == 1 && !piece.is_empty() {
                    torn[piece].fill(0);
                }
            }
            if torn != whole {
                prop_assert!(matches!(read(&torn, at, stamp()), Slot::Empty | Slot::TornPayload));
            }

            let record = HEADER + ENTRY_PREFIX + len + 1;
            let bit = flip % (record * 8);
            let mut flipped = whole;
            flipped[at + bit / 8] ^= 1 << (bit % 8);
            prop_assert!(matches!(read(&flipped, at, stamp()), Slot::Damaged(_)));
        }

        #[test]
        fn a_write_cut_off_at_any_byte_is_torn(len in 0usize..2000, cut in any::<usize>()) {
            let mut segment = encode(0, 0, &[entry(1, vec![0; len])]);
            let end = HEADER + ENTRY_PREFIX + len + 1;
            segment[cut % end..].fill(0);
            prop_assert!(matches!(
                read(&segment, 0, stamp()),
                Slot::Empty | Slot::TornHeader | Slot::TornPayload
            ));
        }

        #[test]
        fn random_bytes_are_never_a_record(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let is_record = matches!(read(&bytes, 0, stamp()), Slot::Record { .. });
            prop_assert!(!is_record);
        }
    }

    #[test]
    fn records_of_another_segment_or_disk_do_not_count() {
        let segment = encode(0, 0, &[entry(1, vec![1; 10])]);
        let other_segment = Stamp { segment_seq: 4, ..stamp() };
        let other_disk = Stamp::new(Identity { cluster_id: 7, node_id: 8 }, 3);
        assert!(matches!(read(&segment, 0, other_segment), Slot::Damaged(_)));
        assert!(matches!(read(&segment, 0, other_disk), Slot::Damaged(_)));
    }

    #[test]
    fn a_later_record_proves_what_was_durable() {
        let mut segment = encode(0, 0, &[entry(1, vec![1; 600])]);
        let second = segment.len();
        segment =
            [segment, encode(second, second as u32, &[entry(2, vec![2; 600])])[second..].to_vec()].concat();
        assert_eq!(proof_that_durable(&segment, 0, stamp()), Some(second));
        assert_eq!(proof_that_durable(&segment, second, stamp()), None);
    }

    #[test]
    fn unknown_kinds_are_reported_not_skipped() {
        let mut buffer = Vec::new();
        Encoder { buffer: &mut buffer, offset: 0, stamp: stamp(), synced_to: 0 }.record(9, |b| b.push(1));
        assert_eq!(read(&buffer, 0, stamp()), Slot::Unknown { kind: 9, version: 1 });
    }
}
