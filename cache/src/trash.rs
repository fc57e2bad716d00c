//! Removal of trees: first out of sight by a rename, then for good.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::id::SnapshotId;
use crate::{Error, Result, Store};

impl Store {
    /// Moves `path` into the trash; nothing happens when it doesn't exist.
    pub(crate) fn discard(&self, path: &Path) -> Result<()> {
        let target = self.path("trash").join(SnapshotId::fresh().to_string());
        match fs::rename(path, &target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(Error::io("move to the trash", path)),
        }
    }

    /// Tells whether something lies in the trash.
    pub(crate) fn has_trash(&self) -> bool {
        fs::read_dir(self.path("trash")).is_ok_and(|mut entries| entries.next().is_some())
    }

    /// Removes what lies in the trash, also what others threw away.
    pub(crate) fn empty_trash(&self) -> Result<()> {
        let trash = self.path("trash");
        let mut failure = None;
        for path in children(&trash).map_err(Error::io("read", &trash))? {
            if let Err(error) = remove_tree(&path, &trash) {
                failure.get_or_insert(Error::io("remove", &path)(error));
            }
        }
        failure.map_or(Ok(()), Err)
    }
}

/// Removes `path` and all below it, using `trash` (a folder of the same filesystem) on the way.
///
/// A step may have nested folders deeper than a path or the number of open files allows. So no path
/// grows and nothing recurses: each folder that isn't empty moves up into `trash` before its turn.
pub(crate) fn remove_tree(path: &Path, trash: &Path) -> io::Result<()> {
    if unlink(path)? {
        return Ok(());
    }
    make_writable(path)?;
    let mut pending = vec![path.to_owned()];
    while let Some(path) = pending.pop() {
        if unlink(&path)? {
            continue;
        }
        let entries = children(&path)?;
        pending.push(path);
        for entry in entries {
            if !unlink(&entry)? {
                make_writable(&entry)?;
                let up = trash.join(SnapshotId::fresh().to_string());
                unless_gone(fs::rename(&entry, &up))?;
                pending.push(up);
            }
        }
    }
    Ok(())
}

/// Lets this user change the folder; only root may without.
fn make_writable(folder: &Path) -> io::Result<()> {
    unless_gone(fs::set_permissions(folder, Permissions::from_mode(0o700)))
}

/// Another process may empty the same trash.
fn unless_gone(result: io::Result<()>) -> io::Result<()> {
    result.or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// Removes a file or an empty folder; false for a folder that isn't empty.
fn unlink(path: &Path) -> io::Result<bool> {
    let result = match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => fs::remove_dir(path),
        other => other,
    };
    match result.map_err(|error| (error.kind(), error)) {
        Ok(()) | Err((io::ErrorKind::NotFound, _)) => Ok(true),
        Err((io::ErrorKind::DirectoryNotEmpty, _)) => Ok(false),
        Err((_, error)) => Err(error),
    }
}

fn children(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries?.map(|entry| Ok(entry?.path())).collect(),
    }
}
