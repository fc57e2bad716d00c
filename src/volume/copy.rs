//! Copies a tree with all that belongs to its files.

use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, Timespec, Timestamps, XattrFlags};

/// An xattr's value and the list of names have at most this many bytes (Linux, XATTR_SIZE_MAX).
const XATTR_BYTES: usize = 64 * 1024;
/// Deeper trees than paths can name are refused instead of ending the stack.
const MAX_DEPTH: usize = 1024;

/// Copies what is in the directory `from`, and its own owner, mode and times, to the empty directory `to`.
///
/// Nothing is followed: links are copied as links, and every name is opened relative to its own directory.
pub(super) fn tree(from: OwnedFd, to: &Path) -> io::Result<()> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let to = rustix::fs::openat(CWD, to, flags, Mode::empty())?;
    let top = to.try_clone()?;
    Copier { top, links: HashMap::new(), path: PathBuf::new(), depth: 0 }.directory(from, &to)
}

struct Copier {
    top: OwnedFd,
    /// Where a file with several names was copied to, below the top: by device and inode.
    links: HashMap<(u64, u64), PathBuf>,
    /// The directory being copied, below the top.
    path: PathBuf,
    depth: usize,
}

impl Copier {
    fn directory(&mut self, from: OwnedFd, to: &OwnedFd) -> io::Result<()> {
        if self.depth > MAX_DEPTH {
            return Err(io::Error::other("the tree is too deep"));
        }
        self.depth += 1;
        let stat = rustix::fs::fstat(&from)?;
        for entry in rustix::fs::Dir::read_from(&from)? {
            let entry = entry?;
            let name = entry.file_name();
            if name != c"." && name != c".." {
                self.entry(&from, to, name)?;
            }
        }
        self.depth -= 1;
        finish(&from, to, &stat)
    }

    fn entry(&mut self, from: &OwnedFd, to: &OwnedFd, name: &CStr) -> io::Result<()> {
        let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::Directory && stat.st_nlink > 1 && self.link(&stat, to, name)? {
            return Ok(());
        }
        match kind {
            FileType::Directory => {
                rustix::fs::mkdirat(to, name, Mode::from_raw_mode(0o700))?;
                let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let inner = rustix::fs::openat(from, name, flags, Mode::empty())?;
                self.path.push(OsStr::from_bytes(name.to_bytes()));
                self.directory(inner, &rustix::fs::openat(to, name, flags, Mode::empty())?)?;
                self.path.pop();
                Ok(())
            }
            FileType::RegularFile => file(from, to, name, &stat),
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(from, name, Vec::new())?;
                rustix::fs::symlinkat(target, to, name)?;
                finish_at(to, name, &stat)
            }
            // A socket is nothing without its process.
            FileType::Socket => Ok(()),
            _ => {
                rustix::fs::mknodat(to, name, kind, Mode::from_raw_mode(stat.st_mode), stat.st_rdev)?;
                finish_at(to, name, &stat)?;
                let mode = Mode::from_raw_mode(stat.st_mode);
                Ok(rustix::fs::chmodat(to, name, mode, AtFlags::empty())?)
            }
        }
    }

    /// Links `name` to the copy of another name of the same file, if there is one; else remembers it.
    fn link(&mut self, stat: &Stat, to: &OwnedFd, name: &CStr) -> io::Result<bool> {
        let key = (stat.st_dev, stat.st_ino);
        if let Some(first) = self.links.get(&key) {
            rustix::fs::linkat(&self.top, first, to, name, AtFlags::empty())?;
            return Ok(true);
        }
        self.links.insert(key, self.path.join(OsStr::from_bytes(name.to_bytes())));
        Ok(false)
    }
}

fn file(from: &OwnedFd, to: &OwnedFd, name: &CStr, stat: &Stat) -> io::Result<()> {
    // NONBLOCK: what was a file a moment ago must not become a FIFO that never opens.
    let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let write = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let source = rustix::fs::openat(from, name, read, Mode::empty())?;
    let target = rustix::fs::openat(to, name, write, Mode::from_raw_mode(0o600))?;
    // Where the filesystem can, both share the blocks until one is written to.
    if rustix::fs::ioctl_ficlone(&target, &source).is_err() {
        content(&source, &target, u64::try_from(stat.st_size).unwrap_or_default())?;
    }
    finish(&source, &target, stat)
}

/// Copies the parts of a file that have data; what is a hole stays one.
fn content(source: &OwnedFd, target: &OwnedFd, size: u64) -> io::Result<()> {
    use rustix::fs::{SeekFrom, seek};
    let (mut from, mut to) = (File::from(source.try_clone()?), File::from(target.try_clone()?));
    let mut at = 0;
    while at < size {
        let start = match seek(&from, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(rustix::io::Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = seek(&from, SeekFrom::Hole(start))?;
        seek(&from, SeekFrom::Start(start))?;
        seek(&to, SeekFrom::Start(start))?;
        // std copies within the kernel where it can.
        io::copy(&mut Read::take(&mut from, end - start), &mut to)?;
        at = end;
    }
    Ok(rustix::fs::ftruncate(target, size)?)
}

fn copy_xattrs(from: impl AsFd, to: impl AsFd) -> io::Result<()> {
    let mut names = vec![0; XATTR_BYTES];
    let length = match rustix::fs::flistxattr(&from, &mut names[..]) {
        Ok(length) => length,
        Err(rustix::io::Errno::NOTSUP) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let mut value = Vec::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.") {
            continue;
        }
        value.resize(XATTR_BYTES, 0);
        let length = rustix::fs::fgetxattr(&from, name, &mut value[..])?;
        match rustix::fs::fsetxattr(&to, name, &value[..length], XattrFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOTSUP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Sets owner, mode, attributes and times: a change of the owner clears set-id bits and capabilities, so it
/// comes first.
fn finish(from: impl AsFd, to: impl AsFd, stat: &Stat) -> io::Result<()> {
    rustix::fs::fchown(&to, Some(uid(stat)), Some(gid(stat)))?;
    rustix::fs::fchmod(&to, Mode::from_raw_mode(stat.st_mode))?;
    copy_xattrs(from, &to)?;
    Ok(rustix::fs::futimens(&to, &times(stat))?)
}

fn finish_at(folder: &OwnedFd, name: &CStr, stat: &Stat) -> io::Result<()> {
    rustix::fs::chownat(folder, name, Some(uid(stat)), Some(gid(stat)), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(rustix::fs::utimensat(folder, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?)
}

fn uid(stat: &Stat) -> rustix::fs::Uid {
    rustix::fs::Uid::from_raw(stat.st_uid)
}

fn gid(stat: &Stat) -> rustix::fs::Gid {
    rustix::fs::Gid::from_raw(stat.st_gid)
}

fn times(stat: &Stat) -> Timestamps {
    let nanoseconds = |value: u64| i64::try_from(value).unwrap_or_default();
    Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime, tv_nsec: nanoseconds(stat.st_atime_nsec) },
        last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: nanoseconds(stat.st_mtime_nsec) },
    }
}
