//! Deep chains: runs of layers are merged into one folder each, so that a mount stays cheap at any depth.
//!
//! Each layer of an overlay costs 5 µs at the mount and 1.3 µs at each look-up of a name that isn't there, and the
//! kernel takes 500 at most. From [`GROUP`] layers on, each full group of them, counted from the base, is shown by a
//! merged folder, which is made once and serves every chain that begins alike. Layers stay what images are made of.
//!
//! ```text
//! merged/<hex>/fs      what the group shows as one layer: folders of its own, all else hard links
//! merged/<hex>/layers  the boot, then the layers, base first, a line each
//! ```
//!
//! A merged folder is valid as long as each of its layers is there, so who holds the layers holds it. The collector
//! drops it afterwards. It is never flushed: after another boot it counts for nothing and is made again. Where
//! merging fails (a filesystem without links), the layers are mounted as they are.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, FileTimes, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::{Digest, Error, Result, SnapshotId, Store};

/// Layers that become one. A chain of 600 is 18 of them and 24 single ones.
const GROUP: usize = 32;

/// Room for the names of a folder's extended attributes (`XATTR_LIST_MAX`).
const NAMES_BYTES: usize = 64 << 10;

impl Store {
    /// Returns folders that show `chain` (both base first) when they are mounted over each other.
    ///
    /// An image may hold one layer twice, and overlayfs refuses a folder that comes twice: the topmost
    /// stays, which shows the same, because all that the lower one adds or hides it adds or hides again.
    pub fn stack(&self, chain: &[SnapshotId]) -> Vec<PathBuf> {
        let mut layers: Vec<SnapshotId> = Vec::with_capacity(chain.len());
        for id in chain.iter().rev() {
            if !layers.contains(id) {
                layers.push(*id);
            }
        }
        layers.reverse();
        let is_deep = layers.len() > GROUP;
        let mut folders = Vec::new();
        for group in layers.chunks(GROUP) {
            match is_deep.then(|| self.merged(group)).flatten() {
                Some(folder) => folders.push(folder),
                None => folders.extend(group.iter().map(|id| self.snapshot_dir(id))),
            }
        }
        folders
    }

    /// Returns the merged folder of a full group; `None` when it isn't full, or can't be merged.
    fn merged(&self, group: &[SnapshotId]) -> Option<PathBuf> {
        if group.len() < GROUP {
            return None;
        }
        let layers: String = group.iter().map(|id| format!("{id}\n")).collect();
        let description = format!("{}\n{layers}", self.boot());
        let folder = self.path("merged").join(&Digest::of(&description).hex()[..32]);
        let merged = folder.join("fs");
        if merged.exists() || self.make_merged(group, &description, &folder).is_ok() {
            return Some(merged);
        }
        // Another process may have been faster.
        merged.exists().then_some(merged)
    }

    fn make_merged(&self, group: &[SnapshotId], description: &str, folder: &Path) -> Result<()> {
        let scratch = self.scratch_folder()?;
        let top_first: Vec<PathBuf> = group.iter().rev().map(|id| self.snapshot_dir(id)).collect();
        let (merged, layers) = (scratch.path().join("fs"), scratch.path().join("layers"));
        merge(&top_first, &merged).map_err(Error::io("merge layers in", &merged))?;
        fs::write(&layers, description).map_err(Error::io("write", &layers))?;
        let all = self.path("merged");
        match DirBuilder::new().mode(0o700).create(&all) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other.map_err(Error::io("create", &all))?,
        }
        fs::rename(scratch.path(), folder).map_err(Error::io("create", folder))
    }

    /// Drops the merged folders of other boots, and those with a layer that is gone.
    pub(crate) fn drop_stale_merged(&self) -> Result<()> {
        for folder in self.merged_folders()? {
            if self.merged_layers(&folder)?.is_none() {
                self.discard(&folder)?;
            }
        }
        Ok(())
    }

    /// Returns all merged folders.
    pub(crate) fn merged_folders(&self) -> Result<Vec<PathBuf>> {
        let all = self.path("merged");
        let entries = match fs::read_dir(&all) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(Error::io("read", &all))?,
        };
        entries.map(|entry| Ok(entry.map_err(Error::io("read", &all))?.path())).collect()
    }

    /// Returns the layers of a merged folder, base first; `None` when it counts for nothing any more.
    pub(crate) fn merged_layers(&self, folder: &Path) -> Result<Option<Vec<SnapshotId>>> {
        let Ok(description) = fs::read_to_string(folder.join("layers")) else { return Ok(None) };
        let mut lines = description.lines();
        if lines.next() != Some(self.boot()) {
            return Ok(None);
        }
        let Ok(layers) = lines.map(str::parse).collect::<Result<Vec<SnapshotId>, _>>() else {
            return Ok(None);
        };
        Ok(self.meta().read(|tx| tx.missing_snapshot(&layers))?.is_none().then_some(layers))
    }
}

/// A folder that is being merged.
struct Pending {
    /// Relative to the layers' roots.
    path: PathBuf,
    /// Those of the layers that have a share in it, topmost first.
    layers: Vec<usize>,
    /// It hides what stands below the group.
    opaque: bool,
}

/// Makes `out`, which shows the layers `top_first` as one.
pub(crate) fn merge(top_first: &[PathBuf], out: &Path) -> io::Result<()> {
    let all = (0..top_first.len()).collect();
    let mut pending = vec![Pending { path: PathBuf::new(), layers: all, opaque: false }];
    let mut made = Vec::new();
    while let Some(folder) = pending.pop() {
        DirBuilder::new().mode(0o700).create(out.join(&folder.path))?;
        let opaque = merge_folder(top_first, out, &folder, &mut pending)?;
        made.push((folder.path, folder.layers[0], opaque));
    }
    // Filling a folder changes its time, and its mode may forbid filling it.
    for (path, layer, opaque) in made.into_iter().rev() {
        let (from, to) = (top_first[layer].join(&path), out.join(&path));
        if opaque {
            set_opaque(&to)?;
        }
        copy_attributes(&from, &to)?;
    }
    Ok(())
}

/// Links what is in `folder` and queues the folders in it; tells whether it hides what stands below the group.
fn merge_folder(
    top_first: &[PathBuf],
    out: &Path,
    folder: &Pending,
    pending: &mut Vec<Pending>,
) -> io::Result<bool> {
    // What is no folder, and the folders with the layers that have a share in them.
    let mut closed: BTreeMap<OsString, bool> = BTreeMap::new();
    let mut below: BTreeMap<OsString, Vec<usize>> = BTreeMap::new();
    let mut opaque = folder.opaque;
    for &layer in &folder.layers {
        let from = top_first[layer].join(&folder.path);
        for entry in fs::read_dir(&from)? {
            let entry = entry?;
            let name = entry.file_name();
            if closed.contains_key(&name) {
                continue;
            }
            if entry.file_type()?.is_dir() {
                below.entry(name).or_default().push(layer);
            } else if below.contains_key(&name) {
                // The folder above it hides whatever is further below.
                closed.insert(name, true);
            } else {
                link(&entry.path(), &out.join(&folder.path).join(&name))?;
                closed.insert(name, false);
            }
        }
        if is_opaque(&from)? {
            opaque = true;
            break;
        }
    }
    for (name, layers) in below {
        let opaque = closed.get(&name).copied().unwrap_or(false);
        pending.push(Pending { path: folder.path.join(name), layers, opaque });
    }
    Ok(opaque)
}

/// Gives `from` a further name, or makes one that is like it where that can't be (too many names).
fn link(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Err(error) if error.kind() == io::ErrorKind::TooManyLinks => {}
        other => return other,
    }
    // Overlayfs gives all whiteouts of a mount one inode; another whiteout is as good.
    let stat = fs::symlink_metadata(from)?;
    if !stat.file_type().is_char_device() || stat.rdev() != 0 {
        return Err(io::ErrorKind::TooManyLinks.into());
    }
    let (kind, mode) = (rustix::fs::FileType::CharacterDevice, rustix::fs::Mode::empty());
    Ok(rustix::fs::mknodat(rustix::fs::CWD, to, kind, mode, 0)?)
}

/// The names that kiln and the kernel give to the mark, with and without the right to `trusted`.
const OPAQUE: [&str; 2] = ["trusted.overlay.opaque", "user.overlay.opaque"];

/// Tells whether a folder hides what stands below its layer.
pub(crate) fn is_opaque(folder: &Path) -> io::Result<bool> {
    for name in OPAQUE {
        let mut value = [0; 2];
        match rustix::fs::lgetxattr(folder, name, &mut value) {
            Ok(1) if value[0] == b'y' => return Ok(true),
            Ok(_) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

fn set_opaque(folder: &Path) -> io::Result<()> {
    let set = |name| rustix::fs::lsetxattr(folder, name, b"y", XattrFlags::empty());
    match set(OPAQUE[0]) {
        Err(Errno::PERM) => Ok(set(OPAQUE[1])?),
        other => Ok(other?),
    }
}

/// Makes the folder `to` look like `from`: owner, mode, extended attributes other than overlayfs's own, time.
fn copy_attributes(from: &Path, to: &Path) -> io::Result<()> {
    let stat = fs::symlink_metadata(from)?;
    chown(to, Some(stat.uid()), Some(stat.gid()))?;
    let mut names = vec![0; NAMES_BYTES];
    let length = match rustix::fs::llistxattr(from, names.as_mut_slice()) {
        Err(Errno::OPNOTSUPP) => 0,
        other => other?,
    };
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = std::ffi::OsStr::from_bytes(name);
        if !name.as_bytes().windows(9).any(|part| part == b".overlay.") {
            let mut value = vec![0; rustix::fs::lgetxattr_query(from, name)?];
            let length = rustix::fs::lgetxattr(from, name, value.as_mut_slice())?;
            rustix::fs::lsetxattr(to, name, &value[..length], XattrFlags::empty())?;
        }
    }
    let folder = File::open(to)?;
    fs::set_permissions(to, Permissions::from_mode(stat.mode() & 0o7777))?;
    folder.set_times(FileTimes::new().set_modified(stat.modified()?))
}
