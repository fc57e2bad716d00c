//! `linux.resources` and `linux.cgroupsPath` as [`crate::runtime`] takes them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::config::{Rate, Resources};
use super::error::{Doing, Error, Result};
use super::state::Kept;
use crate::runtime::{Cgroup, CgroupPlace, DeviceLimit, Limits};

/// Where cgroups are whose place isn't told.
const PARENT: &str = "kiln-oci";

/// Makes the container's cgroup; `folder` is the one that its state is kept in.
pub(super) fn create(folder: &Path, path: &str, resources: &Resources) -> Result<Cgroup> {
    // The same id may be in use below another `--root`.
    let inode = fs::metadata(folder).doing(|| "cannot look at the container's folder")?.ino();
    let (place, name) = place(inode, path);
    let mut cgroup = Cgroup::create(&name, &place, &limits(resources))?;
    if !cgroup.pids().is_empty() {
        // Its end would be the end of them all.
        cgroup.close_doors();
        return Err(Error::Refused(format!("container's cgroup `{path}` is not empty")));
    }
    Ok(cgroup)
}

/// Changes the limits of a container to those that are told; gives the folders that it has then.
pub(super) fn update(kept: &Kept, resources: &Resources) -> Result<Vec<PathBuf>> {
    let mut cgroup = kept.cgroup();
    cgroup.limit(&limits(resources))?;
    Ok(cgroup.folders().to_vec())
}

/// The folder below each hierarchy's top, and the name in it.
fn place(inode: u64, path: &str) -> (CgroupPlace, String) {
    let path = Path::new(path.trim_matches('/'));
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => {
            (CgroupPlace::Below(parent.to_string_lossy().into_owned()), name.to_string_lossy().into_owned())
        }
        _ => (CgroupPlace::Below(PARENT.to_owned()), inode.to_string()),
    }
}

/// The limits; where the spec has 0 for none, it is none.
fn limits(resources: &Resources) -> Limits {
    let positive =
        |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok()).filter(|n| *n > 0);
    let memory = resources.memory.clone().unwrap_or_default();
    let cpu = resources.cpu.clone().unwrap_or_default();
    let io = resources.block_io.clone().unwrap_or_default();
    let text = |text: String| Some(text).filter(|text| !text.is_empty());
    Limits {
        memory: positive(memory.limit),
        memory_swap: memory.swap.filter(|swap| *swap != 0),
        memory_reservation: positive(memory.reservation),
        memory_swappiness: memory.swappiness,
        oom_kill_disable: memory.disable_oom_killer,
        cpu_shares: cpu.shares.filter(|shares| *shares > 0),
        cpu_period: cpu.period.filter(|period| *period > 0),
        cpu_quota: cpu.quota.filter(|quota| *quota != 0),
        cpu_rt_period: cpu.realtime_period.filter(|period| *period > 0),
        cpu_rt_runtime: cpu.realtime_runtime.filter(|runtime| *runtime != 0),
        cpuset_cpus: text(cpu.cpus),
        cpuset_mems: text(cpu.mems),
        pids: resources.pids.as_ref().map(|pids| pids.limit).filter(|limit| *limit != 0),
        blkio_weight: io.weight.filter(|weight| *weight > 0),
        blkio_weight_devices: (io.weight_device.iter())
            .filter_map(|device| Some(device_limit(device.major, device.minor, device.weight?.into())))
            .collect(),
        read_bps: rates(&io.throttle_read_bps_device),
        write_bps: rates(&io.throttle_write_bps_device),
        read_iops: rates(&io.throttle_read_iops_device),
        write_iops: rates(&io.throttle_write_iops_device),
        ..Limits::default()
    }
}

fn rates(rates: &[Rate]) -> Vec<DeviceLimit> {
    rates.iter().map(|rate| device_limit(rate.major, rate.minor, rate.rate)).collect()
}

fn device_limit(major: i64, minor: i64, value: u64) -> DeviceLimit {
    DeviceLimit { device: format!("{major}:{minor}"), value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_a_cgroup_is_its_parent_and_its_name() {
        let below = |parent: &str| CgroupPlace::Below(parent.to_owned());
        assert_eq!(place(7, "/libpod_parent/libpod-1"), (below("libpod_parent"), "libpod-1".to_owned()));
        assert_eq!(place(7, "/one"), (below(""), "one".to_owned()));
        assert_eq!(place(7, ""), (below(PARENT), "7".to_owned()));
    }

    #[test]
    fn nothing_and_no_limit_are_told_apart() {
        let resources: Resources = serde_json::from_str(
            r#"{"memory": {"limit": -1, "swap": -1}, "pids": {"limit": 0}, "cpu": {"shares": 0, "quota": 5000}}"#,
        )
        .unwrap();
        let limits = limits(&resources);
        assert_eq!((limits.memory, limits.memory_swap, limits.pids), (None, Some(-1), None));
        assert_eq!((limits.cpu_shares, limits.cpu_quota), (None, Some(5000)));
    }
}
