//! The kernel's table of connections.

use std::io;
use std::net::IpAddr;

use super::netlink::{ACK, Message, Socket};

const SUBSYSTEM: u16 = 1;
const DELETE: u16 = 2;
/// With it the kernel looks at the family of a request for all connections.
const VERSION: u8 = 1;
const FAMILY_IPV4: u8 = 2;
const FAMILY_IPV6: u8 = 10;

const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const FILTER: u16 = 25;
const FILTER_ORIGINAL: u16 = 1;
const FILTER_REPLY: u16 = 2;
const TUPLE_ADDRESSES: u16 = 1;
const SOURCE: u32 = 1;
const DESTINATION: u32 = 2;

/// Removes all connections that `address` is an end of.
///
/// A kernel that doesn't know the filter (before 5.9) takes the request for one about a single connection, and refuses.
pub(super) fn forget(socket: &mut Socket, address: IpAddr) -> io::Result<()> {
    let ends = [
        (TUPLE_ORIGINAL, SOURCE),
        (TUPLE_ORIGINAL, DESTINATION),
        (TUPLE_REPLY, SOURCE),
        (TUPLE_REPLY, DESTINATION),
    ];
    for (tuple, end) in ends {
        match socket.request(all_with(address, tuple, end)) {
            Err(error) if error.raw_os_error() != Some(libc::ENOENT) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn all_with(address: IpAddr, tuple: u16, end: u32) -> Message {
    let (family, bytes, kinds) = match address {
        IpAddr::V4(address) => (FAMILY_IPV4, address.octets().to_vec(), (1, 2)),
        IpAddr::V6(address) => (FAMILY_IPV6, address.octets().to_vec(), (3, 4)),
    };
    let kind = if end == SOURCE { kinds.0 } else { kinds.1 };
    let (original, reply) = if tuple == TUPLE_ORIGINAL { (end, 0) } else { (0, end) };
    Message::new(SUBSYSTEM << 8 | DELETE, ACK, &[family, VERSION, 0, 0])
        .nest(tuple, |inner| inner.nest(TUPLE_ADDRESSES, |addresses| addresses.put(kind, bytes)))
        .nest(FILTER, |filter| {
            let original = filter.put(FILTER_ORIGINAL, original.to_ne_bytes());
            original.put(FILTER_REPLY, reply.to_ne_bytes())
        })
}
