//! The machine's ports that lead to a container.
//!
//! The monitor binds them before the program starts and keeps them: what the kernel has given to one can't be
//! had by another, and is free again whatever the monitor dies of.

mod holder;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, listen, socket_with, sockopt};

use super::Containers;
use super::record::{Config, Record};
use crate::api::{BoundPort, PortRequest, Protocol};
use crate::network::PortElement;
use crate::runtime::StartError;

/// Connections that wait to be taken.
const BACKLOG: i32 = 4096;
/// How often another free port is looked for: one that is free over IPv4 may be taken over IPv6.
const RANDOM_ATTEMPTS: usize = 64;
/// What a request without an address means.
const EVERYWHERE: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];

/// A port that this process holds.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) socket: OwnedFd,
    pub(super) port: BoundPort,
}

/// Why a port can't be had.
#[derive(Debug)]
struct Refused {
    at: SocketAddr,
    error: Errno,
}

/// What a container wants published, the exposed ports of `-P` too.
pub(super) fn wanted(config: &Config) -> Vec<PortRequest> {
    let mut wanted = config.ports.clone();
    let exposed = config.exposed.iter().filter(|_| config.publish_all).filter_map(|text| exposed(text));
    for (container, protocol) in exposed {
        let is_there = |port: &PortRequest| (port.container, port.protocol) == (container, protocol);
        if !wanted.iter().any(is_there) {
            wanted.push(PortRequest { address: None, host: None, container, protocol });
        }
    }
    wanted
}

/// Reads `80/tcp`; `None` for what can't be published.
fn exposed(text: &str) -> Option<(u16, Protocol)> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = [Protocol::Tcp, Protocol::Udp].into_iter().find(|known| known.name() == protocol)?;
    Some((port.parse().ok()?, protocol))
}

impl Containers {
    /// Takes all ports that a container wants, or none.
    pub(super) fn hold_ports(&self, record: &Record) -> Result<Vec<Held>, StartError> {
        let mut held = Vec::new();
        for request in wanted(&record.config) {
            let taken = hold(&request, record.config.publish_address)
                .map_err(|refused| self.refusal(&refused, &request, &held, record))?;
            held.extend(taken);
        }
        Ok(held)
    }

    /// Has the kernel lead ports to the container's address in a network.
    pub(super) fn publish(
        &self,
        network: &str,
        address: Ipv4Addr,
        ports: &[PortElement],
    ) -> Result<(), crate::network::Error> {
        match network.is_empty() {
            true => self.networks.default_network(),
            false => self.networks.find(network),
        }?
        .publish(address, ports)
    }

    fn refusal(
        &self,
        refused: &Refused,
        request: &PortRequest,
        held: &[Held],
        record: &Record,
    ) -> StartError {
        let (at, protocol) = (refused.at, request.protocol);
        let what = format!("cannot publish port {}/{}", request.container, protocol.name());
        let message = match refused.error {
            Errno::ADDRINUSE => {
                let own = held.iter().any(|held| {
                    held.port.protocol == protocol
                        && holder::meets((held.port.address, held.port.host).into(), at)
                });
                let holder = match own {
                    true => Some("another `-p` of this container".to_owned()),
                    false => self.holder(at, protocol, &record.id),
                };
                let holder = holder.unwrap_or_else(|| "a program that can't be seen from here".to_owned());
                format!("{what}: {at} is already allocated: {holder} has it")
            }
            Errno::ADDRNOTAVAIL => format!("{what}: this machine has no address {}", at.ip()),
            error => format!("{what} at {at}: {}", std::io::Error::from(error)),
        };
        let hint = match refused.error {
            Errno::ADDRINUSE => "choose another port, or let one be chosen: `-p CONTAINER_PORT`",
            Errno::ADDRNOTAVAIL => "`ip address` shows those that it has",
            _ => return StartError::new("ports", message),
        };
        StartError { hint: Some(hint.to_owned()), ..StartError::new("ports", message) }
    }
}

/// Takes the ports of one request: one, or one for each family.
fn hold(request: &PortRequest, default: Option<IpAddr>) -> Result<Vec<Held>, Refused> {
    let one = request.address.or(default);
    let addresses = one.as_ref().map_or(&EVERYWHERE[..], std::slice::from_ref);
    let (first, last) = request.host.unwrap_or((0, 0));
    let attempts = if request.host.is_some() { 1 } else { RANDOM_ATTEMPTS };
    let mut refused = None;
    for port in (first..=last).flat_map(|port| std::iter::repeat_n(port, attempts)) {
        match hold_at(addresses, port, request) {
            Ok(held) => return Ok(held),
            Err(error) if error.error == Errno::ADDRINUSE => refused = refused.or(Some(error)),
            Err(error) => return Err(error),
        }
    }
    let at = SocketAddr::new(addresses[0], first);
    Err(refused.unwrap_or(Refused { at, error: Errno::ADDRINUSE }))
}

/// Takes the same port of all addresses; 0 is any.
fn hold_at(addresses: &[IpAddr], mut port: u16, request: &PortRequest) -> Result<Vec<Held>, Refused> {
    let mut held = Vec::new();
    for address in addresses {
        let at = SocketAddr::new(*address, port);
        match bound(at, request.protocol) {
            Ok((socket, host)) => {
                port = host;
                let port = BoundPort {
                    address: *address,
                    host,
                    container: request.container,
                    protocol: request.protocol,
                };
                held.push(Held { socket, port });
            }
            // A machine without IPv6: nobody asked for it by name.
            Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) if addresses.len() > 1 && address.is_ipv6() => {}
            Err(error) => return Err(Refused { at, error }),
        }
    }
    Ok(held)
}

/// Makes a socket that has the port; gives its number.
fn bound(at: SocketAddr, protocol: Protocol) -> Result<(OwnedFd, u16), Errno> {
    let family = if at.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let kind = match protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
    };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    if at.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if protocol == Protocol::Tcp {
        // Connections of the last holder that linger don't keep the port; two listeners are refused all the same.
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    bind(&socket, &at)?;
    if protocol == Protocol::Tcp {
        listen(&socket, BACKLOG)?;
    }
    let port = SocketAddr::try_from(getsockname(&socket)?)?.port();
    Ok((socket, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(host: Option<(u16, u16)>) -> PortRequest {
        let address = Some(Ipv4Addr::LOCALHOST.into());
        PortRequest { address, host, container: 80, protocol: Protocol::Tcp }
    }

    #[test]
    fn a_port_is_had_once_and_a_range_gives_the_next_one() {
        let first = hold(&request(None), None).unwrap();
        let port = first[0].port.host;
        assert!(port > 0);
        let refused = hold(&request(Some((port, port))), None).unwrap_err();
        assert_eq!((refused.error, refused.at.port()), (Errno::ADDRINUSE, port));
        let next = hold(&request(Some((port, port.saturating_add(20)))), None).unwrap();
        assert!(next[0].port.host > port);
        drop(first);
        assert_eq!(hold(&request(Some((port, port))), None).unwrap()[0].port.host, port);
    }

    #[test]
    fn both_families_have_the_same_port() {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let held = hold(&PortRequest { address: None, protocol, ..request(None) }, None).unwrap();
            assert!(held.iter().all(|one| one.port.host == held[0].port.host), "{held:?}");
        }
    }

    #[test]
    fn an_address_that_the_machine_lacks_is_told() {
        let address = Some("192.0.2.7".parse().unwrap());
        let refused = hold(&PortRequest { address, ..request(None) }, None).unwrap_err();
        assert_eq!(refused.error, Errno::ADDRNOTAVAIL);
    }
}
