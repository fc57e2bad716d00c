//! From a container's record to what the runtime starts.

mod devices;
pub(super) mod limits;
mod places;
mod rights;

use std::path::{Path, PathBuf};

use kiln_cache::Mounts;

pub(super) use self::devices::host_devices;
pub(super) use self::places::binds;
pub(super) use self::rights::{rights, rlimits, seccomp};
use super::error::Result;
use super::networking::Connection;
use super::record::{Config, Record};
use super::{foreign, identity, links};
use crate::api::NetworkMode;
use crate::runtime::{CgroupPlace, Limits, Mount, Net, Spec};

/// Returns what the runtime starts for `record`, whose image's snapshots are at `lowers`, the uppermost first; `images`
/// are the mounts of other ones.
pub(super) fn spec(
    record: &Record,
    folder: &Path,
    lowers: Vec<PathBuf>,
    tty: Option<(u16, u16)>,
    connection: &Connection,
    images: Vec<Mount>,
) -> Result<Spec> {
    let config = &record.config;
    let options = rights::options(config)?;
    Ok(Spec {
        id: record.id.clone(),
        rootfs: Mounts { lowers, upper: Some(folder.join("upper")), work: Some(folder.join("work")) },
        // What is thrown away at the end need not reach the disk.
        volatile: config.remove,
        readonly_root: config.readonly,
        args: config.args.clone(),
        env: links::env(record, folder, &connection.endpoints),
        cwd: config.cwd.clone(),
        // As docker, other than BuildKit in its steps.
        cwd_of_root: true,
        user: config.user.clone(),
        hostname: config.hostname.clone(),
        domainname: config.isolation.domainname.clone().unwrap_or_default(),
        groups: config.isolation.group_add.clone(),
        mounts: places::mounts(config, identity::files(record, folder, &connection.endpoints)?, images)?,
        shm_bytes: config.isolation.shm_bytes.unwrap_or(0),
        rights: rights(config, false)?,
        rlimits: rlimits(config),
        sysctls: config.isolation.sysctls.clone(),
        oom_score_adj: config.isolation.oom_score_adj,
        privileged: config.privileged,
        unmasked: options.unmasked,
        writable_cgroups: options.writable_cgroups,
        tty,
        network: match config.network {
            NetworkMode::Host => Net::Host,
            _ if connection.donor.is_some() => Net::Shared,
            NetworkMode::Bridge | NetworkMode::None => Net::Namespace,
        },
        init: config.isolation.init,
        ids: config.ids,
        cgroup: limits::place(&config.resources),
        opens_devices: !config.isolation.device_cgroup_rules.is_empty() && !config.privileged,
        limits: Limits { devices: devices::rules(config)?, ..limits::limits(&config.resources)? },
        // With other ids they would belong to nobody.
        own_files: if config.ids.is_none() { identity::places() } else { Vec::new() },
        ..Spec::default()
    })
}

/// Returns what the stage of a container looks like that asks for nothing special.
pub(super) fn plain(id: &str) -> Spec {
    Spec {
        id: id.to_owned(),
        rootfs: Mounts { lowers: vec![PathBuf::from("/")], upper: None, work: None },
        network: Net::Namespace,
        cgroup: CgroupPlace::Own,
        own_files: identity::places(),
        ..Spec::default()
    }
}

/// Refuses what [`spec`] would not understand, before there is a container.
pub(super) fn check(config: &Config) -> Result<()> {
    rights(config, false)?;
    limits::check(&config.resources)?;
    rights::check_ulimits(config)?;
    rights::check_sysctls(config)?;
    devices::check(config)?;
    foreign::check(config)?;
    places::check(config)
}
