//! What a process of `config.json` may do: ids, five capability sets, limits, filter.
//!
//! As [`crate::runtime`] does it, in two steps: [`become_user`] changes the ids and bounds the capabilities, [`seal`]
//! gives up the rest and loads the filter; after that comes only execve.

use rustix::fs::{Gid, Mode, Uid};
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit as Values, prlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::config::{Capabilities, Process};
use super::error::{Error, Result};
use crate::runtime::{At, Capabilities as Named, StartError, compile_profile, shrink_bounding_set};
use crate::sys;
use crate::sys::seccomp::Instruction;

const RESOURCES: [(&str, Resource); 16] = [
    ("AS", Resource::As),
    ("CORE", Resource::Core),
    ("CPU", Resource::Cpu),
    ("DATA", Resource::Data),
    ("FSIZE", Resource::Fsize),
    ("LOCKS", Resource::Locks),
    ("MEMLOCK", Resource::Memlock),
    ("MSGQUEUE", Resource::Msgqueue),
    ("NICE", Resource::Nice),
    ("NOFILE", Resource::Nofile),
    ("NPROC", Resource::Nproc),
    ("RSS", Resource::Rss),
    ("RTPRIO", Resource::Rtprio),
    ("RTTIME", Resource::Rttime),
    ("SIGPENDING", Resource::Sigpending),
    ("STACK", Resource::Stack),
];

/// Returns the resource of `RLIMIT_NOFILE`.
pub(super) fn resource(name: &str) -> Option<Resource> {
    let name = name.strip_prefix("RLIMIT_")?;
    RESOURCES.iter().find(|(known, _)| *known == name).map(|(_, resource)| *resource)
}

/// Compiles the filter of `linux.seccomp`; empty when there is none.
pub(super) fn filter(seccomp: Option<&serde_json::Value>) -> Result<Vec<Instruction>> {
    let Some(profile) = seccomp else { return Ok(Vec::new()) };
    let refuse =
        |what: &str| Err(Error::Refused(format!("config.json: `linux.seccomp.{what}` is not supported")));
    for name in ["listenerPath", "listenerMetadata"] {
        if profile.get(name).is_some_and(|value| value.as_str() != Some("")) {
            return refuse(name);
        }
    }
    let flags = profile.get("flags").and_then(|flags| flags.as_array()).cloned().unwrap_or_default();
    // Logging and speculation are the kernel's business alone: without these flags it is only stricter or more silent.
    let harmless = ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC"];
    if let Some(flag) = flags.iter().find(|flag| !flag.as_str().is_some_and(|flag| harmless.contains(&flag)))
    {
        return refuse(&format!("flags` with `{}", flag.as_str().unwrap_or_default()));
    }
    // The caller has decided by capabilities already: no rule here depends on them.
    compile_profile(&profile.to_string(), Named::NONE, "")
        .map_err(|error| Error::Refused(format!("config.json: `linux.seccomp`: {error}")))
}

/// What is left to do before execve.
#[derive(Debug)]
pub(super) struct Seal {
    filter: Vec<Instruction>,
    no_new_privileges: bool,
    sets: CapabilitySets,
    ambient: CapabilitySet,
}

/// Sets the limits that are asked for, of this process or of another; others stay.
pub(super) fn limit(pid: Option<i32>, process: &Process) -> std::result::Result<(), StartError> {
    for limit in &process.rlimits {
        let Some(resource) = resource(&limit.kind) else { continue };
        let value = |number| if number == u64::MAX { None } else { Some(number) };
        let values = Values { current: value(limit.soft), maximum: value(limit.hard) };
        prlimit(pid.and_then(Pid::from_raw), resource, values).at("rlimits", || {
            format!("error setting rlimit type {}: soft {}, hard {}", limit.kind, limit.soft, limit.hard)
        })?;
    }
    Ok(())
}

/// Becomes the user; what [`seal`] needs is kept.
pub(super) fn become_user(
    process: &Process,
    filter: Vec<Instruction>,
) -> std::result::Result<Seal, StartError> {
    let none = Capabilities::default();
    let wanted = process.capabilities.as_ref().unwrap_or(&none);
    let own = rustix::thread::capabilities(None).at("capabilities", || "cannot read the capabilities")?;
    // What the caller lacks it can't give.
    let set = |names: &[String]| bits(names) & own.permitted;
    shrink_bounding_set(bits(&wanted.bounding))?;
    let user = &process.user;
    let groups: Vec<Gid> = user.additional_gids.iter().map(|&gid| Gid::from_raw(gid)).collect();
    let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    rustix::thread::set_thread_groups(&groups).at("user", || "cannot set the groups")?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)
        .at("user", || format!("cannot become group {}", user.gid))?;
    rustix::thread::set_keep_capabilities(true).at("capabilities", || "cannot keep the capabilities")?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)
        .at("user", || format!("cannot become user {}", user.uid))?;
    if let Some(umask) = user.umask {
        rustix::process::umask(Mode::from_raw_mode(umask));
    }
    let permitted = set(&wanted.permitted);
    let sets = CapabilitySets {
        permitted,
        effective: set(&wanted.effective) & permitted,
        inheritable: set(&wanted.inheritable),
    };
    let ambient = set(&wanted.ambient) & permitted & sets.inheritable;
    let seal = Seal { filter, no_new_privileges: process.no_new_privileges, sets, ambient };
    // Without `no_new_privs` only CAP_SYS_ADMIN may load a filter. Only who has CAP_SETPCAP adds to the inheritable set.
    let mut first = seal.sets;
    if !seal.filter.is_empty() && !seal.no_new_privileges {
        first.permitted |= CapabilitySet::SYS_ADMIN & own.permitted;
        first.effective |= CapabilitySet::SYS_ADMIN & own.permitted;
    }
    // The change of the user took the effective set away, and left the permitted one.
    let back =
        CapabilitySets { effective: own.permitted, permitted: own.permitted, inheritable: own.inheritable };
    set_capabilities(back)?;
    set_capabilities(first)?;
    raise(seal.ambient)?;
    Ok(seal)
}

/// Gives up what is left; the last call before execve.
pub(super) fn seal(seal: &Seal) -> std::result::Result<(), StartError> {
    if seal.no_new_privileges {
        rustix::thread::set_no_new_privs(true).at("capabilities", || "cannot set no_new_privs")?;
    }
    if seal.filter.is_empty() {
        return Ok(());
    }
    sys::seccomp::load(&seal.filter).at("seccomp", || "cannot load the system call filter")?;
    if seal.no_new_privileges { Ok(()) } else { set_capabilities(seal.sets) }
}

/// The bits of names. One that this kernel or this kiln doesn't know gives nothing, as the spec has it.
fn bits(names: &[String]) -> CapabilitySet {
    let all = names.iter().filter_map(|name| Named::named(name)).fold(Named::NONE, Named::with);
    CapabilitySet::from_bits_retain(all.bits())
}

fn set_capabilities(sets: CapabilitySets) -> std::result::Result<(), StartError> {
    rustix::thread::set_capabilities(None, sets).at("capabilities", || "cannot set the capabilities")
}

fn raise(ambient: CapabilitySet) -> std::result::Result<(), StartError> {
    match rustix::thread::clear_ambient_capability_set() {
        Ok(()) | Err(Errno::INVAL) => {}
        Err(error) => return Err(error).at("capabilities", || "cannot clear the ambient capabilities"),
    }
    for one in ambient.iter() {
        rustix::thread::configure_capability_in_ambient_set(one, true)
            .at("capabilities", || "cannot set the ambient capabilities")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_and_limits_have_the_specs_names() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(bits(&names(&["CAP_CHOWN", "CAP_KILL", "CAP_OF_TOMORROW"])).bits(), 0b10_0001);
        assert!(resource("RLIMIT_NOFILE").is_some());
        assert!(resource("NOFILE").is_none());
    }

    #[test]
    fn a_filter_of_the_spec_is_compiled_and_a_listener_refused() {
        let profile = serde_json::json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [{"names": ["read", "execve"], "action": "SCMP_ACT_ALLOW"}],
        });
        assert!(!filter(Some(&profile)).unwrap().is_empty());
        let listener = serde_json::json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x"});
        assert!(filter(Some(&listener)).unwrap_err().to_string().contains("listenerPath"));
        assert!(filter(None).unwrap().is_empty());
    }
}
