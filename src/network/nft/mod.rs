//! The packet filter of a store: two nftables tables, each written in one step.
//!
//! The rules never change with networks and containers; what changes are the elements of sets and maps, and each
//! change is one step too. So a table that somebody flushed is written again from the records, and two kilns never
//! have to agree about an order of rules.
//!
//! ```text
//! table inet kiln {
//!     chain prerouting { type nat hook prerouting priority dstnat;                # published ports
//!         ip saddr . meta l4proto . th dport @self4 return                        # a container's way to itself
//!         dnat ip to ip daddr . meta l4proto . th dport map @one4
//!         fib daddr type local dnat ip to meta l4proto . th dport map @any4       # the same for IPv6
//!     }
//!     chain output { type nat hook output priority -100;
//!         ip daddr 127.0.0.0/8 return                                             # loopback has a program for it
//!         ip6 daddr ::1 return
//!         …the same
//!     }
//!     chain postrouting { type nat hook postrouting priority srcnat;
//!         ct status dnat iifname . oifname @loops masquerade                      # back to the bridge it came from
//!         oifname @bridges return
//!         iifname @masked masquerade
//!     }
//!     chain forward { type filter hook forward priority filter; policy accept;
//!         iifname . oifname vmap @within                                          # inside of a network
//!         ct state established,related accept                                     # most packets: they look no further
//!         iifname @internal drop ; oifname @internal drop
//!         oifname @bridges ct status dnat ip daddr . meta l4proto . th dport @open4 accept
//!         oifname @bridges drop
//!         iifname @bridges accept
//!     }
//!     chain input { type filter hook input priority filter; policy accept;
//!         iifname . ip daddr @own4 accept
//!         iifname @bridges ip daddr @gateways4 drop                               # another network's gateway
//!     }
//! }
//! table bridge kiln {
//!     chain prerouting { type filter hook prerouting priority -300;               # nobody speaks for another one
//!         ether type ip iifname . ether saddr . ip saddr @src4 accept             # most packets, too
//!         iifname @ports goto port
//!     }
//!     chain port {
//!         ether type arp iifname . ether saddr . arp saddr ip @src4 iifname . arp saddr ether . arp saddr ip @src4 accept
//!         ether type ip6 icmpv6 type nd-router-advert drop
//!         ether type ip6 icmpv6 type nd-neighbor-advert iifname . (its target) != @addr6 drop
//!         ether type ip6 iifname . ether saddr . ip6 saddr @src6 accept
//!         drop
//!     }
//! }
//! ```
//!
//! A container reaches everything outside, nothing reaches a container uninvited, and networks don't reach each other.
//! An accept here can't undo a drop in another program's chain: see `foreign`.

mod encode;
mod foreign;
mod names;
mod rules;
mod sets;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use self::encode::{
    DELETE_TABLE, FAMILY_ANY, FAMILY_BRIDGE, FAMILY_INET, GET_GENERATION, GET_TABLE, NEW_TABLE, TABLE_NAME,
    TABLE_NOTES, message, table, transaction,
};
pub(super) use self::foreign::{foreign_drops, forget_foreign_drops, pass_foreign_drops};
pub(super) use self::names::write_names;
pub(super) use self::sets::{Element, Part, add_elements, exist, found, remove_elements};
use super::netlink::{CREATE, DUMP, Message, Socket, attribute};

const GENERATION_NUMBER: u16 = 1;
/// The note of a table that `nft` shows as its comment.
const COMMENT: u8 = 0;

/// Writes both tables with `elements` in the place of what they are. The folder of their networks is noted on them, for
/// those who find them when it is gone.
pub(super) fn write(socket: &mut Socket, name: &str, owner: &Path, elements: &[Element]) -> io::Result<()> {
    let mut messages = cleared(name);
    let text = [owner.as_os_str().as_encoded_bytes(), b"\0"].concat();
    // One that is too long for a note stands on its bridges only.
    let note = u8::try_from(text.len()).map(|length| [&[COMMENT, length][..], &text].concat());
    for family in [FAMILY_INET, FAMILY_BRIDGE] {
        let new = table(NEW_TABLE, CREATE, family, name);
        messages.push(match &note {
            Ok(note) => new.put(TABLE_NOTES, note),
            Err(_) => new,
        });
    }
    messages.extend(sets::make(name));
    messages.extend(rules::all(name));
    messages.extend(sets::add(name, elements));
    transaction(socket, messages).map(drop)
}

/// Lists the tables that have an owner noted on them, each with it.
pub(super) fn owned(socket: &mut Socket) -> io::Result<BTreeSet<(String, PathBuf)>> {
    let mut found = BTreeSet::new();
    for family in [FAMILY_INET, FAMILY_BRIDGE] {
        for reply in socket.request(message(GET_TABLE, DUMP, family))? {
            let of = |kind| reply.get(4..).and_then(|all| attribute(all, kind));
            let (Some(name), Some([COMMENT, _, owner @ ..])) = (of(TABLE_NAME), of(TABLE_NOTES)) else {
                continue;
            };
            let text = |bytes| String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned();
            found.insert((text(name), text(owner).into()));
        }
    }
    Ok(found)
}

/// Returns the number of the last change of any table.
pub(super) fn generation(socket: &mut Socket) -> io::Result<u32> {
    let replies = socket.request(message(GET_GENERATION, 0, FAMILY_ANY))?;
    let number = replies.first().and_then(|all| attribute(all.get(4..)?, GENERATION_NUMBER)?.try_into().ok());
    number.map(u32::from_be_bytes).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// Removes both tables; a missing one is no error.
pub(super) fn remove(socket: &mut Socket, name: &str) -> io::Result<()> {
    transaction(socket, cleared(name)).map(drop)
}

/// Deletes them, made before so that there is something to delete.
fn cleared(name: &str) -> Vec<Message> {
    let of = |family| [table(NEW_TABLE, CREATE, family, name), table(DELETE_TABLE, 0, family, name)];
    [FAMILY_INET, FAMILY_BRIDGE].into_iter().flat_map(of).collect()
}
