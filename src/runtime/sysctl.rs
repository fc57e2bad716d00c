//! Kernel parameters by the names that `sysctl` takes: where each is, and whose it is.

/// Parameters of System V's IPC, below `kernel`.
const IPC: [&str; 8] = ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"];

/// The namespace that has a kernel parameter of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SysctlOwner {
    /// The one of IPC.
    Ipc,
    /// The one of networks.
    Network,
    /// The one of host names.
    Uts,
    /// None: it is the whole machine's.
    Machine,
}

/// Returns whose the parameter `name` is.
///
/// What counts is the path that is written: one that leads elsewhere on its way is the machine's.
pub fn sysctl_owner(name: &str) -> SysctlOwner {
    let path = sysctl_path(name);
    let parts: Vec<&str> = path.split('/').collect();
    if parts.iter().any(|part| matches!(*part, "" | "." | "..")) {
        return SysctlOwner::Machine;
    }
    match parts.as_slice() {
        ["net", _, ..] => SysctlOwner::Network,
        ["fs", "mqueue", _] => SysctlOwner::Ipc,
        ["kernel", name] if IPC.contains(name) => SysctlOwner::Ipc,
        ["kernel", "hostname" | "domainname"] => SysctlOwner::Uts,
        _ => SysctlOwner::Machine,
    }
}

/// Returns the path of a kernel parameter below `/proc/sys`: its dots are slashes, and the other way round.
///
/// As `sysctl` reads it: when a slash comes first, it is a path already.
pub fn sysctl_path(name: &str) -> String {
    match name.find(['.', '/']).map(|place| &name[place..=place]) {
        Some(".") => name
            .chars()
            .map(|c| {
                if c == '.' {
                    '/'
                } else if c == '/' {
                    '.'
                } else {
                    c
                }
            })
            .collect(),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dots_of_a_kernel_parameter_are_slashes() {
        assert_eq!(sysctl_path("net.ipv4.ip_forward"), "net/ipv4/ip_forward");
        assert_eq!(sysctl_path("net.ipv4.conf.eth0/1.rp_filter"), "net/ipv4/conf/eth0.1/rp_filter");
        assert_eq!(sysctl_path("net/ipv4/conf/eth0.1/rp_filter"), "net/ipv4/conf/eth0.1/rp_filter");
    }

    #[test]
    fn a_parameter_belongs_to_what_its_path_leads_to() {
        for (name, owner) in [
            ("net.ipv4.ip_forward", SysctlOwner::Network),
            ("net/ipv4/conf/eth0.1/rp_filter", SysctlOwner::Network),
            ("kernel.shmmax", SysctlOwner::Ipc),
            ("kernel/shmmax", SysctlOwner::Ipc),
            ("fs.mqueue.msg_max", SysctlOwner::Ipc),
            ("kernel.domainname", SysctlOwner::Uts),
            ("kernel.panic", SysctlOwner::Machine),
            ("net", SysctlOwner::Machine),
            ("net/../kernel/panic", SysctlOwner::Machine),
            ("net.//.kernel.panic", SysctlOwner::Machine),
            ("net/./../kernel/panic", SysctlOwner::Machine),
            ("fs/mqueue/../../kernel/panic", SysctlOwner::Machine),
            ("/net/ipv4/ip_forward", SysctlOwner::Machine),
            ("", SysctlOwner::Machine),
        ] {
            assert_eq!(sysctl_owner(name), owner, "{name}");
        }
    }
}
