//! The sets and maps of the two tables, and their elements.

use std::io;
use std::net::IpAddr;

use super::encode::{
    ACCEPT, DELETE_ELEMENT, DROP, FAMILY_BRIDGE, FAMILY_INET, GET_ELEMENT, GET_SET, NEW_ELEMENT, NEW_SET,
    message, name_bytes, transaction,
};
use crate::network::netlink::{ACK, CREATE, DUMP, Message, Socket, attribute, attributes};

const SET_TABLE: u16 = 1;
const SET_NAME: u16 = 2;
const SET_FLAGS: u16 = 3;
const SET_KEY_TYPE: u16 = 4;
const SET_KEY_BYTES: u16 = 5;
const SET_DATA_TYPE: u16 = 6;
const SET_DATA_BYTES: u16 = 7;
const SET_NUMBER: u16 = 10;
const SET_NOTES: u16 = 13;
/// For `nft`, which shows nothing of names without it: the byte order of keys is the machine's.
const KEY_IS_NATIVE: [u8; 6] = [0, 4, 1, 0, 0, 0];
const IS_MAP: u32 = 8;
const VERDICTS: u32 = 0xffff_ff00;

const LIST_TABLE: u16 = 1;
const LIST_SET: u16 = 2;
const LIST_ELEMENTS: u16 = 3;
const ELEMENT: u16 = 1;
const ELEMENT_KEY: u16 = 1;
const ELEMENT_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
/// The list of elements is an attribute, whose length is 16 bits.
const MOST_ELEMENTS: usize = 500;

/// The types of keys, by the numbers that `nft` knows them by, and their bytes.
type Kind = (u32, usize);
const IPV4: Kind = (7, 4);
const IPV6: Kind = (8, 16);
const ETHERNET: Kind = (9, 6);
const PROTOCOL: Kind = (12, 1);
const PORT: Kind = (13, 2);
const LINK: Kind = (41, 16);

/// What a map's values are.
#[derive(Debug, Clone, Copy)]
enum Values {
    None,
    Verdicts,
    Joined(&'static [Kind]),
}

/// One set or map.
struct Set {
    family: u8,
    name: &'static str,
    key: &'static [Kind],
    values: Values,
}

const fn set(name: &'static str, key: &'static [Kind]) -> Set {
    Set { family: FAMILY_INET, name, key, values: Values::None }
}

const fn guard(name: &'static str, key: &'static [Kind]) -> Set {
    Set { family: FAMILY_BRIDGE, name, key, values: Values::None }
}

const fn map(name: &'static str, key: &'static [Kind], values: &'static [Kind]) -> Set {
    Set { family: FAMILY_INET, name, key, values: Values::Joined(values) }
}

/// All sets and maps of both tables.
static SETS: &[Set] = &[
    set("bridges", &[LINK]),
    set("internal", &[LINK]),
    set("masked", &[LINK]),
    set("loops", &[LINK, LINK]),
    Set { family: FAMILY_INET, name: "within", key: &[LINK, LINK], values: Values::Verdicts },
    set("own4", &[LINK, IPV4]),
    set("own6", &[LINK, IPV6]),
    set("gateways4", &[IPV4]),
    set("gateways6", &[IPV6]),
    map("any4", &[PROTOCOL, PORT], &[IPV4, PORT]),
    map("any6", &[PROTOCOL, PORT], &[IPV6, PORT]),
    map("one4", &[IPV4, PROTOCOL, PORT], &[IPV4, PORT]),
    map("one6", &[IPV6, PROTOCOL, PORT], &[IPV6, PORT]),
    set("open4", &[IPV4, PROTOCOL, PORT]),
    set("open6", &[IPV6, PROTOCOL, PORT]),
    set("self4", &[IPV4, PROTOCOL, PORT]),
    set("self6", &[IPV6, PROTOCOL, PORT]),
    guard("ports", &[LINK]),
    guard("src4", &[LINK, ETHERNET, IPV4]),
    guard("src6", &[LINK, ETHERNET, IPV6]),
    guard("addr6", &[LINK, IPV6]),
];

/// An element of a set or a map of one of the two tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::network) struct Element {
    set: &'static str,
    key: Vec<u8>,
    value: Option<Given>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Given {
    Verdict(u32),
    Data(Vec<u8>),
}

/// A part of a key or a value.
#[derive(Debug, Clone, Copy)]
pub(in crate::network) enum Part<'a> {
    /// A link's name.
    Link(&'a str),
    /// An address of either family.
    Address(IpAddr),
    /// A link's address.
    Mac([u8; 6]),
    /// A protocol's number.
    Protocol(u8),
    /// A port.
    Port(u16),
}

fn joined(parts: &[Part<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in parts {
        match part {
            Part::Link(name) => bytes.extend(name_bytes(name)),
            Part::Address(IpAddr::V4(address)) => bytes.extend(address.octets()),
            Part::Address(IpAddr::V6(address)) => bytes.extend(address.octets()),
            Part::Mac(mac) => bytes.extend(mac),
            Part::Protocol(number) => bytes.push(*number),
            Part::Port(port) => bytes.extend(port.to_be_bytes()),
        }
        // Each part begins a register; a lone one is as long as it is.
        if parts.len() > 1 {
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
    }
    bytes
}

impl Element {
    /// An element of a set.
    pub(in crate::network) fn new(set: &'static str, key: &[Part<'_>]) -> Self {
        Self { set, key: joined(key), value: None }
    }

    /// One of a map to addresses.
    pub(in crate::network) fn to(self, value: &[Part<'_>]) -> Self {
        Self { value: Some(Given::Data(joined(value))), ..self }
    }

    /// One of a map to verdicts.
    pub(in crate::network) fn verdict(self, is_accepted: bool) -> Self {
        Self { value: Some(Given::Verdict(if is_accepted { ACCEPT } else { DROP })), ..self }
    }

    fn put(&self, list: Message) -> Message {
        list.nest(ELEMENT, |element| {
            let element = element.nest(ELEMENT_KEY, |key| key.put(DATA_VALUE, &self.key));
            match &self.value {
                None => element,
                Some(Given::Data(bytes)) => element.nest(ELEMENT_DATA, |data| data.put(DATA_VALUE, bytes)),
                Some(Given::Verdict(code)) => element.nest(ELEMENT_DATA, |data| {
                    data.nest(DATA_VERDICT, |verdict| verdict.put(VERDICT_CODE, code.to_be_bytes()))
                }),
            }
        })
    }
}

/// The requests that make all sets; the tables are there.
pub(super) fn make(table: &str) -> Vec<Message> {
    (1u32..).zip(SETS).map(|(number, set)| make_one(table, number, set)).collect()
}

fn make_one(table: &str, number: u32, set: &Set) -> Message {
    let is_map = if matches!(set.values, Values::None) { 0 } else { IS_MAP };
    let (key, key_bytes) = shape(set.key);
    let request = message(NEW_SET, ACK | CREATE, set.family)
        .text(SET_TABLE, table)
        .text(SET_NAME, set.name)
        .put(SET_FLAGS, is_map.to_be_bytes())
        .put(SET_KEY_TYPE, key.to_be_bytes())
        .put(SET_KEY_BYTES, key_bytes.to_be_bytes())
        .put(SET_NUMBER, number.to_be_bytes());
    let request = match set.key {
        [LINK] => request.put(SET_NOTES, KEY_IS_NATIVE),
        _ => request,
    };
    match set.values {
        Values::None => request,
        Values::Verdicts => request.put(SET_DATA_TYPE, VERDICTS.to_be_bytes()),
        Values::Joined(kinds) => {
            let (value, bytes) = shape(kinds);
            request.put(SET_DATA_TYPE, value.to_be_bytes()).put(SET_DATA_BYTES, bytes.to_be_bytes())
        }
    }
}

/// The number of a joined type, and its bytes: each part fills its registers.
fn shape(kinds: &[Kind]) -> (u32, u32) {
    let number = kinds.iter().fold(0, |number, (kind, _)| number << 6 | kind);
    let bytes: usize = match kinds {
        [(_, bytes)] => *bytes,
        kinds => kinds.iter().map(|(_, bytes)| bytes.next_multiple_of(4)).sum(),
    };
    (number, u32::try_from(bytes).unwrap_or_default())
}

/// The requests that add `elements`; one that is there already is no error.
pub(super) fn add(table: &str, elements: &[Element]) -> Vec<Message> {
    grouped(NEW_ELEMENT, CREATE, table, elements)
}

fn grouped(kind: u16, flags: u16, table: &str, elements: &[Element]) -> Vec<Message> {
    let mut messages = Vec::new();
    for set in SETS {
        let own: Vec<&Element> = elements.iter().filter(|element| element.set == set.name).collect();
        for part in own.chunks(MOST_ELEMENTS) {
            messages.push(
                message(kind, ACK | flags, set.family)
                    .text(LIST_TABLE, table)
                    .text(LIST_SET, set.name)
                    .nest(LIST_ELEMENTS, |list| part.iter().fold(list, |list, element| element.put(list))),
            );
        }
    }
    messages
}

/// Adds `elements` in one step.
pub(in crate::network) fn add_elements(
    socket: &mut Socket,
    table: &str,
    elements: &[Element],
) -> io::Result<()> {
    match elements {
        [] => Ok(()),
        elements => transaction(socket, add(table, elements)).map(drop),
    }
}

/// Removes `elements`; one that isn't there is no error, and neither is a table that isn't.
pub(in crate::network) fn remove_elements(
    socket: &mut Socket,
    table: &str,
    elements: &[Element],
) -> io::Result<()> {
    if elements.is_empty() {
        return Ok(());
    }
    let is_absent = |error: &io::Error| error.raw_os_error() == Some(libc::ENOENT);
    match transaction(socket, grouped(DELETE_ELEMENT, 0, table, elements)) {
        // One that is missing undoes the whole step.
        Err(error) if is_absent(&error) => {
            for element in elements {
                match transaction(socket, grouped(DELETE_ELEMENT, 0, table, std::slice::from_ref(element))) {
                    Err(error) if !is_absent(&error) => return Err(error),
                    _ => {}
                }
            }
            Ok(())
        }
        result => result.map(drop),
    }
}

/// Lists the elements of both tables.
pub(in crate::network) fn found(socket: &mut Socket, table: &str) -> io::Result<Vec<Element>> {
    let mut found = Vec::new();
    for set in SETS {
        let request = message(GET_ELEMENT, DUMP, set.family).text(LIST_TABLE, table).text(LIST_SET, set.name);
        for reply in socket.request(request)? {
            let list = reply.get(4..).and_then(|all| attribute(all, LIST_ELEMENTS)).unwrap_or_default();
            let elements = attributes(list).filter(|(kind, _)| *kind == ELEMENT);
            found.extend(elements.filter_map(|(_, element)| read(set.name, element)));
        }
    }
    Ok(found)
}

fn read(set: &'static str, element: &[u8]) -> Option<Element> {
    let key = attribute(attribute(element, ELEMENT_KEY)?, DATA_VALUE)?.to_vec();
    let given = |data: &[u8]| {
        if let Some(bytes) = attribute(data, DATA_VALUE) {
            return Some(Given::Data(bytes.to_vec()));
        }
        let code = attribute(attribute(data, DATA_VERDICT)?, VERDICT_CODE)?;
        Some(Given::Verdict(u32::from_be_bytes(code.try_into().ok()?)))
    };
    Some(Element { set, key, value: attribute(element, ELEMENT_DATA).and_then(given) })
}

/// Tells whether both tables are there with their sets; a `flush ruleset` of somebody else takes them away.
pub(in crate::network) fn exist(socket: &mut Socket, table: &str) -> io::Result<bool> {
    let ask = |family, name| message(GET_SET, 0, family).text(SET_TABLE, table).text(SET_NAME, name);
    match socket.batch(vec![ask(FAMILY_INET, "loops"), ask(FAMILY_BRIDGE, "src4")]) {
        Ok(replies) => Ok(replies.len() == 2),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}
