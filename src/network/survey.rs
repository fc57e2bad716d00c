//! The kernel's state against the records: what somebody flushed, deleted or left, and putting it right.
//!
//! What is being made or taken down at this moment differs too; so what differs is looked at until it stays.

use std::thread::sleep;
use std::time::Duration;

use super::filter::Filter;
use super::netlink::Socket;
use super::nft::{self, Element};
use super::record::Record;
use super::{Lease, Network, Networks, Result, elements, link};

/// How often something has to differ.
const LOOKS: usize = 4;
const PAUSE: Duration = Duration::from_millis(100);
/// How the host's links of endpoints begin.
const OUTER: &str = "kv";

/// Something that isn't as the records have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What it is.
    pub kind: &'static str,
    /// Which one.
    pub name: String,
    /// How it differs.
    pub problem: &'static str,
    /// Containers miss something; otherwise it is in the way.
    pub damage: bool,
}

/// A network with those who are connected to it.
struct Used {
    network: Network,
    members: Vec<Lease>,
}

impl Networks {
    /// Lists what differs. Who may not read the packet filter finds nothing wrong with it.
    pub fn survey(&self) -> Result<Vec<Difference>> {
        let mut found = self.differences()?;
        for _ in 1..LOOKS {
            if found.is_empty() {
                break;
            }
            sleep(PAUSE);
            let again = self.differences()?;
            found.retain(|difference| again.contains(difference));
        }
        Ok(found)
    }

    /// Puts right what [`Self::survey`] finds.
    pub fn repair(&self) -> Result<()> {
        self.reap()?;
        if self.survey()?.is_empty() {
            return Ok(());
        }
        let mut host = Socket::route().map_err(|source| self.kernel("open a netlink socket", source))?;
        let all = self.used()?;
        for Used { network, members } in &all {
            let bridge = network.clone().ready(&mut host)?;
            let mut attach = || {
                for lease in members {
                    let outer = link::find(&mut host, &lease.link)?;
                    if let Some(outer) = outer.filter(|outer| outer.master != Some(bridge)) {
                        host.request(link::set_master(outer.index, bridge))?;
                    }
                }
                Ok(())
            };
            attach().map_err(|source| network.kernel("attach the links", source))?;
        }
        for (index, _) in self.strays(&mut host, &all)? {
            link::remove(&mut host, index).map_err(|source| self.kernel("remove a link", source))?;
        }
        let _lock = self.lock()?;
        match all.is_empty() {
            true => Ok(()),
            false => self.write_tables(),
        }
    }

    fn differences(&self) -> Result<Vec<Difference>> {
        let mut host = Socket::route().map_err(|source| self.kernel("open a netlink socket", source))?;
        let all = self.used()?;
        let mut found = Vec::new();
        let mut tell = |kind, name: &str, problem, damage| {
            found.push(Difference { kind, name: name.to_owned(), problem, damage });
        };
        for Used { network, members } in &all {
            let Record { bridge, .. } = &network.record;
            let find = |host: &mut Socket, name: &str| {
                link::find(host, name).map_err(|source| network.kernel("look", source))
            };
            let index = match find(&mut host, bridge)? {
                None => {
                    tell("bridge", bridge, "is missing", true);
                    continue;
                }
                Some(link) if !link.up => {
                    tell("bridge", bridge, "is down", true);
                    continue;
                }
                Some(link) => link.index,
            };
            for lease in members {
                if find(&mut host, &lease.link)?.is_some_and(|link| link.master != Some(index)) {
                    tell("link", &lease.link, "is no port of its bridge", true);
                }
            }
        }
        for (_, name) in self.strays(&mut host, &all)? {
            tell("link", &name, "belongs to nobody", false);
        }
        if !all.is_empty()
            && let Some((missing, strange)) = self.filter_differences()?
        {
            if missing {
                tell("packet filter", self.table(), "lacks what networks need", true);
            }
            if strange {
                tell("packet filter", self.table(), "has elements of nobody", false);
            }
        }
        Ok(found)
    }

    /// Tells whether elements are missing, and whether there are others.
    fn filter_differences(&self) -> Result<Option<(bool, bool)>> {
        let wanted = self.wanted()?;
        let Ok(mut socket) = Filter::open() else { return Ok(None) };
        let found = match nft::exist(&mut socket, self.table()) {
            Ok(true) => nft::found(&mut socket, self.table()),
            Ok(false) => return Ok(Some((true, false))),
            Err(error) => Err(error),
        };
        let Ok(found) = found else { return Ok(None) };
        // The bridge that nobody is connected to may be there, and need not.
        let default = self.default_network()?;
        let is_idle = default.members()?.is_empty();
        let either = if is_idle { elements::of_network(&default.record) } else { Vec::new() };
        let lacks = |some: &[Element], others: &[Element]| {
            others.iter().any(|other| !some.contains(other) && !either.contains(other))
        };
        Ok(Some((lacks(&found, &wanted), lacks(&wanted, &found))))
    }

    /// The networks that have to be in the kernel: the default one while somebody is connected to it.
    fn used(&self) -> Result<Vec<Used>> {
        let mut used = Vec::new();
        for network in self.networks()? {
            let mut members = network.members()?;
            members.retain(|lease| !lease.link.is_empty());
            if network.record.subnet.is_some() && !(network.record.is_default() && members.is_empty()) {
                used.push(Used { network, members });
            }
        }
        Ok(used)
    }

    /// Links on the bridges that no endpoint has.
    fn strays(&self, host: &mut Socket, all: &[Used]) -> Result<Vec<(u32, String)>> {
        let looked = |source| self.kernel("look", source);
        let links = link::ports(host).map_err(looked)?;
        let mut strays = Vec::new();
        for Used { network, members } in all {
            let bridge = link::find(host, &network.record.bridge).map_err(looked)?.map(|link| link.index);
            let is_stray = |(_, name, master): &&(u32, String, u32)| {
                Some(*master) == bridge
                    && name.starts_with(OUTER)
                    && !members.iter().any(|lease| lease.link == *name)
            };
            strays.extend(links.iter().filter(is_stray).map(|(index, name, _)| (*index, name.clone())));
        }
        Ok(strays)
    }
}
