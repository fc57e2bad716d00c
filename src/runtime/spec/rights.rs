//! What a process may do.

use serde::{Deserialize, Serialize};

use crate::sys::seccomp::Instruction;

/// The kernel's names of capabilities without `CAP_`; a name's place is its number.
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Docker's fourteen.
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// A set of capabilities, a bit for each number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities(u64);

impl Capabilities {
    /// No capability.
    pub const NONE: Capabilities = Capabilities(0);
    /// All that there are, on later kernels too.
    pub const ALL: Capabilities = Capabilities(u64::MAX);

    /// Returns the one that is named, as `NET_ADMIN` or `CAP_NET_ADMIN` in any case.
    pub fn named(name: &str) -> Option<Capabilities> {
        let name = name.to_ascii_uppercase();
        let name = name.strip_prefix("CAP_").unwrap_or(&name);
        CAPABILITIES.iter().position(|known| *known == name).map(|number| Capabilities(1 << number))
    }

    /// Returns what is in either.
    pub fn with(self, other: Capabilities) -> Capabilities {
        Capabilities(self.0 | other.0)
    }

    /// Returns what isn't in the other.
    pub fn without(self, other: Capabilities) -> Capabilities {
        Capabilities(self.0 & !other.0)
    }

    /// Tells whether the one named `name` is in it.
    pub(in crate::runtime) fn has(self, name: &str) -> bool {
        Capabilities::named(name).is_some_and(|one| self.0 & one.0 == one.0)
    }

    /// The names of those that are in it, as `CAP_CHOWN`.
    pub fn names(self) -> Vec<String> {
        let is_in = |(number, _): &(usize, &&str)| self.0 & (1 << number) != 0;
        CAPABILITIES.iter().enumerate().filter(is_in).map(|(_, name)| format!("CAP_{name}")).collect()
    }

    /// Returns what is in both.
    pub fn only(self, other: u64) -> Capabilities {
        Capabilities(self.0 & other)
    }

    /// The bits as the kernel has them.
    pub fn bits(self) -> u64 {
        self.0
    }
}

impl Default for Capabilities {
    fn default() -> Self {
        DEFAULT
            .iter()
            .filter_map(|name| Capabilities::named(name))
            .fold(Capabilities::NONE, Capabilities::with)
    }
}

/// Which system calls are let through.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Filter {
    /// Docker's default profile, for the capabilities that go with it.
    #[default]
    Default,
    /// All.
    Off,
    /// A compiled profile, from [`super::super::compile_profile`].
    Program(Vec<Instruction>),
}

/// How much a process may do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rights {
    /// What root has, and what nobody can get beyond.
    pub capabilities: Capabilities,
    /// Set-uid programs and file capabilities give nothing.
    pub no_new_privileges: bool,
    /// The system calls.
    pub filter: Filter,
    /// The AppArmor profile, which the kernel has loaded.
    pub apparmor: Option<String>,
}

impl Rights {
    /// Everything, unfiltered.
    pub fn all() -> Rights {
        Rights {
            capabilities: Capabilities::ALL,
            no_new_privileges: false,
            filter: Filter::Off,
            apparmor: None,
        }
    }
}

/// A resource limit of a process; `None` is unlimited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// `nofile`.
    pub name: String,
    /// What holds.
    pub soft: Option<u64>,
    /// What it may be raised to.
    pub hard: Option<u64>,
}

impl Rlimit {
    /// Tells whether `name` is one of a limit.
    pub fn is_name(name: &str) -> bool {
        crate::runtime::rlimits::is_name(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_dockers() {
        assert_eq!(Capabilities::default().bits(), 0xa804_25fb);
        assert_eq!(Capabilities::named("cap_sys_admin"), Capabilities::named("SYS_ADMIN"));
        assert_eq!(Capabilities::named("SYS_ADMIN").map(Capabilities::bits), Some(1 << 21));
        assert_eq!(Capabilities::named("CHECKPOINT_RESTORE").map(Capabilities::bits), Some(1 << 40));
        assert_eq!(Capabilities::named("ADMIN"), None);
    }
}
