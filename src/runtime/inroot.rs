//! Paths inside a root filesystem that may be hostile: resolved by the kernel below the root, never by string.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Access, AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// As many symbolic links as the kernel follows in one path.
const MOST_LINKS: usize = 40;

/// What [`Root::ensure`] makes when nothing is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A folder, mode 0755.
    Folder,
    /// An empty file, mode 0644.
    File,
}

impl Kind {
    /// The kind of what is a folder, or isn't.
    pub fn of(is_folder: bool) -> Self {
        if is_folder { Self::Folder } else { Self::File }
    }
}

/// Something that [`Root::ensure`] made, and its folder's time before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// Its path below the root, without links in it.
    pub path: PathBuf,
    /// What was made.
    pub kind: Kind,
    /// The folder's mtime before.
    pub before: (i64, i64),
    /// The folder's mtime after.
    pub after: (i64, i64),
}

/// A folder that is `/` for every path given.
#[derive(Debug)]
pub struct Root<'fd>(pub BorrowedFd<'fd>);

/// Returns the mtime as seconds and nanoseconds.
pub(super) fn mtime(stat: &Stat) -> (i64, i64) {
    (stat.st_mtime, stat.st_mtime_nsec as i64)
}

impl Root<'_> {
    /// Opens `path`, following links inside the root and no magic ones.
    pub fn open(&self, path: impl AsRef<Path>, flags: OFlags) -> Result<OwnedFd, Errno> {
        rustix::fs::openat2(
            self.0,
            path.as_ref(),
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
        )
    }

    /// Reads a regular file of at most `limit` bytes; `None` when there is none.
    pub fn read(&self, path: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let file = match self.open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let stat = rustix::fs::fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::other("is not a regular file"));
        }
        let mut bytes = Vec::new();
        File::from(file).take(limit + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(io::Error::other(format!("has more than {limit} bytes")));
        }
        Ok(Some(bytes))
    }

    /// Opens `path` as a place (O_PATH), and makes it and the folders above it when missing.
    ///
    /// What is made belongs to `owner` and is appended to `made`. A link whose end is missing is followed: the
    /// missing end is made, inside the root.
    pub fn ensure(
        &self,
        path: &str,
        kind: Kind,
        owner: (u32, u32),
        made: &mut Vec<Made>,
    ) -> Result<OwnedFd, Errno> {
        match self.open(path, OFlags::PATH) {
            Err(Errno::NOENT) => {}
            result => return result,
        }
        let mut walk = Walk { root: self.0, above: Vec::new(), links: 0, owner, made };
        walk.go(Path::new(path), kind)?;
        self.open(walk.path(), OFlags::PATH)
    }
}

/// A walk that opens one component at a time and never follows a link by itself.
struct Walk<'a> {
    root: BorrowedFd<'a>,
    /// The folders from the root to here.
    above: Vec<(std::ffi::OsString, OwnedFd)>,
    links: usize,
    owner: (u32, u32),
    made: &'a mut Vec<Made>,
}

impl Walk<'_> {
    fn here(&self) -> BorrowedFd<'_> {
        self.above.last().map_or(self.root, |(_, fd)| fd.as_fd())
    }

    fn path(&self) -> PathBuf {
        let path: PathBuf = self.above.iter().map(|(name, _)| name).collect();
        if path.as_os_str().is_empty() { PathBuf::from(".") } else { path }
    }

    /// Walks `path` from here; its last component becomes a `last`, each other one a folder.
    fn go(&mut self, path: &Path, last: Kind) -> Result<(), Errno> {
        let mut components = path.components().peekable();
        while let Some(component) = components.next() {
            match component {
                Component::RootDir => self.above.clear(),
                Component::ParentDir => drop(self.above.pop()),
                Component::Normal(name) => {
                    let kind = if components.peek().is_some() { Kind::Folder } else { last };
                    self.enter(name, kind)?;
                }
                Component::CurDir | Component::Prefix(_) => {}
            }
        }
        Ok(())
    }

    fn enter(&mut self, name: &OsStr, kind: Kind) -> Result<(), Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = match rustix::fs::openat(self.here(), name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => {
                self.make(name, kind)?;
                rustix::fs::openat(self.here(), name, flags, Mode::empty())?
            }
            Err(error) => return Err(error),
        };
        let stat = rustix::fs::fstat(&fd)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
            self.links += 1;
            if self.links > MOST_LINKS {
                return Err(Errno::LOOP);
            }
            let link = rustix::fs::readlinkat(&fd, c"", Vec::new())?;
            return self.go(Path::new(OsStr::from_bytes(link.as_bytes())), kind);
        }
        self.above.push((name.to_owned(), fd));
        Ok(())
    }

    fn make(&mut self, name: &OsStr, kind: Kind) -> Result<(), Errno> {
        let here = self.here();
        // `here` is a place only; a real descriptor is needed to make something in it on older kernels.
        let before = mtime(&rustix::fs::fstat(here)?);
        match kind {
            Kind::Folder => rustix::fs::mkdirat(here, name, Mode::from_raw_mode(0o755))?,
            Kind::File => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
                drop(rustix::fs::openat(here, name, flags, Mode::from_raw_mode(0o644))?);
            }
        }
        if self.owner != (0, 0) {
            let (uid, gid) = (Uid::from_raw(self.owner.0), Gid::from_raw(self.owner.1));
            rustix::fs::chownat(here, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        let after = mtime(&rustix::fs::fstat(here)?);
        let path = self.path().join(name);
        let path = path.strip_prefix(".").map(Path::to_path_buf).unwrap_or(path);
        self.made.push(Made { path, kind, before, after });
        Ok(())
    }
}

/// Tells whether the calling process may enter or run the file behind `path` below `dir`.
pub(super) fn may_execute(path: &Path) -> bool {
    rustix::fs::access(path, Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn ensure(dir: &Path, path: &str, kind: Kind) -> (Result<OwnedFd, Errno>, Vec<PathBuf>) {
        let folder = File::open(dir).unwrap();
        let mut made = Vec::new();
        let owner = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let result = Root(folder.as_fd()).ensure(path, kind, owner, &mut made);
        (result, made.into_iter().map(|made| made.path).collect())
    }

    #[test]
    fn a_missing_target_is_made_with_its_folders() {
        let dir = tempfile::tempdir().unwrap();
        let (result, made) = ensure(dir.path(), "/a/b/c", Kind::File);
        result.unwrap();
        assert_eq!(made, ["a", "a/b", "a/b/c"].map(PathBuf::from));
        assert!(dir.path().join("a/b/c").is_file());
    }

    #[test]
    fn a_link_to_the_parent_of_the_root_stays_inside() {
        let outer = tempfile::tempdir().unwrap();
        let dir = outer.path().join("root");
        std::fs::create_dir_all(dir.join("etc")).unwrap();
        symlink("/../../../out", dir.join("etc/resolv.conf")).unwrap();
        let (result, made) = ensure(&dir, "/etc/resolv.conf", Kind::File);
        result.unwrap();
        assert_eq!(made, [PathBuf::from("out")]);
        assert!(dir.join("out").is_file() && !outer.path().join("out").exists());
    }

    #[test]
    fn a_link_without_an_end_is_followed_and_its_end_made() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        symlink("../run/systemd/stub.conf", dir.path().join("etc/resolv.conf")).unwrap();
        let (result, _) = ensure(dir.path(), "/etc/resolv.conf", Kind::File);
        result.unwrap();
        assert!(dir.path().join("run/systemd/stub.conf").is_file());
    }

    #[test]
    fn a_loop_of_links_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        symlink("b", dir.path().join("a")).unwrap();
        symlink("a", dir.path().join("b")).unwrap();
        assert_eq!(ensure(dir.path(), "/a/x", Kind::File).0.unwrap_err(), Errno::LOOP);
    }

    #[test]
    fn a_fifo_is_not_read_and_does_not_hang() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("passwd");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap();
        let folder = File::open(dir.path()).unwrap();
        assert!(Root(folder.as_fd()).read("/passwd", 100).is_err());
        assert!(Root(folder.as_fd()).read("/none", 100).unwrap().is_none());
    }
}
