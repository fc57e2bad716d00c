//! The files of one layer, or of a stack of layers seen as one, in sorted order and without a mount.
//!
//! Folders are opened by path from each layer's root with `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`, and only the one
//! that was opened last stays open, so that the number of descriptors doesn't grow with the depth; the walk keeps its
//! own stack.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{self as unix, AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::error::LayerError;

/// What overlay's markers mean to a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Markers {
    /// They are shown, as the tar of one layer needs it.
    Show,
    /// They hide what is below, as a mount does.
    Apply,
}

/// A name in a layer or in a stack of layers.
pub struct Node<'a> {
    /// Relative to the root, without a leading slash; empty for the root itself.
    pub path: &'a [u8],
    /// Its attributes.
    pub stat: Stat,
    /// Index of the folder that it comes from, base first.
    pub layer: usize,
    roots: &'a Roots,
}

impl Node<'_> {
    /// Returns what kind of file it is.
    pub fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    /// Tells whether it is overlay's marker of a deletion.
    pub fn is_whiteout(&self) -> bool {
        is_whiteout(&self.stat)
    }

    /// Tells whether it is a folder that hides what is below.
    pub fn is_opaque(&self) -> Result<bool, LayerError> {
        Ok(self.file_type() == FileType::Directory && self.folder_xattrs()?.opaque)
    }

    /// Opens a regular file for reading.
    pub fn open(&self) -> Result<File, LayerError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        // A further name of an old file has a new ctime, so that its next reading would write an access time.
        let opened = match self.roots.open_in_folder(self.layer, self.path, flags | OFlags::NOATIME) {
            // Somebody else's file.
            Err(Errno::PERM) => self.roots.open_in_folder(self.layer, self.path, flags),
            opened => opened,
        };
        opened.map(File::from).map_err(|error| LayerError::walk(self.path, error))
    }

    /// Returns a symlink's target.
    pub fn link_target(&self) -> Result<Vec<u8>, LayerError> {
        let failed = |error: Errno| LayerError::walk(self.path, error);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let link = self.roots.open_in_folder(self.layer, self.path, flags).map_err(failed)?;
        unix::readlinkat(&link, c"", Vec::new()).map(std::ffi::CString::into_bytes).map_err(failed)
    }

    /// Returns a folder's extended attributes, sorted; see [`xattrs`].
    pub(super) fn folder_xattrs(&self) -> Result<Attributes, LayerError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = open(self.roots.all[self.layer].as_fd(), self.path, flags)
            .map_err(|error| LayerError::walk(self.path, error))?;
        xattrs(dir.as_fd()).map_err(|error| LayerError::walk(self.path, error))
    }
}

/// The layers' folders.
pub(super) struct Roots {
    all: Vec<OwnedFd>,
    /// Names may disappear between being listed and being looked at.
    live: bool,
    /// The folder of the file that was opened last, by layer and path: most often the next one is in it, too.
    last: RefCell<Option<(usize, Vec<u8>, OwnedFd)>>,
}

impl Roots {
    /// Opens the folders `dirs`, base first.
    pub(super) fn open(dirs: &[PathBuf]) -> Result<Self, LayerError> {
        let open = |dir: &PathBuf| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            unix::open(dir, flags, Mode::empty())
                .map_err(|error| LayerError::walk(dir.as_os_str().as_bytes(), error))
        };
        let all = dirs.iter().map(open).collect::<Result<_, _>>()?;
        Ok(Self { all, live: false, last: RefCell::default() })
    }

    /// Returns the node of the only layer that a walk has told of before.
    pub(super) fn node<'a>(&'a self, path: &'a [u8], stat: Stat) -> Node<'a> {
        Node { path, stat, layer: 0, roots: self }
    }

    /// Opens `path` by its name in its folder: with `O_NOFOLLOW`, a single name leads nowhere else.
    fn open_in_folder(&self, layer: usize, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let (above, name) = match path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => (&path[..slash], &path[slash + 1..]),
            None => (&[][..], path),
        };
        let mut last = self.last.borrow_mut();
        let folder = match &*last {
            Some((of, at, folder)) if *of == layer && at == above => folder,
            _ => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let folder = open(self.all[layer].as_fd(), above, flags)?;
                &last.insert((layer, above.to_vec(), folder)).2
            }
        };
        unix::openat(folder, OsStr::from_bytes(name), flags, Mode::empty())
    }
}

/// Visits what a mount of `dirs` (base first) would show, parents before their children, sorted by name.
///
/// Whiteouts and opaque folders hide what is below them and are not visited.
pub fn flatten(
    dirs: &[PathBuf],
    visit: &mut dyn FnMut(&Node<'_>) -> Result<(), LayerError>,
) -> Result<(), LayerError> {
    walk(dirs, Markers::Apply, visit)
}

/// Visits what is in the folder of one layer, markers too.
pub fn visit(
    dir: &Path,
    visit: &mut dyn FnMut(&Node<'_>) -> Result<(), LayerError>,
) -> Result<(), LayerError> {
    walk(&[dir.to_owned()], Markers::Show, visit)
}

/// [`visit`], of a layer that a running container may change meanwhile.
pub fn visit_live(
    dir: &Path,
    visit: &mut dyn FnMut(&Node<'_>) -> Result<(), LayerError>,
) -> Result<(), LayerError> {
    walk_live(&[dir.to_owned()], Markers::Show, visit)
}

/// [`walk`], past what disappears meanwhile.
pub(super) fn walk_live(
    dirs: &[PathBuf],
    markers: Markers,
    visit: &mut dyn FnMut(&Node<'_>) -> Result<(), LayerError>,
) -> Result<(), LayerError> {
    walk_in(&Roots { live: true, ..Roots::open(dirs)? }, markers, visit)
}

pub(super) fn walk(
    dirs: &[PathBuf],
    markers: Markers,
    visit: &mut dyn FnMut(&Node<'_>) -> Result<(), LayerError>,
) -> Result<(), LayerError> {
    walk_in(&Roots::open(dirs)?, markers, visit)
}

/// [`walk`] in folders that were opened before.
pub(super) fn walk_in(
    roots: &Roots,
    markers: Markers,
    visit: &mut dyn FnMut(&Node<'_>) -> Result<(), LayerError>,
) -> Result<(), LayerError> {
    let Some(top) = roots.all.len().checked_sub(1) else { return Ok(()) };
    let stat = unix::fstat(&roots.all[top]).map_err(|error| LayerError::walk(b"", error))?;
    visit(&Node { path: b"", stat, layer: top, roots })?;
    let all: Vec<usize> = (0..roots.all.len()).rev().collect();
    let mut stack = vec![Level { path: Vec::new(), names: list(roots, b"", &all, markers)?.into_iter() }];
    while let Some(level) = stack.last_mut() {
        let Some((name, found)) = level.names.next() else {
            stack.pop();
            continue;
        };
        if found.hidden {
            continue;
        }
        let path = join(&level.path, &name);
        visit(&Node { path: &path, stat: found.stat, layer: found.layer, roots })?;
        if !found.folders.is_empty() {
            let names = list(roots, &path, &found.folders, markers)?.into_iter();
            stack.push(Level { path, names });
        }
    }
    Ok(())
}

struct Level {
    path: Vec<u8>,
    names: std::collections::btree_map::IntoIter<Vec<u8>, Found>,
}

/// What the layers say about one name.
struct Found {
    stat: Stat,
    layer: usize,
    /// The layers whose folders of this name are merged, top first.
    folders: Vec<usize>,
    /// Lower layers no longer matter.
    closed: bool,
    /// It is a deletion.
    hidden: bool,
}

fn list(
    roots: &Roots,
    path: &[u8],
    layers: &[usize],
    markers: Markers,
) -> Result<BTreeMap<Vec<u8>, Found>, LayerError> {
    let failed = |error: Errno| LayerError::walk(path, error);
    let mut names: BTreeMap<Vec<u8>, Found> = BTreeMap::new();
    for &layer in layers {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let dir = match open(roots.all[layer].as_fd(), path, flags) {
            Err(error) if roots.live && is_gone(error) => continue,
            opened => opened.map_err(failed)?,
        };
        for item in unix::Dir::read_from(&dir).map_err(failed)? {
            let item = item.map_err(failed)?;
            let name = item.file_name().to_bytes();
            if matches!(name, b"." | b"..") || names.get(name).is_some_and(|found| found.closed) {
                continue;
            }
            let stat = match unix::statat(&dir, item.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
                Err(error) if roots.live && is_gone(error) => continue,
                found => found.map_err(|error| LayerError::walk(&join(path, name), error))?,
            };
            let folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            match names.get_mut(name) {
                Some(found) if folder => found.folders.push(layer),
                Some(found) => found.closed = true,
                None => {
                    let hidden = markers == Markers::Apply && is_whiteout(&stat);
                    let folders = if folder { vec![layer] } else { Vec::new() };
                    names.insert(name.to_vec(), Found { stat, layer, folders, closed: !folder, hidden });
                }
            }
        }
        if markers == Markers::Apply && xattrs(dir.as_fd()).map_err(failed)?.opaque {
            break;
        }
    }
    Ok(names)
}

/// Names and values.
pub(crate) type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// A file's extended attributes that a layer keeps.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    /// `security.capability` and `user.*`, sorted.
    pub(super) kept: Xattrs,
    /// It is a folder that hides what is below.
    pub(super) opaque: bool,
}

/// Reads the extended attributes that belong to a layer. Sources: DESIGN of the store, "A layer's tar".
pub(super) fn xattrs(file: BorrowedFd<'_>) -> Result<Attributes, Errno> {
    let mut attributes = Attributes::default();
    let size = match unix::flistxattr_query(file) {
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(attributes),
        Ok(size) => size,
        Err(error) => return Err(error),
    };
    let mut names = vec![0; size];
    let size = unix::flistxattr(file, names.as_mut_slice())?;
    for name in names[..size].split(|byte| *byte == 0) {
        match name {
            b"trusted.overlay.opaque" | b"user.overlay.opaque" => {
                attributes.opaque |= value(file, name)? == b"y"
            }
            // They would mean that content is elsewhere; kiln never mounts with the options that make them.
            b"trusted.overlay.metacopy"
            | b"trusted.overlay.redirect"
            | b"user.overlay.metacopy"
            | b"user.overlay.redirect" => return Err(Errno::NOTSUP),
            _ if name.starts_with(b"user.overlay.") => {}
            b"security.capability" => attributes.kept.push((name.to_vec(), value(file, name)?)),
            _ if name.starts_with(b"user.") => attributes.kept.push((name.to_vec(), value(file, name)?)),
            _ => {}
        }
    }
    attributes.kept.sort();
    Ok(attributes)
}

/// Returns the extended attributes that are a part of the file.
pub(crate) fn kept_xattrs(file: BorrowedFd<'_>) -> Result<Xattrs, Errno> {
    xattrs(file).map(|attributes| attributes.kept)
}

/// Whether a name that was there a moment ago is another thing now.
pub(crate) fn is_gone(error: Errno) -> bool {
    matches!(error, Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::STALE | Errno::NXIO)
}

fn value(file: BorrowedFd<'_>, name: &[u8]) -> Result<Vec<u8>, Errno> {
    let name = OsStr::from_bytes(name);
    let size = unix::fgetxattr_query(file, name)?;
    let mut value = vec![0; size];
    let size = unix::fgetxattr(file, name, value.as_mut_slice())?;
    value.truncate(size);
    Ok(value)
}

fn open(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { b".".as_slice() } else { path };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    // With NO_SYMLINKS the last component may be opened itself only by O_PATH | O_NOFOLLOW.
    unix::openat2(root, OsStr::from_bytes(path), flags, Mode::empty(), resolve)
}

fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }
}

fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}
