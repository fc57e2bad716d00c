//! The collector: what nothing reaches goes.
//!
//! Roots are images (chain, config, manifest, their layers' blobs), build records, pins and the leases
//! of running processes. Builds go on meanwhile: what they find or make is leased in the transaction
//! that looks it up, and the collector condemns in one transaction that reads the leases again.

use std::collections::HashSet;
use std::fs::{self, OpenOptions};

use crate::meta::{Chain, Dying, Kind, Tx};
use crate::record::now;
use crate::store::{give_up_reserve, is_full, make_reserve};
use crate::{Error, Result, SnapshotId, Store};

/// Renames in one transaction: other writers wait for about a millisecond.
const BATCH: u32 = 64;

/// How many records stay known after their snapshots are gone, and for how long (60 days).
const COLLECTED_RECORDS: u32 = 20_000;
const COLLECTED_SECONDS: i64 = 60 * 24 * 3600;

/// What to collect beside what nothing reaches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sweep {
    /// Drop each build record whose chain isn't the beginning of an image's.
    pub records: bool,
    /// Remove the cache mounts that no step has.
    pub cache_mounts: bool,
}

/// What was collected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// The number of snapshots.
    pub snapshots: u64,
    /// The number of blobs.
    pub blobs: u64,
    /// The number of build records.
    pub records: u64,
    /// The names of the cache mounts, sorted.
    pub cache_mounts: Vec<String>,
    /// The bytes of the snapshots, blobs and cache mounts.
    pub bytes: u64,
}

impl Store {
    /// Frees the reserve when the disk is full: for verbs that remove, and have to write that down.
    ///
    /// [`Store::gc`] makes it again.
    pub fn make_room(&self) -> Result<()> {
        if is_full(self.root()) {
            give_up_reserve(self.root())?;
        }
        Ok(())
    }

    /// Removes what nothing reaches and what killed processes left, and waits for a collector that runs already.
    ///
    /// On a full disk the reserve is given up first, so that the deletion itself can be written.
    pub fn gc(&self, sweep: &Sweep) -> Result<Swept> {
        let path = self.path("gc.lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(Error::io("open", &path))?;
        lock.lock().map_err(Error::io("lock", &path))?;
        self.make_room()?;
        let records = match self.condemn(sweep) {
            Err(error) if error.is_disk_full() && give_up_reserve(self.root())? => self.condemn(sweep),
            other => other,
        }?;
        let mut swept = Swept { records, ..Swept::default() };
        while self.bury_some(&mut swept)? {}
        if sweep.cache_mounts {
            let (names, bytes) = self.remove_cache_mounts()?;
            swept.cache_mounts = names;
            swept.bytes += bytes;
        }
        self.sweep_leftovers(usize::MAX)?;
        self.discard_unknown(Kind::Snapshot)?;
        self.discard_unknown(Kind::Blob)?;
        self.drop_old_stat_caches()?;
        self.drop_stale_merged()?;
        self.drop_old_build_notes()?;
        self.empty_trash()?;
        self.meta().checkpoint()?;
        make_reserve(self.root())?;
        Ok(swept)
    }

    /// Marks what nothing reaches; the number of records that went.
    fn condemn(&self, sweep: &Sweep) -> Result<u64> {
        self.meta().write(|tx| {
            for lease in tx.leases(usize::MAX)? {
                if !self.is_alive(&lease) {
                    tx.drop_lease(&lease)?;
                }
            }
            let images: Vec<Chain> = tx.images()?.into_iter().map(|image| Chain(image.chain)).collect();
            let mut dropped = 0;
            if sweep.records {
                dropped += drop_unneeded_records(tx, &images)?;
            }
            tx.forget_collected(now() - COLLECTED_SECONDS, COLLECTED_RECORDS)?;
            dropped += tx.drop_loose_records()? as u64;
            let records = tx.record_chains()?.into_iter().map(|(_, chain)| chain);
            let mut needed: HashSet<SnapshotId> =
                images.into_iter().chain(records).flat_map(|chain| chain.0).collect();
            needed.extend(tx.pinned_snapshots()?);
            for id in tx.living_snapshots()? {
                if !needed.contains(&id) {
                    tx.condemn_snapshot(id)?;
                }
            }
            tx.drop_loose_layer_blobs()?;
            tx.condemn_blobs()?;
            Ok(dropped)
        })
    }

    /// Moves some of the condemned into the trash; false when none was left.
    fn bury_some(&self, swept: &mut Swept) -> Result<bool> {
        self.meta().write(|tx| {
            let dying = tx.dying(BATCH)?;
            for dead in &dying {
                self.discard_dead(dead)?;
                tx.bury(dead)?;
                match dead.kind {
                    Kind::Snapshot => swept.snapshots += 1,
                    Kind::Blob => swept.blobs += 1,
                }
                swept.bytes += dead.bytes;
            }
            Ok(!dying.is_empty())
        })
    }

    fn discard_dead(&self, dead: &Dying) -> Result<()> {
        self.discard(&self.path(folder(dead.kind)).join(&dead.name))?;
        if dead.kind == Kind::Snapshot {
            self.discard(&self.path("tmp").join(&dead.name))?;
        }
        Ok(())
    }

    /// Throws away files without a row. Rows come before files and go after them, so such a file is
    /// nobody's: a database that was restored or lost its last transactions in a power loss forgot it.
    fn discard_unknown(&self, kind: Kind) -> Result<()> {
        let folder = self.path(folder(kind));
        let entries = fs::read_dir(&folder).map_err(Error::io("read", &folder))?;
        let names: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
        let unknown = self.meta().read(|tx| {
            let mut unknown = Vec::new();
            for name in names {
                if !tx.knows(kind, &name.to_string_lossy())? {
                    unknown.push(name);
                }
            }
            Ok(unknown)
        })?;
        if unknown.is_empty() {
            return Ok(());
        }
        self.meta().write(|tx| {
            for name in unknown {
                if !tx.knows(kind, &name.to_string_lossy())? {
                    self.discard(&folder.join(name))?;
                }
            }
            Ok(())
        })
    }
}

/// Returns where the files of a kind are.
pub(crate) fn folder(kind: Kind) -> &'static str {
    match kind {
        Kind::Snapshot => "snapshots",
        Kind::Blob => "blobs/sha256",
    }
}

/// Collects the records whose chain isn't the beginning of an image's chain.
fn drop_unneeded_records(tx: &Tx<'_>, images: &[Chain]) -> Result<u64> {
    let beginnings: HashSet<&[SnapshotId]> =
        images.iter().flat_map(|chain| (0..=chain.0.len()).map(|end| &chain.0[..end])).collect();
    let mut dropped = 0;
    for (record, chain) in tx.record_chains()? {
        if !beginnings.contains(chain.0.as_slice()) {
            tx.collect_record(record, now())?;
            dropped += 1;
        }
    }
    Ok(dropped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Digest, Snapshot};

    /// The lease of a process that was killed: named by rows, and its file is gone.
    const DEAD: &str = "00000000000000dd";

    fn new_store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        (folder, store)
    }

    #[test]
    fn a_snapshot_renamed_but_not_ready_is_invisible_and_collected() {
        let (_folder, store) = new_store();
        let id = SnapshotId::fresh();
        store
            .meta()
            .write(|tx| {
                assert!(tx.stage_snapshot(id)? && !tx.stage_snapshot(id)?, "a name is used once");
                tx.lease_snapshot(DEAD, id)
            })
            .unwrap();
        fs::create_dir_all(store.snapshot_dir(&id)).unwrap();
        assert!(!store.lease().hold(&[id]).unwrap());
        assert_eq!(store.gc(&Sweep::default()).unwrap().snapshots, 1);
        assert!(!store.snapshot_dir(&id).exists());
    }

    #[test]
    fn a_blob_renamed_but_not_ready_is_invisible_and_finished_by_the_next_writer() {
        let (_folder, store) = new_store();
        let digest = Digest::of("blob");
        let stage = || {
            fs::write(store.blob_path(&digest), "blob").unwrap();
            store.meta().write(|tx| tx.stage_blob(&digest, 4).and(tx.lease_blob(DEAD, &digest))).unwrap();
        };
        stage();
        assert_eq!(store.blob_size(&digest).unwrap(), None);
        assert_eq!(store.gc(&Sweep::default()).unwrap().blobs, 1);
        assert!(!store.blob_path(&digest).exists());
        stage();
        let lease = store.lease();
        store.put_blob(b"blob", &lease).unwrap();
        store.gc(&Sweep::default()).unwrap();
        assert_eq!(store.read_blob(&digest).unwrap(), b"blob");
    }

    #[test]
    fn a_collector_killed_between_condemning_and_burying_is_completed() {
        let (_folder, store) = new_store();
        let lease = store.lease();
        let id = store.stage(&lease).unwrap().commit(Snapshot::default()).unwrap();
        let (kept, gone) =
            (store.put_blob(b"kept", &lease).unwrap(), store.put_blob(b"gone", &lease).unwrap());
        drop(lease);
        store.condemn(&Sweep::default()).unwrap();
        let lease = store.lease();
        assert!(
            !lease.hold(&[id]).unwrap() && !lease.hold_blobs(&[kept]).unwrap(),
            "the condemned aren't found"
        );
        store.put_blob(b"kept", &lease).unwrap();
        let swept = store.gc(&Sweep::default()).unwrap();
        assert_eq!((swept.snapshots, swept.blobs), (1, 1));
        assert_eq!(store.read_blob(&kept).unwrap(), b"kept", "it was born again under its name");
        assert!(!store.blob_path(&gone).exists());
    }

    #[test]
    fn a_collector_killed_while_burying_is_completed() {
        let (_folder, store) = new_store();
        let digest = store.put_blob(b"blob", &store.lease()).unwrap();
        store.condemn(&Sweep::default()).unwrap();
        store.discard(&store.blob_path(&digest)).unwrap();
        assert_eq!(store.gc(&Sweep::default()).unwrap().blobs, 1);
        assert_eq!(fs::read_dir(store.path("trash")).unwrap().count(), 0);
    }

    #[test]
    fn rows_of_dead_leases_go_with_the_next_first_write() {
        let (_folder, store) = new_store();
        for number in 0..5 {
            store.put_blob(&[number], &store.lease()).unwrap();
        }
        let leases = || store.meta().read(|tx| tx.leases(100)).unwrap().len();
        assert_eq!(leases(), 1);
        let lease = store.lease();
        store.put_blob(b"more", &lease).unwrap();
        assert_eq!(leases(), 1);
    }
}
