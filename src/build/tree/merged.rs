//! The merged view of a chain of layers, read without mounting them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Entry, Error, Kind, Result, Tree, Xattrs, parent, raw};

/// A chain of layers in overlay form, as overlayfs would show it.
///
/// A 0:0 character device hides its name in the layers below, an opaque directory hides the same
/// directory below. The layers are sealed: what was found of directories is remembered.
pub struct Merged {
    /// Top first.
    layers: Vec<OwnedFd>,
    /// Which layers have a share in a directory, top first; `None` for what is no directory.
    shares: Mutex<HashMap<Vec<u8>, Shares>>,
}

type Shares = Option<Arc<[usize]>>;

impl Merged {
    /// Opens the layers' folders, base first. An empty chain is an empty directory.
    pub fn open(base_first: &[impl AsRef<Path>]) -> Result<Self> {
        let open = |path: &Path| {
            raw::open_root(path).map_err(|source| Error::Io {
                verb: "open the layer",
                path: path.display().to_string(),
                source,
            })
        };
        let layers = base_first.iter().rev().map(|path| open(path.as_ref())).collect::<Result<_>>()?;
        Ok(Self { layers, shares: Mutex::default() })
    }

    fn layer(&self, index: usize) -> BorrowedFd<'_> {
        self.layers[index].as_fd()
    }

    /// Returns the layers that have a share in the directory `path`.
    fn shares(&self, path: &[u8]) -> Result<Shares> {
        let Some(above) = parent(path) else {
            return Ok(Some((0..self.layers.len()).collect()));
        };
        if let Some(known) = self.shares.lock().unwrap_or_else(PoisonError::into_inner).get(path) {
            return Ok(known.clone());
        }
        let found = match self.shares(above)? {
            Some(candidates) => self.find_shares(path, &candidates)?,
            None => None,
        };
        self.shares.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_vec(), found.clone());
        Ok(found)
    }

    fn find_shares(&self, path: &[u8], candidates: &[usize]) -> Result<Shares> {
        let mut sharing = Vec::new();
        for &layer in candidates {
            match raw::open_dir(self.layer(layer), path)? {
                Some(dir) => {
                    sharing.push(layer);
                    if is_opaque(&dir) {
                        break;
                    }
                }
                // A file or a whiteout ends the view; nothing at all lets the layer below show.
                None if self.stat(layer, path)?.is_some() => break,
                None => {}
            }
        }
        Ok((!sharing.is_empty()).then(|| sharing.into()))
    }

    fn stat(&self, layer: usize, path: &[u8]) -> Result<Option<Entry>> {
        raw::stat_beneath(self.layer(layer), path, layer)
    }
}

impl Tree for Merged {
    fn entry(&self, path: &[u8]) -> Result<Option<Entry>> {
        let Some(above) = parent(path) else {
            return match self.layers.is_empty() {
                true => Ok(Some(empty_root())),
                false => self.stat(0, path),
            };
        };
        for &layer in self.shares(above)?.iter().flat_map(|layers| layers.iter()) {
            if let Some(entry) = self.stat(layer, path)? {
                return Ok((!is_whiteout(&entry)).then_some(entry));
            }
        }
        Ok(None)
    }

    fn children(&self, dir: &Entry) -> Result<Vec<Entry>> {
        let mut shown = BTreeMap::new();
        let mut hidden = HashSet::new();
        for &layer in self.shares(&dir.path)?.iter().flat_map(|layers| layers.iter()) {
            let Some(folder) = raw::open_dir(self.layer(layer), &dir.path)? else { continue };
            for entry in raw::list(folder.as_fd(), &dir.path, layer)? {
                let name = entry.name().to_vec();
                if hidden.contains(&name) || shown.contains_key(&name) {
                    continue;
                }
                if is_whiteout(&entry) {
                    hidden.insert(name);
                } else {
                    shown.insert(name, entry);
                }
            }
        }
        Ok(shown.into_values().collect())
    }

    fn open(&self, entry: &Entry) -> Result<File> {
        raw::open_file(self.layer(entry.layer), entry)
    }

    fn link_target(&self, entry: &Entry) -> Result<Vec<u8>> {
        raw::read_link(self.layer(entry.layer), &entry.path)
    }

    fn xattrs(&self, entry: &Entry) -> Result<Xattrs> {
        match self.layers.is_empty() {
            true => Ok(Vec::new()),
            false => raw::xattrs(self.layer(entry.layer), &entry.path),
        }
    }
}

/// overlayfs's mark of a deleted name.
fn is_whiteout(entry: &Entry) -> bool {
    entry.kind == Kind::CharDevice(0, 0)
}

fn is_opaque(dir: &OwnedFd) -> bool {
    // The second name is what rootless mounts (`userxattr`) use.
    ["trusted.overlay.opaque", "user.overlay.opaque"]
        .iter()
        .any(|name| raw::short_xattr(dir, name).is_some_and(|value| value == b"y"))
}

/// The root of a chain without layers.
fn empty_root() -> Entry {
    Entry {
        path: Vec::new(),
        kind: Kind::Directory,
        mode: 0o755,
        uid: 0,
        gid: 0,
        size: 0,
        mtime: (0, 0),
        ctime: (0, 0),
        dev: 0,
        ino: 0,
        names: 1,
        hollow: false,
        layer: 0,
    }
}
