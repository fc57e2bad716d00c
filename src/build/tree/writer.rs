//! Filling a fresh layer on top of a chain.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::resolve::resolve_with;
use super::{Entry, Error, Kind, Merged, Owner, Resolved, Result, Time, Tree, Xattrs};
use super::{parent, raw, show, split_last};

/// What a file is given beside its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attributes {
    /// Permission bits (`07777`).
    pub mode: u32,
    /// Who owns it.
    pub owner: Owner,
    /// Its time; `None` leaves the time of its making.
    pub mtime: Option<Time>,
    /// Its extended attributes.
    pub xattrs: Xattrs,
}

impl Attributes {
    /// Returns those of `entry` with its extended attributes.
    pub fn of(entry: &Entry, xattrs: Xattrs) -> Self {
        let owner = Owner { uid: entry.uid, gid: entry.gid };
        Self { mode: entry.mode, owner, mtime: Some(entry.mtime), xattrs }
    }
}

/// Writes a layer: new inodes only, none that another layer knows.
///
/// Directories above what is written are made as the chain has them, so that the layer doesn't change
/// their owner or mode. A file takes the place of a file or link; a file in the place of a directory
/// and a directory in the place of a file are errors, unless [`LayerWriter::clear`] is called first.
pub struct LayerWriter<'a> {
    root: OwnedFd,
    below: &'a Merged,
    made: BTreeMap<Vec<u8>, Made>,
    /// Owner of directories that are made because something goes into them.
    parents: Owner,
    /// Their mode.
    parents_mode: u32,
    /// Times of directories: set at the end, since filling a directory changes its time.
    times: BTreeMap<Vec<u8>, Time>,
}

/// What this layer has at a path.
#[derive(Debug, Clone)]
enum Made {
    Directory {
        over_chain: bool,
    },
    Link(Vec<u8>),
    Other,
    /// Removed with [`LayerWriter::clear`]: what the chain has there must not show any more.
    Cleared,
}

impl<'a> LayerWriter<'a> {
    /// Starts a layer in the empty folder `folder`, on top of `below`.
    ///
    /// `parents` owns the directories that are made because something goes into them.
    pub fn new(folder: &Path, below: &'a Merged, parents: Owner) -> Result<Self> {
        let root = raw::open_root(folder).map_err(|source| Error::Io {
            verb: "open the layer",
            path: folder.display().to_string(),
            source,
        })?;
        let mut writer =
            Self { root, below, made: BTreeMap::new(), parents, parents_mode: 0o755, times: BTreeMap::new() };
        if let Some(top) = below.entry(b"")? {
            // Overlay shows the attributes of the topmost root.
            let attributes = Attributes::of(&top, below.xattrs(&top)?);
            writer.made.insert(Vec::new(), Made::Directory { over_chain: true });
            writer.set_dir_attributes(b"", &attributes)?;
        }
        Ok(writer)
    }

    /// Returns what stands at `path`, in this layer or below it.
    pub fn entry(&self, path: &[u8]) -> Result<Option<Entry>> {
        match self.made.get(path) {
            Some(Made::Cleared) => Ok(None),
            Some(_) => raw::stat_beneath(self.root.as_fd(), path, 0),
            None if self.shows_chain(path) => self.below.entry(path),
            None => Ok(None),
        }
    }

    /// False below a directory that hides the chain's.
    fn shows_chain(&self, path: &[u8]) -> bool {
        let mut above = parent(path);
        while let Some(dir) = above {
            match self.made.get(dir) {
                Some(Made::Directory { over_chain }) => return *over_chain,
                Some(_) => return false,
                None => above = parent(dir),
            }
        }
        true
    }

    /// Follows the links of `path` inside the image as it is with this layer.
    pub fn resolve(&self, path: &[u8]) -> Result<Resolved> {
        resolve_with(
            path,
            |path| self.entry(path),
            |entry| match self.made.get(&entry.path) {
                Some(Made::Link(target)) => Ok(target.clone()),
                _ => self.below.link_target(entry),
            },
        )
    }

    /// Makes the directory `path`, and those above it.
    ///
    /// One that exists keeps its attributes unless `overwrite` is true.
    pub fn directory(&mut self, path: &[u8], attributes: &Attributes, overwrite: bool) -> Result<()> {
        match self.entry(path)? {
            Some(entry) if !entry.is_dir() => return Err(Error::OverwriteFile { path: show(path) }),
            Some(entry) if !overwrite => return self.copy_up(&entry),
            Some(entry) => self.copy_up(&entry)?,
            None => self.make_dir(path, false)?,
        }
        self.set_dir_attributes(path, attributes)
    }

    /// Gives the directory `path`, which exists, another mode.
    pub fn change_mode(&mut self, path: &[u8], mode: u32) -> Result<()> {
        if let Some(entry) = self.entry(path)? {
            self.copy_up(&entry)?;
        }
        rustix::fs::fchmod(self.open_dir(path)?, Mode::from_raw_mode(mode & 0o7777))
            .map_err(|source| Error::io("set the attributes of", path, source))
    }

    /// Sets the mode of directories that are made because something goes into them; it starts as 0755.
    pub fn parents_mode(&mut self, mode: u32) {
        self.parents_mode = mode;
    }

    /// Makes the directory `path` and those above it, where missing: with their mode, owned as told to `new`.
    pub fn parents(&mut self, path: &[u8]) -> Result<()> {
        let attributes = Attributes { mode: self.parents_mode, owner: self.parents, ..Attributes::default() };
        self.directory(path, &attributes, false)
    }

    /// Brings a directory of the chain into this layer as it is.
    fn copy_up(&mut self, entry: &Entry) -> Result<()> {
        if self.made.contains_key(&entry.path) {
            return Ok(());
        }
        let attributes = Attributes::of(entry, self.below.xattrs(entry)?);
        self.make_dir(&entry.path, true)?;
        self.set_dir_attributes(&entry.path, &attributes)
    }

    /// `over_chain`: the directory is there below this layer, and shows through.
    fn make_dir(&mut self, path: &[u8], over_chain: bool) -> Result<()> {
        let (above, name) = split_last(path);
        refuse_whiteout_name(path, name)?;
        // Room was made for a file that may not have its bytes yet.
        if matches!(self.made.get(path), Some(Made::Other | Made::Link(_))) {
            return Err(Error::OverwriteFile { path: show(path) });
        }
        if !self.made.contains_key(above) {
            self.parents(above)?;
        }
        let dir = self.open_dir(above)?;
        rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(0o700))
            .map_err(|source| Error::io("make the directory", path, source))?;
        let cleared = matches!(self.made.get(path), Some(Made::Cleared));
        if cleared && self.below.entry(path)?.is_some_and(|entry| entry.is_dir()) {
            self.make_opaque(path)?;
        }
        self.made.insert(path.to_vec(), Made::Directory { over_chain });
        Ok(())
    }

    fn make_opaque(&self, path: &[u8]) -> Result<()> {
        let dir = self.open_dir(path)?;
        let set = |name| rustix::fs::fsetxattr(&dir, name, b"y", XattrFlags::empty());
        match set("trusted.overlay.opaque") {
            Err(Errno::PERM) => set("user.overlay.opaque"),
            result => result,
        }
        .map_err(|source| Error::io("make opaque", path, source))
    }

    fn set_dir_attributes(&mut self, path: &[u8], attributes: &Attributes) -> Result<()> {
        let dir = File::from(self.open_dir(path)?);
        set_attributes(&dir, path, &Attributes { mtime: None, ..attributes.clone() })?;
        match attributes.mtime {
            Some(time) => drop(self.times.insert(path.to_vec(), time)),
            None => drop(self.times.remove(path)),
        }
        Ok(())
    }

    /// Gets the place `path` ready for something that is no directory.
    ///
    /// Makes the directories above and removes what this layer has there. Nothing of the layers below
    /// is touched: the new inode hides it.
    pub fn make_room(&mut self, path: &[u8]) -> Result<()> {
        let (above, name) = split_last(path);
        refuse_whiteout_name(path, name)?;
        if self.entry(path)?.is_some_and(|entry| entry.is_dir()) {
            return Err(Error::OverwriteDirectory { path: show(path) });
        }
        if !self.made.contains_key(above) {
            self.parents(above)?;
        }
        if matches!(self.made.insert(path.to_vec(), Made::Other), Some(Made::Other | Made::Link(_))) {
            self.unlink(path)?;
        }
        Ok(())
    }

    fn unlink(&self, path: &[u8]) -> Result<()> {
        let (above, name) = split_last(path);
        match rustix::fs::unlinkat(self.open_dir(above)?, name, AtFlags::empty()) {
            // Room was made, but nothing was put there.
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(source) => Err(Error::io("remove", path, source)),
        }
    }

    /// Creates the file `path`, after [`LayerWriter::make_room`]; readable and writable.
    pub fn create(&self, path: &[u8]) -> Result<File> {
        let (above, name) = split_last(path);
        create_in(self.open_dir(above)?.as_fd(), path, name, 0o600)
    }

    /// Returns the layer's folder.
    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Opens a directory of this layer.
    pub(crate) fn open_dir(&self, path: &[u8]) -> Result<OwnedFd> {
        raw::open_beneath(self.root.as_fd(), path, OFlags::RDONLY | OFlags::DIRECTORY)
            .map_err(|source| Error::io("open", path, source))
    }

    /// Makes the symbolic link `path` to `target`.
    pub fn symlink(&mut self, path: &[u8], target: &[u8], attributes: &Attributes) -> Result<()> {
        self.make_room(path)?;
        let (above, name) = split_last(path);
        let dir = self.open_dir(above)?;
        rustix::fs::symlinkat(target, &dir, name)
            .map_err(|source| Error::io("make the link", path, source))?;
        self.made.insert(path.to_vec(), Made::Link(target.to_vec()));
        self.set_node_attributes(&dir, path, attributes, false)
    }

    /// Makes a pipe or a device.
    pub fn node(&mut self, path: &[u8], kind: Kind, attributes: &Attributes) -> Result<()> {
        let (file_type, (major, minor)) = match kind {
            Kind::Fifo => (FileType::Fifo, (0, 0)),
            Kind::CharDevice(major, minor) if (major, minor) != (0, 0) => {
                (FileType::CharacterDevice, (major, minor))
            }
            Kind::BlockDevice(major, minor) => (FileType::BlockDevice, (major, minor)),
            _ => return Err(Error::Device { path: show(path) }),
        };
        self.make_room(path)?;
        let (above, name) = split_last(path);
        let dir = self.open_dir(above)?;
        rustix::fs::mknodat(
            &dir,
            name,
            file_type,
            Mode::from_raw_mode(0o600),
            rustix::fs::makedev(major, minor),
        )
        .map_err(|source| Error::io("make the node", path, source))?;
        self.set_node_attributes(&dir, path, attributes, true)
    }

    fn set_node_attributes(
        &self,
        dir: &OwnedFd,
        path: &[u8],
        attributes: &Attributes,
        has_mode: bool,
    ) -> Result<()> {
        let name = split_last(path).1;
        let fail = |source| Error::io("set the attributes of", path, source);
        let Owner { uid, gid } = attributes.owner;
        let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
        rustix::fs::chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
        if has_mode {
            // Made by us a moment ago in a folder that is ours: it is no link.
            let mode = Mode::from_raw_mode(attributes.mode & 0o7777);
            rustix::fs::chmodat(dir, name, mode, AtFlags::empty()).map_err(fail)?;
        }
        if let Some(time) = attributes.mtime {
            rustix::fs::utimensat(dir, name, &times(time), AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
        }
        Ok(())
    }

    /// Makes `path` a further name of the file `existing`, which this layer made; false if it didn't.
    pub fn hard_link(&mut self, path: &[u8], existing: &[u8]) -> Result<bool> {
        if !matches!(self.made.get(existing), Some(Made::Other | Made::Link(_))) {
            return Ok(false);
        }
        if path == existing {
            return Ok(true);
        }
        let made = self.made[existing].clone();
        self.make_room(path)?;
        let (from, to) = (split_last(existing), split_last(path));
        rustix::fs::linkat(self.open_dir(from.0)?, from.1, self.open_dir(to.0)?, to.1, AtFlags::empty())
            .map_err(|source| Error::io("link", path, source))?;
        self.made.insert(path.to_vec(), made);
        Ok(true)
    }

    /// Removes what stands at `path` if it is of another kind than what comes: a directory, or not.
    pub fn clear(&mut self, path: &[u8], for_directory: bool) -> Result<()> {
        let Some(entry) = self.entry(path)? else { return Ok(()) };
        if entry.is_dir() == for_directory {
            return Ok(());
        }
        if self.made.contains_key(path) {
            self.remove_made(path)?;
        }
        self.made.insert(path.to_vec(), Made::Cleared);
        Ok(())
    }

    fn remove_made(&mut self, path: &[u8]) -> Result<()> {
        // All that begins with `path/`: the byte after the slash ends the range.
        let inside = [path, b"/"].concat()..[path, b"0"].concat();
        let mut names: Vec<_> = self.made.range(inside).map(|(name, _)| name.clone()).collect();
        names.sort_unstable_by(|left, right| super::compare(right, left));
        names.push(path.to_vec());
        for name in names {
            let (above, last) = split_last(&name);
            self.times.remove(&name);
            let flags = match self.made.remove(&name) {
                Some(Made::Directory { .. }) => AtFlags::REMOVEDIR,
                Some(Made::Link(_) | Made::Other) => AtFlags::empty(),
                Some(Made::Cleared) | None => continue,
            };
            rustix::fs::unlinkat(self.open_dir(above)?, last, flags)
                .map_err(|source| Error::io("remove", &name, source))?;
        }
        Ok(())
    }

    /// Sets the times of the directories.
    pub fn finish(self) -> Result<()> {
        for (path, time) in &self.times {
            let dir = self.open_dir(path)?;
            rustix::fs::futimens(&dir, &times(*time))
                .map_err(|source| Error::io("set the time of", path, source))?;
        }
        Ok(())
    }
}

/// Creates the file `name` in `dir`, with those bits of `mode` that the umask leaves; `path` is for messages.
pub(crate) fn create_in(dir: BorrowedFd<'_>, path: &[u8], name: &[u8], mode: u32) -> Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(mode & 0o777))
        .map(File::from)
        .map_err(|source| Error::io("create", path, source))
}

/// Gives an open file or directory its owner, mode, extended attributes and time.
///
/// What it has already is not set again: each change is a transaction of the filesystem.
pub(crate) fn set_attributes(file: &File, path: &[u8], attributes: &Attributes) -> Result<()> {
    let fail = |source| Error::io("set the attributes of", path, source);
    let Owner { uid, gid } = attributes.owner;
    let mode = attributes.mode & 0o7777;
    let now = rustix::fs::fstat(file).map_err(fail)?;
    // First the owner: a change of owner takes set-id bits and capabilities away.
    let is_owned = (now.st_uid, now.st_gid) == (uid, gid);
    if !is_owned {
        rustix::fs::fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).map_err(fail)?;
    }
    if !is_owned || now.st_mode & 0o7777 != mode {
        rustix::fs::fchmod(file, Mode::from_raw_mode(mode)).map_err(fail)?;
    }
    for (name, value) in &attributes.xattrs {
        rustix::fs::fsetxattr(file, name.as_slice(), value, XattrFlags::empty()).map_err(fail)?;
    }
    if let Some(time) = attributes.mtime {
        rustix::fs::futimens(file, &times(time)).map_err(fail)?;
    }
    Ok(())
}

fn times((seconds, nanoseconds): Time) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: i64::from(nanoseconds) };
    Timestamps { last_access: time, last_modification: time }
}

/// A `.wh.` name would be a deletion once the layer is packed.
fn refuse_whiteout_name(path: &[u8], name: &[u8]) -> Result<()> {
    match name.starts_with(b".wh.") {
        true => Err(Error::WhiteoutName { path: show(path) }),
        false => Ok(()),
    }
}
