//! The descriptor table as a whole.

use std::io;
use std::os::fd::RawFd;

use super::checked;

/// Closes every descriptor from `first` on that isn't in `keep`.
///
/// Owners of the closed descriptors must never be used or dropped afterwards: only for a process that goes on
/// to run another program, or that has just started and owns nothing yet.
pub fn close_all_except(first: RawFd, keep: &[RawFd]) -> io::Result<()> {
    let mut keep: Vec<u32> = keep.iter().filter(|&&fd| fd >= first).map(|&fd| fd as u32).collect();
    keep.sort_unstable();
    let mut from = first as u32;
    for fd in keep {
        if fd > from {
            close_range(from, fd - 1)?;
        }
        from = from.max(fd + 1);
    }
    close_range(from, u32::MAX)
}

fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: takes numbers only; that no owner of a closed descriptor goes on is the contract of the caller.
    checked(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }).map(drop)
}
