//! DNS messages, as the library reads and writes them.
//!
//! What a container sends never leaves as it came: the question is read, and asked anew. What comes back is read too
//! before a container sees it.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query as Question, ResponseCode};
use hickory_proto::rr::rdata::svcb::{SvcParamKey, SvcParamValue};
use hickory_proto::rr::rdata::{A, AAAA, PTR};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

/// Of every message.
const HEADER_BYTES: usize = 12;
/// What fits into a datagram when the asker doesn't say more.
const PLAIN_BYTES: u16 = 512;
/// What fits at most, whatever the asker says.
const MOST_BYTES: u16 = 4096;
/// Answers change with the containers, so nobody may keep one.
const TTL: u32 = 0;

/// What came from a container.
#[derive(Debug)]
pub(super) enum Received {
    /// One question.
    Query(Box<Query>),
    /// Something else, and the answer to it.
    Refused(Vec<u8>),
    /// Nothing that is answered: two resolvers could answer each other for ever.
    Nothing,
}

/// A container's question.
#[derive(Debug, Clone)]
pub(super) struct Query {
    id: u16,
    question: Question,
    recursion_desired: bool,
    checking_disabled: bool,
    /// The bytes that fit into a datagram, and whether signatures are wanted; none without EDNS.
    extended: Option<(u16, bool)>,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// An IPv4 address.
    Ipv4,
    /// An IPv6 address.
    Ipv6,
    /// The name of an address.
    NameOf(IpAddr),
    /// How a zone is kept, which is asked of top-level domains too.
    Zone,
    /// Something that containers don't have.
    Other,
}

/// Reads what came from a container.
pub(super) fn receive(bytes: &[u8]) -> Received {
    let Some(&[id_high, id_low, flags, _, _, count, ..]) =
        bytes.first_chunk::<HEADER_BYTES>().map(|h| &h[..])
    else {
        return Received::Nothing;
    };
    if flags & 0x80 != 0 {
        return Received::Nothing;
    }
    let id = u16::from_be_bytes([id_high, id_low]);
    let refuse = |code| Received::Refused(encode(&Message::error_msg(id, OpCode::Query, code)));
    if flags & 0x78 != 0 {
        return refuse(ResponseCode::NotImp);
    }
    // Looked at before the library makes room for them.
    if bytes[4] != 0 || count != 1 {
        return refuse(ResponseCode::FormErr);
    }
    let Ok(mut message) = Message::from_vec(bytes) else { return refuse(ResponseCode::FormErr) };
    match message.queries.pop() {
        Some(question) if question.query_class == DNSClass::IN => {
            let extended = message.edns.map(|edns| (edns.max_payload(), edns.flags().dnssec_ok));
            Received::Query(Box::new(Query {
                id,
                question,
                recursion_desired: message.metadata.recursion_desired,
                checking_disabled: message.metadata.checking_disabled,
                extended,
            }))
        }
        Some(_) => refuse(ResponseCode::Refused),
        None => refuse(ResponseCode::FormErr),
    }
}

impl Query {
    /// Returns what is asked for.
    pub(super) fn wanted(&self) -> Wanted {
        match self.question.query_type {
            RecordType::A => Wanted::Ipv4,
            RecordType::AAAA => Wanted::Ipv6,
            RecordType::PTR => address_of(&self.question.name).map_or(Wanted::Other, Wanted::NameOf),
            RecordType::NS | RecordType::SOA | RecordType::DS | RecordType::DNSKEY => Wanted::Zone,
            _ => Wanted::Other,
        }
    }

    /// Returns the name in small letters, if a container can have it.
    pub(super) fn name(&self) -> Option<String> {
        plain(&self.question.name)
    }

    /// Returns how many labels the name has.
    pub(super) fn labels(&self) -> usize {
        self.question.name.iter().count()
    }

    /// Answers with addresses of containers; with none of them the name exists all the same.
    pub(super) fn addresses(&self, addresses: &[IpAddr]) -> Reply {
        let mut reply = self.reply(ResponseCode::NoError);
        for address in addresses {
            let data = match address {
                IpAddr::V4(address) => RData::A(A(*address)),
                IpAddr::V6(address) => RData::AAAA(AAAA(*address)),
            };
            reply.message.add_answer(Record::from_rdata(self.question.name.clone(), TTL, data));
        }
        reply
    }

    /// Answers with the name of a container.
    pub(super) fn name_is(&self, name: &str) -> Reply {
        let Ok(name) = Name::from_ascii(format!("{name}.")) else { return self.fails() };
        let mut reply = self.reply(ResponseCode::NoError);
        let data = RData::PTR(PTR(name));
        reply.message.add_answer(Record::from_rdata(self.question.name.clone(), TTL, data));
        reply
    }

    /// Answers that there is no such name.
    pub(super) fn unknown(&self) -> Reply {
        self.reply(ResponseCode::NXDomain)
    }

    /// Answers that it can't be told.
    pub(super) fn fails(&self) -> Reply {
        self.reply(ResponseCode::ServFail)
    }

    fn reply(&self, code: ResponseCode) -> Reply {
        let mut message = Message::response(self.id, OpCode::Query);
        message.metadata.response_code = code;
        message.metadata.recursion_desired = self.recursion_desired;
        message.metadata.recursion_available = true;
        message.metadata.authoritative = code != ResponseCode::ServFail;
        message.add_query(self.question.clone());
        if self.extended.is_some() {
            message.set_edns(edns(MOST_BYTES, false));
        }
        let most = self.extended.map_or(PLAIN_BYTES, |(bytes, _)| bytes.clamp(PLAIN_BYTES, MOST_BYTES));
        Reply { message, most: most.into() }
    }

    /// Writes the question for another server.
    pub(super) fn forwarded(&self, id: u16) -> Vec<u8> {
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = self.recursion_desired;
        message.metadata.checking_disabled = self.checking_disabled;
        message.add_query(self.question.clone());
        if let Some((bytes, dnssec_ok)) = self.extended {
            message.set_edns(edns(bytes.clamp(PLAIN_BYTES, MOST_BYTES), dnssec_ok));
        }
        encode(&message)
    }

    /// Reads what another server says to [`Query::forwarded`]; `None` when it is no answer to that.
    pub(super) fn answered(&self, id: u16, bytes: &[u8]) -> Option<Answer> {
        let head = bytes.first_chunk::<HEADER_BYTES>()?;
        if head[..2] != id.to_be_bytes() || head[2] & 0x80 == 0 || head[4..6] != [0, 1] {
            return None;
        }
        let Ok(message) = Message::from_vec(bytes) else { return Some(Answer::useless()) };
        let [question] = &message.queries[..] else { return None };
        // Names are compared without their case.
        if *question != self.question {
            return None;
        }
        let mut bytes = bytes.to_vec();
        bytes[..2].copy_from_slice(&self.id.to_be_bytes());
        let helps = !matches!(message.metadata.response_code, ResponseCode::ServFail | ResponseCode::Refused);
        let mut answer = Answer { helps, bytes, addresses: Vec::new(), names: Vec::new() };
        for record in message.all_sections() {
            answer.look_at(record);
        }
        Some(answer)
    }
}

/// An answer of this resolver's own.
#[derive(Debug)]
pub(super) struct Reply {
    message: Message,
    /// The bytes that fit into a datagram.
    most: usize,
}

impl Reply {
    /// Writes it for a datagram: what is too long is left away, and asked for over TCP then.
    pub(super) fn datagram(&self) -> Vec<u8> {
        let bytes = self.stream();
        if bytes.len() <= self.most { bytes } else { encode(&self.message.truncate()) }
    }

    /// Writes it for TCP, without the length before it.
    pub(super) fn stream(&self) -> Vec<u8> {
        encode(&self.message)
    }
}

/// What another server said.
#[derive(Debug)]
pub(super) struct Answer {
    /// Whether it knows.
    pub(super) helps: bool,
    /// For the asker.
    pub(super) bytes: Vec<u8>,
    /// The addresses in it.
    pub(super) addresses: Vec<IpAddr>,
    /// The names that it tells something of, which a container could have.
    pub(super) names: Vec<String>,
}

impl Answer {
    fn useless() -> Self {
        Self { helps: false, bytes: Vec::new(), addresses: Vec::new(), names: Vec::new() }
    }

    fn look_at(&mut self, record: &Record) {
        self.names.extend(plain(&record.name));
        match &record.data {
            RData::A(A(address)) => self.addresses.push(IpAddr::V4(*address)),
            RData::AAAA(AAAA(address)) => self.addresses.push(address.to_canonical()),
            RData::CNAME(name) => self.names.extend(plain(&name.0)),
            RData::SVCB(service) => self.hints(&service.svc_params),
            RData::HTTPS(service) => self.hints(&service.0.svc_params),
            _ => {}
        }
    }

    /// Browsers connect to the addresses of these too.
    fn hints(&mut self, parameters: &[(SvcParamKey, SvcParamValue)]) {
        for (_, value) in parameters {
            match value {
                SvcParamValue::Ipv4Hint(hint) => {
                    self.addresses.extend(hint.0.iter().map(|A(a)| IpAddr::V4(*a)))
                }
                SvcParamValue::Ipv6Hint(hint) => {
                    self.addresses.extend(hint.0.iter().map(|AAAA(a)| a.to_canonical()));
                }
                _ => {}
            }
        }
    }
}

fn edns(bytes: u16, dnssec_ok: bool) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(bytes).set_dnssec_ok(dnssec_ok);
    edns
}

fn encode(message: &Message) -> Vec<u8> {
    message.to_vec().unwrap_or_default()
}

/// Gives a name in small letters, when each label has only what names of containers have: a label with a dot in it is
/// another name than two labels.
fn plain(name: &Name) -> Option<String> {
    let mut text = String::new();
    for label in name.iter() {
        if !text.is_empty() {
            text.push('.');
        }
        for &byte in label {
            let is_plain = byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            text.push(is_plain.then(|| char::from(byte.to_ascii_lowercase()))?);
        }
    }
    (!text.is_empty()).then_some(text)
}

/// Gives the address that a name below `in-addr.arpa` or `ip6.arpa` stands for.
fn address_of(name: &Name) -> Option<IpAddr> {
    let net = name.parse_arpa_name().ok()?;
    (net.prefix_len() == net.max_prefix_len()).then(|| net.addr())
}
