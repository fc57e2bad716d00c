//! The bridge's packet filter: one nftables table, written in one batch.
//!
//! ```text
//! table inet kiln {
//!     chain postrouting { type nat hook postrouting priority srcnat;
//!         meta nfproto ipv4 ip saddr SUBNET oifname != BRIDGE masquerade
//!     }
//!     chain forward { type filter hook forward priority filter; policy accept;
//!         oifname BRIDGE ct state established,related accept
//!         iifname BRIDGE accept
//!         oifname BRIDGE drop
//!     }
//! }
//! ```
//!
//! A container reaches everything, nothing reaches a container uninvited. The batch removes an older table
//! first, so that writing it twice is the same as writing it once. An accept here can't undo a drop in
//! another program's chain: see `pass_foreign_drops`.

use std::io;

use ipnet::Ipv4Net;

use super::netlink::{ACK, APPEND, CREATE, DUMP, Message, Reply, Socket, attribute};

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;

const NEW_TABLE: u16 = 0;
const GET_TABLE: u16 = 1;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const GET_CHAIN: u16 = 4;
const NEW_RULE: u16 = 6;
const GET_RULE: u16 = 7;
const DELETE_RULE: u16 = 8;

const FAMILY_ANY: u8 = 0;
const FAMILY_INET: u8 = 1;
const FAMILY_IPV4: u8 = 2;

const TABLE_NAME: u16 = 1;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_HANDLE: u16 = 3;
const RULE_EXPRESSIONS: u16 = 4;
const LIST_ELEMENT: u16 = 1;

const HOOK_FORWARD: u32 = 2;
const HOOK_POSTROUTING: u32 = 4;
const PRIORITY_FILTER: i32 = 0;
const PRIORITY_SOURCE_NAT: i32 = 100;

const DROP: u32 = 0;
const ACCEPT: u32 = 1;

const META_IN_NAME: u32 = 6;
const META_OUT_NAME: u32 = 7;
const META_FAMILY: u32 = 15;
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;
const CT_STATE: u32 = 0;
const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
const NETWORK_HEADER: u32 = 1;
const SOURCE_OFFSET: u32 = 12;
/// The first 16-byte register; 0 is the verdict.
const REGISTER: u32 = 1;
const VERDICT_REGISTER: u32 = 0;
/// Interface names are compared with their zero padding.
const NAME_BYTES: usize = 16;

/// Tells whether `table` exists; a `flush ruleset` of somebody else takes it away.
pub(super) fn exists(socket: &mut Socket, table: &str) -> io::Result<bool> {
    match socket.request(message(GET_TABLE, 0, FAMILY_INET).text(TABLE_NAME, table)) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Writes `table` for `bridge`, whose containers live in `subnet`.
pub(super) fn write(socket: &mut Socket, table: &str, bridge: &str, subnet: Ipv4Net) -> io::Result<()> {
    let named = |kind, flags| message(kind, ACK | flags, FAMILY_INET).text(TABLE_NAME, table);
    let forward = |expressions: Vec<Expression>| rule(table, "forward", &expressions);
    socket
        .batch(vec![
            batch_edge(BATCH_BEGIN),
            named(NEW_TABLE, CREATE),
            named(DELETE_TABLE, 0),
            named(NEW_TABLE, CREATE),
            base_chain(table, "postrouting", "nat", HOOK_POSTROUTING, PRIORITY_SOURCE_NAT),
            base_chain(table, "forward", "filter", HOOK_FORWARD, PRIORITY_FILTER),
            rule(table, "postrouting", &masquerade(bridge, subnet)),
            forward([name_is(META_OUT_NAME, EQUAL, bridge), established(), vec![verdict(ACCEPT)]].concat()),
            forward([name_is(META_IN_NAME, EQUAL, bridge), vec![verdict(ACCEPT)]].concat()),
            forward([name_is(META_OUT_NAME, EQUAL, bridge), vec![verdict(DROP)]].concat()),
            batch_edge(BATCH_END),
        ])
        .map(drop)
}

/// Removes `table`; a missing one is no error.
pub(super) fn remove(socket: &mut Socket, table: &str) -> io::Result<()> {
    let named = |kind, flags| message(kind, ACK | flags, FAMILY_INET).text(TABLE_NAME, table);
    socket
        .batch(vec![
            batch_edge(BATCH_BEGIN),
            named(NEW_TABLE, CREATE),
            named(DELETE_TABLE, 0),
            batch_edge(BATCH_END),
        ])
        .map(drop)
}

/// A chain of another program that drops what is forwarded unless it knows it: `ip filter FORWARD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ForeignChain {
    family: u8,
    table: String,
    chain: String,
}

impl std::fmt::Display for ForeignChain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let family = if self.family == FAMILY_IPV4 { "ip" } else { "inet" };
        write!(f, "{family} {} {}", self.table, self.chain)
    }
}

/// Lists the chains of other programs that drop what is forwarded.
pub(super) fn foreign_drops(socket: &mut Socket) -> io::Result<Vec<ForeignChain>> {
    let replies = socket.request(message(GET_CHAIN, DUMP, FAMILY_ANY))?;
    Ok(replies.iter().filter_map(drops_forwarded).collect())
}

/// Lets `bridge` through the chains that drop what is forwarded, as far as they don't let it through already.
///
/// Docker and ufw leave such chains; an accept in kiln's own table can't undo their drop. What may come in is
/// still decided by kiln's own table.
pub(super) fn pass_foreign_drops(socket: &mut Socket, bridge: &str) -> io::Result<()> {
    for foreign in foreign_drops(socket)? {
        if !foreign.mentions(socket, bridge)? {
            socket.batch(foreign.accepts(bridge))?;
        }
    }
    Ok(())
}

/// Takes the rules of [`pass_foreign_drops`] away again.
pub(super) fn forget_foreign_drops(socket: &mut Socket, bridge: &str) -> io::Result<()> {
    for foreign in foreign_drops(socket)? {
        for handle in foreign.handles(socket, bridge)? {
            let rule = foreign.rule(DELETE_RULE, 0).put(RULE_HANDLE, handle);
            socket.batch(vec![batch_edge(BATCH_BEGIN), rule, batch_edge(BATCH_END)])?;
        }
    }
    Ok(())
}

impl ForeignChain {
    fn rule(&self, kind: u16, flags: u16) -> Message {
        message(kind, ACK | flags, self.family).text(RULE_TABLE, &self.table).text(RULE_CHAIN, &self.chain)
    }

    fn mentions(&self, socket: &mut Socket, bridge: &str) -> io::Result<bool> {
        Ok(!self.handles(socket, bridge)?.is_empty())
    }

    /// Gives the handles of the chain's rules that name `bridge`.
    fn handles(&self, socket: &mut Socket, bridge: &str) -> io::Result<Vec<Vec<u8>>> {
        let request =
            message(GET_RULE, DUMP, self.family).text(RULE_TABLE, &self.table).text(RULE_CHAIN, &self.chain);
        let name = name_bytes(bridge);
        let ours = |reply: &Reply| {
            let attributes = reply.get(4..)?;
            let expressions = attribute(attributes, RULE_EXPRESSIONS)?;
            let is_here = attribute(attributes, RULE_CHAIN)?.strip_suffix(b"\0")? == self.chain.as_bytes();
            let found = is_here && expressions.windows(NAME_BYTES).any(|part| part == name);
            found.then(|| attribute(attributes, RULE_HANDLE).map(<[u8]>::to_vec))?
        };
        Ok(socket.request(request)?.iter().filter_map(ours).collect())
    }

    /// Rules at the head of the chain, in the form that iptables can read too: it wants a counter.
    fn accepts(&self, bridge: &str) -> Vec<Message> {
        let accept = |key| {
            let counter = ("counter", Vec::new());
            let expressions = [name_is(key, EQUAL, bridge), vec![counter, verdict(ACCEPT)]].concat();
            self.rule(NEW_RULE, CREATE).nest(RULE_EXPRESSIONS, |list| expressions.iter().fold(list, element))
        };
        vec![batch_edge(BATCH_BEGIN), accept(META_IN_NAME), accept(META_OUT_NAME), batch_edge(BATCH_END)]
    }
}

fn drops_forwarded(reply: &Reply) -> Option<ForeignChain> {
    let family = *reply.first()?;
    if !matches!(family, FAMILY_INET | FAMILY_IPV4) {
        return None;
    }
    let attributes = reply.get(4..)?;
    let hook = attribute(attribute(attributes, CHAIN_HOOK)?, HOOK_NUMBER)?;
    let policy = attribute(attributes, CHAIN_POLICY)?;
    let text =
        |kind| Some(String::from_utf8_lossy(attribute(attributes, kind)?).trim_end_matches('\0').to_owned());
    let drops = hook == HOOK_FORWARD.to_be_bytes() && policy == DROP.to_be_bytes();
    drops.then_some(ForeignChain { family, table: text(CHAIN_TABLE)?, chain: text(CHAIN_NAME)? })
}

/// The name of an expression and its attributes.
type Expression = (&'static str, Vec<(u16, Value)>);

/// What an attribute of an expression holds.
#[derive(Debug, Clone)]
enum Value {
    Number(u32),
    Data(Vec<u8>),
    Verdict(u32),
}

fn masquerade(bridge: &str, subnet: Ipv4Net) -> Vec<Expression> {
    let mask = subnet.netmask().octets().to_vec();
    let mut expressions = vec![
        meta(META_FAMILY),
        compare(EQUAL, vec![FAMILY_IPV4]),
        (
            "payload",
            vec![
                (1, Value::Number(REGISTER)),
                (2, Value::Number(NETWORK_HEADER)),
                (3, Value::Number(SOURCE_OFFSET)),
                (4, Value::Number(4)),
            ],
        ),
        masked(mask),
        compare(EQUAL, subnet.network().octets().to_vec()),
    ];
    expressions.extend(name_is(META_OUT_NAME, NOT_EQUAL, bridge));
    expressions.push(("masq", Vec::new()));
    expressions
}

fn established() -> Vec<Expression> {
    // The state is a number of the machine's own byte order, unlike the attributes around it.
    vec![
        ("ct", vec![(1, Value::Number(REGISTER)), (2, Value::Number(CT_STATE))]),
        masked(ESTABLISHED_OR_RELATED.to_ne_bytes().to_vec()),
        compare(NOT_EQUAL, vec![0; 4]),
    ]
}

fn name_is(key: u32, operator: u32, name: &str) -> Vec<Expression> {
    vec![meta(key), compare(operator, name_bytes(name))]
}

fn name_bytes(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(NAME_BYTES, 0);
    bytes
}

fn meta(key: u32) -> Expression {
    ("meta", vec![(1, Value::Number(REGISTER)), (2, Value::Number(key))])
}

fn compare(operator: u32, bytes: Vec<u8>) -> Expression {
    ("cmp", vec![(1, Value::Number(REGISTER)), (2, Value::Number(operator)), (3, Value::Data(bytes))])
}

fn masked(mask: Vec<u8>) -> Expression {
    let length = u32::try_from(mask.len()).unwrap_or_default();
    let zeros = vec![0; mask.len()];
    (
        "bitwise",
        vec![
            (1, Value::Number(REGISTER)),
            (2, Value::Number(REGISTER)),
            (3, Value::Number(length)),
            (4, Value::Data(mask)),
            (5, Value::Data(zeros)),
        ],
    )
}

fn verdict(code: u32) -> Expression {
    ("immediate", vec![(1, Value::Number(VERDICT_REGISTER)), (2, Value::Verdict(code))])
}

fn rule(table: &str, chain: &str, expressions: &[Expression]) -> Message {
    message(NEW_RULE, ACK | CREATE | APPEND, FAMILY_INET)
        .text(RULE_TABLE, table)
        .text(RULE_CHAIN, chain)
        .nest(RULE_EXPRESSIONS, |list| expressions.iter().fold(list, element))
}

fn element(list: Message, (name, attributes): &Expression) -> Message {
    list.nest(LIST_ELEMENT, |expression| {
        expression.text(1, name).nest(2, |data| attributes.iter().fold(data, field))
    })
}

fn field(data: Message, (kind, value): &(u16, Value)) -> Message {
    match value {
        Value::Number(number) => data.put(*kind, number.to_be_bytes()),
        Value::Data(bytes) => data.nest(*kind, |inner| inner.put(1, bytes)),
        Value::Verdict(code) => {
            data.nest(*kind, |inner| inner.nest(2, |verdict| verdict.put(1, code.to_be_bytes())))
        }
    }
}

fn base_chain(table: &str, name: &str, kind: &str, hook: u32, priority: i32) -> Message {
    message(NEW_CHAIN, ACK | CREATE, FAMILY_INET)
        .text(CHAIN_TABLE, table)
        .text(CHAIN_NAME, name)
        .nest(CHAIN_HOOK, |inner| {
            inner.put(HOOK_NUMBER, hook.to_be_bytes()).put(HOOK_PRIORITY, priority.to_be_bytes())
        })
        .put(CHAIN_POLICY, ACCEPT.to_be_bytes())
        .text(CHAIN_TYPE, kind)
}

fn message(kind: u16, flags: u16, family: u8) -> Message {
    Message::new(SUBSYSTEM << 8 | kind, flags, &[family, 0, 0, 0])
}

fn batch_edge(kind: u16) -> Message {
    let subsystem = SUBSYSTEM.to_be_bytes();
    Message::new(kind, 0, &[0, 0, subsystem[0], subsystem[1]])
}
