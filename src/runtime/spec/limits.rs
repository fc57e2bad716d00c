//! What a process tree may use of the machine.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Whether a process tree has a cgroup of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CgroupPlace {
    /// Only where a limit needs one.
    #[default]
    ForLimits,
    /// Always, to be measured, frozen and killed by.
    Own,
    /// Always, in this folder below each hierarchy's top instead of kiln's.
    Below(String),
}

/// A limit of one block device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceLimit {
    /// Its number, `major:minor`.
    pub device: String,
    /// A weight, bytes per second, or operations per second.
    pub value: u64,
}

/// Who may do what with devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    /// Lets it be done, or not.
    pub allow: bool,
    /// `c`, `b`, or `a` for all.
    pub kind: char,
    /// Its number; none is every one.
    pub major: Option<u32>,
    /// Its second number; none is every one.
    pub minor: Option<u32>,
    /// Letters of `rwm`: reading, writing, making a node.
    pub access: String,
}

impl fmt::Display for DeviceRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |number: Option<u32>| number.map_or("*".to_owned(), |number| number.to_string());
        write!(f, "{} {}:{} {}", self.kind, number(self.major), number(self.minor), self.access)
    }
}

/// Resource limits as the kernel counts them; `None` and empty are no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Bytes of memory, page cache included.
    pub memory: Option<u64>,
    /// Bytes of memory and swap together; -1 is as much as there is.
    pub memory_swap: Option<i64>,
    /// `memory_swap` was not asked for: it may be left out where swap isn't counted.
    pub memory_swap_is_default: bool,
    /// Bytes of memory that it is brought back to when the machine has little.
    pub memory_reservation: Option<u64>,
    /// How readily its memory is swapped, 0 to 100.
    pub memory_swappiness: Option<u64>,
    /// Its processes wait for memory instead of being killed.
    pub oom_kill_disable: bool,
    /// Its share of the processors beside others', 2 to 262144.
    pub cpu_shares: Option<u64>,
    /// Microseconds that `cpu_quota` is for.
    pub cpu_period: Option<u64>,
    /// Microseconds of processor time in each period; -1 is no limit.
    pub cpu_quota: Option<i64>,
    /// Microseconds that `cpu_rt_runtime` is for.
    pub cpu_rt_period: Option<u64>,
    /// Microseconds of each period in which its realtime tasks may run.
    pub cpu_rt_runtime: Option<i64>,
    /// The processors it may run on: `0-3,5`.
    pub cpuset_cpus: Option<String>,
    /// The memory nodes it may use.
    pub cpuset_mems: Option<String>,
    /// Tasks; -1 is no limit.
    pub pids: Option<i64>,
    /// Its share of block devices, 10 to 1000.
    pub blkio_weight: Option<u16>,
    /// The same for single ones.
    pub blkio_weight_devices: Vec<DeviceLimit>,
    /// Bytes per second.
    pub read_bps: Vec<DeviceLimit>,
    /// Bytes per second.
    pub write_bps: Vec<DeviceLimit>,
    /// Operations per second.
    pub read_iops: Vec<DeviceLimit>,
    /// Operations per second.
    pub write_iops: Vec<DeviceLimit>,
    /// What is done with devices, in this order, after everything may be.
    pub devices: Vec<DeviceRule>,
}

impl Limits {
    /// Tells whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == Limits::default()
    }
}
