//! nftables requests as bytes: tables, chains, rules of expressions, sets and their elements.

use std::io;

use crate::network::netlink::{ACK, APPEND, CREATE, Message, Reply, Socket};

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;

pub(super) const NEW_TABLE: u16 = 0;
pub(super) const GET_TABLE: u16 = 1;
pub(super) const DELETE_TABLE: u16 = 2;
pub(super) const NEW_CHAIN: u16 = 3;
pub(super) const GET_CHAIN: u16 = 4;
pub(super) const NEW_RULE: u16 = 6;
pub(super) const GET_RULE: u16 = 7;
pub(super) const DELETE_RULE: u16 = 8;
pub(super) const NEW_SET: u16 = 9;
pub(super) const GET_SET: u16 = 10;
pub(super) const NEW_ELEMENT: u16 = 12;
pub(super) const GET_ELEMENT: u16 = 13;
pub(super) const DELETE_ELEMENT: u16 = 14;
pub(super) const GET_GENERATION: u16 = 16;

pub(super) const FAMILY_ANY: u8 = 0;
pub(super) const FAMILY_INET: u8 = 1;
pub(super) const FAMILY_IPV4: u8 = 2;
pub(super) const FAMILY_BRIDGE: u8 = 7;
pub(super) const FAMILY_IPV6: u8 = 10;

pub(super) const TABLE_NAME: u16 = 1;
pub(super) const TABLE_NOTES: u16 = 6;
pub(super) const CHAIN_TABLE: u16 = 1;
pub(super) const CHAIN_NAME: u16 = 3;
pub(super) const CHAIN_HOOK: u16 = 4;
pub(super) const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
pub(super) const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
pub(super) const RULE_TABLE: u16 = 1;
pub(super) const RULE_CHAIN: u16 = 2;
pub(super) const RULE_HANDLE: u16 = 3;
pub(super) const RULE_EXPRESSIONS: u16 = 4;
const LIST_ELEMENT: u16 = 1;

pub(super) const HOOK_PREROUTING: u32 = 0;
pub(super) const HOOK_INPUT: u32 = 1;
pub(super) const HOOK_FORWARD: u32 = 2;
pub(super) const HOOK_OUTPUT: u32 = 3;
pub(super) const HOOK_POSTROUTING: u32 = 4;

pub(super) const DROP: u32 = 0;
pub(super) const ACCEPT: u32 = 1;
const GOTO: i32 = -4;
const RETURN: i32 = -5;

pub(super) const META_PROTOCOL: u32 = 1;
pub(super) const META_IN_NAME: u32 = 6;
pub(super) const META_OUT_NAME: u32 = 7;
pub(super) const META_FAMILY: u32 = 15;
pub(super) const META_TRANSPORT: u32 = 16;
pub(super) const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;
pub(super) const CT_STATE: u32 = 0;
pub(super) const CT_STATUS: u32 = 2;
pub(super) const LINK_HEADER: u32 = 0;
pub(super) const NETWORK_HEADER: u32 = 1;
pub(super) const TRANSPORT_HEADER: u32 = 2;
/// The first 4-byte register; a 16-byte one, and the first of several parts of a key.
pub(super) const FIRST: u32 = 8;
const VERDICT_REGISTER: u32 = 0;
/// Interface names are compared with their zero padding.
pub(super) const NAME_BYTES: usize = 16;
/// What "the kind of the route to this address" is called in a `fib` expression, and "the destination".
const FIB_KIND: u32 = 3;
const FIB_DESTINATION: u32 = 2;
const DESTINATION_NAT: u32 = 1;
const CHECKSUM_OF_INTERNET: u32 = 1;

/// The name of an expression and its attributes.
pub(super) type Expression = (&'static str, Vec<(u16, Value)>);

/// What an attribute of an expression holds.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Number(u32),
    Data(Vec<u8>),
    Bytes(Vec<u8>),
    Verdict(u32),
    Chain(i32, &'static str),
    Text(&'static str),
}

/// Sends `messages` as one transaction.
pub(super) fn transaction(socket: &mut Socket, messages: Vec<Message>) -> io::Result<Vec<Reply>> {
    let mut all = vec![batch_edge(BATCH_BEGIN)];
    all.extend(messages);
    all.push(batch_edge(BATCH_END));
    socket.batch(all)
}

pub(super) fn name_is(key: u32, operator: u32, name: &str) -> Vec<Expression> {
    vec![meta(key, FIRST), compare_with(operator, name_bytes(name))]
}

/// An interface's name as it stands in keys.
pub(super) fn name_bytes(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(NAME_BYTES, 0);
    bytes
}

/// The first four-byte register after `parts` of these lengths.
pub(super) fn after(parts: &[usize]) -> u32 {
    let registers: usize = parts.iter().map(|length| length.div_ceil(4)).sum();
    FIRST + u32::try_from(registers).unwrap_or_default()
}

pub(super) fn meta(key: u32, register: u32) -> Expression {
    ("meta", vec![(1, Value::Number(register)), (2, Value::Number(key))])
}

pub(super) fn payload(base: u32, offset: u32, length: u32, register: u32) -> Expression {
    let numbers = [register, base, offset, length];
    ("payload", (1..).zip(numbers.map(Value::Number)).collect())
}

/// Writes the first register into a packet; the checksum at `checksum` of the same header follows.
pub(super) fn store(base: u32, offset: u32, length: u32, checksum: u32) -> Expression {
    let numbers = [base, offset, length, FIRST, CHECKSUM_OF_INTERNET, checksum];
    ("payload", (2..).zip(numbers.map(Value::Number)).collect())
}

pub(super) fn is(bytes: Vec<u8>) -> Expression {
    compare_with(EQUAL, bytes)
}

pub(super) fn is_not(bytes: Vec<u8>) -> Expression {
    compare_with(NOT_EQUAL, bytes)
}

fn compare_with(operator: u32, bytes: Vec<u8>) -> Expression {
    ("cmp", vec![(1, Value::Number(FIRST)), (2, Value::Number(operator)), (3, Value::Data(bytes))])
}

/// Keeps the bits of `mask`.
pub(super) fn masked(mask: Vec<u8>) -> Expression {
    let length = u32::try_from(mask.len()).unwrap_or_default();
    let zeros = vec![0; mask.len()];
    let fields = vec![
        (1, Value::Number(FIRST)),
        (2, Value::Number(FIRST)),
        (3, Value::Number(length)),
        (4, Value::Data(mask)),
        (5, Value::Data(zeros)),
    ];
    ("bitwise", fields)
}

/// Goes on when one of `bits` is set. They are a number of the machine's own byte order, unlike the attributes.
pub(super) fn connection_has(key: u32, bits: u32) -> Vec<Expression> {
    let load = ("ct", vec![(1, Value::Number(FIRST)), (2, Value::Number(key))]);
    vec![load, masked(bits.to_ne_bytes().to_vec()), is_not(vec![0; 4])]
}

/// Goes on when the destination is an address of this machine.
pub(super) fn is_local() -> Vec<Expression> {
    let load = [FIRST, FIB_KIND, FIB_DESTINATION];
    // RTN_LOCAL
    vec![("fib", (1..).zip(load.map(Value::Number)).collect()), is(2u32.to_ne_bytes().to_vec())]
}

/// Goes on when the key in the registers is in `set`.
pub(super) fn is_in(set: &'static str, is_inverted: bool) -> Expression {
    let flags = u32::from(is_inverted);
    ("lookup", vec![(1, Value::Text(set)), (2, Value::Number(FIRST)), (5, Value::Number(flags))])
}

/// Goes on when the key is in `map`, with its value in `register`; 0 takes the value as the verdict.
pub(super) fn look_up(map: &'static str, register: u32) -> Expression {
    ("lookup", vec![(1, Value::Text(map)), (2, Value::Number(FIRST)), (3, Value::Number(register))])
}

/// Changes the destination to the address and port that a map gave into the first registers.
pub(super) fn redirect(family: u8, address_bytes: usize) -> Expression {
    let port = after(&[address_bytes]);
    let fields = [(1, DESTINATION_NAT), (2, family.into()), (3, FIRST), (5, port)];
    ("nat", fields.into_iter().map(|(kind, value)| (kind, Value::Number(value))).collect())
}

/// Puts bytes into a register.
pub(super) fn load(register: u32, bytes: Vec<u8>) -> Expression {
    ("immediate", vec![(1, Value::Number(register)), (2, Value::Data(bytes))])
}

pub(super) fn accept() -> Expression {
    verdict(ACCEPT)
}

pub(super) fn drop_it() -> Expression {
    verdict(DROP)
}

pub(super) fn give_back() -> Expression {
    verdict(RETURN.cast_unsigned())
}

pub(super) fn go_to(chain: &'static str) -> Expression {
    ("immediate", vec![(1, Value::Number(VERDICT_REGISTER)), (2, Value::Chain(GOTO, chain))])
}

fn verdict(code: u32) -> Expression {
    ("immediate", vec![(1, Value::Number(VERDICT_REGISTER)), (2, Value::Verdict(code))])
}

pub(super) fn rule(family: u8, table: &str, chain: &str, expressions: &[Expression]) -> Message {
    message(NEW_RULE, ACK | CREATE | APPEND, family)
        .text(RULE_TABLE, table)
        .text(RULE_CHAIN, chain)
        .nest(RULE_EXPRESSIONS, |list| expressions.iter().fold(list, element))
}

pub(super) fn element(list: Message, (name, attributes): &Expression) -> Message {
    list.nest(LIST_ELEMENT, |expression| {
        expression.text(1, name).nest(2, |data| attributes.iter().fold(data, field))
    })
}

fn field(data: Message, (kind, value): &(u16, Value)) -> Message {
    let verdict = |data: Message, code: u32, chain: Option<&str>| {
        data.nest(*kind, |inner| {
            inner.nest(2, |verdict| {
                let verdict = verdict.put(1, code.to_be_bytes());
                chain.into_iter().fold(verdict, |verdict, chain| verdict.text(2, chain))
            })
        })
    };
    match value {
        Value::Number(number) => data.put(*kind, number.to_be_bytes()),
        Value::Bytes(bytes) => data.put(*kind, bytes),
        Value::Data(bytes) => data.nest(*kind, |inner| inner.put(1, bytes)),
        Value::Verdict(code) => verdict(data, *code, None),
        Value::Chain(code, chain) => verdict(data, code.cast_unsigned(), Some(chain)),
        Value::Text(text) => data.text(*kind, text),
    }
}

/// A chain that the kernel enters at `hook`.
pub(super) fn base_chain(
    (family, table): (u8, &str),
    name: &str,
    kind: &str,
    hook: u32,
    priority: i32,
) -> Message {
    message(NEW_CHAIN, ACK | CREATE, family)
        .text(CHAIN_TABLE, table)
        .text(CHAIN_NAME, name)
        .nest(CHAIN_HOOK, |inner| {
            inner.put(HOOK_NUMBER, hook.to_be_bytes()).put(HOOK_PRIORITY, priority.to_be_bytes())
        })
        .put(CHAIN_POLICY, ACCEPT.to_be_bytes())
        .text(CHAIN_TYPE, kind)
}

/// A chain that rules lead to.
pub(super) fn chain((family, table): (u8, &str), name: &str) -> Message {
    message(NEW_CHAIN, ACK | CREATE, family).text(CHAIN_TABLE, table).text(CHAIN_NAME, name)
}

/// A request about a whole table.
pub(super) fn table(kind: u16, flags: u16, family: u8, name: &str) -> Message {
    message(kind, ACK | flags, family).text(TABLE_NAME, name)
}

pub(super) fn message(kind: u16, flags: u16, family: u8) -> Message {
    Message::new(SUBSYSTEM << 8 | kind, flags, &[family, 0, 0, 0])
}

fn batch_edge(kind: u16) -> Message {
    let subsystem = SUBSYSTEM.to_be_bytes();
    Message::new(kind, 0, &[0, 0, subsystem[0], subsystem[1]])
}
