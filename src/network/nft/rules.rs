//! The rules of both tables; the module's documentation shows them as `nft` does.

use std::net::Ipv6Addr;

use super::encode::{
    CT_STATE, CT_STATUS, Expression, FAMILY_BRIDGE, FAMILY_INET, FAMILY_IPV4, FAMILY_IPV6, FIRST,
    HOOK_FORWARD, HOOK_INPUT, HOOK_OUTPUT, HOOK_POSTROUTING, HOOK_PREROUTING, LINK_HEADER, META_FAMILY,
    META_IN_NAME, META_OUT_NAME, META_PROTOCOL, META_TRANSPORT, NETWORK_HEADER, TRANSPORT_HEADER, accept,
    after, base_chain, chain, connection_has, drop_it, give_back, go_to, is, is_in, is_local, look_up,
    masked, meta, payload, redirect, rule,
};
use crate::network::netlink::Message;

const PRIORITY_FILTER: i32 = 0;
const PRIORITY_SOURCE_NAT: i32 = 100;
const PRIORITY_DESTINATION_NAT: i32 = -100;
/// Before the bridge shows its packets to the rules of IP.
const PRIORITY_BRIDGE: i32 = -300;

pub(super) const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
pub(super) const DESTINATION_CHANGED: u32 = 1 << 5;

const NAME: usize = 16;
const MAC: usize = 6;
const ETHER_IPV4: [u8; 2] = [0x08, 0x00];
const ETHER_ARP: [u8; 2] = [0x08, 0x06];
const ETHER_IPV6: [u8; 2] = [0x86, 0xdd];
const ICMP6: u8 = 58;
const ROUTER_ADVERT: u8 = 134;
const NEIGHBOUR_ADVERT: u8 = 136;

/// Where the addresses of a family stand in its header.
struct Family {
    number: u8,
    bytes: u32,
    source: u32,
    destination: u32,
    sets: Sets,
}

/// The names of its sets.
struct Sets {
    any: &'static str,
    one: &'static str,
    open: &'static str,
    itself: &'static str,
    own: &'static str,
    gateways: &'static str,
}

const FAMILIES: [Family; 2] = [
    Family {
        number: FAMILY_IPV4,
        bytes: 4,
        source: 12,
        destination: 16,
        sets: Sets {
            any: "any4",
            one: "one4",
            open: "open4",
            itself: "self4",
            own: "own4",
            gateways: "gateways4",
        },
    },
    Family {
        number: FAMILY_IPV6,
        bytes: 16,
        source: 8,
        destination: 24,
        sets: Sets {
            any: "any6",
            one: "one6",
            open: "open6",
            itself: "self6",
            own: "own6",
            gateways: "gateways6",
        },
    },
];

impl Family {
    fn is(&self) -> Vec<Expression> {
        vec![meta(META_FAMILY, FIRST), is(vec![self.number])]
    }

    fn length(&self) -> usize {
        if self.number == FAMILY_IPV4 { 4 } else { 16 }
    }

    fn destination(&self, register: u32) -> Expression {
        payload(NETWORK_HEADER, self.destination, self.bytes, register)
    }

    /// Loads `daddr . l4proto . dport`.
    fn destination_and_port(&self) -> Vec<Expression> {
        self.and_port(self.destination)
    }

    /// Loads an address of the header with `l4proto . dport`.
    fn and_port(&self, offset: u32) -> Vec<Expression> {
        let address = payload(NETWORK_HEADER, offset, self.bytes, FIRST);
        [vec![address], transport(after(&[self.length()]))].concat()
    }

    /// Loads `iifname . daddr`, or another address after the link.
    fn link_and(&self, address: Expression) -> Vec<Expression> {
        vec![meta(META_IN_NAME, FIRST), address]
    }
}

/// Loads `l4proto . dport`.
fn transport(register: u32) -> Vec<Expression> {
    vec![meta(META_TRANSPORT, register), payload(TRANSPORT_HEADER, 2, 2, register + 1)]
}

/// Loads `iifname . oifname`.
fn links() -> Vec<Expression> {
    vec![meta(META_IN_NAME, FIRST), meta(META_OUT_NAME, after(&[NAME]))]
}

fn link_in(key: u32, set: &'static str) -> Vec<Expression> {
    vec![meta(key, FIRST), is_in(set, false)]
}

/// All chains and rules.
pub(super) fn all(table: &str) -> Vec<Message> {
    let inet = (FAMILY_INET, table);
    let bridge = (FAMILY_BRIDGE, table);
    let mut messages = vec![
        base_chain(inet, "prerouting", "nat", HOOK_PREROUTING, PRIORITY_DESTINATION_NAT),
        base_chain(inet, "output", "nat", HOOK_OUTPUT, PRIORITY_DESTINATION_NAT),
        base_chain(inet, "postrouting", "nat", HOOK_POSTROUTING, PRIORITY_SOURCE_NAT),
        base_chain(inet, "forward", "filter", HOOK_FORWARD, PRIORITY_FILTER),
        base_chain(inet, "input", "filter", HOOK_INPUT, PRIORITY_FILTER),
        base_chain(bridge, "prerouting", "filter", HOOK_PREROUTING, PRIORITY_BRIDGE),
        chain(bridge, "port"),
    ];
    let mut add = |(family, table), chain: &str, rules: Vec<Vec<Expression>>| {
        messages.extend(rules.iter().map(|expressions| rule(family, table, chain, expressions)));
    };
    add(inet, "prerouting", [to_itself(), published()].concat());
    add(inet, "output", [to_loopback(), published()].concat());
    add(inet, "postrouting", postrouting());
    add(inet, "forward", forward());
    add(inet, "input", input());
    add(
        bridge,
        "prerouting",
        vec![own_ipv4(), [link_in(META_IN_NAME, "ports"), vec![go_to("port")]].concat()],
    );
    add(bridge, "port", port());
    messages
}

fn published() -> Vec<Vec<Expression>> {
    let mut rules = Vec::new();
    for family in &FAMILIES {
        let dnat = || vec![redirect(family.number, family.length())];
        let one = vec![look_up(family.sets.one, FIRST)];
        rules.push([family.is(), family.destination_and_port(), one, dnat()].concat());
        let any = vec![look_up(family.sets.any, FIRST)];
        rules.push([family.is(), is_local(), transport(FIRST), any, dnat()].concat());
    }
    rules
}

/// A bridge gives no packet back to the port that it came from: what a container sends to a port of its own is the
/// program's too.
fn to_itself() -> Vec<Vec<Expression>> {
    let rule = |family: &Family| {
        let own = vec![is_in(family.sets.itself, false), give_back()];
        [family.is(), family.and_port(family.source), own].concat()
    };
    FAMILIES.iter().map(rule).collect()
}

fn to_loopback() -> Vec<Vec<Expression>> {
    let [ipv4, ipv6] = &FAMILIES;
    let own4 = vec![ipv4.destination(FIRST), masked(vec![255, 0, 0, 0]), is(vec![127, 0, 0, 0]), give_back()];
    let own6 = vec![ipv6.destination(FIRST), is(Ipv6Addr::LOCALHOST.octets().to_vec()), give_back()];
    vec![[ipv4.is(), own4].concat(), [ipv6.is(), own6].concat()]
}

fn postrouting() -> Vec<Vec<Expression>> {
    let masquerade = || ("masq", Vec::new());
    let back = vec![is_in("loops", false), masquerade()];
    vec![
        [connection_has(CT_STATUS, DESTINATION_CHANGED), links(), back].concat(),
        [link_in(META_OUT_NAME, "bridges"), vec![give_back()]].concat(),
        [link_in(META_IN_NAME, "masked"), vec![masquerade()]].concat(),
    ]
}

fn forward() -> Vec<Vec<Expression>> {
    let to_bridges = || link_in(META_OUT_NAME, "bridges");
    let mut rules = vec![
        // First, since addresses come again: a connection of theirs before may look like one of neighbours that are
        // kept apart now.
        [links(), vec![look_up("within", 0)]].concat(),
        // What is dropped below has no connection: the first packet of one never comes through.
        [connection_has(CT_STATE, ESTABLISHED_OR_RELATED), vec![accept()]].concat(),
        [link_in(META_IN_NAME, "internal"), vec![drop_it()]].concat(),
        [link_in(META_OUT_NAME, "internal"), vec![drop_it()]].concat(),
    ];
    for family in &FAMILIES {
        let invited = [family.is(), to_bridges(), connection_has(CT_STATUS, DESTINATION_CHANGED)].concat();
        let open = vec![is_in(family.sets.open, false), accept()];
        rules.push([invited, family.destination_and_port(), open].concat());
    }
    rules.push([to_bridges(), vec![drop_it()]].concat());
    rules.push([link_in(META_IN_NAME, "bridges"), vec![accept()]].concat());
    rules
}

fn input() -> Vec<Vec<Expression>> {
    let mut rules = Vec::new();
    for family in &FAMILIES {
        let own = family.link_and(family.destination(after(&[NAME])));
        rules.push([family.is(), own, vec![is_in(family.sets.own, false), accept()]].concat());
        let to_gateway = vec![family.destination(FIRST), is_in(family.sets.gateways, false), drop_it()];
        rules.push([family.is(), link_in(META_IN_NAME, "bridges"), to_gateway].concat());
    }
    rules
}

fn ether(kind: [u8; 2]) -> Vec<Expression> {
    vec![meta(META_PROTOCOL, FIRST), is(kind.to_vec())]
}

/// Loads `iifname . ether saddr . saddr`.
fn link_and_source(family: &Family) -> Vec<Expression> {
    let ether_source = payload(LINK_HEADER, 6, 6, after(&[NAME]));
    let address = payload(NETWORK_HEADER, family.source, family.bytes, after(&[NAME, MAC]));
    [family.link_and(ether_source), vec![address]].concat()
}

/// Nearly all that containers send is this: one look finds it, before the question whose port it is.
fn own_ipv4() -> Vec<Expression> {
    let [ipv4, _] = &FAMILIES;
    [ether(ETHER_IPV4), link_and_source(ipv4), vec![is_in("src4", false), accept()]].concat()
}

/// What else a container may send into its bridge: only what says that it comes from itself.
fn port() -> Vec<Vec<Expression>> {
    let source = || payload(LINK_HEADER, 6, 6, after(&[NAME]));
    let [ipv4, ipv6] = &FAMILIES;
    let is_icmp = |kind: u8| {
        let of_icmp = vec![meta(META_TRANSPORT, FIRST), is(vec![ICMP6])];
        [ether(ETHER_IPV6), of_icmp, vec![payload(TRANSPORT_HEADER, 0, 1, FIRST), is(vec![kind])]].concat()
    };
    // The target of a neighbour advertisement follows its type, code, checksum and flags.
    let target = || vec![meta(META_IN_NAME, FIRST), payload(TRANSPORT_HEADER, 8, 16, after(&[NAME]))];
    let spoken_for = || payload(NETWORK_HEADER, 14, 4, after(&[NAME, MAC]));
    let speaker = || payload(NETWORK_HEADER, 8, 6, after(&[NAME]));
    let in_src4 = || is_in("src4", false);
    let arp = [
        ipv4.link_and(source()),
        vec![spoken_for(), in_src4()],
        ipv4.link_and(speaker()),
        vec![spoken_for(), in_src4(), accept()],
    ];
    vec![
        [ether(ETHER_ARP), arp.concat()].concat(),
        [is_icmp(ROUTER_ADVERT), vec![drop_it()]].concat(),
        [is_icmp(NEIGHBOUR_ADVERT), target(), vec![is_in("addr6", true), drop_it()]].concat(),
        [ether(ETHER_IPV6), link_and_source(ipv6), vec![is_in("src6", false), accept()]].concat(),
        vec![drop_it()],
    ]
}
