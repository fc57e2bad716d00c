//! Which namespaces a process tree has, and how the ones of a running tree are found again.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Which network namespace a process runs in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Net {
    /// The namespace given at the start; a new one in which only loopback is up when none is given.
    #[default]
    Namespace,
    /// The caller's own.
    Host,
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
