//! Which address belongs to whom.
//!
//! An address is taken as long as somebody holds the flock of `addresses/<address>`; the lock is bound to an
//! open file, so it ends with its holder however that ends, and never lies as a process id would. The file says what
//! the kernel knows because of it: a lease that nobody holds is a dead owner's, and that has to go from the kernel
//! before the address is given to somebody else. Addresses go round (next-fit): one that was just given back is the
//! last to be given out again, which keeps packets of its former life away from its next holder.
//!
//! An address that its owner has asked for stays reserved while the owner has a folder.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::record::Subnet;

/// What the kernel knows of one endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// A container's id, or what else it is for.
    pub owner: String,
    /// The owner's folder.
    pub home: Option<PathBuf>,
    /// The host's link, a port of the bridge; empty when the kernel knows nothing of this any more.
    pub link: String,
    /// The MAC of the owner's link.
    pub mac: [u8; 6],
    /// The address.
    pub address: Ipv4Addr,
    /// The IPv6 address.
    pub address6: Option<Ipv6Addr>,
    /// The owner has asked for one of these addresses.
    pub fixed: bool,
}

impl Lease {
    /// Tells whether it is kept for its owner.
    pub(super) fn is_reserved(&self) -> bool {
        self.fixed && self.home.as_ref().is_some_and(|home| home.exists())
    }
}

/// How the file of an address was found.
pub(super) enum Claim {
    /// It is ours now.
    Free(File),
    /// It is ours now, and what its dead owner left has to go.
    Dead(File, Lease),
    /// Its owner will come back. It is ours if we are that one.
    Reserved(File, Lease),
    /// Somebody holds it; its owner.
    Held(String),
}

/// Locks the network's folder for changes, until the file is dropped.
pub(super) fn lock(folder: &Path) -> io::Result<File> {
    let path = folder.join("lock");
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    loop {
        match flock(&file, FlockOperation::LockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Locks it if nobody else has.
pub(super) fn try_lock(folder: &Path) -> Option<File> {
    let lock = File::open(folder.join("lock")).ok()?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok().then_some(lock)
}

/// Takes the file of `address`, if nobody holds it. The caller has the network locked.
pub(super) fn claim(folder: &Path, address: Ipv4Addr) -> io::Result<Claim> {
    let path = path(folder, address);
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    let is_free = match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => true,
        Err(rustix::io::Errno::WOULDBLOCK) => false,
        Err(error) => return Err(error.into()),
    };
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let lease: Option<Lease> = serde_json::from_slice(&text).ok();
    Ok(match (is_free, lease) {
        (false, lease) => Claim::Held(lease.map(|lease| lease.owner).unwrap_or_default()),
        (true, Some(lease)) if lease.is_reserved() => Claim::Reserved(file, lease),
        (true, Some(lease)) if !lease.link.is_empty() => Claim::Dead(file, lease),
        (true, _) => Claim::Free(file),
    })
}

/// Writes what the holder of `file` has.
pub(super) fn write(file: &mut File, lease: &Lease) -> io::Result<()> {
    let bytes = serde_json::to_vec(lease)?;
    file.rewind()?;
    file.set_len(0)?;
    file.write_all(&bytes)
}

/// Gives the addresses of a subnet that may be given out, beginning after the one that was given out last.
///
/// The network's own address, the gateway, the broadcast address and those of others are none.
pub(super) fn round(subnet: &Subnet<Ipv4Net, Ipv4Addr>, last: u32) -> impl Iterator<Item = Ipv4Addr> + '_ {
    let net = subnet.net;
    let range = subnet.range.unwrap_or(net);
    let first = u32::from(range.network()).max(u32::from(net.network()) + 1);
    let end = u32::from(range.broadcast()).min(u32::from(net.broadcast()).saturating_sub(1));
    let count = end.saturating_sub(first).saturating_add(1);
    let after = if (first..=end).contains(&last) { last - first + 1 } else { 0 };
    (0..count)
        .map(move |step| Ipv4Addr::from(first + (after + step) % count))
        .filter(|address| *address != subnet.gateway && !subnet.aux.values().any(|other| other == address))
}

/// Reads which address was given out last from the lock's file.
pub(super) fn last_given(lock: &mut File) -> io::Result<u32> {
    let mut text = String::new();
    lock.rewind()?;
    lock.take(10).read_to_string(&mut text)?;
    // A damaged number only changes where the round goes on.
    Ok(text.parse().unwrap_or_default())
}

/// Notes which address was given out last.
pub(super) fn note_given(lock: &mut File, address: Ipv4Addr) -> io::Result<()> {
    lock.rewind()?;
    write!(lock, "{:010}", u32::from(address))
}

/// Lists the leases in `folder`, and whether somebody holds them.
pub(super) fn list(folder: &Path) -> io::Result<Vec<(Lease, bool)>> {
    let mut leases = Vec::new();
    for path in files(folder)? {
        let Some(mut file) = open(&path)? else { continue };
        let is_held = flock(&file, FlockOperation::NonBlockingLockShared).is_err();
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        if let Ok(lease) = serde_json::from_slice(&text) {
            leases.push((lease, is_held));
        } else if is_held && let Some(address) = path.file_name().and_then(|name| name.to_str()?.parse().ok())
        {
            // An older kiln's, which says only whose it is.
            let owner = String::from_utf8_lossy(&text).into_owned();
            let mac = super::mac_of(address);
            let link = String::new();
            leases
                .push((Lease { owner, home: None, link, mac, address, address6: None, fixed: false }, true));
        }
    }
    Ok(leases)
}

/// Takes the files of leases that nobody holds: each with what it says, and whether it is reserved. The caller has the
/// network locked.
pub(super) fn dead(folder: &Path) -> io::Result<Vec<(PathBuf, File, Option<Lease>)>> {
    let mut dead = Vec::new();
    for path in files(folder)? {
        let Some(mut file) = open(&path)? else { continue };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let mut text = Vec::new();
            file.read_to_end(&mut text)?;
            dead.push((path, file, serde_json::from_slice(&text).ok()));
        }
    }
    Ok(dead)
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match OpenOptions::new().read(true).write(true).open(path) {
        // Given back meanwhile.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        file => file.map(Some),
    }
}

fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    match std::fs::read_dir(folder.join("addresses")) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        entries => entries?.map(|entry| Ok(entry?.path())).collect(),
    }
}

/// Where the lease of `address` is.
pub(super) fn path(folder: &Path, address: Ipv4Addr) -> PathBuf {
    folder.join("addresses").join(address.to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn subnet(net: &str, range: Option<&str>) -> Subnet<Ipv4Net, Ipv4Addr> {
        let net: Ipv4Net = net.parse().unwrap();
        let gateway = Ipv4Addr::from(u32::from(net.network()) + 1);
        let aux = BTreeMap::from([("router".to_owned(), Ipv4Addr::from(u32::from(net.network()) + 3))]);
        Subnet { net, gateway, range: range.map(|range| range.parse().unwrap()), aux }
    }

    fn last_digits(subnet: &Subnet<Ipv4Net, Ipv4Addr>, last: [u8; 4]) -> Vec<u8> {
        round(subnet, u32::from_be_bytes(last)).map(|address| address.octets()[3]).collect()
    }

    #[test]
    fn addresses_go_round_and_leave_out_what_others_have() {
        assert_eq!(last_digits(&subnet("10.0.0.0/29", None), [0; 4]), [2, 4, 5, 6]);
        assert_eq!(last_digits(&subnet("10.0.0.0/29", None), [10, 0, 0, 4]), [5, 6, 2, 4]);
        assert_eq!(last_digits(&subnet("10.0.0.0/24", Some("10.0.0.248/30")), [0; 4]), [248, 249, 250, 251]);
        assert_eq!(last_digits(&subnet("10.0.0.0/24", Some("10.0.0.252/30")), [0; 4]), [252, 253, 254]);
    }

    #[test]
    fn a_lease_says_whether_its_owner_lives_comes_back_or_is_dead() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        std::fs::create_dir(folder.join("addresses")).unwrap();
        let address = Ipv4Addr::new(10, 0, 0, 2);
        let lease = Lease {
            owner: "one".into(),
            home: Some(folder.to_owned()),
            link: "kv0a000002".into(),
            mac: [2; 6],
            address,
            address6: None,
            fixed: false,
        };
        let Claim::Free(mut held) = claim(folder, address).unwrap() else { panic!("it is free") };
        write(&mut held, &lease).unwrap();
        assert!(matches!(claim(folder, address).unwrap(), Claim::Held(owner) if owner == "one"));
        assert_eq!(list(folder).unwrap(), [(lease.clone(), true)]);
        assert!(dead(folder).unwrap().is_empty());
        drop(held);
        assert!(matches!(claim(folder, address).unwrap(), Claim::Dead(_, found) if found == lease));
        assert_eq!(dead(folder).unwrap().len(), 1);
        let Claim::Dead(mut file, _) = claim(folder, address).unwrap() else { panic!("it is dead") };
        write(&mut file, &Lease { fixed: true, ..lease }).unwrap();
        drop(file);
        assert!(matches!(claim(folder, address).unwrap(), Claim::Reserved(..)));
    }
}
