//! Network namespaces.

use std::io;

use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Moves the calling thread into a new network namespace, where it stays.
///
/// Only for a thread that ends afterwards: sockets that it opens later are in the new namespace.
pub fn unshare_network() -> io::Result<()> {
    // SAFETY: only CLONE_NEWNET is given, so the table of open files stays shared with the other threads.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.map_err(io::Error::from)
}
