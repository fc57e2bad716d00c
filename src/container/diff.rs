//! What a container's files have become since its image.
//!
//! The writable layer says it all: no file of the image is read. Only names that are in the layer are looked up below
//! it, in a mount of the image's layers that is attached to nothing.
//!
//! The runtime mounts `/proc`, `/etc/hosts` and the like on places that the image may lack. Such a place, made by the
//! runtime and still empty, is no change of the container's; docker has it in a layer of its own. A volume's place is
//! one, as with docker.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use kiln_cache::Store;
use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::Containers;
use super::error::{At, Error, Result};
use super::record::Record;
use crate::api::{ChangeKind, PathChange};
use crate::image::layer;
use crate::runtime;

/// Where the runtime mounts things of its own.
const PLACES: [&[u8]; 6] = [b"dev", b"etc/hostname", b"etc/hosts", b"etc/resolv.conf", b"proc", b"sys"];

/// A name in the writable layer.
struct Upper {
    stat: Stat,
    /// The folder hides what is below.
    opaque: bool,
    /// The name itself is gone.
    whiteout: bool,
}

/// The writable layer beside what it lies on.
pub(super) struct Layer {
    folder: PathBuf,
    names: BTreeMap<Vec<u8>, Upper>,
    below: OwnedFd,
}

impl Containers {
    /// Lists what was added, changed and deleted since the image, sorted by path.
    pub fn diff(&self, store: &Store, record: &Record) -> Result<Vec<PathChange>> {
        self.layer(store, record)?.changes()
    }

    /// Writes the files of a container as a tar: its image's, and its own on top of them.
    pub fn export(&self, store: &Store, record: &Record, out: &mut dyn Write) -> Result<()> {
        let mut dirs = store.overlay(&record.chain, None).lowers;
        dirs.insert(0, self.folder(&record.id).join("upper"));
        dirs.reverse();
        layer::tar_merged_live(&dirs, out).map_err(|source| Error::Layer { action: "export", source })
    }

    /// Reads the names of the writable layer.
    pub(super) fn layer(&self, store: &Store, record: &Record) -> Result<Layer> {
        let folder = self.folder(&record.id).join("upper");
        let below = runtime::view(&store.overlay(&record.chain, None).lowers)
            .map_err(|error| Error::Invalid { message: error.to_string() })?;
        let mut names = BTreeMap::new();
        layer::visit_live(&folder, &mut |node| {
            let opaque = node.is_opaque().unwrap_or(false);
            let upper = Upper { stat: node.stat, opaque, whiteout: node.is_whiteout() };
            names.insert(node.path.to_vec(), upper);
            Ok(())
        })
        .map_err(|source| Error::Layer { action: "read", source })?;
        Ok(Layer { folder, names, below })
    }
}

impl Layer {
    fn changes(&self) -> Result<Vec<PathChange>> {
        let made = self.made_by_the_runtime()?;
        let mut changes: BTreeMap<Vec<u8>, ChangeKind> = BTreeMap::new();
        for (path, upper) in self.names.iter().filter(|(path, _)| !made.contains(*path)) {
            let below = self.stat_below(path)?;
            if upper.opaque && below.as_ref().is_some_and(is_folder) {
                for name in self.names_below(path)? {
                    let hidden = join(path, &name);
                    if !self.names.contains_key(&hidden) {
                        changes.insert(hidden, ChangeKind::Deleted);
                    }
                }
            }
            let kind = match &below {
                // The layer below the writable one had it already gone.
                None if upper.whiteout => continue,
                None => ChangeKind::Added,
                Some(_) if upper.whiteout => ChangeKind::Deleted,
                Some(below) if is_same(&upper.stat, below) => continue,
                Some(_) => ChangeKind::Changed,
            };
            changes.insert(path.clone(), kind);
        }
        let parents: BTreeSet<Vec<u8>> = changes.keys().flat_map(|path| parents(path)).collect();
        for parent in parents {
            changes.entry(parent).or_insert(ChangeKind::Changed);
        }
        // The root is no line of its own.
        changes.remove(b"".as_slice());
        let line = |(path, kind): (Vec<u8>, ChangeKind)| PathChange {
            kind,
            path: Path::new("/").join(OsStr::from_bytes(&path)),
        };
        Ok(changes.into_iter().map(line).collect())
    }

    /// The names that are only there because the runtime mounted something on them.
    pub(super) fn made_by_the_runtime(&self) -> Result<BTreeSet<Vec<u8>>> {
        let mut made = BTreeSet::new();
        for place in PLACES {
            if let Some(upper) = self.names.get(place)
                && self.is_empty(place, upper)
                && self.stat_below(place)?.is_none()
            {
                made.insert(place.to_vec());
            }
        }
        let above: BTreeSet<Vec<u8>> = made.iter().flat_map(|path| parents(path)).collect();
        for folder in above.iter().filter(|folder| !folder.is_empty()) {
            let others = self.inside(folder).any(|name| !made.contains(name));
            let says_nothing = match (self.names.get(folder), self.stat_below(folder)?) {
                (Some(upper), None) => !upper.opaque,
                (Some(upper), Some(below)) => !upper.opaque && same_owner(&upper.stat, &below),
                (None, _) => false,
            };
            if !others && says_nothing {
                made.insert(folder.clone());
            }
        }
        Ok(made)
    }

    /// The names below `folder`.
    fn inside(&self, folder: &[u8]) -> impl Iterator<Item = &Vec<u8>> {
        let start = join(folder, b"");
        let end = [folder, b"0"].concat();
        self.names.range(start..end).map(|(path, _)| path)
    }

    fn is_empty(&self, path: &[u8], upper: &Upper) -> bool {
        match FileType::from_raw_mode(upper.stat.st_mode) {
            FileType::Directory => self.inside(path).next().is_none(),
            FileType::RegularFile => upper.stat.st_size == 0,
            _ => false,
        }
    }

    fn stat_below(&self, path: &[u8]) -> Result<Option<Stat>> {
        match self.open_below(path, OFlags::PATH | OFlags::NOFOLLOW) {
            Ok(found) => Ok(Some(rustix::fs::fstat(&found).at("look at", self.shown(path))?)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(error).at("look at", self.shown(path)),
        }
    }

    fn names_below(&self, path: &[u8]) -> Result<Vec<Vec<u8>>> {
        let list = || {
            let folder = self.open_below(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
            let names = Dir::read_from(&folder)?.map(|entry| Ok(entry?.file_name().to_bytes().to_vec()));
            names.collect::<std::result::Result<Vec<_>, Errno>>()
        };
        let mut names = list().at("read", self.shown(path))?;
        names.retain(|name| name != b"." && name != b"..");
        Ok(names)
    }

    fn open_below(&self, path: &[u8], flags: OFlags) -> std::result::Result<OwnedFd, Errno> {
        let path = if path.is_empty() { b".".as_slice() } else { path };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let flags = flags | OFlags::CLOEXEC;
        rustix::fs::openat2(self.below.as_fd(), OsStr::from_bytes(path), flags, Mode::empty(), resolve)
    }

    fn shown(&self, path: &[u8]) -> PathBuf {
        self.folder.join(OsStr::from_bytes(path))
    }
}

fn is_folder(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn same_owner(a: &Stat, b: &Stat) -> bool {
    (a.st_mode, a.st_uid, a.st_gid) == (b.st_mode, b.st_uid, b.st_gid)
}

/// Whether a name was copied up and is what it was. A folder's time and size follow from what is in it.
fn is_same(a: &Stat, b: &Stat) -> bool {
    let content = |stat: &Stat| (stat.st_mtime, stat.st_mtime_nsec, stat.st_size, stat.st_rdev);
    same_owner(a, b) && (is_folder(a) || content(a) == content(b))
}

fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() }
}

/// The folders above `path`, the root last.
fn parents(path: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let slashes = path.iter().enumerate().rev().filter(|(_, byte)| **byte == b'/');
    let ends: Vec<usize> = slashes.map(|(at, _)| at).chain([0]).collect();
    ends.into_iter().map(|end| path[..end].to_vec())
}

#[cfg(test)]
mod tests {
    use super::parents;

    #[test]
    fn the_root_is_above_everything() {
        let shown: Vec<_> = parents(b"a/b/c").map(|path| String::from_utf8(path).unwrap()).collect();
        assert_eq!(shown, ["a/b", "a", ""]);
        assert_eq!(parents(b"a").count(), 1);
    }
}
