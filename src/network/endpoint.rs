//! Joining a network and leaving it.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use ipnet::{Ipv4Net, Ipv6Net};

use super::addresses::{self, Claim, Lease};
use super::error::{Error, Result, file, invalid};
use super::filter::Filter;
use super::namespace::Place;
use super::netlink::Socket;
use super::record::Record;
use super::{ETHERNET_MTU, NAME_ATTEMPTS, Namespace, Network, Networks, elements, link, mac_of, nft};

/// An address that was asked for may be its owner's last life's for a moment.
const OWN_ATTEMPTS: u32 = 200;
const OWN_PAUSE: Duration = Duration::from_millis(5);
/// In subnets with fewer addresses than this they come again soon.
const LARGE_PREFIX: u8 = 20;

/// For who wants an IPv6 address where there is none.
pub const NO_IPV6: &str = "make the network with `--ipv6`, or leave the address out";

/// What an endpoint is to be.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// A container's id, or what else it is for; it is noted in the lease.
    pub owner: &'a str,
    /// The owner's folder: an address that was asked for is kept as long as it is there.
    pub home: Option<&'a Path>,
    /// The link's name in its namespace.
    pub interface: &'a str,
    /// The address, when not any will do.
    pub ip: Option<Ipv4Addr>,
    /// The IPv6 address.
    pub ip6: Option<Ipv6Addr>,
    /// The link's MAC.
    pub mac: Option<[u8; 6]>,
    /// The default routes lead this way.
    pub is_way_out: bool,
    /// TCP to its neighbours goes by the namespace's own congestion control, not by the one that suits them.
    pub is_paced: bool,
}

impl<'a> Wanted<'a> {
    /// Any address, on `eth0`, with the way out.
    pub fn any(owner: &'a str) -> Self {
        Self {
            owner,
            home: None,
            interface: "eth0",
            ip: None,
            ip6: None,
            mac: None,
            is_way_out: true,
            is_paced: false,
        }
    }
}

/// An endpoint that was made; it goes when this is dropped.
#[derive(Debug)]
pub struct Joined {
    /// What the kernel knows of it.
    pub lease: Lease,
    /// The address in its subnet.
    pub address: Ipv4Net,
    /// The bridge's address.
    pub gateway: Ipv4Addr,
    /// The IPv6 address in its subnet.
    pub address6: Option<Ipv6Net>,
    /// The bridge's IPv6 address.
    pub gateway6: Option<Ipv6Addr>,
    taken: Taken,
}

/// An endpoint that has its addresses, and no link yet; the addresses go when this is dropped.
#[derive(Debug)]
pub struct Reserved {
    network: Network,
    joined: Joined,
}

impl Reserved {
    /// What it will be. Its link may get another name.
    pub fn joined(&self) -> &Joined {
        &self.joined
    }

    /// Gives what holds the address, too.
    pub fn share(&self) -> Result<Option<OwnedFd>> {
        let held = self.joined.taken.file.as_ref();
        let shared = held.map(|file| file.try_clone().map(OwnedFd::from)).transpose();
        shared.map_err(file("share an address in", &self.network.folder))
    }

    /// Leaves the address to the process that has what [`Reserved::share`] gave: it calls [`Networks::give_back`] at the end,
    /// and nothing is given back here.
    pub fn give_over(&mut self) {
        self.joined.taken.is_anothers = true;
    }

    /// Makes the link in `namespace`, once more when another kiln removed the unused bridge between our look at it and our
    /// use of it.
    pub fn plug(mut self, namespace: &mut Namespace, wanted: &Wanted<'_>) -> Result<Joined> {
        match self.try_plug(namespace, wanted) {
            Err(_) if self.network.has_no_bridge() => self.try_plug(namespace, wanted),
            plugged => plugged,
        }?;
        Ok(self.joined)
    }

    fn try_plug(&mut self, namespace: &mut Namespace, wanted: &Wanted<'_>) -> Result<()> {
        let Self { network, joined } = self;
        let mut host = Socket::route().map_err(|source| network.kernel("open a netlink socket", source))?;
        let bridge = network.ready(&mut host)?;
        let mtu = network.record.mtu().or_else(|| link::way_out_mtu(&mut host)).unwrap_or(ETHERNET_MTU);
        network.add_pair(&mut host, namespace, bridge, wanted.interface, mtu, &mut joined.taken)?;
        joined.lease = joined.taken.lease.clone();
        let place = Place {
            address: joined.address,
            address6: joined.address6,
            ways: if wanted.is_way_out { network.ways_out() } else { Vec::new() },
            is_paced: wanted.is_paced,
        };
        let configured = namespace.configure(wanted.interface, &place);
        configured.map_err(|source| network.kernel("configure the link in its namespace", source))
    }
}

impl Joined {
    /// Gives what holds the address: whoever has it now calls [`Networks::give_back`] at the end.
    pub fn hand_over(mut self) -> Option<OwnedFd> {
        self.taken.file.take().map(OwnedFd::from)
    }
}

/// A taken address: it and what the kernel knows of it go when this is dropped.
#[derive(Debug)]
struct Taken {
    network: Network,
    lease: Lease,
    /// None once another process holds the address.
    file: Option<File>,
    /// Another process holds it too, and gives it back.
    is_anothers: bool,
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(file) = self.file.take().filter(|_| !self.is_anothers) {
            self.network.release(&self.lease, file);
        }
    }
}

impl Network {
    /// Takes addresses for an endpoint.
    pub(super) fn reserve(&mut self, wanted: &Wanted<'_>) -> Result<Reserved> {
        if self.record.subnet.is_none()
            && let Some(record) = Record::read(&self.folder)?
        {
            self.record = record;
        }
        // Whoever makes the bridge may choose the subnet anew.
        if self.record.subnet.is_none() || self.has_no_bridge() {
            let host = Socket::route().map_err(|source| self.kernel("open a netlink socket", source));
            self.ready(&mut host?)?;
        }
        let taken = self.take(wanted)?;
        Ok(Reserved { joined: self.joined(taken)?, network: self.clone() })
    }

    /// Where default routes over this network lead; an internal one has none.
    pub fn ways_out(&self) -> Vec<IpAddr> {
        let gateway = self.record.subnet.iter().map(|subnet| IpAddr::V4(subnet.gateway));
        let gateway6 = self.record.subnet6.iter().map(|subnet| IpAddr::V6(subnet.gateway));
        if self.record.internal { Vec::new() } else { gateway.chain(gateway6).collect() }
    }

    /// Takes the endpoint's link away, and gives its address back, which this process holds.
    pub fn leave(&self, address: Ipv4Addr, holder: OwnedFd) -> Result<()> {
        let leases = addresses::list(&self.folder).map_err(file("list the addresses in", &self.folder))?;
        let Some((lease, _)) = leases.into_iter().find(|(lease, _)| lease.address == address) else {
            return Ok(());
        };
        let remove = || {
            let mut host = Socket::route()?;
            match link::find(&mut host, &lease.link)? {
                Some(found) => link::remove(&mut host, found.index),
                None => Ok(()),
            }
        };
        remove().map_err(|source| self.kernel("remove the link", source))?;
        // One that was asked for goes too: the owner has left.
        self.release(&Lease { fixed: false, ..lease }, holder.into());
        Ok(())
    }

    fn joined(&self, taken: Taken) -> Result<Joined> {
        let subnet = self.record.addresses()?;
        let lease = taken.lease.clone();
        let subnet6 = self.record.subnet6.as_ref();
        Ok(Joined {
            address: Ipv4Net::new(lease.address, subnet.net.prefix_len()).unwrap_or(subnet.net),
            gateway: subnet.gateway,
            address6: subnet6
                .zip(lease.address6)
                .and_then(|(subnet, address)| Ipv6Net::new(address, subnet.net.prefix_len()).ok()),
            gateway6: subnet6.map(|subnet| subnet.gateway),
            lease,
            taken,
        })
    }

    /// Adds the pair, and before it what lets its packets pass.
    fn add_pair(
        &self,
        host: &mut Socket,
        namespace: &Namespace,
        bridge: u32,
        interface: &str,
        mtu: u32,
        taken: &mut Taken,
    ) -> Result<()> {
        let mut attempt = 0;
        loop {
            self.networks.add(&elements::of_lease(&taken.lease))?;
            let pair = link::Pair {
                outer: &taken.lease.link,
                inner: interface,
                bridge,
                namespace: namespace.fd.as_fd(),
                mac: taken.lease.mac,
                mtu,
            };
            match link::add_pair(host, &pair) {
                Ok(()) => return Ok(()),
                // A veth of a dying namespace can hold its name for some milliseconds.
                Err(error) if error.raw_os_error() == Some(libc::EEXIST) && attempt < NAME_ATTEMPTS => {
                    attempt += 1;
                    self.networks.take_back(&elements::of_lease(&taken.lease))?;
                    taken.lease.link = outer_name(taken.lease.address, attempt);
                    if let Some(record) = &mut taken.file {
                        addresses::write(record, &taken.lease).map_err(file("write in", &self.folder))?;
                    }
                }
                Err(source) => return Err(self.kernel("add a veth pair", source)),
            }
        }
    }

    fn take(&self, wanted: &Wanted<'_>) -> Result<Taken> {
        let mut attempt = 0;
        loop {
            match self.try_take(wanted) {
                // Its last monitor may not have let go of it yet.
                Err(Error::AddressTaken { owner, .. }) if owner == wanted.owner && attempt < OWN_ATTEMPTS => {
                    attempt += 1;
                    std::thread::sleep(OWN_PAUSE);
                }
                result => return result,
            }
        }
    }

    fn try_take(&self, wanted: &Wanted<'_>) -> Result<Taken> {
        let mut lock = self.lock()?;
        let (address, mut record) = match wanted.ip {
            Some(address) => (address, self.take_fixed(address, wanted)?),
            None => self.take_any(&mut lock)?,
        };
        let lease = Lease {
            owner: wanted.owner.to_owned(),
            home: wanted.home.map(Path::to_owned),
            link: outer_name(address, 0),
            mac: wanted.mac.unwrap_or_else(|| mac_of(address)),
            address,
            address6: self.address6(address, wanted)?,
            fixed: wanted.ip.is_some() || wanted.ip6.is_some(),
        };
        addresses::write(&mut record, &lease).map_err(file("write in", &self.folder))?;
        Ok(Taken { network: self.clone(), lease, file: Some(record), is_anothers: false })
    }

    fn take_any(&self, lock: &mut File) -> Result<(Ipv4Addr, File)> {
        let subnet = self.record.addresses()?;
        let failed = || file("take an address in", &self.folder);
        let last = addresses::last_given(lock).map_err(failed())?;
        for address in addresses::round(subnet, last) {
            let found = match addresses::claim(&self.folder, address).map_err(failed())? {
                Claim::Free(file) => file,
                Claim::Dead(file, lease) => {
                    self.forget(&lease)?;
                    file
                }
                Claim::Reserved(..) | Claim::Held(_) => continue,
            };
            addresses::note_given(lock, address).map_err(failed())?;
            return Ok((address, found));
        }
        let subnet = subnet.range.unwrap_or(subnet.net).into();
        Err(Error::NoAddress { network: self.record.name.clone(), subnet })
    }

    fn take_fixed(&self, address: Ipv4Addr, wanted: &Wanted<'_>) -> Result<File> {
        self.check_fixed(address)?;
        let taken =
            |owner| Error::AddressTaken { address: address.into(), network: self.record.name.clone(), owner };
        let claim =
            addresses::claim(&self.folder, address).map_err(file("take an address in", &self.folder))?;
        match claim {
            Claim::Free(file) => Ok(file),
            Claim::Dead(file, lease) => self.forget(&lease).map(|()| file),
            Claim::Reserved(file, lease) if lease.owner == wanted.owner => {
                self.forget(&lease)?;
                Ok(file)
            }
            Claim::Reserved(_, lease) => Err(taken(lease.owner)),
            Claim::Held(owner) => Err(taken(owner)),
        }
    }

    /// Refuses an address that no container of this network can have.
    pub fn check_fixed(&self, address: Ipv4Addr) -> Result<()> {
        let subnet = self.record.addresses()?;
        let (net, name) = (subnet.net, &self.record.name);
        let other = format!("choose another one in {net}, or none: then a free one is taken");
        if !net.contains(&address) {
            let what = format!("the address {address}");
            return Err(Error::Outside { what, subnet: net.into(), network: name.clone() });
        }
        if address == subnet.gateway {
            return invalid(format!("the address {address} is the gateway of network {name}"), other);
        }
        if address == net.network() || address == net.broadcast() {
            return invalid(
                format!("no container can have the address {address} of the subnet {net}"),
                other,
            );
        }
        match subnet.aux.iter().find(|(_, other)| **other == address) {
            Some((host, _)) => {
                invalid(format!("the address {address} of network {name} belongs to {host}"), other)
            }
            None => Ok(()),
        }
    }

    /// The IPv6 address that goes with an IPv4 one: the same place in its subnet, unless another one is asked for.
    fn address6(&self, address: Ipv4Addr, wanted: &Wanted<'_>) -> Result<Option<Ipv6Addr>> {
        let name = &self.record.name;
        let Some(subnet) = &self.record.subnet6 else {
            return match wanted.ip6 {
                Some(ip6) => {
                    invalid(format!("network {name} has no IPv6 subnet for the address {ip6}"), NO_IPV6)
                }
                None => Ok(None),
            };
        };
        let leases = addresses::list(&self.folder).map_err(file("list the addresses in", &self.folder))?;
        let owner = |ip6: Ipv6Addr| {
            let has = |lease: &Lease| lease.address6 == Some(ip6) && lease.address != address;
            leases.iter().find(|(lease, is_held)| has(lease) && (*is_held || lease.is_reserved()))
        };
        if let Some(ip6) = wanted.ip6 {
            if !subnet.net.contains(&ip6) || ip6 == subnet.gateway {
                let net = subnet.net;
                let other = format!("choose another one in {net}, or none: then a free one is taken");
                return invalid(
                    format!("the address {ip6} is not free for containers in the subnet {net}"),
                    other,
                );
            }
            return match owner(ip6) {
                Some((lease, _)) if lease.owner != wanted.owner => {
                    let owner = lease.owner.clone();
                    Err(Error::AddressTaken { address: ip6.into(), network: name.clone(), owner })
                }
                _ => Ok(Some(ip6)),
            };
        }
        let net = self.record.addresses()?.net;
        let place = u128::from(u32::from(address) - u32::from(net.network()));
        let first = u128::from(subnet.range.unwrap_or(subnet.net).network());
        let is_free = |ip6: &Ipv6Addr| {
            *ip6 != subnet.gateway && !subnet.aux.values().any(|other| other == ip6) && owner(*ip6).is_none()
        };
        let found = (0..1 << 16).map(|round| Ipv6Addr::from(first + place + (round << 32))).find(is_free);
        let full = || Error::NoAddress { network: name.clone(), subnet: subnet.net.into() };
        found.filter(|ip6| subnet.net.contains(ip6)).ok_or_else(full).map(Some)
    }

    /// Takes out of the kernel what it knows of an endpoint whose link is gone or goes.
    pub(super) fn forget(&self, lease: &Lease) -> Result<()> {
        if lease.link.is_empty() {
            return Ok(());
        }
        self.renounce(lease);
        self.unpublish(lease.address)?;
        self.networks.take_back(&elements::of_lease(lease))?;
        let is_soon_again = self.record.subnet.as_ref().is_some_and(|it| it.net.prefix_len() > LARGE_PREFIX);
        if lease.fixed || is_soon_again {
            // A kernel without the request has only old connections, which time out.
            let _ = self.networks.forget_connections(lease.address.into());
            if let Some(address) = lease.address6 {
                let _ = self.networks.forget_connections(address.into());
            }
        }
        Ok(())
    }

    /// Gives back an address whose file this process holds.
    ///
    /// The name goes only under the lock that protects taking; when that is busy, the file stays as a stale lease,
    /// which the next round takes over.
    fn release(&self, lease: &Lease, mut record: File) {
        if self.forget(lease).is_err() {
            return;
        }
        let unknown = Lease { link: String::new(), ..lease.clone() };
        if lease.is_reserved() {
            let _ = addresses::write(&mut record, &unknown);
        } else if let Some(_lock) = addresses::try_lock(&self.folder) {
            let _ = std::fs::remove_file(addresses::path(&self.folder, lease.address));
        } else {
            let _ = addresses::write(&mut record, &unknown);
        }
    }

    /// Takes the network's lock; it is gone when its record is.
    fn lock(&self) -> Result<File> {
        let gone = || Error::NotFound { text: self.record.name.clone() };
        let lock = addresses::lock(&self.folder).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => gone(),
            _ => file("lock", &self.folder)(source),
        })?;
        match self.folder.join("network.json").exists() {
            true => Ok(lock),
            false => Err(gone()),
        }
    }

    /// Removes what dead owners left; gives how many they were.
    pub(super) fn tidy(&self) -> Result<usize> {
        let failed = || file("tidy up in", &self.folder);
        let Ok(_lock) = addresses::lock(&self.folder) else { return Ok(0) };
        let mut tidied = 0;
        for (path, mut record, lease) in addresses::dead(&self.folder).map_err(failed())? {
            let Some(lease) = lease else {
                std::fs::remove_file(path).map_err(failed())?;
                tidied += 1;
                continue;
            };
            self.forget(&lease)?;
            if !lease.is_reserved() {
                std::fs::remove_file(path).map_err(failed())?;
                tidied += 1;
            } else if !lease.link.is_empty() {
                addresses::write(&mut record, &Lease { link: String::new(), ..lease }).map_err(failed())?;
            }
        }
        Ok(tidied)
    }

    /// Lists the endpoints that somebody holds.
    pub fn members(&self) -> Result<Vec<Lease>> {
        let leases = addresses::list(&self.folder).map_err(file("list the addresses in", &self.folder))?;
        Ok(leases.into_iter().filter(|(_, is_held)| *is_held).map(|(lease, _)| lease).collect())
    }
}

impl Networks {
    /// Gives back an address that was handed over to this process. The network's link is gone with its namespace, or
    /// goes with this process.
    pub fn give_back(&self, network: &str, address: Ipv4Addr) {
        let folder = self.folder_of(network);
        let Ok(Some(record)) = Record::read(&folder) else { return };
        let network = Network { networks: self.clone(), folder, record };
        let path = addresses::path(&network.folder, address);
        let Ok(mut file) = File::options().read(true).write(true).open(path) else { return };
        let mut text = Vec::new();
        if std::io::Read::read_to_end(&mut file, &mut text).is_ok()
            && let Ok(lease) = serde_json::from_slice(&text)
        {
            network.release(&lease, file);
        }
    }

    /// Writes both tables anew, from the records. The caller has the networks locked.
    pub(super) fn write_tables(&self) -> Result<()> {
        let all = self.wanted()?;
        let owner = std::path::absolute(&self.folder).unwrap_or_else(|_| self.folder.clone());
        let write = Filter::open().and_then(|mut socket| nft::write(&mut socket, self.table(), &owner, &all));
        write.map_err(|source| self.kernel("write the packet filter", source))
    }

    /// What the tables have to hold, by the records.
    pub(super) fn wanted(&self) -> Result<Vec<nft::Element>> {
        let mut all = Vec::new();
        for network in self.networks()? {
            all.extend(elements::of_network(&network.record));
            let members = network.members()?;
            let known = members.iter().filter(|lease| !lease.link.is_empty());
            all.extend(known.flat_map(|lease| network.of_member(lease)));
        }
        Ok(all)
    }
}

/// The name of the host's link of an endpoint.
fn outer_name(address: Ipv4Addr, attempt: u32) -> String {
    match attempt {
        0 => format!("kv{:08x}", u32::from(address)),
        _ => format!("kv{:08x}-{attempt}", u32::from(address)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outer_names_fit_into_a_link_name() {
        assert!(outer_name(Ipv4Addr::BROADCAST, NAME_ATTEMPTS).len() <= 15);
    }
}
