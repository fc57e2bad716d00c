//! The stat cache: the content digests of a directory's files, as long as their inodes stay untouched.
//!
//! One flat file per context directory, read whole and looked up by hash. Whatever is odd about it (cut,
//! changed, of another format or boot) makes it empty: files are then read again, nothing else happens.
//! It is thrown away with a boot because a power loss may undo the content of files and keep their times.
//!
//! What it can't see: a program that changes a file through a shared mapping (mmap) after the first
//! page fault changes neither mtime nor ctime.

mod format;
mod trust;

use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

pub(crate) use self::format::checksum;
use self::format::{Entry, Learnt, Table};
use self::trust::Trust;
use crate::lock::Claim;
use crate::{Digest, Error, Result, Store};

/// Saves that an entry survives without having been asked for: other builds of the same context, with
/// other Dockerfiles, keep theirs.
const MAX_AGE: u32 = 8;

/// What tells that a file is untouched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStat {
    /// The device of its filesystem.
    pub dev: u64,
    /// Its inode.
    pub ino: u64,
    /// Its size in bytes.
    pub size: u64,
    /// Its type and permissions.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// When its content last changed, in nanoseconds since 1970.
    pub mtime_ns: i128,
    /// When its inode last changed, in nanoseconds since 1970.
    pub ctime_ns: i128,
}

impl From<&Metadata> for FileStat {
    fn from(metadata: &Metadata) -> Self {
        let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
        Self {
            dev: metadata.dev(),
            ino: metadata.ino(),
            size: metadata.size(),
            mode: metadata.mode(),
            uid: metadata.uid(),
            gid: metadata.gid(),
            mtime_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            ctime_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// The digests of one context directory's files; threads may share it.
#[derive(Debug)]
pub struct StatCache {
    path: PathBuf,
    scratch: PathBuf,
    boot: String,
    trust: Trust,
    saved: Table,
    /// Which of `saved` was asked for and still holds.
    used: Vec<AtomicBool>,
    new: Mutex<Learnt>,
}

impl StatCache {
    /// Loads what is known about `directory` (an absolute path): call it before its files are looked at.
    ///
    /// A missing or damaged file is an empty cache.
    pub fn load(store: &Store, directory: &Path) -> Self {
        let name = Digest::of(directory.as_os_str().as_bytes()).hex();
        let path = store.path("stat").join(&name[..32]);
        let trust = Trust::of(directory);
        let bytes = if trust == Trust::Never { None } else { fs::read(&path).ok() };
        let saved = bytes.and_then(|bytes| Table::decode(bytes, store.boot())).unwrap_or_default();
        let used = (0..saved.len()).map(|_| AtomicBool::new(false)).collect();
        let (scratch, boot) = (store.path("tmp"), store.boot().to_owned());
        Self { path, scratch, boot, trust, saved, used, new: Mutex::default() }
    }

    /// Returns the digest of the file at `path` (relative to the directory), if it is surely unchanged.
    pub fn get(&self, path: &Path, stat: &FileStat) -> Option<Digest> {
        let index = self.saved.find(path.as_os_str().as_bytes())?;
        let (known, digest) = self.saved.stat(index)?;
        if known != *stat || !self.trust.covers(stat) {
            return None;
        }
        self.used.get(index)?.store(true, Ordering::Relaxed);
        Some(digest)
    }

    /// Keeps the digest of the file at `path`.
    ///
    /// `stat` must be what fstat said both before and after the file was read. A file that changed so
    /// recently that a further change could go unseen isn't kept.
    pub fn put(&self, path: &Path, stat: &FileStat, digest: Digest) {
        if self.trust.covers(stat) {
            let mut new = self.new.lock().unwrap_or_else(PoisonError::into_inner);
            new.push(path.as_os_str().as_bytes(), stat, &digest);
        }
    }

    /// Writes the cache, if something was put; a reader sees the old file or the new one.
    pub fn save(&self) -> Result<()> {
        let new = self.new.lock().unwrap_or_else(PoisonError::into_inner);
        if new.len() == 0 {
            return Ok(());
        }
        let kept = self.kept(&new);
        let entry = |index: usize| match kept[index] {
            Kept::New(number) => new.entry(number),
            Kept::Saved(number, age) => self.saved.entry(number).map(|entry| Entry { age, ..entry }),
        };
        let claim = Claim::new_file(&self.scratch)?;
        format::write(claim.file(), &self.boot, kept.len(), entry)
            .map_err(Error::io("write", claim.path()))?;
        fs::rename(claim.path(), &self.path).map_err(Error::io("create", &self.path))
    }

    /// Returns what is worth keeping, sorted by path: of one path what was put last.
    fn kept(&self, new: &Learnt) -> Vec<Kept> {
        let mut kept: Vec<Kept> = (0..new.len()).rev().map(Kept::New).collect();
        for (number, used) in self.used.iter().enumerate() {
            let Some(entry) = self.saved.entry(number) else { continue };
            let age = if used.load(Ordering::Relaxed) { 0 } else { entry.age + 1 };
            if age <= MAX_AGE {
                kept.push(Kept::Saved(number, age));
            }
        }
        let path = |kept: &Kept| match *kept {
            Kept::New(number) => Some(new.path(number)),
            Kept::Saved(number, _) => self.saved.path(number),
        };
        kept.sort_by(|left, right| path(left).cmp(&path(right)));
        kept.dedup_by(|later, first| path(later) == path(first));
        kept
    }
}

/// An entry that will be saved.
enum Kept {
    /// Its number among those that were put.
    New(usize),
    /// Its number in the file that was loaded, and its age.
    Saved(usize, u32),
}

impl Store {
    /// Returns the stat caches that nobody will read: those of other boots, and damaged ones.
    pub(crate) fn odd_stat_caches(&self) -> Result<Vec<PathBuf>> {
        let folder = self.path("stat");
        let mut odd = Vec::new();
        for entry in fs::read_dir(&folder).map_err(Error::io("read", &folder))? {
            let path = entry.map_err(Error::io("read", &folder))?.path();
            let Ok(bytes) = fs::read(&path) else { continue };
            if Table::decode(bytes, self.boot()).is_none() {
                odd.push(path);
            }
        }
        Ok(odd)
    }

    /// Removes them.
    pub(crate) fn drop_odd_stat_caches(&self) -> Result<()> {
        self.odd_stat_caches()?.into_iter().for_each(|path| drop(fs::remove_file(path)));
        Ok(())
    }

    /// Removes the stat caches of other boots, which nobody will read.
    pub(crate) fn drop_old_stat_caches(&self) -> Result<()> {
        let folder = self.path("stat");
        for entry in fs::read_dir(&folder).map_err(Error::io("read", &folder))? {
            let path = entry.map_err(Error::io("read", &folder))?.path();
            if !format::is_of_boot(&path, self.boot()) {
                let _ = fs::remove_file(&path);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
