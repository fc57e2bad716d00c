//! Which address belongs to whom.
//!
//! An address is taken as long as somebody holds the flock of `addresses/<address>`; the lock is bound to an
//! open file, so it ends with its holder however that ends, and never lies as a process id would. Addresses
//! go round (next-fit): one that was just given back is the last to be given out again, which keeps packets
//! of its former life away from its next holder.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use ipnet::Ipv4Net;
use rustix::fs::{FlockOperation, flock};

/// A taken address: freed when dropped.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) address: Ipv4Addr,
    /// None once another process holds the address.
    file: Option<File>,
    path: PathBuf,
    lock: PathBuf,
}

impl Taken {
    /// Gives the open file that holds the address; whoever has it now calls [`give_back`] at the end.
    pub(super) fn hand_over(mut self) -> Option<OwnedFd> {
        self.file.take().map(OwnedFd::from)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        if self.file.is_none() {
            return;
        }
        remove_record(&self.lock, &self.path);
    }
}

/// Removes the record of `address`, whose file the caller still holds.
pub(super) fn give_back(folder: &Path, address: Ipv4Addr) {
    remove_record(&lock_path(folder), &record(folder, address));
}

/// The name goes only under the lock that protects taking; when that is busy, the file stays as a stale record,
/// which the next round takes over.
fn remove_record(lock: &Path, path: &Path) {
    let Ok(lock) = File::open(lock) else { return };
    if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
        let _ = std::fs::remove_file(path);
    }
}

/// Locks the network's folder for changes, until the file is dropped.
pub(super) fn lock(folder: &Path) -> io::Result<File> {
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(lock_path(folder))?;
    loop {
        match flock(&file, FlockOperation::LockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Takes the next free address of `subnet` for `owner`; `None` when all are taken.
///
/// `lock` is what [`lock`] gave; it remembers which address was given out last.
pub(super) fn take(
    folder: &Path,
    lock: &mut File,
    subnet: Ipv4Net,
    owner: &str,
) -> io::Result<Option<Taken>> {
    // The network's own address, the gateway and the broadcast address are never given out.
    let count = u32::from(subnet.broadcast()).saturating_sub(u32::from(subnet.network())).saturating_sub(2);
    let last = last_given(lock)?;
    for step in 1..=count {
        let host = (last.wrapping_add(step).wrapping_sub(1)) % count + 1;
        let address = Ipv4Addr::from(u32::from(subnet.network()) + host + 1);
        if let Some(file) = claim(&record(folder, address), owner)? {
            lock.rewind()?;
            write!(lock, "{host:010}")?;
            return Ok(Some(Taken {
                address,
                file: Some(file),
                path: record(folder, address),
                lock: lock_path(folder),
            }));
        }
    }
    Ok(None)
}

/// Removes the records that nobody holds; gives how many they were. The caller holds the lock.
pub(super) fn reap(folder: &Path) -> io::Result<usize> {
    let mut reaped = 0;
    for entry in std::fs::read_dir(folder.join("addresses"))? {
        let path = entry?.path();
        let file = File::open(&path)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            std::fs::remove_file(&path)?;
            reaped += 1;
        }
    }
    Ok(reaped)
}

/// Tells whether no address is taken; after [`reap`] only held records are left.
pub(super) fn is_unused(folder: &Path) -> io::Result<bool> {
    Ok(std::fs::read_dir(folder.join("addresses"))?.next().is_none())
}

fn claim(path: &Path, owner: &str) -> io::Result<Option<File>> {
    let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
        Err(error) => return Err(error.into()),
    }
    file.set_len(0)?;
    file.write_all(owner.as_bytes())?;
    Ok(Some(file))
}

fn last_given(lock: &mut File) -> io::Result<u32> {
    let mut text = String::new();
    lock.rewind()?;
    lock.take(10).read_to_string(&mut text)?;
    // A damaged number only changes where the round goes on.
    Ok(text.parse().unwrap_or_default())
}

fn record(folder: &Path, address: Ipv4Addr) -> PathBuf {
    folder.join("addresses").join(address.to_string())
}

fn lock_path(folder: &Path) -> PathBuf {
    folder.join("lock")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("addresses")).unwrap();
        folder
    }

    fn take_one(folder: &Path, subnet: &str) -> Option<Taken> {
        take(folder, &mut lock(folder).unwrap(), subnet.parse().unwrap(), "test").unwrap()
    }

    #[test]
    fn an_address_that_was_given_back_is_the_last_to_be_given_again() {
        let folder = folder();
        let first = take_one(folder.path(), "10.0.0.0/29").unwrap();
        assert_eq!(first.address, Ipv4Addr::new(10, 0, 0, 2));
        drop(first);
        let next: Vec<_> = (0..5).map(|_| take_one(folder.path(), "10.0.0.0/29").unwrap()).collect();
        let last: Vec<_> = next.iter().map(|taken| taken.address.octets()[3]).collect();
        assert_eq!(last, [3, 4, 5, 6, 2]);
        assert!(take_one(folder.path(), "10.0.0.0/29").is_none(), "all are taken");
    }

    #[test]
    fn a_record_without_a_holder_is_taken_over_or_reaped() {
        let folder = folder();
        std::fs::write(folder.path().join("addresses/10.0.0.2"), "died").unwrap();
        std::fs::write(folder.path().join("addresses/10.0.0.3"), "died").unwrap();
        let taken = take_one(folder.path(), "10.0.0.0/24").unwrap();
        assert_eq!(taken.address, Ipv4Addr::new(10, 0, 0, 2));
        assert_eq!(reap(folder.path()).unwrap(), 1);
        let _lock = lock(folder.path()).unwrap();
        assert_eq!(std::fs::read_dir(folder.path().join("addresses")).unwrap().count(), 1);
    }
}
