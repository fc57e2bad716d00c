//! The bridge of a network: made when it is missing, with all that stands around it.

use std::io;
use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net};

use super::error::{Error, Result, file};
use super::filter::Filter;
use super::netlink::Socket;
use super::record::{Record, Subnet};
use super::{Network, elements, forwarding, leftovers, link, mac_of, nft};

impl Network {
    /// Looks whether all is in place, and makes what is not; gives the bridge's index.
    pub(super) fn ready(&mut self, host: &mut Socket) -> Result<u32> {
        if let Some(index) = self.found(host)? {
            return Ok(index);
        }
        let _lock = self.networks.lock()?;
        match Record::read(&self.folder)? {
            Some(record) => self.record = record,
            None if self.record.is_default() => {}
            None => return Err(Error::NotFound { text: self.record.name.clone() }),
        }
        let _host_lock = forwarding::host_lock();
        self.make(host)
    }

    /// Makes all of it. The caller has the networks locked, and the choice of subnets.
    pub(super) fn make(&mut self, host: &mut Socket) -> Result<u32> {
        for part in ["addresses", "endpoints"] {
            let path = self.folder.join(part);
            std::fs::create_dir_all(&path).map_err(file("create", &path))?;
        }
        if self.record.is_default() && self.record.subnet.is_none() {
            self.adopt()?;
        }
        let index = self.make_bridge(host)?;
        forwarding::switch_on(self.record.subnet6.is_some())?;
        let table = self.networks.table();
        let look = || {
            let mut filter = Filter::open()?;
            nft::pass_foreign_drops(&mut filter, &self.record.bridge, self.networks.opens_firewall)?;
            nft::exist(&mut filter, table)
        };
        if !look().map_err(|source| self.kernel("write the packet filter", source))? {
            self.networks.write_tables()?;
        }
        // One that is just being made is among no others' yet.
        self.networks.add(&elements::of_network(&self.record))?;
        Ok(index)
    }

    fn found(&mut self, host: &mut Socket) -> Result<Option<u32>> {
        if self.record.subnet.is_none() {
            let Some(record) = Record::read(&self.folder)? else { return Ok(None) };
            self.record = record;
        }
        let bridge = link::find(host, &self.record.bridge).map_err(|source| self.kernel("look", source))?;
        let Some(bridge) = bridge.filter(|bridge| bridge.up) else { return Ok(None) };
        let filter = Filter::open().and_then(|mut socket| {
            // Docker may have come since: its drop is looked for at each connection.
            nft::pass_foreign_drops(&mut socket, &self.record.bridge, self.networks.opens_firewall)?;
            nft::exist(&mut socket, self.networks.table())
        });
        let has_filter = filter.map_err(|source| self.kernel("look for the packet filter", source))?;
        Ok((has_filter && forwarding::is_on(self.record.subnet6.is_some())?).then_some(bridge.index))
    }

    /// Makes the bridge, or completes one that a killed kiln left half-made: only a complete one is up.
    fn make_bridge(&mut self, host: &mut Socket) -> Result<u32> {
        let name = self.record.bridge.clone();
        let failed = |action| {
            let bridge = name.clone();
            move |source| Error::Kernel { action, bridge, source }
        };
        let found = link::find(host, &name).map_err(failed("look"))?;
        if let (Some(bridge), Some(_)) = (found.filter(|bridge| bridge.up), &self.record.subnet) {
            return Ok(bridge.index);
        }
        if let Some(half) = found {
            link::remove(host, half.index).map_err(failed("remove the half-made link"))?;
        }
        leftovers::remove_orphans(host);
        let subnet = self.choose_subnet(host)?;
        link::add_bridge(host, &name, mac_of(subnet.gateway), self.record.mtu())
            .map_err(failed("add the link"))?;
        let made = link::find(host, &name).map_err(failed("look"))?;
        let index = made.ok_or_else(|| failed("find")(io::ErrorKind::NotFound.into()))?.index;
        let address = with_prefix(subnet.gateway.into(), subnet.net.into());
        let subnet6 = self.record.subnet6.as_ref();
        let address6 = subnet6.map(|subnet| with_prefix(subnet.gateway.into(), subnet.net.into()));
        let addresses = || [Some(address), address6].into_iter().flatten();
        let mut requests = vec![link::no_own_address(index)];
        requests.extend(addresses().map(|address| link::add_address(index, address)));
        requests.push(link::set_up_for(index, &self.owner()));
        requests.extend(addresses().map(|address| link::unpaced(index, address)));
        host.batch(requests).map_err(failed("set the addresses"))?;
        // Others have had theirs since they were planned.
        if self.record.is_default() {
            self.record.subnet = Some(subnet);
            self.record.write(&self.folder)?;
        }
        Ok(index)
    }

    /// What is noted on the bridge, for those who find it when its store is gone.
    pub(super) fn owner(&self) -> String {
        let path = |path: &std::path::Path| std::path::absolute(path).unwrap_or_default();
        match self.record.is_default() {
            true => path(&self.networks.folder).to_string_lossy().into_owned(),
            false => format!("{}{}", leftovers::MARK, path(&self.folder).display()),
        }
    }

    /// Gives the subnet of the record, so that addresses stay the same over a reboot, or a free one.
    fn choose_subnet(&self, host: &mut Socket) -> Result<Subnet<Ipv4Net, Ipv4Addr>> {
        let is_fixed = !self.record.is_default();
        match &self.record.subnet {
            Some(subnet) if is_fixed || self.networks.is_free(host, subnet.net)? => Ok(subnet.clone()),
            _ => {
                let net = self.networks.free_subnet(host, &self.record.bridge)?;
                Ok(Subnet { net, gateway: first_of(net), range: None, aux: Default::default() })
            }
        }
    }

    pub(super) fn kernel(&self, action: &'static str, source: io::Error) -> Error {
        Error::Kernel { action, bridge: self.record.bridge.clone(), source }
    }
}

impl super::Networks {
    /// Gives a private subnet that neither the host nor another network of this store uses.
    pub(super) fn free_subnet(&self, host: &mut Socket, bridge: &str) -> Result<Ipv4Net> {
        let mut used = self.routes(host)?;
        used.extend(self.records()?.iter().filter_map(|record| Some(IpNet::V4(record.subnet.as_ref()?.net))));
        candidates()
            .find(|subnet| used.iter().all(|other| !overlap((*subnet).into(), *other)))
            .ok_or_else(|| Error::NoSubnet { bridge: bridge.to_owned() })
    }

    fn is_free(&self, host: &mut Socket, subnet: Ipv4Net) -> Result<bool> {
        Ok(self.routes(host)?.iter().all(|other| !overlap(subnet.into(), *other)))
    }

    fn routes(&self, host: &mut Socket) -> Result<Vec<IpNet>> {
        let routes = link::destinations(host).map_err(|source| self.kernel("list routes", source))?;
        Ok(routes.into_iter().map(|(route, _)| route).collect())
    }
}

/// The private subnets that engines use: 172.17 to 172.31, then 192.168 in sixteenths, and a part of 10 for those who
/// need many.
fn candidates() -> impl Iterator<Item = Ipv4Net> {
    let large = (17..=31).map(|second| Ipv4Net::new(Ipv4Addr::new(172, second, 0, 0), 16));
    let small = (0..16).map(|part| Ipv4Net::new(Ipv4Addr::new(192, 168, part * 16, 0), 20));
    let many = (64..128).flat_map(|second| {
        (0..16).map(move |part| Ipv4Net::new(Ipv4Addr::new(10, second, part * 16, 0), 20))
    });
    large.chain(small).chain(many).filter_map(std::result::Result::ok)
}

/// Tells whether two subnets have an address in common.
pub(super) fn overlap(one: IpNet, other: IpNet) -> bool {
    one.contains(&other) || other.contains(&one)
}

/// The first address of a subnet, which is the gateway's without a wish.
pub(super) fn first_of(subnet: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(subnet.network()) + 1)
}

/// An address with its subnet's prefix length.
pub(super) fn with_prefix(address: std::net::IpAddr, subnet: IpNet) -> IpNet {
    IpNet::new(address, subnet.prefix_len()).unwrap_or(subnet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_that_overlaps_is_seen_from_both_sides() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        assert!(overlap(net("172.17.0.0/16"), net("172.17.5.0/24")));
        assert!(overlap(net("172.17.0.0/16"), net("172.16.0.0/12")));
        assert!(!overlap(net("172.17.0.0/16"), net("172.18.0.0/16")));
        assert!(!overlap(net("fd00::/64"), net("172.18.0.0/16")));
        assert_eq!(candidates().count(), 31 + 1024);
    }
}
