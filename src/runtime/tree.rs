//! The files of a container as it sees them, for whoever looks from outside.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use kiln_cache::Mounts;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxAttributes, StatxFlags, statx};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::{ThreadNameSpaceType, UnshareFlags, move_into_thread_name_spaces};

use super::error::{At, StartError};
use super::inroot::Root;
use super::mounts::{attach, clone_tree, kind_of};
use super::rootfs::{self, Stubs};
use super::spec::{Mount, Spec, Target};
use crate::sys::mount::{RDONLY, make_private, set_attributes};
use crate::sys::process::unshare_namespaces;

/// A merged tree. Every path is resolved inside it, by the kernel; symbolic links can't lead out of it, and those of
/// procfs that lead anywhere are refused.
#[derive(Debug)]
pub struct Tree {
    root: OwnedFd,
    /// What is mounted in the tree goes with its namespace.
    _namespace: Option<OwnedFd>,
}

impl Tree {
    /// The tree of a running container, with all that is mounted in it.
    pub fn of_running(target: &Target) -> Result<Tree, StartError> {
        // Held while the path is opened: the pid can't be another process's meanwhile.
        let process = target.open()?;
        let fail = || "cannot open the container's root";
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root =
            rustix::fs::open(format!("/proc/{}/root", target.pid), flags, Mode::empty()).at("root", fail)?;
        let ended = rustix::event::poll(
            &mut [rustix::event::PollFd::new(&process, rustix::event::PollFlags::IN)],
            Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 }),
        );
        match ended.at("root", fail)? {
            0 => Ok(Tree { root, _namespace: None }),
            _ => Err(StartError::new("root", "the container is not running")),
        }
    }

    /// The root filesystem of a running container, without what is mounted in it, as a mount of its own.
    pub fn clone_of_running(target: &Target) -> Result<Tree, StartError> {
        let process = target.open()?;
        let fail = || "cannot enter the container's mount namespace";
        let clone = || {
            // Only a thread that shares its root folder with no other may go elsewhere.
            unshare_namespaces(UnshareFlags::FS).at("mount", fail)?;
            let mounts = ThreadNameSpaceType::MOUNT;
            move_into_thread_name_spaces(process.as_fd(), mounts).at("mount", fail)?;
            clone_tree(CWD, Path::new("/"), false).at("mount", || "cannot clone the container's root")
        };
        let joined = std::thread::scope(|scope| scope.spawn(clone).join());
        let root = joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        make_private(root.as_fd()).at("mount", || "cannot set the mount apart")?;
        Ok(Tree { root, _namespace: None })
    }

    /// Attaches the tree, which nobody has attached before, to a folder for all to see.
    pub fn attach_at(&self, folder: &Path) -> Result<(), StartError> {
        let fail = || format!("cannot mount at `{}`", folder.display());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let place = rustix::fs::open(folder, flags, Mode::empty()).at("mount", fail)?;
        attach(&self.root, place).at("mount", fail)
    }

    /// The tree of layers that no container runs on, as a mount that ends with this.
    pub fn of_layers(mounts: &Mounts) -> Result<Tree, StartError> {
        let spec = Spec { rootfs: mounts.clone(), ..Spec::default() };
        Ok(Tree { root: rootfs::mount(&spec, &[], &mut Stubs::default(), None)?, _namespace: None })
    }

    /// The tree that a container would run on, with `mounts` (binds only) in it; nobody else sees them.
    ///
    /// They are in a namespace that nobody is in: it ends with this, or with the process, however that ends.
    pub fn of_stopped(rootfs: &Mounts, mounts: &[Mount], readonly: bool) -> Result<Tree, StartError> {
        let spec = Spec {
            rootfs: rootfs.clone(),
            mounts: mounts.to_vec(),
            // Mount points come from a layer in memory, so that looking changes nothing.
            remove_stubs: true,
            ..Spec::default()
        };
        let sources = rootfs::mount_sources(&spec, None)?;
        let root = rootfs::mount(&spec, &sources, &mut Stubs::default(), None)?;
        let mount_all = |attach_point: Option<&Path>| {
            if let Some(place) = attach_point {
                mount_at(&root, place, mounts, &sources)?;
            }
            match readonly {
                true => {
                    set_attributes(root.as_fd(), RDONLY, false).at("mount", || "cannot make `/` read-only")
                }
                false => Ok(()),
            }
        };
        let namespace = match sources.is_empty() {
            true => mount_all(None).map(|()| None)?,
            false => Some(apart(|| mount_all(Some(&rootfs::attach_point(rootfs))))?),
        };
        Ok(Tree { root, _namespace: namespace })
    }

    /// Opens `path`.
    pub fn open(&self, path: impl AsRef<Path>, flags: OFlags) -> io::Result<OwnedFd> {
        Ok(Root(self.root.as_fd()).open(path, flags)?)
    }

    /// Reads a regular file of at most `limit` bytes; `None` when there is none.
    pub fn read(&self, path: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        Root(self.root.as_fd()).read(path, limit)
    }
}

impl AsFd for Tree {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

/// Tells whether something is mounted at `path`.
pub fn is_mount(path: &Path) -> bool {
    let asked = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty());
    asked.is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Does `work` in a mount namespace that a thread makes and leaves behind.
fn apart(work: impl FnOnce() -> Result<(), StartError> + Send) -> Result<OwnedFd, StartError> {
    let fail = || "cannot make a mount namespace";
    let work = move || {
        // Paths of this thread are resolved apart from those of the others from here on.
        unshare_namespaces(UnshareFlags::NEWNS).at("mount", fail)?;
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).at("mount", fail)?;
        work()?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        rustix::fs::open("/proc/thread-self/ns/mnt", flags, Mode::empty()).at("mount", fail)
    };
    let joined = std::thread::scope(|scope| scope.spawn(work).join());
    joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Attaches `root` somewhere, and `sources` in it.
fn mount_at(root: &OwnedFd, place: &Path, mounts: &[Mount], sources: &[OwnedFd]) -> Result<(), StartError> {
    let fail = || "cannot mount the root filesystem";
    let place = rustix::fs::open(place, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).at("mount", fail)?;
    attach(root, place).at("mount", fail)?;
    for (mount, source) in mounts.iter().zip(sources) {
        let fail = || format!("cannot mount `{}`", mount.target());
        let kind = kind_of(source).at("mount", fail)?;
        let place = Root(root.as_fd()).ensure(mount.target(), kind, (0, 0), &mut Vec::new());
        attach(source, place.at("mount", fail)?).at("mount", fail)?;
    }
    Ok(())
}
