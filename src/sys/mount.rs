//! Attributes of mounts, by descriptor.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::checked;

/// Refuses writes through the mount.
pub const RDONLY: u64 = libc::MOUNT_ATTR_RDONLY;
/// Ignores set-uid bits and file capabilities.
pub const NOSUID: u64 = libc::MOUNT_ATTR_NOSUID;
/// Refuses to open devices.
pub const NODEV: u64 = libc::MOUNT_ATTR_NODEV;
/// Refuses to run programs.
pub const NOEXEC: u64 = libc::MOUNT_ATTR_NOEXEC;

/// Maps ids, by the namespace given.
const IDMAP: u64 = libc::MOUNT_ATTR_IDMAP;

/// Sets attributes of the mount that `fd` is the root of, and of those below when `recursive`.
pub fn set_attributes(fd: BorrowedFd<'_>, attributes: u64, recursive: bool) -> io::Result<()> {
    change(
        fd,
        libc::mount_attr { attr_set: attributes, attr_clr: 0, propagation: 0, userns_fd: 0 },
        recursive,
    )
}

/// Separates the mount that `fd` is the root of, and those below, from the mounts that they were cloned from: what is
/// mounted there isn't mounted here, nor the other way round.
pub fn make_private(fd: BorrowedFd<'_>) -> io::Result<()> {
    change(
        fd,
        libc::mount_attr { attr_set: 0, attr_clr: 0, propagation: libc::MS_PRIVATE, userns_fd: 0 },
        true,
    )
}

/// Shows the files of the mount that `fd` is the root of, and of those below when `recursive`, with the ids of a user
/// namespace. For mounts that are attached to nothing.
pub fn map_ids(fd: BorrowedFd<'_>, namespace: BorrowedFd<'_>, recursive: bool) -> io::Result<()> {
    let userns_fd = namespace.as_raw_fd() as u64;
    change(fd, libc::mount_attr { attr_set: IDMAP, attr_clr: 0, propagation: 0, userns_fd }, recursive)
}

/// Sets and clears attributes, and changes how mounts there come and go elsewhere too (`MS_*`, 0 leaves that).
pub fn alter(fd: BorrowedFd<'_>, set: u64, clear: u64, propagation: u64, recursive: bool) -> io::Result<()> {
    change(fd, libc::mount_attr { attr_set: set, attr_clr: clear, propagation, userns_fd: 0 }, recursive)
}

fn change(fd: BorrowedFd<'_>, attr: libc::mount_attr, recursive: bool) -> io::Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is an empty C string, `attr` a valid structure of the given size; both outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    checked(result).map(drop)
}
