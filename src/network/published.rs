//! Ports of the host that lead to an endpoint.
//!
//! What the tables hold of them is noted in `ports/<address>` beside the endpoint's lease, before they hold it: whoever
//! finds the lease's holder dead knows what to take out, and whoever writes the tables anew what to put in.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use super::error::{Result, file};
use super::{Lease, Network, PortElement, elements, nft};

/// The folder in a network's.
const FOLDER: &str = "ports";

impl Network {
    /// Leads these ports to the endpoint of `address`, and no others.
    pub fn publish(&self, address: Ipv4Addr, ports: &[PortElement]) -> Result<()> {
        self.unpublish(address)?;
        if ports.is_empty() {
            return Ok(());
        }
        let path = self.ports_of(address);
        let folder = self.folder.join(FOLDER);
        std::fs::create_dir_all(&folder).map_err(file("create", &folder))?;
        let text = serde_json::to_vec(ports).map_err(std::io::Error::from);
        text.and_then(|text| std::fs::write(&path, text)).map_err(file("write", &path))?;
        if self.networks.publish(ports).is_ok() {
            return Ok(());
        }
        // Whoever had them last was killed, and the tables don't know.
        self.networks.reap()?;
        self.networks.publish(ports)
    }

    /// Takes back what leads to the endpoint; the kernel forgets its connections, which would find a later one.
    pub(super) fn unpublish(&self, address: Ipv4Addr) -> Result<()> {
        let ports = self.published(address);
        if ports.is_empty() {
            return Ok(());
        }
        self.networks.withdraw(&ports)?;
        let mut targets: Vec<IpAddr> = ports.iter().map(|port| port.to.ip()).collect();
        targets.dedup();
        for target in targets {
            // A kernel without the request has only old connections, which time out.
            let _ = self.networks.forget_connections(target);
        }
        let path = self.ports_of(address);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error).map_err(file("remove", &path)),
            _ => Ok(()),
        }
    }

    /// What the tables hold of an endpoint that somebody has.
    pub(super) fn of_member(&self, lease: &Lease) -> Vec<nft::Element> {
        let mut all = elements::of_lease(lease);
        all.extend(self.published(lease.address).iter().flat_map(PortElement::elements));
        all
    }

    /// The ports that lead to `address`. A file that was cut short was so before the tables knew any of it.
    fn published(&self, address: Ipv4Addr) -> Vec<PortElement> {
        let text = std::fs::read(self.ports_of(address)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    fn ports_of(&self, address: Ipv4Addr) -> PathBuf {
        self.folder.join(FOLDER).join(address.to_string())
    }
}
