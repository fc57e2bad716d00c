//! A layer's archive becomes a folder in overlay form. The archive is hostile until proven otherwise.
//!
//! 1. Names are cleaned: leading `/` and `.` go, `..` is refused.
//! 2. The parent folder is opened by `openat2` with `RESOLVE_BENEATH`: a symlink that leads out of the root
//!    is an error, and no string is ever walked twice. The last component is never followed.
//! 3. Files are made with `O_EXCL`; what stands in the way is unlinked first, so nothing is written through
//!    an existing name. Later entries win.
//! 4. `.wh.x` becomes a 0:0 character device, `.wh..wh..opq` the opaque attribute. Devices with that number
//!    and `*.overlay.*` attributes in the input never get in.
//! 5. Folders get their times and modes at the end, because what is made in them changes them.
//!
//! At an error the folder is half-made; the caller drops it with its staging folder.

use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    self as unix, AtFlags, FileType, Mode, OFlags, ResolveFlags, Timespec, Timestamps, XattrFlags,
};
use rustix::io::Errno;

use super::entries::{Entries, Entry, Kind};
use super::error::LayerError;

/// Bytes moved at once.
const BUFFER: usize = 256 << 10;
/// Most bytes of folder names remembered for the end: about a million folders.
const FOLDER_NAMES: usize = 64 << 20;
/// Folders that no entry names.
const IMPLICIT_MODE: u32 = 0o755;
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What `.wh.` names mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whiteouts {
    /// Deletions, as in a layer.
    Translate,
    /// Mistakes, as in an archive that ADD unpacks: they would turn into deletions when pushed.
    Refuse,
}

/// What an archive held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Entries.
    pub files: u64,
    /// Bytes of file content.
    pub bytes: u64,
}

/// Unpacks the layer in `reader` into `dir`, an empty folder on the store's filesystem.
///
/// Reads to the end of the stream, so that a hash beside it covers everything.
///
/// # Errors
/// A damaged or truncated archive, a name that leaves the root, or a failure of the disk; each names its entry.
pub fn unpack(reader: impl Read, dir: &Path) -> Result<Unpacked, LayerError> {
    unpack_with(reader, dir, Whiteouts::Translate)
}

/// Unpacks an archive into `dir`, as [`unpack`] does, with `whiteouts` as said.
pub fn unpack_with(reader: impl Read, dir: &Path, whiteouts: Whiteouts) -> Result<Unpacked, LayerError> {
    let mut entries = Entries::new(reader);
    let mut unpacker = Unpacker::open(dir, whiteouts)?;
    while let Some(entry) = entries.next()? {
        unpacker.place(&entry, &mut entries)?;
    }
    unpacker.finish()?;
    entries.drain()?;
    Ok(unpacker.unpacked)
}

struct Unpacker {
    root: OwnedFd,
    whiteouts: Whiteouts,
    /// Whether owners can be set.
    privileged: bool,
    /// The last parent, because archives go folder by folder.
    parent: Option<(Vec<u8>, OwnedFd)>,
    folders: Vec<Folder>,
    folder_names: usize,
    buffer: Vec<u8>,
    unpacked: Unpacked,
}

struct Folder {
    path: Vec<u8>,
    mode: u32,
    mtime: (i64, u32),
}

/// Where an entry goes: its cleaned parent and its last component.
struct Place<'a> {
    parent: &'a [u8],
    name: &'a [u8],
}

impl Unpacker {
    fn open(dir: &Path, whiteouts: Whiteouts) -> Result<Self, LayerError> {
        let root = unix::open(dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| LayerError::write(dir.as_os_str().as_bytes(), error))?;
        Ok(Self {
            root,
            whiteouts,
            privileged: rustix::process::geteuid().is_root(),
            parent: None,
            folders: Vec::new(),
            folder_names: 0,
            buffer: vec![0; BUFFER],
            unpacked: Unpacked::default(),
        })
    }

    fn place<R: Read>(&mut self, entry: &Entry, data: &mut Entries<R>) -> Result<(), LayerError> {
        let path = clean(&entry.path).map_err(|reason| LayerError::refused(&entry.path, reason))?;
        self.unpacked.files += 1;
        if path.is_empty() {
            return self.root_attributes(entry);
        }
        let place = split(&path);
        if let Some(hidden) = place.name.strip_prefix(WHITEOUT) {
            return self.whiteout(entry, &place, hidden);
        }
        if path.split(|byte| *byte == b'/').any(|part| part.starts_with(WHITEOUT)) {
            // aufs kept its own books below `.wh..wh.plnk`.
            let aufs = path.starts_with(b".wh..wh.") && self.whiteouts == Whiteouts::Translate;
            return if aufs {
                Ok(())
            } else {
                Err(LayerError::refused(&entry.path, "lies below a whiteout"))
            };
        }
        match entry.kind {
            Kind::Directory => self.folder(entry, &path, &place),
            Kind::File => self.file(entry, &place, data),
            Kind::HardLink => self.hard_link(entry, &path, &place),
            Kind::Symlink => self.symlink(entry, &place),
            Kind::Char(0, 0) => {
                Err(LayerError::refused(&entry.path, "is a 0:0 device, which overlayfs takes for a deletion"))
            }
            Kind::Char(major, minor) => {
                self.node(entry, &place, FileType::CharacterDevice, unix::makedev(major, minor))
            }
            Kind::Block(major, minor) => {
                self.node(entry, &place, FileType::BlockDevice, unix::makedev(major, minor))
            }
            Kind::Fifo => self.node(entry, &place, FileType::Fifo, 0),
        }
    }

    fn root_attributes(&mut self, entry: &Entry) -> Result<(), LayerError> {
        if entry.kind != Kind::Directory {
            return Err(LayerError::refused(&entry.path, "would replace the root"));
        }
        let failed = |error: Errno| LayerError::write(&entry.path, error);
        self.own(self.root.as_fd(), entry).map_err(failed)?;
        unix::fchmod(&self.root, Mode::from_raw_mode(entry.mode)).map_err(failed)?;
        set_xattrs(self.root.as_fd(), entry)?;
        self.remember(b"", entry.mode, entry.mtime)
    }

    fn file<R: Read>(
        &mut self,
        entry: &Entry,
        place: &Place<'_>,
        data: &mut Entries<R>,
    ) -> Result<(), LayerError> {
        let failed = |error: Errno| LayerError::write(&entry.path, error);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(entry.mode & 0o777);
        let file = self.make(entry, place, |dir, name| unix::openat(dir, name, flags, mode))?;
        match &entry.segments {
            None => self.fill(entry, file.as_fd(), entry.size, data)?,
            Some(segments) => {
                for (offset, length) in segments {
                    unix::seek(&file, unix::SeekFrom::Start(*offset)).map_err(failed)?;
                    self.fill(entry, file.as_fd(), *length, data)?;
                }
                unix::ftruncate(&file, entry.size).map_err(failed)?;
            }
        }
        let stat = self.own(file.as_fd(), entry).map_err(failed)?;
        // After the owner, because chown takes the setuid bit and capabilities away.
        if stat.is_none_or(|stat| stat.st_mode & 0o7777 != entry.mode) {
            unix::fchmod(&file, Mode::from_raw_mode(entry.mode)).map_err(failed)?;
        }
        set_xattrs(file.as_fd(), entry)?;
        unix::futimens(&file, &times(entry.mtime)).map_err(failed)
    }

    fn fill<R: Read>(
        &mut self,
        entry: &Entry,
        file: BorrowedFd<'_>,
        bytes: u64,
        data: &mut Entries<R>,
    ) -> Result<(), LayerError> {
        let mut left = bytes;
        while left > 0 {
            let want = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let got = data.read(&mut self.buffer[..want])?;
            if got == 0 {
                return Err(LayerError::Truncated { entry: Some(super::error::shown(&entry.path)) });
            }
            let mut rest = &self.buffer[..got];
            while !rest.is_empty() {
                let written = rustix::io::retry_on_intr(|| rustix::io::write(file, rest));
                rest = &rest[written.map_err(|error| LayerError::write(&entry.path, error))?..];
            }
            left -= got as u64;
        }
        self.unpacked.bytes += bytes;
        Ok(())
    }

    fn folder(&mut self, entry: &Entry, path: &[u8], place: &Place<'_>) -> Result<(), LayerError> {
        let failed = |error: Errno| LayerError::write(&entry.path, error);
        // The writer needs the folder open to it until the end.
        let mode = Mode::from_raw_mode(entry.mode | 0o700);
        self.parent(place.parent, entry)?;
        let (_, dir) = self.parent.as_ref().expect("was set above");
        let name = OsStr::from_bytes(place.name);
        let (mut opaque, mut replaced) = (false, false);
        if let Err(error) = unix::mkdirat(dir, name, mode) {
            if error != Errno::EXIST {
                return Err(failed(error));
            }
            let stat = unix::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                (opaque, replaced) = (is_whiteout(&stat), true);
                unix::unlinkat(dir, name, AtFlags::empty()).map_err(failed)?;
                unix::mkdirat(dir, name, mode).map_err(failed)?;
            }
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = unix::openat(dir, name, flags, Mode::empty()).map_err(failed)?;
        if opaque {
            set_opaque(made.as_fd()).map_err(failed)?;
        }
        self.own(made.as_fd(), entry).map_err(failed)?;
        unix::fchmod(&made, mode).map_err(failed)?;
        set_xattrs(made.as_fd(), entry)?;
        if replaced {
            // A symlink that went may have been a part of the cached parent's path.
            self.parent = None;
        }
        self.remember(path, entry.mode, entry.mtime)
    }

    fn hard_link(&mut self, entry: &Entry, path: &[u8], place: &Place<'_>) -> Result<(), LayerError> {
        let target = clean(&entry.link)
            .map_err(|reason| LayerError::refused(&entry.path, format!("links to a name that {reason}")))?;
        if target.is_empty() || target == path {
            return Err(LayerError::refused(&entry.path, "is a hard link to itself or to the root"));
        }
        let from = split(&target);
        let source = self.open_folder(from.parent).map_err(|error| self.no_folder(entry, error))?;
        let from = OsStr::from_bytes(from.name);
        match unix::statat(&source, from, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat)
                if FileType::from_raw_mode(stat.st_mode) == FileType::Directory || is_whiteout(&stat) =>
            {
                return Err(LayerError::refused(
                    &entry.path,
                    "is a hard link to something other than a file",
                ));
            }
            Ok(_) => {}
            Err(Errno::NOENT) => {
                return Err(LayerError::refused(
                    &entry.path,
                    "is a hard link to a file that the archive doesn't have",
                ));
            }
            Err(error) => return Err(LayerError::write(&entry.path, error)),
        }
        self.make(entry, place, |dir, name| unix::linkat(&source, from, dir, name, AtFlags::empty()))
    }

    fn symlink(&mut self, entry: &Entry, place: &Place<'_>) -> Result<(), LayerError> {
        let failed = |error: Errno| LayerError::write(&entry.path, error);
        let target = OsStr::from_bytes(&entry.link);
        self.make(entry, place, |dir, name| unix::symlinkat(target, dir, name))?;
        let privileged = self.privileged;
        let dir = self.parent(place.parent, entry)?;
        own_name(privileged, dir, place.name, entry).map_err(failed)?;
        unix::utimensat(dir, OsStr::from_bytes(place.name), &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(failed)
    }

    fn node(
        &mut self,
        entry: &Entry,
        place: &Place<'_>,
        kind: FileType,
        device: u64,
    ) -> Result<(), LayerError> {
        let failed = |error: Errno| LayerError::write(&entry.path, error);
        let mode = Mode::from_raw_mode(entry.mode);
        self.make(entry, place, |dir, name| unix::mknodat(dir, name, kind, mode, device))?;
        let privileged = self.privileged;
        let dir = self.parent(place.parent, entry)?;
        let name = OsStr::from_bytes(place.name);
        own_name(privileged, dir, place.name, entry).map_err(failed)?;
        // Just made by us and no symlink, so following changes nothing.
        unix::chmodat(dir, name, mode, AtFlags::empty()).map_err(failed)?;
        unix::utimensat(dir, name, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW).map_err(failed)
    }

    /// A deletion hides lower layers only: what this layer itself put there stays.
    fn whiteout(&mut self, entry: &Entry, place: &Place<'_>, hidden: &[u8]) -> Result<(), LayerError> {
        if self.whiteouts == Whiteouts::Refuse {
            return Err(LayerError::refused(&entry.path, "has a name that layers use for deletions"));
        }
        let failed = |error: Errno| LayerError::write(&entry.path, error);
        if place.name == OPAQUE {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let dir = unix::openat(self.parent(place.parent, entry)?, c".", flags, Mode::empty())
                .map_err(failed)?;
            return set_opaque(dir.as_fd()).map_err(failed);
        }
        if hidden.starts_with(WHITEOUT) {
            return Ok(());
        }
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(LayerError::refused(&entry.path, "is a deletion of nothing"));
        }
        let dir = self.parent(place.parent, entry)?;
        let name = OsStr::from_bytes(hidden);
        match unix::mknodat(dir, name, FileType::CharacterDevice, Mode::empty(), 0) {
            Err(Errno::EXIST) => {}
            other => return other.map_err(failed),
        }
        let stat = unix::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let made = unix::openat(dir, name, flags, Mode::empty()).map_err(failed)?;
            set_opaque(made.as_fd()).map_err(failed)?;
        }
        Ok(())
    }

    /// Makes something at `place` that must not exist; an older entry there gives way.
    fn make<T>(
        &mut self,
        entry: &Entry,
        place: &Place<'_>,
        call: impl Fn(BorrowedFd<'_>, &OsStr) -> Result<T, Errno>,
    ) -> Result<T, LayerError> {
        let failed = |error: Errno| LayerError::write(&entry.path, error);
        let name = OsStr::from_bytes(place.name);
        match call(self.parent(place.parent, entry)?, name) {
            Err(Errno::EXIST) => {}
            other => return other.map_err(failed),
        }
        let dir = self.parent(place.parent, entry)?;
        let stat = unix::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            let path = format!("/proc/self/fd/{}", dir.as_raw_fd());
            std::fs::remove_dir_all(Path::new(&path).join(name))
                .map_err(|error| LayerError::write(&entry.path, error))?;
        } else {
            unix::unlinkat(dir, name, AtFlags::empty()).map_err(failed)?;
        }
        // What went may have been a part of the cached parent's path.
        self.parent = None;
        call(self.parent(place.parent, entry)?, name).map_err(failed)
    }

    /// Opens the folder that an entry goes into, and makes it when no entry did.
    fn parent(&mut self, path: &[u8], entry: &Entry) -> Result<BorrowedFd<'_>, LayerError> {
        let cached = self.parent.as_ref().is_some_and(|(known, _)| known == path);
        if !cached {
            let opened = match self.open_folder(path) {
                Err(Errno::NOENT | Errno::NOTDIR) => {
                    self.make_parents(path, entry)?;
                    self.open_folder(path)
                }
                other => other,
            };
            let opened = opened.map_err(|error| self.no_folder(entry, error))?;
            self.parent = Some((path.to_vec(), opened));
        }
        let (_, opened) = self.parent.as_ref().expect("was set above");
        Ok(opened.as_fd())
    }

    fn make_parents(&mut self, path: &[u8], entry: &Entry) -> Result<(), LayerError> {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| end);
        for end in ends.chain([path.len()]) {
            let part = &path[..end];
            match self.open_folder(part) {
                Ok(_) => continue,
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(error) => return Err(self.no_folder(entry, error)),
            }
            let place = split(part);
            let dir = self.open_folder(place.parent).map_err(|error| self.no_folder(entry, error))?;
            let name = OsStr::from_bytes(place.name);
            let stat = unix::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW);
            let hidden = stat.as_ref().is_ok_and(is_whiteout);
            if hidden {
                unix::unlinkat(&dir, name, AtFlags::empty())
                    .map_err(|error| LayerError::write(part, error))?;
            } else if stat.is_ok() {
                return Err(LayerError::refused(&entry.path, "lies below something that is not a folder"));
            }
            unix::mkdirat(&dir, name, Mode::from_raw_mode(IMPLICIT_MODE))
                .map_err(|error| LayerError::write(part, error))?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let made = unix::openat(&dir, name, flags, Mode::empty())
                .map_err(|error| LayerError::write(part, error))?;
            if hidden {
                set_opaque(made.as_fd()).map_err(|error| LayerError::write(part, error))?;
            }
            // The umask and a setgid parent must not decide.
            if self.privileged {
                unix::fchown(&made, Some(unix::Uid::ROOT), Some(unix::Gid::ROOT))
                    .map_err(|error| LayerError::write(part, error))?;
            }
            unix::fchmod(&made, Mode::from_raw_mode(IMPLICIT_MODE))
                .map_err(|error| LayerError::write(part, error))?;
            self.remember(part, IMPLICIT_MODE, entry.mtime)?;
        }
        Ok(())
    }

    fn open_folder(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { OsStr::from_bytes(b".") } else { OsStr::from_bytes(path) };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        beneath(self.root.as_fd(), path, flags)
    }

    fn no_folder(&self, entry: &Entry, error: Errno) -> LayerError {
        match error {
            Errno::XDEV => LayerError::refused(&entry.path, "goes through a symlink out of the root"),
            Errno::LOOP => LayerError::refused(&entry.path, "goes through a loop of symlinks"),
            Errno::NOTDIR | Errno::NOENT => {
                LayerError::refused(&entry.path, "lies below something that is not a folder")
            }
            other => LayerError::write(&entry.path, other),
        }
    }

    fn remember(&mut self, path: &[u8], mode: u32, mtime: (i64, u32)) -> Result<(), LayerError> {
        self.folder_names += path.len() + std::mem::size_of::<Folder>();
        if self.folder_names > FOLDER_NAMES {
            return Err(LayerError::refused(path, "is one folder too many for one archive"));
        }
        self.folders.push(Folder { path: path.to_vec(), mode, mtime });
        Ok(())
    }

    /// Gives folders their modes and times, in order: a later entry of the same folder wins.
    fn finish(&mut self) -> Result<(), LayerError> {
        self.parent = None;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for folder in &self.folders {
            let path = if folder.path.is_empty() { b".".as_slice() } else { &folder.path };
            let failed = |error: Errno| LayerError::write(path, error);
            let dir = match beneath(self.root.as_fd(), OsStr::from_bytes(path), flags) {
                Ok(dir) => dir,
                // A later entry took its place.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::XDEV) => continue,
                Err(error) => return Err(failed(error)),
            };
            unix::fchmod(&dir, Mode::from_raw_mode(folder.mode)).map_err(failed)?;
            unix::futimens(&dir, &times(folder.mtime)).map_err(failed)?;
        }
        Ok(())
    }

    /// Sets the owner where it differs: a file under a setgid folder begins with the folder's group.
    ///
    /// Returns the attributes if they still are what they were.
    fn own(&self, fd: BorrowedFd<'_>, entry: &Entry) -> Result<Option<unix::Stat>, Errno> {
        let stat = unix::fstat(fd)?;
        if !self.privileged || (stat.st_uid, stat.st_gid) == (entry.uid, entry.gid) {
            return Ok(Some(stat));
        }
        unix::fchown(fd, Some(unix::Uid::from_raw(entry.uid)), Some(unix::Gid::from_raw(entry.gid)))?;
        Ok(None)
    }
}

fn own_name(privileged: bool, dir: BorrowedFd<'_>, name: &[u8], entry: &Entry) -> Result<(), Errno> {
    if !privileged {
        return Ok(());
    }
    let (uid, gid) = (unix::Uid::from_raw(entry.uid), unix::Gid::from_raw(entry.gid));
    unix::chownat(dir, OsStr::from_bytes(name), Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
}

/// Opens `path` below `root`; symlinks are followed only while they stay below it.
fn beneath(root: BorrowedFd<'_>, path: &OsStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    // A rename anywhere on the machine during a `..` gives EAGAIN (openat2(2)).
    const ATTEMPTS: usize = 64;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let mut result = Err(Errno::AGAIN);
    for _ in 0..ATTEMPTS {
        result = unix::openat2(root, path, flags, Mode::empty(), resolve);
        if !matches!(result, Err(Errno::AGAIN | Errno::INTR)) {
            break;
        }
    }
    result
}

/// Cleans an archive's name: no leading `/`, no `.`, no empty parts. `..` is refused.
pub(in crate::image) fn clean(name: &[u8]) -> Result<Vec<u8>, &'static str> {
    if name.is_empty() {
        return Err("has no name");
    }
    let mut out = Vec::with_capacity(name.len());
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => continue,
            b".." => return Err("leaves the root by `..`"),
            _ => {}
        }
        if !out.is_empty() {
            out.push(b'/');
        }
        out.extend_from_slice(part);
    }
    Ok(out)
}

fn split(path: &[u8]) -> Place<'_> {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => Place { parent: &path[..slash], name: &path[slash + 1..] },
        None => Place { parent: b"", name: path },
    }
}

fn is_whiteout(stat: &unix::Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn times((seconds, nanos): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: i64::from(nanos) };
    Timestamps { last_access: time, last_modification: time }
}

/// Marks a folder as hiding everything of the same name below.
fn set_opaque(dir: BorrowedFd<'_>) -> Result<(), Errno> {
    match unix::fsetxattr(dir, c"trusted.overlay.opaque", b"y", XattrFlags::empty()) {
        // Rootless stores are mounted with `userxattr`.
        Err(Errno::PERM) => unix::fsetxattr(dir, c"user.overlay.opaque", b"y", XattrFlags::empty()),
        other => other,
    }
}

fn set_xattrs(file: BorrowedFd<'_>, entry: &Entry) -> Result<(), LayerError> {
    for (name, value) in &entry.xattrs {
        // Markers of overlayfs in the input would redirect or hide; labels belong to the host that wrote them.
        let dropped = [b"trusted.overlay.".as_slice(), b"user.overlay.", b"security.selinux"];
        if dropped.iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        match unix::fsetxattr(file, OsStr::from_bytes(name), value, XattrFlags::empty()) {
            Ok(()) => {}
            // Not every filesystem and not every user can hold every attribute; docker drops them, too.
            Err(Errno::OPNOTSUPP | Errno::PERM) => {
                tracing::debug!(entry = %super::error::shown(&entry.path), name = %super::error::shown(name), "attribute dropped");
            }
            Err(error) => return Err(LayerError::write(&entry.path, error)),
        }
    }
    Ok(())
}
