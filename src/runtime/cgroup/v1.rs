//! Limits as the files of v1 take them.

use std::path::Path;

use super::{CPU_PERIOD_US, write};
use crate::runtime::error::StartError;
use crate::runtime::spec::Limits;

/// Writes what `limits` ask of `controller` to its folder.
pub(super) fn limit(controller: &str, folder: &Path, limits: &Limits) -> Result<(), StartError> {
    match controller {
        "memory" => {
            if let Some(bytes) = limits.memory {
                write(&folder.join("memory.limit_in_bytes"), &bytes.to_string())?;
            }
        }
        "cpu" => {
            if let Some(millis) = limits.cpus_millis {
                write(&folder.join("cpu.cfs_period_us"), &CPU_PERIOD_US.to_string())?;
                let quota = millis.saturating_mul(CPU_PERIOD_US) / 1000;
                write(&folder.join("cpu.cfs_quota_us"), &quota.to_string())?;
            }
        }
        _ => {
            if let Some(pids) = limits.pids {
                write(&folder.join("pids.max"), &pids.to_string())?;
            }
        }
    }
    Ok(())
}
