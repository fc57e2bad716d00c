//! Links, addresses and routes, as rtnetlink requests.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::netlink::{ACK, CREATE, DUMP, EXCLUSIVE, Message, REPLACE, Socket, attribute, u32_at};

const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const DELETE_ADDRESS: u16 = 21;
const NEW_ROUTE: u16 = 24;
const DELETE_ROUTE: u16 = 25;
const GET_ROUTE: u16 = 26;

const LINK_ADDRESS: u16 = 1;
const LINK_NAME: u16 = 3;
const LINK_MTU: u16 = 4;
const LINK_MASTER: u16 = 10;
const LINK_INFO: u16 = 18;
const LINK_ALIAS: u16 = 20;
/// The kernel refuses longer ones (IFALIASZ).
const ALIAS_BYTES: usize = 255;
const LINK_STATISTICS: u16 = 23;
/// Where `tx_packets` stands in them (`rtnl_link_stats64`).
const SENT_PACKETS: usize = 8;
const LINK_FAMILIES: u16 = 26;
const LINK_NETNS_FD: u16 = 28;
const LINK_SEND_QUEUES: u16 = 31;
const LINK_RECEIVE_QUEUES: u16 = 32;
/// What a veth link has without a wish, too; but then it is made with more, and waits for all processors to take them away.
const ONE_QUEUE: [u8; 4] = 1u32.to_ne_bytes();
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const BRIDGE_FORWARD_DELAY: u16 = 1;
const BRIDGE_STP: u16 = 5;
const VETH_PEER: u16 = 1;

const FAMILY_INET: u8 = 2;
const FAMILY_INET6: u16 = 10;
const INET6_ADDRESS_MODE: u16 = 8;
const NO_ADDRESS: u8 = 1;
/// Of an address (`IFA_F_NODAD`).
const NO_DUPLICATE_DETECTION: u8 = 2;
const FLAG_UP: u32 = 1;
const LINK_HEADER_BYTES: usize = 16;
const ROUTE_HEADER_BYTES: usize = 12;

const ROUTE_DESTINATION: u16 = 1;
const ROUTE_OUT: u16 = 4;
const ROUTE_GATEWAY: u16 = 5;
const ROUTE_PRIORITY: u16 = 6;
const ROUTE_SOURCE: u16 = 7;
const ROUTE_METRICS: u16 = 8;
const METRIC_CONGESTION_CONTROL: u16 = 16;
const TABLE_MAIN: u8 = 254;
const PROTOCOL_KERNEL: u8 = 2;
const PROTOCOL_STATIC: u8 = 4;
const SCOPE_LINK: u8 = 253;
const UNICAST: u8 = 1;
/// What the kernel gives to the IPv6 routes that come with addresses (`IP6_RT_PRIO_ADDRCONF`).
const CONNECTED_PRIORITY: u32 = 256;
/// The congestion control inside of a network: see [`unpaced`].
const LOCAL_CONGESTION_CONTROL: &str = "cubic";

/// The loopback's index in every network namespace.
const LOOPBACK: u32 = 1;

/// An address that is surely not on a link of the host, to ask for the way out (RFC 5737, TEST-NET-2).
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);

/// What is known of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) up: bool,
    pub(super) mtu: Option<u32>,
    /// The bridge that it is a port of.
    pub(super) master: Option<u32>,
}

/// A veth pair: `outer` is a port of a bridge, its peer `inner` is in another namespace.
#[derive(Debug)]
pub(super) struct Pair<'a> {
    pub(super) outer: &'a str,
    pub(super) inner: &'a str,
    pub(super) bridge: u32,
    pub(super) namespace: BorrowedFd<'a>,
    pub(super) mac: [u8; 6],
    pub(super) mtu: u32,
}

/// Looks up a link by its name.
pub(super) fn find(socket: &mut Socket, name: &str) -> io::Result<Option<Link>> {
    let request = Message::new(GET_LINK, 0, &link_header(0, 0)).text(LINK_NAME, name);
    match socket.request(request) {
        Ok(replies) => Ok(replies.first().and_then(|reply| read_link(reply))),
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes a bridge that is still down, with a MAC of its own (one taken from the ports would change with them).
pub(super) fn add_bridge(socket: &mut Socket, name: &str, mac: [u8; 6], mtu: Option<u32>) -> io::Result<()> {
    let request = Message::new(NEW_LINK, ACK | CREATE | EXCLUSIVE, &link_header(0, 0))
        .text(LINK_NAME, name)
        .put(LINK_ADDRESS, mac);
    let request = mtu
        .into_iter()
        .fold(request, |request, mtu| request.put(LINK_MTU, mtu.to_ne_bytes()))
        .nest(LINK_INFO, |info| {
            info.text(INFO_KIND, "bridge").nest(INFO_DATA, |data| {
                data.put(BRIDGE_FORWARD_DELAY, 0u32.to_ne_bytes()).put(BRIDGE_STP, 0u32.to_ne_bytes())
            })
        });
    socket.request(request).map(drop)
}

/// Makes a veth pair in one request; the outer end is born up, the inner one down in its namespace.
///
/// The kernel can't open the inner end yet: it is made before it has a peer.
pub(super) fn add_pair(socket: &mut Socket, pair: &Pair<'_>) -> io::Result<()> {
    let namespace = pair.namespace.as_raw_fd().cast_unsigned();
    let request = Message::new(NEW_LINK, ACK | CREATE | EXCLUSIVE, &link_header(0, FLAG_UP))
        .text(LINK_NAME, pair.outer)
        .put(LINK_MTU, pair.mtu.to_ne_bytes())
        .put(LINK_MASTER, pair.bridge.to_ne_bytes())
        .put(LINK_SEND_QUEUES, ONE_QUEUE)
        .put(LINK_RECEIVE_QUEUES, ONE_QUEUE)
        .nest(LINK_INFO, |info| {
            info.text(INFO_KIND, "veth").nest(INFO_DATA, |data| {
                data.nest(VETH_PEER, |peer| {
                    peer.raw(&link_header(0, 0))
                        .text(LINK_NAME, pair.inner)
                        .put(LINK_ADDRESS, pair.mac)
                        .put(LINK_MTU, pair.mtu.to_ne_bytes())
                        .put(LINK_NETNS_FD, namespace.to_ne_bytes())
                        .put(LINK_SEND_QUEUES, ONE_QUEUE)
                        .put(LINK_RECEIVE_QUEUES, ONE_QUEUE)
                })
            })
        });
    socket.request(request).map(drop)
}

/// Removes a link.
pub(super) fn remove(socket: &mut Socket, index: u32) -> io::Result<()> {
    socket.request(Message::new(DELETE_LINK, ACK, &link_header(index, 0))).map(drop)
}

/// Gives a link an address; an IPv4 one with its broadcast address, an IPv6 one without asking whether it is free.
pub(super) fn add_address(index: u32, net: IpNet) -> Message {
    let mut header = [0; 8];
    header[1] = net.prefix_len();
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    match net {
        IpNet::V4(net) => {
            header[0] = FAMILY_INET;
            Message::new(NEW_ADDRESS, ACK | CREATE | EXCLUSIVE, &header)
                .put(1, net.addr().octets())
                .put(2, net.addr().octets())
                .put(4, net.broadcast().octets())
        }
        IpNet::V6(net) => {
            header[0] = FAMILY_INET6.to_le_bytes()[0];
            header[2] = NO_DUPLICATE_DETECTION;
            Message::new(NEW_ADDRESS, ACK | CREATE | EXCLUSIVE, &header).put(1, net.addr().octets())
        }
    }
}

/// Takes one away again.
pub(super) fn remove_address(index: u32, net: IpNet) -> Message {
    let mut header = [0; 8];
    header[0] = family_of(net.addr());
    header[1] = net.prefix_len();
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    let request = Message::new(DELETE_ADDRESS, ACK, &header);
    match net.addr() {
        IpAddr::V4(address) => request.put(2, address.octets()),
        IpAddr::V6(address) => request.put(1, address.octets()),
    }
}

/// Lets TCP send to the link's own subnet without pacing; after [`add_address`] and [`set_up`].
///
/// Where the host's congestion control is BBR, each packet would wait for a timer, to spare a network that isn't there:
/// two containers of one machine then get less than half of what the memory gives. The kernel's own route to the
/// subnet is replaced by the same one with another choice; one without that choice keeps its route.
pub(super) fn unpaced(index: u32, net: IpNet) -> Message {
    let (family, length) = (family_of(net.addr()), net.prefix_len());
    let scope = if net.addr().is_ipv4() { SCOPE_LINK } else { 0 };
    let header = [family, length, 0, 0, TABLE_MAIN, PROTOCOL_KERNEL, scope, UNICAST, 0, 0, 0, 0];
    let request = Message::new(NEW_ROUTE, ACK | REPLACE, &header).put(ROUTE_OUT, index.to_ne_bytes());
    let request = match net {
        IpNet::V4(net) => {
            request.put(ROUTE_DESTINATION, net.network().octets()).put(ROUTE_SOURCE, net.addr().octets())
        }
        IpNet::V6(net) => request
            .put(ROUTE_DESTINATION, net.network().octets())
            .put(ROUTE_PRIORITY, CONNECTED_PRIORITY.to_ne_bytes()),
    };
    request
        .nest(ROUTE_METRICS, |metrics| metrics.text(METRIC_CONGESTION_CONTROL, LOCAL_CONGESTION_CONTROL))
        .optional()
}

/// Brings a link up.
pub(super) fn set_up(index: u32) -> Message {
    Message::new(NEW_LINK, ACK, &link_header(index, FLAG_UP))
}

/// Brings a link up and notes on it whose it is.
pub(super) fn set_up_for(index: u32, owner: &str) -> Message {
    match owner.len() {
        0..=ALIAS_BYTES => set_up(index).text(LINK_ALIAS, owner),
        _ => set_up(index),
    }
}

/// Lists `(index, name, owner)` of all links that [`set_up_for`] noted an owner on.
pub(super) fn owned(socket: &mut Socket) -> io::Result<Vec<(u32, String, String)>> {
    let replies = socket.request(Message::new(GET_LINK, DUMP, &link_header(0, 0)))?;
    let read = |reply: &Vec<u8>| {
        let attributes = reply.get(LINK_HEADER_BYTES..)?;
        let text = |kind| {
            let bytes = attribute(attributes, kind)?;
            Some(String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned())
        };
        Some((u32_at(reply, 4)?, text(LINK_NAME)?, text(LINK_ALIAS)?))
    };
    Ok(replies.iter().filter_map(read).collect())
}

/// Lists `(index, name, bridge)` of all links that are ports of a bridge.
pub(super) fn ports(socket: &mut Socket) -> io::Result<Vec<(u32, String, u32)>> {
    let replies = socket.request(Message::new(GET_LINK, DUMP, &link_header(0, 0)))?;
    let read = |reply: &Vec<u8>| {
        let name = attribute(reply.get(LINK_HEADER_BYTES..)?, LINK_NAME)?;
        let name = String::from_utf8_lossy(name).trim_end_matches('\0').to_owned();
        let link = read_link(reply)?;
        Some((link.index, name, link.master?))
    };
    Ok(replies.iter().filter_map(read).collect())
}

/// Makes a link a port of a bridge.
pub(super) fn set_master(index: u32, bridge: u32) -> Message {
    Message::new(NEW_LINK, ACK, &link_header(index, 0)).put(LINK_MASTER, bridge.to_ne_bytes())
}

/// Keeps the kernel from giving a link an IPv6 address of its own accord, and from announcing it.
pub(super) fn no_own_address(index: u32) -> Message {
    Message::new(NEW_LINK, ACK, &link_header(index, 0)).nest(LINK_FAMILIES, |families| {
        families.nest(FAMILY_INET6, |inet6| inet6.put(INET6_ADDRESS_MODE, [NO_ADDRESS]))
    })
}

/// Tells whether any link has sent a packet, a loopback to itself included.
pub(super) fn has_sent(socket: &mut Socket) -> io::Result<bool> {
    let replies = socket.request(Message::new(GET_LINK, DUMP, &link_header(0, 0)))?;
    let is_silent = |reply: &Vec<u8>| {
        let statistics = attribute(reply.get(LINK_HEADER_BYTES..)?, LINK_STATISTICS)?;
        Some(statistics.get(SENT_PACKETS..SENT_PACKETS + 8)? == [0; 8])
    };
    Ok(replies.is_empty() || !replies.iter().all(|reply| is_silent(reply) == Some(true)))
}

/// Brings the loopback up.
pub(super) fn loopback_up() -> Message {
    set_up(LOOPBACK)
}

/// Sends everything unknown of its family to `gateway`.
pub(super) fn default_route(gateway: IpAddr) -> Message {
    let request = Message::new(NEW_ROUTE, ACK | CREATE, &route_header(gateway));
    match gateway {
        IpAddr::V4(gateway) => request.put(ROUTE_GATEWAY, gateway.octets()),
        IpAddr::V6(gateway) => request.put(ROUTE_GATEWAY, gateway.octets()),
    }
}

/// Takes back the default route of the family of `any`.
pub(super) fn no_default_route(any: IpAddr) -> Message {
    Message::new(DELETE_ROUTE, ACK, &route_header(any))
}

fn route_header(family: IpAddr) -> [u8; ROUTE_HEADER_BYTES] {
    [family_of(family), 0, 0, 0, TABLE_MAIN, PROTOCOL_STATIC, 0, UNICAST, 0, 0, 0, 0]
}

fn family_of(address: IpAddr) -> u8 {
    if address.is_ipv4() { FAMILY_INET } else { FAMILY_INET6.to_le_bytes()[0] }
}

/// Lists the destinations of all routes with their links' indexes, default routes left out.
pub(super) fn destinations(socket: &mut Socket) -> io::Result<Vec<(IpNet, u32)>> {
    let mut routes = Vec::new();
    for family in [FAMILY_INET, FAMILY_INET6.to_le_bytes()[0]] {
        let mut header = [0; ROUTE_HEADER_BYTES];
        header[0] = family;
        let replies = socket.request(Message::new(GET_ROUTE, DUMP, &header))?;
        routes.extend(replies.iter().filter_map(|reply| read_route(reply)));
    }
    Ok(routes)
}

/// Returns the name of the link with an index.
pub(super) fn name(socket: &mut Socket, index: u32) -> Option<String> {
    let replies = socket.request(Message::new(GET_LINK, 0, &link_header(index, 0))).ok()?;
    let name = attribute(replies.first()?.get(LINK_HEADER_BYTES..)?, LINK_NAME)?;
    Some(String::from_utf8_lossy(name).trim_end_matches('\0').to_owned())
}

/// Returns the MTU of the link that leads out of the host, if there is one.
pub(super) fn way_out_mtu(socket: &mut Socket) -> Option<u32> {
    let header = [FAMILY_INET, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let request = Message::new(GET_ROUTE, 0, &header).put(ROUTE_DESTINATION, OUTSIDE.octets());
    let replies = socket.request(request).ok()?;
    let index =
        attribute(replies.first()?.get(ROUTE_HEADER_BYTES..)?, ROUTE_OUT).and_then(|v| u32_at(v, 0))?;
    let replies = socket.request(Message::new(GET_LINK, 0, &link_header(index, 0))).ok()?;
    read_link(replies.first()?)?.mtu
}

fn link_header(index: u32, flags: u32) -> [u8; LINK_HEADER_BYTES] {
    let mut header = [0; LINK_HEADER_BYTES];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&flags.to_ne_bytes());
    header
}

fn read_link(reply: &[u8]) -> Option<Link> {
    let number = |kind| attribute(reply.get(LINK_HEADER_BYTES..)?, kind).and_then(|value| u32_at(value, 0));
    let (mtu, master) = (number(LINK_MTU), number(LINK_MASTER));
    Some(Link { index: u32_at(reply, 4)?, up: u32_at(reply, 8)? & FLAG_UP != 0, mtu, master })
}

fn read_route(reply: &[u8]) -> Option<(IpNet, u32)> {
    let prefix = *reply.get(1)?;
    // The kernel's own routes to multicast and to link-local addresses are on every link.
    let table = *reply.get(4)?;
    let attributes = reply.get(ROUTE_HEADER_BYTES..)?;
    let out = attribute(attributes, ROUTE_OUT).and_then(|value| u32_at(value, 0));
    let destination = attribute(attributes, ROUTE_DESTINATION)?;
    if prefix == 0 {
        return None;
    }
    let net = match <[u8; 4]>::try_from(destination) {
        Ok(octets) => Ipv4Net::new(octets.into(), prefix).ok()?.into(),
        Err(_) if table == TABLE_MAIN => {
            let octets: [u8; 16] = destination.try_into().ok()?;
            Ipv6Net::new(octets.into(), prefix).ok()?.into()
        }
        Err(_) => return None,
    };
    Some((net, out?))
}
