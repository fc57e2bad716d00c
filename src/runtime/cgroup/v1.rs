//! Limits as the files of v1 take them.

use std::fs;
use std::path::Path;

use super::setting::Setting;
use super::{Level, write};
use crate::runtime::error::StartError;
use crate::runtime::spec::{DeviceLimit, DeviceRule, Limits};

/// Returns what `limits` ask of `controller`.
pub(super) fn settings(controller: &str, limits: &Limits) -> Vec<Setting> {
    match controller {
        "memory" => memory(limits),
        "cpu" => cpu(limits),
        "cpuset" => cpuset(limits),
        "pids" => pids(limits),
        "devices" => devices(limits),
        _ => blkio(limits),
    }
}

fn memory(limits: &Limits) -> Vec<Setting> {
    let swap = limits.memory_swap.map(|bytes| Setting {
        is_default: limits.memory_swap_is_default,
        ..Setting::new("--memory-swap", "memory.memsw.limit_in_bytes", bytes)
    });
    let reservation = limits.memory_reservation;
    [
        limits.memory.map(|bytes| Setting::new("--memory", "memory.limit_in_bytes", bytes)),
        swap,
        reservation.map(|bytes| Setting::new("--memory-reservation", "memory.soft_limit_in_bytes", bytes)),
        limits.memory_swappiness.map(|value| Setting::new("--memory-swappiness", "memory.swappiness", value)),
        limits.oom_kill_disable.then(|| Setting::new("--oom-kill-disable", "memory.oom_control", 1)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn cpu(limits: &Limits) -> Vec<Setting> {
    [
        limits.cpu_shares.map(|shares| Setting::new("--cpu-shares", "cpu.shares", shares)),
        limits.cpu_period.map(|time| Setting::new("--cpu-period", "cpu.cfs_period_us", time)),
        limits.cpu_quota.map(|time| Setting::new("--cpu-quota", "cpu.cfs_quota_us", time)),
        limits.cpu_rt_period.map(|time| Setting::new("--cpu-rt-period", "cpu.rt_period_us", time)),
        limits.cpu_rt_runtime.map(|time| Setting::new("--cpu-rt-runtime", "cpu.rt_runtime_us", time)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Both versions have the same two files.
pub(super) fn cpuset(limits: &Limits) -> Vec<Setting> {
    let cpus = limits.cpuset_cpus.as_ref().map(|cpus| Setting::new("--cpuset-cpus", "cpuset.cpus", cpus));
    let mems = limits.cpuset_mems.as_ref().map(|mems| Setting::new("--cpuset-mems", "cpuset.mems", mems));
    cpus.into_iter().chain(mems).collect()
}

/// Both versions have the same file.
pub(super) fn pids(limits: &Limits) -> Vec<Setting> {
    let text = |limit: i64| if limit < 0 { "max".to_owned() } else { limit.to_string() };
    limits.pids.map(|limit| Setting::new("--pids-limit", "pids.max", text(limit))).into_iter().collect()
}

/// Only v1 has files for this.
fn devices(limits: &Limits) -> Vec<Setting> {
    let opens = limits.devices.iter().any(|rule| rule.allow);
    let flag = if opens { "--device-cgroup-rule" } else { "--device" };
    let file = |rule: &DeviceRule| if rule.allow { "devices.allow" } else { "devices.deny" };
    limits.devices.iter().map(|rule| Setting::new(flag, file(rule), rule)).collect()
}

fn blkio(limits: &Limits) -> Vec<Setting> {
    let weight = limits.blkio_weight.map(|weight| Setting::new("--blkio-weight", "blkio.bfq.weight", weight));
    let each = |flag, file, limits: &[DeviceLimit]| Setting::of_devices(flag, file, "", limits);
    [
        weight.into_iter().collect(),
        each("--blkio-weight-device", "blkio.bfq.weight_device", &limits.blkio_weight_devices),
        each("--device-read-bps", "blkio.throttle.read_bps_device", &limits.read_bps),
        each("--device-write-bps", "blkio.throttle.write_bps_device", &limits.write_bps),
        each("--device-read-iops", "blkio.throttle.read_iops_device", &limits.read_iops),
        each("--device-write-iops", "blkio.throttle.write_iops_device", &limits.write_iops),
    ]
    .concat()
}

/// Fills a new folder's processors and memory nodes in: without them no process can join it.
pub(super) fn fill_cpuset(level: &Level) -> Result<(), StartError> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let own = level.folder.join(file);
        let read = |path: &Path| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        if read(&own).is_empty() {
            write(&own, &read(&level.parent.join(file)))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(controller: &str, limits: &Limits) -> Vec<String> {
        settings(controller, limits).iter().map(|s| format!("{}={}", s.file, s.value)).collect()
    }

    #[test]
    fn limits_are_the_files_of_their_controllers() {
        let device = |value| vec![DeviceLimit { device: "8:16".into(), value }];
        let limits = Limits {
            memory: Some(100),
            memory_swap: Some(-1),
            memory_reservation: Some(50),
            memory_swappiness: Some(0),
            oom_kill_disable: true,
            cpu_shares: Some(512),
            cpu_quota: Some(50_000),
            cpuset_cpus: Some("0-1".into()),
            pids: Some(-1),
            blkio_weight: Some(300),
            read_bps: device(1024),
            write_iops: device(7),
            ..Limits::default()
        };
        assert_eq!(
            lines("memory", &limits),
            [
                "memory.limit_in_bytes=100",
                "memory.memsw.limit_in_bytes=-1",
                "memory.soft_limit_in_bytes=50",
                "memory.swappiness=0",
                "memory.oom_control=1",
            ]
        );
        assert_eq!(lines("cpu", &limits), ["cpu.shares=512", "cpu.cfs_quota_us=50000"]);
        assert_eq!(lines("cpuset", &limits), ["cpuset.cpus=0-1"]);
        assert_eq!(lines("pids", &limits), ["pids.max=max"]);
        assert_eq!(
            lines("blkio", &limits),
            [
                "blkio.bfq.weight=300",
                "blkio.throttle.read_bps_device=8:16 1024",
                "blkio.throttle.write_iops_device=8:16 7",
            ]
        );
    }
}
