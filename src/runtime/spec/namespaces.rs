//! Which namespaces a process tree has, and how the ones of a running tree are found again.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Which network namespace a process runs in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Net {
    /// The namespace given at the start; a new one in which only loopback is up when none is given.
    #[default]
    Namespace,
    /// The namespace given at the start, which belongs to another process tree.
    Shared,
    /// The caller's own.
    Host,
}

/// One namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ns {
    /// A new one.
    #[default]
    Own,
    /// The caller's.
    Host,
    /// That of another process tree.
    Of(Target),
}

/// Ids of the machine that stand for 0 and up in a user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdRange {
    /// The machine's id that is 0 inside.
    pub first: u32,
    /// How many there are.
    pub count: u32,
}

impl IdRange {
    /// Returns the machine's id of `id`, inside of `range` when there is one.
    pub fn host(range: Option<IdRange>, id: u32) -> u32 {
        range.map_or(id, |range| range.first.saturating_add(id))
    }

    /// Returns what the machine's `id` is inside of `range` when there is one; nobody's stays as it is.
    pub fn inside(range: Option<IdRange>, id: u32) -> u32 {
        let inside = |range: IdRange| id.checked_sub(range.first).filter(|inside| *inside < range.count);
        range.and_then(inside).unwrap_or(id)
    }
}

/// The namespaces besides mounts and network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Namespaces {
    /// Processes. In one that isn't its own, the tree is killed by its cgroup.
    pub pid: Ns,
    /// System V IPC and message queues, and `/dev/shm` with them.
    pub ipc: Ns,
    /// Leaves `/dev/shm` out.
    pub no_shm: bool,
    /// Host and domain name; [`Ns::Of`] is not possible here.
    pub uts: Ns,
    /// What is shown as the top of the cgroups; [`Ns::Of`] is not possible here.
    pub cgroup: Ns,
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
