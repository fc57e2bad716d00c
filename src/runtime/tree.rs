//! The files of a container as it sees them, for whoever looks from outside.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use kiln_cache::Mounts;
use rustix::fs::{Mode, OFlags};

use super::error::{At, StartError};
use super::inroot::Root;
use super::rootfs::{self, Stubs};
use super::spec::{Spec, Target};

/// A merged tree. Every path is resolved inside it, by the kernel; symbolic links can't lead out of it, and those of
/// procfs that lead anywhere are refused.
#[derive(Debug)]
pub struct Tree(OwnedFd);

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
            0 => Ok(Tree(root)),
            _ => Err(StartError::new("root", "the container is not running")),
        }
    }

    /// The tree of layers that no container runs on, as a mount that ends with this.
    pub fn of_layers(mounts: &Mounts) -> Result<Tree, StartError> {
        let spec = Spec { rootfs: mounts.clone(), ..Spec::default() };
        rootfs::mount(&spec, &mut Stubs::default()).map(Tree)
    }

    /// Opens `path`.
    pub fn open(&self, path: impl AsRef<Path>, flags: OFlags) -> io::Result<OwnedFd> {
        Ok(Root(self.0.as_fd()).open(path, flags)?)
    }

    /// Reads a regular file of at most `limit` bytes; `None` when there is none.
    pub fn read(&self, path: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        Root(self.0.as_fd()).read(path, limit)
    }
}

impl AsFd for Tree {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
