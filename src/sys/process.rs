//! What a process inherits and must not pass on: signals, keyring, namespaces.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::thread::UnshareFlags;

use super::checked;

/// The highest signal number of the kernel's interface.
const LAST_SIGNAL: i32 = 64;
/// `KEYCTL_JOIN_SESSION_KEYRING`.
const JOIN_SESSION_KEYRING: libc::c_long = 1;

/// Gives every signal its default action and unblocks all.
///
/// Rust ignores SIGPIPE, and an ignored signal stays ignored across execve.
pub fn reset_signals() -> io::Result<()> {
    // The kernel's own structure for SIG_DFL is all zeroes, whatever its layout on this architecture.
    let default = [0u64; 8];
    for signal in 1..=LAST_SIGNAL {
        if signal == libc::SIGKILL || signal == libc::SIGSTOP {
            continue;
        }
        // SAFETY: the zeroed buffer is larger than the kernel's sigaction and outlives the call; no handler is
        // installed, and the old action isn't asked for.
        let result = unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null_mut::<u64>(),
                8usize,
            )
        };
        checked(result)?;
    }
    let empty = 0u64;
    // SAFETY: `empty` is a signal set of the eight bytes announced; the old set isn't asked for.
    let result = unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const empty,
            std::ptr::null_mut::<u64>(),
            8usize,
        )
    };
    checked(result).map(drop)
}

/// Blocks every signal that can be, for [`next_signal`].
pub fn block_signals() -> io::Result<()> {
    let all = u64::MAX;
    // SAFETY: `all` is a signal set of the eight bytes announced; the old set isn't asked for.
    let result = unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const all,
            std::ptr::null_mut::<u64>(),
            8usize,
        )
    };
    checked(result).map(drop)
}

/// Waits for a blocked signal and takes it.
pub fn next_signal() -> io::Result<i32> {
    let all = u64::MAX;
    // SAFETY: `all` is a signal set of the eight bytes announced; neither information nor a timeout is given.
    let signal = unsafe {
        libc::syscall(
            libc::SYS_rt_sigtimedwait,
            &raw const all,
            std::ptr::null_mut::<libc::siginfo_t>(),
            std::ptr::null::<libc::timespec>(),
            8usize,
        )
    };
    checked(signal).map(|signal| signal as i32)
}

/// Sets the ids that this thread makes and opens files as.
pub fn set_filesystem_ids(uid: u32, gid: u32) {
    // SAFETY: takes a number only, and has no failure that it could tell.
    unsafe { libc::setfsgid(gid) };
    // SAFETY: as above.
    unsafe { libc::setfsuid(uid) };
}

/// Sends a signal by number, real-time ones included, to a child that this process alone reaps.
pub fn signal_child(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: takes numbers only.
    checked(unsafe { libc::kill(pid, signal) }.into()).map(drop)
}

/// Joins a new, empty session keyring; `ENOSYS` where the kernel has no keyrings.
pub fn new_session_keyring() -> io::Result<()> {
    // SAFETY: takes a number and a null name, touches no memory.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, std::ptr::null::<u8>()) };
    checked(result).map(drop)
}

/// Moves the process into new namespaces. Never asks for an unshared descriptor table.
pub fn unshare_namespaces(flags: UnshareFlags) -> io::Result<()> {
    let flags = flags - UnshareFlags::FILES;
    // SAFETY: without FILES the call has no effect on descriptors of other threads.
    unsafe { rustix::thread::unshare_unsafe(flags) }.map_err(io::Error::from)
}

/// Forgets all variables of the environment. For a process with one thread, which nobody reads them in meanwhile.
pub fn clear_environment() {
    // SAFETY: the caller says that no other thread reads variables.
    unsafe { libc::clearenv() };
}

/// Sends a signal by number, real-time ones included.
pub fn pidfd_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: the descriptor is borrowed and open; no signal information is passed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    checked(result).map(drop)
}

/// Ends the process at once: no destructor, no flush of inherited buffers.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: `_exit` doesn't return and runs nothing of this process.
    unsafe { libc::_exit(code) }
}
