//! Flags of `kiln create`, `run` and `update`: what a container may use up.

use crate::api::{CreateRequest, DeviceValue, Resources};
use crate::cli::error::Error;
use crate::cli::units;

/// Flags of docker that are still to come, or belong to other systems.
#[rustfmt::skip]
pub(super) const NOT_YET: &[&str] = &[
    "--cpu-count",
    "--cpu-percent",
    "--io-maxbandwidth",
    "--io-maxiops",
    "--kernel-memory",
];

/// What can be changed later.
#[derive(Debug, Default, clap::Args)]
pub(in crate::cli::commands) struct Changeable {
    /// Share of block devices, 10 to 1000 (0: no own one)
    #[arg(long, value_name = "WEIGHT")]
    blkio_weight: Option<u16>,
    /// Microseconds of the period that --cpu-quota is for
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_period: Option<u64>,
    /// Microseconds of processor time in each period (-1: no limit)
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_quota: Option<i64>,
    /// Microseconds of the period that --cpu-rt-runtime is for
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_rt_period: Option<u64>,
    /// Microseconds of each period for realtime tasks
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_rt_runtime: Option<i64>,
    /// Share of the processors beside other containers, 2 to 262144
    #[arg(long, short = 'c', value_name = "WEIGHT")]
    cpu_shares: Option<u64>,
    /// Number of CPUs
    #[arg(long, value_name = "NUMBER")]
    cpus: Option<String>,
    /// Processors to run on (0-3, 0,1)
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Memory nodes to use (0-3, 0,1)
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Memory limit (512m, 2g)
    #[arg(long, short, value_name = "BYTES")]
    memory: Option<String>,
    /// Memory that it is brought back to when the machine has little
    #[arg(long, value_name = "BYTES")]
    memory_reservation: Option<String>,
    /// Limit of memory and swap together (-1: no limit of swap)
    #[arg(long, value_name = "BYTES")]
    memory_swap: Option<String>,
    /// Limit of processes (-1: none)
    #[arg(long, value_name = "NUMBER")]
    pub(super) pids_limit: Option<i64>,
}

/// What a container may use up.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Limits {
    #[command(flatten)]
    pub(super) changeable: Changeable,
    /// Share of one block device (PATH:WEIGHT)
    #[arg(long, value_name = "PATH:WEIGHT")]
    blkio_weight_device: Vec<String>,
    /// Cgroup that the container's is made in
    #[arg(long, value_name = "PATH")]
    cgroup_parent: Option<String>,
    /// Limit of reading from a device (PATH:BYTES, per second)
    #[arg(long, value_name = "PATH:BYTES")]
    device_read_bps: Vec<String>,
    /// Limit of reads from a device (PATH:NUMBER, per second)
    #[arg(long, value_name = "PATH:NUMBER")]
    device_read_iops: Vec<String>,
    /// Limit of writing to a device (PATH:BYTES, per second)
    #[arg(long, value_name = "PATH:BYTES")]
    device_write_bps: Vec<String>,
    /// Limit of writes to a device (PATH:NUMBER, per second)
    #[arg(long, value_name = "PATH:NUMBER")]
    device_write_iops: Vec<String>,
    /// How readily memory is swapped, 0 to 100 (-1: as the machine's)
    #[arg(long, value_name = "NUMBER")]
    memory_swappiness: Option<i64>,
    /// Let processes wait for memory instead of killing them
    #[arg(long)]
    oom_kill_disable: bool,
}

impl Limits {
    /// Puts them into the request.
    pub(super) fn fill(&self, request: &mut CreateRequest) -> Result<(), Error> {
        let swappiness = self.memory_swappiness.filter(|value| *value != -1);
        let swappiness = swappiness.map(|value| {
            u64::try_from(value)
                .map_err(|_| invalid("--memory-swappiness", &value.to_string(), "it is 0 to 100"))
        });
        let number = |text: &str| text.parse().ok();
        let each = |flag, texts: &[String], read: fn(&str) -> Option<u64>| -> Result<Vec<_>, Error> {
            texts.iter().map(|text| device(flag, text, read)).collect()
        };
        let parent = self.cgroup_parent.clone().filter(|parent| !parent.trim_matches('/').is_empty());
        let resources = self.changeable.resources()?;
        request.resources = Resources {
            memory_swappiness: swappiness.transpose()?,
            oom_kill_disable: self.oom_kill_disable,
            blkio_weight_devices: each("--blkio-weight-device", &self.blkio_weight_device, number)?,
            device_read_bps: each("--device-read-bps", &self.device_read_bps, units::parse_size)?,
            device_write_bps: each("--device-write-bps", &self.device_write_bps, units::parse_size)?,
            device_read_iops: each("--device-read-iops", &self.device_read_iops, number)?,
            device_write_iops: each("--device-write-iops", &self.device_write_iops, number)?,
            cgroup_parent: parent,
            // 0 and -1 both mean no limit, and there is none yet.
            pids_limit: resources.pids_limit.filter(|&limit| limit > 0),
            ..resources
        };
        Ok(())
    }
}

impl Changeable {
    /// Reads them; 0 is "not said", as docker has it.
    pub(in crate::cli::commands) fn resources(&self) -> Result<Resources, Error> {
        let bytes = |flag, text: &Option<String>| text.as_deref().map(|text| bytes(flag, text)).transpose();
        let nonzero = |value: Option<u64>| value.filter(|value| *value != 0);
        Ok(Resources {
            memory: nonzero(bytes("--memory", &self.memory)?),
            memory_swap: self.memory_swap.as_deref().map(swap).transpose()?.filter(|bytes| *bytes != 0),
            memory_reservation: nonzero(bytes("--memory-reservation", &self.memory_reservation)?),
            cpus_millis: self.cpus.as_deref().map(cpus).transpose()?.flatten(),
            cpu_shares: nonzero(self.cpu_shares),
            cpu_period: nonzero(self.cpu_period),
            cpu_quota: self.cpu_quota.filter(|time| *time != 0),
            cpu_rt_period: nonzero(self.cpu_rt_period),
            cpu_rt_runtime: self.cpu_rt_runtime.filter(|time| *time != 0),
            cpuset_cpus: self.cpuset_cpus.clone().filter(|list| !list.is_empty()),
            cpuset_mems: self.cpuset_mems.clone().filter(|list| !list.is_empty()),
            pids_limit: self.pids_limit.map(|limit| if limit > 0 { limit } else { -1 }),
            blkio_weight: self.blkio_weight.filter(|weight| *weight != 0),
            ..Resources::default()
        })
    }
}

fn bytes(flag: &str, text: &str) -> Result<u64, Error> {
    units::parse_size(text).ok_or_else(|| invalid(flag, text, "write it as `512m` or `2g`"))
}

fn swap(text: &str) -> Result<i64, Error> {
    if text.trim() == "-1" {
        return Ok(-1);
    }
    let bytes = bytes("--memory-swap", text)?;
    i64::try_from(bytes).map_err(|_| invalid("--memory-swap", text, "it is too much"))
}

/// Reads `--cpus`, in thousandths.
fn cpus(text: &str) -> Result<Option<u64>, Error> {
    let known = |number: &f64| *number == 0.0 || (*number >= 0.001 && *number < 1e6);
    let number = text.parse::<f64>().ok().filter(known);
    let number = number.ok_or_else(|| invalid("--cpus", text, "write it as `2` or `0.5`"))?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be in range")]
    let thousandths = (number * 1000.0).round() as u64;
    Ok((thousandths > 0).then_some(thousandths))
}

/// Reads `PATH:VALUE`.
fn device(flag: &str, text: &str, read: fn(&str) -> Option<u64>) -> Result<DeviceValue, Error> {
    let parts = text.rsplit_once(':').filter(|(path, _)| path.starts_with("/dev/"));
    let read =
        parts.and_then(|(path, value)| Some(DeviceValue { path: path.to_owned(), value: read(value)? }));
    read.ok_or_else(|| invalid(flag, text, "write it as `/dev/sda:1mb` or `/dev/sda:100`"))
}

fn invalid(flag: &str, text: &str, hint: &str) -> Error {
    Error::usage(format!("invalid value `{text}` for `{flag}`")).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changeable(change: impl FnOnce(&mut Changeable)) -> Option<Resources> {
        let mut flags = Changeable::default();
        change(&mut flags);
        flags.resources().ok()
    }

    #[test]
    fn limits_are_read() {
        let memory = |text: &str| changeable(|flags| flags.memory = Some(text.into())).map(|r| r.memory);
        assert_eq!(memory("512m"), Some(Some(512 << 20)));
        assert_eq!(memory("0"), Some(None));
        assert!(memory("x").is_none() && memory("-1").is_none());
        assert_eq!(cpus("1.5").ok(), Some(Some(1500)));
        assert_eq!(cpus("0").ok(), Some(None));
        assert!(cpus("0.0001").is_err() && cpus("-1").is_err() && cpus("x").is_err() && cpus("nan").is_err());
        let swap =
            |text: &str| changeable(|flags| flags.memory_swap = Some(text.into())).map(|r| r.memory_swap);
        assert_eq!((swap("-1"), swap("1g"), swap("0")), (Some(Some(-1)), Some(Some(1 << 30)), Some(None)));
        assert!(swap("-2").is_none());
        let pids = |limit| changeable(|flags| flags.pids_limit = Some(limit)).map(|r| r.pids_limit);
        assert_eq!((pids(5), pids(0), pids(-1)), (Some(Some(5)), Some(Some(-1)), Some(Some(-1))));
    }

    #[test]
    fn limits_of_devices_are_read() {
        let read = |text| device("--device-read-bps", text, units::parse_size).ok();
        assert_eq!(read("/dev/sda:1mb"), Some(DeviceValue { path: "/dev/sda".into(), value: 1 << 20 }));
        for bad in ["/dev/sda", "/dev/sda:", "sda:1", "/dev/sda:x", "/dev/sda:-1"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
