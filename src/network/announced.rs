//! The names by which containers are known in a network.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::addresses::Lease;
use super::error::{Result, file};
use super::{Network, Networks};

/// By which names a container is known in a network.
#[derive(Debug, Serialize)]
pub struct Member<'a> {
    id: &'a str,
    name: &'a str,
    aliases: Vec<String>,
    v4: Ipv4Addr,
    v6: Option<Ipv6Addr>,
    /// The file below `addresses/` whose lock tells that it lives.
    lease: String,
}

/// What is read of a [`Member`].
#[derive(Debug, Deserialize)]
struct Announced {
    name: String,
    aliases: Vec<String>,
    lease: String,
}

impl<'a> Member<'a> {
    /// Returns what is told of the container `id`.
    pub fn new(id: &'a str, name: &'a str, aliases: Vec<String>, lease: &Lease) -> Self {
        Self { id, name, aliases, v4: lease.address, v6: lease.address6, lease: lease.address.to_string() }
    }
}

impl Network {
    /// Tells those in the network of a container, by one rename.
    pub fn announce(&self, member: &Member<'_>) -> Result<()> {
        let folder = self.folder.join("endpoints");
        let path = folder.join(format!("{}.json", member.id));
        let new = folder.join(format!("{}.new", member.id));
        let write = || {
            std::fs::write(&new, serde_json::to_vec(member)?)?;
            std::fs::rename(&new, &path)
        };
        write().map_err(file("write", &path))
    }

    /// Tells those in the network that a container has another name.
    pub fn rename(&self, id: &str, name: &str) -> Result<()> {
        let path = self.folder.join(format!("endpoints/{id}.json"));
        let write = || {
            let mut member: serde_json::Value = serde_json::from_slice(&std::fs::read(&path)?)?;
            member["name"] = name.into();
            let new = path.with_extension("new");
            std::fs::write(&new, member.to_string())?;
            std::fs::rename(&new, &path)
        };
        write().map_err(file("write", &path))
    }

    /// Lists the names of those who live in the network now, each with an address.
    pub fn known(&self) -> Vec<(String, String)> {
        let Ok(members) = self.members() else { return Vec::new() };
        let read = |lease: &Lease| -> Option<Announced> {
            let path = self.folder.join(format!("endpoints/{}.json", lease.owner));
            serde_json::from_slice(&std::fs::read(path).ok()?).ok()
        };
        let mut known = Vec::new();
        for lease in members {
            let Some(announced) = read(&lease) else { continue };
            let addresses = [Some(IpAddr::V4(lease.address)), lease.address6.map(IpAddr::V6)];
            for address in addresses.into_iter().flatten() {
                let names = std::iter::once(&announced.name).chain(&announced.aliases);
                known.extend(names.map(|name| (name.clone(), address.to_string())));
            }
        }
        known
    }

    /// Takes back what was announced of the owner of a lease, unless that has another one by now.
    pub(super) fn renounce(&self, lease: &Lease) {
        let path = self.folder.join(format!("endpoints/{}.json", lease.owner));
        let read = || serde_json::from_slice(&std::fs::read(&path).ok()?).ok();
        let is_other = |known: &Announced| known.lease != lease.address.to_string();
        if read().as_ref().is_some_and(is_other) {
            return;
        }
        // Endpoints of builds, and of the default network, have none.
        let _ = std::fs::remove_file(&path);
        // A killed kiln left it.
        let _ = std::fs::remove_file(path.with_extension("new"));
    }
}

impl Networks {
    /// Takes back what was announced of a container, while it still has its address.
    pub fn renounce(&self, network: &str, container: &str) {
        let _ = std::fs::remove_file(self.folder_of(network).join(format!("endpoints/{container}.json")));
    }
}
