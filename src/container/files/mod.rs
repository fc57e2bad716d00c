//! Copies files into a container and out of it, running or not.
//!
//! Every copy is a tar that one side writes and the other reads, as with docker; on the way between the machine and a
//! container it goes through a pipe.
//!
//! 1. The container's tree is opened ([`View`]): a running one's through its first process, with all that is mounted
//!    there; a stopped one's as its next start would see it, volumes and binds included.
//! 2. Paths in it are resolved by the kernel, never out of it, whatever the container does with its links meanwhile.
//! 3. What comes out of a container is trusted with nothing: without `-a` no set-id bit, no capability, no device.

mod pack;
mod places;
mod unpack;

use std::io::{self, BufRead, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use kiln_cache::{Mounts, Store};
use rustix::fs::{CWD, FileType, Mode, OFlags, StatVfsMountFlags};
use rustix::io::Errno;

use self::pack::{Source, pack};
use self::places::{Named, Target, Typed, named};
use self::unpack::{Root, Rules, unpack};
use super::Containers;
use super::error::{At, Error, Result};
use super::record::Record;
use super::spec::binds;
use crate::api::{Copied, CopyOptions};
use crate::image::layer::LayerError;
use crate::runtime::{IdRange, Tree};
use crate::volume::Held;

/// As many links as the kernel follows at the end of a path.
const MOST_LINKS: usize = 40;

/// Writes what is in `folder`, and its own owner and mode, as a tar.
pub fn pack_folder(folder: &Path, out: &mut dyn Write) -> Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let source = rustix::fs::open(folder, flags, Mode::empty()).and_then(|fd| Source::of(fd, false, None));
    pack(source.at("open", folder)?, b".", out)
}

/// Unpacks the tar in `input`, packed in any way, into `folder`, which gets the archive's own owner and mode.
pub fn unpack_folder(input: impl Read + Send, folder: &Path) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = rustix::fs::open(folder, flags, Mode::empty()).at("open", folder)?;
    let input = crate::image::layer::decompress_any(input).at("read", "the archive")?;
    let mut input = io::BufReader::new(input);
    // What failed before it came here must not pass for an archive of nothing.
    if input.fill_buf().at("read", "the archive")?.is_empty() {
        return Err(refused("the archive is empty"));
    }
    let root = Root { fd: fd.as_fd(), base: PathBuf::new(), follows: false };
    unpack(input, root, Rules { owner: None, rights: true, ids: None, top: true }).map(drop)
}

/// What is to be done with a container's tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

/// The tree of a container.
#[derive(Debug)]
pub(super) struct View {
    pub(super) tree: Tree,
    /// The machine's ids of a running one that has its own: its files are seen with those.
    ids: Option<IdRange>,
    /// Keeps a stopped one from being started while its writable layer is mounted here.
    _lock: Option<OwnedFd>,
    /// What is mounted on its volumes.
    _held: Vec<Held>,
}

impl Containers {
    /// Copies the file or folder at `source` in a container to `target` on the machine.
    pub fn copy_out(
        &self,
        store: &Store,
        record: &Record,
        (source, target): (&str, &str),
        options: CopyOptions,
    ) -> Result<Copied> {
        let target = LocalTarget::open(target)?;
        let view = self.view(store, record, Access::Read)?;
        let typed = Typed::in_container(source);
        let source = find(&view, record, &typed, options.follow)?;
        let name = named(source.is_folder(), &typed, &target.typed, target.found).map_err(refused)?;
        let folder = target.folder(name)?;
        let name = match name {
            Named::Contents => Vec::new(),
            Named::Source => bytes(typed.name()),
            Named::Target => bytes(target.typed.name()),
        };
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let rules = Rules {
            owner: (!options.archive).then_some((uid, gid)),
            rights: options.archive,
            ids: None,
            top: false,
        };
        let root = Root { fd: folder.as_fd(), base: PathBuf::new(), follows: false };
        through_a_pipe(source, &name, root, rules)
    }

    /// Copies the file or folder at `source` on the machine to `target` in a container.
    pub fn copy_in(
        &self,
        store: &Store,
        record: &Record,
        (source, target): (&str, &str),
        options: CopyOptions,
    ) -> Result<Copied> {
        let typed = Typed::parse(source);
        let follow = if options.follow || typed.is_folder { OFlags::empty() } else { OFlags::NOFOLLOW };
        let flags = OFlags::PATH | OFlags::CLOEXEC | follow;
        let file = rustix::fs::openat(CWD, source, flags, Mode::empty())
            .and_then(|fd| Source::of(fd, false, None))
            .at("open", source)?;
        if file.is_of_proc() && file.is_folder() {
            return Err(refused("the folders of /proc cannot be copied"));
        }
        let view = self.view(store, record, Access::Write)?;
        let (target, found) = follow_target(&view.tree, record, Typed::in_container(target))?;
        let name = named(file.is_folder(), &typed, &target, found).map_err(refused)?;
        let base = if name == Named::Target { target.parent() } else { &target.path };
        let name = match name {
            Named::Contents => Vec::new(),
            Named::Source => bytes(typed.name()),
            Named::Target => bytes(target.name()),
        };
        view.check_writable(record, base)?;
        let rules =
            Rules { owner: (!options.archive).then_some((0, 0)), rights: true, ids: view.ids, top: false };
        let root = Root { fd: view.tree.as_fd(), base: base.to_owned(), follows: true };
        through_a_pipe(file, &name, root, rules)
    }

    /// Writes the file or folder at `source` in a container as a tar.
    pub fn tar_out(
        &self,
        store: &Store,
        record: &Record,
        source: &str,
        options: CopyOptions,
        out: &mut dyn Write,
    ) -> Result<()> {
        let view = self.view(store, record, Access::Read)?;
        let typed = Typed::in_container(source);
        let source = find(&view, record, &typed, options.follow)?;
        let name = if typed.contents { b".".to_vec() } else { bytes(typed.name()) };
        pack(source, &name, out)
    }

    /// Unpacks the tar in `input`, packed in any way, into the folder `target` in a container. Owners are the tar's.
    pub fn tar_in(
        &self,
        store: &Store,
        record: &Record,
        input: impl Read + Send,
        target: &str,
    ) -> Result<()> {
        let view = self.view(store, record, Access::Write)?;
        let (typed, found) = follow_target(&view.tree, record, Typed::in_container(target))?;
        if found != Target::Folder {
            let message = format!("destination `{}:{target}` must be a directory", record.name);
            return Err(Error::Invalid { message });
        }
        view.check_writable(record, &typed.path)?;
        let input = crate::image::layer::decompress_any(input).at("read", "standard input")?;
        let root = Root { fd: view.tree.as_fd(), base: typed.path, follows: true };
        unpack(input, root, Rules { owner: None, rights: true, ids: view.ids, top: false }).map(drop)
    }

    /// Opens the tree of a container.
    pub(super) fn view(&self, store: &Store, record: &Record, access: Access) -> Result<View> {
        let fail = |error: crate::runtime::StartError| Error::Invalid { message: error.to_string() };
        if let Some(target) = &record.state.process {
            match Tree::of_running(target) {
                Ok(tree) => return Ok(View { tree, ids: record.config.ids, _lock: None, _held: Vec::new() }),
                Err(error) if record.state.status.is_alive() => {
                    let now = self.find(&record.id)?;
                    if now.state.process.as_ref() == Some(target) {
                        return Err(fail(error));
                    }
                    return self.view(store, &now, access);
                }
                Err(_) => {}
            }
        }
        let folder = self.folder(&record.id);
        let Mounts { mut lowers, .. } = store.overlay(&record.chain, None);
        let (rootfs, lock) = match access {
            Access::Read => {
                lowers.insert(0, folder.join("upper"));
                (Mounts { lowers, upper: None, work: None }, None)
            }
            Access::Write => {
                let busy = || Error::Running { verb: "write to", name: record.name.clone() };
                let lock = self.take(record)?.ok_or_else(busy)?;
                self.refuse_mounted("write to", record)?;
                let (upper, work) = (Some(folder.join("upper")), Some(folder.join("work")));
                (Mounts { lowers, upper, work }, Some(lock))
            }
        };
        let readonly = access == Access::Read || record.config.readonly;
        let held = self.hold_volumes(&record.config)?;
        let tree = Tree::of_stopped(&rootfs, &binds(&record.config), readonly).map_err(fail)?;
        Ok(View { tree, ids: None, _lock: lock, _held: held })
    }
}

impl View {
    /// Refuses a folder that the container itself couldn't write to either, in docker's words.
    fn check_writable(&self, record: &Record, folder: &Path) -> Result<()> {
        let place = match self.tree.open(folder, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(place) => place,
            Err(error) => return Err(not_there(error, record, folder)),
        };
        let flags = rustix::fs::fstatvfs(&place).at("look at", folder)?.f_flag;
        if !flags.contains(StatVfsMountFlags::RDONLY) {
            return Ok(());
        }
        let dev = |fd: std::os::fd::BorrowedFd<'_>| rustix::fs::fstat(fd).map(|stat| stat.st_dev);
        let is_root =
            dev(place.as_fd()).at("look at", folder)? == dev(self.tree.as_fd()).at("look at", "/")?;
        let message = if is_root {
            "container rootfs is marked read-only"
        } else {
            "mounted volume is marked read-only"
        };
        Err(refused(message))
    }
}

/// Finds the source of a copy in a container.
fn find(view: &View, record: &Record, typed: &Typed, follow: bool) -> Result<Source> {
    let follow = if follow || typed.is_folder { OFlags::empty() } else { OFlags::NOFOLLOW };
    let folder = if typed.is_folder { OFlags::DIRECTORY } else { OFlags::empty() };
    let is_root = typed.path == Path::new("/");
    let opened = view.tree.open(&typed.path, OFlags::PATH | follow | folder);
    let source = opened
        .and_then(|fd| Ok(Source::of(fd, is_root, view.ids)?))
        .map_err(|error| not_there(error, record, &typed.path))?;
    if source.is_of_proc() {
        // Here it would tell of this process and of the machine, or nothing at all.
        let (name, path) = (&record.name, typed.path.display());
        let verb = if source.is_folder() { "ls" } else { "cat" };
        return Err(Error::Advised {
            message: format!(
                "cannot copy {path} out of container {name}: the kernel makes it for who reads it"
            ),
            hint: format!("read it in the container: `kiln exec {name} {verb} {path}`"),
        });
    }
    Ok(source)
}

/// Finds the target of a copy in a container; a link at its end is followed, even to what isn't there yet.
fn follow_target(tree: &Tree, record: &Record, mut typed: Typed) -> Result<(Typed, Target)> {
    for _ in 0..MOST_LINKS {
        let place = match tree.open(&typed.path, OFlags::PATH | OFlags::NOFOLLOW) {
            Ok(place) => place,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Only the last name may be missing.
                return match tree.open(typed.parent(), OFlags::PATH | OFlags::DIRECTORY) {
                    Ok(_) => Ok((typed, Target::Nothing)),
                    Err(error) => Err(not_there(error, record, typed.parent())),
                };
            }
            Err(error) => return Err(not_there(error, record, &typed.path)),
        };
        match FileType::from_raw_mode(rustix::fs::fstat(&place).at("look at", &typed.path)?.st_mode) {
            FileType::Directory => return Ok((typed, Target::Folder)),
            FileType::Symlink => {
                let link = rustix::fs::readlinkat(&place, c"", Vec::new()).at("read", &typed.path)?;
                let link = link.to_string_lossy().into_owned();
                // Not cleaned: what is before a `..` may be a link, too.
                typed.path = typed.parent().join(link);
            }
            FileType::CharacterDevice | FileType::BlockDevice => {
                let path = typed.path.display();
                let message =
                    format!("destination `{}:{path}` must be a directory or a regular file", record.name);
                return Err(Error::Invalid { message });
            }
            _ => return Ok((typed, Target::Other)),
        }
    }
    Err(not_there(Errno::LOOP.into(), record, &typed.path))
}

/// The target of a copy on the machine.
struct LocalTarget {
    typed: Typed,
    found: Target,
}

impl LocalTarget {
    fn open(text: &str) -> Result<Self> {
        let mut typed = Typed::parse(text);
        for _ in 0..MOST_LINKS {
            match std::fs::read_link(&typed.path) {
                Ok(link) => typed.path = typed.parent().join(link),
                Err(_) => break,
            }
        }
        let found = match std::fs::metadata(&typed.path) {
            Ok(found) if found.is_dir() => Target::Folder,
            Ok(found) if is_device(&found) => {
                let path = typed.path.display();
                let message = format!("invalid output path: `{path}` must be a directory or a regular file");
                return Err(Error::Invalid { message });
            }
            Ok(_) => Target::Other,
            Err(_) => Target::Nothing,
        };
        if found == Target::Nothing && !typed.parent().is_dir() {
            let folder = typed.parent().display();
            let message = format!("invalid output path: directory `{folder}` does not exist");
            return Err(Error::Invalid { message });
        }
        Ok(Self { typed, found })
    }

    /// Opens the folder that the copy is made in.
    fn folder(&self, name: Named) -> Result<OwnedFd> {
        let path = if name == Named::Target { self.typed.parent() } else { &self.typed.path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty()).at("open", path)
    }
}

fn through_a_pipe(source: Source, name: &[u8], root: Root<'_>, rules: Rules) -> Result<Copied> {
    let (reader, writer) = io::pipe().at("make", "a pipe")?;
    let mut counted = Counted { writer, bytes: 0 };
    let (packed, unpacked) = std::thread::scope(|scope| {
        let packing = scope.spawn(move || pack(source, name, &mut counted).map(|()| counted.bytes));
        let unpacked = unpack(reader, root, rules);
        (packing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), unpacked)
    });
    match (packed, unpacked) {
        (Ok(bytes), Ok(left_out)) => Ok(Copied { bytes, left_out }),
        // The reader's own failure closes the pipe, which fails the writer; the writer's cuts the tar.
        (Err(error), Err(Error::Layer { source: LayerError::Truncated { .. }, .. })) => Err(error),
        (_, Err(error)) | (Err(error), _) => Err(error),
    }
}

/// A writer that counts.
struct Counted<W> {
    writer: W,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.writer.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

fn bytes(name: Option<&std::ffi::OsStr>) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt;
    name.map(|name| name.as_bytes().to_vec()).unwrap_or_default()
}

fn is_device(found: &std::fs::Metadata) -> bool {
    found.file_type().is_char_device() || found.file_type().is_block_device()
}

fn refused(message: &str) -> Error {
    Error::Invalid { message: message.to_owned() }
}

fn not_there(error: io::Error, record: &Record, path: &Path) -> Error {
    let path = path.display();
    let message = match error.kind() {
        io::ErrorKind::NotFound => format!("could not find the file {path} in container {}", record.name),
        _ => format!("cannot use {path} in container {}: {error}", record.name),
    };
    Error::Invalid { message }
}
