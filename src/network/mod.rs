//! Connects network namespaces to the world: a bridge, a veth pair each, addresses, and a packet filter.
//!
//! 1. The first connection on a host makes the bridge (`kiln0` for the default store), with a private subnet
//!    that no route of the host uses, switches forwarding on and writes the `table inet kiln`. Later ones only
//!    look that all of it is still there: three requests and one small read.
//! 2. A namespace is made by a thread that ends afterwards, and is held by descriptors only: nothing is mounted
//!    under `/run`, so a killed kiln leaves no namespace behind.
//! 3. A veth pair is made by one request, its inner end born as `eth0` in the namespace; then the inside gets
//!    its address and default route in one more.
//! 4. Nothing is undone at the end: the pair goes with its namespace, the address with the flock of its holder.
//!
//! ```text
//! <store>/networks/
//!     network.json          the bridge's subnet
//!     lock                  flock for changes here; its content is the address given out last
//!     addresses/<address>   whose it is; taken while somebody holds its flock
//! ```
//!
//! Two stores on one host have bridges, tables and subnets of their own. While a subnet is being chosen, a
//! host-wide lock keeps other kilns from choosing the same one.
//!
//! Forwarding is switched on for the whole host, as every engine with bridges does; kiln drops nothing that
//! doesn't concern its own bridge, because such a drop would cut off engines that are started later.
//!
//! Not known here: containers, images, published ports, name resolution.

mod addresses;
mod files;
mod leftovers;
mod link;
mod namespace;
mod netlink;
mod nft;
mod pool;

pub use files::{RESOLVER, host_resolv_conf, hosts_file, own_resolv_conf, resolv_conf};
pub use namespace::Namespace;
pub use pool::Pool;

use std::fs::File;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::Ipv4Net;
use rustix::fs::{FlockOperation, flock};

use self::netlink::Socket;

/// The store whose bridge has the short name.
const DEFAULT_FOLDER: &str = "/var/lib/kiln/networks";
/// How the bridges of other stores begin.
const OTHER_BRIDGE: &str = "kiln-";
const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";
/// Of a link without another wish.
const ETHERNET_MTU: u32 = 1500;
/// A veth of a dying namespace can hold its name for some milliseconds.
const NAME_ATTEMPTS: u32 = 100;
/// How long the host-wide lock is waited for; any local user could hold it, so it is never waited for longer.
const HOST_LOCK_ATTEMPTS: u32 = 400;
const HOST_LOCK_PAUSE: Duration = Duration::from_millis(5);

/// Why a namespace could not be connected.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the network's folder, or a kernel setting.
    #[error("cannot {action} `{}`", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The kernel refused a request.
    #[error("cannot {action} for bridge `{bridge}`")]
    Kernel {
        /// What was tried.
        action: &'static str,
        /// For which bridge.
        bridge: String,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// Every private subnet is in use.
    #[error("no private subnet is free for bridge `{bridge}`: routes of this host use all candidates")]
    NoSubnet {
        /// The bridge.
        bridge: String,
    },
    /// Every address is in use.
    #[error("no address is free in `{subnet}` of bridge `{bridge}`")]
    NoAddress {
        /// The bridge.
        bridge: String,
        /// Its subnet.
        subnet: Ipv4Net,
    },
}

type Result<T> = std::result::Result<T, Error>;

/// A connected network namespace; its address is given back when it is dropped.
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
    taken: addresses::Taken,
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
        (self.namespace, self.taken.hand_over())
    }
}

/// The network of one store.
#[derive(Debug, Clone)]
pub struct Networks {
    folder: PathBuf,
    bridge: String,
}

/// What `network.json` keeps.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
struct Record {
    version: u32,
    subnet: String,
}

const RECORD_VERSION: u32 = 1;

/// A bridge that carries packets.
#[derive(Debug, Clone, Copy)]
struct Ready {
    bridge: u32,
    subnet: Ipv4Net,
}

impl Networks {
    /// Returns the network whose records are in `folder`; nothing is made before the first connection.
    ///
    /// The default store's bridge is `kiln0`, that of another store `kiln-` and five hex digits of its path.
    pub fn new(folder: &Path) -> Self {
        let bridge = if folder == Path::new(DEFAULT_FOLDER) {
            "kiln0".to_owned()
        } else {
            let path = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
            format!("{OTHER_BRIDGE}{:05x}", fingerprint(path.as_os_str().as_encoded_bytes()) & 0xf_ffff)
        };
        Self { folder: folder.to_owned(), bridge }
    }

    /// Returns the bridge's name.
    pub fn bridge(&self) -> &str {
        &self.bridge
    }

    /// Returns the name of the nftables table: `kiln`, or for another store the name of its bridge.
    pub fn table(&self) -> &str {
        self.bridge.strip_suffix('0').filter(|name| *name == "kiln").unwrap_or(&self.bridge)
    }

    /// Makes a namespace with loopback, `eth0`, an address of its own and a default route.
    ///
    /// `owner` is noted beside the address, for people who look.
    pub fn connect(&self, owner: &str) -> Result<Endpoint> {
        self.connect_in(None, owner)
    }

    /// The same, in a new namespace that there is already.
    pub fn connect_in(&self, inside: Option<Namespace>, owner: &str) -> Result<Endpoint> {
        let first = self.try_connect(owner, inside);
        // Another kiln may have removed the unused bridge between our look at it and our use of it.
        if first.is_err() && self.has_no_bridge() { self.try_connect(owner, None) } else { first }
    }

    fn has_no_bridge(&self) -> bool {
        Socket::route()
            .and_then(|mut host| link::find(&mut host, &self.bridge))
            .is_ok_and(|found| found.is_none())
    }

    fn try_connect(&self, owner: &str, inside: Option<Namespace>) -> Result<Endpoint> {
        let mut host = Socket::route().map_err(|source| self.kernel("open a netlink socket", source))?;
        let ready = self.ready(&mut host)?;
        let inside = match inside {
            Some(inside) => inside,
            None => Namespace::make().map_err(|source| self.kernel("make a network namespace", source))?,
        };
        let taken = self.take_address(ready.subnet, owner)?;
        let gateway = gateway(ready.subnet);
        let mac = mac_of(taken.address);
        let mtu = link::way_out_mtu(&mut host).unwrap_or(ETHERNET_MTU);
        self.add_pair(&mut host, &inside, ready.bridge, taken.address, mtu)?;
        let address = Ipv4Net::new(taken.address, ready.subnet.prefix_len()).unwrap_or(ready.subnet);
        let Namespace { fd: namespace, socket: inside } = inside
            .configure(address, gateway)
            .map_err(|source| self.kernel("configure `eth0` in its namespace", source))?;
        Ok(Endpoint { namespace, address, gateway, mac, taken, inside })
    }

    /// Gives the address back; the namespace goes when the last process in it ends.
    pub fn release(&self, endpoint: Endpoint) {
        drop(endpoint);
    }

    /// Removes the record of an address that was handed over to this process.
    pub fn give_back(&self, address: Ipv4Addr) {
        addresses::give_back(&self.folder, address);
    }

    /// Removes records of addresses that nobody holds; gives how many they were.
    pub fn reap(&self) -> Result<usize> {
        if !self.folder.join("addresses").exists() {
            return Ok(0);
        }
        let _lock = self.lock()?;
        addresses::reap(&self.folder).map_err(|source| self.file("reap records in", &self.folder, source))
    }

    /// Removes the bridge and its rules if no endpoint is connected; tells whether it did.
    ///
    /// The next connection makes them again.
    pub fn remove_unused(&self) -> Result<bool> {
        if !self.folder.join("addresses").exists() {
            return Ok(false);
        }
        let _lock = self.lock()?;
        let failed = |source| self.file("look at the records in", &self.folder, source);
        addresses::reap(&self.folder).map_err(failed)?;
        if !addresses::is_unused(&self.folder).map_err(failed)? {
            return Ok(false);
        }
        self.remove().map(|()| true)
    }

    /// Removes the bridge and its packet filter; namespaces that are still connected lose their way out.
    pub fn remove(&self) -> Result<()> {
        let mut host = Socket::route().map_err(|source| self.kernel("open a netlink socket", source))?;
        let found = link::find(&mut host, &self.bridge);
        if let Some(bridge) = found.map_err(|source| self.kernel("look", source))? {
            link::remove(&mut host, bridge.index).map_err(|source| self.kernel("remove the link", source))?;
        }
        Socket::netfilter()
            .and_then(|mut socket| {
                nft::forget_foreign_drops(&mut socket, &self.bridge)?;
                nft::remove(&mut socket, self.table())
            })
            .map_err(|source| self.kernel("remove the packet filter", source))
    }

    /// Names the chains of other programs that drop forwarded packets unless those programs know them.
    ///
    /// Docker, ufw and others leave such chains; the bridge is let through those that nftables shows.
    pub fn foreign_drops(&self) -> Vec<String> {
        let found = Socket::netfilter().and_then(|mut socket| nft::foreign_drops(&mut socket));
        found.unwrap_or_default().iter().map(ToString::to_string).collect()
    }

    fn take_address(&self, subnet: Ipv4Net, owner: &str) -> Result<addresses::Taken> {
        let mut lock = self.lock()?;
        addresses::take(&self.folder, &mut lock, subnet, owner)
            .map_err(|source| self.file("take an address in", &self.folder, source))?
            .ok_or_else(|| Error::NoAddress { bridge: self.bridge.clone(), subnet })
    }

    fn add_pair(
        &self,
        host: &mut Socket,
        inside: &Namespace,
        bridge: u32,
        address: Ipv4Addr,
        mtu: u32,
    ) -> Result<()> {
        let mut attempt = 0;
        loop {
            let outer = outer_name(address, attempt);
            let pair =
                link::Pair { outer: &outer, bridge, namespace: inside.fd.as_fd(), mac: mac_of(address), mtu };
            match link::add_pair(host, &pair) {
                Ok(()) => return Ok(()),
                Err(error) if error.raw_os_error() == Some(libc::EEXIST) && attempt < NAME_ATTEMPTS => {
                    attempt += 1;
                }
                Err(source) => return Err(self.kernel("add a veth pair", source)),
            }
        }
    }

    /// Looks whether all is in place, and makes what is not.
    fn ready(&self, host: &mut Socket) -> Result<Ready> {
        if let Some(ready) = self.found(host)? {
            return Ok(ready);
        }
        std::fs::create_dir_all(self.folder.join("addresses"))
            .map_err(|source| self.file("create", &self.folder, source))?;
        let _lock = self.lock()?;
        let _host_lock = host_lock();
        let ready = self.make_bridge(host)?;
        set_forwarding()?;
        let mut filter = Socket::netfilter().map_err(|source| self.kernel("open nftables", source))?;
        nft::write(&mut filter, self.table(), &self.bridge, ready.subnet)
            .and_then(|()| nft::pass_foreign_drops(&mut filter, &self.bridge))
            .map_err(|source| self.kernel("write the packet filter", source))?;
        Ok(ready)
    }

    fn found(&self, host: &mut Socket) -> Result<Option<Ready>> {
        let Some(subnet) = self.recorded()? else { return Ok(None) };
        let bridge = link::find(host, &self.bridge).map_err(|source| self.kernel("look", source))?;
        let Some(bridge) = bridge.filter(|bridge| bridge.up) else { return Ok(None) };
        let filter = Socket::netfilter().and_then(|mut socket| {
            // Docker may have come since: its drop is looked for at each connection.
            nft::pass_foreign_drops(&mut socket, &self.bridge)?;
            nft::exists(&mut socket, self.table())
        });
        if !filter.map_err(|source| self.kernel("look for the packet filter", source))? || !forwarding()? {
            return Ok(None);
        }
        Ok(Some(Ready { bridge: bridge.index, subnet }))
    }

    /// Makes the bridge, or completes one that a killed kiln left half-made: only a complete one is up.
    fn make_bridge(&self, host: &mut Socket) -> Result<Ready> {
        let wrap = |action| move |source| self.kernel(action, source);
        let found = link::find(host, &self.bridge).map_err(wrap("look"))?;
        if let (Some(bridge), Some(subnet)) = (found.filter(|bridge| bridge.up), self.recorded()?) {
            return Ok(Ready { bridge: bridge.index, subnet });
        }
        if let Some(half) = found {
            link::remove(host, half.index).map_err(wrap("remove the half-made link"))?;
        }
        remove_orphans(host);
        let subnet = self.choose_subnet(host)?;
        link::add_bridge(host, &self.bridge, mac_of(gateway(subnet))).map_err(wrap("add the link"))?;
        let made = link::find(host, &self.bridge).map_err(wrap("look"))?;
        let bridge = made.ok_or_else(|| self.kernel("find", io::ErrorKind::NotFound.into()))?.index;
        let address = Ipv4Net::new(gateway(subnet), subnet.prefix_len()).unwrap_or(subnet);
        let owner = std::path::absolute(&self.folder).unwrap_or_default();
        let up = link::set_up_for(bridge, &owner.to_string_lossy());
        host.batch(vec![link::add_address(bridge, address), up]).map_err(wrap("set the address"))?;
        self.write_record(&Record { version: RECORD_VERSION, subnet: subnet.to_string() })?;
        Ok(Ready { bridge, subnet })
    }

    /// Prefers the subnet of the last time, so that addresses stay the same over a reboot.
    fn choose_subnet(&self, host: &mut Socket) -> Result<Ipv4Net> {
        let used = link::destinations(host, None).map_err(|source| self.kernel("list routes", source))?;
        self.recorded()?
            .into_iter()
            .chain(candidates())
            .find(|subnet| used.iter().all(|other| !overlap(*subnet, *other)))
            .ok_or_else(|| Error::NoSubnet { bridge: self.bridge.clone() })
    }

    /// Gives the subnet in `network.json`; one that can't be read, or of another version, is chosen anew.
    fn recorded(&self) -> Result<Option<Ipv4Net>> {
        let path = self.folder.join("network.json");
        match std::fs::read(&path) {
            Ok(bytes) => Ok(read_record(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(self.file("read", &path, source)),
        }
    }

    fn write_record(&self, record: &Record) -> Result<()> {
        let path = self.folder.join("network.json");
        let new = self.folder.join("network.json.new");
        let write = || {
            let mut file = File::create(&new)?;
            file.write_all(&serde_json::to_vec(record)?)?;
            std::fs::rename(&new, &path)
        };
        write().map_err(|source| self.file("write", &path, source))
    }

    fn lock(&self) -> Result<File> {
        addresses::lock(&self.folder).map_err(|source| self.file("lock", &self.folder, source))
    }

    fn kernel(&self, action: &'static str, source: io::Error) -> Error {
        Error::Kernel { action, bridge: self.bridge.clone(), source }
    }

    fn file(&self, action: &'static str, path: &Path, source: io::Error) -> Error {
        Error::File { action, path: path.to_owned(), source }
    }
}

fn read_record(bytes: &[u8]) -> Option<Ipv4Net> {
    let record: Record = serde_json::from_slice(bytes).ok()?;
    let subnet: Ipv4Net = record.subnet.parse().ok()?;
    (record.version == RECORD_VERSION && subnet.prefix_len() <= 24).then_some(subnet)
}

/// Removes the bridges of stores that no longer exist: scratch stores would use up all subnets.
///
/// What can't be removed stays; it is in nobody's way but by its subnet.
fn remove_orphans(host: &mut Socket) {
    for (index, bridge) in leftovers::orphans(host) {
        if link::remove(host, index).is_ok() {
            let filter = Socket::netfilter().and_then(|mut socket| {
                nft::forget_foreign_drops(&mut socket, &bridge)?;
                nft::remove(&mut socket, &bridge)
            });
            tracing::debug!(bridge, ok = filter.is_ok(), "removed the bridge of a store that is gone");
        }
    }
}

/// Makes a namespace in which only loopback is up.
pub fn loopback() -> Result<OwnedFd> {
    let made = Namespace::make().and_then(|mut inside| {
        inside.socket.request(link::loopback_up())?;
        Ok(inside.fd)
    });
    made.map_err(|source| Error::Kernel {
        action: "make a network namespace",
        bridge: "none".to_owned(),
        source,
    })
}

/// The private subnets that engines use: 172.17 to 172.31, then 192.168 in sixteenths.
fn candidates() -> impl Iterator<Item = Ipv4Net> {
    let large = (17..=31).map(|second| Ipv4Net::new(Ipv4Addr::new(172, second, 0, 0), 16));
    let small = (0..16).map(|part| Ipv4Net::new(Ipv4Addr::new(192, 168, part * 16, 0), 20));
    large.chain(small).filter_map(std::result::Result::ok)
}

fn overlap(one: Ipv4Net, other: Ipv4Net) -> bool {
    one.contains(&other) || other.contains(&one)
}

fn gateway(subnet: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(subnet.network()) + 1)
}

/// A locally administered MAC from an address, so that neighbours' caches stay right when it is used again.
fn mac_of(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x02, 0x42, a, b, c, d]
}

fn outer_name(address: Ipv4Addr, attempt: u32) -> String {
    match attempt {
        0 => format!("kv{:08x}", u32::from(address)),
        _ => format!("kv{:08x}-{attempt}", u32::from(address)),
    }
}

fn forwarding() -> Result<bool> {
    let text = std::fs::read_to_string(FORWARDING);
    text.map(|text| text.trim() == "1").map_err(forwarding_error("read"))
}

fn set_forwarding() -> Result<()> {
    if forwarding()? {
        return Ok(());
    }
    std::fs::write(FORWARDING, "1\n").map_err(forwarding_error("switch on forwarding in"))
}

fn forwarding_error(action: &'static str) -> impl Fn(io::Error) -> Error {
    move |source| Error::File { action, path: PathBuf::from(FORWARDING), source }
}

/// Locks the choice of subnets among all kilns of this network namespace, if that is possible in short time.
fn host_lock() -> Option<File> {
    // A setting of the network namespace is a file that all of its processes have in common.
    let file = File::open(FORWARDING).ok()?;
    for _ in 0..HOST_LOCK_ATTEMPTS {
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return Some(file);
        }
        std::thread::sleep(HOST_LOCK_PAUSE);
    }
    None
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

    #[test]
    fn a_subnet_that_overlaps_is_seen_from_both_sides() {
        let net = |text: &str| text.parse::<Ipv4Net>().unwrap();
        assert!(overlap(net("172.17.0.0/16"), net("172.17.5.0/24")));
        assert!(overlap(net("172.17.0.0/16"), net("172.16.0.0/12")));
        assert!(!overlap(net("172.17.0.0/16"), net("172.18.0.0/16")));
        assert_eq!(candidates().count(), 31);
    }

    #[test]
    fn outer_names_fit_into_a_link_name() {
        assert!(outer_name(Ipv4Addr::BROADCAST, NAME_ATTEMPTS).len() <= 15);
    }
}
