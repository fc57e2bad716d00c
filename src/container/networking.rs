//! Connecting containers to their networks.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use super::ahead::Ahead;
use super::error::{At, Error, Result};
use super::life::KILL_WAIT;
use super::record::{Config, DEFAULT_NETWORK, Endpoint, Record};
use super::sharing::shares_network;
use super::wire::Packet;
use super::{Containers, names};
use crate::api::{NetworkCreateRequest, NetworkMode, NetworkWish};
use crate::network::{self, Joined, Member, NameSockets, Namespace, Network, Networks, Reserved, Wanted};
use crate::runtime::{Target, sysctl_path};

/// For who wants something that the default network doesn't give.
const MAKE_ONE: &str = "make one with `kiln network create`";
/// What containers call having no network.
const NONE: &str = "none";

/// What a starting container has of networks.
#[derive(Debug, Default)]
pub(super) struct Connection {
    /// Its places in networks; the first one is the way out, where one is.
    pub(super) endpoints: Vec<Endpoint>,
    /// The namespace that its program is started in; none makes one with the first process, or shares the host's.
    pub(super) namespace: Option<OwnedFd>,
    /// A socket in that namespace, when it is the container's own.
    pub(super) inside: Option<OwnedFd>,
    /// What holds the addresses as long as somebody has it open, in the order of the endpoints.
    pub(super) leases: Vec<OwnedFd>,
    /// Where it asks for names, in a network that has some.
    pub(super) names: Option<NameSockets>,
    /// A process of the container whose network it shares.
    pub(super) donor: Option<Target>,
    /// The links that are still to be made.
    pub(super) pending: Option<Pending>,
}

/// Places in networks whose addresses are taken: their links are made while a monitor gets the program ready.
#[derive(Debug)]
pub(super) struct Pending {
    namespace: Namespace,
    places: Vec<Place>,
}

impl Pending {
    /// Leaves the addresses to the monitor.
    pub(super) fn give_over(&mut self) {
        self.places.iter_mut().for_each(|place| place.reserved.give_over());
    }
}

/// One of them.
#[derive(Debug)]
struct Place {
    network: Network,
    wish: NetworkWish,
    interface: String,
    is_way_out: bool,
    reserved: Reserved,
}

impl Containers {
    /// Connects the container to its networks; in the namespace that was made ahead, if it is one of its own.
    pub(super) fn connect(&self, record: &Record, ahead: Option<&Ahead>) -> Result<Connection> {
        match record.config.network {
            NetworkMode::Bridge => {
                let networks = self.networks_of(&record.config)?;
                let mut namespace = match ahead.and_then(Ahead::network) {
                    Some(namespace) => namespace,
                    None => Namespace::make().at("make", "a network namespace")?,
                };
                let way_out = way_out(&networks);
                let mut places = Vec::new();
                for (number, (network, wish)) in networks.into_iter().enumerate() {
                    let (interface, is_way_out) = (format!("eth{number}"), Some(number) == way_out);
                    let reserved = self.reserve(record, &network, &wish, &interface, is_way_out)?;
                    places.push(Place { network, wish, interface, is_way_out, reserved });
                }
                let endpoints: Vec<_> = places.iter().map(Place::endpoint).collect();
                let has_names = endpoints.iter().any(Endpoint::has_names);
                if has_names || places.is_empty() {
                    namespace.loopback_up().at("bring up the loopback of", "a network namespace")?;
                }
                let shared = places.iter().map(|place| place.reserved.share());
                let leases: Vec<_> = shared.collect::<network::Result<_>>()?;
                let [fd, inside] = namespace.fds().map(|fd| fd.try_clone_to_owned());
                let (fd, inside) = (fd.at("share", "its network")?, inside.at("share", "its network")?);
                let names = match has_names {
                    true => Some(NameSockets::make(fd.as_fd()).at("make", "the sockets for names")?),
                    false => None,
                };
                Ok(Connection {
                    endpoints,
                    namespace: Some(fd),
                    inside: Some(inside),
                    leases: leases.into_iter().flatten().collect(),
                    names,
                    donor: None,
                    pending: (!places.is_empty()).then_some(Pending { namespace, places }),
                })
            }
            NetworkMode::None | NetworkMode::Host => self.share(&record.config),
        }
    }

    fn share(&self, config: &Config) -> Result<Connection> {
        let (namespace, donor) = self.shared_network(config)?.unzip();
        Ok(Connection { namespace, donor, ..Connection::default() })
    }

    /// Makes the links of a start; gives the endpoints as they have become.
    pub(super) fn plug(&self, record: &Record, pending: Pending) -> Result<Vec<Endpoint>> {
        let Pending { mut namespace, places } = pending;
        let plug = |place: Place| {
            let Place { network, wish, interface, is_way_out, reserved } = place;
            let folder = self.folder(&record.id);
            let joined =
                reserved.plug(&mut namespace, &wanted(record, &folder, &wish, &interface, is_way_out))?;
            announce(record, &network, &wish, &joined)?;
            Ok((endpoint(&network, &interface, &wish, &joined), joined))
        };
        let plugged: Vec<_> = places.into_iter().map(plug).collect::<Result<_>>()?;
        let keep = |(endpoint, joined): (Endpoint, Joined)| {
            // The lease that was shared holds the address.
            drop(joined.hand_over());
            endpoint
        };
        Ok(plugged.into_iter().map(keep).collect())
    }

    /// Joins one network, and tells those in it.
    pub(super) fn join(
        &self,
        record: &Record,
        network: &Network,
        wish: &NetworkWish,
        namespace: &mut Namespace,
        number: usize,
    ) -> Result<(Endpoint, Joined)> {
        let interface = format!("eth{number}");
        let reserved = self.reserve(record, network, wish, &interface, false)?;
        let folder = self.folder(&record.id);
        let joined = reserved.plug(namespace, &wanted(record, &folder, wish, &interface, false))?;
        announce(record, network, wish, &joined)?;
        Ok((endpoint(network, &interface, wish, &joined), joined))
    }

    /// Takes addresses in a network.
    fn reserve(
        &self,
        record: &Record,
        network: &Network,
        wish: &NetworkWish,
        interface: &str,
        is_way_out: bool,
    ) -> Result<Reserved> {
        let folder = self.folder(&record.id);
        let reserved = network.reserve_again(&wanted(record, &folder, wish, interface, is_way_out));
        Ok(reserved.map_err(|error| self.name_owner(error))?)
    }

    /// Names the container that has an address, which networks know by its id.
    fn name_owner(&self, error: network::Error) -> network::Error {
        match error {
            network::Error::AddressTaken { address, network, owner } => {
                let owner = self.find(&owner).map_or(owner, |record| record.name);
                network::Error::AddressTaken { address, network, owner }
            }
            error => error,
        }
    }

    /// The networks that a container is to be connected to, each with what is wanted of it.
    pub(super) fn networks_of(&self, config: &Config) -> Result<Vec<(Network, NetworkWish)>> {
        if config.network != NetworkMode::Bridge {
            return Ok(Vec::new());
        }
        if config.networks.is_empty() && !config.unconnected {
            return Ok(vec![(self.networks.default_network()?, NetworkWish::default())]);
        }
        let find = |wish: &NetworkWish| Ok((find(&self.networks, wish)?, wish.clone()));
        config.networks.iter().map(find).collect()
    }

    /// Checks the networks of a request, and puts their ids beside the names.
    pub(super) fn resolve_networks(&self, config: &mut Config) -> Result<()> {
        for index in 0..config.networks.len() {
            let network = self.networks.find(&config.networks[index].network)?;
            check(&network, &mut config.networks[index])?;
            let id = &config.networks[index].network;
            if config.networks[..index].iter().any(|other| other.network == *id) {
                let name = &network.record.name;
                return advised(
                    format!("network {name} is named twice"),
                    "name it once, with all that is wanted of it",
                );
            }
        }
        // Without a wish it is the same, and costs nothing to find.
        if let [only] = config.networks.as_slice()
            && *only
                == (NetworkWish {
                    network: only.network.clone(),
                    name: "bridge".into(),
                    ..Default::default()
                })
        {
            config.networks.clear();
        }
        Ok(())
    }

    /// Makes a network.
    pub fn create_network(&self, request: &NetworkCreateRequest) -> Result<Network> {
        let id = names::random_id().at("read", "/dev/urandom")?;
        Ok(self.networks.create(&id, request)?)
    }

    /// Connects a container to one more network, at once when it runs.
    pub fn connect_network(&self, record: &Record, wish: &NetworkWish) -> Result<network::Record> {
        let network = self.networks.find(&wish.network)?;
        let mut wish = wish.clone();
        check(&network, &mut wish)?;
        self.change_networks(record, "connect", |container, config| {
            if config.network == NetworkMode::None {
                return Err(Error::Advised {
                    message: format!(
                        "container {container} has the network `none`, which goes with no other"
                    ),
                    hint: format!("take it out of that first: `kiln network disconnect none {container}`"),
                });
            }
            if config.networks.iter().any(|known| known.network == wish.network || known.name == wish.name) {
                let (name, network) = (container.to_owned(), network.record.name.clone());
                return Err(Error::Connected { name, network });
            }
            config.networks.push(wish.clone());
            Ok(())
        })?;
        Ok(network.record)
    }

    /// Takes a container out of a network, at once when it runs.
    ///
    /// The network may be gone, or have been made again: of one that doesn't run only the name counts. Gives the
    /// network's id and name.
    pub fn disconnect_network(&self, record: &Record, network: &str) -> Result<(String, String)> {
        let (id, name) = match self.networks.find(network) {
            Ok(found) => (found.record.id, found.record.name),
            Err(error) => {
                let known = record.config.networks.iter().find(|known| known.name == network);
                known.map(|known| (known.network.clone(), known.name.clone())).ok_or(error)?
            }
        };
        self.change_networks(record, "disconnect", |container, config| {
            let before = config.networks.len();
            config.networks.retain(|known| known.network != id && known.name != name);
            match config.networks.len() < before {
                true => Ok(()),
                false => Err(Error::NotConnected { name: container.to_owned(), network: name.clone() }),
            }
        })?;
        Ok((id, name))
    }

    /// Gives a container that is in no network the network `none`, which keeps others away.
    pub fn connect_none(&self, record: &Record) -> Result<()> {
        self.change_networks(record, "connect", |container, config| {
            if config.network == NetworkMode::None {
                return Err(Error::Connected { name: container.to_owned(), network: NONE.to_owned() });
            }
            if let Some(wish) = config.networks.first() {
                return Err(Error::Advised {
                    message: format!(
                        "container {container} is connected to network {}: `none` goes with no other",
                        wish.name
                    ),
                    hint: format!("take it out first: `kiln network disconnect {} {container}`", wish.name),
                });
            }
            config.network = NetworkMode::None;
            Ok(())
        })
    }

    /// Takes it out of that: it can be connected to others.
    pub fn disconnect_none(&self, record: &Record) -> Result<()> {
        self.change_networks(record, "disconnect", |container, config| {
            if config.network != NetworkMode::None {
                return Err(Error::NotConnected { name: container.to_owned(), network: NONE.to_owned() });
            }
            config.network = NetworkMode::Bridge;
            Ok(())
        })
    }

    fn change_networks(
        &self,
        record: &Record,
        verb: &'static str,
        change: impl FnOnce(&str, &mut Config) -> Result<()>,
    ) -> Result<()> {
        let folder = self.folder(&record.id);
        let (before, after) = {
            let _names = self.lock_names()?;
            let before = Record::read(&folder).map_err(|error| match error.is_absence() {
                true => Error::NotFound { text: record.name.clone() },
                false => error,
            })?;
            let mut after = before.clone();
            let config = &mut after.config;
            if shares_network(config) {
                let mode = config.isolation.network.as_deref().unwrap_or("host");
                let donor = mode.strip_prefix("container:").and_then(|id| self.find(id).ok());
                let mode = donor.map_or(mode.to_owned(), |donor| format!("container:{}", donor.name));
                let name = &before.name;
                return Err(Error::Advised {
                    message: format!(
                        "container {name} has the network `{mode}`: it can't be connected to others"
                    ),
                    hint: "a container with a network of its own can: `kiln run --network NETWORK`"
                        .to_owned(),
                });
            }
            if config.network == NetworkMode::Bridge && config.networks.is_empty() && !config.unconnected {
                let default = self.networks.default_network()?.record;
                config.networks =
                    vec![NetworkWish { network: default.id, name: default.name, ..Default::default() }];
            }
            change(&before.name, config)?;
            config.unconnected = config.network == NetworkMode::Bridge && config.networks.is_empty();
            after.write_config(&folder)?;
            (before, after)
        };
        let told = match self.ask(&after, verb, &Packet::Networks, Some(KILL_WAIT)) {
            Ok(_) | Err(Error::NotRunning { .. }) => Ok(()),
            Err(Error::Start { name, source }) => Err(Error::Networking { verb, name, source }),
            Err(error) => Err(error),
        };
        if told.is_err() {
            let _names = self.lock_names()?;
            // Others may have changed it since.
            let mut now = Record::read(&folder)?;
            undo(&mut now.config.networks, &before.config.networks, &after.config.networks);
            now.config.network = before.config.network;
            now.config.unconnected =
                now.config.network == NetworkMode::Bridge && now.config.networks.is_empty();
            now.write_config(&folder)?;
        }
        told
    }

    /// Has a running container connected as its record wants: whoever changed that was killed.
    pub fn place(&self, record: &Record) -> Result<()> {
        self.ask(record, "connect", &Packet::Networks, Some(KILL_WAIT)).map(drop)
    }
}

impl Record {
    /// Tells whether a running container is connected to other networks than it is to be.
    pub fn is_misplaced(&self) -> bool {
        let config = &self.config;
        if !self.state.status.is_alive() || config.network != NetworkMode::Bridge {
            return false;
        }
        let is_default = config.networks.is_empty() && !config.unconnected;
        let default = is_default.then_some(DEFAULT_NETWORK);
        let wanted: BTreeSet<_> =
            config.networks.iter().map(|wish| wish.name.as_str()).chain(default).collect();
        wanted != self.state.endpoints.iter().map(|endpoint| endpoint.network_name.as_str()).collect()
    }
}

/// Takes back what made `after` of `before`.
fn undo(now: &mut Vec<NetworkWish>, before: &[NetworkWish], after: &[NetworkWish]) {
    let has =
        |wishes: &[NetworkWish], wish: &NetworkWish| wishes.iter().any(|other| other.network == wish.network);
    now.retain(|wish| has(before, wish) || !has(after, wish));
    let lost: Vec<_> = before.iter().filter(|wish| !has(after, wish) && !has(now, wish)).cloned().collect();
    now.extend(lost);
}

/// Finds the network of a wish by its id; one that was made again has another, and the same name.
fn find(networks: &Networks, wish: &NetworkWish) -> Result<Network> {
    let by_id = networks.find(&wish.network);
    let found = by_id.or_else(|_| networks.find(&wish.name));
    found.map_err(|error| match error {
        network::Error::NotFound { .. } => Error::Advised {
            message: format!("network {} is gone", wish.name),
            hint: format!(
                "make it again with `kiln network create {name}`, or take the container out of it with \
                 `kiln network disconnect {name} CONTAINER`",
                name = wish.name
            ),
        },
        error => error.into(),
    })
}

/// Checks what is wanted of a network, and notes which one it is.
fn check(network: &Network, wish: &mut NetworkWish) -> Result<()> {
    if network.record.is_default() {
        if wish.ip.is_some() || wish.ip6.is_some() {
            return advised("an address can be chosen in networks of your own only", MAKE_ONE);
        }
        if !wish.aliases.is_empty() {
            return advised("an alias can be given in networks of your own only", MAKE_ONE);
        }
    }
    if let Some(alias) = wish.aliases.iter().find(|alias| !is_alias(alias)) {
        return advised(
            format!("invalid alias `{alias}`"),
            "it is a name as DNS has them: `db` or `db.example.org`",
        );
    }
    if let Some(ip) = wish.ip {
        network.check_fixed(ip)?;
    }
    if let (Some(ip6), None) = (wish.ip6, &network.record.subnet6) {
        let name = &network.record.name;
        return advised(format!("network {name} has no IPv6 subnet for the address {ip6}"), network::NO_IPV6);
    }
    if let Some(mac) = wish.mac.as_deref().filter(|mac| parse_mac(mac).is_none()) {
        return advised(format!("invalid MAC address `{mac}`"), "write it as `02:42:ac:26:00:0b`");
    }
    wish.network.clone_from(&network.record.id);
    wish.name.clone_from(&network.record.name);
    Ok(())
}

/// Which of the networks has the default routes: of those with a way out the one with the highest priority, the first of
/// equals.
pub(super) fn way_out(networks: &[(Network, NetworkWish)]) -> Option<usize> {
    let open = networks.iter().enumerate().filter(|(_, (network, _))| !network.record.internal);
    open.min_by_key(|(number, (_, wish))| (-i64::from(wish.priority), *number)).map(|(number, _)| number)
}

/// The names that a container has in a network besides its own.
fn aliases(config: &Config, wish: &NetworkWish) -> Vec<String> {
    let mut aliases = wish.aliases.clone();
    if !config.hostname.is_empty() && !aliases.contains(&config.hostname) {
        aliases.push(config.hostname.clone());
    }
    aliases
}

impl Place {
    fn endpoint(&self) -> Endpoint {
        endpoint(&self.network, &self.interface, &self.wish, self.reserved.joined())
    }
}

fn wanted<'a>(
    record: &'a Record,
    folder: &'a Path,
    wish: &'a NetworkWish,
    interface: &'a str,
    is_way_out: bool,
) -> Wanted<'a> {
    Wanted {
        owner: &record.id,
        home: Some(folder),
        interface,
        ip: wish.ip,
        ip6: wish.ip6,
        mac: wish.mac.as_deref().and_then(parse_mac),
        is_way_out,
        is_paced: has_congestion_control(&record.config),
    }
}

/// Tells those in a network of a container.
fn announce(record: &Record, network: &Network, wish: &NetworkWish, joined: &Joined) -> Result<()> {
    if !network.record.is_default() {
        let aliases = aliases(&record.config, wish);
        network.announce(&Member::new(&record.id, &record.name, aliases, &joined.lease))?;
    }
    Ok(())
}

fn endpoint(network: &Network, interface: &str, wish: &NetworkWish, joined: &Joined) -> Endpoint {
    let mac: Vec<_> = joined.lease.mac.iter().map(|byte| format!("{byte:02x}")).collect();
    Endpoint {
        network: network.record.id.clone(),
        network_name: network.record.name.clone(),
        bridge: network.record.bridge.clone(),
        interface: interface.to_owned(),
        link: joined.lease.link.clone(),
        mac: mac.join(":"),
        address: Some(joined.address),
        gateway: Some(joined.gateway),
        address6: joined.address6,
        gateway6: joined.gateway6,
        aliases: wish.aliases.clone(),
        internal: network.record.internal,
    }
}

/// Tells whether its user chose one, which is then meant for its neighbours too.
fn has_congestion_control(config: &Config) -> bool {
    config.isolation.sysctls.iter().any(|(name, _)| sysctl_path(name) == "net/ipv4/tcp_congestion_control")
}

/// Reads `02:42:ac:26:00:0b`.
fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut parts = text.split([':', '-']);
    let mut mac = [0; 6];
    for byte in &mut mac {
        let part = parts.next().filter(|part| part.len() == 2)?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    // A group's address is nobody's.
    (parts.next().is_none() && mac[0] & 1 == 0).then_some(mac)
}

/// Tells whether others can ask for it.
fn is_alias(text: &str) -> bool {
    let is_part = |part: &str| {
        (1..=63).contains(&part.len()) && part.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'))
    };
    text.len() <= 253 && text.trim_end_matches('.').split('.').all(is_part)
}

fn advised<T>(message: impl Into<String>, hint: impl Into<String>) -> Result<T> {
    Err(Error::Advised { message: message.into(), hint: hint.into() })
}

#[cfg(test)]
mod tests {
    use super::{NetworkWish, parse_mac, undo};

    #[test]
    fn a_refused_change_is_taken_back_and_those_of_others_stay() {
        let wishes = |names: &str| -> Vec<NetworkWish> {
            let wish = |name: &str| NetworkWish { network: name.to_owned(), ..NetworkWish::default() };
            names.split_whitespace().map(wish).collect()
        };
        for (now, before, after, left) in [
            ("a b", "a", "a b", "a"),
            ("a b c", "a", "a b", "a c"),
            ("b c", "a", "a b", "c"),
            ("b", "a b", "b", "b a"),
            ("", "a b", "b", "a"),
        ] {
            let mut wishes_now = wishes(now);
            undo(&mut wishes_now, &wishes(before), &wishes(after));
            assert_eq!(wishes_now, wishes(left), "{now}: {before} -> {after}");
        }
    }

    #[test]
    fn macs_are_those_of_one_link() {
        assert_eq!(parse_mac("02:42:ac:26:00:0b"), Some([2, 0x42, 0xac, 0x26, 0, 11]));
        assert_eq!(parse_mac("02-42-AC-26-00-0b"), Some([2, 0x42, 0xac, 0x26, 0, 11]));
        for bad in [
            "",
            "02:42:ac:26:00",
            "02:42:ac:26:00:0b:1",
            "01:42:ac:26:00:0b",
            "x2:42:ac:26:00:0b",
            "2:42:ac:26:0:b",
        ] {
            assert_eq!(parse_mac(bad), None, "{bad}");
        }
    }
}
