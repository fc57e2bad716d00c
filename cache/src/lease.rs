//! Leases: what a running process needs stays until the process ends.
//!
//! A lease is a file in `leases/` that its process holds by flock, and rows that say what it needs.
//! The file appears with the first thing that is held, so that a build that finds all in the cache
//! writes nothing. Rows of a lease whose file is free or gone count for nothing.

use std::collections::HashSet;
use std::fs;
use std::sync::{Arc, Mutex, PoisonError};

use crate::lock::{Claim, abandoned};
use crate::meta::Tx;
use crate::{Digest, Error, Result, SnapshotId, Store};

/// Leftovers of killed processes that a first write removes; the rest waits for the collector.
const SWEEP_LIMIT: usize = 32;

/// Keeps snapshots and blobs alive until the last clone is dropped or the process ends.
#[derive(Debug, Clone)]
pub struct Lease {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    claim: Option<Claim>,
    snapshots: HashSet<SnapshotId>,
    blobs: HashSet<Digest>,
}

impl Store {
    /// Returns a lease that holds nothing yet.
    pub fn lease(&self) -> Lease {
        Lease { inner: Arc::new(Inner { store: self.clone(), held: Mutex::default() }) }
    }

    /// Keeps the snapshots of `chain` for `owner` until [`Store::unpin`], also across processes.
    ///
    /// False when one of them is gone; nothing is pinned then.
    pub fn pin(&self, owner: &str, chain: &[SnapshotId]) -> Result<bool> {
        self.meta().write(|tx| {
            if tx.missing_snapshot(chain)?.is_some() {
                return Ok(false);
            }
            chain.iter().try_for_each(|id| tx.pin(owner, *id))?;
            Ok(true)
        })
    }

    /// Ends what [`Store::pin`] began.
    pub fn unpin(&self, owner: &str) -> Result<()> {
        self.meta().write(|tx| tx.unpin(owner))
    }
}

impl Lease {
    /// Keeps `snapshots` alive; false when one of them is gone, which a caller treats as a cache miss.
    pub fn hold(&self, snapshots: &[SnapshotId]) -> Result<bool> {
        let new = |held: &Held| -> Vec<SnapshotId> {
            snapshots.iter().filter(|id| !held.snapshots.contains(id)).copied().collect()
        };
        let Some(new) = self.unless_empty(new) else { return Ok(true) };
        self.change(|tx, lease, held| {
            if tx.missing_snapshot(&new)?.is_some() {
                return Ok(false);
            }
            new.iter().try_for_each(|id| tx.lease_snapshot(lease, *id))?;
            held.snapshots.extend(&new);
            Ok(true)
        })
    }

    /// Keeps `blobs` alive; false when one of them is gone.
    pub fn hold_blobs(&self, blobs: &[Digest]) -> Result<bool> {
        let new = |held: &Held| -> Vec<Digest> {
            blobs.iter().filter(|digest| !held.blobs.contains(digest)).copied().collect()
        };
        let Some(new) = self.unless_empty(new) else { return Ok(true) };
        self.change(|tx, lease, held| {
            for digest in &new {
                let size = tx.blob_size(digest)?;
                if size.is_none() || self.inner.store.blob_file_size(digest)? != size {
                    return Ok(false);
                }
            }
            new.iter().try_for_each(|digest| tx.lease_blob(lease, digest))?;
            held.blobs.extend(&new);
            Ok(true)
        })
    }

    /// Runs a transaction in which `lease` already exists as a held file.
    pub(crate) fn write<T>(&self, change: impl FnOnce(&Tx<'_>, &str) -> Result<T>) -> Result<T> {
        self.change(|tx, lease, _| change(tx, lease))
    }

    fn unless_empty<T>(&self, new: impl FnOnce(&Held) -> Vec<T>) -> Option<Vec<T>> {
        let held = self.inner.held.lock().unwrap_or_else(PoisonError::into_inner);
        Some(new(&held)).filter(|new| !new.is_empty())
    }

    fn change<T>(&self, change: impl FnOnce(&Tx<'_>, &str, &mut Held) -> Result<T>) -> Result<T> {
        let store = &self.inner.store;
        let mut held = self.inner.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(claim) = &held.claim {
            let name = claim.name();
            return store.meta().write(|tx| change(tx, &name, &mut held));
        }
        store.sweep_leftovers(SWEEP_LIMIT)?;
        let name = held.claim.insert(Claim::new_file(&store.path("leases"))?).name();
        store.meta().write(|tx| {
            store.drop_dead_leases(tx, SWEEP_LIMIT)?;
            change(tx, &name, &mut held)
        })
    }
}

impl Store {
    /// Removes up to `limit` leftovers of processes that were killed: their leases' files and what they
    /// were making. Rows stay for the collector.
    pub(crate) fn sweep_leftovers(&self, limit: usize) -> Result<()> {
        for folder in ["leases", "tmp"] {
            let folder = self.path(folder);
            for entry in fs::read_dir(&folder).map_err(Error::io("read", &folder))?.take(limit) {
                let path = entry.map_err(Error::io("read", &folder))?.path();
                let Some(file) = abandoned(&path)? else { continue };
                if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
                    self.discard(&path)?;
                } else {
                    let _ = fs::remove_file(&path);
                }
            }
        }
        Ok(())
    }

    /// Forgets what processes needed that no longer run; looks at `limit` leases.
    pub(crate) fn drop_dead_leases(&self, tx: &Tx<'_>, limit: usize) -> Result<()> {
        for lease in tx.leases(limit)? {
            if !self.is_alive(&lease)? {
                tx.drop_lease(&lease)?;
            }
        }
        Ok(())
    }

    /// Returns whether the process of `lease` still runs.
    fn is_alive(&self, lease: &str) -> Result<bool> {
        let path = self.path("leases").join(lease);
        // An abandoned file is unlinked while its lock is held, so that nobody takes it for alive.
        match abandoned(&path)? {
            Some(_lock) => {
                let _ = fs::remove_file(&path);
                Ok(false)
            }
            None => Ok(path.exists()),
        }
    }
}
