//! A file or folder, of the machine or of a container, becomes a tar. What it has may be hostile and may change at any
//! moment.
//!
//! Each name is opened as a place (`O_PATH`) in its folder, which is held open, and never followed; what it is is
//! asked of that place, and its content is read from the same. So a name that is exchanged between two calls shows one
//! thing or the other, and nothing that lies elsewhere. Nothing is opened but folders and regular files: a FIFO would
//! hang, a device act.

use std::collections::HashMap;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::super::error::{At, Error, Result};
use crate::image::layer::{self, Header, LayerError, TarWriter, Xattrs};
use crate::runtime::IdRange;

/// Bytes read at once from a file.
const BUFFER: usize = 256 << 10;
/// Most bytes of a file that has no blocks; such ones are read before it is said how long they are.
const UNSIZED_BYTES: u64 = 16 << 20;
/// The filesystem whose files the kernel makes for who reads them.
const PROC_SUPER_MAGIC: i64 = 0x9fa0;
/// Folders of the root that the runtime fills, and docker never shows.
const FILLED: [&[u8]; 3] = [b"dev", b"proc", b"sys"];

/// Something to be copied.
#[derive(Debug)]
pub(super) struct Source {
    /// Its place.
    pub(super) fd: OwnedFd,
    pub(super) stat: Stat,
    /// It is a container's root.
    pub(super) is_root: bool,
    /// The ids that it is shown with.
    ids: Option<IdRange>,
}

impl Source {
    /// Looks at what was opened as a place.
    pub(super) fn of(fd: OwnedFd, is_root: bool, ids: Option<IdRange>) -> std::result::Result<Self, Errno> {
        Ok(Self { stat: inside(rustix::fs::fstat(&fd)?, ids), fd, is_root, ids })
    }

    pub(super) fn is_folder(&self) -> bool {
        FileType::from_raw_mode(self.stat.st_mode) == FileType::Directory
    }

    /// Tells whether it is of a `/proc`, whose files say other things to other readers.
    pub(super) fn is_of_proc(&self) -> bool {
        is_of_proc(self.fd.as_fd())
    }
}

/// Writes `source` as a tar in which it has the name `name`; without one only what is in it.
pub(super) fn pack(source: Source, name: &[u8], out: &mut dyn io::Write) -> Result<()> {
    let (is_root, ids) = (source.is_root, source.ids);
    let mut packer = Packer { out: TarWriter(out), links: HashMap::new(), buffer: vec![0; BUFFER] };
    let mut folders = Vec::new();
    folders.extend(packer.add(name, source.fd, &source.stat)?);
    loop {
        let depth = folders.len();
        let Some(folder) = folders.last_mut() else { break };
        let Some(child) = folder.names.next() else {
            folders.pop();
            continue;
        };
        if is_root && depth == 1 && FILLED.contains(&child.as_bytes()) {
            packer.add_empty(folder, &child, ids)?;
            continue;
        }
        let path = join(&folder.path, child.as_bytes());
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let place = rustix::fs::openat(&folder.fd, &*child, flags, Mode::empty())
            .and_then(|fd| Ok((inside(rustix::fs::fstat(&fd)?, ids), fd)));
        let (stat, fd) = match place {
            Err(error) if layer::is_gone(error) => continue,
            place => place.at("read", Path::new(OsStr::from_bytes(&path)))?,
        };
        folders.extend(packer.add(&path, fd, &stat)?);
    }
    packer.out.finish().map_err(failed)
}

/// A folder whose names are being packed.
struct Folder {
    path: Vec<u8>,
    fd: OwnedFd,
    names: std::vec::IntoIter<CString>,
}

struct Packer<'a> {
    out: TarWriter<'a>,
    /// First names of files with more than one, by device and inode.
    links: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
}

impl Packer<'_> {
    /// Appends what is at a place; a folder is given back to be gone through.
    fn add(&mut self, path: &[u8], fd: OwnedFd, stat: &Stat) -> Result<Option<Folder>> {
        let at = Path::new(OsStr::from_bytes(path));
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => return self.folder(path, &fd, stat).map(Some),
            FileType::RegularFile => b'0',
            FileType::Symlink => b'2',
            FileType::CharacterDevice => b'3',
            FileType::BlockDevice => b'4',
            FileType::Fifo => b'6',
            // A socket without its listener is nothing.
            FileType::Socket | FileType::Unknown => return Ok(None),
        };
        if stat.st_nlink > 1 {
            let key = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&key) {
                let link = Header { kind: b'1', link: first, ..header(path, stat) };
                return self.out.header(&link).map(|()| None).map_err(failed);
            }
            self.links.insert(key, path.to_vec());
        }
        match kind {
            b'0' => self.file(path, &fd, stat)?,
            b'2' => {
                let target = rustix::fs::readlinkat(&fd, c"", Vec::new()).at("read", at)?;
                let link = Header { kind, link: target.as_bytes(), ..header(path, stat) };
                self.out.header(&link).map_err(failed)?;
            }
            _ => {
                let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
                let device = (kind != b'6').then_some((major, minor));
                self.out.header(&Header { kind, device, ..header(path, stat) }).map_err(failed)?;
            }
        }
        Ok(None)
    }

    fn folder(&mut self, path: &[u8], fd: &OwnedFd, stat: &Stat) -> Result<Folder> {
        let at = Path::new(OsStr::from_bytes(path));
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(fd, c".", flags, Mode::empty()).at("read", at)?;
        if !path.is_empty() {
            let (name, xattrs) = ([path, b"/"].concat(), xattrs_of(fd.as_fd(), at)?);
            let folder = Header { kind: b'5', xattrs: &xattrs, ..header(&name, stat) };
            self.out.header(&folder).map_err(failed)?;
        }
        let list = || {
            let mut names = Vec::new();
            for entry in Dir::read_from(&fd)? {
                names.push(entry?.file_name().to_owned());
            }
            Ok::<_, Errno>(names)
        };
        let mut names = list().at("read", at)?;
        names.retain(|name| !matches!(name.as_bytes(), b"." | b".."));
        names.sort_unstable();
        // One that is mounted below the root: empty, as it is in the root itself.
        if is_of_proc(fd.as_fd()) {
            names.clear();
        }
        Ok(Folder { path: path.to_vec(), fd, names: names.into_iter() })
    }

    /// Appends a folder without what is mounted on it.
    fn add_empty(&mut self, parent: &Folder, name: &CString, ids: Option<IdRange>) -> Result<()> {
        let path = [join(&parent.path, name.as_bytes()), b"/".to_vec()].concat();
        match rustix::fs::statat(&parent.fd, &**name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                self.out.header(&Header { kind: b'5', ..header(&path, &inside(stat, ids)) }).map_err(failed)
            }
            _ => Ok(()),
        }
    }

    fn file(&mut self, path: &[u8], fd: &OwnedFd, stat: &Stat) -> Result<()> {
        let at = Path::new(OsStr::from_bytes(path));
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        // The place itself is opened, whatever has its name by now.
        let place = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let file = rustix::fs::open(place, flags, Mode::empty()).at("read", at)?;
        let xattrs = xattrs_of(file.as_fd(), at)?;
        let (mut file, size) = (File::from(file), u64::try_from(stat.st_size).unwrap_or_default());
        let head = Header { xattrs: &xattrs, ..header(path, stat) };
        if stat.st_blocks == 0 && size <= UNSIZED_BYTES {
            return self.unsized_file(&head, &mut file);
        }
        self.out.header(&Header { size, ..head }).map_err(failed)?;
        let mut left = size;
        while left > 0 {
            let want = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let got = match file.read(&mut self.buffer[..want]) {
                // It was cut meanwhile; what the header promised has to come.
                Ok(0) => {
                    self.buffer[..want].fill(0);
                    want
                }
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).at("read", at),
            };
            self.out.content(&self.buffer[..got]).map_err(failed)?;
            left -= got as u64;
        }
        self.out.pad(size).map_err(failed)
    }

    /// Appends a file that is as long as what can be read of it: one that the kernel makes as it is read, in `/sys`,
    /// says 0 or a page.
    fn unsized_file(&mut self, head: &Header<'_>, file: &mut File) -> Result<()> {
        let at = Path::new(OsStr::from_bytes(head.path));
        let mut content = Vec::new();
        file.take(UNSIZED_BYTES + 1).read_to_end(&mut content).at("read", at)?;
        let size = content.len() as u64;
        if size > UNSIZED_BYTES {
            let path = at.display();
            let message =
                format!("cannot copy `{path}`: it has no size, and more than {} MiB", UNSIZED_BYTES >> 20);
            return Err(Error::Invalid { message });
        }
        self.out.header(&Header { size, ..*head }).map_err(failed)?;
        self.out.content(&content).map_err(failed)?;
        self.out.pad(size).map_err(failed)
    }
}

fn is_of_proc(fd: BorrowedFd<'_>) -> bool {
    rustix::fs::fstatfs(fd).is_ok_and(|found| found.f_type == PROC_SUPER_MAGIC)
}

fn xattrs_of(file: BorrowedFd<'_>, at: &Path) -> Result<Xattrs> {
    layer::kept_xattrs(file).at("read the attributes of", at)
}

/// The owner as the container itself sees it.
fn inside(mut stat: Stat, ids: Option<IdRange>) -> Stat {
    stat.st_uid = IdRange::inside(ids, stat.st_uid);
    stat.st_gid = IdRange::inside(ids, stat.st_gid);
    stat
}

fn header<'a>(path: &'a [u8], stat: &Stat) -> Header<'a> {
    Header {
        kind: b'0',
        path,
        link: b"",
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: stat.st_mtime,
        size: 0,
        device: None,
        xattrs: &[],
    }
}

fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() }
}

fn failed(source: LayerError) -> Error {
    Error::Layer { action: "copy", source }
}
