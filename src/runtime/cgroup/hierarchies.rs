//! Where this machine's controllers are.

use std::fs;
use std::path::{Path, PathBuf};

use super::{OURS, v2};

const CGROUP_SUPER_MAGIC: i64 = 0x27_e0eb;
pub(super) const CGROUP2_SUPER_MAGIC: i64 = 0x6367_7270;

/// A mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hierarchy {
    /// Where it is mounted.
    pub(super) mount_point: PathBuf,
    /// The controllers of v1, and `name=` of a hierarchy without any; `None` is v2.
    pub(super) v1: Option<Vec<String>>,
}

/// Reads the hierarchies out of `/proc/self/mountinfo`.
pub(super) fn hierarchies(mountinfo: &str) -> Vec<Hierarchy> {
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

/// Finds the two hierarchies of a container without limits, v2 and v1's of memory, below `top`, where distributions mount
/// them: a tenth of a millisecond sooner than by the list of mounts. `None` where they aren't so.
pub(super) fn usual(top: &Path) -> Option<Vec<Hierarchy>> {
    let kind = |path: &Path| rustix::fs::statfs(path).ok().map(|stat| stat.f_type);
    if kind(top) == Some(CGROUP2_SUPER_MAGIC) {
        return Some(vec![Hierarchy { mount_point: top.to_owned(), v1: None }]);
    }
    let (unified, memory) = (top.join("unified"), top.join("memory"));
    // A link would lead to a hierarchy of several controllers.
    let is_memory = fs::symlink_metadata(&memory).is_ok_and(|metadata| metadata.is_dir())
        && kind(&memory) == Some(CGROUP_SUPER_MAGIC)
        && memory.join("memory.usage_in_bytes").exists();
    let names = vec!["memory".to_owned()];
    (is_memory && kind(&unified) == Some(CGROUP2_SUPER_MAGIC)).then(|| {
        vec![Hierarchy { mount_point: unified, v1: None }, Hierarchy { mount_point: memory, v1: Some(names) }]
    })
}

/// Returns the folder that is kiln's in each hierarchy, where there is one.
pub(in crate::runtime) fn our_folders() -> Vec<PathBuf> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let folders = hierarchies(&mountinfo).into_iter().map(|hierarchy| hierarchy.mount_point.join(OURS));
    folders.filter(|folder| folder.is_dir()).collect()
}

/// Finds the one that has `controller`, by its name in v1.
pub(super) fn find<'a>(all: &'a [Hierarchy], controller: &str) -> Option<&'a Hierarchy> {
    let has = |hierarchy: &&Hierarchy| {
        (hierarchy.v1.as_ref()).is_some_and(|names| names.iter().any(|name| name == controller))
    };
    all.iter().find(has).or_else(|| {
        all.iter().find(|hierarchy| {
            let controllers = fs::read_to_string(hierarchy.mount_point.join("cgroup.controllers"));
            hierarchy.v1.is_none()
                && controllers
                    .is_ok_and(|names| names.split_whitespace().any(|name| name == v2::name(controller)))
        })
    })
}

/// Finds the hierarchy of v2, whichever controllers it has.
pub(super) fn find_v2(all: &[Hierarchy]) -> Option<&Hierarchy> {
    all.iter().find(|hierarchy| hierarchy.v1.is_none())
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
    fn the_usual_places_are_those_of_the_list_of_mounts() {
        let top = Path::new("/sys/fs/cgroup");
        let listed = hierarchies(&fs::read_to_string("/proc/self/mountinfo").unwrap());
        for found in usual(top).into_iter().flatten() {
            assert!(listed.contains(&found), "{found:?} is none of {listed:?}");
        }
        assert_eq!(usual(Path::new("/proc")), None);
    }

    #[test]
    fn each_controller_is_found_in_its_own_hierarchy() {
        let all = hierarchies(HYBRID);
        assert_eq!(find(&all, "memory").unwrap().mount_point, Path::new("/sys/fs/cgroup/memory"));
        assert_eq!(find(&all, "cpu").unwrap().mount_point, Path::new("/sys/fs/cgroup/cpu,cpuacct"));
        assert_eq!(find_v2(&all).unwrap().mount_point, Path::new("/sys/fs/cgroup/unified"));
        assert_eq!(all[1].v1, Some(vec!["name=systemd".to_owned()]));
    }
}
