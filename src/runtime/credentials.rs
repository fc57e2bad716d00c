//! What a process may do: ids, capabilities, `no_new_privs` and the seccomp filter.

use std::os::fd::OwnedFd;

use rustix::fs::{FileType, Gid, Uid};
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::error::{At, StartError};
use super::seccomp;
use super::user::User;
use crate::sys;

/// Docker's fourteen.
pub(super) const DEFAULT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::AUDIT_WRITE);

/// The bits of the kernel's capability sets.
const CAPABILITY_BITS: u32 = 64;

/// How much a process keeps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rights {
    /// Everything, unfiltered.
    pub(super) privileged: bool,
    /// Set-uid programs give nothing.
    pub(super) no_new: bool,
}

/// Becomes `user` with the default capabilities; the last calls before execve.
///
/// Without `no_new_privs` the filter needs CAP_SYS_ADMIN, so it comes first and permits all that follows.
pub(super) fn drop_rights(user: &User, rights: Rights) -> Result<(), StartError> {
    let keep = if rights.privileged { CapabilitySet::all() } else { DEFAULT };
    let left = shrink_bounding_set(keep)?;
    let filter = !rights.privileged;
    if filter && !rights.no_new {
        load_filter()?;
    }
    let groups: Vec<Gid> = user.groups.iter().map(|&gid| Gid::from_raw(gid)).collect();
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    rustix::thread::set_thread_groups(&groups).at("user", || "cannot set the groups")?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)
        .at("user", || format!("cannot become group {}", user.gid))?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)
        .at("user", || format!("cannot become user {}", user.uid))?;
    let effective = if user.uid == 0 { left } else { CapabilitySet::empty() };
    let sets = CapabilitySets { effective, permitted: effective, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets).at("capabilities", || "cannot set the capabilities")?;
    match rustix::thread::clear_ambient_capability_set() {
        Ok(()) | Err(Errno::INVAL) => {}
        Err(error) => return Err(error).at("capabilities", || "cannot clear the ambient capabilities"),
    }
    if rights.no_new {
        rustix::thread::set_no_new_privs(true).at("capabilities", || "cannot set no_new_privs")?;
        if filter {
            load_filter()?;
        }
    }
    Ok(())
}

fn load_filter() -> Result<(), StartError> {
    sys::seccomp::load(seccomp::default_program()).at("seccomp", || "cannot load the system call filter")
}

/// Drops what isn't in `keep` from the bounding set; returns what the caller itself has of the rest.
fn shrink_bounding_set(keep: CapabilitySet) -> Result<CapabilitySet, StartError> {
    for bit in 0..CAPABILITY_BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        if keep.contains(capability) {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // The kernel's last capability is behind us.
            Err(Errno::INVAL) => break,
            Err(error) => return Err(error).at("capabilities", || format!("cannot drop capability {bit}")),
        }
    }
    // What the caller lacks it can't give.
    let own = rustix::thread::capabilities(None).at("capabilities", || "cannot read the capabilities")?;
    Ok(keep & own.permitted)
}

/// Gives pipes and terminals to the user, so that `/dev/stdout` can be opened again by a program without rights.
/// Files of the machine keep their owner.
pub(super) fn own_stdio(stdio: &[OwnedFd], user: &User) {
    if user.uid == 0 {
        return;
    }
    for fd in stdio {
        let Ok(stat) = rustix::fs::fstat(fd) else { continue };
        let kind = FileType::from_raw_mode(stat.st_mode);
        let is_ours = kind == FileType::Fifo || rustix::termios::isatty(fd);
        if is_ours {
            // A socket or a terminal of somebody else refuses, and works as it is.
            let _ = rustix::fs::fchown(fd, Some(Uid::from_raw(user.uid)), None);
        }
    }
}
