//! What a process tree is started from: plain data, sent to the launcher as JSON.

mod limits;
mod mounts;
mod namespaces;
mod rights;

use kiln_cache::Mounts;
use serde::{Deserialize, Serialize};

pub use self::limits::{CgroupPlace, DeviceLimit, DeviceRule, Limits};
pub use self::mounts::{Below, How, Mount, Propagation};
pub use self::namespaces::{IdRange, Namespaces, Net, Ns, Target};
pub use self::rights::{Capabilities, Filter, Rights, Rlimit};
use crate::redacted::Redacted;

/// One process tree with a root filesystem of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spec {
    /// Names the cgroup and appears in traces.
    pub id: String,
    /// The overlay that becomes `/`.
    pub rootfs: Mounts,
    /// Mounts the overlay `volatile`: no flush of the filesystem at the end. The work folder then keeps an
    /// `incompat` entry, so it can't serve another mount; throw it away.
    pub volatile: bool,
    /// Makes `/` read-only; the mounts in it keep their own mode.
    pub readonly_root: bool,
    /// The program and its arguments. A name without `/` is searched in the `PATH` of `env`.
    pub args: Vec<String>,
    /// `NAME=value`; `PATH` and `HOME` are added when missing.
    pub env: Vec<String>,
    /// Variables whose values nobody may see but the program; they hide those of `env`.
    pub secret_env: Vec<(String, Redacted)>,
    /// The working directory; created when missing; empty means `/`.
    pub cwd: String,
    /// A working directory that was missing is root's, not the user's.
    pub cwd_of_root: bool,
    /// `""`, or `name|uid[:group|gid]`, looked up in the root filesystem's own `/etc/passwd` and `/etc/group`.
    pub user: String,
    /// Further groups, by name or number.
    pub groups: Vec<String>,
    /// The host name; empty leaves the machine's.
    pub hostname: String,
    /// The domain name of NIS; empty leaves the machine's.
    pub domainname: String,
    /// What is mounted besides the standard set, in this order.
    pub mounts: Vec<Mount>,
    /// The size of `/dev/shm`; 0 means 64 MiB.
    pub shm_bytes: u64,
    /// What it may do.
    pub rights: Rights,
    /// Limits that differ from a machine's own at its start.
    pub rlimits: Vec<Rlimit>,
    /// Values below `/proc/sys` by their dotted names.
    pub sysctls: Vec<(String, String)>,
    /// How eagerly the kernel kills it when memory is short, -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// No masked paths, a `/sys` that can be written to, the machine's devices.
    pub privileged: bool,
    /// No masked or read-only parts of `/proc` and `/sys`.
    pub unmasked: bool,
    /// Device nodes that it makes can be used, as far as `limits` say.
    pub opens_devices: bool,
    /// Lets its cgroups be written to.
    pub writable_cgroups: bool,
    /// Rows and columns of the terminal that a pty is made with.
    pub tty: Option<(u16, u16)>,
    /// Puts a process of kiln's before the program that passes signals on and reaps.
    pub init: bool,
    /// The network that the process sees.
    pub network: Net,
    /// The other namespaces.
    pub namespaces: Namespaces,
    /// Gives it a user namespace with these ids.
    pub ids: Option<IdRange>,
    /// Whether there is a cgroup without limits.
    pub cgroup: CgroupPlace,
    /// Resource limits.
    pub limits: Limits,
    /// Removes the mount points that were made in the upper folder, when they are still as they were made.
    pub remove_stubs: bool,
    /// Files that are mounted for kiln's own sake. Where the image lacks their places, or those of `/proc` and the like,
    /// these are in memory and none of the upper folder's files.
    pub own_files: Vec<String>,
}

impl Spec {
    /// Tells whether both get the same stage: a child that set one up for `other` can go on as this.
    pub(super) fn has_stage_of(&self, other: &Spec) -> bool {
        let small = |spec: &Spec| (spec.network, spec.cgroup.clone(), spec.shm_bytes, spec.tty);
        let open = |spec: &Spec| (spec.privileged, spec.unmasked, spec.writable_cgroups, spec.opens_devices);
        small(self) == small(other)
            && open(self) == open(other)
            && self.limits == other.limits
            && self.sysctls == other.sysctls
            && self.oom_score_adj == other.oom_score_adj
            && self.namespaces == other.namespaces
            && self.ids == other.ids
    }
}

/// A further process in a running container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecSpec {
    /// The program and its arguments.
    pub args: Vec<String>,
    /// `NAME=value`; `PATH` and `HOME` are added when missing.
    pub env: Vec<String>,
    /// The working directory, which must exist; empty means `/`.
    pub cwd: String,
    /// As [`Spec::user`].
    pub user: String,
    /// As [`Spec::groups`].
    pub groups: Vec<String>,
    /// Rows and columns of the terminal that a pty is made with.
    pub tty: Option<(u16, u16)>,
    /// What it may do.
    pub rights: Rights,
    /// As [`Spec::ids`], those of the container.
    pub ids: Option<IdRange>,
    /// As [`Spec::rlimits`].
    pub rlimits: Vec<Rlimit>,
    /// An image's layers, whose files it sees where the container has none.
    pub tools: Option<Mounts>,
}
