//! What a container may use up.

use serde::{Deserialize, Serialize};

/// A value for one block device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceValue {
    /// The device's path on the host.
    pub path: String,
    /// A weight, bytes per second, or operations per second.
    pub value: u64,
}

/// The limits of `kiln run`, `create` and `update`; `None` and empty are "not said".
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// `-m`, bytes.
    pub memory: Option<u64>,
    /// `--memory-swap`, bytes of memory and swap together; -1 is no limit of swap.
    pub memory_swap: Option<i64>,
    /// `--memory-reservation`, bytes.
    pub memory_reservation: Option<u64>,
    /// `--memory-swappiness`, 0 to 100.
    pub memory_swappiness: Option<u64>,
    /// `--oom-kill-disable`.
    pub oom_kill_disable: bool,
    /// `--cpus`, in thousandths.
    pub cpus_millis: Option<u64>,
    /// `-c`, 2 to 262144.
    pub cpu_shares: Option<u64>,
    /// `--cpu-period`, microseconds.
    pub cpu_period: Option<u64>,
    /// `--cpu-quota`, microseconds of a period; -1 is no limit.
    pub cpu_quota: Option<i64>,
    /// `--cpu-rt-period`, microseconds.
    pub cpu_rt_period: Option<u64>,
    /// `--cpu-rt-runtime`, microseconds.
    pub cpu_rt_runtime: Option<i64>,
    /// `--cpuset-cpus`: `0-3,5`.
    pub cpuset_cpus: Option<String>,
    /// `--cpuset-mems`.
    pub cpuset_mems: Option<String>,
    /// `--pids-limit`; 0 and less is no limit.
    pub pids_limit: Option<i64>,
    /// `--blkio-weight`, 10 to 1000.
    pub blkio_weight: Option<u16>,
    /// `--blkio-weight-device`.
    pub blkio_weight_devices: Vec<DeviceValue>,
    /// `--device-read-bps`.
    pub device_read_bps: Vec<DeviceValue>,
    /// `--device-write-bps`.
    pub device_write_bps: Vec<DeviceValue>,
    /// `--device-read-iops`.
    pub device_read_iops: Vec<DeviceValue>,
    /// `--device-write-iops`.
    pub device_write_iops: Vec<DeviceValue>,
    /// `--cgroup-parent`.
    pub cgroup_parent: Option<String>,
}

/// `kiln update`: what is not said stays.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UpdateRequest {
    /// The limits that change.
    pub resources: Resources,
    /// What happens when its program ends.
    pub restart: Option<super::RestartPolicy>,
}
