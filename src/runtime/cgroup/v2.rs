//! Limits as the files of v2 take them.

use std::fs;
use std::path::Path;

use super::{CPU_PERIOD_US, write};
use crate::runtime::error::StartError;
use crate::runtime::spec::Limits;

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

/// Writes what `limits` ask of `controller` to the folder.
pub(super) fn limit(controller: &str, folder: &Path, limits: &Limits) -> Result<(), StartError> {
    match controller {
        "memory" => {
            if let Some(bytes) = limits.memory {
                write(&folder.join("memory.max"), &bytes.to_string())?;
            }
        }
        "cpu" => {
            if let Some(millis) = limits.cpus_millis {
                let quota = millis.saturating_mul(CPU_PERIOD_US) / 1000;
                write(&folder.join("cpu.max"), &format!("{quota} {CPU_PERIOD_US}"))?;
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
