//! The parts of a process's filesystem that every root filesystem gets alike: `/proc`, `/sys` and `/dev`, with their
//! masks, put together beside the root filesystem and moved into it.
//!
//! So they can be made before it is known what will run: see [`super::Launcher::ahead`].
//!
//! ```text
//! (in memory, in place of the machine's tree; the root filesystem comes to lie over it)
//!     proc sys dev    moved into the root filesystem
//!     empty           what masked folders are covered with, as read-only clones
//!     old             the machine's tree, until it is gone
//!     <number>        private files, layers<number> stacks of layers: mounted as clones of one file or folder
//! ```
//!
//! Before Linux 6.15 only attached mounts can be cloned or mounted upon, hence a place that they are attached to.
//!
//! The machine's tree goes here, and is waited for when all else is done ([`Stage::left`]).

use std::ffi::{CStr, c_void};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use rustix::thread::{
    LinkNameSpaceType, ThreadNameSpaceType, move_into_link_name_space, move_into_thread_name_spaces,
};

use super::cgroup::{Cgroup, View, mount_view};
use super::error::{At, StartError};
use super::mounts::{attach, clone_tree, new_filesystem};
use super::spec::{CgroupPlace, IdRange, Net, Ns, Spec};
use super::sysctl::sysctl_path;
use super::{pty, rootfs};
use crate::sys::beside::Beside;
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

/// Returns the paths that no container sees, unless it has every privilege.
pub fn masked_paths() -> Vec<String> {
    let proc = MASKED_PROC.iter().map(|name| format!("/proc/{name}"));
    proc.chain(MASKED_SYS.iter().map(|name| format!("/sys/{name}"))).collect()
}

/// Returns the paths that no container writes to, unless it has every privilege.
pub fn readonly_paths() -> Vec<String> {
    READONLY_PROC.iter().map(|name| format!("/proc/{name}")).collect()
}

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
/// The group of terminals, by an old agreement.
const TTY_GROUP: u32 = 5;
/// `/dev/shm` when no size is asked for.
const SHM_BYTES: u64 = 64 << 20;

/// The folders that are moved, and where to.
pub(super) const MOVED: [&str; 3] = ["proc", "sys", "dev"];

/// What a process gets beside its root filesystem.
#[derive(Debug)]
pub(super) struct Stage {
    /// The filesystem in memory.
    pub(super) top: OwnedFd,
    /// The mounts of [`MOVED`].
    pub(super) trees: [OwnedFd; 3],
    /// The pty's master when there is one.
    pub(super) pty: Option<OwnedFd>,
    /// The machine's tree on its way out.
    leaving: Option<Beside>,
    /// Where the number is written after which the next process's comes.
    last_pid: Option<OwnedFd>,
}

impl Stage {
    /// Puts it together in this process's own copy of the machine's tree, and takes that away. Of `spec` it reads
    /// what [`Spec::has_stage_of`] compares, and a folder to attach it at.
    /// `ipc` is the process whose `/dev/shm` is shared.
    pub(super) fn set_up(
        spec: &Spec,
        cgroup: &Cgroup,
        ipc: Option<BorrowedFd<'_>>,
    ) -> Result<Stage, StartError> {
        let fail = || "cannot make a filesystem for the start";
        let top = new_filesystem("tmpfs", &[("mode", "0700")], NODEV | NOSUID).at("mount", fail)?;
        let place = rootfs::attach_point(&spec.rootfs);
        let place = rustix::fs::open(&place, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .at("mount", || format!("cannot open `{}`", place.display()))?;
        attach(&top, &place).at("mount", fail)?;
        let setting = Setting { spec, top: top.as_fd(), empty: folder_in(&top, "empty").at("mount", fail)? };
        let (proc, sys) = (setting.mount_proc()?, setting.mount_sys(cgroup)?);
        let (dev, pty) = setting.mount_dev(ipc)?;
        setting.set_oom_score(proc.as_fd())?;
        if spec.network == Net::Namespace {
            for (path, value) in SYSCTLS {
                // What this kernel doesn't have stays as it is.
                let _ = write_file(proc.as_fd(), path, value);
            }
        }
        for (name, value) in &spec.sysctls {
            let path = format!("sys/{}", sysctl_path(name));
            write_file(proc.as_fd(), &path, value)
                .at("sysctl", || format!("cannot set the kernel parameter `{name}` to `{value}`"))?;
        }
        let has_own_pids = spec.namespaces.pid == Ns::Own;
        let last_pid = has_own_pids.then(|| open_to_write(proc.as_fd(), "sys/kernel/ns_last_pid"));
        if !setting.is_open() {
            setting.restrict_proc(proc.as_fd())?;
        }
        let leaving = leave_machine(&top)?;
        Ok(Stage {
            top,
            trees: [proc, sys, dev],
            pty,
            leaving,
            // On a kernel without checkpoints the process numbers of a container have a gap.
            last_pid: last_pid.and_then(Result::ok),
        })
    }

    /// Waits until the machine's tree is gone. Nothing that isn't kiln's may run before.
    pub(super) fn left(mut self) -> Result<(), StartError> {
        let Some(leaving) = self.leaving.take() else { return Ok(()) };
        leaving.wait().at("pivot_root", || NOT_AWAY)?;
        if let Some(last_pid) = &self.last_pid {
            let _ = rustix::io::write(last_pid, b"1");
        }
        Ok(())
    }
}

/// The folder of the stage where the machine's tree is on its way out.
const OLD: &CStr = c"old";
const NOT_AWAY: &str = "cannot take the machine's tree away";

/// Makes the stage `/` and begins to take the machine's tree away.
fn leave_machine(top: &OwnedFd) -> Result<Option<Beside>, StartError> {
    let fail = || "cannot change the root";
    rustix::process::fchdir(top).at("pivot_root", fail)?;
    rustix::fs::mkdirat(top, OLD, Mode::from_raw_mode(0o700)).at("pivot_root", fail)?;
    rustix::process::pivot_root(".", OLD).at("pivot_root", fail)?;
    rustix::process::chdir("/").at("pivot_root", fail)?;
    match Beside::begin(take_machine_away) {
        Ok(leaving) => Ok(Some(leaving)),
        // Its limits may allow no second process.
        Err(_) => unmount(OLD, UnmountFlags::DETACH).at("pivot_root", || NOT_AWAY).map(|()| None),
    }
}

/// The kernel waits for all processors when a mount is taken away, which takes most of a millisecond on a busy machine.
extern "C" fn take_machine_away(_: *mut c_void) -> i32 {
    unmount(OLD, UnmountFlags::DETACH).map_or_else(|error| error.raw_os_error(), |()| 0)
}

/// Makes a folder and opens it as a place.
pub(super) fn folder_in(top: &impl AsFd, name: &str) -> Result<OwnedFd, Errno> {
    rustix::fs::mkdirat(top, name, Mode::from_raw_mode(0o755))?;
    rustix::fs::openat(top, name, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// A stage in the making.
struct Setting<'a> {
    spec: &'a Spec,
    top: BorrowedFd<'a>,
    empty: OwnedFd,
}

impl Setting<'_> {
    fn attach(&self, tree: &OwnedFd, name: &str) -> Result<(), StartError> {
        let place = folder_in(&self.top, name);
        place.and_then(|place| attach(tree, &place)).at("mount", || format!("cannot mount `/{name}`"))
    }

    fn set_oom_score(&self, proc: BorrowedFd<'_>) -> Result<(), StartError> {
        let path = format!("{}/oom_score_adj", std::process::id());
        let written = write_file(proc, &path, &self.spec.oom_score_adj.unwrap_or(0).to_string());
        match self.spec.oom_score_adj {
            Some(score) => written.at("oom", || {
                format!("cannot set the OOM score to {score} (less than the caller's needs CAP_SYS_RESOURCE)")
            }),
            // Whoever may not lower it keeps the caller's.
            None => Ok(()),
        }
    }

    /// The tree that becomes `/dev/shm`.
    fn shm(&self, ipc: Option<BorrowedFd<'_>>) -> Result<OwnedFd, StartError> {
        let fail = || "cannot make `/dev/shm`";
        let attributes = NOSUID | NODEV | NOEXEC;
        let tree = match (&self.spec.namespaces.ipc, ipc) {
            (Ns::Of(_), Some(container)) => shm_of(container)?,
            (Ns::Host, _) => clone_tree(CWD, Path::new("/dev/shm"), false).at("mount", fail)?,
            _ => {
                let size = if self.spec.shm_bytes == 0 { SHM_BYTES } else { self.spec.shm_bytes };
                let options = [("source", "shm"), ("mode", "1777"), ("size", &size.to_string())];
                return new_filesystem("tmpfs", &options, attributes).at("mount", fail);
            }
        };
        set_attributes(tree.as_fd(), attributes, false).at("mount", fail)?;
        Ok(tree)
    }

    /// Tells whether nothing is hidden or protected.
    fn is_open(&self) -> bool {
        self.spec.privileged || self.spec.unmasked
    }

    fn mount_proc(&self) -> Result<OwnedFd, StartError> {
        let proc =
            new_filesystem("proc", &[], NOSUID | NODEV | NOEXEC).at("mount", || "cannot make `/proc`")?;
        self.attach(&proc, "proc")?;
        Ok(proc)
    }

    fn mount_sys(&self, cgroup: &Cgroup) -> Result<OwnedFd, StartError> {
        let readonly = if self.spec.privileged { 0 } else { RDONLY };
        let attributes = NOSUID | NODEV | NOEXEC | readonly;
        let sys = new_filesystem("sysfs", &[], attributes).at("mount", || "cannot make `/sys`")?;
        self.attach(&sys, "sys")?;
        let all = self.spec.privileged && self.spec.cgroup != CgroupPlace::ForLimits;
        let view = if all { View::All } else { View::Own(cgroup) };
        mount_view(sys.as_fd(), view, if self.spec.writable_cgroups { 0 } else { readonly })?;
        if self.is_open() {
            return Ok(sys);
        }
        for path in MASKED_SYS {
            mask(sys.as_fd(), path, self.empty.as_fd(), None)?;
        }
        mask_thermal_throttles(sys.as_fd(), self.empty.as_fd())?;
        Ok(sys)
    }

    fn restrict_proc(&self, proc: BorrowedFd<'_>) -> Result<(), StartError> {
        let null = host_node("null", 1, 3)?;
        for path in MASKED_PROC {
            mask(proc, path, self.empty.as_fd(), Some(null.as_fd()))?;
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
    fn mount_dev(&self, ipc: Option<BorrowedFd<'_>>) -> Result<(OwnedFd, Option<OwnedFd>), StartError> {
        let fail = || "cannot make `/dev`";
        let nodev = if self.spec.privileged || self.spec.opens_devices { 0 } else { NODEV };
        let dev = new_filesystem("tmpfs", &[("mode", "0755"), ("size", "65536k")], NOSUID | NOEXEC | nodev)
            .at("mount", fail)?;
        self.attach(&dev, "dev")?;
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
        if !self.spec.namespaces.no_shm {
            let shm = self.shm(ipc)?;
            folder_in(&dev, "shm")
                .and_then(|place| attach(&shm, &place))
                .at("mount", || "cannot make `/dev/shm`")?;
        }
        folder_mount(&dev, "mqueue", "mqueue", &[], NOEXEC)?;
        let gid = IdRange::host(self.spec.ids, TTY_GROUP).to_string();
        let options = [("newinstance", ""), ("ptmxmode", "0666"), ("mode", "0620"), ("gid", &*gid)];
        let devpts = folder_mount(&dev, "pts", "devpts", &options, NOEXEC)?;
        if self.spec.tty.is_none() {
            return Ok((dev, None));
        }
        let (master, slave) = pty::open(devpts.as_fd())?;
        bind_node(dev.as_fd(), "console", slave.as_fd()).at("pty", || "cannot make `/dev/console`")?;
        Ok((dev, Some(master)))
    }
}

/// Opens the `/dev/shm` of another container, from inside of its mounts.
fn shm_of(container: BorrowedFd<'_>) -> Result<OwnedFd, StartError> {
    let fail = || "cannot share the container's `/dev/shm`";
    let own = std::fs::File::open("/proc/self/ns/mnt").at("ipc", fail)?;
    move_into_thread_name_spaces(container, ThreadNameSpaceType::MOUNT).at("ipc", fail)?;
    // Whatever the container has put there, a link leads to nothing but its own files.
    let resolve = ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let found = rustix::fs::openat2(CWD, "/dev/shm", OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve);
    let tree = found.and_then(|shm| clone_tree(&shm, Path::new(""), false));
    move_into_link_name_space(own.as_fd(), Some(LinkNameSpaceType::Mount)).at("ipc", fail)?;
    tree.at("ipc", fail)
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

/// Writes a value below our own procfs.
fn write_file(base: BorrowedFd<'_>, path: &str, value: &str) -> Result<(), Errno> {
    rustix::io::write(open_to_write(base, path)?, value.as_bytes()).map(drop)
}

fn open_to_write(base: BorrowedFd<'_>, path: &str) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    rustix::fs::openat2(base, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty(), resolve)
}
