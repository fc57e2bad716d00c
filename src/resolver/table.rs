//! Who has which name, as the networks' folders say.
//!
//! Nothing is told to the resolver: whoever connects a container writes `endpoints/<id>.json` by a rename, and the
//! kernel queues the news of that before the rename returns. So what a command has returned from is known to the
//! next question. Whether an endpoint still lives is asked of the lock of its address: that ends with its holder,
//! however that ends.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::Deserialize;

/// Room for the news that are read at once.
const NEWS_BYTES: usize = 16 * 1024;
/// The folder in a network's folder.
const ENDPOINTS: &str = "endpoints";
/// Digits of an id that are a name.
const SHORT_ID: usize = 12;
/// How old the list of all subnets may be.
const SUBNETS_FOR: Duration = Duration::from_secs(1);

/// A container in a network, as its file says.
#[derive(Debug, Deserialize)]
struct Known {
    id: String,
    name: String,
    aliases: Vec<String>,
    v4: Ipv4Addr,
    v6: Option<Ipv6Addr>,
    /// The file below `addresses/` whose lock tells that it lives.
    lease: String,
}

impl Known {
    /// Reads it; none when the file has gone.
    fn read(file: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(file).ok()?).ok()
    }

    /// Tells whether `name` is one of its names, in whatever case.
    fn is_called(&self, name: &str) -> bool {
        let is = |own: &str| own.eq_ignore_ascii_case(name);
        is(&self.name)
            || self.id.get(..SHORT_ID).is_some_and(is)
            || self.aliases.iter().any(|alias| is(alias))
    }

    /// Tells whether somebody holds its address in `network`.
    fn lives(&self, network: &Path) -> bool {
        let Ok(lease) = File::open(network.join("addresses").join(&self.lease)) else { return false };
        flock(&lease, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
    }

    fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        std::iter::once(IpAddr::V4(self.v4)).chain(self.v6.map(IpAddr::V6))
    }
}

/// What is read of a network's record.
#[derive(Debug, Default, Deserialize)]
struct Record {
    name: String,
    #[serde(default)]
    internal: bool,
    #[serde(default)]
    subnet: Option<Subnet>,
    #[serde(default)]
    subnet6: Option<Subnet>,
}

#[derive(Debug, Deserialize)]
struct Subnet {
    net: IpNet,
}

fn record(folder: &Path) -> Option<Record> {
    serde_json::from_slice(&std::fs::read(folder.join("network.json")).ok()?).ok()
}

#[derive(Debug)]
struct Zone {
    folder: PathBuf,
    name: String,
    is_internal: bool,
    watch: Option<i32>,
    /// By the names of their files.
    endpoints: HashMap<Vec<u8>, Known>,
}

impl Zone {
    fn open(inotify: BorrowedFd<'_>, folder: &Path) -> Self {
        let flags = WatchFlags::MOVED_TO | WatchFlags::MOVED_FROM | WatchFlags::DELETE | WatchFlags::ONLYDIR;
        let Record { name, internal, .. } = record(folder).unwrap_or_default();
        let mut zone = Self {
            folder: folder.to_owned(),
            name,
            is_internal: internal,
            // Without one, the folder is read before each answer.
            watch: inotify::add_watch(inotify, folder.join(ENDPOINTS), flags).ok(),
            endpoints: HashMap::new(),
        };
        zone.read_all();
        zone
    }

    fn read_all(&mut self) {
        self.endpoints.clear();
        let Ok(entries) = std::fs::read_dir(self.folder.join(ENDPOINTS)) else { return };
        for entry in entries.flatten() {
            self.read(&entry.file_name());
        }
    }

    fn read(&mut self, file: &OsStr) {
        if !file.as_bytes().ends_with(b".json") {
            return;
        }
        match Known::read(&self.folder.join(ENDPOINTS).join(file)) {
            Some(known) => self.endpoints.insert(file.as_bytes().to_vec(), known),
            None => self.endpoints.remove(file.as_bytes()),
        };
    }

    /// Gives those that `is_meant` and live.
    fn living(&self, is_meant: impl Fn(&Known) -> bool) -> impl Iterator<Item = &Known> {
        self.endpoints.values().filter(move |known| is_meant(known) && known.lives(&self.folder))
    }

    /// Gives the name without the network's at its end.
    fn within<'a>(&self, name: &'a str) -> Option<&'a str> {
        let head = name.len().checked_sub(self.name.len() + 1)?;
        let (name, end) = name.split_at_checked(head)?;
        end.strip_prefix('.').filter(|end| end.eq_ignore_ascii_case(&self.name)).map(|_| name)
    }
}

/// The networks that somebody asks about.
#[derive(Debug)]
pub(super) struct Table {
    inotify: OwnedFd,
    zones: Vec<Zone>,
    subnets: Option<(Instant, Vec<IpNet>)>,
}

impl Table {
    pub(super) fn new() -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        Ok(Self { inotify, zones: Vec::new(), subnets: None })
    }

    /// Readable when there is something new.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    /// Begins to follow the networks in `folders` too.
    pub(super) fn follow(&mut self, folders: &[PathBuf]) {
        for folder in folders {
            // One that was removed may have been made again under the same path.
            if self.zones.iter().all(|zone| zone.folder != *folder || zone.watch.is_none()) {
                self.zones.retain(|zone| zone.folder != *folder);
                self.zones.push(Zone::open(self.inotify.as_fd(), folder));
            }
        }
    }

    /// Takes note of what has changed.
    pub(super) fn refresh(&mut self) {
        let mut space = [MaybeUninit::uninit(); NEWS_BYTES];
        let mut reader = Reader::new(&self.inotify, &mut space);
        loop {
            let news = match reader.next() {
                Ok(news) => news,
                Err(Errno::INTR) => continue,
                Err(_) => break,
            };
            if news.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                self.zones.iter_mut().for_each(Zone::read_all);
                continue;
            }
            let Some(zone) = self.zones.iter_mut().find(|zone| zone.watch == Some(news.wd())) else {
                continue;
            };
            if news.events().contains(ReadFlags::IGNORED) {
                zone.watch = None;
            } else if let Some(file) = news.file_name() {
                zone.read(OsStr::from_bytes(file.to_bytes()));
            }
        }
        self.zones.iter_mut().filter(|zone| zone.watch.is_none()).for_each(Zone::read_all);
    }

    fn seen_from<'a>(&'a self, folders: &'a [PathBuf]) -> impl Iterator<Item = &'a Zone> {
        self.zones.iter().filter(|zone| folders.contains(&zone.folder))
    }

    /// Gives the addresses of the containers called `name` that a container in `folders` sees; `None` when there is
    /// no such container. `links` are names of its own, with the ids of those that they stand for.
    pub(super) fn addresses(
        &self,
        folders: &[PathBuf],
        links: &[(String, String)],
        name: &str,
    ) -> Option<Vec<IpAddr>> {
        let linked: Vec<&str> = links
            .iter()
            .filter(|(alias, _)| alias.eq_ignore_ascii_case(name))
            .map(|(_, id)| id.as_str())
            .collect();
        let mut is_known = false;
        let mut addresses = Vec::new();
        for zone in self.seen_from(folders) {
            let within = zone.within(name);
            let is_meant = |endpoint: &Known| {
                endpoint.is_called(name)
                    || within.is_some_and(|name| endpoint.is_called(name))
                    || linked.contains(&endpoint.id.as_str())
            };
            for endpoint in zone.living(is_meant) {
                is_known = true;
                addresses.extend(endpoint.addresses());
            }
        }
        addresses.sort_unstable();
        is_known.then_some(addresses)
    }

    /// Gives the name of the container in `folders` with this address.
    pub(super) fn name_of(&self, folders: &[PathBuf], address: IpAddr) -> Option<String> {
        self.seen_from(folders).find_map(|zone| {
            let endpoint = zone.living(|endpoint| endpoint.addresses().any(|own| own == address)).next()?;
            Some(format!("{}.{}", endpoint.name, zone.name))
        })
    }

    /// Tells whether one of the networks in `folders` leads out.
    pub(super) fn leads_out(&self, folders: &[PathBuf]) -> bool {
        self.seen_from(folders).any(|zone| !zone.is_internal)
    }

    /// Tells whether an address belongs to any network of this store, whose folders lie beside `folder`.
    pub(super) fn is_inside(&mut self, folder: &Path, address: IpAddr) -> bool {
        let is_old = |(read, _): &(Instant, _)| read.elapsed() > SUBNETS_FOR;
        if self.subnets.as_ref().is_none_or(is_old) {
            let entries = folder.parent().and_then(|networks| std::fs::read_dir(networks).ok());
            let records = entries.into_iter().flatten().flatten().filter_map(|entry| record(&entry.path()));
            let subnets = records.flat_map(|record| record.subnet.into_iter().chain(record.subnet6));
            let subnets = subnets.map(|subnet| subnet.net).collect();
            self.subnets = Some((Instant::now(), subnets));
        }
        self.subnets.iter().any(|(_, subnets)| subnets.iter().any(|net| net.contains(&address)))
    }
}
