//! What killed kilns left on the machine: mounts of a store's folders, and cgroups without a process.
//!
//! A step's mounts live in namespaces that end with it, and its cgroup goes with it; so anything found here is the
//! work of a kill at the wrong moment, or of an older kernel.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::mount::{UnmountFlags, unmount};

use super::cgroup;

/// The folders of a store on which only kiln mounts.
const OURS: [&str; 4] = ["tmp", "snapshots", "trash", "empty"];
/// A cgroup is empty for a moment before its first process comes.
const YOUNG: Duration = Duration::from_secs(60);

/// Returns what is mounted on folders of the store at `root` for all to see.
pub fn stale_mounts(root: &Path) -> Vec<PathBuf> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let places = mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).map(unescaped);
    places.filter(|place| OURS.iter().any(|folder| place.starts_with(root.join(folder)))).collect()
}

/// Returns kiln's cgroups that no process is in any more.
pub fn stale_cgroups() -> Vec<PathBuf> {
    let mut stale = Vec::new();
    for folder in cgroup::our_folders() {
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        let folders = entries.map(|entry| entry.path()).filter(|path| path.is_dir());
        stale.extend(folders.filter(|path| is_empty(path) && !is_young(path)));
    }
    stale
}

/// Removes both; what is in use after all stays.
pub fn remove_stale(root: &Path) {
    for place in stale_mounts(root).iter().rev() {
        let _ = unmount(place, UnmountFlags::DETACH);
    }
    for folder in stale_cgroups() {
        let _ = fs::remove_dir(folder);
    }
}

fn is_empty(cgroup: &Path) -> bool {
    fs::read_to_string(cgroup.join("cgroup.procs")).is_ok_and(|processes| processes.is_empty())
}

fn is_young(cgroup: &Path) -> bool {
    let age = fs::metadata(cgroup).and_then(|metadata| metadata.modified()).map(|time| time.elapsed());
    !age.is_ok_and(|age| age.is_ok_and(|age| age > YOUNG))
}

/// Undoes mountinfo's octal escapes.
pub(super) fn unescaped(text: &str) -> PathBuf {
    PathBuf::from(
        text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\"),
    )
}
