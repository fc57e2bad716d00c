//! What the last build of each Dockerfile did: one small file per Dockerfile and context, whose text is its
//! writer's own.
//!
//! A reader sees the old file or the new one. After a power loss it may be cut; its reader then takes it as missing,
//! which costs an explanation, nothing else.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::PathBuf;

use crate::lock::Claim;
use crate::{Digest, Error, Result, Store};

/// How many are kept: the oldest go first.
const MOST_KEPT: usize = 256;

impl Store {
    /// Returns what was kept for `build`.
    pub fn build_notes(&self, build: &Digest) -> Result<Option<Vec<u8>>> {
        let path = self.build_notes_path(build);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("read", &path)(error)),
        }
    }

    /// Keeps `bytes` for `build`, in place of what was there.
    pub fn put_build_notes(&self, build: &Digest, bytes: &[u8]) -> Result<()> {
        let path = self.build_notes_path(build);
        let claim = Claim::new_file(&self.path("tmp"))?;
        claim.file().write_all(bytes).map_err(Error::io("write", claim.path()))?;
        match fs::rename(claim.path(), &path) {
            // A store that was made before there were any.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let folder = self.path("builds");
                let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder);
                made.map_err(Error::io("create", &folder))?;
                fs::rename(claim.path(), &path)
            }
            other => other,
        }
        .map_err(Error::io("create", &path))
    }

    /// Removes the oldest ones, if there are too many.
    pub(crate) fn drop_old_build_notes(&self) -> Result<()> {
        self.keep_build_notes(MOST_KEPT)
    }

    fn keep_build_notes(&self, most: usize) -> Result<()> {
        let folder = self.path("builds");
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(Error::io("read", &folder))?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(Error::io("read", &folder))?;
            // One that goes meanwhile is gone.
            let Ok(metadata) = entry.metadata() else { continue };
            found.push((metadata.mtime(), metadata.mtime_nsec(), entry.path()));
        }
        found.sort();
        let surplus = found.len().saturating_sub(most);
        for (_, _, path) in &found[..surplus] {
            let _ = fs::remove_file(path);
        }
        Ok(())
    }

    fn build_notes_path(&self, build: &Digest) -> PathBuf {
        self.path("builds").join(&build.hex()[..32])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let name = |number: u8| Digest::of([number]);
        assert_eq!(store.build_notes(&name(0)).unwrap(), None);
        for number in 0..4 {
            store.put_build_notes(&name(number), b"old").unwrap();
            store.put_build_notes(&name(number), &[number]).unwrap();
            // Times of files have the grain of the kernel's clock.
            let file = fs::File::open(store.build_notes_path(&name(number))).unwrap();
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(u64::from(number));
            file.set_modified(time).unwrap();
        }
        store.keep_build_notes(2).unwrap();
        let kept: Vec<_> = (0..4).map(|number| store.build_notes(&name(number)).unwrap()).collect();
        assert_eq!(kept, [None, None, Some(vec![2]), Some(vec![3])]);
    }

    #[test]
    fn a_store_without_the_folder_gets_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        fs::remove_dir(store.path("builds")).unwrap();
        store.drop_old_build_notes().unwrap();
        store.put_build_notes(&Digest::of("x"), b"x").unwrap();
        assert_eq!(store.build_notes(&Digest::of("x")).unwrap().unwrap(), b"x");
    }
}
