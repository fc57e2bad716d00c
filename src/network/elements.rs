//! What the tables hold of a network, of an endpoint, and of published ports.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use super::addresses::Lease;
use super::filter::Filter;
use super::nft::{self, Element, Part};
use super::record::Record;
use super::{Error, Networks, Result, conntrack};

/// A port of the host that leads to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortElement {
    /// The host's address; none is each that isn't a loopback's.
    pub host: Option<IpAddr>,
    /// The host's port.
    pub port: u16,
    /// The endpoint's address and port, of the same family.
    pub to: SocketAddr,
    /// The protocol's number.
    pub protocol: u8,
}

impl PortElement {
    pub(super) fn elements(&self) -> [Element; 3] {
        let (any, one, open, itself) = match self.to {
            SocketAddr::V4(_) => ("any4", "one4", "open4", "self4"),
            SocketAddr::V6(_) => ("any6", "one6", "open6", "self6"),
        };
        let (protocol, port) = (Part::Protocol(self.protocol), Part::Port(self.port));
        let [address, to_port] = [Part::Address(self.to.ip()), Part::Port(self.to.port())];
        let led = match self.host {
            None => Element::new(any, &[protocol, port]),
            Some(host) => Element::new(one, &[Part::Address(host), protocol, port]),
        };
        [
            led.to(&[address, to_port]),
            Element::new(open, &[address, protocol, to_port]),
            Element::new(itself, &[address, protocol, port]),
        ]
    }
}

impl Networks {
    /// Leads ports of the host to endpoints, all in one step.
    pub fn publish(&self, ports: &[PortElement]) -> Result<()> {
        let elements: Vec<_> = ports.iter().flat_map(PortElement::elements).collect();
        self.add(&elements)
    }

    /// Takes them back; one that isn't there is no error.
    pub fn withdraw(&self, ports: &[PortElement]) -> Result<()> {
        let elements: Vec<_> = ports.iter().flat_map(PortElement::elements).collect();
        self.take_back(&elements)
    }

    /// Makes the kernel forget the connections of `address`: who has it next gets none of their packets.
    pub fn forget_connections(&self, address: IpAddr) -> Result<()> {
        let forget = Filter::open().and_then(|mut socket| conntrack::forget(&mut socket, address));
        forget.map_err(|source| self.kernel("forget connections", source))
    }

    /// Adds elements to the tables.
    pub(super) fn add(&self, elements: &[Element]) -> Result<()> {
        let add = Filter::open().and_then(|mut it| nft::add_elements(&mut it, self.table(), elements));
        add.map_err(|source| self.kernel("add to the packet filter", source))
    }

    /// Removes elements from the tables.
    pub(super) fn take_back(&self, elements: &[Element]) -> Result<()> {
        let remove = Filter::open().and_then(|mut it| nft::remove_elements(&mut it, self.table(), elements));
        remove.map_err(|source| self.kernel("remove from the packet filter", source))
    }

    pub(super) fn kernel(&self, action: &'static str, source: std::io::Error) -> Error {
        Error::Kernel { action, bridge: self.table().to_owned(), source }
    }
}

/// What the tables hold of a network.
pub(super) fn of_network(record: &Record) -> Vec<Element> {
    let link = Part::Link(&record.bridge);
    let mut elements = vec![
        Element::new("bridges", &[link]),
        Element::new("loops", &[link, link]),
        Element::new("within", &[link, link]).verdict(record.icc()),
    ];
    if record.internal {
        elements.push(Element::new("internal", &[link]));
    } else if record.masquerades() {
        elements.push(Element::new("masked", &[link]));
    }
    if let Some(subnet) = &record.subnet {
        let gateway = Part::Address(subnet.gateway.into());
        elements.push(Element::new("own4", &[link, gateway]));
        elements.push(Element::new("gateways4", &[gateway]));
    }
    if let Some(subnet) = &record.subnet6 {
        let gateway = Part::Address(subnet.gateway.into());
        elements.push(Element::new("own6", &[link, gateway]));
        elements.push(Element::new("gateways6", &[gateway]));
    }
    elements
}

/// What they hold of an endpoint: for which addresses its link may speak.
pub(super) fn of_lease(lease: &Lease) -> Vec<Element> {
    let (link, mac) = (Part::Link(&lease.link), Part::Mac(lease.mac));
    let mut elements = vec![
        Element::new("ports", &[link]),
        Element::new("src4", &[link, mac, Part::Address(lease.address.into())]),
    ];
    if let Some(address) = lease.address6 {
        elements.push(Element::new("src6", &[link, mac, Part::Address(address.into())]));
        elements.push(Element::new("addr6", &[link, Part::Address(address.into())]));
    }
    elements
}
