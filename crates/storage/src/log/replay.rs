//! Reading a log back: which files belong to it, what they say, and whether what is wrong at its end is a torn
//! write or damage. Changes nothing; [`super::Log::open`] acts on the result and `ostler check` prints it.
//!
//! A write is in doubt only from the last sync on. Every record says up to where its segment was durable when it
//! was written, and every segment header says where the one before ended. So a bad record is *damage* if anything
//! later proves that it was once durable, or if all its sectors were written, only with other bytes. It is a
//! *torn tail*, to be cut, if nothing proves that and some of its sectors are still the zeros that segments are
//! made of.

use std::path::{Path, PathBuf};

use super::record::{self, Payload, Slot, Stamp};
use super::segment::{self, HeaderSlot, MAX_SEGMENT_FILE, SEGMENT_HEADER, SEGMENT_STEP, SegmentHeader};
use super::{Entry, HardState, TornTail};
use crate::Identity;
use crate::disk::{Disk, OpenMode, read_full};
use crate::error::{Damage, IoContext, OpenError};

/// One segment that belongs to the log.
#[derive(Clone, Debug)]
pub(crate) struct ScannedSegment {
    pub(crate) seq: u64,
    pub(crate) path: PathBuf,
    pub(crate) header: SegmentHeader,
    /// Bytes used.
    pub(crate) end: u64,
    /// The largest index in it, 0 if none.
    pub(crate) max_index: u64,
    /// The smallest index in it, 0 if none.
    pub(crate) min_index: u64,
}

/// The next segment, prepared but not begun.
#[derive(Debug)]
pub(crate) struct ScannedSpare {
    pub(crate) seq: u64,
    pub(crate) path: PathBuf,
    pub(crate) len: u64,
    /// Bytes from its start up to the last one that is not zero: what a lost first write left.
    pub(crate) dirty: u64,
}

/// What the files of a log say.
pub(crate) struct Scan {
    pub(crate) identity: Identity,
    /// Oldest first, never empty; the last one is being written.
    pub(crate) segments: Vec<ScannedSegment>,
    pub(crate) spare: Option<ScannedSpare>,
    /// Files of interrupted operations and segments before a gap that nothing needs.
    pub(crate) leftovers: Vec<PathBuf>,
    /// The bytes of the last segment from its last known sync to its end, and where they begin.
    pub(crate) in_doubt: (u64, Vec<u8>),
    pub(crate) cut: Option<TornTail>,
    pub(crate) hard_state: Option<HardState>,
    /// From the first needed index on, without gaps.
    pub(crate) entries: Vec<Entry>,
    /// The index before the first one that this log can hold.
    pub(crate) base: u64,
    pub(crate) last_index: u64,
    pub(crate) last_term: u64,
    /// The term at the index before the first needed one, if the log knows it.
    pub(crate) term_before: Option<u64>,
}

/// Reads the log in `dir`; `None` if there is no segment at all. `needed` is the first index that no snapshot
/// covers.
pub(crate) fn scan(
    disk: &dyn Disk,
    dir: &Path,
    expected: Option<Identity>,
    needed: u64,
) -> Result<Option<Scan>, OpenError> {
    let names = disk.list(dir).on("list", dir)?;
    let mut leftovers: Vec<PathBuf> =
        names.iter().filter(|n| segment::is_leftover(n)).map(|n| dir.join(n)).collect();
    let mut seqs: Vec<u64> = names.iter().filter_map(|n| segment::parse_name(n)).collect();
    seqs.sort_unstable();
    let Some(&newest) = seqs.last() else { return Ok(None) };

    let chain_from = seqs.windows(2).rposition(|w| w[0] + 1 != w[1]).map_or(0, |i| i + 1);
    let (before_gap, chain) = seqs.split_at(chain_from);
    let mut scanner = Scanner::new(dir, expected, needed);
    let mut pending: Option<(ScannedSegment, Vec<u8>)> = None;
    let mut spare = None;
    for &seq in chain {
        let path = segment::path(dir, seq, "wal");
        let bytes = read_file(disk, &path)?;
        match scanner.header(seq, &path, &bytes)? {
            Some(header) => {
                match pending.take() {
                    Some((previous, content)) => {
                        scanner.closed_segment(previous, &content, &header, &path)?
                    }
                    None => scanner.begin(&header),
                }
                let segment = ScannedSegment { seq, path, header, end: 0, max_index: 0, min_index: 0 };
                pending = Some((segment, bytes));
            }
            None if seq == newest && pending.is_some() => {
                if (bytes.len() as u64) < SEGMENT_STEP {
                    let found =
                        format!("the segment has only {} bytes, none was ever made so short", bytes.len());
                    return Err(Damage::new(&path, bytes.len() as u64, found).into());
                }
                let dirty = written(&bytes) as u64;
                if let Some(at) = record::proof_that_durable(&bytes, 0, scanner.stamp(seq)) {
                    let found =
                        format!("the segment's header is gone, but the record at {at} proves it was there");
                    return Err(Damage::new(&path, 0, found).into());
                }
                spare = Some(ScannedSpare { seq, path, len: bytes.len() as u64, dirty });
            }
            None => {
                return Err(
                    Damage::new(&path, 0, "the segment has no header, yet it must have had one").into()
                );
            }
        }
    }
    let (last, content) = pending.expect("a file without header is only accepted after one with");
    if !before_gap.is_empty() {
        scanner.missing = Some(segment::path(dir, chain[0] - 1, "wal"));
        leftovers.extend(before_gap.iter().map(|&seq| segment::path(dir, seq, "wal")));
    }
    let spare_begun = spare.as_ref().is_some_and(|s| s.dirty > 0);
    scanner.last_segment(last, &content, spare_begun)?;
    scanner.finish(spare, leftovers).map(Some)
}

/// True if there is any segment in `dir`, which need not exist.
pub(crate) fn has_segments(disk: &dyn Disk, dir: &Path) -> std::io::Result<bool> {
    match disk.list(dir) {
        Ok(names) => Ok(names.iter().any(|name| segment::parse_name(name).is_some())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// How much of `bytes` there is before its trailing zeros.
fn written(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1)
}

fn read_file(disk: &dyn Disk, path: &Path) -> Result<Vec<u8>, OpenError> {
    let file = disk.open(path, OpenMode::Read).on("open", path)?;
    let len = file.len().on("examine", path)?;
    if len > MAX_SEGMENT_FILE {
        return Err(
            Damage::new(path, MAX_SEGMENT_FILE, format!("the file has {len} bytes, no segment has")).into()
        );
    }
    let mut bytes = vec![0; len as usize];
    let read = read_full(&*file, &mut bytes, 0).on("read", path)?;
    bytes.truncate(read);
    Ok(bytes)
}

struct Scanner<'a> {
    dir: &'a Path,
    expected: Option<Identity>,
    needed: u64,
    identity: Option<Identity>,
    segments: Vec<ScannedSegment>,
    /// The gap before the oldest segment: one with a smaller number exists, but not the one just before.
    missing: Option<PathBuf>,
    in_doubt: (u64, Vec<u8>),
    cut: Option<TornTail>,
    hard_state: Option<HardState>,
    entries: Vec<Entry>,
    base: u64,
    /// No [`super::LogStart`] was read yet, so `base` is what the oldest header says.
    base_is_from_header: bool,
    last_index: u64,
    last_term: u64,
    term_before: Option<u64>,
}

impl<'a> Scanner<'a> {
    fn new(dir: &'a Path, expected: Option<Identity>, needed: u64) -> Scanner<'a> {
        Scanner {
            dir,
            expected,
            needed,
            identity: None,
            segments: Vec::new(),
            missing: None,
            in_doubt: (0, Vec::new()),
            cut: None,
            hard_state: None,
            entries: Vec::new(),
            base: 0,
            base_is_from_header: true,
            last_index: 0,
            last_term: 0,
            term_before: None,
        }
    }

    fn stamp(&self, seq: u64) -> Stamp {
        Stamp::new(self.identity.expect("the first header was read"), seq)
    }

    fn header(&mut self, seq: u64, path: &Path, bytes: &[u8]) -> Result<Option<SegmentHeader>, OpenError> {
        let header = match SegmentHeader::read(bytes) {
            HeaderSlot::Whole(header) => header,
            HeaderSlot::Absent => return Ok(None),
            HeaderSlot::Newer(version) => {
                let what = format!("segment version {version}");
                return Err(OpenError::Newer { file: path.to_owned(), offset: 8, what });
            }
            HeaderSlot::Damaged(found) => return Err(Damage::new(path, 0, found).into()),
        };
        let expected = self.identity.or(self.expected).unwrap_or(header.identity);
        if header.identity != expected {
            return Err(OpenError::WrongIdentity { file: path.to_owned(), found: header.identity, expected });
        }
        self.identity = Some(header.identity);
        if header.seq != seq {
            let found = format!("this is segment {:016x} under another's name", header.seq);
            return Err(Damage::new(path, 16, found).into());
        }
        if header.first_index == 0 || header.segment_bytes > bytes.len() as u64 {
            let found = format!(
                "the segment was made with {} bytes but the file has {}",
                header.segment_bytes,
                bytes.len()
            );
            return Err(Damage::new(path, bytes.len() as u64, found).into());
        }
        Ok(Some(header))
    }

    /// Starts from the oldest segment's header.
    fn begin(&mut self, header: &SegmentHeader) {
        self.base = header.first_index - 1;
        self.last_index = self.base;
        self.last_term = header.previous_term;
        self.hard_state = header.hard_state;
        self.term_before = (self.base + 1 == self.needed).then_some(header.previous_term);
    }

    /// Reads a segment that `next` says is complete.
    fn closed_segment(
        &mut self,
        mut segment: ScannedSegment,
        content: &[u8],
        next: &SegmentHeader,
        next_path: &Path,
    ) -> Result<(), OpenError> {
        let stamp = self.stamp(segment.seq);
        let mut at = SEGMENT_HEADER;
        while (at as u64) < next.previous_end {
            match record::read(content, at, stamp) {
                Slot::Record { payload, next, .. } => {
                    self.apply(payload, &mut segment, at)?;
                    at = next;
                }
                other => {
                    let proof = format!("and {} proves that it was durable", next_path.display());
                    return Err(bad_record(&segment.path, at, &other, &proof));
                }
            }
        }
        let header_fits = at as u64 == next.previous_end
            && next.first_index == self.last_index + 1
            && next.previous_term == self.last_term
            && next.hard_state == self.hard_state;
        if !header_fits {
            let found = format!(
                "the segment continues a log that ends at offset {} with index {} term {}, but the one before ends \
                 at offset {at} with index {} term {}",
                next.previous_end,
                next.first_index - 1,
                next.previous_term,
                self.last_index,
                self.last_term
            );
            return Err(Damage::new(next_path, 40, found).into());
        }
        segment.end = at as u64;
        self.segments.push(segment);
        Ok(())
    }

    /// Reads the segment that was being written. `spare_begun`: a first write to the segment after this one was
    /// begun, before which this one was synced.
    fn last_segment(
        &mut self,
        mut segment: ScannedSegment,
        content: &[u8],
        spare_begun: bool,
    ) -> Result<(), OpenError> {
        let stamp = self.stamp(segment.seq);
        let (mut at, mut synced_to) = (SEGMENT_HEADER, 0);
        let stopped_at = loop {
            match record::read(content, at, stamp) {
                Slot::Record { payload, synced_to: synced, next } => {
                    self.apply(payload, &mut segment, at)?;
                    synced_to = synced as usize;
                    at = next;
                }
                Slot::Unknown { kind, version } => {
                    let what = format!("record kind {kind} version {version}");
                    return Err(OpenError::Newer { file: segment.path, offset: at as u64, what });
                }
                other => break other,
            }
        };
        let behind = written(content).saturating_sub(at);
        if behind > 0 {
            if let Some(proof) = record::proof_that_durable(content, at, stamp) {
                let proof = format!("and the record at {proof} proves that it was durable");
                return Err(bad_record(&segment.path, at, &stopped_at, &proof));
            }
            if spare_begun {
                let proof = "and the next segment, already begun, proves that it was durable";
                return Err(bad_record(&segment.path, at, &stopped_at, proof));
            }
            if let Slot::Damaged(_) = stopped_at {
                return Err(bad_record(
                    &segment.path,
                    at,
                    &stopped_at,
                    "though all its sectors were written",
                ));
            }
            self.cut = Some(TornTail { file: segment.path.clone(), offset: at as u64, bytes: behind as u64 });
        }
        segment.end = at as u64;
        let from = synced_to.min(at);
        self.in_doubt = (from as u64, content[from..at].to_vec());
        self.segments.push(segment);
        Ok(())
    }

    fn apply(&mut self, payload: Payload, segment: &mut ScannedSegment, at: usize) -> Result<(), OpenError> {
        match payload {
            Payload::Entry(entry) => {
                if self.base_is_from_header && (1..=self.base).contains(&entry.index) {
                    // It replaced the tail of a segment that has been purged since.
                    self.base = entry.index - 1;
                }
                if entry.index <= self.base || entry.index > self.last_index + 1 {
                    let found = format!(
                        "entry {} cannot follow a log that reaches from {} to {}",
                        entry.index,
                        self.base + 1,
                        self.last_index
                    );
                    return Err(Damage::new(&segment.path, at as u64, found).into());
                }
                segment.note_index(entry.index);
                self.last_index = entry.index;
                self.last_term = entry.term;
                self.note_term(entry.index, entry.term);
                while self.entries.last().is_some_and(|e| e.index >= entry.index) {
                    self.entries.pop();
                }
                if entry.index >= self.needed {
                    self.entries.push(entry);
                }
            }
            Payload::HardState(state) => self.hard_state = Some(state),
            Payload::LogStart(start) => {
                self.base_is_from_header = false;
                segment.note_index(start.index);
                self.entries.clear();
                self.base = start.index;
                self.last_index = start.index;
                self.last_term = start.term;
                self.note_term(start.index, start.term);
            }
        }
        Ok(())
    }

    fn note_term(&mut self, index: u64, term: u64) {
        if index < self.needed {
            self.term_before = (index + 1 == self.needed).then_some(term);
        }
    }

    fn finish(self, spare: Option<ScannedSpare>, leftovers: Vec<PathBuf>) -> Result<Scan, OpenError> {
        if self.base >= self.needed {
            if let Some(missing) = self.missing {
                return Err(OpenError::MissingSegment { missing });
            }
            let dir = self.dir.to_owned();
            return Err(OpenError::Gap { dir, first: self.base + 1, needed: self.needed });
        }
        let last = self.segments.last().expect("the last segment was pushed");
        let commit = self.hard_state.map_or(0, |s| s.commit);
        if commit > self.last_index.max(self.needed - 1) {
            let found = format!("the log ends at index {}, but {commit} was committed", self.last_index);
            return Err(Damage::new(&last.path, last.end, found).into());
        }
        Ok(Scan {
            identity: self.identity.expect("the first header was read"),
            segments: self.segments,
            spare,
            leftovers,
            in_doubt: self.in_doubt,
            cut: self.cut,
            hard_state: self.hard_state,
            entries: self.entries,
            base: self.base,
            last_index: self.last_index,
            last_term: self.last_term,
            term_before: self.term_before,
        })
    }
}

impl ScannedSegment {
    fn note_index(&mut self, index: u64) {
        self.max_index = self.max_index.max(index);
        self.min_index = if self.min_index == 0 { index } else { self.min_index.min(index) };
    }
}

fn bad_record(file: &Path, at: usize, slot: &Slot, proof: &str) -> OpenError {
    let found = match slot {
        Slot::Record { .. } => "a record reaches beyond the end of the segment",
        Slot::Empty => "there are zeros where a record must be",
        Slot::TornPayload | Slot::TornHeader => "a part of the record is missing",
        Slot::Damaged(found) => found,
        Slot::Unknown { kind, version } => {
            let what = format!("record kind {kind} version {version}");
            return OpenError::Newer { file: file.to_owned(), offset: at as u64, what };
        }
    };
    Damage::new(file, at as u64, format!("{found}, {proof}")).into()
}
