//! Chains of other programs that drop what is forwarded.

use std::io;

use super::encode::{
    CHAIN_HOOK, CHAIN_NAME, CHAIN_POLICY, CHAIN_TABLE, CT_STATE, CT_STATUS, DELETE_RULE, DROP, EQUAL,
    Expression, FAMILY_ANY, FAMILY_INET, FAMILY_IPV4, GET_CHAIN, GET_RULE, HOOK_FORWARD, HOOK_NUMBER,
    META_IN_NAME, META_OUT_NAME, NEW_RULE, RULE_CHAIN, RULE_EXPRESSIONS, RULE_HANDLE, RULE_TABLE, Value,
    accept, connection_has, element, message, name_bytes, name_is, transaction,
};
use super::rules::{DESTINATION_CHANGED, ESTABLISHED_OR_RELATED};
use crate::network::netlink::{ACK, CREATE, DUMP, Message, Reply, Socket, attribute};

/// A chain of another program that drops what is forwarded unless it knows it: `ip filter FORWARD`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::network) struct ForeignChain {
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
pub(in crate::network) fn foreign_drops(socket: &mut Socket) -> io::Result<Vec<ForeignChain>> {
    let replies = socket.request(message(GET_CHAIN, DUMP, FAMILY_ANY))?;
    Ok(replies.iter().filter_map(drops_forwarded).collect())
}

/// Lets `bridge` through the chains that drop what is forwarded, as far as they don't let it through already: what its
/// containers send, and the answers. With `opens` what comes to their published ports too.
///
/// Docker and ufw leave such chains; an accept in kiln's own table can't undo their drop.
pub(in crate::network) fn pass_foreign_drops(
    socket: &mut Socket,
    bridge: &str,
    opens: bool,
) -> io::Result<()> {
    for foreign in foreign_drops(socket)? {
        let rules = foreign.rules(socket, bridge)?;
        let is_open = |rule: &OwnRule| rule.is_invitation;
        if rules.is_empty() {
            foreign.add(socket, |is_plain| foreign.accepts(bridge, is_plain))?;
        }
        if opens && !rules.iter().any(is_open) {
            foreign.add(socket, |is_plain| vec![foreign.invitation(bridge, is_plain)])?;
        }
    }
    Ok(())
}

/// Takes the rules of [`pass_foreign_drops`] away again.
pub(in crate::network) fn forget_foreign_drops(socket: &mut Socket, bridge: &str) -> io::Result<()> {
    for foreign in foreign_drops(socket)? {
        for OwnRule { handle, .. } in foreign.rules(socket, bridge)? {
            let rule = foreign.rule(DELETE_RULE, 0).put(RULE_HANDLE, handle);
            transaction(socket, vec![rule])?;
        }
    }
    Ok(())
}

impl ForeignChain {
    fn rule(&self, kind: u16, flags: u16) -> Message {
        message(kind, ACK | flags, self.family).text(RULE_TABLE, &self.table).text(RULE_CHAIN, &self.chain)
    }

    /// Gives the chain's rules that name `bridge`.
    fn rules(&self, socket: &mut Socket, bridge: &str) -> io::Result<Vec<OwnRule>> {
        let request =
            message(GET_RULE, DUMP, self.family).text(RULE_TABLE, &self.table).text(RULE_CHAIN, &self.chain);
        let name = name_bytes(bridge);
        let ours = |reply: &Reply| {
            let attributes = reply.get(4..)?;
            let expressions = attribute(attributes, RULE_EXPRESSIONS)?;
            let is_here = attribute(attributes, RULE_CHAIN)?.strip_suffix(b"\0")? == self.chain.as_bytes();
            let has = |wanted: &[u8]| expressions.windows(wanted.len()).any(|part| part == wanted);
            let handle = attribute(attributes, RULE_HANDLE)?.to_vec();
            let is_invitation =
                has(&conntrack(PUBLISHED)) || (has(b"ct\0") && has(&DESTINATION_CHANGED.to_ne_bytes()));
            (is_here && has(&name)).then_some(OwnRule { handle, is_invitation })
        };
        Ok(socket.request(request)?.iter().filter_map(ours).collect())
    }

    /// Adds rules: in the form that iptables can read, or in nftables' own where the kernel lacks that.
    fn add(&self, socket: &mut Socket, rules: impl Fn(bool) -> Vec<Message>) -> io::Result<()> {
        let is_ipv4 = self.family == FAMILY_IPV4;
        if is_ipv4 && transaction(socket, rules(false)).is_ok() {
            return Ok(());
        }
        transaction(socket, rules(true)).map(drop)
    }

    /// What containers send, and the answers.
    fn accepts(&self, bridge: &str, is_plain: bool) -> Vec<Message> {
        let answers = match is_plain {
            true => connection_has(CT_STATE, ESTABLISHED_OR_RELATED),
            false => matched(ANSWERS),
        };
        let sent = name_is(META_IN_NAME, EQUAL, bridge);
        vec![self.accepted(sent), self.accepted([name_is(META_OUT_NAME, EQUAL, bridge), answers].concat())]
    }

    /// What comes to their published ports.
    fn invitation(&self, bridge: &str, is_plain: bool) -> Message {
        let published = match is_plain {
            true => connection_has(CT_STATUS, DESTINATION_CHANGED),
            false => matched(PUBLISHED),
        };
        self.accepted([name_is(META_OUT_NAME, EQUAL, bridge), published].concat())
    }

    /// A rule at the head of the chain, in the form that iptables can read too: it wants a counter.
    fn accepted(&self, mut expressions: Vec<Expression>) -> Message {
        expressions.extend([("counter", Vec::new()), accept()]);
        self.rule(NEW_RULE, CREATE).nest(RULE_EXPRESSIONS, |list| expressions.iter().fold(list, element))
    }
}

/// States of a connection as the match `conntrack` of iptables has them.
const ANSWERS: u16 = 2 | 4;
const PUBLISHED: u16 = 1 << 7;
/// `struct xt_conntrack_mtinfo3`, and where in it the flags and the states are.
const CONNTRACK_BYTES: usize = 168;
const CONNTRACK_FLAGS: usize = 146;
const CONNTRACK_STATES: usize = 150;
const CONNTRACK_REVISION: u32 = 3;
/// Of the flags: the states are compared.
const BY_STATE: u16 = 1;

/// Goes on when the connection has one of `states`. iptables says of a chain with nftables' own word for that that it
/// can't read it, and so would the program that the chain belongs to.
fn matched(states: u16) -> Vec<Expression> {
    let fields = vec![
        (1, Value::Text("conntrack")),
        (2, Value::Number(CONNTRACK_REVISION)),
        (3, Value::Bytes(conntrack(states))),
    ];
    vec![("match", fields)]
}

fn conntrack(states: u16) -> Vec<u8> {
    let mut info = vec![0; CONNTRACK_BYTES];
    info[CONNTRACK_FLAGS..CONNTRACK_FLAGS + 2].copy_from_slice(&BY_STATE.to_ne_bytes());
    info[CONNTRACK_STATES..CONNTRACK_STATES + 2].copy_from_slice(&states.to_ne_bytes());
    info
}

/// A rule of ours in such a chain.
struct OwnRule {
    handle: Vec<u8>,
    is_invitation: bool,
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
