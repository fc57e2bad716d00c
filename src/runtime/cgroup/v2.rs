//! Limits as the files of v2 take them.

use std::fs;
use std::path::Path;

use super::setting::Setting;
use super::{CPU_PERIOD_US, v1, write};
use crate::runtime::error::StartError;
use crate::runtime::spec::Limits;

/// Its name of a controller of v1.
pub(super) fn name(controller: &str) -> &str {
    if controller == "blkio" { "io" } else { controller }
}

/// Lets the folders in `parent` have `controller`. A write that changes nothing still waits for every processor, so
/// it is left out.
pub(super) fn enable(parent: &Path, controller: &str) -> Result<(), StartError> {
    let file = parent.join("cgroup.subtree_control");
    let enabled = fs::read_to_string(&file).unwrap_or_default();
    if enabled.split_whitespace().any(|name| name == controller) {
        return Ok(());
    }
    write(&file, &format!("+{controller}"))
}

/// Returns what `limits` ask of `controller`, by its name in v1. What only v1 has goes to that one's file, which is missed
/// then by the flag's name.
pub(super) fn settings(controller: &str, limits: &Limits) -> Vec<Setting> {
    match controller {
        "memory" => memory(limits),
        "cpu" => cpu(limits),
        "cpuset" => v1::cpuset(limits),
        "pids" => v1::pids(limits),
        _ => io(limits),
    }
}

fn memory(limits: &Limits) -> Vec<Setting> {
    // It counts swap alone.
    let swap = limits.memory_swap.map(|both| match u64::try_from(both) {
        Ok(both) => both.saturating_sub(limits.memory.unwrap_or(0)).to_string(),
        Err(_) => "max".to_owned(),
    });
    let swap = swap.map(|bytes| Setting {
        is_default: limits.memory_swap_is_default,
        ..Setting::new("--memory-swap", "memory.swap.max", bytes)
    });
    [
        limits.memory.map(|bytes| Setting::new("--memory", "memory.max", bytes)),
        swap,
        limits.memory_reservation.map(|bytes| Setting::new("--memory-reservation", "memory.low", bytes)),
        limits.memory_swappiness.map(|value| Setting::new("--memory-swappiness", "memory.swappiness", value)),
        limits.oom_kill_disable.then(|| Setting::new("--oom-kill-disable", "memory.oom_control", 1)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn cpu(limits: &Limits) -> Vec<Setting> {
    let quota = limits.cpu_quota.map(|time| if time < 0 { "max".to_owned() } else { time.to_string() });
    let max = match (quota, limits.cpu_period) {
        (None, None) => None,
        (quota, period) => {
            let quota = quota.unwrap_or_else(|| "max".to_owned());
            let flag = if limits.cpu_quota.is_some() { "--cpu-quota" } else { "--cpu-period" };
            Some(Setting::new(flag, "cpu.max", format!("{quota} {}", period.unwrap_or(CPU_PERIOD_US))))
        }
    };
    [
        limits.cpu_shares.map(|shares| Setting::new("--cpu-shares", "cpu.weight", weight_of_shares(shares))),
        max,
        limits.cpu_rt_period.map(|time| Setting::new("--cpu-rt-period", "cpu.rt_period_us", time)),
        limits.cpu_rt_runtime.map(|time| Setting::new("--cpu-rt-runtime", "cpu.rt_runtime_us", time)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// 2…262144 becomes 1…10000, as all runtimes count it.
fn weight_of_shares(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

fn io(limits: &Limits) -> Vec<Setting> {
    let weight = limits.blkio_weight.map(|weight| Setting::new("--blkio-weight", "io.bfq.weight", weight));
    let each = Setting::of_devices;
    [
        weight.into_iter().collect(),
        each("--blkio-weight-device", "io.bfq.weight", "", &limits.blkio_weight_devices),
        each("--device-read-bps", "io.max", "rbps=", &limits.read_bps),
        each("--device-write-bps", "io.max", "wbps=", &limits.write_bps),
        each("--device-read-iops", "io.max", "riops=", &limits.read_iops),
        each("--device-write-iops", "io.max", "wiops=", &limits.write_iops),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::spec::DeviceLimit;

    fn lines(controller: &str, limits: &Limits) -> Vec<String> {
        settings(controller, limits).iter().map(|s| format!("{}={}", s.file, s.value)).collect()
    }

    #[test]
    fn limits_are_the_files_of_their_controllers() {
        let device = |value| vec![DeviceLimit { device: "8:16".into(), value }];
        let limits = Limits {
            memory: Some(100),
            memory_swap: Some(150),
            memory_reservation: Some(50),
            cpu_shares: Some(1024),
            cpu_quota: Some(50_000),
            cpuset_mems: Some("0".into()),
            pids: Some(9),
            blkio_weight: Some(300),
            read_bps: device(1024),
            write_iops: device(7),
            ..Limits::default()
        };
        assert_eq!(lines("memory", &limits), ["memory.max=100", "memory.swap.max=50", "memory.low=50"]);
        assert_eq!(lines("cpu", &limits), ["cpu.weight=39", "cpu.max=50000 100000"]);
        assert_eq!(lines("cpuset", &limits), ["cpuset.mems=0"]);
        assert_eq!(lines("pids", &limits), ["pids.max=9"]);
        assert_eq!(
            lines("blkio", &limits),
            ["io.bfq.weight=300", "io.max=8:16 rbps=1024", "io.max=8:16 wiops=7"]
        );
        let open = Limits { memory_swap: Some(-1), cpu_quota: Some(-1), ..Limits::default() };
        assert_eq!(lines("memory", &open), ["memory.swap.max=max"]);
        assert_eq!(lines("cpu", &open), ["cpu.max=max 100000"]);
        assert_eq!((weight_of_shares(2), weight_of_shares(262_144)), (1, 10_000));
    }
}
