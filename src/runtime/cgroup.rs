//! Limits, through whichever hierarchy each controller lives in.
//!
//! A machine may have v1 hierarchies, v2, or both at once; the choice is made controller by controller. Without
//! limits nothing is made here: a process tree is killed by its pid namespace. The folders are
//! `<hierarchy>/kiln/<id>`.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::error::{At, StartError};
use super::mounts::{attach, new_filesystem};
use super::spec::Limits;
use crate::sys::mount::{NODEV, NOEXEC, NOSUID, RDONLY, set_attributes};

/// The folder below each hierarchy's top that is kiln's.
const OURS: &str = "kiln";
/// The period that a CPU quota counts in, microseconds; docker's.
const CPU_PERIOD_US: u64 = 100_000;
const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;
/// Attempts to remove a folder whose tasks are just ending, and the pause between them.
const REMOVE_ATTEMPTS: u32 = 50;
const REMOVE_PAUSE: std::time::Duration = std::time::Duration::from_millis(2);

/// A mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hierarchy {
    mount_point: PathBuf,
    /// The controllers of v1, and `name=` of a hierarchy without any; `None` is v2.
    v1: Option<Vec<String>>,
}

/// Reads the hierarchies out of `/proc/self/mountinfo`.
fn hierarchies(mountinfo: &str) -> Vec<Hierarchy> {
    /// Options of the superblock that are no controllers.
    const PLAIN: [&str; 7] = ["rw", "ro", "xattr", "noprefix", "clone_children", "nsdelegate", "none"];
    let parse = |line: &str| -> Option<Hierarchy> {
        let (left, right) = line.split_once(" - ")?;
        let mount_point = PathBuf::from(left.split(' ').nth(4)?);
        let mut right = right.split(' ');
        let (kind, options) = (right.next()?, right.nth(1)?);
        let controllers = || {
            let options = options.split(',').filter(|option| !PLAIN.contains(option));
            options.filter(|option| !option.starts_with("release_agent")).map(str::to_owned).collect()
        };
        match kind {
            "cgroup" => Some(Hierarchy { mount_point, v1: Some(controllers()) }),
            "cgroup2" => Some(Hierarchy { mount_point, v1: None }),
            _ => None,
        }
    };
    mountinfo.lines().filter_map(parse).collect()
}

/// Returns the folder that is kiln's in each hierarchy, where there is one.
pub(super) fn our_folders() -> Vec<PathBuf> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let folders = hierarchies(&mountinfo).into_iter().map(|hierarchy| hierarchy.mount_point.join(OURS));
    folders.filter(|folder| folder.is_dir()).collect()
}

fn find<'a>(all: &'a [Hierarchy], controller: &str) -> Option<&'a Hierarchy> {
    let has = |hierarchy: &&Hierarchy| {
        (hierarchy.v1.as_ref()).is_some_and(|names| names.iter().any(|name| name == controller))
    };
    all.iter().find(has).or_else(|| {
        all.iter().find(|hierarchy| {
            let controllers = fs::read_to_string(hierarchy.mount_point.join("cgroup.controllers"));
            hierarchy.v1.is_none()
                && controllers.is_ok_and(|names| names.split_whitespace().any(|name| name == controller))
        })
    })
}

/// The cgroup of one process tree.
#[derive(Debug, Default)]
pub(super) struct Cgroup {
    folders: Vec<PathBuf>,
    /// Files to which the child writes itself (v1).
    pub(super) tasks: Vec<OwnedFd>,
    /// The folder into which the child is cloned (v2).
    pub(super) v2: Option<OwnedFd>,
    memory: Option<PathBuf>,
}

impl Cgroup {
    /// Makes the folders that `limits` need and writes the limits.
    pub(super) fn create(id: &str, limits: &Limits) -> Result<Cgroup, StartError> {
        let mut cgroup = Cgroup::default();
        if limits.is_empty() {
            return Ok(cgroup);
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if id.is_empty() || id.starts_with('.') || !id.bytes().all(allowed) {
            return Err(StartError::new("cgroup", format!("`{id}` can't name a cgroup")));
        }
        let mountinfo = fs::read_to_string("/proc/self/mountinfo")
            .at("cgroup", || "cannot read `/proc/self/mountinfo`")?;
        let all = hierarchies(&mountinfo);
        let result = cgroup.limit(&all, id, limits);
        match result {
            Ok(()) => Ok(cgroup),
            Err(error) => {
                cgroup.remove();
                Err(error)
            }
        }
    }

    fn limit(&mut self, all: &[Hierarchy], id: &str, limits: &Limits) -> Result<(), StartError> {
        if let Some(bytes) = limits.memory {
            let (folder, is_v2) = self.join(all, "memory", id)?;
            let file = if is_v2 { "memory.max" } else { "memory.limit_in_bytes" };
            write(&folder.join(file), &bytes.to_string())?;
            self.memory = Some(folder.join(if is_v2 { "memory.events" } else { "memory.oom_control" }));
        }
        if let Some(millis) = limits.cpus_millis {
            let (folder, is_v2) = self.join(all, "cpu", id)?;
            let quota = millis.saturating_mul(CPU_PERIOD_US) / 1000;
            if is_v2 {
                write(&folder.join("cpu.max"), &format!("{quota} {CPU_PERIOD_US}"))?;
            } else {
                write(&folder.join("cpu.cfs_period_us"), &CPU_PERIOD_US.to_string())?;
                write(&folder.join("cpu.cfs_quota_us"), &quota.to_string())?;
            }
        }
        if let Some(pids) = limits.pids {
            let (folder, _) = self.join(all, "pids", id)?;
            write(&folder.join("pids.max"), &pids.to_string())?;
        }
        Ok(())
    }

    /// Makes the folder in the hierarchy of `controller`, once for each hierarchy.
    fn join(&mut self, all: &[Hierarchy], controller: &str, id: &str) -> Result<(PathBuf, bool), StartError> {
        let Some(hierarchy) = find(all, controller) else {
            let text = format!("this machine has no cgroup controller `{controller}` to limit it by");
            return Err(StartError::new("cgroup", text));
        };
        let is_v2 = hierarchy.v1.is_none();
        let ours = hierarchy.mount_point.join(OURS);
        let folder = ours.join(id);
        let fail = || format!("cannot make the cgroup `{}`", folder.display());
        make_folder(&ours).at("cgroup", fail)?;
        if is_v2 {
            for parent in [&hierarchy.mount_point, &ours] {
                write(&parent.join("cgroup.subtree_control"), &format!("+{controller}"))?;
            }
        }
        if self.folders.contains(&folder) {
            return Ok((folder, is_v2));
        }
        make_folder(&folder).at("cgroup", fail)?;
        self.folders.push(folder.clone());
        if is_v2 {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            self.v2 = Some(rustix::fs::open(&folder, flags, Mode::empty()).at("cgroup", fail)?);
        } else {
            self.tasks.push(open_tasks(&folder).at("cgroup", fail)?);
        }
        Ok((folder, is_v2))
    }

    /// Returns the folders, for processes that join later.
    pub(super) fn folders(&self) -> &[PathBuf] {
        &self.folders
    }

    /// Tells whether the kernel killed a process for memory; to be asked before the removal.
    pub(super) fn oom_killed(&self) -> bool {
        let Some(text) = self.memory.as_ref().and_then(|file| fs::read_to_string(file).ok()) else {
            return false;
        };
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse::<u64>().ok());
        count.unwrap_or(0) > 0
    }

    /// Removes the folders; tasks that are just ending are waited for.
    pub(super) fn remove(&mut self) {
        for folder in self.folders.drain(..) {
            for _ in 0..REMOVE_ATTEMPTS {
                match fs::remove_dir(&folder) {
                    Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                        std::thread::sleep(REMOVE_PAUSE)
                    }
                    _ => break,
                }
            }
        }
    }
}

fn make_folder(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

fn open_tasks(folder: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(folder.join("tasks"), flags, Mode::empty())?)
}

fn write(file: &Path, value: &str) -> Result<(), StartError> {
    fs::write(file, value).at("cgroup", || format!("cannot write `{value}` to `{}`", file.display()))
}

/// Opens what a process needs to join the cgroup made earlier: v1 task files, and the v2 folder.
pub(super) fn open_existing(folders: &[PathBuf]) -> io::Result<(Vec<OwnedFd>, Option<OwnedFd>)> {
    let (mut tasks, mut v2) = (Vec::new(), None);
    for folder in folders {
        if folder.join("tasks").exists() {
            tasks.push(open_tasks(folder)?);
        } else {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            v2 = Some(rustix::fs::open(folder, flags, Mode::empty())?);
        }
    }
    Ok((tasks, v2))
}

/// Mounts `/sys/fs/cgroup` on our own sysfs, as seen from the new cgroup namespace.
///
/// Each v1 hierarchy costs a mount; a step without limits has nothing to read there and goes without `v1`.
pub(super) fn mount_view(sys: BorrowedFd<'_>, v1: bool, readonly: u64) -> Result<(), StartError> {
    let fail = || "cannot mount `/sys/fs/cgroup`";
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let Ok(place) = rustix::fs::openat(sys, "fs/cgroup", flags, Mode::empty()) else { return Ok(()) };
    let attributes = NOSUID | NODEV | NOEXEC | readonly;
    let is_v2 = rustix::fs::statfs("/sys/fs/cgroup").is_ok_and(|stat| stat.f_type == CGROUP2_SUPER_MAGIC);
    if is_v2 {
        let tree = new_filesystem("cgroup2", &[], attributes).at("mount", fail)?;
        return attach(&tree, &place).at("mount", fail);
    }
    if !v1 {
        return Ok(());
    }
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").at("mount", fail)?;
    let top = new_filesystem("tmpfs", &[("mode", "0755")], NOSUID | NODEV | NOEXEC).at("mount", fail)?;
    attach(&top, &place).at("mount", fail)?;
    for hierarchy in hierarchies(&mountinfo) {
        let Some(name) = hierarchy.mount_point.file_name() else { continue };
        let tree = match &hierarchy.v1 {
            None => new_filesystem("cgroup2", &[], attributes),
            Some(names) => new_filesystem("cgroup", &v1_options(names), attributes),
        };
        // A hierarchy that this namespace may not see is left out.
        let Ok(tree) = tree else { continue };
        if rustix::fs::mkdirat(&top, name, Mode::from_raw_mode(0o755)).is_ok() {
            let place = rustix::fs::openat(&top, name, flags, Mode::empty()).at("mount", fail)?;
            attach(&tree, &place).at("mount", fail)?;
        }
    }
    set_attributes(top.as_fd(), RDONLY, false).at("mount", fail)
}

fn v1_options(names: &[String]) -> Vec<(&str, &str)> {
    let mut options = Vec::new();
    for name in names {
        match name.split_once('=') {
            Some(pair) => options.extend([("none", ""), pair]),
            None => options.push((name.as_str(), "")),
        }
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
30 24 0:27 / /sys/fs/cgroup ro,nosuid shared:9 - tmpfs tmpfs ro,mode=755
31 30 0:28 / /sys/fs/cgroup/unified rw shared:10 - cgroup2 cgroup2 rw,nsdelegate
32 30 0:29 / /sys/fs/cgroup/systemd rw shared:11 - cgroup cgroup rw,xattr,name=systemd
33 30 0:30 / /sys/fs/cgroup/cpu,cpuacct rw shared:12 - cgroup cgroup rw,cpu,cpuacct
34 30 0:31 / /sys/fs/cgroup/memory rw shared:13 - cgroup cgroup rw,memory
";

    #[test]
    fn each_controller_is_found_in_its_own_hierarchy() {
        let all = hierarchies(HYBRID);
        assert_eq!(find(&all, "memory").unwrap().mount_point, Path::new("/sys/fs/cgroup/memory"));
        assert_eq!(find(&all, "cpu").unwrap().mount_point, Path::new("/sys/fs/cgroup/cpu,cpuacct"));
        assert_eq!(all[0].v1, None);
        assert_eq!(v1_options(all[1].v1.as_ref().unwrap()), [("none", ""), ("name", "systemd")]);
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_refused() {
        let limits = Limits { pids: Some(5), ..Limits::default() };
        for id in ["", "..", "a/b", ".x"] {
            assert!(Cgroup::create(id, &limits).unwrap_err().message.contains("can't name a cgroup"), "{id}");
        }
        assert!(Cgroup::create("..", &Limits::default()).is_ok());
    }
}
