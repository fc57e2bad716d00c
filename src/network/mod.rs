//! Connects network namespaces to the world: bridges, a veth pair each, addresses, and a packet filter.
//!
//! 1. The first connection of a network makes its bridge (`kiln0` for the default one of the default store), with a
//!    subnet that no route of the host uses, switches forwarding on and writes the tables. Later ones only look that
//!    all of it is still there: three requests and one small read.
//! 2. A namespace is made by a thread that ends afterwards, and is held by descriptors only: nothing is mounted
//!    under `/run`, so a killed kiln leaves no namespace behind.
//! 3. An address is taken, and the tables learn for what its link may speak. Then a veth pair is made by one request,
//!    its inner end born as `eth0` in the namespace; the inside gets its address and routes in one more.
//! 4. The pair goes with its namespace, the address with the flock of its holder. What a dead holder left in the
//!    tables goes when its address is taken again, and with [`Networks::reap`].
//!
//! ```text
//! <store>/networks/
//!     lock                      flock while a network is made or removed, and while the tables are written
//!     bridge/  or <64 hex>/     the default network, or another one
//!         network.json          its record; without one it is no network any more
//!         lock                  flock for changes here; its content is the address given out last
//!         addresses/<address>   a lease; taken while somebody holds its flock
//!         endpoints/<id>.json   by which names a container is known here
//!         ports/<address>       the host's ports that lead to it
//! ```
//!
//! Two stores on one host have bridges, tables and subnets of their own. While a subnet is being chosen, a
//! host-wide lock keeps other kilns from choosing the same one.
//!
//! Forwarding is switched on for the whole host, as every engine with bridges does; kiln drops nothing that
//! doesn't concern its own bridges, because such a drop would cut off engines that are started later.
//!
//! Not known here: containers, images, name resolution.

mod addresses;
mod announced;
mod bridge;
mod conntrack;
mod dns;
mod elements;
mod endpoint;
mod error;
mod files;
mod filter;
mod forwarding;
mod late;
mod leftovers;
mod link;
mod namespace;
mod netlink;
mod nft;
mod plan;
mod pool;
mod published;
mod record;
mod survey;

pub use addresses::Lease;
pub use announced::Member;
pub use dns::NameSockets;
pub use elements::PortElement;
pub use endpoint::{Joined, NO_IPV6, Reserved, Wanted};
pub use error::{Error, Result};
pub use files::{RESOLVER, host_resolv_conf, hosts_file, own_resolv_conf, resolv_conf};
pub use filter::{keep_filter, lend_filter, share_filter};
pub use late::close_late;
pub use namespace::Namespace;
pub use pool::Pool;
pub use record::{Record, Subnet, endpoint_id};
pub use survey::Difference;

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ipnet::Ipv4Net;
use sha2::{Digest, Sha256};

use self::error::file;
use self::filter::Filter;
use self::netlink::Socket;

/// The store whose bridge has the short name.
const DEFAULT_FOLDER: &str = "/var/lib/kiln/networks";
/// How the default bridges of other stores begin.
const OTHER_BRIDGE: &str = "kiln-";
/// The network that containers have without a wish, and its folder.
const DEFAULT: &str = "bridge";
/// Of a link without another wish.
const ETHERNET_MTU: u32 = 1500;
/// A veth of a dying namespace can hold its name for some milliseconds.
const NAME_ATTEMPTS: u32 = 100;

/// A namespace that is connected to one network; its address is given back when it is dropped.
#[derive(Debug)]
pub struct Endpoint {
    /// The namespace. It lives as long as this, or a process in it.
    pub namespace: OwnedFd,
    /// The address of `eth0` and its subnet.
    pub address: Ipv4Net,
    /// The bridge's address, where the default route leads.
    pub gateway: Ipv4Addr,
    /// The MAC of `eth0`.
    pub mac: [u8; 6],
    joined: Joined,
    inside: Socket,
}

impl Endpoint {
    /// Tells whether the namespace is as it was made. Ask when all its processes are dead.
    ///
    /// Without `CAP_NET_ADMIN` a process leaves behind what its packets left: connections in TIME_WAIT, neighbours,
    /// routes learned. So a namespace that sent none has nothing of it.
    fn is_untouched(&mut self) -> bool {
        link::has_sent(&mut self.inside).is_ok_and(|sent| !sent)
    }

    /// Gives the namespace, and the descriptor that holds the address, to be passed to another process.
    ///
    /// That process calls [`Networks::give_back`] before it closes the second one.
    pub fn hand_over(self) -> (OwnedFd, Option<OwnedFd>) {
        (self.namespace, self.joined.hand_over())
    }
}

/// The networks of one store.
#[derive(Debug, Clone)]
pub struct Networks {
    folder: PathBuf,
    bridge: String,
    opens_firewall: bool,
}

/// One of them.
#[derive(Debug, Clone)]
pub struct Network {
    networks: Networks,
    folder: PathBuf,
    /// What is known of it.
    pub record: Record,
}

impl Networks {
    /// Returns the networks whose records are in `folder`; nothing is made before the first connection.
    ///
    /// The default store's default bridge is `kiln0`, that of another store `kiln-` and five hex digits of its path.
    pub fn new(folder: &Path) -> Self {
        let bridge = if folder == Path::new(DEFAULT_FOLDER) {
            "kiln0".to_owned()
        } else {
            let path = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
            format!("{OTHER_BRIDGE}{:05x}", fingerprint(path.as_os_str().as_encoded_bytes()) & 0xf_ffff)
        };
        Self { folder: folder.to_owned(), bridge, opens_firewall: false }
    }

    /// Lets what comes to published ports through the chains of other programs that drop it.
    #[must_use]
    pub fn opening_firewalls(self, opens: bool) -> Self {
        Self { opens_firewall: opens, ..self }
    }

    /// Returns the name of the default network's bridge.
    pub fn bridge(&self) -> &str {
        &self.bridge
    }

    /// Returns the name of the nftables tables: `kiln`, or for another store the name of its default bridge.
    pub fn table(&self) -> &str {
        self.bridge.strip_suffix('0').filter(|name| *name == "kiln").unwrap_or(&self.bridge)
    }

    /// Makes a namespace with loopback, `eth0`, an address of its own and a default route, in the default network.
    ///
    /// `owner` is noted beside the address, for people who look.
    pub fn connect(&self, owner: &str) -> Result<Endpoint> {
        self.default_network()?.connect(owner)
    }

    /// Returns the default network, which need not have been made yet.
    pub fn default_network(&self) -> Result<Network> {
        let folder = self.folder_of(DEFAULT);
        let record = match Record::read(&folder)? {
            Some(record) => record,
            None => Record::new(self.default_id(), DEFAULT, self.bridge.clone(), now()),
        };
        Ok(Network { networks: self.clone(), folder, record })
    }

    /// Returns the networks, the default one too when it has been made.
    pub fn networks(&self) -> Result<Vec<Network>> {
        let mut networks = Vec::new();
        let entries = match std::fs::read_dir(&self.folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(networks),
            entries => entries.map_err(file("list", &self.folder))?,
        };
        for entry in entries {
            let folder = entry.map_err(file("list", &self.folder))?.path();
            // Beside them there is the lock, and what is being removed.
            let is_network = folder.file_name().and_then(|name| name.to_str()).is_some_and(is_folder_name);
            if is_network && let Some(record) = Record::read(&folder)? {
                networks.push(Network { networks: self.clone(), folder, record });
            }
        }
        networks.sort_by_key(|network| (!network.record.is_default(), network.record.created));
        Ok(networks)
    }

    /// Finds a network by its name, its id or the beginning of its id.
    pub fn find(&self, text: &str) -> Result<Network> {
        let mut networks = self.networks()?;
        if !networks.iter().any(|network| network.record.is_default()) {
            networks.push(self.default_network()?);
        }
        let is = |network: &Network| network.record.name == text || network.record.id == text;
        if let Some(found) = networks.iter().position(is) {
            return Ok(networks.swap_remove(found));
        }
        let begins = |network: &Network| !text.is_empty() && network.record.id.starts_with(text);
        networks.retain(begins);
        match networks.len() {
            0 => Err(Error::NotFound { text: text.to_owned() }),
            1 => Ok(networks.remove(0)),
            _ => Err(Error::Ambiguous { text: text.to_owned() }),
        }
    }

    /// Removes records of addresses that nobody holds, and what the kernel knows because of them; gives how many they
    /// were.
    pub fn reap(&self) -> Result<usize> {
        self.remove_halves()?;
        self.networks()?.iter().map(Network::tidy).sum()
    }

    /// Removes the default bridge if nothing is connected to it; tells whether it did.
    ///
    /// The next connection makes it again.
    pub fn remove_unused(&self) -> Result<bool> {
        let network = self.default_network()?;
        if !network.folder.exists() {
            return Ok(false);
        }
        let _lock = self.lock()?;
        network.tidy()?;
        if !network.members()?.is_empty() {
            return Ok(false);
        }
        match self.networks()?.len() {
            0 | 1 => self.remove(),
            _ => network.remove_bridge(),
        }
        .map(|()| true)
    }

    /// Removes all bridges and the packet filter; namespaces that are still connected lose their way out.
    pub fn remove(&self) -> Result<()> {
        self.networks()?.iter().try_for_each(Network::remove_bridge)?;
        Filter::open()
            .and_then(|mut socket| nft::remove(&mut socket, self.table()))
            .map_err(|source| self.kernel("remove the packet filter", source))
    }

    /// Names the chains of other programs that drop forwarded packets unless those programs know them.
    ///
    /// Docker, ufw and others leave such chains; the bridges are let through those that nftables shows.
    pub fn foreign_drops(&self) -> Vec<String> {
        let found = Filter::open().and_then(|mut socket| nft::foreign_drops(&mut socket));
        found.unwrap_or_default().iter().map(ToString::to_string).collect()
    }

    fn records(&self) -> Result<Vec<Record>> {
        Ok(self.networks()?.into_iter().map(|network| network.record).collect())
    }

    /// The folder of the network with this id; none means the default one.
    pub fn folder_of(&self, id: &str) -> PathBuf {
        match id.is_empty() || id == self.default_id() {
            true => self.folder.join(DEFAULT),
            false => self.folder.join(id),
        }
    }

    fn default_id(&self) -> String {
        let path = std::path::absolute(&self.folder).unwrap_or_else(|_| self.folder.clone());
        let digest = Sha256::new().chain_update(DEFAULT).chain_update(path.as_os_str().as_encoded_bytes());
        digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Locks the making and removing of networks.
    fn lock(&self) -> Result<File> {
        std::fs::create_dir_all(&self.folder).map_err(file("create", &self.folder))?;
        addresses::lock(&self.folder).map_err(file("lock", &self.folder))
    }
}

impl Network {
    /// Makes a namespace with loopback, `eth0`, an address of its own and a default route.
    pub fn connect(&self, owner: &str) -> Result<Endpoint> {
        let failed = |source| self.kernel("make a network namespace", source);
        self.connect_in(Namespace::make().map_err(failed)?, &Wanted::any(owner))
    }

    fn connect_in(&self, mut namespace: Namespace, wanted: &Wanted<'_>) -> Result<Endpoint> {
        let joined = self.join(&mut namespace, wanted)?;
        let (address, gateway, mac) = (joined.address, joined.gateway, joined.lease.mac);
        let Namespace { fd: namespace, socket: inside } = namespace;
        Ok(Endpoint { namespace, address, gateway, mac, joined, inside })
    }

    /// Makes an endpoint.
    pub fn join(&self, namespace: &mut Namespace, wanted: &Wanted<'_>) -> Result<Joined> {
        self.reserve_again(wanted)?.plug(namespace, wanted)
    }

    /// Takes addresses for an endpoint, once more when another kiln removed the unused network between our look at it and
    /// our use of it.
    pub fn reserve_again(&self, wanted: &Wanted<'_>) -> Result<Reserved> {
        let first = self.clone().reserve(wanted);
        if first.is_err() && self.has_no_bridge() { self.clone().reserve(wanted) } else { first }
    }

    fn has_no_bridge(&self) -> bool {
        Socket::route()
            .and_then(|mut host| link::find(&mut host, &self.record.bridge))
            .is_ok_and(|found| found.is_none())
    }

    /// Removes the bridge, and what the tables hold of it.
    fn remove_bridge(&self) -> Result<()> {
        self.networks.take_back(&elements::of_network(&self.record))?;
        let remove = || {
            let (mut host, mut filter) = (Socket::route()?, Filter::open()?);
            if let Some(bridge) = link::find(&mut host, &self.record.bridge)? {
                link::remove(&mut host, bridge.index)?;
            }
            nft::forget_foreign_drops(&mut filter, &self.record.bridge)
        };
        remove().map_err(|source| self.kernel("remove the link", source))
    }
}

fn is_folder_name(name: &str) -> bool {
    name == DEFAULT || (name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// Unix nanoseconds.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Makes a namespace in which only loopback is up.
pub fn loopback() -> Result<OwnedFd> {
    let made = Namespace::make().and_then(|mut inside| {
        inside.loopback_up()?;
        Ok(inside.fd)
    });
    made.map_err(|source| Error::Kernel {
        action: "make a network namespace",
        bridge: "none".to_owned(),
        source,
    })
}

/// A locally administered MAC from an address, so that neighbours' caches stay right when it is used again.
fn mac_of(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x02, 0x42, a, b, c, d]
}

/// FNV-1a: names only have to differ between the few stores of a host.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_store_has_the_short_names_and_another_its_own() {
        let default = Networks::new(Path::new(DEFAULT_FOLDER));
        assert_eq!((default.bridge(), default.table()), ("kiln0", "kiln"));
        let other = Networks::new(Path::new("/somewhere/networks"));
        assert_eq!(other.bridge(), other.table());
        assert!(other.bridge().starts_with("kiln-") && other.bridge().len() == 10);
        assert_ne!(other.bridge(), Networks::new(Path::new("/elsewhere/networks")).bridge());
    }
}
