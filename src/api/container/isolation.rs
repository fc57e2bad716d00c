//! What a container may do and see.

use serde::{Deserialize, Serialize};

/// `--ulimit`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// `nofile`, as in `ulimit`'s and docker's names.
    pub name: String,
    /// What holds; -1 is no limit.
    pub soft: i64,
    /// What it may be raised to; -1 is no limit.
    pub hard: i64,
}

/// The flags of `kiln run` and `create` that change the default isolation.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Isolation {
    /// `--cap-add`.
    pub cap_add: Vec<String>,
    /// `--cap-drop`.
    pub cap_drop: Vec<String>,
    /// `--security-opt`; a profile's file is already read in.
    pub security_opts: Vec<String>,
    /// `--device`, as typed.
    pub devices: Vec<String>,
    /// `--device-cgroup-rule`.
    pub device_cgroup_rules: Vec<String>,
    /// `--ulimit`.
    pub ulimits: Vec<Ulimit>,
    /// `--sysctl`.
    pub sysctls: Vec<(String, String)>,
    /// `--group-add`.
    pub group_add: Vec<String>,
    /// `--tmpfs`: the path inside, and its options.
    pub tmpfs: Vec<(String, String)>,
    /// `--shm-size`, bytes.
    pub shm_bytes: Option<u64>,
    /// `--network container:NAME`.
    pub network: Option<String>,
    /// `--pid`.
    pub pid: Option<String>,
    /// `--ipc`.
    pub ipc: Option<String>,
    /// `--uts`.
    pub uts: Option<String>,
    /// `--userns`.
    pub userns: Option<String>,
    /// `--cgroupns`.
    pub cgroupns: Option<String>,
    /// `--oom-score-adj`.
    pub oom_score_adj: Option<i32>,
    /// `--init`.
    pub init: bool,
    /// `--domainname`.
    pub domainname: Option<String>,
    /// `--runtime`.
    pub runtime: Option<String>,
}
