//! The write-ahead log: what raft must not forget, in segment files.
//!
//! [`Log::append`] writes any number of batches with one `pwrite` and at most one `fdatasync`. The bytes are
//! described in `docs/log-and-snapshot.md`.

mod record;
mod replay;
mod segment;
mod spare;
mod types;

use std::collections::VecDeque;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use record::MAX_ENTRY_BYTES;
use record::{Encoder, Stamp};
pub(crate) use replay::{Scan, has_segments, scan};
use segment::{SEGMENT_HEADER, SegmentHeader};
use spare::Spare;
pub use spare::SpareMaker;
pub use types::{Batch, Entry, HardState, LogOptions, LogStart, Recovered, Space, TornTail};

use crate::disk::{Disk, DiskFile, OpenMode, is_full};
use crate::error::{AppendError, DiskError, IoContext, OpenError};
use crate::{ExpectIdentity, Identity};

/// An open log. Owned by one thread; the only part that may run elsewhere is [`SpareMaker`].
pub struct Log {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    identity: Identity,
    options: LogOptions,
    spares: SpareMaker,
    /// Full segments, oldest first: number and largest index.
    closed: VecDeque<(u64, u64)>,
    current: Current,
    first_index: u64,
    last_index: u64,
    last_term: u64,
    hard_state: Option<HardState>,
    /// Bytes of a failed append that must become zeros before anything else is written.
    garbage: Option<Garbage>,
    /// Set by the first failure after which nobody knows what is durable.
    fatal: Option<String>,
    syncs: u64,
    buffer: Vec<u8>,
}

/// The segment being written.
struct Current {
    seq: u64,
    file: Arc<dyn DiskFile>,
    /// The size it was made with. Only a single append larger than a whole segment goes beyond it.
    limit: u64,
    end: u64,
    synced: u64,
    max_index: u64,
}

struct Garbage {
    range: Range<u64>,
    /// Where it lies, if not in the current segment.
    spare: Option<Spare>,
}

/// Buffers above this are given back after the append that needed them.
const KEEP_BUFFER: usize = 4 << 20;
/// Offsets are 32-bit; see [`segment::MAX_SEGMENT_FILE`].
const MAX_APPEND: u64 = 1 << 30;

impl Log {
    /// Opens the log in `dir`, which exists, or makes a new one if there is no segment in it.
    ///
    /// `first_needed_index` is the first index that no snapshot covers (1 without a snapshot). The log must reach
    /// back to it. Returns after everything that [`Recovered`] holds is durable: a process killed before its sync
    /// leaves bytes which only the page cache holds.
    ///
    /// # Errors
    /// See [`OpenError`]; nothing is changed before the log has been read and found good.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        identity: ExpectIdentity,
        options: LogOptions,
        first_needed_index: u64,
    ) -> Result<(Log, Recovered), OpenError> {
        options.check()?;
        let needed = first_needed_index.max(1);
        let found = scan(&*disk, dir, identity.required(), needed)?;
        let created = found.is_none();
        let mut scan = match found {
            Some(scan) => scan,
            None => Log::create(&*disk, dir, identity, options, needed)?,
        };
        let recovered = Recovered {
            identity: scan.identity,
            created,
            hard_state: scan.hard_state,
            entries: std::mem::take(&mut scan.entries),
            first_index: scan.base + 1,
            last_index: scan.last_index,
            term_before: scan.term_before,
            cut: scan.cut.clone(),
        };
        let log = Log::resume(disk, dir, options, scan)?;
        Ok((log, recovered))
    }

    /// Makes the first segment of a new log.
    fn create(
        disk: &dyn Disk,
        dir: &Path,
        identity: ExpectIdentity,
        options: LogOptions,
        needed: u64,
    ) -> Result<Scan, OpenError> {
        let Some(identity) = identity.for_empty() else {
            return Err(OpenError::NoLog { dir: dir.to_owned() });
        };
        remove_leftovers(disk, dir)?;
        let header = SegmentHeader {
            seq: 1,
            identity,
            first_index: 1,
            previous_term: 0,
            previous_end: 0,
            hard_state: None,
            segment_bytes: options.segment_bytes,
        };
        segment::make(disk, dir, 1, options.segment_bytes, None, Some(&header))?;
        scan(disk, dir, Some(identity), needed)?.ok_or_else(|| OpenError::NoLog { dir: dir.to_owned() })
    }

    /// Makes the files what [`scan`] understood them to be, durably, and goes on from there.
    fn resume(disk: Arc<dyn Disk>, dir: &Path, options: LogOptions, scan: Scan) -> Result<Log, OpenError> {
        for path in &scan.leftovers {
            disk.remove(path).on("remove", path)?;
        }
        let last = scan.segments.last().expect("a scan has at least one segment");
        let file: Arc<dyn DiskFile> = disk.open(&last.path, OpenMode::Write).on("open", &last.path)?.into();
        // What was written after the last known sync may be in the page cache only, and after a failed sync the
        // cache may even be marked clean. Writing it again makes the sync below mean something.
        let (from, bytes) = &scan.in_doubt;
        file.write_all_at(bytes, *from).on("write", &last.path)?;
        if let Some(cut) = &scan.cut {
            segment::clear(&*file, cut.offset..cut.offset + cut.bytes).on("cut", &last.path)?;
        }
        file.sync_data().on("sync", &last.path)?;

        let spares = SpareMaker::new(Arc::clone(&disk), dir.to_owned(), options.segment_bytes);
        if let Some(spare) = &scan.spare {
            if spare.len == options.segment_bytes {
                let file: Arc<dyn DiskFile> =
                    disk.open(&spare.path, OpenMode::Write).on("open", &spare.path)?.into();
                segment::clear(&*file, 0..spare.dirty).on("clear", &spare.path)?;
                file.sync_data().on("sync", &spare.path)?;
                spares.put(Spare { seq: spare.seq, file });
            } else {
                disk.remove(&spare.path).on("remove", &spare.path)?;
            }
        }
        disk.sync_dir(dir).on("sync", dir)?;

        let closed = scan.segments[..scan.segments.len() - 1].iter().map(|s| (s.seq, s.max_index)).collect();
        let log = Log {
            current: Current {
                seq: last.seq,
                file,
                limit: last.header.segment_bytes,
                end: last.end,
                synced: last.end,
                max_index: last.max_index,
            },
            disk,
            dir: dir.to_owned(),
            identity: scan.identity,
            options,
            spares,
            closed,
            first_index: scan.base + 1,
            last_index: scan.last_index,
            last_term: scan.last_term,
            hard_state: scan.hard_state,
            garbage: None,
            fatal: None,
            syncs: 0,
            buffer: Vec::new(),
        };
        log.want_spare();
        Ok(log)
    }

    /// Writes the batches, in order, and syncs once if any of them asks for it. When this returns `Ok`, every
    /// batch up to the last one with `must_sync` is durable.
    ///
    /// One call's records go to one segment. If the current one has no room, the next one is begun, which costs
    /// nothing but a second sync if [`SpareMaker`] has prepared it. Bound the size of one call (a few MiB); one
    /// that is larger than a segment makes its segment larger.
    ///
    /// # Errors
    /// After [`AppendError::Full`] the log is as before: try again later. (Should the process die before that, a
    /// part of the failed append may be found in the log at the next start, as after any append that was under
    /// way.) After [`AppendError::Fatal`] the process must stop.
    pub fn append(&mut self, batches: &[Batch]) -> Result<(), AppendError> {
        if let Some(cause) = &self.fatal {
            return Err(AppendError::Fatal { cause: cause.clone() });
        }
        let size = self.check_batches(batches)?;
        let must_sync = batches.iter().any(|b| b.must_sync);
        if size == 0 {
            return if must_sync { self.sync() } else { Ok(()) };
        }
        self.heal()?;
        let has_records = self.current.end > SEGMENT_HEADER as u64;
        if has_records && self.current.end + size > self.current.limit {
            self.append_to_next(batches)?;
        } else {
            self.append_to_current(batches)?;
            if must_sync {
                self.sync()?;
            }
        }
        self.note_appended(batches);
        self.want_spare();
        Ok(())
    }

    /// Makes everything appended so far durable.
    ///
    /// # Errors
    /// Only [`AppendError::Fatal`].
    pub fn sync(&mut self) -> Result<(), AppendError> {
        if let Some(cause) = &self.fatal {
            return Err(AppendError::Fatal { cause: cause.clone() });
        }
        if self.current.synced < self.current.end {
            if let Err(e) = self.current.file.sync_data() {
                return Err(self.fail("sync", self.current.seq, e));
            }
            self.current.synced = self.current.end;
            self.syncs += 1;
        }
        Ok(())
    }

    /// Recycles or removes whole segments of which no entry after `up_to_index` is left; returns how many. The
    /// caller has a durable snapshot at or after `up_to_index`. The log's last segment always stays.
    ///
    /// # Errors
    /// The log stays usable; the rest is purged by a later call or the next start.
    pub fn purge(&mut self, up_to_index: u64) -> Result<usize, DiskError> {
        let mut freed = None;
        let mut purged = 0;
        while let Some(&(seq, max_index)) = self.closed.front() {
            if max_index > up_to_index {
                break;
            }
            let path = segment::path(&self.dir, seq, "wal");
            if freed.is_none() && self.spares.can_recycle() {
                let free = segment::path(&self.dir, seq, segment::FREE);
                self.disk.rename(&path, &free).on("rename", &path)?;
                freed = Some(free);
            } else {
                self.disk.remove(&path).on("remove", &path)?;
            }
            self.closed.pop_front();
            self.first_index = self.first_index.max(max_index + 1);
            purged += 1;
        }
        if purged > 0 {
            self.disk.sync_dir(&self.dir).on("sync", &self.dir)?;
        }
        // Not before the new name is durable: zeros under the old name would be damage.
        if let Some(free) = freed {
            self.spares.recycle(free);
        }
        Ok(purged)
    }

    /// Whether there is room; see [`Space`]. Cheap.
    pub fn space(&self) -> Space {
        if self.garbage.is_some() {
            return Space::Full;
        }
        let left = self.current.limit.saturating_sub(self.current.end);
        let reserve = self.options.reserve_bytes;
        if left > reserve || self.spares.missing_because().is_none() {
            Space::Ok
        } else if left > reserve / 8 {
            Space::Low
        } else {
            Space::Full
        }
    }

    /// Why [`Log::space`] is not [`Space::Ok`], for the log line.
    pub fn space_problem(&self) -> Option<String> {
        match self.space() {
            Space::Ok => None,
            Space::Low | Space::Full => Some(
                self.spares.missing_because().unwrap_or_else(|| "the last append found no room".to_owned()),
            ),
        }
    }

    /// Tries to get out of [`Space::Low`] and [`Space::Full`]: clears what a failed append left and prepares the
    /// next segment if one is wanted. Call about once a second while there is no room. On a real disk a thread in
    /// [`SpareMaker::run`] does the second part, and this returns at once.
    ///
    /// # Errors
    /// [`AppendError::Full`] if there is still no room.
    pub fn prepare_spare(&mut self) -> Result<(), AppendError> {
        self.heal()?;
        self.spares.prepare().map(drop).map_err(|e| AppendError::Full { cause: e.to_string() })
    }

    /// The handle for the thread that prepares segments.
    pub fn spare_maker(&self) -> SpareMaker {
        self.spares.clone()
    }

    /// Whose log it is.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// The first index the log still holds, or could hold.
    pub fn first_index(&self) -> u64 {
        self.first_index
    }

    /// The last index appended (not necessarily synced).
    pub fn last_index(&self) -> u64 {
        self.last_index
    }

    /// The term at [`Log::last_index`], 0 in an empty log.
    pub fn last_term(&self) -> u64 {
        self.last_term
    }

    /// How many fsyncs have made appended records durable since the log was opened.
    pub fn syncs(&self) -> u64 {
        self.syncs
    }

    /// Segments the log consists of, the current one included, spares not.
    pub fn segments(&self) -> usize {
        self.closed.len() + 1
    }

    /// Checks that the batches continue the log; returns the bytes their records take.
    fn check_batches(&self, batches: &[Batch]) -> Result<u64, AppendError> {
        let (mut first, mut last) = (self.first_index, self.last_index);
        let mut size = 0;
        for batch in batches {
            if let Some(start) = batch.log_start {
                (first, last) = (start.index + 1, start.index);
                size += record::log_start_size() as u64;
            }
            for entry in &batch.entries {
                if entry.index < first || entry.index > last + 1 {
                    return Err(AppendError::NotContiguous { got: entry.index, first, last });
                }
                if entry.data.len() > MAX_ENTRY_BYTES {
                    return Err(AppendError::TooLarge { what: "an entry", bytes: entry.data.len() as u64 });
                }
                last = entry.index;
                size += record::entry_size(entry.data.len()) as u64;
            }
            if batch.hard_state.is_some() {
                size += record::hard_state_size() as u64;
            }
        }
        if size > MAX_APPEND {
            return Err(AppendError::TooLarge { what: "one append", bytes: size });
        }
        Ok(size)
    }

    fn encode(&mut self, batches: &[Batch], seq: u64, offset: u64, synced_to: u64) {
        let mut encoder = Encoder {
            buffer: &mut self.buffer,
            offset,
            stamp: Stamp::new(self.identity, seq),
            synced_to: u32::try_from(synced_to).expect("segments are shorter than 4 GiB"),
        };
        for batch in batches {
            if let Some(start) = &batch.log_start {
                encoder.log_start(start);
            }
            for entry in &batch.entries {
                encoder.entry(entry);
            }
            if let Some(state) = &batch.hard_state {
                encoder.hard_state(state);
            }
        }
    }

    fn append_to_current(&mut self, batches: &[Batch]) -> Result<(), AppendError> {
        let Current { seq, end, synced, .. } = self.current;
        self.buffer.clear();
        self.encode(batches, seq, end, synced);
        let range = end..end + self.buffer.len() as u64;
        match self.current.file.write_all_at(&self.buffer, end) {
            Ok(()) => {
                self.current.end = range.end;
                Ok(())
            }
            Err(e) if is_full(&e) => {
                self.garbage = Some(Garbage { range, spare: None });
                Err(AppendError::Full { cause: self.describe("write", seq, e) })
            }
            Err(e) => Err(self.fail("write", seq, e)),
        }
    }

    /// Begins the next segment with these batches. Its header vouches for the current one, so that is synced
    /// first; and the header itself is synced whatever the batches ask for, so that a segment without header is
    /// always the last.
    fn append_to_next(&mut self, batches: &[Batch]) -> Result<(), AppendError> {
        self.sync()?;
        let spare =
            self.spares.take(self.current.seq + 1).map_err(|e| AppendError::Full { cause: e.to_string() })?;
        let header = SegmentHeader {
            seq: spare.seq,
            identity: self.identity,
            first_index: self.last_index + 1,
            previous_term: self.last_term,
            previous_end: self.current.end,
            hard_state: self.hard_state,
            segment_bytes: self.options.segment_bytes,
        };
        self.buffer.clear();
        self.buffer.extend_from_slice(&header.encode());
        self.encode(batches, spare.seq, 0, 0);
        let end = self.buffer.len() as u64;
        match spare.file.write_all_at(&self.buffer, 0) {
            Ok(()) => {}
            Err(e) if is_full(&e) => {
                let cause = self.describe("write", spare.seq, e);
                self.garbage = Some(Garbage { range: 0..end, spare: Some(spare) });
                return Err(AppendError::Full { cause });
            }
            Err(e) => return Err(self.fail("write", spare.seq, e)),
        }
        if let Err(e) = spare.file.sync_data() {
            return Err(self.fail("sync", spare.seq, e));
        }
        self.syncs += 1;
        let limit = self.options.segment_bytes;
        let next = Current { seq: spare.seq, file: spare.file, limit, end, synced: end, max_index: 0 };
        let full = std::mem::replace(&mut self.current, next);
        self.closed.push_back((full.seq, full.max_index));
        Ok(())
    }

    fn note_appended(&mut self, batches: &[Batch]) {
        for batch in batches {
            if let Some(start) = batch.log_start {
                self.first_index = start.index + 1;
                (self.last_index, self.last_term) = (start.index, start.term);
                self.current.max_index = self.current.max_index.max(start.index);
            }
            for entry in &batch.entries {
                self.current.max_index = self.current.max_index.max(entry.index);
            }
            if let Some(entry) = batch.entries.last() {
                (self.last_index, self.last_term) = (entry.index, entry.term);
            }
            self.hard_state = batch.hard_state.or(self.hard_state);
        }
        self.buffer.clear();
        self.buffer.shrink_to(KEEP_BUFFER);
    }

    fn want_spare(&self) {
        if self.current.end > self.current.limit / 2 {
            self.spares.want(self.current.seq + 1);
        }
    }

    /// Makes what a failed append left zeros again. Until that is durable nothing may follow: a shorter append
    /// would leave whole records of the failed one behind it, and a crash would bring them to life.
    fn heal(&mut self) -> Result<(), AppendError> {
        let Some(garbage) = self.garbage.take() else { return Ok(()) };
        let (file, seq) = match &garbage.spare {
            Some(spare) => (&spare.file, spare.seq),
            None => (&self.current.file, self.current.seq),
        };
        // Beyond the size the segment was made with there were no bytes before, so there shall be none again.
        let limit = self.current.limit;
        let Range { start, end } = garbage.range;
        let cleared = if end > limit && garbage.spare.is_none() {
            file.set_len(start.max(limit)).and_then(|()| segment::clear(&**file, start..limit))
        } else {
            segment::clear(&**file, start..end)
        };
        match cleared {
            Ok(()) => {}
            Err(e) if is_full(&e) => {
                let cause = self.describe("write", seq, e);
                self.garbage = Some(garbage);
                return Err(AppendError::Full { cause });
            }
            Err(e) => return Err(self.fail("write", seq, e)),
        }
        if let Err(e) = file.sync_data() {
            return Err(self.fail("sync", seq, e));
        }
        if let Some(spare) = garbage.spare {
            self.spares.put(spare);
        }
        Ok(())
    }

    fn describe(&self, op: &'static str, seq: u64, e: std::io::Error) -> String {
        DiskError::new(op, &segment::path(&self.dir, seq, "wal"), e).to_string()
    }

    fn fail(&mut self, op: &'static str, seq: u64, e: std::io::Error) -> AppendError {
        let cause = self.describe(op, seq, e);
        self.fatal = Some(cause.clone());
        AppendError::Fatal { cause }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.spares.close();
    }
}

fn remove_leftovers(disk: &dyn Disk, dir: &Path) -> Result<(), OpenError> {
    for name in disk.list(dir).on("list", dir)? {
        if segment::is_leftover(&name) {
            let path = dir.join(name);
            disk.remove(&path).on("remove", &path)?;
        }
    }
    Ok(())
}
