//! What a container may use up: checked, and in the kernel's own numbers.

use std::collections::BTreeSet;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use crate::api::{DeviceValue, Resources};
use crate::container::error::{Error, Result};
use crate::runtime::{CgroupPlace, DeviceLimit, Limits};

/// Docker's least memory limit: less starts nothing.
const MIN_MEMORY_BYTES: u64 = 6 << 20;
/// The period that `--cpus` counts in, microseconds; docker's.
const CPU_PERIOD_US: u64 = 100_000;
/// The bounds of the kernel's scheduler.
const CPU_SHARES: std::ops::RangeInclusive<u64> = 2..=262_144;
const PERIOD_US: std::ops::RangeInclusive<u64> = 1000..=1_000_000;
const MIN_QUOTA_US: i64 = 1000;
const WEIGHTS: std::ops::RangeInclusive<u64> = 10..=1000;
const ONLINE_CPUS: &str = "/sys/devices/system/cpu/online";
const ONLINE_MEMS: &str = "/sys/devices/system/node/online";

/// Refuses values that no machine could keep, or not this one; the message names the flag.
pub(in crate::container) fn check(resources: &Resources) -> Result<()> {
    check_memory(resources)?;
    check_cpu(resources)?;
    check_set("--cpuset-cpus", resources.cpuset_cpus.as_deref(), ONLINE_CPUS)?;
    check_set("--cpuset-mems", resources.cpuset_mems.as_deref(), ONLINE_MEMS)?;
    let weights = resources.blkio_weight_devices.iter().map(|device| device.value);
    for (flag, weight) in (resources.blkio_weight.map(|weight| ("--blkio-weight", weight.into())).into_iter())
        .chain(weights.map(|weight| ("--blkio-weight-device", weight)))
    {
        if !WEIGHTS.contains(&weight) {
            return Err(bad(flag, &format!("a weight is 10 to 1000, not {weight}")));
        }
    }
    if resources.cgroup_parent.as_ref().is_some_and(|parent| parent.split('/').any(|part| part == "..")) {
        return Err(bad("--cgroup-parent", "it must not lead upwards"));
    }
    limits(resources).map(drop)
}

fn check_memory(resources: &Resources) -> Result<()> {
    let memory = resources.memory;
    if memory.is_some_and(|bytes| bytes < MIN_MEMORY_BYTES) {
        return Err(bad("--memory", "the least is 6m"));
    }
    match (resources.memory_swap, memory) {
        (Some(..=-2), _) => return Err(bad("--memory-swap", "it is a number of bytes, or -1 for no limit")),
        (Some(1..), None) => return Err(bad("--memory-swap", "it needs `--memory`")),
        (Some(both @ 0..), Some(memory)) if both.unsigned_abs() < memory => {
            return Err(bad(
                "--memory-swap",
                "it is memory and swap together: less than `--memory` is nothing",
            ));
        }
        _ => {}
    }
    match (resources.memory_reservation, memory) {
        (Some(..MIN_MEMORY_BYTES), _) => return Err(bad("--memory-reservation", "the least is 6m")),
        (Some(least), Some(memory)) if least > memory => {
            return Err(bad("--memory-reservation", "it can't be more than `--memory`"));
        }
        _ => {}
    }
    match resources.memory_swappiness {
        Some(101..) => Err(bad("--memory-swappiness", "it is 0 to 100")),
        _ => Ok(()),
    }
}

fn check_cpu(resources: &Resources) -> Result<()> {
    if let Some(millis) = resources.cpus_millis {
        if resources.cpu_period.is_some() || resources.cpu_quota.is_some() {
            let flag = if resources.cpu_period.is_some() { "--cpu-period" } else { "--cpu-quota" };
            return Err(bad("--cpus", &format!("it can't stand beside `{flag}`")));
        }
        let count = std::fs::read_to_string(ONLINE_CPUS).ok().and_then(|text| numbers(&text));
        let most = count.map_or(u64::MAX, |online| online.len() as u64);
        if millis < 10 || millis > most.saturating_mul(1000) {
            return Err(bad(
                "--cpus",
                &format!("it is 0.01 to {most}.00: this machine has {most} processors"),
            ));
        }
    }
    if resources.cpu_shares.is_some_and(|shares| !CPU_SHARES.contains(&shares)) {
        return Err(bad("--cpu-shares", "it is 2 to 262144"));
    }
    if resources.cpu_period.is_some_and(|period| !PERIOD_US.contains(&period)) {
        return Err(bad("--cpu-period", "it is 1000 to 1000000 microseconds"));
    }
    if resources.cpu_quota.is_some_and(|quota| quota != -1 && quota < MIN_QUOTA_US) {
        return Err(bad("--cpu-quota", "it is at least 1000 microseconds, or -1 for no limit"));
    }
    let period = resources.cpu_rt_period.and_then(|period| i64::try_from(period).ok());
    match (resources.cpu_rt_runtime, period) {
        (Some(runtime), Some(period)) if runtime > period => {
            Err(bad("--cpu-rt-runtime", "it can't be more than `--cpu-rt-period`"))
        }
        _ => Ok(()),
    }
}

/// Checks a list of processors or memory nodes against those in the file `online`.
fn check_set(flag: &str, wanted: Option<&str>, online: &str) -> Result<()> {
    let Some(wanted) = wanted else { return Ok(()) };
    let set = numbers(wanted).ok_or_else(|| bad(flag, &format!("`{wanted}` is no list such as `0-2,4`")))?;
    // A machine without nodes has one memory.
    let online = std::fs::read_to_string(online).unwrap_or_else(|_| "0".to_owned());
    let missing = set.difference(&numbers(&online).unwrap_or_default()).next().copied();
    match missing {
        Some(number) => {
            Err(bad(flag, &format!("`{wanted}` has {number}, but this machine has {}", online.trim())))
        }
        None => Ok(()),
    }
}

/// Reads `0-3,5`.
fn numbers(text: &str) -> Option<BTreeSet<u32>> {
    /// More than any kernel is built for.
    const MOST: u32 = 8192;
    let mut all = BTreeSet::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<u32>().ok()?, last.parse::<u32>().ok()?);
        if first > last || last >= MOST {
            return None;
        }
        all.extend(first..=last);
    }
    Some(all)
}

/// Returns the limits as the runtime takes them.
pub(in crate::container) fn limits(resources: &Resources) -> Result<Limits> {
    let quota = resources.cpus_millis.map(|millis| millis.saturating_mul(CPU_PERIOD_US) / 1000);
    let devices = |flag, values: &[DeviceValue]| -> Result<Vec<DeviceLimit>> {
        values.iter().map(|value| device(flag, value)).collect()
    };
    // As docker: without a word about swap there is as much of it as memory.
    let default_swap = resources.memory.filter(|_| resources.memory_swap.is_none());
    let default_swap = default_swap.and_then(|bytes| i64::try_from(bytes.saturating_mul(2)).ok());
    Ok(Limits {
        memory: resources.memory,
        memory_swap: resources.memory_swap.or(default_swap),
        memory_swap_is_default: default_swap.is_some(),
        memory_reservation: resources.memory_reservation,
        memory_swappiness: resources.memory_swappiness,
        oom_kill_disable: resources.oom_kill_disable,
        cpu_shares: resources.cpu_shares,
        cpu_period: resources.cpu_period.or(quota.map(|_| CPU_PERIOD_US)),
        cpu_quota: resources.cpu_quota.or(quota.and_then(|quota| i64::try_from(quota).ok())),
        cpu_rt_period: resources.cpu_rt_period,
        cpu_rt_runtime: resources.cpu_rt_runtime,
        cpuset_cpus: resources.cpuset_cpus.clone(),
        cpuset_mems: resources.cpuset_mems.clone(),
        pids: resources.pids_limit.filter(|limit| *limit != 0),
        blkio_weight: resources.blkio_weight,
        blkio_weight_devices: devices("--blkio-weight-device", &resources.blkio_weight_devices)?,
        read_bps: devices("--device-read-bps", &resources.device_read_bps)?,
        write_bps: devices("--device-write-bps", &resources.device_write_bps)?,
        read_iops: devices("--device-read-iops", &resources.device_read_iops)?,
        write_iops: devices("--device-write-iops", &resources.device_write_iops)?,
        devices: Vec::new(),
    })
}

/// Returns where its cgroup is.
pub(super) fn place(resources: &Resources) -> CgroupPlace {
    match &resources.cgroup_parent {
        Some(parent) => CgroupPlace::Below(parent.clone()),
        None => CgroupPlace::Own,
    }
}

fn device(flag: &str, value: &DeviceValue) -> Result<DeviceLimit> {
    let found = std::fs::metadata(&value.path);
    let found = found.map_err(|error| bad(flag, &format!("cannot look at `{}`: {error}", value.path)))?;
    if !found.file_type().is_block_device() {
        return Err(bad(flag, &format!("`{}` is no block device", value.path)));
    }
    let number = found.rdev();
    let device = format!("{}:{}", rustix::fs::major(number), rustix::fs::minor(number));
    Ok(DeviceLimit { device, value: value.value })
}

fn bad(flag: &str, why: &str) -> Error {
    Error::Invalid { message: format!("invalid value for `{flag}`: {why}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(resources: Resources) -> String {
        check(&resources).err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn lists_of_processors_are_read() {
        assert_eq!(numbers("0-2,4\n"), Some([0, 1, 2, 4].into()));
        for bad in ["", "a", "3-1", "1-", "-1", "1,,2", "0-999999999"] {
            assert_eq!(numbers(bad), None, "{bad}");
        }
    }

    #[test]
    fn values_that_cannot_be_kept_name_their_flag() {
        let none = Resources::default;
        for (resources, flag) in [
            (Resources { memory: Some(5 << 20), ..none() }, "`--memory`"),
            (Resources { memory_swap: Some(1 << 30), ..none() }, "`--memory-swap`"),
            (Resources { memory: Some(1 << 30), memory_swap: Some(1 << 29), ..none() }, "`--memory-swap`"),
            (Resources { memory_swap: Some(-2), ..none() }, "`--memory-swap`"),
            (Resources { memory_reservation: Some(1), ..none() }, "`--memory-reservation`"),
            (
                Resources { memory: Some(1 << 29), memory_reservation: Some(1 << 30), ..none() },
                "`--memory-reservation`",
            ),
            (Resources { memory_swappiness: Some(101), ..none() }, "`--memory-swappiness`"),
            (Resources { cpus_millis: Some(9_000_000), ..none() }, "`--cpus`"),
            (Resources { cpus_millis: Some(5), ..none() }, "`--cpus`"),
            (Resources { cpus_millis: Some(500), cpu_quota: Some(5000), ..none() }, "`--cpus`"),
            (Resources { cpu_shares: Some(1), ..none() }, "`--cpu-shares`"),
            (Resources { cpu_period: Some(999), ..none() }, "`--cpu-period`"),
            (Resources { cpu_quota: Some(999), ..none() }, "`--cpu-quota`"),
            (Resources { cpu_rt_runtime: Some(2), cpu_rt_period: Some(1), ..none() }, "`--cpu-rt-runtime`"),
            (Resources { cpuset_cpus: Some("0-".into()), ..none() }, "`--cpuset-cpus`"),
            (Resources { cpuset_cpus: Some("4000".into()), ..none() }, "`--cpuset-cpus`"),
            (Resources { cpuset_mems: Some("500".into()), ..none() }, "`--cpuset-mems`"),
            (Resources { blkio_weight: Some(9), ..none() }, "`--blkio-weight`"),
            (Resources { cgroup_parent: Some("/a/../b".into()), ..none() }, "`--cgroup-parent`"),
            (
                Resources {
                    device_read_bps: vec![DeviceValue { path: "/dev/null".into(), value: 1 }],
                    ..none()
                },
                "`--device-read-bps`: `/dev/null` is no block device",
            ),
        ] {
            let refusal = refusal(resources);
            assert!(refusal.contains(&format!("invalid value for {flag}")), "{refusal}: {flag}");
        }
    }

    #[test]
    fn limits_are_in_the_kernels_numbers() {
        let resources = Resources {
            memory: Some(64 << 20),
            cpus_millis: Some(1500),
            cpuset_cpus: Some("0".into()),
            pids_limit: Some(-1),
            ..Resources::default()
        };
        let limits = limits(&resources).unwrap();
        assert_eq!((limits.cpu_period, limits.cpu_quota), (Some(100_000), Some(150_000)));
        assert_eq!((limits.memory_swap, limits.memory_swap_is_default), (Some(128 << 20), true));
        assert_eq!(limits.pids, Some(-1));
        assert_eq!(refusal(Resources { memory_swap: Some(-1), ..Resources::default() }), "");
    }
}
