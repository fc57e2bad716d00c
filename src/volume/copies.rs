//! Copies of volumes: complete or not there.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, Mode, OFlags};

use super::error::{At, Error, Result};
use super::list::random_name;
use super::record::Record;
use super::{Volumes, copy, is_name, locked, make_dirs, remove_tree};

/// A volume in the making, which goes again unless it is finished.
#[derive(Debug)]
pub struct Unfinished {
    volumes: Volumes,
    home: PathBuf,
    _lock: File,
}

impl Unfinished {
    /// Where its files are to be.
    pub fn data(&self) -> PathBuf {
        self.home.join("_data")
    }

    /// Fills it with a copy of the folder `from`.
    pub fn copy(&self, from: &Path) -> Result<()> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder = rustix::fs::openat(CWD, from, flags, Mode::empty()).at("open", from)?;
        copy::tree(folder, &self.data()).at("copy", from)
    }

    /// Makes it a volume, with the labels and the kind of `like`.
    pub fn finish(self, like: Record) -> Result<Record> {
        let record = Record { options: std::collections::BTreeMap::new(), ..like };
        record.write(&self.home)?;
        self.volumes.publish(&self.home, &record.name)?;
        let _ = std::fs::remove_file(self.volumes.home(&record.name).join("lock"));
        Ok(record)
    }

    /// Gives its files to the volume `name`, in the place of those that it has. The caller has
    /// [`Volumes::lock_exclusive`], and knows that nobody uses them.
    pub fn replace(self, name: &str) -> Result<()> {
        let data = self.volumes.data(name);
        let flags = rustix::fs::RenameFlags::EXCHANGE;
        rustix::fs::renameat_with(CWD, self.data(), CWD, &data, flags).at("fill", &data)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = remove_tree(&self.home);
    }
}

impl Record {
    /// The record of a new volume `name`.
    pub fn named(name: &str) -> Self {
        Self::new(name)
    }
}

impl Volumes {
    /// Begins a volume beside the others.
    pub fn begin(&self) -> Result<Unfinished> {
        loop {
            let home = self.folder.join(".new").join(random_name().at("read", "/dev/urandom")?);
            make_dirs(&home)?;
            let path = home.join("lock");
            let lock = match locked(&path, FlockOperation::LockExclusive) {
                Err(Error::File { source, .. }) if source.kind() == ErrorKind::NotFound => continue,
                lock => lock?,
            };
            // Before it was locked, a sweep may have taken it for a killed maker's.
            if path.exists() {
                let made = Unfinished { volumes: self.clone(), home, _lock: lock };
                make_dirs(&made.data())?;
                return Ok(made);
            }
        }
    }

    /// Checks that a volume may get this name.
    pub fn check_free(&self, name: &str) -> Result<()> {
        if !is_name(name) {
            return Err(Error::Name { name: name.to_owned() });
        }
        match self.find(name) {
            Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Err(Error::Exists { name: name.to_owned(), difference: String::new() }),
        }
    }

    /// Deletes copies whose makers were killed.
    pub(super) fn sweep_copies(&self) -> Result<usize> {
        let mut swept = 0;
        for entry in std::fs::read_dir(self.folder.join(".new")).into_iter().flatten().flatten() {
            // A maker may have been killed before it had made its lock.
            let Ok(lock) = File::create(entry.path().join("lock")) else { continue };
            if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
                remove_tree(&entry.path()).at("remove", entry.path())?;
                swept += 1;
            }
        }
        Ok(swept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_there_as_a_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let volumes = Volumes::new(&folder.path().join("volumes"));
        volumes.open("data").unwrap();
        std::fs::write(volumes.data("data").join("file"), "x").unwrap();
        let copy = volumes.begin().unwrap();
        copy.copy(&volumes.data("data")).unwrap();
        assert_eq!(volumes.sweep().unwrap(), 0, "it is being made");
        copy.finish(Record { readonly: true, ..Record::named("copy") }).unwrap();
        assert!(volumes.find("copy").unwrap().readonly);
        assert_eq!(std::fs::read(volumes.data("copy").join("file")).unwrap(), b"x");
        assert!(matches!(volumes.check_free("copy"), Err(Error::Exists { .. })));
        std::fs::create_dir(folder.path().join("volumes/.new/0")).unwrap();
        assert_eq!(volumes.sweep().unwrap(), 1, "its maker came no further");
        let dropped = volumes.begin().unwrap();
        let home = dropped.home.clone();
        drop(dropped);
        assert!(!home.exists() && volumes.check_free("new").is_ok());
    }
}
