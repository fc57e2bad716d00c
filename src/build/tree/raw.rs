//! Reading directories and files relative to a root's descriptor.
//!
//! Every path is opened by openat2 with `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS`: a link that was put
//! in the place of a directory a moment ago is an error, never a way out. A single name needs no resolving:
//! `O_NOFOLLOW` says the same, and stat asks for it without opening it.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, ResolveFlags, Statx, StatxFlags};
use rustix::io::Errno;

use super::{Entry, Error, Kind, Result, Xattrs, is_copied_xattr, join, show};

/// Room for a batch of directory entries.
const DIRECTORY_BUFFER: usize = 32 * 1024;

/// Room for the names of a file's extended attributes: what nearly all have.
const ATTRIBUTE_NAMES: usize = 256;

/// The kernel's limit of them (`XATTR_LIST_MAX`).
const MAX_ATTRIBUTE_NAMES: usize = 64 * 1024;

/// Opens the root directory of a tree.
pub(crate) fn open_root(path: &Path) -> std::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Opens `path` below `root` without following any link.
pub(crate) fn open_beneath(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
    let path = if path.is_empty() { b"." } else { path };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    if is_name(path) {
        return rustix::fs::openat(root, path, flags, Mode::empty());
    }
    // EAGAIN: a rename elsewhere raced with the look-up (openat2(2)).
    loop {
        match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
}

/// Tells whether `path` is one name in a directory, or the directory itself.
fn is_name(path: &[u8]) -> bool {
    !path.is_empty() && path != b".." && !path.contains(&b'/')
}

/// Opens the directory `path`; `None` if there is nothing, or something else.
pub(super) fn open_dir(root: BorrowedFd<'_>, path: &[u8]) -> Result<Option<OwnedFd>> {
    match open_beneath(root, path, OFlags::RDONLY | OFlags::DIRECTORY) {
        Ok(dir) => Ok(Some(dir)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG) => Ok(None),
        Err(source) => Err(Error::io("open", path, source)),
    }
}

/// The directory that was opened last: files of one directory come one after another.
#[derive(Default)]
pub(crate) struct LastDir(Option<(Vec<u8>, OwnedFd)>);

impl LastDir {
    /// Opens the directory `path` below `root`, which is the same each time.
    pub(crate) fn open(&mut self, root: BorrowedFd<'_>, path: &[u8]) -> Result<BorrowedFd<'_>> {
        if self.0.as_ref().is_none_or(|(last, _)| last != path) {
            let dir = open_beneath(root, path, OFlags::RDONLY | OFlags::DIRECTORY)
                .map_err(|source| Error::io("open", path, source))?;
            self.0 = Some((path.to_vec(), dir));
        }
        let (_, dir) = self.0.as_ref().expect("it was set above");
        Ok(dir.as_fd())
    }
}

/// Opens the regular file of `entry`.
pub(crate) fn open_file(root: BorrowedFd<'_>, entry: &Entry) -> Result<File> {
    // NONBLOCK: a FIFO put in its place must not make us wait. NOATIME: reading a new file would write a time.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    let file = match open_beneath(root, &entry.path, flags | OFlags::NOATIME) {
        // Somebody else's file.
        Err(Errno::PERM) => open_beneath(root, &entry.path, flags),
        opened => opened,
    };
    let file = file.map_err(|source| Error::io("open", &entry.path, source))?;
    let stat = rustix::fs::fstat(&file).map_err(|source| Error::io("stat", &entry.path, source))?;
    if !FileType::from_raw_mode(stat.st_mode).is_file() {
        return Err(Error::Changed { path: show(&entry.path) });
    }
    Ok(File::from(file))
}

/// Describes the open file of `entry` as it is now.
pub(crate) fn restat(file: &File, entry: &Entry) -> Result<Entry> {
    let stat = rustix::fs::statx(file, "", AtFlags::EMPTY_PATH, wanted())
        .map_err(|source| Error::io("stat", &entry.path, source))?;
    Ok(Entry { hollow: entry.hollow, ..describe(entry.path.clone(), &stat, entry.layer) })
}

fn wanted() -> StatxFlags {
    StatxFlags::BASIC_STATS
}

/// Describes `name` in the directory `dir`; `None` if there is nothing.
pub(super) fn stat_at(
    dir: BorrowedFd<'_>,
    name: &[u8],
    path: Vec<u8>,
    layer: usize,
) -> Result<Option<Entry>> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
    match rustix::fs::statx(dir, name, flags, wanted()) {
        Ok(stat) => Ok(Some(describe(path, &stat, layer))),
        Err(Errno::NOENT | Errno::NAMETOOLONG) => Ok(None),
        Err(source) => Err(Error::io("stat", &path, source)),
    }
}

/// Describes `path` below `root`; `None` if there is nothing.
pub(crate) fn stat_beneath(root: BorrowedFd<'_>, path: &[u8], layer: usize) -> Result<Option<Entry>> {
    if path.is_empty() || is_name(path) {
        return stat_at(root, path, path.to_vec(), layer);
    }
    match open_beneath(root, path, OFlags::PATH) {
        Ok(node) => stat_at(node.as_fd(), b"", path.to_vec(), layer),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG) => Ok(None),
        Err(source) => Err(Error::io("stat", path, source)),
    }
}

/// Describes everything in the directory `path` below `root`.
pub(crate) fn list_beneath(root: BorrowedFd<'_>, path: &[u8]) -> Result<Vec<Entry>> {
    let dir = open_beneath(root, path, OFlags::RDONLY | OFlags::DIRECTORY)
        .map_err(|source| Error::io("open", path, source))?;
    list(dir.as_fd(), path, 0)
}

/// Describes everything in the directory `path`, in the order of the directory.
pub(super) fn list(dir: BorrowedFd<'_>, path: &[u8], layer: usize) -> Result<Vec<Entry>> {
    let mut buffer = Vec::with_capacity(DIRECTORY_BUFFER);
    let mut names = RawDir::new(dir, buffer.spare_capacity_mut());
    let mut entries = Vec::new();
    while let Some(item) = names.next() {
        let item = item.map_err(|source| Error::io("read", path, source))?;
        let name = item.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        // What is gone since the directory was read is not there.
        entries.extend(stat_at(dir, name, join(path, name), layer)?);
    }
    Ok(entries)
}

fn describe(path: Vec<u8>, stat: &Statx, layer: usize) -> Entry {
    let device = (stat.stx_rdev_major, stat.stx_rdev_minor);
    Entry {
        path,
        kind: kind(u32::from(stat.stx_mode), device),
        mode: u32::from(stat.stx_mode) & 0o7777,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        size: stat.stx_size,
        mtime: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
        ctime: (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
        dev: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
        ino: stat.stx_ino,
        names: stat.stx_nlink,
        hollow: false,
        layer,
    }
}

fn kind(mode: u32, (major, minor): (u32, u32)) -> Kind {
    match FileType::from_raw_mode(mode) {
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        FileType::CharacterDevice => Kind::CharDevice(major, minor),
        FileType::BlockDevice => Kind::BlockDevice(major, minor),
        _ => Kind::File,
    }
}

/// Reads where the link `path` below `root` points.
pub(crate) fn read_link(root: BorrowedFd<'_>, path: &[u8]) -> Result<Vec<u8>> {
    let fail = |source| Error::io("read the link", path, source);
    let link = open_beneath(root, path, OFlags::PATH).map_err(fail)?;
    Ok(rustix::fs::readlinkat(&link, "", Vec::new()).map_err(fail)?.into_bytes())
}

/// Reads the extended attributes of `path` below `root` that are copied.
pub(crate) fn xattrs(root: BorrowedFd<'_>, path: &[u8]) -> Result<Xattrs> {
    let node = open_beneath(root, path, OFlags::PATH).map_err(|source| Error::io("open", path, source))?;
    read_xattrs(node.as_fd(), path)
}

/// Reads the extended attributes of an open file that are copied.
pub(crate) fn file_xattrs(file: &File, path: &[u8]) -> Result<Xattrs> {
    read_xattrs(file.as_fd(), path)
}

fn read_xattrs(node: BorrowedFd<'_>, path: &[u8]) -> Result<Xattrs> {
    // An O_PATH descriptor has no attributes of its own; its name in /proc leads to the same inode.
    let name = format!("/proc/self/fd/{}", node.as_raw_fd());
    let fail = |source| Error::io("read the attributes of", path, source);
    // Never empty: a buffer without room asks for the size instead.
    let mut names = Vec::with_capacity(ATTRIBUTE_NAMES);
    match rustix::fs::listxattr(name.as_str(), rustix::buffer::spare_capacity(&mut names)) {
        Ok(_) => {}
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(Errno::RANGE) => {
            names.reserve(MAX_ATTRIBUTE_NAMES);
            rustix::fs::listxattr(name.as_str(), rustix::buffer::spare_capacity(&mut names)).map_err(fail)?;
        }
        Err(source) => return Err(fail(source)),
    }
    let mut found = Vec::new();
    for attribute in names.split(|byte| *byte == 0).filter(|attribute| is_copied_xattr(attribute)) {
        if let Some(value) = xattr_value(&name, attribute).map_err(fail)? {
            found.push((attribute.to_vec(), value));
        }
    }
    found.sort();
    Ok(found)
}

fn xattr_value(name: &str, attribute: &[u8]) -> rustix::io::Result<Option<Vec<u8>>> {
    let size = match rustix::fs::getxattr_query(name, attribute) {
        Ok(size) => size,
        Err(Errno::NODATA) => return Ok(None),
        Err(error) => return Err(error),
    };
    // A zero-sized buffer would only ask for the size again.
    let mut value = Vec::with_capacity(size + 1);
    match rustix::fs::getxattr(name, attribute, rustix::buffer::spare_capacity(&mut value)) {
        Ok(_) => Ok(Some(value)),
        Err(Errno::NODATA) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads one extended attribute of an open directory; `None` if it is not set.
pub(super) fn short_xattr(dir: impl AsFd, name: &str) -> Option<Vec<u8>> {
    let mut value = Vec::with_capacity(16);
    rustix::fs::fgetxattr(dir, name, rustix::buffer::spare_capacity(&mut value)).ok()?;
    Some(value)
}
