//! The running program as a file that nobody can write.
//!
//! A container can reach the file of the last program before its own by `/proc/PID/exe`. That file is therefore
//! never the installed one, but the same file through a mount that refuses writes, or a sealed copy.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, MemfdFlags, SealFlags};

use super::mounts::clone_tree;
use crate::sys::mount::{NODEV, NOSUID, RDONLY, set_attributes};

/// Opens the running program read-only for everybody; run it as `/proc/self/fd/N`.
pub fn sealed_program() -> io::Result<OwnedFd> {
    sealed_file(Path::new("/proc/self/exe"))
}

pub(super) fn sealed_file(program: &Path) -> io::Result<OwnedFd> {
    let clone = clone_tree(CWD, program, false).map_err(io::Error::from).and_then(|tree| {
        set_attributes(tree.as_fd(), RDONLY | NOSUID | NODEV, false)?;
        Ok(tree)
    });
    clone.or_else(|_| sealed_copy(program))
}

/// Where the file's mount can't be cloned, as in some containers: a copy in memory.
fn sealed_copy(program: &Path) -> io::Result<OwnedFd> {
    let copy = rustix::fs::memfd_create(c"kiln", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    io::copy(&mut File::open(program)?, &mut File::from(copy.try_clone()?))?;
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&copy, seals)?;
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn the_copy_in_memory_refuses_writes() {
        let copy = sealed_copy(Path::new("/proc/self/exe")).unwrap();
        let path = format!("/proc/self/fd/{}", copy.as_raw_fd());
        let file = std::fs::OpenOptions::new().write(true).open(path);
        assert!(file.is_err() || io::Write::write(&mut file.unwrap(), b"x").is_err());
    }
}
