//! `HostConfig`: what was asked for when the container was made.

use serde_json::{Value, json};

use super::mounts;
use super::network::network_mode;
use crate::api::{DeviceValue, Isolation, Resources};
use crate::container::{Config, Record};
use crate::runtime;

/// Docker's size of `/dev/shm`.
const SHM_BYTES: u64 = 64 << 20;
/// The profile's part that `--security-opt` takes away.
const OPEN_PATHS: &str = "systempaths=unconfined";

/// Shows the whole of it, in parts that json! can hold.
pub(super) fn host_config(record: &Record) -> Value {
    let config = &record.config;
    let mut shown = base(config);
    for part in [limits(&config.resources), isolation(config, &config.isolation)] {
        if let (Value::Object(shown), Value::Object(part)) = (&mut shown, part) {
            shown.extend(part);
        }
    }
    shown
}

fn base(config: &Config) -> Value {
    let hosts: Vec<_> = config.add_hosts.iter().map(|(name, at)| format!("{name}:{at}")).collect();
    let mut shown = json!({
        "Binds": mounts::binds(config),
        "Mounts": mounts::asked(config),
        "ContainerIDFile": "",
        "LogConfig": { "Type": config.log.driver, "Config": config.log.options },
        "NetworkMode": network_mode(config),
        "PortBindings": super::ports::bindings(config),
        "RestartPolicy": { "Name": config.restart.name(), "MaximumRetryCount": config.restart.limit() },
        "AutoRemove": config.remove,
        "VolumeDriver": "",
        "VolumesFrom": some(&config.volumes_from),
        "ConsoleSize": [0, 0],
        "Dns": config.dns,
        "DnsOptions": config.dns_options,
        "DnsSearch": config.dns_search,
        "ExtraHosts": hosts,
        "Links": null,
        "PublishAllPorts": config.publish_all,
    });
    if !config.annotations.is_empty() {
        shown["Annotations"] = json!(config.annotations);
    }
    shown
}

fn limits(limits: &Resources) -> Value {
    // As much swap as memory.
    let default_swap = || i64::try_from(limits.memory.unwrap_or(0).saturating_mul(2)).unwrap_or(-1);
    json!({
        "CpuShares": limits.cpu_shares.unwrap_or(0),
        "Memory": limits.memory.unwrap_or(0),
        "NanoCpus": limits.cpus_millis.unwrap_or(0) * 1_000_000,
        "CgroupParent": limits.cgroup_parent.clone().unwrap_or_default(),
        "BlkioWeight": limits.blkio_weight.unwrap_or(0),
        "BlkioWeightDevice": devices(&limits.blkio_weight_devices, "Weight"),
        "BlkioDeviceReadBps": devices(&limits.device_read_bps, "Rate"),
        "BlkioDeviceWriteBps": devices(&limits.device_write_bps, "Rate"),
        "BlkioDeviceReadIOps": devices(&limits.device_read_iops, "Rate"),
        "BlkioDeviceWriteIOps": devices(&limits.device_write_iops, "Rate"),
        "CpuPeriod": limits.cpu_period.unwrap_or(0),
        "CpuQuota": limits.cpu_quota.unwrap_or(0),
        "CpuRealtimePeriod": limits.cpu_rt_period.unwrap_or(0),
        "CpuRealtimeRuntime": limits.cpu_rt_runtime.unwrap_or(0),
        "CpusetCpus": limits.cpuset_cpus.clone().unwrap_or_default(),
        "CpusetMems": limits.cpuset_mems.clone().unwrap_or_default(),
        "MemoryReservation": limits.memory_reservation.unwrap_or(0),
        "MemorySwap": limits.memory_swap.unwrap_or_else(default_swap),
        "MemorySwappiness": limits.memory_swappiness,
        "OomKillDisable": limits.oom_kill_disable,
        "PidsLimit": limits.pids_limit,
        "CpuCount": 0,
        "CpuPercent": 0,
        "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0,
    })
}

fn devices(values: &[DeviceValue], key: &str) -> Value {
    values.iter().map(|device| json!({ "Path": device.path, key: device.value })).collect()
}

fn isolation(config: &Config, isolation: &Isolation) -> Value {
    let word = |text: &Option<String>, default: &str| text.clone().unwrap_or_else(|| default.to_owned());
    let ulimits = isolation.ulimits.iter();
    let ulimits = ulimits.map(|limit| json!({ "Name": limit.name, "Hard": limit.hard, "Soft": limit.soft }));
    let open = config.privileged || isolation.security_opts.iter().any(|option| option == OPEN_PATHS);
    let paths = |paths: Vec<String>| if open { Value::Null } else { paths.into() };
    let mut shown = json!({
        "CapAdd": some(&capabilities(&isolation.cap_add)),
        "CapDrop": some(&capabilities(&isolation.cap_drop)),
        "CgroupnsMode": word(&isolation.cgroupns, "private"),
        "GroupAdd": some(&isolation.group_add),
        "IpcMode": word(&isolation.ipc, "private"),
        "Cgroup": "",
        "OomScoreAdj": isolation.oom_score_adj.unwrap_or(0),
        "PidMode": word(&isolation.pid, ""),
        "Privileged": config.privileged,
        "ReadonlyRootfs": config.readonly,
        "SecurityOpt": some(&isolation.security_opts),
        "UTSMode": word(&isolation.uts, ""),
        "UsernsMode": word(&isolation.userns, ""),
        "ShmSize": isolation.shm_bytes.unwrap_or(SHM_BYTES),
        "Runtime": word(&isolation.runtime, "kiln"),
        "Isolation": "",
        "Devices": isolation.devices.iter().map(|text| device(text)).collect::<Vec<_>>(),
        "DeviceCgroupRules": some(&isolation.device_cgroup_rules),
        "DeviceRequests": null,
        "Ulimits": ulimits.collect::<Vec<_>>(),
        "MaskedPaths": paths(runtime::masked_paths()),
        "ReadonlyPaths": paths(runtime::readonly_paths()),
        "Init": isolation.init,
    });
    if !isolation.sysctls.is_empty() {
        shown["Sysctls"] = isolation.sysctls.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    }
    let memory = mounts::short_memory(config);
    if !memory.is_empty() {
        shown["Tmpfs"] = memory.into();
    }
    shown
}

/// Docker shows `null` for an empty list.
/// As docker writes them: `net_admin` is `CAP_NET_ADMIN`.
fn capabilities(names: &[String]) -> Vec<String> {
    let whole = |name: &String| match name.to_ascii_uppercase() {
        name if name == "ALL" || name.starts_with("CAP_") => name,
        name => format!("CAP_{name}"),
    };
    names.iter().map(whole).collect()
}

fn some(list: &[String]) -> Value {
    if list.is_empty() { Value::Null } else { list.to_vec().into() }
}

/// `--device HOST[:INSIDE[:rwm]]`
fn device(text: &str) -> Value {
    let mut parts = text.split(':');
    let host = parts.next().unwrap_or_default();
    let (inside, rights) = match (parts.next(), parts.next()) {
        (Some(inside), Some(rights)) => (inside, rights),
        (Some(second), None) if second.starts_with('/') => (second, "rwm"),
        (Some(rights), None) => (host, rights),
        _ => (host, "rwm"),
    };
    json!({ "PathOnHost": host, "PathInContainer": inside, "CgroupPermissions": rights })
}
