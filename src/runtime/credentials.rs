//! What a process may do: ids, capabilities, `no_new_privs` and the seccomp filter.
//!
//! In two steps. [`become_user`] changes the ids and bounds the capabilities. [`seal`] gives up the rest and loads the
//! filter; after that come only one `capset` and `execve`, so that a filter needs to permit nothing else of kiln's.

use std::os::fd::OwnedFd;

use rustix::fs::{FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::error::{At, StartError};
use super::seccomp;
use super::spec::{Filter, Rights};
use super::user::User;
use crate::sys;

/// The bits of the kernel's capability sets.
const CAPABILITY_BITS: u32 = 64;

/// What is left to do before execve.
#[derive(Debug)]
pub(super) struct Seal {
    rights: Rights,
    /// What it shall have.
    effective: CapabilitySet,
}

/// Becomes `user`, who can get no more than `rights` from now on. What [`seal`] needs is kept.
pub(super) fn become_user(user: &User, rights: &Rights) -> Result<Seal, StartError> {
    if let Some(profile) = &rights.apparmor {
        confine(profile)?;
    }
    let keep = CapabilitySet::from_bits_retain(rights.capabilities.bits());
    let left = shrink_bounding_set(keep)?;
    let groups: Vec<Gid> = user.groups.iter().map(|&gid| Gid::from_raw(gid)).collect();
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    rustix::thread::set_thread_groups(&groups).at("user", || "cannot set the groups")?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)
        .at("user", || format!("cannot become group {}", user.gid))?;
    let needs_rights = rights.filter != Filter::Off && !rights.no_new_privileges;
    rustix::thread::set_keep_capabilities(needs_rights)
        .at("capabilities", || "cannot keep the capabilities")?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)
        .at("user", || format!("cannot become user {}", user.uid))?;
    let effective = if user.uid == 0 { left } else { CapabilitySet::empty() };
    let seal = Seal { rights: rights.clone(), effective };
    // Without `no_new_privs` only CAP_SYS_ADMIN may load a filter.
    set_capabilities(if needs_rights { effective | CapabilitySet::SYS_ADMIN } else { effective })?;
    match rustix::thread::clear_ambient_capability_set() {
        Ok(()) | Err(Errno::INVAL) => {}
        Err(error) => return Err(error).at("capabilities", || "cannot clear the ambient capabilities"),
    }
    Ok(seal)
}

/// Has the kernel apply an AppArmor profile at execve. Asked for while this process may still do so.
fn confine(profile: &str) -> Result<(), StartError> {
    const PROC_SUPER_MAGIC: i64 = 0x9fa0;
    let fail = || format!("cannot apply the AppArmor profile `{profile}`");
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::open("/proc/thread-self/attr/apparmor/exec", flags, Mode::empty());
    let file = file.at("apparmor", fail)?;
    // Whatever lies there in the container's tree, only the kernel's own file is believed.
    if rustix::fs::fstatfs(&file).at("apparmor", fail)?.f_type != PROC_SUPER_MAGIC {
        return Err(StartError::new("apparmor", format!("{}: `/proc` is not the kernel's", fail())));
    }
    rustix::io::write(&file, format!("exec {profile}").as_bytes()).at("apparmor", fail).map(drop)
}

/// Gives up what is left; the last call before execve.
pub(super) fn seal(seal: &Seal) -> Result<(), StartError> {
    if seal.rights.no_new_privileges {
        rustix::thread::set_no_new_privs(true).at("capabilities", || "cannot set no_new_privs")?;
    }
    if seal.rights.filter == Filter::Off {
        return Ok(());
    }
    let program = seccomp::program(&seal.rights);
    sys::seccomp::load(&program).at("seccomp", || "cannot load the system call filter")?;
    if seal.rights.no_new_privileges { Ok(()) } else { set_capabilities(seal.effective) }
}

fn set_capabilities(effective: CapabilitySet) -> Result<(), StartError> {
    let sets = CapabilitySets { effective, permitted: effective, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets).at("capabilities", || "cannot set the capabilities")
}

/// Drops what isn't in `keep` from the bounding set; returns what the caller itself has of the rest.
pub fn shrink_bounding_set(keep: CapabilitySet) -> Result<CapabilitySet, StartError> {
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
pub fn own_stdio(stdio: &[OwnedFd], user: u32) {
    if user == 0 {
        return;
    }
    for fd in stdio {
        let Ok(stat) = rustix::fs::fstat(fd) else { continue };
        let kind = FileType::from_raw_mode(stat.st_mode);
        let is_ours = kind == FileType::Fifo || rustix::termios::isatty(fd);
        if is_ours {
            // A socket or a terminal of somebody else refuses, and works as it is.
            let _ = rustix::fs::fchown(fd, Some(Uid::from_raw(user)), None);
        }
    }
}
