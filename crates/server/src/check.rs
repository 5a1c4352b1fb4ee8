//! `ostler check`: what a data directory holds, and whether a server could go on from it.

use std::fmt;
use std::path::Path;

use ostler_storage::RealDisk;
use ostler_tree::State;
use ostler_types::Zxid;
use serde::Serialize;

use crate::recovery;

/// The result of [`check`]. Prints as text for people.
#[derive(Debug, Serialize)]
pub struct CheckReport {
    /// Whether a server would start on this.
    pub good: bool,
    /// The files.
    #[serde(flatten)]
    pub files: ostler_storage::Report,
    /// What the newest usable snapshot holds.
    pub newest_snapshot: Option<StateSummary>,
}

/// What is in a snapshot.
#[derive(Debug, Serialize)]
pub struct StateSummary {
    /// Its zxid, in hex.
    pub zxid: String,
    /// Its log index.
    pub index: u64,
    /// Znodes, the built-in ones included.
    pub znodes: usize,
    /// Ephemeral znodes.
    pub ephemerals: usize,
    /// Sessions.
    pub sessions: usize,
    /// Bytes of paths and data.
    pub data_bytes: u64,
    /// The digest that equal states share, in hex; recomputed from the contents.
    pub agreement_digest: String,
}

/// Reads everything a server would read at start and judges it, changing nothing.
pub fn check(data_dir: &Path, data_log_dir: &Path) -> CheckReport {
    let mut files = ostler_storage::check(&RealDisk, data_dir, data_log_dir);
    let mut newest_snapshot = None;
    if let Some(info) = files.snapshots.iter().find_map(|snapshot| snapshot.info.clone()) {
        match recovery::read_snapshot(&info) {
            Ok(state) => newest_snapshot = Some(StateSummary::of(&state)),
            Err(error) => files.problems.push(error.to_string()),
        }
    }
    CheckReport { good: files.is_good(), files, newest_snapshot }
}

impl StateSummary {
    fn of(state: &State) -> StateSummary {
        let zxid: Zxid = state.last_zxid();
        StateSummary {
            zxid: zxid.to_string(),
            index: state.applied_index().0,
            znodes: state.node_count() - 1,
            ephemerals: state.ephemeral_count(),
            sessions: state.sessions().len(),
            data_bytes: state.approximate_data_size(),
            agreement_digest: format!("{:016x}", state.agreement_digest()),
        }
    }
}

impl CheckReport {
    /// As JSON, for scripts.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("a report is plain data")
    }
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.files)?;
        if let Some(state) = &self.newest_snapshot {
            let StateSummary { zxid, index, znodes, ephemerals, sessions, data_bytes, agreement_digest } =
                state;
            writeln!(
                f,
                "newest snapshot holds: zxid {zxid}, index {index}, {znodes} znodes ({ephemerals} ephemeral), \
                 {sessions} sessions, {data_bytes} bytes of paths and data, digest {agreement_digest}"
            )?;
        }
        Ok(())
    }
}
