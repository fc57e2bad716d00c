//! From a container's record to what the runtime starts.

pub(super) mod limits;
mod places;
mod rights;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use kiln_cache::Mounts;

pub(super) use self::places::binds;
pub(super) use self::rights::{rights, rlimits};
use super::error::{Error, Result};
use super::record::{Config, Record};
use crate::api::NetworkMode;
use crate::network::{host_resolv_conf, hosts_file, own_resolv_conf, resolv_conf};
use crate::redacted::Redacted;
use crate::runtime::{CgroupPlace, Mount, Net, Spec, Target, Tree};

/// Returns what the runtime starts for `record`, whose image's snapshots are at `lowers`, the uppermost first.
pub(super) fn spec(
    record: &Record,
    folder: &Path,
    lowers: Vec<PathBuf>,
    tty: Option<(u16, u16)>,
    place: Option<(Ipv4Addr, Ipv4Addr)>,
    donor: Option<&Target>,
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
        env: config.env.clone(),
        cwd: config.cwd.clone(),
        user: config.user.clone(),
        hostname: config.hostname.clone(),
        domainname: config.isolation.domainname.clone().unwrap_or_default(),
        groups: config.isolation.group_add.clone(),
        mounts: places::mounts(config, files(record, place, donor)?)?,
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
            _ if donor.is_some() => Net::Shared,
            NetworkMode::Bridge | NetworkMode::None => Net::Namespace,
        },
        init: config.isolation.init,
        ids: config.ids,
        cgroup: limits::place(&config.resources),
        limits: limits::limits(&config.resources)?,
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
        ..Spec::default()
    }
}

/// Refuses what [`spec`] would not understand, before there is a container.
pub(super) fn check(config: &Config) -> Result<()> {
    rights(config, false)?;
    limits::check(&config.resources)?;
    rights::check_ulimits(config)?;
    rights::check_sysctls(config)?;
    places::check(config)
}

/// The files that tell of name and network.
const FILES: [&str; 3] = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"];
/// The most that is taken over of one.
const FILE_BYTES: u64 = 1 << 20;

/// The files that tell a container about its name and network, unless the user mounts own ones there.
fn files(record: &Record, place: Option<(Ipv4Addr, Ipv4Addr)>, donor: Option<&Target>) -> Result<Vec<Mount>> {
    let config = &record.config;
    let texts = match donor {
        Some(donor) => texts_of(donor)?,
        None => texts(config, place),
    };
    let files = FILES.into_iter().zip(texts);
    let files = files.filter(|(target, _)| config.mounts.iter().all(|mount| mount.target != *target));
    Ok(files
        .map(|(target, text)| Mount::File {
            target: target.to_owned(),
            content: Redacted::new(text),
            mode: 0o644,
            owner: (0, 0),
            readonly: config.readonly,
        })
        .collect())
}

/// What the files say in the container whose network is shared.
fn texts_of(donor: &Target) -> Result<[String; 3]> {
    let tree = Tree::of_running(donor).map_err(|error| Error::Invalid { message: error.to_string() })?;
    Ok(FILES.map(|path| {
        let bytes = tree.read(path, FILE_BYTES).ok().flatten().unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }))
}

fn texts(config: &Config, place: Option<(Ipv4Addr, Ipv4Addr)>) -> [String; 3] {
    let (address, gateway) = place.unzip();
    let on_host = config.network == NetworkMode::Host;
    let hostname = match config.hostname.as_str() {
        "" => std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned(),
        name => name.to_owned(),
    };
    let hosts = match on_host {
        false => hosts_file(&hostname, address, gateway, &config.add_hosts),
        true => {
            let mut text = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
            for (name, at) in &config.add_hosts {
                let at = if at == "host-gateway" { "127.0.0.1" } else { at };
                text.push_str(&format!("{at}\t{name}\n"));
            }
            text
        }
    };
    let host = host_resolv_conf();
    let resolv = if on_host { host } else { resolv_conf(&host) };
    let resolv = own_resolv_conf(&resolv, &config.dns, &config.dns_search, &config.dns_options);
    [hosts, format!("{hostname}\n"), resolv]
}
