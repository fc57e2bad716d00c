//! The files that tell a container its name and who its neighbours are.
//!
//! They are files of the container's folder, bound into it: what changes of them is written in place, since a bind keeps
//! to its file. Containers with one network have them in common.

use std::fs::OpenOptions;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::error::{At, Result};
use super::links::{self, Neighbour};
use super::record::{Config, Endpoint, Record};
use crate::api::NetworkMode;
use crate::network::{RESOLVER, host_resolv_conf, hosts_file, own_resolv_conf, resolv_conf};
use crate::runtime::{How, Mount};

/// The files in a container's folder, and where they are inside.
const FILES: [(&str, &str); 3] =
    [("hosts", "/etc/hosts"), ("hostname", "/etc/hostname"), ("resolv.conf", "/etc/resolv.conf")];

/// Where the files are inside.
pub(super) fn places() -> Vec<String> {
    FILES.map(|(_, target)| target.to_owned()).to_vec()
}

/// Writes the files of a container that starts with `endpoints`; gives their mounts, unless the user mounts own ones
/// there.
pub(super) fn files(record: &Record, folder: &Path, endpoints: &[Endpoint]) -> Result<Vec<Mount>> {
    let config = &record.config;
    let folder = match donor(config) {
        Some(id) => owner_of(&folder.with_file_name(id))?,
        None => {
            write(record, folder, endpoints, &links::neighbours(record, folder, endpoints)?)?;
            folder.to_owned()
        }
    };
    let is_free = |target: &str| config.mounts.iter().all(|mount| mount.target != target);
    let files = FILES.into_iter().filter(|(_, target)| is_free(target));
    let mount = |(name, target): (&str, &str)| Mount::Bind {
        source: folder.join(name),
        target: target.to_owned(),
        readonly: config.readonly,
        how: How::default(),
    };
    Ok(files.map(mount).collect())
}

/// Writes the files of a container that runs anew.
pub(super) fn rewrite(record: &Record, folder: &Path) -> Result<()> {
    let endpoints = &record.state.endpoints;
    write(record, folder, endpoints, &links::living_neighbours(record, folder, endpoints))
}

/// The container whose network it shares.
fn donor(config: &Config) -> Option<&str> {
    config.isolation.network.as_deref()?.strip_prefix("container:")
}

/// The folder of the container whose files those of the one in `folder` are.
fn owner_of(folder: &Path) -> Result<PathBuf> {
    let record = Record::read(folder)?;
    match donor(&record.config) {
        Some(id) => owner_of(&folder.with_file_name(id)),
        None => Ok(folder.to_owned()),
    }
}

fn write(record: &Record, folder: &Path, endpoints: &[Endpoint], neighbours: &[Neighbour]) -> Result<()> {
    let texts = texts(&record.config, endpoints, neighbours);
    for ((name, _), text) in FILES.into_iter().zip(texts) {
        let path = folder.join(name);
        replace(&path, &text).at("write", &path)?;
    }
    Ok(())
}

/// Writes into the file that is there. Its readers find the old text, the new one, or for an instant the rest of the old
/// one after the new.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o644).open(path)?;
    file.write_all(text.as_bytes())?;
    let length = text.len() as u64;
    // To cut a file takes the filesystem longer than to write it, and a new one needs none of it.
    if file.metadata()?.len() == length { Ok(()) } else { file.set_len(length) }
}

fn texts(config: &Config, endpoints: &[Endpoint], neighbours: &[Neighbour]) -> [String; 3] {
    let on_host = config.network == NetworkMode::Host;
    let hostname = match config.hostname.as_str() {
        "" => std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned(),
        name => name.to_owned(),
    };
    let hosts = match on_host {
        false => hosts(config, &hostname, endpoints, neighbours),
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
    let resolv = match endpoints.iter().any(Endpoint::has_names) {
        // Its own servers are for the resolver to ask.
        true => own_resolv_conf(
            &resolv_conf(&host),
            &[RESOLVER.to_owned()],
            &config.dns_search,
            &resolver_options(config),
        ),
        false => {
            let base = if on_host { host } else { resolv_conf(&host) };
            own_resolv_conf(&base, &config.dns, &config.dns_search, &config.dns_options)
        }
    };
    [hosts, format!("{hostname}\n"), resolv]
}

/// A name without a dot is asked as it is at first: it may be a container's.
fn resolver_options(config: &Config) -> Vec<String> {
    let is_said = config.dns_options.iter().any(|option| option.starts_with("ndots:"));
    let own = (!is_said).then(|| "ndots:0".to_owned());
    config.dns_options.iter().cloned().chain(own).collect()
}

fn hosts(config: &Config, hostname: &str, endpoints: &[Endpoint], neighbours: &[Neighbour]) -> String {
    let mut extra = config.add_hosts.clone();
    extra.extend(neighbours.iter().map(|neighbour| (neighbour.names.clone(), neighbour.address.to_string())));
    let own = match config.isolation.domainname.as_deref() {
        Some(domain) if !domain.is_empty() => format!("{hostname}.{domain} {hostname}"),
        _ => hostname.to_owned(),
    };
    let addresses: Vec<IpAddr> = endpoints.iter().flat_map(addresses).collect();
    let gateway = endpoints.iter().find_map(|endpoint| endpoint.gateway);
    hosts_file(&own, &addresses, gateway, &extra)
}

fn addresses(endpoint: &Endpoint) -> impl Iterator<Item = IpAddr> {
    let v4 = endpoint.address.map(|net| IpAddr::V4(net.addr()));
    v4.into_iter().chain(endpoint.address6.map(|net| IpAddr::V6(net.addr())))
}
