//! Leads what a namespace asks its name server to sockets on other ports, so that its programs can listen on port 53
//! of every address themselves.
//!
//! ```text
//! table ip kiln-names {
//!     chain output { type filter hook output priority raw;
//!         ip daddr 127.0.0.11 udp dport 53 udp dport set PORT
//!         ip daddr 127.0.0.11 tcp dport 53 tcp dport set PORT
//!     }
//!     chain input { type filter hook input priority raw;
//!         ip saddr 127.0.0.11 udp sport PORT udp sport set 53
//!         ip saddr 127.0.0.11 tcp sport PORT tcp sport set 53
//!     }
//! }
//! ```
//!
//! The ports are written into the packets: a rule of the `nat` kind would make the kernel follow every connection of
//! the namespace, and that costs each packet. Who follows them by rules of his own sees whole connections, because
//! questions change before he looks and answers after it.

use std::io;
use std::net::SocketAddrV4;

use super::encode::{
    Expression, FAMILY_IPV4, FIRST, HOOK_INPUT, HOOK_OUTPUT, META_TRANSPORT, NETWORK_HEADER, NEW_TABLE,
    TRANSPORT_HEADER, base_chain, is, load, meta, payload, rule, store, table, transaction,
};
use crate::network::netlink::{CREATE, Message, Socket};

const TABLE: &str = "kiln-names";
const PRIORITY_RAW: i32 = -300;
const UDP: u8 = 17;
const TCP: u8 = 6;

/// A chain, and where its packets have the address and the port of the name server.
struct Way {
    chain: &'static str,
    hook: u32,
    address: u32,
    port: u32,
}

const QUESTIONS: Way = Way { chain: "output", hook: HOOK_OUTPUT, address: 16, port: 2 };
const ANSWERS: Way = Way { chain: "input", hook: HOOK_INPUT, address: 12, port: 0 };

/// Leads what is sent to `asked` to the ports of its address; `socket` is in the namespace.
pub(in crate::network) fn write_names(
    socket: &mut Socket,
    asked: SocketAddrV4,
    udp: u16,
    tcp: u16,
) -> io::Result<()> {
    let chain = |way: &Way| base_chain((FAMILY_IPV4, TABLE), way.chain, "filter", way.hook, PRIORITY_RAW);
    let mut messages = vec![table(NEW_TABLE, CREATE, FAMILY_IPV4, TABLE), chain(&QUESTIONS), chain(&ANSWERS)];
    for (protocol, port) in [(UDP, udp), (TCP, tcp)] {
        messages.push(QUESTIONS.renumbers(asked, protocol, asked.port(), port));
        messages.push(ANSWERS.renumbers(asked, protocol, port, asked.port()));
    }
    transaction(socket, messages).map(drop)
}

impl Way {
    /// A rule that writes another port in the place of one.
    fn renumbers(&self, server: SocketAddrV4, protocol: u8, from: u16, to: u16) -> Message {
        let checksum = if protocol == UDP { 6 } else { 16 };
        let expressions: [Expression; 8] = [
            payload(NETWORK_HEADER, self.address, 4, FIRST),
            is(server.ip().octets().to_vec()),
            meta(META_TRANSPORT, FIRST),
            is(vec![protocol]),
            payload(TRANSPORT_HEADER, self.port, 2, FIRST),
            is(from.to_be_bytes().to_vec()),
            load(FIRST, to.to_be_bytes().to_vec()),
            store(TRANSPORT_HEADER, self.port, 2, checksum),
        ];
        rule(FAMILY_IPV4, TABLE, self.chain, &expressions)
    }
}
