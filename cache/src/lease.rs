//! Leases: what a running process needs stays until the process ends.
//!
//! A lease is a file in `leases/` that its process holds by flock, and rows that say what it needs.
//! The file appears with the first thing that is held, so that a build that finds all in the cache
//! writes nothing. Rows of a lease whose file is free or gone count for nothing.

use std::collections::HashSet;
use std::fs;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
}

impl Lease {
    /// Keeps `snapshots` alive; false when one of them is gone, which a caller treats as a cache miss.
    pub fn hold(&self, snapshots: &[SnapshotId]) -> Result<bool> {
        let mut new = snapshots.to_vec();
        new.retain(|id| !self.held().snapshots.contains(id));
        if new.is_empty() {
            return Ok(true);
        }
        let are_there = self.write(|tx, lease| {
            let are_there = tx.missing_snapshot(&new)?.is_none();
            if are_there {
                new.iter().try_for_each(|id| tx.lease_snapshot(lease, *id))?;
            }
            Ok(are_there)
        })?;
        if are_there {
            self.held().snapshots.extend(new);
        }
        Ok(are_there)
    }

    /// Keeps `blobs` alive; false when one of them is gone, cut or was retired.
    pub fn hold_blobs(&self, blobs: &[Digest]) -> Result<bool> {
        for digest in blobs {
            if self.inner.store.blob_size(digest)?.is_none() {
                return Ok(false);
            }
        }
        let mut new = blobs.to_vec();
        new.retain(|digest| !self.held().blobs.contains(digest));
        if new.is_empty() {
            return Ok(true);
        }
        let are_there = self.write(|tx, lease| {
            for digest in &new {
                if tx.blob_size(digest)?.is_none() {
                    return Ok(false);
                }
                tx.lease_blob(lease, digest)?;
            }
            Ok(true)
        })?;
        if are_there {
            self.held().blobs.extend(new);
        }
        Ok(are_there)
    }

    /// Enters a snapshot by `change`, in a transaction that keeps it alive from its first moment on.
    pub(crate) fn write_snapshot(
        &self,
        id: SnapshotId,
        change: impl FnOnce(&Tx<'_>) -> Result<()>,
    ) -> Result<()> {
        self.write(|tx, lease| {
            change(tx)?;
            tx.lease_snapshot(lease, id)
        })?;
        self.held().snapshots.insert(id);
        Ok(())
    }

    /// Runs a transaction that names this lease, whose file exists and is held by then.
    pub(crate) fn write<T>(&self, change: impl FnOnce(&Tx<'_>, &str) -> Result<T>) -> Result<T> {
        let name = self.name()?;
        self.inner.store.meta().write(|tx| change(tx, &name))
    }

    /// Returns the name of the lease's file, and makes it first.
    fn name(&self) -> Result<String> {
        let store = &self.inner.store;
        let mut held = self.held();
        if let Some(claim) = &held.claim {
            return Ok(claim.name());
        }
        store.sweep_leftovers(SWEEP_LIMIT)?;
        Ok(held.claim.insert(Claim::new_file(&store.path("leases"))?).name())
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.inner.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Removes what processes left that were killed: their leases and what they were making. Of each it looks
    /// at up to `limit`; rows of what they were making stay for the collector.
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
        let mut dead = self.meta().read(|tx| tx.leases(limit))?;
        dead.retain(|lease| !self.is_alive(lease));
        if dead.is_empty() {
            return Ok(());
        }
        self.meta().write(|tx| dead.iter().try_for_each(|lease| tx.drop_lease(lease)))
    }

    /// Returns whether the process of `lease` still runs.
    pub(crate) fn is_alive(&self, lease: &str) -> bool {
        let path = self.path("leases").join(lease);
        path.exists() && !matches!(abandoned(&path), Ok(Some(_)))
    }
}
