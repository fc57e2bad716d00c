//! The filesystem that a process sees, put together by the child: `/proc`, `/sys`, `/dev`, masks and the
//! mounts that were asked for.
//!
//! Sources are descriptors of checked objects, targets are opened inside the root by the kernel; nothing is
//! mounted by a path that the image can redirect.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use super::error::{At, StartError};
use super::inroot::{Kind, Made, Root};
use super::spec::{Mount, Net, Spec};
use crate::sys::mount::{NODEV, NOEXEC, NOSUID, RDONLY, set_attributes};

/// `/proc/sys/net` values that let a container ping and bind low ports without privileges, as docker sets them.
const SYSCTLS: [(&str, &str); 2] =
    [("sys/net/ipv4/ip_unprivileged_port_start", "0"), ("sys/net/ipv4/ping_group_range", "0 2147483647")];

/// Parts of `/proc` that tell about or reach the machine.
const MASKED_PROC: [&str; 10] = [
    "acpi",
    "asound",
    "interrupts",
    "kcore",
    "keys",
    "latency_stats",
    "sched_debug",
    "scsi",
    "timer_list",
    "timer_stats",
];
/// Parts of `/sys` that do; the thermal throttles of each CPU come with them.
const MASKED_SYS: [&str; 2] = ["devices/virtual/powercap", "firmware"];
/// Parts of `/proc` that may be read only.
const READONLY_PROC: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];
/// The nodes of `/dev`: name, major, minor.
pub(super) const NODES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];
/// The links of `/dev`.
const LINKS: [(&str, &str); 6] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
    ("core", "/proc/kcore"),
];
/// `/dev/shm` when no size is asked for.
const SHM_BYTES: u64 = 64 << 20;
const PROC_SUPER_MAGIC: i64 = 0x9fa0;
const SYSFS_MAGIC: i64 = 0x6265_6572;

/// Makes a filesystem, attached to nothing. An empty value sets a flag.
pub(super) fn new_filesystem(
    kind: &str,
    options: &[(&str, &str)],
    attributes: u64,
) -> Result<OwnedFd, Errno> {
    let fs = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in options {
        if value.is_empty() { fsconfig_set_flag(&fs, *key)? } else { fsconfig_set_string(&fs, *key, *value)? }
    }
    fsconfig_create(&fs)?;
    fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::from_bits_retain(attributes as u32))
}

/// Attaches a detached tree at a place.
pub(super) fn attach(tree: impl AsFd, target: impl AsFd) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, c"", target, c"", flags)
}

/// Clones the mount that `path` lies in, from there on downwards.
pub(super) fn clone_tree(dir: impl AsFd, path: &Path, recursive: bool) -> Result<OwnedFd, Errno> {
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
    /// One mount, attached to nothing, for each of the spec's `Layers`.
    pub(super) layers: &'a [OwnedFd],
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

    fn mount_at(&mut self, tree: &OwnedFd, target: &str, kind: Kind) -> Result<(), StartError> {
        let place = self.place(target, kind)?;
        attach(tree, &place).at("mount", || format!("cannot mount `{target}`"))
    }

    /// Puts everything in place; gives the pty's master when there is one.
    pub(super) fn mount_all(&mut self) -> Result<Option<OwnedFd>, StartError> {
        let layers = self.parts_of_layers()?;
        let files = self.private_files()?;
        let proc = self.mount_proc()?;
        let empty = self.empty_folder()?;
        self.mount_sys(empty.as_fd())?;
        let pty = self.mount_dev()?;
        write_file(proc.as_fd(), "1/oom_score_adj", "0");
        if self.spec.network == Net::Namespace {
            for (path, value) in SYSCTLS {
                write_file(proc.as_fd(), path, value);
            }
        }
        if !self.spec.privileged {
            self.restrict_proc(proc.as_fd(), empty.as_fd())?;
        }
        self.user_mounts(layers, files)?;
        if self.spec.readonly_root {
            set_attributes(self.root, RDONLY, false).at("mount", || "cannot make `/` read-only")?;
        }
        Ok(pty)
    }

    /// Writes the contents of all `File` mounts to a filesystem of their own, and gives one tree for each.
    ///
    /// The filesystem ends up below `/proc`, out of reach: before Linux 6.15 only attached mounts can be cloned.
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
        if files.is_empty() {
            return Ok(Vec::new());
        }
        let tmpfs = new_filesystem("tmpfs", &[("mode", "0700")], NODEV | NOSUID)
            .at("mount", || "cannot make a filesystem for private files")?;
        self.mount_at(&tmpfs, "/proc", Kind::Folder)?;
        let mut trees = Vec::new();
        for (index, (content, mode, owner, readonly, target)) in files.into_iter().enumerate() {
            let fail = || format!("cannot write the file for `{target}`");
            let name = index.to_string();
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            let file =
                rustix::fs::openat(&tmpfs, &name, flags, Mode::from_raw_mode(0o600)).at("mount", fail)?;
            if owner != (0, 0) {
                let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
                rustix::fs::fchown(&file, Some(uid), Some(gid)).at("mount", fail)?;
            }
            rustix::fs::fchmod(&file, Mode::from_raw_mode(mode & 0o7777)).at("mount", fail)?;
            File::from(file).write_all(content.reveal()).at("mount", fail)?;
            let tree = clone_tree(&tmpfs, Path::new(&name), false).at("mount", fail)?;
            if readonly {
                set_attributes(tree.as_fd(), RDONLY, false).at("mount", fail)?;
            }
            trees.push(tree);
        }
        Ok(trees)
    }

    /// Opens what is to be mounted of each stack of layers.
    ///
    /// They end up below `/proc`, as the private files do and for the same reason.
    fn parts_of_layers(&mut self) -> Result<Vec<OwnedFd>, StartError> {
        let spec = self.spec;
        let mut stacks = self.layers.iter();
        let mut trees = Vec::new();
        for mount in &spec.mounts {
            let Mount::Layers { source, readonly, .. } = mount else { continue };
            let fail = || format!("cannot mount `{source}`");
            let stack = stacks.next().expect("a stack was mounted for each");
            self.mount_at(stack, "/proc", Kind::Folder)?;
            let part = Root(stack.as_fd()).open(source, OFlags::PATH).at("mount", fail)?;
            let tree = clone_tree(&part, Path::new(""), false).at("mount", fail)?;
            if *readonly {
                set_attributes(tree.as_fd(), RDONLY, false).at("mount", fail)?;
            }
            trees.push(tree);
        }
        Ok(trees)
    }

    fn mount_proc(&mut self) -> Result<OwnedFd, StartError> {
        let proc =
            new_filesystem("proc", &[], NOSUID | NODEV | NOEXEC).at("mount", || "cannot make `/proc`")?;
        self.mount_at(&proc, "/proc", Kind::Folder)?;
        Ok(proc)
    }

    /// Makes the empty folder that covers masked ones. It is attached where `/sys` will hide it.
    fn empty_folder(&mut self) -> Result<OwnedFd, StartError> {
        let tree = new_filesystem("tmpfs", &[("mode", "0755")], RDONLY | NOSUID | NODEV | NOEXEC)
            .at("mount", || "cannot make an empty folder")?;
        self.mount_at(&tree, "/sys", Kind::Folder)?;
        Ok(tree)
    }

    fn mount_sys(&mut self, empty: BorrowedFd<'_>) -> Result<(), StartError> {
        let readonly = if self.spec.privileged { 0 } else { RDONLY };
        let attributes = NOSUID | NODEV | NOEXEC | readonly;
        let sys = new_filesystem("sysfs", &[], attributes).at("mount", || "cannot make `/sys`")?;
        self.mount_at(&sys, "/sys", Kind::Folder)?;
        super::cgroup::mount_view(
            sys.as_fd(),
            !self.spec.limits.is_empty() || !self.spec.remove_stubs,
            readonly,
        )?;
        if self.spec.privileged {
            return Ok(());
        }
        for path in MASKED_SYS {
            mask(sys.as_fd(), path, empty, None)?;
        }
        mask_thermal_throttles(sys.as_fd(), empty)
    }

    fn restrict_proc(&self, proc: BorrowedFd<'_>, empty: BorrowedFd<'_>) -> Result<(), StartError> {
        let null = host_node("null", 1, 3)?;
        for path in MASKED_PROC {
            mask(proc, path, empty, Some(null.as_fd()))?;
        }
        for path in READONLY_PROC {
            let fail = || format!("cannot make `/proc/{path}` read-only");
            let Some(place) = open_own(proc, path).at("mount", fail)? else { continue };
            let tree = clone_tree(&place, Path::new(""), true).at("mount", fail)?;
            set_attributes(tree.as_fd(), RDONLY | NOSUID | NODEV | NOEXEC, true).at("mount", fail)?;
            attach(&tree, &place).at("mount", fail)?;
        }
        Ok(())
    }

    /// Makes a `/dev` of its own: an empty filesystem that opens no devices, with the six usual nodes bound in.
    fn mount_dev(&mut self) -> Result<Option<OwnedFd>, StartError> {
        let fail = || "cannot make `/dev`";
        let nodev = if self.spec.privileged { 0 } else { NODEV };
        let dev = new_filesystem("tmpfs", &[("mode", "0755"), ("size", "65536k")], NOSUID | NOEXEC | nodev)
            .at("mount", fail)?;
        self.mount_at(&dev, "/dev", Kind::Folder)?;
        for (name, major, minor) in NODES {
            let node = host_node(name, major, minor)?;
            bind_node(dev.as_fd(), name, node.as_fd())
                .at("mount", || format!("cannot make `/dev/{name}`"))?;
        }
        for (name, target) in LINKS {
            rustix::fs::symlinkat(target, &dev, name).at("mount", fail)?;
        }
        if self.spec.privileged {
            host_devices(dev.as_fd());
        }
        let size = if self.spec.shm_bytes == 0 { SHM_BYTES } else { self.spec.shm_bytes };
        folder_mount(&dev, "shm", "tmpfs", &[("mode", "1777"), ("size", &size.to_string())], NOEXEC)?;
        folder_mount(&dev, "mqueue", "mqueue", &[], NOEXEC)?;
        let options = [("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5")];
        let devpts = folder_mount(&dev, "pts", "devpts", &options, NOEXEC)?;
        if self.spec.tty.is_none() {
            return Ok(None);
        }
        let (master, slave) = super::pty::open(devpts.as_fd())?;
        bind_node(dev.as_fd(), "console", slave.as_fd()).at("pty", || "cannot make `/dev/console`")?;
        Ok(Some(master))
    }

    fn user_mounts(&mut self, layers: Vec<OwnedFd>, files: Vec<OwnedFd>) -> Result<(), StartError> {
        let (mut layers, mut files) = (layers.into_iter(), files.into_iter());
        let spec = self.spec;
        for mount in &spec.mounts {
            let target = mount.target();
            let (tree, kind) = match mount {
                Mount::File { .. } => (files.next().expect("a tree was made for each file"), Kind::File),
                Mount::Layers { is_folder, .. } => {
                    (layers.next().expect("a part was opened for each stack"), Kind::of(*is_folder))
                }
                Mount::Tmpfs { .. } => (tmpfs(mount)?, Kind::Folder),
                Mount::Bind { source, readonly, .. } => bind(source, *readonly)?,
                Mount::Device { source, .. } => (device(source)?, Kind::File),
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

fn tmpfs(mount: &Mount) -> Result<OwnedFd, StartError> {
    let Mount::Tmpfs { target, size, mode, exec, readonly } = mount else {
        return Err(StartError::new("mount", "no filesystem in memory was asked for"));
    };
    let mode = format!("{:o}", mode.unwrap_or(0o1777));
    let size = size.map(|size| size.to_string());
    let mut options = vec![("mode", mode.as_str())];
    options.extend(size.as_deref().map(|size| ("size", size)));
    let attributes = NOSUID | NODEV | if *exec { 0 } else { NOEXEC } | if *readonly { RDONLY } else { 0 };
    new_filesystem("tmpfs", &options, attributes)
        .at("mount", || format!("cannot make a filesystem in memory for `{target}`"))
}

fn bind(source: &Path, readonly: bool) -> Result<(OwnedFd, Kind), StartError> {
    let fail = || format!("cannot mount `{}`", source.display());
    let tree = clone_tree(CWD, source, true).at("mount", fail)?;
    let attributes = NODEV | if readonly { RDONLY } else { 0 };
    set_attributes(tree.as_fd(), attributes, true).at("mount", fail)?;
    let stat = rustix::fs::fstat(&tree).at("mount", fail)?;
    Ok((tree, Kind::of(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)))
}

/// A node of the machine's, bound without the mark that makes devices plain files.
fn device(source: &Path) -> Result<OwnedFd, StartError> {
    let fail = || format!("cannot use the device `{}`", source.display());
    let tree = clone_tree(CWD, source, false).at("mount", fail)?;
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

fn folder_mount(
    dev: &OwnedFd,
    name: &str,
    kind: &str,
    options: &[(&str, &str)],
    attributes: u64,
) -> Result<OwnedFd, StartError> {
    let fail = || format!("cannot make `/dev/{name}`");
    rustix::fs::mkdirat(dev, name, Mode::from_raw_mode(0o755)).at("mount", fail)?;
    let place =
        rustix::fs::openat(dev, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).at("mount", fail)?;
    // A devpts that opens no devices would be of no use.
    let nodev = if kind == "devpts" { 0 } else { NODEV };
    let tree = new_filesystem(kind, options, NOSUID | nodev | attributes).at("mount", fail)?;
    attach(&tree, &place).at("mount", fail)?;
    Ok(tree)
}

/// Opens a device of the machine after checking that it is the one meant.
fn host_node(name: &str, major: u32, minor: u32) -> Result<OwnedFd, StartError> {
    let path = format!("/dev/{name}");
    let fail = || format!("cannot use the machine's `{path}`");
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let node = rustix::fs::open(&path, flags, Mode::empty()).at("mount", fail)?;
    let stat = rustix::fs::fstat(&node).at("mount", fail)?;
    let is_device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    if !is_device || stat.st_rdev != rustix::fs::makedev(major, minor) {
        return Err(StartError::new(
            "mount",
            format!("the machine's `{path}` is not device {major}:{minor}"),
        ));
    }
    Ok(node)
}

/// Binds a node, read-only as a file, onto an empty file of `dev`.
fn bind_node(dev: BorrowedFd<'_>, name: &str, node: BorrowedFd<'_>) -> io::Result<()> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let place = rustix::fs::openat(dev, name, flags, Mode::from_raw_mode(0o644))?;
    let tree = clone_tree(node, Path::new(""), false)?;
    // chown and chmod of a terminal's slave must work; the six nodes are the machine's own.
    let readonly = if name == "console" { 0 } else { RDONLY };
    set_attributes(tree.as_fd(), readonly | NOSUID | NOEXEC, false)?;
    Ok(attach(&tree, &place)?)
}

/// Gives a privileged container the machine's devices, as nodes of its own.
fn host_devices(dev: BorrowedFd<'_>) {
    let Ok(entries) = std::fs::read_dir("/dev") else { return };
    for entry in entries.flatten() {
        let Ok(stat) = rustix::fs::statat(CWD, entry.path(), rustix::fs::AtFlags::SYMLINK_NOFOLLOW) else {
            continue;
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if matches!(kind, FileType::CharacterDevice | FileType::BlockDevice) {
            let mode = Mode::from_raw_mode(stat.st_mode & 0o777);
            // The usual nodes exist already; a node that can't be made is simply not there.
            let _ = rustix::fs::mknodat(dev, entry.file_name(), kind, mode, stat.st_rdev);
        }
    }
}

/// Opens a place of our own procfs or sysfs; `None` when this kernel doesn't have it.
fn open_own(base: BorrowedFd<'_>, path: &str) -> Result<Option<OwnedFd>, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    match rustix::fs::openat2(base, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Covers `path`: a folder by an empty one, a file by the null device.
fn mask(
    base: BorrowedFd<'_>,
    path: &str,
    empty: BorrowedFd<'_>,
    null: Option<BorrowedFd<'_>>,
) -> Result<(), StartError> {
    let fail = || format!("cannot mask `{path}`");
    let Some(place) = open_own(base, path).at("mount", fail)? else { return Ok(()) };
    let stat = rustix::fs::fstat(&place).at("mount", fail)?;
    let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    let source = if is_folder { empty } else { null.unwrap_or(empty) };
    let tree = clone_tree(source, Path::new(""), false).at("mount", fail)?;
    set_attributes(tree.as_fd(), RDONLY | NOSUID | NOEXEC, false).at("mount", fail)?;
    attach(&tree, &place).at("mount", fail)
}

fn mask_thermal_throttles(sys: BorrowedFd<'_>, empty: BorrowedFd<'_>) -> Result<(), StartError> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(cpus) = rustix::fs::openat2(sys, "devices/system/cpu", flags, Mode::empty(), resolve) else {
        return Ok(());
    };
    let Ok(entries) = rustix::fs::Dir::read_from(&cpus) else { return Ok(()) };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let number = name.strip_prefix("cpu").unwrap_or("");
        if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) {
            mask(sys, &format!("devices/system/cpu/{name}/thermal_throttle"), empty, None)?;
        }
    }
    Ok(())
}

/// Writes a value below our own procfs; what this kernel doesn't have stays as it is.
fn write_file(base: BorrowedFd<'_>, path: &str, value: &str) {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    if let Ok(file) = rustix::fs::openat2(base, path, flags, Mode::empty(), resolve) {
        let _ = rustix::io::write(&file, value.as_bytes());
    }
}
