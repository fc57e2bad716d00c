//! Making networks from what is asked for, and removing them.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use sha2::{Digest, Sha256};

use super::bridge::{first_of, overlap};
use super::error::{Error, Result, file, invalid};
use super::netlink::Socket;
use super::record::{BRIDGE, ICC, MASQUERADE, MTU, Record, Subnet};
use super::{DEFAULT, Network, Networks, addresses, forwarding, link, now};
use crate::api::NetworkCreateRequest;

/// Names that mean something else.
const RESERVED: [&str; 4] = [DEFAULT, "host", "none", "default"];
/// The subnet with the fewest addresses: a network's, a gateway's, a container's and the broadcast one.
const LONGEST_PREFIX: u8 = 30;
const LONGEST_PREFIX6: u8 = 126;
/// What a link's name may have (`IFNAMSIZ`, less the closing zero).
const LINK_NAME_BYTES: usize = 15;
/// How long those are waited for whose containers have ended: their monitors clean up behind them.
const LEAVING_ATTEMPTS: u32 = 1000;
const LEAVING_PAUSE: Duration = Duration::from_millis(5);
/// How often a folder is emptied into which others still put something.
const REMOVE_ATTEMPTS: usize = 10;
const LEAVE_DRIVER: &str = "leave `--driver` out";
const ADD_SUBNET: &str = "add the subnet that it is in: `--subnet 172.38.0.0/16`";
const ONE_NETWORK_EACH: &str = "leave it out, or make a network for each";
const OTHER_AUX: &str = "give each host an address of its own";
/// The kernel's bounds for a link that carries IPv4.
const MTUS: std::ops::RangeInclusive<u32> = 68..=65535;

impl Networks {
    /// Makes a network with its bridge.
    pub fn create(&self, id: &str, request: &NetworkCreateRequest) -> Result<Network> {
        check_driver(&request.driver)?;
        check_name(&request.name)?;
        let _lock = self.lock()?;
        if self.records()?.iter().any(|record| record.name == request.name) {
            return Err(Error::NameTaken { name: request.name.clone() });
        }
        let mut host = Socket::route().map_err(|source| self.kernel("open a netlink socket", source))?;
        // Until its bridge has the subnet another store's kiln would choose the same.
        let _host_lock = forwarding::host_lock();
        let record = self.plan(id, request, &mut host)?;
        let folder = self.folder_of(id);
        let mut network = Network { networks: self.clone(), folder, record };
        network.add(&mut host).inspect_err(|_| {
            let _ = network.remove_bridge();
            let _ = std::fs::remove_dir_all(&network.folder);
        })?;
        Ok(network)
    }

    /// Removes a network that no container is connected to. `user` gives the name of an owner that lives, and nothing
    /// for one that is just leaving.
    pub fn remove_network(&self, network: &Network, user: &dyn Fn(&str) -> Option<String>) -> Result<()> {
        let name = &network.record.name;
        for _ in 0..LEAVING_ATTEMPTS {
            let members = network.members()?;
            if members.iter().all(|lease| user(&lease.owner).is_some()) {
                break;
            }
            std::thread::sleep(LEAVING_PAUSE);
        }
        let _lock = self.lock()?;
        network.tidy()?;
        let net_lock = addresses::lock(&network.folder);
        if Record::read(&network.folder)?.is_none() {
            return Err(Error::NotFound { text: name.clone() });
        }
        let mut users: Vec<_> = network
            .members()?
            .iter()
            .map(|lease| user(&lease.owner).unwrap_or_else(|| lease.owner.clone()))
            .collect();
        if !users.is_empty() {
            users.sort();
            users.dedup();
            return Err(Error::InUse { name: name.clone(), users });
        }
        // A killed kiln leaves the half of a network, which goes with the next tidying.
        Record::undo(&network.folder)?;
        network.remove_bridge().inspect_err(|_| drop(Record::complete(&network.folder)))?;
        drop(net_lock);
        remove_folder(&network.folder).map_err(file("remove", &network.folder))?;
        self.remove_lone_filter()
    }

    /// Removes what is left of networks that were being made or removed by a killed kiln.
    pub(super) fn remove_halves(&self) -> Result<()> {
        let Ok(entries) = std::fs::read_dir(&self.folder) else { return Ok(()) };
        let is_half = |folder: &std::path::PathBuf| {
            let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name != DEFAULT && super::is_folder_name(name) && !folder.join("network.json").exists()
        };
        let halves: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(is_half).collect();
        if halves.is_empty() {
            return Ok(());
        }
        let _lock = self.lock()?;
        for folder in halves.into_iter().filter(is_half) {
            if let Some(record) = Record::read_half(&folder) {
                let half = Network { networks: self.clone(), folder: folder.clone(), record };
                if half.has_own_bridge()? {
                    half.remove_bridge()?;
                }
            }
            remove_folder(&folder).map_err(file("remove", &folder))?;
        }
        self.remove_lone_filter()
    }

    fn plan(&self, id: &str, request: &NetworkCreateRequest, host: &mut Socket) -> Result<Record> {
        let mut record = Record::new(id.to_owned(), &request.name, format!("kn{}", &id[..12]), now());
        record.internal = request.internal;
        record.attachable = request.attachable;
        record.labels = request.labels.iter().cloned().collect();
        record.options = request.options.iter().cloned().collect();
        check_options(&record.options)?;
        if let Some(name) = record.option(&BRIDGE) {
            self.check_bridge(name, host)?;
            record.bridge = name.to_owned();
        }
        let wishes = Wishes::of(request)?;
        record.subnet = Some(match &wishes.subnet {
            Some(subnet) => {
                self.refuse_overlap(subnet.net.into(), host)?;
                subnet.clone()
            }
            None => {
                let net = self.free_subnet(host, &record.bridge)?;
                Subnet { net, gateway: first_of(net), range: None, aux: BTreeMap::new() }
            }
        });
        record.subnet6 = match wishes.subnet6 {
            Some(subnet) => {
                self.refuse_overlap(subnet.net.into(), host)?;
                Some(subnet)
            }
            None if request.ipv6 => Some(self.local_subnet()?),
            None => None,
        };
        Ok(record)
    }

    /// Refuses a name that no new bridge can have.
    fn check_bridge(&self, name: &str, host: &mut Socket) -> Result<()> {
        // The kernel's folders of settings have two of the names, and `%d` asks it for a number.
        let is_good = (1..=LINK_NAME_BYTES).contains(&name.len())
            && !name.contains(|c: char| matches!(c, '/' | ':' | '%') || c.is_whitespace() || c.is_control())
            && !matches!(name, "." | ".." | "all" | "default");
        if !is_good {
            let hint =
                format!("a link's name has at most {LINK_NAME_BYTES} letters, digits and signs: `br-web`");
            return invalid(format!("`{name}` can't be the name of a bridge"), hint);
        }
        const OTHER: &str = "choose another name, or none: then one is made up";
        let found = link::find(host, name).map_err(|source| self.kernel("look", source))?;
        if found.is_some() {
            return invalid(format!("the host has a link `{name}` already"), OTHER);
        }
        if let Some(other) = self.records()?.iter().find(|other| other.bridge == name) {
            return invalid(format!("`{name}` is the bridge of network {}", other.name), OTHER);
        }
        // The default network may be still to be made.
        match name == self.bridge() {
            true => invalid(format!("`{name}` is the bridge of network {DEFAULT}"), OTHER),
            false => Ok(()),
        }
    }

    fn refuse_overlap(&self, subnet: IpNet, host: &mut Socket) -> Result<()> {
        for other in self.records()? {
            let theirs: [Option<IpNet>; 2] = [
                other.subnet.as_ref().map(|theirs| theirs.net.into()),
                other.subnet6.as_ref().map(|theirs| theirs.net.into()),
            ];
            if let Some(theirs) = theirs.into_iter().flatten().find(|theirs| overlap(*theirs, subnet)) {
                return Err(Error::Overlaps { subnet, other: other.name, theirs });
            }
        }
        let routes = link::destinations(host).map_err(|source| self.kernel("list routes", source))?;
        match routes.into_iter().find(|(route, _)| overlap(*route, subnet)) {
            Some((route, index)) => {
                let link = link::name(host, index).unwrap_or_default();
                Err(Error::Route { subnet, route, link })
            }
            None => Ok(()),
        }
    }

    /// A subnet of the local range (RFC 4193) that is this store's, and that no other network of it has.
    fn local_subnet(&self) -> Result<Subnet<Ipv6Net, Ipv6Addr>> {
        let path = std::path::absolute(&self.folder).unwrap_or_else(|_| self.folder.clone());
        let digest = Sha256::digest(path.as_os_str().as_encoded_bytes());
        let mut octets = [0; 16];
        octets[0] = 0xfd;
        octets[1..6].copy_from_slice(&digest[..5]);
        let used: Vec<_> =
            self.records()?.into_iter().filter_map(|record| Some(record.subnet6?.net)).collect();
        let nets = (0..=u16::MAX).filter_map(|number| {
            octets[6..8].copy_from_slice(&number.to_be_bytes());
            Ipv6Net::new(octets.into(), 64).ok()
        });
        let mut nets = nets.filter(|net| !used.iter().any(|other| overlap((*other).into(), (*net).into())));
        let net = nets.next().ok_or_else(|| Error::NoSubnet { bridge: self.bridge().to_owned() })?;
        Ok(Subnet { net, gateway: first_of6(net), range: None, aux: BTreeMap::new() })
    }
}

/// What `network.json` of version 1 keeps, which lies in the networks' folder itself.
#[derive(serde::Deserialize)]
struct FirstRecord {
    subnet: Ipv4Net,
}

impl Network {
    /// Takes over what a kiln with one network only has left: containers may be running in it.
    pub(super) fn adopt(&mut self) -> Result<()> {
        let old = &self.networks.folder;
        let path = old.join("network.json");
        let Ok(bytes) = std::fs::read(&path) else { return Ok(()) };
        if let Ok(FirstRecord { subnet: net }) = serde_json::from_slice(&bytes) {
            self.record.subnet =
                Some(Subnet { net, gateway: first_of(net), range: None, aux: BTreeMap::new() });
            // Their locks go with the files. Without a file there is nothing to take over.
            for entry in std::fs::read_dir(old.join("addresses")).into_iter().flatten().flatten() {
                let place = self.folder.join("addresses").join(entry.file_name());
                std::fs::rename(entry.path(), &place).map_err(file("move", &place))?;
            }
            let _ = std::fs::remove_dir(old.join("addresses"));
            self.record.write(&self.folder)?;
        }
        std::fs::remove_file(&path).map_err(file("remove", &path))
    }

    /// Tells whether no other link has the name of the bridge. Only what is complete is up and says whose it is.
    fn has_own_bridge(&self) -> Result<bool> {
        let look = || {
            let mut host = Socket::route()?;
            let is_other = link::find(&mut host, &self.record.bridge)?.is_some_and(|link| link.up);
            let mut owned = link::owned(&mut host)?.into_iter();
            Ok(!is_other || owned.any(|(_, name, owner)| name == self.record.bridge && owner == self.owner()))
        };
        look().map_err(|source| self.kernel("look", source))
    }

    fn add(&mut self, host: &mut Socket) -> Result<()> {
        std::fs::create_dir_all(self.folder.join("addresses")).map_err(file("create", &self.folder))?;
        self.record.begin(&self.folder)?;
        self.make(host)?;
        Record::complete(&self.folder)
    }
}

/// Removes the folder of a network without a record. Those who haven't heard of that yet may still make its lock.
fn remove_folder(folder: &Path) -> std::io::Result<()> {
    let mut removed = std::fs::remove_dir_all(folder);
    for _ in 0..REMOVE_ATTEMPTS {
        match &removed {
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            _ => break,
        }
        removed = std::fs::remove_dir_all(folder);
    }
    removed
}

fn check_driver(driver: &str) -> Result<()> {
    match driver {
        "" | "bridge" => Ok(()),
        "host" | "null" | "none" => {
            let hint = format!(
                "containers have it by `--network {}`",
                if driver == "host" { "host" } else { "none" }
            );
            invalid(format!("there is one network of the driver `{driver}`, and it is there already"), hint)
        }
        "macvlan" | "ipvlan" | "overlay" => {
            invalid(format!("kiln has no networks of the driver `{driver}`: it may be bridge"), LEAVE_DRIVER)
        }
        other => invalid(format!("unknown network driver `{other}`: it may be bridge"), LEAVE_DRIVER),
    }
}

fn check_name(name: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if !name.starts_with(|c: char| c.is_ascii_alphanumeric())
        || !name.chars().all(allowed)
        || name.len() > 255
    {
        let hint = "it begins with a letter or a digit, and has at most 255 characters";
        return invalid(
            format!("invalid network name `{name}`: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"),
            hint,
        );
    }
    match RESERVED.contains(&name) {
        true => Err(Error::NameTaken { name: name.to_owned() }),
        false => Ok(()),
    }
}

fn check_options(options: &BTreeMap<String, String>) -> Result<()> {
    for (name, value) in options {
        let is = |names: &[&str]| names.contains(&name.as_str());
        let (is_good, words, example) = if is(&ICC) || is(&MASQUERADE) {
            (matches!(value.as_str(), "true" | "false"), "true or false".to_owned(), "false")
        } else if is(&MTU) {
            let is_good = value.parse().is_ok_and(|mtu: u32| MTUS.contains(&mtu));
            (is_good, format!("a number from {} to {}", MTUS.start(), MTUS.end()), "1400")
        } else if is(&BRIDGE) {
            continue;
        } else {
            let known = [MTU, BRIDGE, ICC, MASQUERADE].concat().join(", ");
            return invalid(format!("unknown network option `{name}`"), format!("it may be one of {known}"));
        };
        if !is_good {
            return invalid(
                format!("invalid value `{value}` for the network option `{name}`: it must be {words}"),
                format!("write it as `--opt {name}={example}`"),
            );
        }
    }
    Ok(())
}

/// The addresses that a request asks for.
struct Wishes {
    subnet: Option<Subnet<Ipv4Net, Ipv4Addr>>,
    subnet6: Option<Subnet<Ipv6Net, Ipv6Addr>>,
}

impl Wishes {
    fn of(request: &NetworkCreateRequest) -> Result<Self> {
        let twice = |(index, (name, _)): &(usize, &(String, IpAddr))| {
            request.aux[..*index].iter().any(|(other, _)| other == name)
        };
        if let Some((_, (name, _))) = request.aux.iter().enumerate().find(twice) {
            return invalid(
                format!("the aux address {name} is given twice"),
                "give each host a name of its own",
            );
        }
        for subnet in &request.subnets {
            if subnet.trunc() != *subnet {
                let hint = format!("write it as `--subnet {}`", subnet.trunc());
                return invalid(format!("invalid subnet {subnet}: it should be {}", subnet.trunc()), hint);
            }
            let longest = if matches!(subnet, IpNet::V4(_)) { LONGEST_PREFIX } else { LONGEST_PREFIX6 };
            if subnet.prefix_len() > longest {
                return invalid(
                    format!("the subnet {subnet} has no room: its prefix may be {longest} long at the most"),
                    "choose a shorter prefix",
                );
            }
            if let Some(why) = reserved(*subnet) {
                return invalid(
                    format!("no container can have an address of the subnet {subnet}: {why}"),
                    "choose a private one, as 172.38.0.0/16 or fd00:38::/64",
                );
            }
        }
        let v4 = |net: &IpNet| if let IpNet::V4(net) = net { Some(*net) } else { None };
        let v6 = |net: &IpNet| if let IpNet::V6(net) = net { Some(*net) } else { None };
        let a4 = |address: IpAddr| if let IpAddr::V4(address) = address { Some(address) } else { None };
        let a6 = |address: IpAddr| if let IpAddr::V6(address) = address { Some(address) } else { None };
        let wishes =
            Self { subnet: family(request, v4, a4, first_of)?, subnet6: family(request, v6, a6, first_of6)? };
        if let Some(subnet) = &wishes.subnet {
            let (net, gateway) = (subnet.net, subnet.gateway);
            if gateway == net.network() || gateway == net.broadcast() {
                return invalid(
                    format!("the gateway {gateway} can't be the first or last address of {net}"),
                    format!("choose another one, as {}", first_of(net)),
                );
            }
        }
        if let Some(Subnet { net, gateway, .. }) =
            wishes.subnet6.as_ref().filter(|it| it.gateway == it.net.network())
        {
            return invalid(
                format!("the gateway {gateway} can't be the first address of {net}"),
                format!("choose another one, as {}", first_of6(*net)),
            );
        }
        Ok(wishes)
    }
}

/// Why no link can have addresses of a subnet.
fn reserved(subnet: IpNet) -> Option<&'static str> {
    let (first, last) = (subnet.network(), subnet.broadcast());
    match (first, last) {
        (first, last) if first.is_multicast() || last.is_multicast() => Some("those are groups"),
        (first, _) if first.is_loopback() => Some("those are each machine's own"),
        (IpAddr::V4(first), IpAddr::V4(last)) if first.octets()[0] == 0 || last.is_broadcast() => {
            Some("it has addresses that mean no machine")
        }
        (IpAddr::V6(first), _) if first.is_unspecified() => Some("it has addresses that mean no machine"),
        (IpAddr::V6(first), _) if first.to_ipv4_mapped().is_some() => Some("those are IPv4 addresses"),
        (IpAddr::V6(first), _) if first.is_unicast_link_local() => Some("each link has those already"),
        _ => None,
    }
}

/// A subnet of some family.
trait Net: Copy + Display + Into<IpNet> {}
impl Net for Ipv4Net {}
impl Net for Ipv6Net {}

fn family<N: Net, A: Copy + Display + PartialEq + Into<IpAddr>>(
    request: &NetworkCreateRequest,
    net_of: impl Fn(&IpNet) -> Option<N>,
    address_of: impl Fn(IpAddr) -> Option<A>,
    first: impl Fn(N) -> A,
) -> Result<Option<Subnet<N, A>>> {
    let nets: Vec<N> = request.subnets.iter().filter_map(&net_of).collect();
    let gateways: Vec<A> = request.gateways.iter().copied().filter_map(&address_of).collect();
    let ranges: Vec<N> = request.ranges.iter().filter_map(&net_of).collect();
    let aux: BTreeMap<String, A> =
        request.aux.iter().filter_map(|(name, at)| Some((name.clone(), address_of(*at)?))).collect();
    let net = match (nets.as_slice(), gateways.as_slice(), ranges.as_slice()) {
        ([net], [] | [_], [] | [_]) => *net,
        ([], [], []) if aux.is_empty() => return Ok(None),
        ([], [gateway, ..], _) => {
            return invalid(format!("the gateway {gateway} needs a --subnet"), ADD_SUBNET);
        }
        ([], _, [range, ..]) => return invalid(format!("the range {range} needs a --subnet"), ADD_SUBNET),
        ([], _, _) => return invalid("an --aux-address needs a --subnet", ADD_SUBNET),
        ([_, other, ..], _, _) => {
            return invalid(
                format!("a network has one subnet of a family: {other} is one too many"),
                ONE_NETWORK_EACH,
            );
        }
        (_, [_, other, ..], _) => {
            return invalid(
                format!("a network has one gateway of a family: {other} is one too many"),
                ONE_NETWORK_EACH,
            );
        }
        (_, _, [_, other, ..]) => {
            return invalid(
                format!("a network has one range of a family: {other} is one too many"),
                ONE_NETWORK_EACH,
            );
        }
    };
    let all: IpNet = net.into();
    let outside = |what| Err(Error::Outside { what, subnet: all, network: String::new() });
    let gateway = gateways.first().copied().unwrap_or_else(|| first(net));
    if !all.contains(&gateway.into()) {
        return outside(format!("the gateway {gateway}"));
    }
    if let Some(range) = ranges.first().filter(|range| !all.contains(&(**range).into())) {
        return outside(format!("the range {range}"));
    }
    if let Some((name, at)) = aux.iter().find(|(_, at)| !all.contains(&(**at).into())) {
        return outside(format!("the address {at} of {name}"));
    }
    if let Some((name, at)) = aux.iter().find(|(_, at)| **at == gateway) {
        return invalid(format!("the address {at} of {name} is the gateway's"), OTHER_AUX);
    }
    let same = |(name, at): &(&String, &A)| aux.iter().any(|(other, theirs)| other < *name && theirs == *at);
    if let Some((name, at)) = aux.iter().find(same) {
        return invalid(format!("the address {at} of {name} is another one's too"), OTHER_AUX);
    }
    Ok(Some(Subnet { net, gateway, range: ranges.first().copied(), aux }))
}

fn first_of6(subnet: Ipv6Net) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(subnet.network()) + 1)
}
