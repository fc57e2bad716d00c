//! Flags of `kiln create` and `run`: what a container may use up.

use crate::api::CreateRequest;
use crate::cli::error::Error;
use crate::cli::units;

/// Flags of docker that are still to come.
#[rustfmt::skip]
pub(super) const NOT_YET: &[&str] = &[
    "--blkio-weight",
    "--blkio-weight-device",
    "--cgroup-parent",
    "--cpu-count",
    "--cpu-percent",
    "--cpu-period",
    "--cpu-quota",
    "--cpu-rt-period",
    "--cpu-rt-runtime",
    "-c", "--cpu-shares",
    "--cpuset-cpus",
    "--cpuset-mems",
    "--device-read-bps",
    "--device-read-iops",
    "--device-write-bps",
    "--device-write-iops",
    "--io-maxbandwidth",
    "--io-maxiops",
    "--kernel-memory",
    "--memory-reservation",
    "--memory-swap",
    "--memory-swappiness",
    "--oom-kill-disable",
];

/// Docker's least memory limit: less starts nothing.
const MIN_MEMORY_BYTES: u64 = 6 << 20;

/// What a container may use up.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Limits {
    /// Number of CPUs
    #[arg(long, value_name = "NUMBER")]
    cpus: Option<String>,
    /// Memory limit (512m, 2g)
    #[arg(long, short, value_name = "BYTES")]
    memory: Option<String>,
    /// Limit of processes (-1: none)
    #[arg(long, value_name = "NUMBER")]
    pub(super) pids_limit: Option<i64>,
}

impl Limits {
    /// Puts them into the request.
    pub(super) fn fill(&self, request: &mut CreateRequest) -> Result<(), Error> {
        let resources = &mut request.resources;
        resources.memory = self.memory.as_deref().map(memory).transpose()?.flatten();
        resources.cpus_millis = self.cpus.as_deref().map(cpus).transpose()?.flatten();
        // 0 and -1 both mean no limit.
        resources.pids_limit = self.pids_limit.filter(|&limit| limit > 0);
        Ok(())
    }
}

/// Reads `--memory`; 0 is no limit.
fn memory(text: &str) -> Result<Option<u64>, Error> {
    let bytes = units::parse_size(text).ok_or_else(|| Error::usage(format!("invalid memory limit `{text}`")));
    let bytes = bytes.map_err(|error| error.hint("write it as `512m` or `2g`"))?;
    if bytes == 0 {
        return Ok(None);
    }
    if bytes < MIN_MEMORY_BYTES {
        return Err(Error::usage(format!("the memory limit `{text}` is too small: the least is 6m")));
    }
    Ok(Some(bytes))
}

/// Reads `--cpus`, in thousandths; 0 is no limit.
fn cpus(text: &str) -> Result<Option<u64>, Error> {
    let known = |number: &f64| *number == 0.0 || (*number >= 0.001 && *number < 1e6);
    let number = text.parse::<f64>().ok().filter(known);
    let number = number.ok_or_else(|| Error::usage(format!("invalid number of CPUs `{text}`")))?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be in range")]
    let thousandths = (number * 1000.0).round() as u64;
    Ok((thousandths > 0).then_some(thousandths))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read() {
        assert_eq!(memory("512m").ok(), Some(Some(512 << 20)));
        assert_eq!(memory("0").ok(), Some(None));
        assert!(memory("1m").is_err() && memory("x").is_err());
        assert_eq!(cpus("1.5").ok(), Some(Some(1500)));
        assert_eq!(cpus("0").ok(), Some(None));
        assert!(cpus("0.0001").is_err() && cpus("-1").is_err() && cpus("x").is_err() && cpus("nan").is_err());
    }
}
