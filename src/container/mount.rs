//! A container's files under a path of the machine, until they are unmounted.
//!
//! ```text
//! <store>/mounts/<64 hex>     of a container or an image; being the root of a mount is what says that it is mounted
//! ```
//!
//! A running container's root is shown as it lives on, a stopped one's as its next start would find it; both without
//! volumes. Nobody else may mount a stopped one's writable layer meanwhile, so it can't be started. A container that is
//! removed takes its mount along.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use kiln_cache::{Mounts, Store};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

use super::Containers;
use super::error::{At, Error, Result};
use super::record::Record;
use crate::runtime::{self, Tree};

impl Containers {
    /// Mounts the files of a container, and gives the path; one that is mounted already stays so.
    pub fn mount(&self, store: &Store, record: &Record) -> Result<PathBuf> {
        let path = self.mount_path(&record.id);
        let _names = self.lock_names()?;
        if runtime::is_mount(&path) {
            return Ok(path);
        }
        let fail = |error: runtime::StartError| Error::Invalid { message: error.to_string() };
        let (tree, _lock) = match &record.state.process {
            Some(target) => (Tree::clone_of_running(target).map_err(fail)?, None),
            None => {
                let busy = || Error::Running { verb: "mount", name: record.name.clone() };
                let lock = self.take(record)?.ok_or_else(busy)?;
                let folder = self.folder(&record.id);
                let rootfs = Mounts {
                    upper: Some(folder.join("upper")),
                    work: Some(folder.join("work")),
                    ..store.overlay(&record.chain, None)
                };
                (Tree::of_layers(&rootfs).map_err(fail)?, Some(lock))
            }
        };
        attach(&tree, &path)?;
        Ok(path)
    }

    /// Mounts a tree for all to see under the name `id`.
    pub fn mount_as(&self, tree: &Tree, id: &str) -> Result<PathBuf> {
        let path = self.mount_path(id);
        if !runtime::is_mount(&path) {
            attach(tree, &path)?;
        }
        Ok(path)
    }

    /// Takes the mount of a container or an image away; `false` when there is none.
    ///
    /// With `force` also one that somebody still uses: it is gone for all others at once.
    pub fn unmount(&self, id: &str, force: bool) -> Result<bool> {
        let path = self.mount_path(id);
        let flags = if force { UnmountFlags::DETACH } else { UnmountFlags::empty() };
        let was_mounted = runtime::is_mount(&path);
        if was_mounted {
            match unmount(&path, flags | UnmountFlags::NOFOLLOW) {
                Err(Errno::BUSY) => {
                    let message = format!("cannot unmount `{}`: it is in use", path.display());
                    return Err(Error::Invalid { message });
                }
                result => result.at("unmount", &path)?,
            }
        }
        match fs::remove_dir(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error).at("remove", &path),
            _ => Ok(was_mounted),
        }
    }

    /// Lists what is mounted: ids and paths.
    pub fn mounted(&self) -> Result<Vec<(String, PathBuf)>> {
        let folder = self.root.join("mounts");
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.at("read", &folder)?,
        };
        let mut mounted = Vec::new();
        for entry in entries {
            let entry = entry.at("read", &folder)?;
            if runtime::is_mount(&entry.path()) {
                mounted.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
            }
        }
        mounted.sort();
        Ok(mounted)
    }

    /// Tells whether the container or image `id` is mounted.
    pub fn is_mounted(&self, id: &str) -> bool {
        runtime::is_mount(&self.mount_path(id))
    }

    /// Refuses to use the writable layer of a container that is mounted.
    pub(super) fn refuse_mounted(&self, verb: &'static str, record: &Record) -> Result<()> {
        let path = self.mount_path(&record.id);
        if runtime::is_mount(&path) {
            return Err(Error::Mounted { verb, name: record.name.clone(), path });
        }
        Ok(())
    }

    fn mount_path(&self, id: &str) -> PathBuf {
        self.root.join("mounts").join(id)
    }
}

fn attach(tree: &Tree, path: &Path) -> Result<()> {
    fs::create_dir_all(path).at("create", path)?;
    tree.attach_at(path).map_err(|error| {
        let _ = fs::remove_dir(path);
        Error::Invalid { message: error.to_string() }
    })
}
