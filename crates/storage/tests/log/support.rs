//! A simple model of the log, and a driver that runs the same random work on both and compares.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ostler_storage::{
    AppendError, Batch, Entry, ExpectIdentity, HardState, Identity, Log, LogOptions, LogStart, OpenError,
    Recovered, SimDisk,
};

pub(crate) const ME: Identity = Identity { cluster_id: 0xc1, node_id: 0x01 };
pub(crate) const DIR: &str = "/data/ostler";

/// SplitMix64.
#[derive(Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// What a log holds, as the model sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Content {
    entries: BTreeMap<u64, Entry>,
    hard_state: Option<HardState>,
    /// Index and term of the snapshot that the log starts after.
    start: (u64, u64),
    last: u64,
}

impl Content {
    fn log_start(&mut self, start: LogStart) {
        self.entries.clear();
        self.start = (start.index, start.term);
        self.last = start.index;
    }

    fn entry(&mut self, entry: &Entry) {
        self.entries.split_off(&entry.index);
        self.entries.insert(entry.index, entry.clone());
        self.last = entry.index;
    }

    fn term(&self, index: u64) -> Option<u64> {
        if index == self.start.0 { Some(self.start.1) } else { self.entries.get(&index).map(|e| e.term) }
    }

    /// Why `recovered` is not this content seen from `needed` on; `None` if it is.
    fn differs_from(&self, recovered: &Recovered, needed: u64) -> Option<String> {
        let entries: Vec<Entry> = self.entries.range(needed..).map(|(_, e)| e.clone()).collect();
        if recovered.entries != entries {
            let show = |e: &[Entry]| e.iter().map(|e| (e.index, e.term)).collect::<Vec<_>>();
            return Some(format!("entries {:?}, expected {:?}", show(&recovered.entries), show(&entries)));
        }
        if recovered.hard_state != self.hard_state {
            return Some(format!("hard state {:?}, expected {:?}", recovered.hard_state, self.hard_state));
        }
        if recovered.last_index != self.last {
            return Some(format!("last index {}, expected {}", recovered.last_index, self.last));
        }
        let term = self.term(needed - 1);
        if self.last >= needed && term.is_some() && recovered.term_before != term {
            return Some(format!("term before {:?}, expected {term:?}", recovered.term_before));
        }
        None
    }
}

/// The model: what must be there, and what may be.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    /// Everything acknowledged, synced or not.
    pub(crate) now: Content,
    /// What a crash may leave, oldest first; the first is the last state known durable.
    possible: Vec<Content>,
    /// What a crash may bring back of appends that found no room, until the next one that does.
    stale: Vec<Content>,
    /// The index after the newest snapshot.
    pub(crate) needed: u64,
    /// The term at `needed - 1`.
    needed_term: u64,
    term: u64,
}

impl Model {
    pub(crate) fn new() -> Model {
        let now = Content::default();
        Model { possible: vec![now.clone()], stale: Vec::new(), now, needed: 1, needed_term: 0, term: 1 }
    }

    /// Adds every state between the records of `batches` to what a crash may leave; returns the last one.
    fn attempt(&mut self, batches: &[Batch]) -> Content {
        let mut content = self.now.clone();
        for batch in batches {
            if let Some(start) = batch.log_start {
                content.log_start(start);
                self.possible.push(content.clone());
            }
            for entry in &batch.entries {
                content.entry(entry);
                self.possible.push(content.clone());
            }
            if let Some(state) = batch.hard_state {
                content.hard_state = Some(state);
                self.possible.push(content.clone());
            }
        }
        content
    }

    fn acknowledge(&mut self, content: Content, synced: bool) {
        if content != self.now {
            self.stale.clear();
        }
        self.now = content;
        if synced {
            self.possible = vec![self.now.clone()];
        }
    }

    /// After a crash: `recovered` must be one of the possible states, and is from now on the only one.
    pub(crate) fn settle(&mut self, recovered: &Recovered) {
        self.possible.append(&mut self.stale);
        let found = self.possible.iter().rev().find(|c| c.differs_from(recovered, self.needed).is_none());
        let Some(found) = found else {
            let reasons: Vec<String> =
                self.possible.iter().filter_map(|c| c.differs_from(recovered, self.needed)).collect();
            panic!(
                "recovered neither what was acknowledged nor a prefix of what was attempted:\n{reasons:#?}"
            );
        };
        self.now = found.clone();
        self.possible = vec![self.now.clone()];
        self.term += 1;
    }

    fn make_batches(&mut self, random: &mut Random) -> Vec<Batch> {
        let mut next = self.now.last + 1;
        let commit = self.now.hard_state.map_or(0, |s| s.commit).max(self.needed - 1);
        let mut known_commit = commit;
        let mut batches = Vec::new();
        for _ in 0..=random.below(3) {
            let mut batch = Batch { must_sync: !random.one_in(4), ..Batch::default() };
            if random.one_in(6) && next > known_commit + 1 {
                // A new leader replaces what was not committed.
                next = known_commit + 1 + random.below(next - known_commit - 1);
                self.term += 1;
            }
            for _ in 0..random.below(4) {
                let len = match random.below(10) {
                    0 => 0,
                    1 => random.below(3000),
                    _ => random.below(300),
                };
                let fill = if random.one_in(4) { 0 } else { random.below(256) as u8 };
                let data = vec![fill; len as usize].into();
                batch.entries.push(Entry { term: self.term, index: next, kind: random.below(3) as u8, data });
                next += 1;
            }
            if random.one_in(2) {
                known_commit += random.below(next - known_commit);
                batch.hard_state =
                    Some(HardState { term: self.term, vote: random.below(4), commit: known_commit });
            }
            batches.push(batch);
        }
        batches
    }
}

/// A log on a simulated disk and its model.
pub(crate) struct Driver {
    pub(crate) disk: SimDisk,
    pub(crate) log: Option<Log>,
    pub(crate) model: Model,
    pub(crate) random: Random,
    pub(crate) options: LogOptions,
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Done,
    Full,
    Dead,
}

impl Driver {
    pub(crate) fn new(seed: u64, options: LogOptions) -> Driver {
        let disk = SimDisk::new(seed);
        ostler_storage::Disk::create_dir_all(&disk, Path::new(DIR)).unwrap();
        Driver { disk, log: None, model: Model::new(), random: Random(seed), options }
    }

    pub(crate) fn try_open(&self) -> Result<(Log, Recovered), OpenError> {
        Log::open(
            Arc::new(self.disk.clone()),
            Path::new(DIR),
            ExpectIdentity::OrCreate(ME),
            self.options,
            self.model.needed,
        )
    }

    /// Opens the log and checks what it says; finishes the installation of a snapshot that a crash interrupted.
    pub(crate) fn open(&mut self) -> Step {
        self.log = None;
        match self.try_open() {
            Ok((log, recovered)) => {
                self.model.settle(&recovered);
                self.log = Some(log);
                let behind = recovered.last_index + 1 < self.model.needed;
                let conflict = recovered.term_before.is_some_and(|t| t != self.model.needed_term);
                if behind || conflict { self.install() } else { Step::Done }
            }
            Err(OpenError::Disk(_)) => Step::Dead,
            Err(e) => panic!("refused: {e}"),
        }
    }

    /// One random step of work. `Dead` after a failure that a process must not survive.
    pub(crate) fn step(&mut self) -> Step {
        if self.model.now.last + 1 < self.model.needed {
            // An installation found no room.
            return self.install();
        }
        match self.random.below(12) {
            0 => {
                let outcome = self.log().prepare_spare();
                self.judge(outcome)
            }
            1 => self.snapshot_and_purge(),
            2 if self.random.one_in(3) => {
                let index = self.model.now.last + self.random.below(5) + 1;
                self.model.term += 1;
                (self.model.needed, self.model.needed_term) = (index + 1, self.model.term);
                self.install()
            }
            _ => {
                let mut random = self.random.clone();
                let batches = self.model.make_batches(&mut random);
                self.random = random;
                self.append(&batches)
            }
        }
    }

    fn log(&mut self) -> &mut Log {
        self.log.as_mut().expect("open")
    }

    pub(crate) fn append(&mut self, batches: &[Batch]) -> Step {
        let before = self.model.possible.len();
        let content = self.model.attempt(batches);
        let outcome = self.log().append(batches);
        if matches!(outcome, Err(AppendError::Full { .. })) {
            self.model.stale.extend(self.model.possible[before..].iter().cloned());
        }
        if outcome.is_ok() {
            self.model.acknowledge(content, batches.iter().any(|b| b.must_sync));
        }
        self.judge(outcome)
    }

    fn judge(&mut self, outcome: Result<(), AppendError>) -> Step {
        match outcome {
            Ok(()) => Step::Done,
            Err(AppendError::Full { .. }) if self.disk.crashed() => Step::Dead,
            Err(AppendError::Full { .. }) => Step::Full,
            Err(AppendError::Fatal { .. }) => Step::Dead,
            Err(e) => panic!("the driver made a mistake: {e}"),
        }
    }

    fn install(&mut self) -> Step {
        let start = LogStart { index: self.model.needed - 1, term: self.model.needed_term };
        let old = self.model.now.hard_state.unwrap_or_default();
        let hard_state = HardState { term: start.term.max(old.term), vote: 0, commit: start.index };
        let batch = Batch {
            log_start: Some(start),
            hard_state: Some(hard_state),
            must_sync: true,
            ..Batch::default()
        };
        self.append(&[batch])
    }

    fn snapshot_and_purge(&mut self) -> Step {
        let commit = self.model.now.hard_state.map_or(0, |s| s.commit);
        // A snapshot is of entries that are durable here.
        if self.log().sync().is_err() {
            return Step::Dead;
        }
        self.model.possible = vec![self.model.now.clone()];
        if commit >= self.model.needed {
            let index = self.model.needed + self.random.below(commit - self.model.needed + 1);
            self.model.needed_term = self.model.now.term(index).expect("committed entries are there");
            self.model.needed = index + 1;
        }
        let up_to = self.model.needed - 1;
        match self.log().purge(up_to) {
            Ok(_) => Step::Done,
            Err(_) if self.disk.crashed() => Step::Dead,
            Err(_) => Step::Full,
        }
    }
}
