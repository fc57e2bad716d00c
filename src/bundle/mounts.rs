//! The filesystem of a bundle, put together by the child: what `config.json` lists, in its order, and `/dev`.
//!
//! Targets are opened inside the root filesystem by the kernel, and everything is attached by descriptors: no link of
//! the image leads a mount out of it. Where devices are held back, no mount opens any but the listed nodes.

use std::ffi::OsString;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, UnmountFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, unmount,
};

use super::config::{Config, Device, Linux, Mount};
use super::options::{self, Options};
use super::userns;
use crate::runtime::{At, Kind, Root, StartError, attach, clone_tree, new_filesystem};
use crate::sys::mount::{NODEV, NOEXEC, NOSUID, RDONLY, alter, set_attributes};

type Result<T> = std::result::Result<T, StartError>;

const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;
const PROC_SUPER_MAGIC: i64 = 0x9fa0;

/// Files of `/proc` that something may be mounted on: what tells about the machine, for a tool to tell less.
const TARGETS_IN_PROC: [&str; 11] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/net/dev",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/crypto/fips_enabled",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

/// The nodes that every container has.
const NODES: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];
/// The links of `/dev`.
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// What the mounts of one container are made by.
#[derive(Clone, Copy)]
pub(super) struct Mounter<'a> {
    pub(super) config: &'a Config,
    pub(super) linux: &'a Linux,
    /// The folder that relative sources start at.
    pub(super) bundle: &'a Path,
    /// The root filesystem's path on the machine.
    pub(super) rootfs: &'a Path,
    /// Every device may be used.
    pub(super) all_devices: bool,
    /// The folders of its cgroup.
    pub(super) cgroup: &'a [PathBuf],
    /// For each mount the namespace that its ids are mapped by.
    pub(super) idmaps: &'a [Option<OwnedFd>],
    /// In a user namespace: where bind mounts are asked for, since root inside may not find or map their sources.
    pub(super) lender: Option<BorrowedFd<'a>>,
}

impl Mounter<'_> {
    /// Puts everything in place in this process's own copy of the machine's tree; returns the new root.
    pub(super) fn mount_all(&self) -> Result<OwnedFd> {
        let root = self.root()?;
        for index in 0..self.config.mounts.len() {
            self.mount(&root, index)?;
        }
        let dev_is_lent = self.config.mounts.iter().any(|mount| {
            Path::new(&mount.destination) == Path::new("/dev")
                && Options::read(mount).is_ok_and(|o| o.bind.is_some())
        });
        if !dev_is_lent {
            self.fill_dev(&root)?;
        }
        for path in &self.linux.readonly_paths {
            protect(&root, path)?;
        }
        self.mask(&root)?;
        Ok(root)
    }

    fn root(&self) -> Result<OwnedFd> {
        let fail = || format!("cannot use the root filesystem `{}`", self.rootfs.display());
        let tree = clone_tree(CWD, self.rootfs, true).at("rootfs", fail)?;
        let nodev = if self.all_devices { 0 } else { NODEV };
        alter(tree.as_fd(), nodev, 0, libc::MS_PRIVATE, true).at("rootfs", fail)?;
        if self.is_shared() {
            // Elsewhere the new root would be mounted too.
            make_mount_private(self.rootfs).at("rootfs", fail)?;
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let place = rustix::fs::open(self.rootfs, flags, Mode::empty()).at("rootfs", fail)?;
        attach(&tree, &place).at("rootfs", fail)?;
        Ok(tree)
    }

    fn is_shared(&self) -> bool {
        ["shared", "rshared"].contains(&self.linux.rootfs_propagation.as_str())
    }

    /// Makes the new root, once it is `/`, what `linux.rootfsPropagation` says.
    pub(super) fn share(&self, root: &OwnedFd) -> Result<()> {
        match self.is_shared() {
            true => alter(root.as_fd(), 0, 0, libc::MS_SHARED, false).at("rootfs", || "cannot share `/`"),
            false => Ok(()),
        }
    }

    fn options(&self, mount: &Mount) -> Result<Options> {
        let mut options = Options::read(mount)?;
        if !self.all_devices && mount.kind != "devpts" {
            options.set |= NODEV;
            options.clear &= !NODEV;
        }
        Ok(options)
    }

    /// Opens what a bind mount shows, with all that its options say.
    pub(super) fn source(&self, index: usize) -> Result<OwnedFd> {
        let Some(mount) = self.config.mounts.get(index) else {
            return Err(StartError::new("mount", "there is no such mount"));
        };
        let fail = || format!("error mounting {:?} to rootfs at {:?}", mount.source, mount.destination);
        let options = self.options(mount)?;
        let recursive = options.bind.unwrap_or(false);
        let tree = clone_tree(CWD, &self.bundle.join(&mount.source), recursive).at("mount", fail)?;
        if !self.all_devices {
            alter(tree.as_fd(), NODEV, 0, 0, true).at("mount", fail)?;
        }
        if let Some(Some(namespace)) = self.idmaps.get(index) {
            userns::map_mount(&tree, mount, namespace, options.idmap.unwrap_or(false))?;
        }
        options.apply(tree.as_fd()).at("mount", fail)?;
        Ok(tree)
    }

    fn mount(&self, root: &OwnedFd, index: usize) -> Result<()> {
        let mount = &self.config.mounts[index];
        let target = mount.destination.as_str();
        let fail = || format!("error mounting {:?} to rootfs at {target:?}", mount.source);
        let options = self.options(mount)?;
        let (tree, kind) = match (options.bind, mount.kind.as_str()) {
            (Some(_), _) => {
                let tree = match self.lender {
                    Some(lender) => userns::borrow(lender, index)?,
                    None => self.source(index)?,
                };
                let stat = rustix::fs::fstat(&tree).at("mount", fail)?;
                let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
                (tree, Kind::of(is_folder))
            }
            (None, "cgroup" | "cgroup2") => (self.cgroups(&options).at("mount", fail)?, Kind::Folder),
            (None, _) => (self.filesystem(root, mount, &options).at("mount", fail)?, Kind::Folder),
        };
        let place = Root(root.as_fd()).ensure(target, kind, (0, 0), &mut Vec::new()).at("mount", fail)?;
        refuse_place(root, &place, target)?;
        attach(&tree, &place).at("mount", fail)?;
        if options.bind.is_none() && options.propagation.is_some() {
            options.propagate(tree.as_fd()).at("mount", fail)?;
        }
        Ok(())
    }

    fn filesystem(
        &self,
        root: &OwnedFd,
        mount: &Mount,
        options: &Options,
    ) -> std::result::Result<OwnedFd, Errno> {
        let fs = fsopen(mount.kind.as_str(), FsOpenFlags::FSOPEN_CLOEXEC)?;
        let source = &mount.source;
        if options::IN_MEMORY.contains(&mount.kind.as_str()) {
            // A name, which `df` shows.
            let name = if source.as_os_str().is_empty() { Path::new(&mount.kind) } else { source };
            fsconfig_set_string(&fs, "source", name.as_os_str())?;
        } else if !source.as_os_str().is_empty() {
            fsconfig_set_string(&fs, "source", self.bundle.join(source).as_os_str())?;
        }
        for (key, value) in &options.data {
            match value {
                Some(value) => fsconfig_set_string(&fs, key.as_str(), value.as_str())?,
                None => fsconfig_set_flag(&fs, key.as_str())?,
            }
        }
        // What is covered keeps its permissions.
        let has_mode = options.data.iter().any(|(key, _)| key == "mode");
        if mount.kind == "tmpfs"
            && !has_mode
            && let Ok(covered) = Root(root.as_fd()).open(&mount.destination, OFlags::PATH)
        {
            let mode = format!("{:o}", rustix::fs::fstat(&covered)?.st_mode & 0o7777);
            fsconfig_set_string(&fs, "mode", mode)?;
        }
        fsconfig_create(&fs)?;
        let attributes = MountAttrFlags::from_bits_retain(options.set as u32);
        fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    }

    /// The container's own cgroups, as it finds them in `/sys/fs/cgroup`: all of them, whatever they are called.
    fn cgroups(&self, options: &Options) -> std::result::Result<OwnedFd, Errno> {
        let attributes = options.set | NOSUID | NODEV | NOEXEC;
        let bind = |folder: &Path| {
            let tree = clone_tree(CWD, folder, false)?;
            alter(tree.as_fd(), attributes, 0, libc::MS_PRIVATE, false)
                .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
            Ok(tree)
        };
        let machine = Path::new("/sys/fs/cgroup");
        if rustix::fs::statfs(machine).is_ok_and(|stat| stat.f_type == CGROUP2_SUPER_MAGIC) {
            return bind(self.cgroup.first().map_or(machine, PathBuf::as_path));
        }
        let top = new_filesystem("tmpfs", &[("mode", "0755")], NOSUID | NODEV | NOEXEC)?;
        // Before Linux 6.15 nothing can be attached to what isn't attached itself.
        let place = rustix::fs::open(self.rootfs, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        attach(&top, &place)?;
        let result = self.fill_cgroups(&top, &bind);
        let clone = clone_tree(&top, Path::new(""), true);
        unmount(self.rootfs, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?;
        result?;
        let clone = clone?;
        if options.set & RDONLY != 0 {
            set_attributes(clone.as_fd(), RDONLY, false).map_err(|_| Errno::IO)?;
        }
        Ok(clone)
    }

    fn fill_cgroups(
        &self,
        top: &OwnedFd,
        bind: &impl Fn(&Path) -> std::result::Result<OwnedFd, Errno>,
    ) -> std::result::Result<(), Errno> {
        for folder in self.cgroup {
            let Ok(below) = folder.strip_prefix("/sys/fs/cgroup") else { continue };
            let Some(name) = below.iter().next() else { continue };
            rustix::fs::mkdirat(top, name, Mode::from_raw_mode(0o755))?;
            let place = rustix::fs::openat(top, name, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
            attach(bind(folder)?, &place)?;
            let names = name.to_string_lossy();
            for controller in names.split(',').filter(|controller| *controller != names) {
                rustix::fs::symlinkat(name, top, controller)?;
            }
        }
        Ok(())
    }

    /// Puts nodes and links into `/dev`. The nodes are made in a filesystem of their own that opens devices, and bound:
    /// the rest of `/dev` opens none.
    fn fill_dev(&self, root: &OwnedFd) -> Result<()> {
        let fail = || "cannot make the devices";
        if self.lender.is_some() {
            self.bind_nodes(root)?;
            return self.link_dev(root);
        }
        let nodes = new_filesystem("tmpfs", &[("mode", "0700")], NOSUID | NOEXEC).at("devices", fail)?;
        let place = rustix::fs::open(self.rootfs, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .at("devices", fail)?;
        attach(&nodes, &place).at("devices", fail)?;
        let result = self.make_nodes(root, &nodes);
        unmount(self.rootfs, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW).at("devices", fail)?;
        result?;
        self.link_dev(root)
    }

    fn link_dev(&self, root: &OwnedFd) -> Result<()> {
        let fail = || "cannot make the links of `/dev`";
        let dev =
            Root(root.as_fd()).ensure("/dev", Kind::Folder, (0, 0), &mut Vec::new()).at("devices", fail)?;
        // The one of the image, or of an earlier container on the same root filesystem.
        let _ = rustix::fs::unlinkat(&dev, "ptmx", AtFlags::empty());
        for (name, target) in LINKS {
            match rustix::fs::symlinkat(target, &dev, name) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error).at("devices", || format!("cannot make `/dev/{name}`")),
            }
        }
        Ok(())
    }

    /// The nodes of `/dev`: those that every container has, but for those that are told otherwise, and those told.
    fn nodes(&self) -> Vec<Device> {
        let usual = NODES.map(|(path, major, minor)| Device {
            kind: "c".into(),
            path: path.into(),
            major,
            minor,
            file_mode: Some(0o666),
            ..Device::default()
        });
        let own = |path: &str| self.linux.devices.iter().any(|device| device.path == path);
        let usual = usual.into_iter().filter(|device| !own(&device.path));
        usual.chain(self.linux.devices.iter().cloned()).collect()
    }

    fn make_nodes(&self, root: &OwnedFd, nodes: &OwnedFd) -> Result<()> {
        for (index, device) in self.nodes().iter().enumerate() {
            let fail = || format!("cannot make the device `{}`", device.path);
            let name = index.to_string();
            make_node(nodes, &name, device).at("devices", fail)?;
            let node = clone_tree(nodes, Path::new(&name), false).at("devices", fail)?;
            attach_node(root, &node, device)?;
        }
        Ok(())
    }

    /// In a user namespace no node can be made: the machine's own of the same path are shown.
    fn bind_nodes(&self, root: &OwnedFd) -> Result<()> {
        for device in &self.nodes() {
            let fail = || format!("cannot use the machine's `{}`", device.path);
            let node = clone_tree(CWD, Path::new(&device.path), false).at("devices", fail)?;
            let stat = rustix::fs::fstat(&node).at("devices", fail)?;
            let number = rustix::fs::makedev(device.major, device.minor);
            if FileType::from_raw_mode(stat.st_mode) != kind_of(device) || stat.st_rdev != number {
                let text = format!("{}: it is another device", fail());
                return Err(StartError::new("devices", text));
            }
            attach_node(root, &node, device)?;
        }
        Ok(())
    }

    fn mask(&self, root: &OwnedFd) -> Result<()> {
        for path in &self.linux.masked_paths {
            let fail = || format!("cannot mask `{path}`");
            let Some(place) = existing(root, path).at("mount", fail)? else { continue };
            let stat = rustix::fs::fstat(&place).at("mount", fail)?;
            let tree = match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => new_filesystem(
                    "tmpfs",
                    &[("size", "0"), ("mode", "0755")],
                    RDONLY | NOSUID | NODEV | NOEXEC,
                ),
                _ => clone_tree(CWD, Path::new("/dev/null"), false),
            };
            let tree = tree.at("mount", fail)?;
            set_attributes(tree.as_fd(), RDONLY | NOSUID | NOEXEC, false).at("mount", fail)?;
            attach(&tree, &place).at("mount", fail)?;
        }
        Ok(())
    }
}

/// Makes the new root `/`; the machine's tree is out of reach then.
pub(super) fn enter(root: &OwnedFd) -> Result<()> {
    let fail = || "cannot change the root";
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let machine = rustix::fs::open("/", flags, Mode::empty()).at("pivot_root", fail)?;
    rustix::process::fchdir(root).at("pivot_root", fail)?;
    rustix::process::pivot_root(".", ".").at("pivot_root", fail)?;
    // The machine's tree now lies over the new one. What is mounted there must not go away on the machine too.
    rustix::process::fchdir(&machine).at("pivot_root", fail)?;
    let flags = rustix::mount::MountPropagationFlags::DOWNSTREAM | rustix::mount::MountPropagationFlags::REC;
    rustix::mount::mount_change(".", flags).at("pivot_root", fail)?;
    unmount(".", UnmountFlags::DETACH).at("pivot_root", || "cannot take the machine's tree away")?;
    rustix::process::chdir("/").at("pivot_root", fail)
}

/// Parts the mount that `path` is in from its peers.
fn make_mount_private(path: &Path) -> std::io::Result<()> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo")?;
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape);
    // The one that was mounted last lies above.
    let point = points.filter(|point| path.starts_with(point)).max_by_key(|point| point.components().count());
    let point = point.unwrap_or_else(|| PathBuf::from("/"));
    Ok(rustix::mount::mount_change(point, rustix::mount::MountPropagationFlags::PRIVATE)?)
}

/// A path of `mountinfo`, where blanks and the like are octal numbers.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let number = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match number.and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(|_| byte == b'\\') {
            Some(number) => {
                bytes.push(number);
                rest = &after[3..];
            }
            None => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// Opens what a path inside leads to; `None` when there is nothing.
fn existing(root: &OwnedFd, path: &str) -> std::result::Result<Option<OwnedFd>, Errno> {
    match Root(root.as_fd()).open(path, OFlags::PATH) {
        Ok(place) => Ok(Some(place)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error),
    }
}

fn protect(root: &OwnedFd, path: &str) -> Result<()> {
    let fail = || format!("cannot make `{path}` read-only");
    let Some(place) = existing(root, path).at("mount", fail)? else { return Ok(()) };
    let tree = clone_tree(&place, Path::new(""), true).at("mount", fail)?;
    set_attributes(tree.as_fd(), RDONLY | NOSUID | NODEV | NOEXEC, true).at("mount", fail)?;
    attach(&tree, &place).at("mount", fail)
}

/// Refuses the root itself, and procfs but for a few files that tell about the machine.
fn refuse_place(root: &OwnedFd, place: &OwnedFd, target: &str) -> Result<()> {
    let fail = || format!("cannot look at the mount point `{target}`");
    let (here, top) =
        (rustix::fs::fstat(place).at("mount", fail)?, rustix::fs::fstat(root).at("mount", fail)?);
    if (here.st_dev, here.st_ino) == (top.st_dev, top.st_ino) {
        return Err(StartError::new("mount", format!("cannot mount `{target}`: it is the root folder")));
    }
    let in_proc = rustix::fs::fstatfs(place).at("mount", fail)?.f_type == PROC_SUPER_MAGIC;
    if in_proc && !TARGETS_IN_PROC.contains(&target) {
        return Err(StartError::new(
            "mount",
            format!("{target:?} cannot be mounted because it is inside /proc"),
        ));
    }
    Ok(())
}

fn attach_node(root: &OwnedFd, node: &OwnedFd, device: &Device) -> Result<()> {
    let fail = || format!("cannot make the device `{}`", device.path);
    let place =
        Root(root.as_fd()).ensure(&device.path, Kind::File, (0, 0), &mut Vec::new()).at("devices", fail)?;
    refuse_place(root, &place, &device.path)?;
    attach(node, &place).at("devices", fail)
}

fn kind_of(device: &Device) -> FileType {
    match device.kind.as_str() {
        "b" => FileType::BlockDevice,
        "p" => FileType::Fifo,
        _ => FileType::CharacterDevice,
    }
}

fn make_node(nodes: &OwnedFd, name: &str, device: &Device) -> std::result::Result<(), Errno> {
    let kind = kind_of(device);
    let mode = Mode::from_raw_mode(device.file_mode.unwrap_or(0o666) & 0o777);
    rustix::fs::mknodat(nodes, name, kind, mode, rustix::fs::makedev(device.major, device.minor))?;
    // The process's umask took bits away.
    rustix::fs::chmodat(nodes, name, mode, AtFlags::empty())?;
    let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
    rustix::fs::chownat(nodes, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
}

/// Puts the terminal at `/dev/console`.
pub(super) fn bind_console(root: BorrowedFd<'_>, slave: &OwnedFd) -> Result<()> {
    let fail = || "cannot make `/dev/console`";
    let place = Root(root).ensure("/dev/console", Kind::File, (0, 0), &mut Vec::new()).at("pty", fail)?;
    let tree = clone_tree(slave, Path::new(""), false).at("pty", fail)?;
    set_attributes(tree.as_fd(), NOSUID | NOEXEC, false).at("pty", fail)?;
    attach(&tree, &place).at("pty", fail)
}

/// Tells whether the folder of a root filesystem is there.
pub(super) fn is_folder(rootfs: &Path) -> bool {
    fs::metadata(rootfs).is_ok_and(|found| found.is_dir())
}
