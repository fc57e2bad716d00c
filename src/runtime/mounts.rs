//! The filesystem that a process sees, put together by the child: the stage, and the mounts that were asked for.
//!
//! Sources are descriptors of checked objects, which the parent opened, since the machine's tree is out of the child's
//! reach by then; targets are opened inside the root by the kernel. Nothing is mounted by a path that the image can
//! redirect.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, StatxFlags, Uid};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use super::error::{At, StartError};
use super::inroot::{Kind, Made, Root};
use super::spec::{Below, How, IdRange, Mount, Propagation, Spec};
use super::stage::{MOVED, Stage, folder_in};
use super::userns;
use crate::sys::mount::{NODEV, NOEXEC, NOSUID, RDONLY, alter, make_private, set_attributes};

/// The option that names the device in lists of mounts.
const SOURCE: &str = "source";
/// What the list of sources promises.
const ONE_EACH: &str = "a source was opened for each mount that has one";

const PROC_SUPER_MAGIC: i64 = 0x9fa0;
const SYSFS_MAGIC: i64 = 0x6265_6572;

/// Makes a filesystem, attached to nothing. An empty value sets a flag.
///
/// Lists of mounts have its kind for the device's name, unless `source` is among the options.
pub fn new_filesystem(kind: &str, options: &[(&str, &str)], attributes: u64) -> Result<OwnedFd, Errno> {
    let fs = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    if options.iter().all(|(key, _)| *key != SOURCE) {
        fsconfig_set_string(&fs, SOURCE, kind)?;
    }
    for (key, value) in options {
        if value.is_empty() { fsconfig_set_flag(&fs, *key)? } else { fsconfig_set_string(&fs, *key, *value)? }
    }
    fsconfig_create(&fs)?;
    fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::from_bits_retain(attributes as u32))
}

/// Attaches a detached tree at a place.
pub fn attach(tree: impl AsFd, target: impl AsFd) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, c"", target, c"", flags)
}

/// Clones the mount that `path` lies in, from there on downwards.
pub fn clone_tree(dir: impl AsFd, path: &Path, recursive: bool) -> Result<OwnedFd, Errno> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if path == Path::new("") {
        flags |= OpenTreeFlags::AT_EMPTY_PATH;
    }
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(dir, path, flags)
}

/// The mounting of one child.
pub(super) struct Mounter<'a> {
    pub(super) spec: &'a Spec,
    pub(super) root: BorrowedFd<'a>,
    pub(super) stage: &'a Stage,
    /// What [`super::rootfs::mount_sources`] made.
    pub(super) sources: &'a [OwnedFd],
    /// The mount points that were made in the root filesystem itself.
    pub(super) made: Vec<Made>,
    /// The device number of the root filesystem's folders.
    pub(super) root_dev: u64,
}

impl Mounter<'_> {
    /// Opens the place of a mount, made when missing; tells of it when it was made in the root filesystem.
    fn place(&mut self, target: &str, kind: Kind) -> Result<OwnedFd, StartError> {
        let mut made = Vec::new();
        let fd = Root(self.root)
            .ensure(target, kind, (0, 0), &mut made)
            .at("mount", || format!("cannot make the mount point `{target}`"))?;
        for stub in made {
            let parent = stub.path.parent().unwrap_or(Path::new(""));
            let parent = if parent == Path::new("") { Path::new(".") } else { parent };
            let stat = rustix::fs::openat(self.root, parent, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
                .and_then(rustix::fs::fstat);
            if stat.is_ok_and(|stat| stat.st_dev == self.root_dev) {
                self.made.push(stub);
            }
        }
        Ok(fd)
    }

    /// Puts everything in place.
    pub(super) fn mount_all(&mut self) -> Result<(), StartError> {
        for (name, tree) in MOVED.iter().zip(&self.stage.trees) {
            let place = self.place(&format!("/{name}"), Kind::Folder)?;
            attach(tree, &place).at("mount", || format!("cannot mount `/{name}`"))?;
        }
        let sources = self.sources()?;
        let files = self.private_files()?;
        self.user_mounts(sources, files)?;
        if self.spec.readonly_root {
            set_attributes(self.root, RDONLY, false).at("mount", || "cannot make `/` read-only")?;
        }
        Ok(())
    }

    /// Writes the contents of all `File` mounts to the stage, and gives one tree for each.
    fn private_files(&mut self) -> Result<Vec<OwnedFd>, StartError> {
        let spec = self.spec;
        let files: Vec<_> = (spec.mounts.iter())
            .filter_map(|mount| match mount {
                Mount::File { content, mode, owner, readonly, target } => {
                    Some((content, *mode, *owner, *readonly, target))
                }
                _ => None,
            })
            .collect();
        let top = &self.stage.top;
        let mut trees = Vec::new();
        for (index, (content, mode, owner, readonly, target)) in files.into_iter().enumerate() {
            let fail = || format!("cannot write the file for `{target}`");
            let name = index.to_string();
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            let file = rustix::fs::openat(top, &name, flags, Mode::from_raw_mode(0o600)).at("mount", fail)?;
            if owner != (0, 0) {
                let host = |id| IdRange::host(spec.ids, id);
                let (uid, gid) = (Uid::from_raw(host(owner.0)), Gid::from_raw(host(owner.1)));
                rustix::fs::fchown(&file, Some(uid), Some(gid)).at("mount", fail)?;
            }
            rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & 0o7777)).at("mount", fail)?;
            File::from(file).write_all(content.reveal()).at("mount", fail)?;
            let tree = clone_tree(top, Path::new(&name), false).at("mount", fail)?;
            if readonly {
                set_attributes(tree.as_fd(), RDONLY, false).at("mount", fail)?;
            }
            trees.push(tree);
        }
        Ok(trees)
    }

    /// Gives what is to be mounted of each source: of a stack of layers, a part.
    fn sources(&mut self) -> Result<Vec<OwnedFd>, StartError> {
        let spec = self.spec;
        let mut sources = self.sources.iter().enumerate();
        let mut trees = Vec::new();
        for mount in &spec.mounts {
            let fail = || format!("cannot mount `{}`", mount.target());
            match mount {
                Mount::Tmpfs { .. } | Mount::File { .. } => {}
                Mount::Bind { .. } | Mount::Device { .. } => {
                    let (_, tree) = sources.next().expect(ONE_EACH);
                    trees.push(tree.try_clone().at("mount", fail)?);
                }
                Mount::Layers { source, readonly, .. } => {
                    let (index, stack) = sources.next().expect(ONE_EACH);
                    trees.push(self.part_of_layers((index, stack), source, *readonly)?);
                }
            }
        }
        Ok(trees)
    }

    /// Opens what lies at `source` in a stack of layers.
    fn part_of_layers(
        &self,
        (index, stack): (usize, &OwnedFd),
        source: &str,
        readonly: bool,
    ) -> Result<OwnedFd, StartError> {
        let fail = || format!("cannot mount `{source}`");
        let place = folder_in(&self.stage.top, &format!("layers{index}")).at("mount", fail)?;
        attach(stack, &place).at("mount", fail)?;
        let part = Root(stack.as_fd()).open(source, OFlags::PATH).at("mount", fail)?;
        let tree = clone_tree(&part, Path::new(""), false).at("mount", fail)?;
        if readonly {
            set_attributes(tree.as_fd(), RDONLY, false).at("mount", fail)?;
        }
        Ok(tree)
    }

    fn user_mounts(&mut self, sources: Vec<OwnedFd>, files: Vec<OwnedFd>) -> Result<(), StartError> {
        let (mut sources, mut files) = (sources.into_iter(), files.into_iter());
        let spec = self.spec;
        for mount in &spec.mounts {
            let target = mount.target();
            let (tree, kind) = match mount {
                Mount::File { .. } => (files.next().expect("a tree was made for each file"), Kind::File),
                Mount::Tmpfs { .. } => (tmpfs(mount, spec.ids)?, Kind::Folder),
                Mount::Layers { is_folder, .. } => (sources.next().expect(ONE_EACH), Kind::of(*is_folder)),
                Mount::Bind { .. } => {
                    let tree = sources.next().expect(ONE_EACH);
                    let kind = kind_of(&tree).at("mount", || format!("cannot mount `{target}`"))?;
                    (tree, kind)
                }
                Mount::Device { .. } => (sources.next().expect(ONE_EACH), Kind::File),
            };
            let place = match self.place(target, kind) {
                // procfs and sysfs let nobody make anything.
                Err(_) if is_in_kernel_folders(target) => return Err(in_kernel_folders(target)),
                place => place?,
            };
            refuse_kernel_folders(&place, self.root, target)?;
            refuse_another_kind(&place, kind, target)?;
            attach(&tree, &place).at("mount", || format!("cannot mount `{target}`"))?;
        }
        Ok(())
    }
}

fn tmpfs(mount: &Mount, ids: Option<IdRange>) -> Result<OwnedFd, StartError> {
    let Mount::Tmpfs { target, size, mode, exec, suid, readonly, options: more } = mount else {
        return Err(StartError::new("mount", "no filesystem in memory was asked for"));
    };
    let mode = format!("{:o}", mode.unwrap_or(0o1777));
    let size = size.map(|size| size.to_string());
    let mut options = vec![("mode", mode.as_str())];
    options.extend(size.as_deref().map(|size| ("size", size)));
    let more: Vec<(&str, String)> =
        more.iter().map(|(name, value)| (name.as_str(), on_host(name, value, ids))).collect();
    options.extend(more.iter().map(|(name, value)| (*name, value.as_str())));
    let unless = |wanted: bool, attribute| if wanted { 0 } else { attribute };
    let attributes = NODEV | unless(*suid, NOSUID) | unless(*exec, NOEXEC) | unless(!*readonly, RDONLY);
    new_filesystem("tmpfs", &options, attributes)
        .at("mount", || format!("cannot make a filesystem in memory for `{target}`"))
}

/// The value of an option as the machine counts ids.
fn on_host(name: &str, value: &str, ids: Option<IdRange>) -> String {
    match value.parse() {
        Ok(id) if ["uid", "gid"].contains(&name) => IdRange::host(ids, id).to_string(),
        _ => value.to_owned(),
    }
}

/// Whether a bind's source is a folder.
pub(super) fn kind_of(file: &OwnedFd) -> Result<Kind, Errno> {
    let stat = rustix::fs::fstat(file)?;
    Ok(Kind::of(FileType::from_raw_mode(stat.st_mode) == FileType::Directory))
}

/// A file or folder of the machine's. Its path is resolved once: what is looked at, changed and attached is the tree
/// that was found then.
pub(super) fn bind(
    source: &Path,
    readonly: bool,
    how: &How,
    userns: Option<BorrowedFd<'_>>,
) -> Result<OwnedFd, StartError> {
    let fail = || format!("cannot mount `{}`", source.display());
    let deep = how.below != Below::None;
    let tree = if how.subpath.is_none() && how.propagation == Propagation::Private {
        clone_tree(CWD, source, deep).at("mount", fail)?
    } else {
        let place = part_of(source, how.subpath.as_deref())?;
        refuse_unshared(&place, how.propagation, source)?;
        clone_tree(&place, Path::new(""), deep).at("mount", fail)?
    };
    match how.propagation {
        Propagation::Private => make_private(tree.as_fd()).at("mount", fail)?,
        Propagation::Slave => alter(tree.as_fd(), 0, 0, libc::MS_SLAVE, true).at("mount", fail)?,
        // A clone of a shared mount is its peer.
        Propagation::Shared => {}
    }
    if let Some(userns) = userns {
        userns::map(tree.as_fd(), source, userns)?;
    }
    if readonly && how.below == Below::Writable {
        set_attributes(tree.as_fd(), NODEV, true).at("mount", fail)?;
        set_attributes(tree.as_fd(), RDONLY, false).at("mount", fail)?;
        return Ok(tree);
    }
    let attributes = NODEV | if readonly { RDONLY } else { 0 };
    set_attributes(tree.as_fd(), attributes, true).at("mount", fail)?;
    Ok(tree)
}

/// For who wants a part that isn't there.
const NO_PART: &str = "make it first, in a container that has the whole volume";

/// Opens a source, or what lies in it: links there lead to nothing but its own files, whoever changes them meanwhile.
fn part_of(source: &Path, subpath: Option<&str>) -> Result<OwnedFd, StartError> {
    let whole = rustix::fs::open(source, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .at("mount", || format!("cannot mount `{}`", source.display()))?;
    match subpath {
        None => Ok(whole),
        Some(part) => Root(whole.as_fd())
            .open(part, OFlags::PATH)
            .at("mount", || format!("cannot mount `{part}` of `{}`", source.display()))
            .map_err(|error| StartError { hint: Some(NO_PART.to_owned()), ..error }),
    }
}

/// Refuses to propagate mounts of a source whose own mount doesn't.
fn refuse_unshared(place: &OwnedFd, wanted: Propagation, source: &Path) -> Result<(), StartError> {
    if wanted == Propagation::Private {
        return Ok(());
    }
    let fail = || format!("cannot look at the mount of `{}`", source.display());
    let asked = rustix::fs::statx(place, c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).at("mount", fail)?;
    let table = std::fs::read_to_string("/proc/self/mountinfo").at("mount", fail)?;
    let id = asked.stx_mnt_id.to_string();
    let line = table.lines().find(|line| line.split(' ').next() == Some(&id)).unwrap_or_default();
    let mut fields = line.split(' ').skip(6).take_while(|field| *field != "-");
    let enough = |field: &str| {
        field.starts_with("shared:") || (wanted == Propagation::Slave && field.starts_with("master:"))
    };
    if fields.any(enough) {
        return Ok(());
    }
    let at = line.split(' ').nth(4).unwrap_or("?");
    let text =
        format!("cannot mount `{}`: it is mounted on `{at}`, which is not a shared mount", source.display());
    let hint = format!("make it one with `mount --make-shared {at}`");
    Err(StartError { hint: Some(hint), ..StartError::new("mount", text) })
}

/// A node of the machine's, bound without the mark that makes devices plain files.
pub(super) fn device(source: &Path) -> Result<OwnedFd, StartError> {
    let fail = || format!("cannot use the device `{}`", source.display());
    let tree = clone_tree(CWD, source, false).at("mount", fail)?;
    make_private(tree.as_fd()).at("mount", fail)?;
    set_attributes(tree.as_fd(), NOSUID | NOEXEC, false).at("mount", fail)?;
    let stat = rustix::fs::fstat(&tree).at("mount", fail)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice | FileType::BlockDevice => Ok(tree),
        _ => Err(StartError::new("mount", format!("`{}` is no device", source.display()))),
    }
}

/// Tells by the name alone, for what could not be opened.
fn is_in_kernel_folders(target: &str) -> bool {
    ["/proc/", "/sys/"].iter().any(|folder| target.starts_with(folder))
}

fn in_kernel_folders(target: &str) -> StartError {
    StartError::new("mount", format!("cannot mount `{target}`: it is inside `/proc` or `/sys`"))
}

/// Refuses `/`, and what lies in procfs or sysfs whatever its name.
fn refuse_kernel_folders(place: &OwnedFd, root: BorrowedFd<'_>, target: &str) -> Result<(), StartError> {
    let fail = || format!("cannot look at the mount point `{target}`");
    let kind = rustix::fs::fstatfs(place).at("mount", fail)?.f_type;
    let (here, top) =
        (rustix::fs::fstat(place).at("mount", fail)?, rustix::fs::fstat(root).at("mount", fail)?);
    if [PROC_SUPER_MAGIC, SYSFS_MAGIC].contains(&kind) {
        return Err(in_kernel_folders(target));
    }
    if (here.st_dev, here.st_ino) == (top.st_dev, top.st_ino) {
        return Err(StartError::new("mount", format!("cannot mount `{target}`: it is the root folder")));
    }
    Ok(())
}

/// The kernel would say no more than `invalid argument`.
fn refuse_another_kind(place: &OwnedFd, kind: Kind, target: &str) -> Result<(), StartError> {
    let stat =
        rustix::fs::fstat(place).at("mount", || format!("cannot look at the mount point `{target}`"))?;
    let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    match (kind, is_folder) {
        (Kind::File, true) => {
            Err(StartError::new("mount", format!("cannot mount a file on `{target}`, which is a directory")))
        }
        (Kind::Folder, false) => {
            Err(StartError::new("mount", format!("cannot mount a directory on `{target}`, which is a file")))
        }
        _ => Ok(()),
    }
}
