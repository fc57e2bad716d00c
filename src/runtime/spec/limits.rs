//! What a process tree may use of the machine.

use serde::{Deserialize, Serialize};

/// Whether a process tree has a cgroup of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CgroupPlace {
    /// Only where a limit needs one.
    #[default]
    ForLimits,
    /// Always, to be measured, frozen and killed by.
    Own,
}

/// Resource limits; `None` is no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
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

    /// Returns the controllers that these need, as v1 and v2 both name them.
    pub(in crate::runtime) fn controllers(&self) -> Vec<&'static str> {
        let all = [
            ("memory", self.memory.is_some()),
            ("cpu", self.cpus_millis.is_some()),
            ("pids", self.pids.is_some()),
        ];
        all.iter().filter(|(_, needed)| *needed).map(|(name, _)| *name).collect()
    }
}
