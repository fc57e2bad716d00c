//! A tar becomes files below a folder, of the machine or of a container. Both the tar and the folder may be hostile, and
//! the folder may change at any moment.
//!
//! The folder of each entry is opened by openat2 below a root that nothing leads out of: the container's, where links
//! are followed as the container itself would; or the target's folder on the machine, where none is followed at all.
//! Then a single name in it is made anew (`O_EXCL`), and owner, mode and times are set by its descriptor.

use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    self as unix, AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use super::super::error::{At, Error, Result};
use crate::image::layer::{Entries, Entry, Kind};
use crate::runtime::{IdRange, assume};

/// Bytes moved at once.
const BUFFER: usize = 256 << 10;
/// A rename anywhere on the machine during a `..` gives EAGAIN (openat2(2)).
const ATTEMPTS: usize = 64;
const SET_ID: u32 = 0o6000;

/// Below what the files are made.
#[derive(Debug)]
pub(super) struct Root<'a> {
    /// Nothing leads out of it.
    pub(super) fd: BorrowedFd<'a>,
    /// The folder below it that names are relative to.
    pub(super) base: PathBuf,
    /// Links to folders are followed, inside the root.
    pub(super) follows: bool,
}

/// What is taken over from the tar.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// Whom everything belongs to, instead of its owner in the tar.
    pub(super) owner: Option<(u32, u32)>,
    /// Set-id bits, capabilities and devices.
    pub(super) rights: bool,
    /// The machine's ids of those in the tar, for a tree that runs with ids of its own.
    pub(super) ids: Option<IdRange>,
    /// What the archive says of its own root is meant for the folder that it is unpacked to.
    pub(super) top: bool,
}

/// Makes the files of the tar in `reader`; gives the names of what the rules leave out.
pub(super) fn unpack(reader: impl Read, root: Root<'_>, rules: Rules) -> Result<Vec<String>> {
    let _assumed =
        rules.ids.map(assume).transpose().map_err(|error| Error::Invalid { message: error.to_string() })?;
    let mut entries = Entries::new(reader);
    let mut unpacker =
        Unpacker { root, rules, folders: Vec::new(), left_out: Vec::new(), buffer: vec![0; BUFFER] };
    while let Some(entry) = entries.next().map_err(damaged)? {
        unpacker.place(&entry, &mut entries)?;
    }
    unpacker.finish()?;
    // A writer that is still at its last blocks must not meet a closed pipe.
    entries.drain().map_err(damaged)?;
    Ok(unpacker.left_out)
}

struct Unpacker<'a> {
    root: Root<'a>,
    rules: Rules,
    /// Folders, whose mode and time come at the end: what is made in them changes the time.
    folders: Vec<(Vec<u8>, u32, (i64, u32))>,
    left_out: Vec<String>,
    buffer: Vec<u8>,
}

impl Unpacker<'_> {
    fn place<R: Read>(&mut self, entry: &Entry, data: &mut Entries<R>) -> Result<()> {
        let path = clean(&entry.path)?;
        if path.is_empty() {
            let is_meant = self.rules.top && entry.kind == Kind::Directory;
            return if is_meant { self.top(entry) } else { Ok(()) };
        }
        let at = PathBuf::from(OsStr::from_bytes(&path));
        let device = matches!(entry.kind, Kind::Char(..) | Kind::Block(..));
        if device && !self.rules.rights {
            self.left_out.push(format!("device `{}`", at.display()));
            return Ok(());
        }
        let (parent, name) = split(&path);
        let folder = self.parent(parent, &at)?;
        let name = OsStr::from_bytes(name);
        self.make_way(&folder, name, entry, &at)?;
        match entry.kind {
            Kind::Directory => self.folder(entry, &folder, name, &path),
            Kind::File => self.file(entry, &folder, name, data),
            Kind::Symlink => {
                unix::symlinkat(OsStr::from_bytes(&entry.link), &folder, name).at("create", &at)?;
                self.finish_name(entry, &folder, name).at("create", &at)
            }
            Kind::HardLink => match self.hard_link(entry, &folder, name, &at) {
                // A further name of a device that was left out.
                Err(error) if error.is_absence() && !self.left_out.is_empty() => {
                    self.left_out.push(format!("device `{}`", at.display()));
                    Ok(())
                }
                linked => linked,
            },
            Kind::Fifo => self.node(entry, (&folder, name), FileType::Fifo, 0, &at),
            Kind::Char(major, minor) => {
                let number = unix::makedev(major, minor);
                self.node(entry, (&folder, name), FileType::CharacterDevice, number, &at)
            }
            Kind::Block(major, minor) => {
                let number = unix::makedev(major, minor);
                self.node(entry, (&folder, name), FileType::BlockDevice, number, &at)
            }
        }
    }

    fn top(&mut self, entry: &Entry) -> Result<()> {
        let at = Path::new(".");
        let fd = self.open(b"", OFlags::RDONLY | OFlags::DIRECTORY).at("open", at)?;
        self.own(fd.as_fd(), entry).at("change the owner of", at)?;
        self.set_xattrs(fd.as_fd(), entry).at("set the attributes of", at)?;
        self.folders.push((Vec::new(), self.mode(entry), entry.mtime));
        Ok(())
    }

    /// Opens a folder of the target; one that no entry told of is made.
    fn parent(&self, path: &[u8], at: &Path) -> Result<OwnedFd> {
        match self.open(path, OFlags::PATH | OFlags::DIRECTORY) {
            Err(Errno::NOENT) if !path.is_empty() => {
                let (above, name) = split(path);
                let above = self.parent(above, at)?;
                match unix::mkdirat(&above, OsStr::from_bytes(name), Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error).at("create the folder of", at),
                }
                self.open(path, OFlags::PATH | OFlags::DIRECTORY).at("open the folder of", at)
            }
            opened => opened.at("open the folder of", at),
        }
    }

    /// Opens a path below the base as the root's rule says.
    fn open(&self, path: &[u8], flags: OFlags) -> std::result::Result<OwnedFd, Errno> {
        let path = self.root.base.join(OsStr::from_bytes(path));
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { &path };
        let resolve = match self.root.follows {
            true => ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
            false => ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
        };
        let mut result = Err(Errno::AGAIN);
        for _ in 0..ATTEMPTS {
            result = unix::openat2(self.root.fd, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve);
            if !matches!(result, Err(Errno::AGAIN | Errno::INTR)) {
                break;
            }
        }
        result
    }

    /// Removes what the entry replaces; a folder is neither replaced nor replaces.
    fn make_way(&self, folder: &OwnedFd, name: &OsStr, entry: &Entry, at: &Path) -> Result<()> {
        let stat = match unix::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(error).at("look at", at),
        };
        let there = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let text = match (there, entry.kind == Kind::Directory) {
            (true, true) => return Ok(()),
            (true, false) => "cannot overwrite directory `{}` with non-directory",
            (false, true) => "cannot overwrite non-directory `{}` with directory",
            (false, false) => match unix::unlinkat(folder, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => return Ok(()),
                Err(Errno::BUSY) => "cannot replace `{}`: something is mounted on it",
                Err(error) => return Err(error).at("replace", at),
            },
        };
        Err(Error::Invalid { message: text.replace("{}", &at.display().to_string()) })
    }

    fn folder(&mut self, entry: &Entry, parent: &OwnedFd, name: &OsStr, path: &[u8]) -> Result<()> {
        let at = Path::new(OsStr::from_bytes(path));
        // What comes into it needs it open to this process until the end.
        match unix::mkdirat(parent, name, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error).at("create", at),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = unix::openat(parent, name, flags, Mode::empty()).at("open", at)?;
        self.own(fd.as_fd(), entry).at("change the owner of", at)?;
        self.set_xattrs(fd.as_fd(), entry).at("set the attributes of", at)?;
        self.folders.push((path.to_vec(), self.mode(entry), entry.mtime));
        Ok(())
    }

    fn file<R: Read>(
        &mut self,
        entry: &Entry,
        folder: &OwnedFd,
        name: &OsStr,
        data: &mut Entries<R>,
    ) -> Result<()> {
        let at = Path::new(OsStr::from_bytes(&entry.path));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = unix::openat(folder, name, flags, Mode::from_raw_mode(0o600)).at("create", at)?;
        let whole = [(0, entry.size)];
        for (offset, length) in entry.segments.as_deref().unwrap_or(&whole) {
            unix::seek(&file, unix::SeekFrom::Start(*offset)).at("write", at)?;
            self.fill(file.as_fd(), *length, data, at)?;
        }
        // A file may end with a hole.
        unix::ftruncate(&file, entry.size).at("write", at)?;
        self.own(file.as_fd(), entry).at("change the owner of", at)?;
        // After the owner, because chown takes set-id bits and capabilities away.
        unix::fchmod(&file, Mode::from_raw_mode(self.mode(entry))).at("change the mode of", at)?;
        self.set_xattrs(file.as_fd(), entry).at("set the attributes of", at)?;
        unix::futimens(&file, &times(entry.mtime)).at("set the time of", at)
    }

    fn fill<R: Read>(
        &mut self,
        file: BorrowedFd<'_>,
        bytes: u64,
        data: &mut Entries<R>,
        at: &Path,
    ) -> Result<()> {
        let mut left = bytes;
        while left > 0 {
            let want = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let got = data.read(&mut self.buffer[..want]).map_err(damaged)?;
            if got == 0 {
                return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof)).at("read", at);
            }
            let mut rest = &self.buffer[..got];
            if rest.iter().all(|byte| *byte == 0) {
                // What was a hole comes as zeros, and becomes one again.
                let bytes = i64::try_from(got).unwrap_or_default();
                unix::seek(file, unix::SeekFrom::Current(bytes)).at("write", at)?;
                rest = &[];
            }
            while !rest.is_empty() {
                let written = rustix::io::retry_on_intr(|| rustix::io::write(file, rest));
                rest = &rest[written.at("write", at)?..];
            }
            left -= got as u64;
        }
        Ok(())
    }

    fn hard_link(&self, entry: &Entry, folder: &OwnedFd, name: &OsStr, at: &Path) -> Result<()> {
        let target = clean(&entry.link)?;
        let (parent, first) = split(&target);
        let from = self.open(parent, OFlags::PATH | OFlags::DIRECTORY).at("link", at)?;
        unix::linkat(&from, OsStr::from_bytes(first), folder, name, AtFlags::empty()).at("link", at)
    }

    fn node(
        &self,
        entry: &Entry,
        (folder, name): (&OwnedFd, &OsStr),
        kind: FileType,
        number: u64,
        at: &Path,
    ) -> Result<()> {
        unix::mknodat(folder, name, kind, Mode::from_raw_mode(0o600), number).at("create", at)?;
        self.finish_name(entry, folder, name).at("create", at)?;
        // The mode of the very thing that was made: a name may be a link to anywhere by now.
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let place = unix::openat(folder, name, flags, Mode::empty()).at("open", at)?;
        if FileType::from_raw_mode(unix::fstat(&place).at("look at", at)?.st_mode) != kind {
            return Err(Errno::STALE).at("create", at);
        }
        let path = format!("/proc/self/fd/{}", place.as_raw_fd());
        unix::chmod(path, Mode::from_raw_mode(self.mode(entry))).at("change the mode of", at)
    }

    /// Sets owner and time of what has no descriptor, itself and never what it leads to.
    fn finish_name(&self, entry: &Entry, folder: &OwnedFd, name: &OsStr) -> std::result::Result<(), Errno> {
        let (uid, gid) = self.owner(entry);
        unix::chownat(folder, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        unix::utimensat(folder, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
    }

    fn own(&self, fd: BorrowedFd<'_>, entry: &Entry) -> std::result::Result<(), Errno> {
        let (uid, gid) = self.owner(entry);
        unix::fchown(fd, Some(uid), Some(gid))
    }

    fn owner(&self, entry: &Entry) -> (Uid, Gid) {
        let (uid, gid) = self.rules.owner.unwrap_or((entry.uid, entry.gid));
        let host = |id| IdRange::host(self.rules.ids, id);
        (Uid::from_raw(host(uid)), Gid::from_raw(host(gid)))
    }

    fn mode(&self, entry: &Entry) -> u32 {
        // A folder's set-gid bit gives nobody rights.
        let is_right = !self.rules.rights && entry.kind != Kind::Directory;
        if is_right { entry.mode & !SET_ID } else { entry.mode }
    }

    fn set_xattrs(&self, file: BorrowedFd<'_>, entry: &Entry) -> std::result::Result<(), Errno> {
        for (name, value) in &entry.xattrs {
            let is_right = name == b"security.capability";
            let is_plain = name.starts_with(b"user.") && !name.starts_with(b"user.overlay.");
            if !is_plain && (!is_right || !self.rules.rights) {
                continue;
            }
            match unix::fsetxattr(file, OsStr::from_bytes(name), value, XattrFlags::empty()) {
                // Not every filesystem has them; docker drops them, too.
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn finish(&self) -> Result<()> {
        for (path, mode, mtime) in self.folders.iter().rev() {
            let at = Path::new(OsStr::from_bytes(path));
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            let fd = match self.open(path, flags) {
                // The container has taken it away.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) if self.root.follows => continue,
                opened => opened.at("open", at)?,
            };
            unix::fchmod(&fd, Mode::from_raw_mode(*mode)).at("change the mode of", at)?;
            unix::futimens(&fd, &times(*mtime)).at("set the time of", at)?;
        }
        Ok(())
    }
}

/// Cleans an entry's name: no leading `/`, no `.`; `..` is refused.
fn clean(name: &[u8]) -> Result<Vec<u8>> {
    let mut parts: Vec<&[u8]> = name.split(|byte| *byte == b'/').collect();
    parts.retain(|part| !matches!(*part, b"" | b"."));
    if parts.contains(&b"..".as_slice()) {
        let name = String::from_utf8_lossy(name);
        return Err(Error::Invalid { message: format!("the archive's entry `{name}` leads out of it") });
    }
    Ok(parts.join(&b'/'))
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

fn times((seconds, nanos): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: i64::from(nanos) };
    Timestamps { last_access: time, last_modification: time }
}

fn damaged(source: crate::image::layer::LayerError) -> Error {
    Error::Layer { action: "copy", source }
}
