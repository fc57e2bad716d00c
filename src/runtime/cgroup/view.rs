//! `/sys/fs/cgroup` as a process tree sees it.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{Mode, OFlags};

use super::Cgroup;
use super::hierarchies::{CGROUP2_SUPER_MAGIC, hierarchies};
use crate::runtime::error::{At, StartError};
use crate::runtime::mounts::{attach, new_filesystem};
use crate::sys::mount::{NODEV, NOEXEC, NOSUID, RDONLY, set_attributes};

/// Which hierarchies are shown.
#[derive(Debug, Clone, Copy)]
pub(in crate::runtime) enum View<'a> {
    /// Those that it has a cgroup in.
    Own(&'a Cgroup),
    /// All of the machine's.
    All,
}

/// Mounts `/sys/fs/cgroup` on our own sysfs, as seen from the new cgroup namespace.
///
/// Each v1 hierarchy costs a mount: only those that the process tree has a cgroup in are there, unless it may do
/// everything.
pub(in crate::runtime) fn mount_view(
    sys: BorrowedFd<'_>,
    view: View<'_>,
    readonly: u64,
) -> Result<(), StartError> {
    let fail = || "cannot mount `/sys/fs/cgroup`";
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let Ok(place) = rustix::fs::openat(sys, "fs/cgroup", flags, Mode::empty()) else { return Ok(()) };
    let attributes = NOSUID | NODEV | NOEXEC | readonly;
    let is_v2 = rustix::fs::statfs("/sys/fs/cgroup").is_ok_and(|stat| stat.f_type == CGROUP2_SUPER_MAGIC);
    if is_v2 {
        let tree = new_filesystem("cgroup2", &[], attributes).at("mount", fail)?;
        return attach(&tree, &place).at("mount", fail);
    }
    let hierarchies = match view {
        View::Own(cgroup) if cgroup.hierarchies.is_empty() => return Ok(()),
        View::Own(cgroup) => cgroup.hierarchies.clone(),
        View::All => hierarchies(&fs::read_to_string("/proc/self/mountinfo").at("mount", fail)?),
    };
    let top = new_filesystem("tmpfs", &[("mode", "0755")], NOSUID | NODEV | NOEXEC).at("mount", fail)?;
    attach(&top, &place).at("mount", fail)?;
    for hierarchy in hierarchies {
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

    #[test]
    fn a_hierarchy_is_mounted_by_its_controllers_or_its_name() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(v1_options(&names(&["name=systemd"])), [("none", ""), ("name", "systemd")]);
        assert_eq!(v1_options(&names(&["cpu", "cpuacct"])), [("cpu", ""), ("cpuacct", "")]);
    }
}
