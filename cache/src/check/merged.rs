//! Merged folders: each is compared with what its layers give when they are merged again.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use super::{Fault, Subject};
use crate::stack::{is_opaque, merge};
use crate::{Error, Result, SnapshotId, Store};

impl Store {
    /// Compares merged folders with their layers; those that no chain can use any more are left over.
    pub fn check_merged(&self) -> Result<Vec<Fault>> {
        let mut faults = Vec::new();
        let mut stale = 0;
        for folder in self.merged_folders()? {
            let Some(layers) = self.merged_layers(&folder)? else {
                stale += 1;
                continue;
            };
            if self.merged_problem(&folder, &layers).is_ok_and(|problem| problem.is_none()) {
                continue;
            }
            let lease = self.lease();
            if !lease.hold(&layers)? || !folder.exists() {
                continue;
            }
            if let Some(problem) = self.merged_problem(&folder, &layers)? {
                let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
                faults.push(Fault::damage(Subject::Merged(name), problem));
            }
        }
        if stale > 0 {
            let problem = format!("{stale} merged folders have lost a layer, or are of another boot");
            faults.push(Fault::garbage(Subject::Place("merged"), problem));
        }
        Ok(faults)
    }

    fn merged_problem(&self, folder: &Path, layers: &[SnapshotId]) -> Result<Option<String>> {
        let scratch = self.scratch_folder()?;
        let again = scratch.path().join("fs");
        let top_first: Vec<PathBuf> = layers.iter().rev().map(|id| self.snapshot_dir(id)).collect();
        merge(&top_first, &again).map_err(Error::io("merge layers in", &again))?;
        let found = folder.join("fs");
        difference(&again, &found).map_err(Error::io("compare", &found))
    }
}

/// Tells where two folders differ that are made of hard links to the same files.
fn difference(expected: &Path, found: &Path) -> io::Result<Option<String>> {
    let mut pending = vec![PathBuf::new()];
    while let Some(path) = pending.pop() {
        let (one, other) = (expected.join(&path), found.join(&path));
        let differs = |name: &Path| Some(format!("`{}` isn't what its layers show", name.display()));
        let stats = (fs::symlink_metadata(&one)?, fs::symlink_metadata(&other)?);
        let attributes = |stat: &fs::Metadata| (stat.mode(), stat.uid(), stat.gid());
        if attributes(&stats.0) != attributes(&stats.1) || is_opaque(&one)? != is_opaque(&other)? {
            return Ok(differs(&path));
        }
        let names = children(&one)?;
        if let Some(name) = names.symmetric_difference(&children(&other)?).next() {
            return Ok(differs(&path.join(name)));
        }
        for name in names {
            let path = path.join(name);
            let stats = [expected, found].map(|root| fs::symlink_metadata(root.join(&path)));
            let [Ok(one), Ok(other)] = stats else { return Ok(differs(&path)) };
            let is_marker = |stat: &fs::Metadata| stat.file_type().is_char_device() && stat.rdev() == 0;
            if one.is_dir() && other.is_dir() {
                pending.push(path);
            } else if one.ino() != other.ino() && !(is_marker(&one) && is_marker(&other)) {
                return Ok(differs(&path));
            }
        }
    }
    Ok(None)
}

fn children(folder: &Path) -> io::Result<BTreeSet<OsString>> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect()
}
