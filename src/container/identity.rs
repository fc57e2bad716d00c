//! The files that tell a container its name and who its neighbours are.

use std::net::Ipv4Addr;

use super::error::{Error, Result};
use super::networking::Connection;
use super::record::{Config, Record};
use crate::api::NetworkMode;
use crate::network::{host_resolv_conf, hosts_file, own_resolv_conf, resolv_conf};
use crate::redacted::Redacted;
use crate::runtime::{Mount, Target, Tree};

/// The files that tell of name and network.
const FILES: [&str; 3] = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"];
/// The most that is taken over of one.
const FILE_BYTES: u64 = 1 << 20;

/// The files that tell a container about its name and network, unless the user mounts own ones there.
pub(super) fn files(record: &Record, connection: &Connection) -> Result<Vec<Mount>> {
    let config = &record.config;
    let texts = match &connection.donor {
        Some(donor) => texts_of(donor)?,
        None => texts(config, connection.place()),
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
