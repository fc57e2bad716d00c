//! User namespaces: what is root inside is nobody of the machine's outside.
//!
//! The namespace only holds ids and rights. Mounts, processes and the network stay the machine's own namespaces, made
//! as for any other process tree and entered before: root inside has no rights over them, whatever its capabilities.
//!
//! Files keep their ids on disk: the layers, the writable one too, and volumes are mounted with ids mapped. So what is
//! made through such a mount must be made as somebody inside: [`assume`].

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::{WaitId, WaitIdOptions, waitid};
use rustix::thread::{CapabilitySets, ThreadNameSpaceType, move_into_thread_name_spaces};

use super::error::{At, StartError};
use super::mounts::clone_tree;
use super::spec::IdRange;
use crate::sys;
use crate::sys::clone::{Cloned, clone_process};
use crate::sys::mount::map_ids;

/// Makes a namespace in which `range` is 0 and up; it lives as long as its descriptor.
pub(super) fn make(range: IdRange) -> Result<OwnedFd, StartError> {
    let map = format!("0 {} {}", range.first, range.count);
    make_mapped(&map, &map)
}

/// Makes a namespace with the user and group ids of two maps, in the kernel's form.
pub fn make_mapped(uids: &str, gids: &str) -> Result<OwnedFd, StartError> {
    let fail = || "cannot make a user namespace";
    let (pid, pidfd) = match clone_process(libc::CLONE_NEWUSER as u64, None).at("userns", fail)? {
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
        // It is there to be looked at, until it is killed.
        Cloned::Child => loop {
            std::thread::park();
        },
    };
    let written = [("uid_map", uids), ("gid_map", gids)]
        .iter()
        .try_for_each(|(name, map)| fs::write(format!("/proc/{pid}/{name}"), map));
    let opened = written.and_then(|()| fs::File::open(format!("/proc/{pid}/ns/user")));
    let _ = sys::process::pidfd_signal(pidfd.as_fd(), libc::SIGKILL);
    let _ = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED));
    opened.map(OwnedFd::from).at("userns", fail)
}

/// Clones the mount of `path` with its ids mapped, from there on downwards.
pub(super) fn mapped(path: &Path, namespace: BorrowedFd<'_>) -> Result<OwnedFd, StartError> {
    let tree = clone_tree(CWD, path, false).at("userns", || format!("cannot mount `{}`", path.display()))?;
    map(tree.as_fd(), path, namespace)?;
    Ok(tree)
}

/// Maps the ids of a mount that is attached to nothing, and of those below it.
pub(super) fn map(tree: BorrowedFd<'_>, path: &Path, namespace: BorrowedFd<'_>) -> Result<(), StartError> {
    map_ids(tree, namespace, true).at("userns", || {
        format!("the filesystem of `{}` cannot be mounted with other user ids", path.display())
    })
}

/// Opens a folder of a mapped mount.
pub(super) fn folder_of(tree: &OwnedFd, path: &Path) -> Result<OwnedFd, StartError> {
    let fail = || format!("cannot open `{}`", path.display());
    let name = path.file_name().ok_or_else(|| StartError::new("userns", fail()))?;
    rustix::fs::openat(tree, name, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .at("userns", fail)
}

/// Makes files as root inside from now on, on this thread, with all rights of the caller; until the guard is dropped.
pub fn assume(range: IdRange) -> Result<Assumed, StartError> {
    sys::process::set_filesystem_ids(range.first, range.first);
    // The kernel takes rights over files away with the change.
    let own = rustix::thread::capabilities(None).at("userns", || "cannot read the capabilities")?;
    let assumed = Assumed(());
    rustix::thread::set_capabilities(None, CapabilitySets { effective: own.permitted, ..own })
        .at("userns", || "cannot keep the capabilities")?;
    Ok(assumed)
}

/// Somebody inside, as far as files of this thread are concerned.
#[derive(Debug)]
pub struct Assumed(());

impl Drop for Assumed {
    fn drop(&mut self) {
        sys::process::set_filesystem_ids(0, 0);
    }
}

/// Enters the namespace, or that of the process behind a pidfd.
pub fn enter(namespace: BorrowedFd<'_>) -> Result<(), StartError> {
    move_into_thread_name_spaces(namespace, ThreadNameSpaceType::USER)
        .at("userns", || "cannot enter the user namespace")
}
