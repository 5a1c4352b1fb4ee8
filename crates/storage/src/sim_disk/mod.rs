//! A disk in memory that behaves as badly as disks may, from a seed.
//!
//! What was written but not synced is kept apart from what is durable. [`SimDisk::power_cut`] then decides from a
//! seed, sector by sector and name by name, what of it reached the medium; [`SimDisk::kill`] is the death of the
//! process only, after which everything is still there, but no more durable than before. Errors and crashes can
//! be put before any operation.
//!
//! Left out: directories are durable once created, and reading is always of the newest bytes, as through a page
//! cache. Nothing here reads a clock or a random source, so a seed and the same calls give the same disk.

mod node;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use node::Node;

use crate::disk::{Disk, DiskFile, DiskLock, LockError, OpenMode};

/// Something that goes wrong at one operation; see [`SimDisk::fail_at`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The device fails. A write may have been done in part. After a failed sync some of the data is durable,
    /// and the rest never will be although it can still be read: the page cache believes it is clean.
    Eio,
    /// The disk is full: creating and writing fail, the latter perhaps in part, even over bytes that exist (as on
    /// a copy-on-write file system). Other operations are not affected.
    Enospc,
    /// The process dies before, in the middle of or after the operation; everything fails until
    /// [`SimDisk::kill`] or [`SimDisk::power_cut`].
    Crash,
}

/// A simulated disk; clones are the same disk. See the module for what it models.
#[derive(Clone)]
pub struct SimDisk {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    nodes: BTreeMap<u64, Node>,
    next_node: u64,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    /// Changes of names since the last sync of their directory, oldest first.
    pending_names: Vec<NameChange>,
    dirs: BTreeSet<PathBuf>,
    locks: BTreeMap<PathBuf, String>,
    /// Counts lives of the process; handles of an earlier life are dead.
    life: u64,
    crashed: bool,
    ops: u64,
    reads: u64,
    fail: Option<Planned>,
    fail_read_at: Option<u64>,
    capacity: Option<u64>,
    random: Random,
}

#[derive(Clone, Copy)]
struct Planned {
    at: u64,
    fault: Fault,
    from_then_on: bool,
}

/// Happens as a whole or not at all.
struct NameChange {
    dir: PathBuf,
    binds: Vec<(PathBuf, Option<u64>)>,
}

/// What kind of operation is asked for; decides which faults apply.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Op {
    Create,
    Write,
    Sync,
    Name,
}

/// How to go about an operation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Go {
    Normally,
    /// Do nothing, a part or all of it, as the case may be, then fail.
    Failing(Fault),
}

impl SimDisk {
    /// An empty disk. `seed` decides what partly failed operations leave.
    pub fn new(seed: u64) -> SimDisk {
        let inner = Inner {
            nodes: BTreeMap::new(),
            next_node: 0,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending_names: Vec::new(),
            dirs: BTreeSet::new(),
            locks: BTreeMap::new(),
            life: 0,
            crashed: false,
            ops: 0,
            reads: 0,
            fail: None,
            fail_read_at: None,
            capacity: None,
            random: Random(seed),
        };
        SimDisk { inner: Arc::new(Mutex::new(inner)) }
    }

    /// Changing operations so far: creating, writing, resizing, syncing, renaming, removing, syncing a directory.
    pub fn ops(&self) -> u64 {
        self.state().ops
    }

    /// Reads so far.
    pub fn reads(&self) -> u64 {
        self.state().reads
    }

    /// Makes the `n`-th changing operation from now fail (0 is the next one), and only that one.
    pub fn fail_at(&self, n: u64, fault: Fault) {
        let mut state = self.state();
        state.fail = Some(Planned { at: state.ops + n, fault, from_then_on: false });
    }

    /// Makes the `n`-th changing operation from now and all after it fail.
    pub fn fail_from(&self, n: u64, fault: Fault) {
        let mut state = self.state();
        state.fail = Some(Planned { at: state.ops + n, fault, from_then_on: true });
    }

    /// Makes the `n`-th read from now fail with `EIO`.
    pub fn fail_read_at(&self, n: u64) {
        let mut state = self.state();
        state.fail_read_at = Some(state.reads + n);
    }

    /// No planned faults any more.
    pub fn clear_faults(&self) {
        let mut state = self.state();
        state.fail = None;
        state.fail_read_at = None;
    }

    /// Limits the sum of all file lengths; what would exceed it gets `ENOSPC`.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// Bytes of all files together.
    pub fn used(&self) -> u64 {
        self.state().used()
    }

    /// True if a planned crash has happened.
    pub fn crashed(&self) -> bool {
        self.state().crashed
    }

    /// The process dies: handles and locks are gone, files stay as they were last seen, un-synced as they may be.
    pub fn kill(&self) {
        self.state().next_life();
    }

    /// The machine loses power: of everything not synced, `seed` decides what is kept. Each sector is as after any
    /// of the writes to it; each change of a name has happened or not.
    pub fn power_cut(&self, seed: u64) {
        let mut state = self.state();
        let state = &mut *state;
        let mut random = Random(seed);
        for node in state.nodes.values_mut() {
            node.power_cut(&mut random);
        }
        let style = random.below(4);
        let kept_prefix = random.below(state.pending_names.len() as u64 + 1);
        for (i, change) in std::mem::take(&mut state.pending_names).into_iter().enumerate() {
            let keep = match style {
                0 => false,
                1 => true,
                2 => (i as u64) < kept_prefix,
                _ => random.below(2) == 0,
            };
            if keep {
                change.apply(&mut state.durable_names);
            }
        }
        state.names = state.durable_names.clone();
        let named: BTreeSet<u64> = state.names.values().copied().collect();
        state.nodes.retain(|id, _| named.contains(id));
        state.next_life();
    }

    /// A file's bytes as a reader sees them now; `None` if there is no such file.
    pub fn contents(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state();
        state.names.get(path).map(|id| state.nodes[id].current().to_vec())
    }

    /// Changes a file behind the back of its writer, durably: damage, not a crash. The file must exist.
    pub fn damage(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let id = *state.names.get(path).unwrap_or_else(|| panic!("{} does not exist", path.display()));
        state.nodes.get_mut(&id).expect("names lead to nodes").damage(change);
    }

    /// Removes a file behind the back of its writer, durably.
    pub fn lose(&self, path: &Path) {
        let mut state = self.state();
        state.names.remove(path);
        state.durable_names.remove(path);
        state.pending_names.retain(|change| change.binds.iter().all(|(bound, _)| bound != path));
    }

    /// A copy of the disk with a life of its own: the same files, durable or not, no faults, no locks.
    pub fn fork(&self) -> SimDisk {
        let state = self.state();
        let copy = SimDisk::new(state.random.0);
        {
            let mut inner = copy.state();
            inner.nodes = state.nodes.clone();
            inner.next_node = state.next_node;
            inner.names = state.names.clone();
            inner.durable_names = state.durable_names.clone();
            inner.pending_names = state.pending_names.iter().map(NameChange::copy).collect();
            inner.dirs = state.dirs.clone();
        }
        copy
    }

    fn state(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, node: u64, life: u64) -> Box<dyn DiskFile> {
        Box::new(SimFile { disk: self.clone(), node, life })
    }
}

impl Inner {
    fn next_life(&mut self) {
        self.life += 1;
        self.crashed = false;
        self.locks.clear();
        self.fail = None;
        self.fail_read_at = None;
    }

    fn used(&self) -> u64 {
        self.names.values().map(|id| self.nodes[id].current().len() as u64).sum()
    }

    fn alive(&self, life: u64) -> io::Result<()> {
        if self.crashed || life != self.life { Err(dead()) } else { Ok(()) }
    }

    /// Counts a changing operation and says how it goes.
    fn begin(&mut self, op: Op) -> io::Result<Go> {
        self.alive(self.life)?;
        let now = self.ops;
        self.ops += 1;
        let Some(planned) = self.fail else { return Ok(Go::Normally) };
        let due = now == planned.at || planned.from_then_on && now > planned.at;
        let applies = planned.fault != Fault::Enospc || matches!(op, Op::Create | Op::Write);
        if !due || !applies {
            return Ok(Go::Normally);
        }
        if planned.fault == Fault::Crash {
            self.crashed = true;
        }
        Ok(Go::Failing(planned.fault))
    }

    /// For operations that happen as a whole: decides whether one that fails has happened all the same.
    fn whole(&mut self, go: Go) -> (bool, io::Result<()>) {
        match go {
            Go::Normally => (true, Ok(())),
            Go::Failing(Fault::Crash) => (self.random.below(2) == 0, Err(dead())),
            Go::Failing(fault) => (false, Err(fault.error())),
        }
    }

    fn change_names(&mut self, dir: &Path, binds: Vec<(PathBuf, Option<u64>)>) {
        let change = NameChange { dir: dir.to_owned(), binds };
        change.apply(&mut self.names);
        self.pending_names.push(change);
    }

    fn read_allowed(&mut self, life: u64) -> io::Result<()> {
        self.alive(life)?;
        let now = self.reads;
        self.reads += 1;
        if self.fail_read_at == Some(now) { Err(Fault::Eio.error()) } else { Ok(()) }
    }

    fn room(&self, wanted: u64) -> u64 {
        self.capacity.map_or(wanted, |capacity| wanted.min(capacity.saturating_sub(self.used())))
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<PathBuf, u64>) {
        for (path, target) in &self.binds {
            match target {
                Some(id) => names.insert(path.clone(), *id),
                None => names.remove(path),
            };
        }
    }

    fn copy(&self) -> NameChange {
        NameChange { dir: self.dir.clone(), binds: self.binds.clone() }
    }
}

impl Fault {
    fn error(self) -> io::Error {
        match self {
            Fault::Eio => io::Error::other("injected I/O error"),
            Fault::Enospc => io::ErrorKind::StorageFull.into(),
            Fault::Crash => dead(),
        }
    }
}

fn dead() -> io::Error {
    io::Error::other("the simulated process is dead")
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        state.alive(state.life)?;
        let life = state.life;
        if mode != OpenMode::CreateNew {
            let id = *state.names.get(path).ok_or(io::ErrorKind::NotFound)?;
            return Ok(self.file(id, life));
        }
        if state.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if !state.dirs.contains(parent(path)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let go = state.begin(Op::Create)?;
        let (happens, result) = state.whole(go);
        let id = state.next_node;
        if happens {
            state.next_node += 1;
            state.nodes.insert(id, Node::default());
            state.change_names(parent(path), vec![(path.to_owned(), Some(id))]);
        }
        result.map(|()| self.file(id, life))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let id = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        let go = state.begin(Op::Name)?;
        let (happens, result) = state.whole(go);
        if happens {
            state.change_names(parent(to), vec![(from.to_owned(), None), (to.to_owned(), Some(id))]);
        }
        result
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        if !state.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let go = state.begin(Op::Name)?;
        let (happens, result) = state.whole(go);
        if happens {
            state.change_names(parent(path), vec![(path.to_owned(), None)]);
        }
        result
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut state = self.state();
        let life = state.life;
        state.read_allowed(life)?;
        if !state.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let names = state.names.keys().filter(|path| parent(path) == dir);
        Ok(names
            .filter_map(|path| path.file_name())
            .map(|name| name.to_string_lossy().into_owned())
            .collect())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        let go = state.begin(Op::Sync)?;
        let (happens, result) = state.whole(go);
        if happens {
            let (synced, rest) =
                std::mem::take(&mut state.pending_names).into_iter().partition(|change| change.dir == dir);
            state.pending_names = rest;
            let synced: Vec<NameChange> = synced;
            for change in synced {
                change.apply(&mut state.durable_names);
            }
        }
        result
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.alive(state.life)?;
        state.dirs.extend(dir.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn lock(&self, path: &Path, note: &str) -> Result<Box<dyn DiskLock>, LockError> {
        let mut state = self.state();
        state.alive(state.life)?;
        if let Some(holder) = state.locks.get(path) {
            return Err(LockError::Held { holder: holder.trim().to_owned() });
        }
        state.locks.insert(path.to_owned(), note.to_owned());
        Ok(Box::new(SimLock { disk: self.clone(), path: path.to_owned(), life: state.life }))
    }

    fn lock_holder(&self, path: &Path) -> io::Result<Option<String>> {
        Ok(self.state().locks.get(path).map(|note| note.trim().to_owned()))
    }
}

struct SimLock {
    disk: SimDisk,
    path: PathBuf,
    life: u64,
}

impl DiskLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.life == self.life {
            state.locks.remove(&self.path);
        }
    }
}

struct SimFile {
    disk: SimDisk,
    node: u64,
    life: u64,
}

impl DiskFile for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        state.read_allowed(self.life)?;
        let bytes = state.node(self.node)?.current();
        let rest = usize::try_from(offset).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.alive(self.life)?;
        let go = state.begin(Op::Write)?;
        let (mut done, mut result) = match go {
            Go::Normally => (buf.len(), Ok(())),
            Go::Failing(fault) => (state.random.partial(buf.len()), Err(fault.error())),
        };
        let end = offset + done as u64;
        let len = state.node(self.node)?.current().len() as u64;
        let grows = end.saturating_sub(len);
        let room = state.room(grows);
        if room < grows {
            done = (end - (grows - room)).saturating_sub(offset) as usize;
            result = Err(Fault::Enospc.error());
        }
        state.node(self.node)?.write(offset as usize, &buf[..done]);
        result
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.alive(self.life)?;
        let go = state.begin(Op::Sync)?;
        let mut random = Random(state.random.next());
        let node = state.node(self.node)?;
        match go {
            Go::Normally => {
                node.sync();
                Ok(())
            }
            Go::Failing(Fault::Crash) => {
                if random.below(2) == 0 {
                    node.sync();
                }
                Err(dead())
            }
            Go::Failing(fault) => {
                node.fail_sync(&mut random);
                Err(fault.error())
            }
        }
    }

    fn len(&self) -> io::Result<u64> {
        let mut state = self.disk.state();
        state.alive(self.life)?;
        Ok(state.node(self.node)?.current().len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.alive(self.life)?;
        let go = state.begin(Op::Write)?;
        let grows = len.saturating_sub(state.node(self.node)?.current().len() as u64);
        if state.room(grows) < grows {
            return Err(Fault::Enospc.error());
        }
        let (happens, result) = state.whole(go);
        if happens {
            state.node(self.node)?.set_len(len as usize);
        }
        result
    }
}

impl Inner {
    fn node(&mut self, id: u64) -> io::Result<&mut Node> {
        self.nodes.get_mut(&id).ok_or_else(dead)
    }
}

/// Writes up to this many bytes are not cut in the middle by the death of the process.
const SHORT_WRITE: usize = 128;

/// SplitMix64 (Steele, Lea, Flood 2014): small, and good enough to choose faults.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// How much of a write was done when it failed. A short one comes out of one page and is done or not.
    fn partial(&mut self, len: usize) -> usize {
        if len <= SHORT_WRITE { self.below(2) as usize * len } else { self.below(len as u64 + 1) as usize }
    }

    /// A number below `bound`, 0 if that is 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        let value = self.next();
        if bound == 0 { 0 } else { value % bound }
    }
}

#[cfg(test)]
mod tests;
