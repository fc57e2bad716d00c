//! The kernel's one face: every `unsafe` block and raw syscall of kiln.
//!
//! Most calls have typed forms in `rustix` and are used from there; what stands here is what rustix lacks or
//! marks unsafe, and [`packet`], which modules need that don't know each other. Functions take borrowed descriptors and
//! give owned ones; errors are the kernel's numbers, named with their object by the caller.

#![allow(unsafe_code, reason = "this is the one module that may")]

use std::sync::OnceLock;
use std::thread;

pub mod awake;
pub mod beside;
pub mod clone;
pub mod datagram;
pub mod exec;
pub mod fds;
pub mod mount;
pub mod netns;
pub mod packet;
pub mod process;
pub mod processor;
pub mod seccomp;
pub mod signals;
pub mod text;
pub mod title;

/// Returns how many processors this process may use; asked once, since the answer takes eighteen system calls.
pub fn processors() -> usize {
    static PROCESSORS: OnceLock<usize> = OnceLock::new();
    *PROCESSORS.get_or_init(|| thread::available_parallelism().map_or(1, usize::from))
}

/// Turns the result of a raw syscall into its value or the error number.
pub(crate) fn checked(result: libc::c_long) -> std::io::Result<libc::c_long> {
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(result) }
}
