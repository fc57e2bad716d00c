//! Chains of other programs that drop what is forwarded.

use std::io;

use super::encode::{
    CHAIN_HOOK, CHAIN_NAME, CHAIN_POLICY, CHAIN_TABLE, DELETE_RULE, DROP, EQUAL, FAMILY_ANY, FAMILY_INET,
    FAMILY_IPV4, GET_CHAIN, GET_RULE, HOOK_FORWARD, HOOK_NUMBER, META_IN_NAME, META_OUT_NAME, NAME_BYTES,
    NEW_RULE, RULE_CHAIN, RULE_EXPRESSIONS, RULE_HANDLE, RULE_TABLE, accept, element, message, name_bytes,
    name_is, transaction,
};
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

/// Lets `bridge` through the chains that drop what is forwarded, as far as they don't let it through already.
///
/// Docker and ufw leave such chains; an accept in kiln's own table can't undo their drop. What may come in is
/// still decided by kiln's own table.
pub(in crate::network) fn pass_foreign_drops(socket: &mut Socket, bridge: &str) -> io::Result<()> {
    for foreign in foreign_drops(socket)? {
        if !foreign.mentions(socket, bridge)? {
            transaction(socket, foreign.accepts(bridge))?;
        }
    }
    Ok(())
}

/// Takes the rules of [`pass_foreign_drops`] away again.
pub(in crate::network) fn forget_foreign_drops(socket: &mut Socket, bridge: &str) -> io::Result<()> {
    for foreign in foreign_drops(socket)? {
        for handle in foreign.handles(socket, bridge)? {
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
        let accepted = |key| {
            let counter = ("counter", Vec::new());
            let expressions = [name_is(key, EQUAL, bridge), vec![counter, accept()]].concat();
            self.rule(NEW_RULE, CREATE).nest(RULE_EXPRESSIONS, |list| expressions.iter().fold(list, element))
        };
        vec![accepted(META_IN_NAME), accepted(META_OUT_NAME)]
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
