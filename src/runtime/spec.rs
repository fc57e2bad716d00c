//! What a process tree is started from: plain data, sent to the launcher as JSON.

use std::path::PathBuf;

use kiln_cache::Mounts;
use serde::{Deserialize, Serialize};

use crate::redacted::Redacted;

/// One process tree with a root filesystem of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Spec {
    /// Names the cgroup (only made when there are limits) and appears in traces.
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
    /// The working directory; created (owned by the user) when missing; empty means `/`.
    pub cwd: String,
    /// `""`, or `name|uid[:group|gid]`, looked up in the root filesystem's own `/etc/passwd` and `/etc/group`.
    pub user: String,
    /// Further groups, by name or number.
    pub groups: Vec<String>,
    /// The host name; empty leaves the machine's.
    pub hostname: String,
    /// What is mounted besides the standard set, in this order.
    pub mounts: Vec<Mount>,
    /// The size of `/dev/shm`; 0 means 64 MiB.
    pub shm_bytes: u64,
    /// All capabilities, no seccomp filter, no masked paths, the machine's devices.
    pub privileged: bool,
    /// Sets `no_new_privs`: set-uid programs give nothing.
    pub no_new_privileges: bool,
    /// Rows and columns of the terminal that a pty is made with.
    pub tty: Option<(u16, u16)>,
    /// The network that the process sees.
    pub network: Net,
    /// Resource limits; none of them means no cgroup.
    pub limits: Limits,
    /// Removes the mount points that were made in the upper folder, when they are still as they were made.
    pub remove_stubs: bool,
}

impl Spec {
    /// Tells whether both get the same stage: a child that set one up for `other` can go on as this.
    pub(super) fn has_stage_of(&self, other: &Spec) -> bool {
        let parts = |spec: &Spec| {
            (spec.network, spec.privileged, spec.limits, spec.remove_stubs, spec.shm_bytes, spec.tty)
        };
        parts(self) == parts(other)
    }
}

/// Which network namespace a process runs in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Net {
    /// The namespace given at the start; a new one without any link when none is given.
    #[default]
    Namespace,
    /// The caller's own.
    Host,
}

/// Resource limits; `None` is no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Bytes of memory, page cache included.
    pub memory: Option<u64>,
    /// Thousandths of a CPU.
    pub cpus_millis: Option<u64>,
    /// Tasks.
    pub pids: Option<u64>,
}

impl Limits {
    /// Tells whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == Limits::default()
    }
}

/// One mount inside the root filesystem. Targets are absolute, resolved inside the root, created when missing,
/// and never under `/proc` or `/sys`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mount {
    /// A file or folder of the machine, with everything mounted below it.
    Bind {
        /// The path on the machine.
        source: PathBuf,
        /// The path inside.
        target: String,
        /// Refuses writes.
        readonly: bool,
    },
    /// A device of the machine, which can be used as such.
    Device {
        /// The node on the machine.
        source: PathBuf,
        /// The path inside.
        target: String,
    },
    /// What lies at a path in a stack of layers.
    Layers {
        /// The layers; with an upper folder, that is where writes go.
        layers: Mounts,
        /// The path in them, links followed inside; a folder or a file.
        source: String,
        /// What is there, for the mount point that may have to be made.
        is_folder: bool,
        /// The path inside.
        target: String,
        /// Refuses writes.
        readonly: bool,
    },
    /// An empty folder in memory.
    Tmpfs {
        /// The path inside.
        target: String,
        /// The most that it may hold, in bytes.
        size: Option<u64>,
        /// Its permission bits.
        mode: Option<u32>,
        /// Lets programs in it run.
        exec: bool,
        /// Refuses writes.
        readonly: bool,
    },
    /// A small file with the given bytes, in memory and private to this process tree.
    File {
        /// The path inside.
        target: String,
        /// The bytes.
        content: Redacted,
        /// Its permission bits.
        mode: u32,
        /// Its user and group.
        owner: (u32, u32),
        /// Refuses writes.
        readonly: bool,
    },
}

impl Mount {
    /// Returns the path inside.
    pub fn target(&self) -> &str {
        match self {
            Mount::Bind { target, .. }
            | Mount::Device { target, .. }
            | Mount::Layers { target, .. }
            | Mount::Tmpfs { target, .. }
            | Mount::File { target, .. } => target,
        }
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
    /// All capabilities and no seccomp filter.
    pub privileged: bool,
    /// As [`Spec::no_new_privileges`].
    pub no_new_privileges: bool,
}

/// Names the first process of a running container so that a reused pid is noticed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Target {
    /// Its pid as the machine sees it.
    pub pid: i32,
    /// Its start time, field 22 of `/proc/PID/stat`.
    pub start_time: u64,
    /// `/proc/sys/kernel/random/boot_id` when it was started; empty isn't checked.
    pub boot_id: String,
    /// The folders of its cgroup, from [`super::Process::cgroup`]; a further process joins them.
    pub cgroup: Vec<PathBuf>,
}
