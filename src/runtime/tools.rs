//! A root for one process in a container: the container's files and, where it has none, those of an image with tools.
//!
//! 1. The parent mounts the image's layers, attached to nothing, and reads which mounts the container has.
//! 2. The process, in the container's mount namespace, makes a copy of that namespace for itself. Its root becomes an
//!    overlay of the container's root and the tools; what it writes there is kept in memory, and gone with it.
//! 3. The tools are also at [`PLACE`]: a container whose `/bin` is a link hides theirs.
//! 4. All that is mounted in the container (`/proc`, `/dev`, volumes) is mounted there again: that is the container's
//!    own. So is everything below `/proc/1/root`.
//!
//! The container sees nothing of it.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use kiln_cache::Mounts;
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, fsconfig_create, fsconfig_set_fd,
    fsconfig_set_string, fsmount, fsopen, mount_change,
};
use rustix::thread::UnshareFlags;

use super::error::{At, StartError};
use super::inroot::Root;
use super::leftovers::unescaped;
use super::mounts::{attach, clone_tree, new_filesystem};
use super::rootfs::{self, Stubs};
use super::spec::{IdRange, Spec, Target};
use super::userns;
use crate::sys::mount::{NODEV, NOSUID};
use crate::sys::process::unshare_namespaces;

/// Where the tools are as a whole.
pub const PLACE: &str = "/.kiln";

/// What the process takes along into the container.
#[derive(Debug)]
pub(super) struct Tools {
    /// The image's files, as a mount.
    pub(super) files: OwnedFd,
    /// Where something is mounted on the container's root itself.
    mounted: Vec<PathBuf>,
    /// The ids of the container's user namespace.
    ids: Option<IdRange>,
}

impl Tools {
    /// Opens the image's layers, and looks at the container's mounts, from outside.
    pub(super) fn open(layers: &Mounts, ids: Option<IdRange>, target: &Target) -> Result<Self, StartError> {
        let path = format!("/proc/{}/mountinfo", target.pid);
        let mountinfo = fs::read_to_string(path).at("tools", || "cannot read the container's mounts")?;
        Ok(Self { files: files(layers, ids, target)?, mounted: mounted_on_root(&mountinfo), ids })
    }

    /// Changes the root of this process, which is in the container's mount namespace.
    pub(super) fn enter(&self) -> Result<(), StartError> {
        let fail = || "cannot make a root with tools";
        unshare_namespaces(UnshareFlags::NEWNS).at("tools", fail)?;
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).at("tools", fail)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let old = rustix::fs::open("/", flags, Mode::empty()).at("tools", fail)?;
        let merged = self.merge(&old).at("tools", || "cannot stack the container's root on the tools")?;
        attach(&merged, &old).at("tools", fail)?;
        rustix::fs::mkdirat(&merged, &PLACE[1..], Mode::from_raw_mode(0o755)).at("tools", fail)?;
        let place = Root(merged.as_fd()).open(PLACE, OFlags::PATH).at("tools", fail)?;
        attach(&self.files, place).at("tools", fail)?;
        for place in &self.mounted {
            let fail = || format!("cannot mount the container's `{}`", place.display());
            let from = Root(old.as_fd()).open(place, OFlags::PATH).at("tools", fail)?;
            let tree = clone_tree(&from, Path::new(""), true).at("tools", fail)?;
            let to = Root(merged.as_fd()).open(place, OFlags::PATH).at("tools", fail)?;
            attach(tree, to).at("tools", fail)?;
        }
        rustix::process::fchdir(&merged).at("tools", fail)?;
        rustix::process::chroot(".").at("tools", fail)
    }

    fn merge(&self, container: &OwnedFd) -> Result<OwnedFd, Errno> {
        let changes = new_filesystem("tmpfs", &[("mode", "0755")], NODEV | NOSUID)?;
        let folder = |name: &str| {
            rustix::fs::mkdirat(&changes, name, Mode::from_raw_mode(0o755))?;
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::openat(&changes, name, flags, Mode::empty())
        };
        let fs = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_fd(&fs, "lowerdir+", container)?;
        fsconfig_set_fd(&fs, "lowerdir+", &self.files)?;
        let upper = folder("upper")?;
        let owner = IdRange::host(self.ids, 0);
        let (uid, gid) = (Uid::from_raw(owner), Gid::from_raw(owner));
        rustix::fs::chownat(&upper, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?;
        fsconfig_set_fd(&fs, "upperdir", &upper)?;
        fsconfig_set_fd(&fs, "workdir", &folder("work")?)?;
        for (key, value) in rootfs::OPTIONS {
            fsconfig_set_string(&fs, key, value)?;
        }
        fsconfig_create(&fs)?;
        fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_NODEV)
    }
}

/// Mounts the layers with the ids of the container.
fn files(layers: &Mounts, ids: Option<IdRange>, target: &Target) -> Result<OwnedFd, StartError> {
    if ids.is_none() {
        return rootfs::view(&layers.lowers);
    }
    let namespace = fs::File::open(format!("/proc/{}/ns/user", target.pid))
        .at("tools", || "cannot open the container's user namespace")?;
    if let [layer] = layers.lowers.as_slice() {
        let files = rootfs::view(&layers.lowers)?;
        return userns::map(files.as_fd(), layer, namespace.as_fd()).map(|()| files);
    }
    let rootfs = Mounts { upper: None, work: None, ..layers.clone() };
    rootfs::mount(&Spec { rootfs, ..Spec::default() }, &[], &mut Stubs::default(), Some(namespace.as_fd()))
}

/// Returns where something is mounted directly on the root's mount.
fn mounted_on_root(mountinfo: &str) -> Vec<PathBuf> {
    let mounts: Vec<(&str, &str, PathBuf)> = (mountinfo.lines())
        .filter_map(|line| {
            let mut fields = line.split(' ');
            Some((fields.next()?, fields.next()?, unescaped(fields.nth(2)?)))
        })
        .collect();
    let root = mounts.iter().rev().find(|(.., place)| place == Path::new("/")).map(|(id, ..)| *id);
    let on_root = mounts.iter().filter(|(_, parent, place)| Some(*parent) == root && place != Path::new("/"));
    on_root.map(|(.., place)| place.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_on_other_mounts_come_with_those() {
        let text = "20 1 0:1 / / rw - overlay overlay rw\n21 20 0:2 / /proc rw - proc proc rw\n\
                    22 21 0:2 /sys /proc/sys ro - proc proc rw\n23 20 8:1 /x /with\\040space rw - xfs /dev/a rw\n";
        assert_eq!(mounted_on_root(text), ["/proc", "/with space"].map(PathBuf::from));
    }
}
