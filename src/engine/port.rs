//! `kiln port`.

use std::net::SocketAddr;

use crate::api::{BoundPort, Failure, PublishedPort};

use super::Engine;

impl Engine {
    /// Names the chains of other programs' packet filters that drop what other machines send to published ports; none
    /// where the configuration has them opened.
    pub fn closed_to_ports(&self) -> Vec<String> {
        if self.settings().publish.opens_firewall { Vec::new() } else { self.containers().closed_chains() }
    }

    /// Lists where the ports of a container are reached from outside, while it runs.
    pub fn ports(&self, container: &str) -> Result<Vec<PublishedPort>, Failure> {
        Ok(published(&self.container(container)?.state.ports))
    }
}

/// Shows ports, those of the container in order.
pub(super) fn published(ports: &[BoundPort]) -> Vec<PublishedPort> {
    let mut ports = ports.to_vec();
    ports.sort_by_key(|port| (port.container, port.protocol, port.address, port.host));
    let show = |port: &BoundPort| PublishedPort {
        port: format!("{}/{}", port.container, port.protocol.name()),
        address: SocketAddr::new(port.address, port.host).to_string(),
    };
    ports.iter().map(show).collect()
}
