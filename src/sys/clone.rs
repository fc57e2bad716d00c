//! A new process in new namespaces, without the C library's fork.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};

use super::checked;

/// Which side of [`clone_process`] goes on.
#[derive(Debug)]
pub enum Cloned {
    /// The caller.
    Parent {
        /// The child's pid as the caller sees it.
        pid: i32,
        /// The child.
        pidfd: OwnedFd,
    },
    /// The new process, with a copy of the caller's memory and descriptors.
    Child,
}

/// `/proc/self/task` of a process with one thread has this many links: `.`, `..` and the thread's folder.
const LINKS_OF_ONE_THREAD: u64 = 3;

/// The C library's constant overflows an int.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Set in each clone: it has one thread, and its `/proc` may be somebody else's.
static IS_CLONE: AtomicBool = AtomicBool::new(false);

/// Tells whether the process has one thread.
pub fn is_single_threaded() -> io::Result<bool> {
    Ok(fs::metadata("/proc/self/task")?.nlink() == LINKS_OF_ONE_THREAD)
}

/// Forks the process; `None` in the child, which goes on with this one's memory and descriptors.
///
/// `EBUSY` when the caller has other threads. Unlike [`clone_process`] the C library knows of it: the child may start
/// threads and programs.
pub fn fork() -> io::Result<Option<i32>> {
    if !is_single_threaded()? {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    // SAFETY: there is no other thread whose locks the child could miss.
    match checked(unsafe { libc::fork() }.into())? {
        0 => Ok(None),
        pid => Ok(Some(pid as i32)),
    }
}

/// Clones the process with `CLONE_*` flags, into the cgroup v2 folder given.
///
/// `EBUSY` when the caller has other threads: the child could then find a lock held by nobody. The child must
/// end in [`super::exec::execute`] or [`super::process::exit_now`].
pub fn clone_process(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    if !IS_CLONE.load(Ordering::Relaxed) && !is_single_threaded()? {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    let mut pidfd: i32 = -1;
    let into_cgroup = if cgroup.is_some() { CLONE_INTO_CGROUP } else { 0 };
    let args = libc::clone_args {
        flags: flags | libc::CLONE_PIDFD as u64 | into_cgroup,
        pidfd: (&raw mut pidfd) as u64,
        child_tid: 0,
        parent_tid: 0,
        // A sibling inherits the caller's own; the kernel refuses another.
        exit_signal: if flags & libc::CLONE_PARENT as u64 == 0 { libc::SIGCHLD as u64 } else { 0 },
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: cgroup.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    // SAFETY: `args` is a valid `clone_args` of the given size that outlives the call; without CLONE_VM and with
    // no stack the child goes on in a copy of this memory, and there is no other thread whose locks it could miss.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) };
    match checked(pid)? {
        0 => {
            IS_CLONE.store(true, Ordering::Relaxed);
            Ok(Cloned::Child)
        }
        pid => {
            // SAFETY: the kernel stored a new descriptor that nobody else owns (CLONE_PIDFD, clone succeeded).
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Parent { pid: pid as i32, pidfd })
        }
    }
}
