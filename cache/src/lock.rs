//! Locks by flock: they die with their process, so none is ever stale.
//!
//! A process id would lie after its reuse, in another pid namespace or after a suspend; an flock
//! can't. Descriptors are close-on-exec (as the standard library opens all), so that no child keeps
//! a lock alive.
//!
//! Keys in work are locked by flock on one of 4096 files that are never unlinked: a file that its
//! leader unlinks lets two processes lead. Two keys that share a file merely wait for each other.
//! The file also says how the last attempt at a key failed, for those who waited: see [`Attempt`].
//! (Byte ranges of one file would need a syscall that the standard library doesn't offer safely.)

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use crate::id::SnapshotId;
use crate::{Digest, Error, Result, Store};

/// The right to work on a key, until it is dropped or the process ends.
#[derive(Debug)]
pub struct KeyLock {
    file: File,
}

/// What an attempt at a key left for those who wait for the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Tells it from every other.
    pub id: String,
    /// What was to be said.
    pub text: String,
}

impl Store {
    /// Tries to lock `key`; `None` when another thread or process works on it, or on one that shares its file.
    pub fn try_lock_key(&self, key: &Digest) -> Result<Option<KeyLock>> {
        let path = self.path("inflight").join(&key.hex()[..3]);
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
        let file = file.map_err(Error::io("open", &path))?;
        let locked = try_lock(&file).map_err(Error::io("lock", &path))?;
        Ok(locked.then_some(KeyLock { file }))
    }

    /// Returns what the last attempt at `key` left, also while somebody else works on it.
    pub fn last_attempt(&self, key: &Digest) -> Result<Option<Attempt>> {
        let path = self.path("inflight").join(&key.hex()[..3]);
        match fs::read(&path) {
            Ok(bytes) => Ok(parse_attempt(key, bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("read", &path)(error)),
        }
    }
}

/// The lock's file says, beside being locked, how the last attempt ended: `<key> <id>`, a newline, and the text.
impl KeyLock {
    /// Leaves `text` about `key`, in place of what was left before.
    pub fn leave(&self, key: &Digest, text: &str) -> io::Result<()> {
        self.forget()?;
        let bytes = format!("{} {}\n{text}", key.hex(), SnapshotId::fresh());
        self.file.write_all_at(bytes.as_bytes(), 0)
    }

    /// Returns what the last attempt at `key` left.
    pub fn attempt(&self, key: &Digest) -> io::Result<Option<Attempt>> {
        let mut bytes = vec![0; usize::try_from(self.file.metadata()?.len()).unwrap_or(0)];
        self.file.read_exact_at(&mut bytes, 0)?;
        Ok(parse_attempt(key, bytes))
    }

    /// Removes what was left.
    pub fn forget(&self) -> io::Result<()> {
        if self.file.metadata()?.len() > 0 {
            self.file.set_len(0)?;
        }
        Ok(())
    }
}

/// What is said of another key of the same file, or only half written, is as nothing.
fn parse_attempt(key: &Digest, bytes: Vec<u8>) -> Option<Attempt> {
    let text = String::from_utf8(bytes).ok()?;
    let (head, text) = text.split_once('\n')?;
    let id = head.strip_prefix(&key.hex())?.strip_prefix(' ')?;
    Some(Attempt { id: id.to_owned(), text: text.to_owned() })
}

/// A file or folder that this process holds by flock, and unlinks (if a file) when dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    path: PathBuf,
    file: File,
}

impl Claim {
    /// Makes a file of a fresh name in `folder`.
    pub(crate) fn new_file(folder: &Path) -> Result<Self> {
        loop {
            let path = folder.join(SnapshotId::fresh().to_string());
            let file = match OpenOptions::new().create_new(true).read(true).write(true).open(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                other => other.map_err(Error::io("create", &path))?,
            };
            let claim = Self { path, file };
            if claim.hold()? {
                return Ok(claim);
            }
        }
    }

    /// Makes the folder `path`, which nothing else may make.
    pub(crate) fn new_folder(path: &Path) -> Result<Self> {
        loop {
            match DirBuilder::new().mode(0o700).create(path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => other.map_err(Error::io("create", path))?,
            }
            let file = match File::open(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(Error::io("open", path))?,
            };
            let claim = Self { path: path.to_owned(), file };
            if claim.hold()? {
                return Ok(claim);
            }
        }
    }

    /// Locks what was just made; false when a sweep was quicker and removed it.
    fn hold(&self) -> Result<bool> {
        let locked = try_lock(&self.file).map_err(Error::io("lock", &self.path))?;
        Ok(locked && is_named(&self.file, &self.path))
    }

    /// Returns the name inside its folder.
    pub(crate) fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // A folder, or a file that was renamed, stays: unlink says so and nothing is to be done.
        let _ = fs::remove_file(&self.path);
    }
}

/// Locks `path` if its maker is gone; `None` while somebody holds it or when it no longer exists.
pub(crate) fn abandoned(path: &Path) -> Result<Option<File>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(Error::io("open", path))?,
    };
    let locked = try_lock(&file).map_err(Error::io("lock", path))?;
    Ok((locked && is_named(&file, path)).then_some(file))
}

pub(crate) fn try_lock(file: &File) -> io::Result<bool> {
    is_locked(file.try_lock())
}

pub(crate) fn try_lock_shared(file: &File) -> io::Result<bool> {
    is_locked(file.try_lock_shared())
}

fn is_locked(result: std::result::Result<(), TryLockError>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Returns whether `path` still leads to `file`.
pub(crate) fn is_named(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}
