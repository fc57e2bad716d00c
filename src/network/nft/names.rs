//! Leads what a namespace asks its name server to sockets on other ports, so that its programs can listen on port 53
//! of every address themselves.
//!
//! ```text
//! table ip kiln-names {
//!     chain output { type nat hook output priority dstnat;
//!         ip daddr 127.0.0.11 udp dport 53 dnat to 127.0.0.11:PORT
//!         ip daddr 127.0.0.11 tcp dport 53 dnat to 127.0.0.11:PORT
//!     }
//! }
//! ```

use std::io;
use std::net::SocketAddrV4;

use super::encode::{
    Expression, FAMILY_IPV4, FIRST, HOOK_OUTPUT, META_TRANSPORT, NETWORK_HEADER, NEW_TABLE, TRANSPORT_HEADER,
    base_chain, is, load, meta, payload, redirect, rule, table, transaction,
};
use crate::network::netlink::{CREATE, Socket};

const TABLE: &str = "kiln-names";
const CHAIN: &str = "output";
const PRIORITY_DESTINATION_NAT: i32 = -100;
const UDP: u8 = 17;
const TCP: u8 = 6;

/// Leads what is sent to `asked` to the ports of its address; `socket` is in the namespace.
pub(in crate::network) fn write_names(
    socket: &mut Socket,
    asked: SocketAddrV4,
    udp: u16,
    tcp: u16,
) -> io::Result<()> {
    let lead = |protocol, port| rule(FAMILY_IPV4, TABLE, CHAIN, &led(asked, protocol, port));
    let messages = vec![
        table(NEW_TABLE, CREATE, FAMILY_IPV4, TABLE),
        base_chain((FAMILY_IPV4, TABLE), CHAIN, "nat", HOOK_OUTPUT, PRIORITY_DESTINATION_NAT),
        lead(UDP, udp),
        lead(TCP, tcp),
    ];
    transaction(socket, messages).map(drop)
}

fn led(asked: SocketAddrV4, protocol: u8, port: u16) -> Vec<Expression> {
    let address = asked.ip().octets().to_vec();
    vec![
        payload(NETWORK_HEADER, 16, 4, FIRST),
        is(address.clone()),
        meta(META_TRANSPORT, FIRST),
        is(vec![protocol]),
        payload(TRANSPORT_HEADER, 2, 2, FIRST),
        is(asked.port().to_be_bytes().to_vec()),
        load(FIRST, address),
        load(FIRST + 1, port.to_be_bytes().to_vec()),
        redirect(FAMILY_IPV4, 4),
    ]
}
