//! The few file operations that Ostler's durability rests on, as a trait, and the real disk behind it.
//!
//! Everything durable goes through [`Disk`], so that the simulator and the tests can put a disk underneath
//! which tears, reorders and loses un-synced writes ([`crate::SimDisk`]). What a caller may rely on is only this:
//!
//! * bytes are durable after [`DiskFile::sync_data`] returned `Ok`, not before;
//! * a created, renamed or removed name is durable after [`Disk::sync_dir`] of its directory returned `Ok`;
//! * a power cut leaves each 512-byte sector either as it was before or after a write, never a mixture.
//!
//! A failed sync says nothing about which bytes are durable, and a second sync would lie: the kernel may have
//! marked the pages clean. Nothing in this crate retries one.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

/// How [`Disk::open`] opens a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, for reading only.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// A new file, for reading and writing; an error if the name exists.
    CreateNew,
}

/// Where files live: the real file system ([`RealDisk`]) or a simulated one ([`crate::SimDisk`]).
///
/// Paths are plain names below directories that exist; no operation follows a pattern. Every method may block on
/// the device.
pub trait Disk: Send + Sync + 'static {
    /// Opens one file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>>;
    /// Renames a file within one directory, replacing the target. Durable after [`Disk::sync_dir`].
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file. Durable after [`Disk::sync_dir`].
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory, sorted. A directory that does not exist is [`io::ErrorKind::NotFound`].
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Makes the directory's names durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Creates a directory and its missing parents, durably.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Takes an exclusive lock on `path` (created if needed) and writes `note` into it for people to read. The
    /// lock ends with the returned value or with the process, whichever is first.
    fn lock(&self, path: &Path, note: &str) -> Result<Box<dyn DiskLock>, LockError>;
    /// The note of whoever holds the lock on `path` now, `None` if nobody does. Changes nothing.
    fn lock_holder(&self, path: &Path) -> io::Result<Option<String>>;
}

/// One open file. Positions are absolute, so a handle has no cursor and can be shared between threads.
pub trait DiskFile: Send + Sync {
    /// Reads up to `buf.len()` bytes at `offset`; 0 means end of file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `buf` at `offset`, extending the file if needed. After an error any part may be written.
    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;
    /// Makes the file's bytes and length durable (`fdatasync`).
    fn sync_data(&self) -> io::Result<()>;
    /// The file's length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// True if the file holds no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Cuts or extends (with zeros) the file to `len` bytes.
    fn set_len(&self, len: u64) -> io::Result<()>;
}

/// A held lock; dropping it releases.
pub trait DiskLock: Send + Sync {}

/// Why [`Disk::lock`] failed.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process (or another server in this one) holds it.
    #[error("held by {holder}")]
    Held {
        /// What the holder wrote into the file, or "another process" if that cannot be read.
        holder: String,
    },
    /// The lock file could not be opened or written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads from `offset` until `buf` is full or the file ends; returns how many bytes were read.
pub(crate) fn read_full(file: &dyn DiskFile, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buf.len() {
        match file.read_at(&mut buf[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

/// True for "no space left" and "quota exceeded": the errors an operator cures by making room.
pub(crate) fn is_full(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// The file system of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

/// A lock is tried this often, [`LOCK_RETRY`] apart, before the holder is believed: a process that is just
/// exiting, or an `ostler check` looking at the lock, holds it for a moment only.
const LOCK_TRIES: u32 = 10;
const LOCK_RETRY: Duration = Duration::from_millis(50);

struct RealLock {
    _file: File,
}

impl DiskLock for RealLock {}

impl Disk for RealDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true);
        match mode {
            OpenMode::Read => {}
            OpenMode::Write => {
                options.write(true);
            }
            OpenMode::CreateNew => {
                options.write(true).create_new(true);
            }
        }
        Ok(Box::new(options.open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        Ok(names)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut missing: Vec<&Path> =
            dir.ancestors().take_while(|d| !d.as_os_str().is_empty() && !d.exists()).collect();
        while let Some(next) = missing.pop() {
            match fs::create_dir(next) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
                _ => {}
            }
            let parent = next.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            self.sync_dir(parent)?;
        }
        if dir.is_dir() { Ok(()) } else { Err(io::ErrorKind::NotADirectory.into()) }
    }

    fn lock(&self, path: &Path, note: &str) -> Result<Box<dyn DiskLock>, LockError> {
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut tries = 0;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if tries < LOCK_TRIES => {
                    tries += 1;
                    std::thread::sleep(LOCK_RETRY);
                }
                Err(TryLockError::WouldBlock) => return Err(LockError::Held { holder: holder(&mut file) }),
                Err(TryLockError::Error(e)) => return Err(e.into()),
            }
        }
        file.set_len(0)?;
        file.write_all(note.as_bytes())?;
        Ok(Box::new(RealLock { _file: file }))
    }

    fn lock_holder(&self, path: &Path) -> io::Result<Option<String>> {
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(TryLockError::WouldBlock) => Ok(Some(holder(&mut file))),
            Err(TryLockError::Error(e)) => Err(e),
        }
    }
}

/// The first line of a lock file, bounded: anybody may have written it.
fn holder(file: &mut File) -> String {
    let mut text = Vec::new();
    let read = file.take(200).read_to_end(&mut text);
    let line = String::from_utf8_lossy(&text).lines().next().unwrap_or_default().trim().to_owned();
    if read.is_err() || line.is_empty() { "another process".to_owned() } else { line }
}

impl DiskFile for File {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buf, offset)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        File::sync_data(self)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_names_the_first_holder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = RealDisk.lock(&path, "ostler pid 42\n").unwrap();
        assert_eq!(RealDisk.lock_holder(&path).unwrap().as_deref(), Some("ostler pid 42"));
        match RealDisk.lock(&path, "second") {
            Err(LockError::Held { holder }) => assert_eq!(holder, "ostler pid 42"),
            other => panic!("the second lock must be refused, got {:?}", other.err()),
        }
        drop(held);
        assert_eq!(RealDisk.lock_holder(&path).unwrap(), None);
        RealDisk.lock(&path, "third").unwrap();
    }

    #[test]
    fn directories_are_made_with_their_parents_and_files_are_positional() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("a/b/c");
        RealDisk.create_dir_all(&deep).unwrap();
        RealDisk.create_dir_all(&deep).unwrap();
        let file = RealDisk.open(&deep.join("f"), OpenMode::CreateNew).unwrap();
        file.write_all_at(b"xyz", 4).unwrap();
        file.sync_data().unwrap();
        let mut buf = [1; 16];
        assert_eq!(read_full(&*file, &mut buf, 0).unwrap(), 7);
        assert_eq!(&buf[..7], b"\0\0\0\0xyz");
        assert!(RealDisk.open(&deep.join("f"), OpenMode::CreateNew).is_err());
        RealDisk.rename(&deep.join("f"), &deep.join("g")).unwrap();
        RealDisk.sync_dir(&deep).unwrap();
        assert_eq!(RealDisk.list(&deep).unwrap(), ["g"]);
        let f = dir.path().join("plain");
        fs::write(&f, b"").unwrap();
        assert!(RealDisk.create_dir_all(&f).is_err());
    }
}
