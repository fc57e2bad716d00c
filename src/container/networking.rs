//! Connecting a container that starts to its networks.

use std::os::fd::OwnedFd;

use super::Containers;
use super::ahead::Ahead;
use super::error::Result;
use super::record::{Config, Endpoint, Record};
use crate::api::NetworkMode;
use crate::network;
use crate::runtime::Target;

/// What a starting container has of networks.
#[derive(Debug, Default)]
pub(super) struct Connection {
    /// Its places in networks.
    pub(super) endpoints: Vec<Endpoint>,
    /// The namespace that its program is started in; none makes one with the first process, or shares the host's.
    pub(super) namespace: Option<OwnedFd>,
    /// What holds the addresses as long as somebody has it open.
    pub(super) leases: Vec<OwnedFd>,
    /// A process of the container whose network it shares.
    pub(super) donor: Option<Target>,
}

impl Containers {
    /// Connects the container to its networks; in the namespace that was made ahead, if it is one of its own.
    pub(super) fn connect(&self, record: &Record, ahead: Option<&Ahead>) -> Result<Connection> {
        match record.config.network {
            NetworkMode::Bridge => {
                let endpoint = self.networks.connect_in(ahead.and_then(Ahead::network), &record.id)?;
                let endpoints = vec![self.endpoint(&endpoint)];
                let (namespace, holder) = endpoint.hand_over();
                let leases = holder.into_iter().collect();
                Ok(Connection { endpoints, namespace: Some(namespace), leases, donor: None })
            }
            NetworkMode::None | NetworkMode::Host => self.share(&record.config),
        }
    }

    fn share(&self, config: &Config) -> Result<Connection> {
        let (namespace, donor) = self.shared_network(config)?.unzip();
        Ok(Connection { namespace, donor, ..Connection::default() })
    }

    fn endpoint(&self, endpoint: &network::Endpoint) -> Endpoint {
        let mac: Vec<_> = endpoint.mac.iter().map(|byte| format!("{byte:02x}")).collect();
        Endpoint {
            network: String::new(),
            network_name: "bridge".to_owned(),
            bridge: self.networks.bridge().to_owned(),
            interface: "eth0".to_owned(),
            link: String::new(),
            mac: mac.join(":"),
            address: Some(endpoint.address),
            gateway: Some(endpoint.gateway),
            address6: None,
            gateway6: None,
            aliases: Vec::new(),
        }
    }
}
