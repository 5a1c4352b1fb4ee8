//! Looking at a data directory without changing it: what `ostler check DATADIR` prints.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::Identity;
use crate::data_dir::{identity_path, in_use_by, read_identity, subdirectories};
use crate::disk::Disk;
use crate::error::OpenError;
use crate::log::{HardState, TornTail, has_segments, scan};
use crate::snapshot::{Origin, SnapshotInfo, SnapshotReader, files};

/// What a server's directories hold, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// `<dataDir>/ostler`.
    pub snapshot_dir: PathBuf,
    /// `<dataLogDir>/ostler`.
    pub log_dir: PathBuf,
    /// Whose data it is, as far as any file says.
    pub identity: Option<Identity>,
    /// The log; `None` if there is none or it cannot be read, for which see `problems`.
    pub log: Option<LogReport>,
    /// The snapshot files, newest first.
    pub snapshots: Vec<SnapshotReport>,
    /// Why a server would refuse to start on this. Empty if it would start.
    pub problems: Vec<String>,
    /// What a person should know although a server would start.
    pub warnings: Vec<String>,
}

/// What the log holds.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct LogReport {
    /// Its segments, oldest first.
    pub segments: Vec<SegmentReport>,
    /// The first index it holds, or would hold if it were not empty.
    pub first_index: u64,
    /// The last index it holds.
    pub last_index: u64,
    /// The term at `last_index`.
    pub last_term: u64,
    /// The newest hard state.
    pub hard_state: Option<HardState>,
    /// An interrupted last write, which the next start will remove. Nothing acknowledged is in it.
    pub torn_tail: Option<TornTail>,
    /// True if the next segment is prepared.
    pub spare: bool,
}

/// One segment of the log.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct SegmentReport {
    /// Its file.
    pub file: PathBuf,
    /// The smallest index in it; `None` if it holds no entry.
    pub first_index: Option<u64>,
    /// The largest index in it; `None` if it holds no entry.
    pub last_index: Option<u64>,
    /// Bytes used.
    pub used_bytes: u64,
    /// Bytes it was made with.
    pub segment_bytes: u64,
}

/// One snapshot file.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct SnapshotReport {
    /// The file.
    pub file: PathBuf,
    /// What it is, if it is good from the first byte to the last.
    pub info: Option<SnapshotInfo>,
    /// What is wrong with it otherwise.
    pub problem: Option<String>,
}

impl Report {
    /// True if a server would start on this.
    pub fn is_good(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Reads everything below `data_dir` and `data_log_dir` that a server would read, and judges it as
/// [`crate::DataDir::recover`] would. Changes nothing and needs no lock; beside a running server the answer may be
/// out of date before it is complete, so then it carries a warning.
pub fn check(disk: &dyn Disk, data_dir: &Path, data_log_dir: &Path) -> Report {
    let (snapshot_dir, log_dir) = subdirectories(data_dir, data_log_dir);
    let mut report = Report {
        snapshot_dir,
        log_dir,
        identity: None,
        log: None,
        snapshots: Vec::new(),
        problems: Vec::new(),
        warnings: Vec::new(),
    };
    report.look_at_lock(disk);
    let marker = report.look_at_identity(disk);
    report.look_at_snapshots(disk);
    report.look_at_log(disk, marker);
    report
}

impl Report {
    fn look_at_lock(&mut self, disk: &dyn Disk) {
        match in_use_by(disk, &self.snapshot_dir, &self.log_dir) {
            Ok(None) => {}
            Ok(Some(holder)) => self.warnings.push(format!(
                "a server ({holder}) is running on this; it may have changed while it was being read"
            )),
            Err(e) => self.warnings.push(e.to_string()),
        }
    }

    fn look_at_identity(&mut self, disk: &dyn Disk) -> Option<Identity> {
        let path = identity_path(&self.snapshot_dir);
        match read_identity(disk, &path) {
            Ok(None) => None,
            Ok(Some(Some(identity))) => {
                self.identity = Some(identity);
                Some(identity)
            }
            Ok(Some(None)) => {
                self.problems.push(format!("{} cannot be understood", path.display()));
                None
            }
            Err(e) => {
                self.problems.push(e.to_string());
                None
            }
        }
    }

    fn look_at_snapshots(&mut self, disk: &dyn Disk) {
        let found = match files(disk, &self.snapshot_dir) {
            Ok(found) => found,
            Err(e) => return self.problems.push(e.to_string()),
        };
        for file in found {
            let read = || {
                let mut reader = SnapshotReader::open(disk, &file)?;
                while !reader.next_block()?.is_empty() {}
                Ok(reader.info())
            };
            let result: Result<SnapshotInfo, crate::SnapshotError> = read();
            let (info, problem) = match result {
                Ok(info) => (Some(info), None),
                Err(e) => (None, Some(e.to_string())),
            };
            self.snapshots.push(SnapshotReport { file, info, problem });
        }
        let newest_good =
            self.snapshots.iter().position(|s| s.info.is_some()).unwrap_or(self.snapshots.len());
        for bad in self.snapshots.iter().filter_map(|s| s.problem.as_ref()) {
            self.warnings.push(bad.clone());
        }
        if newest_good > 0 {
            let from = self
                .snapshots
                .get(newest_good)
                .map_or("the log alone".to_owned(), |s| s.file.display().to_string());
            self.warnings.push(format!("the newest snapshot is not usable; a start needs {from}"));
        }
    }

    fn look_at_log(&mut self, disk: &dyn Disk, marker: Option<Identity>) {
        let newest = self.snapshots.iter().find_map(|s| s.info.clone());
        let expected = marker.or(newest.as_ref().map(|s| s.meta.identity));
        let needed = newest.as_ref().map_or(1, |s| s.meta.index + 1);
        match has_segments(disk, &self.log_dir) {
            Ok(true) => {}
            Ok(false) if expected.is_none() && self.snapshots.is_empty() => {
                return self
                    .problems
                    .push(format!("there is no data of Ostler in {}", self.log_dir.display()));
            }
            Ok(false) => {
                return self.problems.push(OpenError::NoLog { dir: self.log_dir.clone() }.to_string());
            }
            Err(e) => return self.problems.push(format!("cannot list {}: {e}", self.log_dir.display())),
        }
        let scan = match scan(disk, &self.log_dir, expected, needed) {
            Ok(Some(scan)) => scan,
            Ok(None) => return self.problems.push(format!("the log in {} is gone", self.log_dir.display())),
            Err(e) => return self.problems.push(e.to_string()),
        };
        self.identity = Some(scan.identity);
        if let Some(cut) = &scan.cut {
            self.warnings.push(format!(
                "the last write to {} was interrupted at offset {}; the next start removes it, nothing acknowledged \
                 is in it",
                cut.file.display(),
                cut.offset
            ));
        }
        if let Some(snapshot) = &newest {
            if snapshot.meta.identity != scan.identity {
                self.problems.push(format!(
                    "{} belongs to {}, the log to {}",
                    snapshot.path.display(),
                    snapshot.meta.identity,
                    scan.identity
                ));
            }
            let behind = scan.last_index < snapshot.meta.index;
            let other = scan.term_before.is_some_and(|term| term != snapshot.meta.term) && !behind;
            let what = if behind { "ends before" } else { "disagrees with" };
            if behind || other {
                let text =
                    format!("the log {what} {} (index {})", snapshot.path.display(), snapshot.meta.index);
                match snapshot.meta.origin {
                    Origin::Local => {
                        self.problems.push(format!("{text}, which was made from it: entries are lost"))
                    }
                    Origin::Received => self.warnings.push(format!(
                        "{text}, which another server sent; the next start completes its installation"
                    )),
                }
            }
        }
        let segments = scan.segments.iter().map(|s| SegmentReport {
            file: s.path.clone(),
            first_index: (s.min_index > 0).then_some(s.min_index),
            last_index: (s.max_index > 0).then_some(s.max_index),
            used_bytes: s.end,
            segment_bytes: s.header.segment_bytes,
        });
        self.log = Some(LogReport {
            segments: segments.collect(),
            first_index: scan.base + 1,
            last_index: scan.last_index,
            last_term: scan.last_term,
            hard_state: scan.hard_state,
            torn_tail: scan.cut,
            spare: scan.spare.is_some(),
        });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.identity {
            Some(identity) => writeln!(f, "identity   {identity}")?,
            None => writeln!(f, "identity   unknown")?,
        }
        writeln!(f, "log        {}", self.log_dir.display())?;
        if let Some(log) = &self.log {
            for segment in &log.segments {
                let name = segment.file.file_name().unwrap_or_default().to_string_lossy();
                match (segment.first_index, segment.last_index) {
                    (Some(first), Some(last)) => write!(f, "  {name}  entries {first} to {last}")?,
                    _ => write!(f, "  {name}  no entries")?,
                }
                writeln!(f, "  {} of {} bytes", segment.used_bytes, segment.segment_bytes)?;
            }
            writeln!(f, "  index {} to {}, last term {}", log.first_index, log.last_index, log.last_term)?;
            if let Some(state) = &log.hard_state {
                writeln!(f, "  term {} vote {:016x} commit {}", state.term, state.vote, state.commit)?;
            }
        }
        writeln!(f, "snapshots  {}", self.snapshot_dir.display())?;
        for snapshot in &self.snapshots {
            let name = snapshot.file.file_name().unwrap_or_default().to_string_lossy();
            match &snapshot.info {
                Some(info) => writeln!(
                    f,
                    "  {name}  index {} term {} zxid {:#x}  {} records  {} bytes  digest {:032x}",
                    info.meta.index,
                    info.meta.term,
                    info.meta.zxid,
                    info.records,
                    info.file_bytes,
                    info.digest
                )?,
                None => writeln!(f, "  {name}  damaged")?,
            }
        }
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        for problem in &self.problems {
            writeln!(f, "problem: {problem}")?;
        }
        let verdict = if self.is_good() { "good: a server can start on this" } else { "NOT GOOD" };
        writeln!(f, "{verdict}")
    }
}
