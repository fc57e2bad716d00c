//! The collector: what nothing reaches goes.
//!
//! Roots are images (chain, config, manifest, their layers' blobs), build records, pins and the leases
//! of running processes. Builds go on meanwhile: what they find or make is leased in the transaction
//! that looks it up. The collector reads all first, and then condemns in short transactions, each of which reads
//! again the leases, the images, the pins, and the records that were entered since. Pins are files, and are looked
//! at once more before the condemned are taken away: see `pin`.
//!
//! 1. `usage`: what is in the cache, thing by thing, with the bytes that each takes (`measure`, `space`).
//! 2. `policy`: which of it goes, in which order and why.
//! 3. Here: records are marked as collected, what nothing reaches any more is condemned, renamed into the trash
//!    and unlinked. Killed in between, the next collection goes on.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};

use crate::lock::try_lock;
use crate::meta::{Dying, Kind, Tx};
use crate::record::now;
use crate::store::{give_up_reserve, is_full, make_reserve};
use crate::{Error, Result, SnapshotId, Store};

mod measure;
mod policy;
mod space;
mod usage;

pub(crate) use measure::measure;
pub use policy::{Bounds, Doomed, Policy, Reason, Rule};
pub(crate) use space::{Room, Space};
pub(crate) use usage::short;
pub use usage::{Entry, Usage};

use policy::Figures;
use usage::What;

/// Renames in one transaction: other writers wait for about a millisecond.
const BATCH: u32 = 64;

/// Records that are marked in one transaction.
const RECORD_BATCH: usize = 64;

/// How often the choice is made anew when builds went on meanwhile.
const ROUNDS: usize = 3;

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
        let _alone = self.collect_alone()?;
        self.make_room()?;
        let mut swept = Swept { records: self.forget(sweep)?, ..Swept::default() };
        if sweep.cache_mounts {
            let (names, bytes) = self.remove_cache_mounts()?;
            swept.cache_mounts = names;
            swept.bytes += bytes;
        }
        self.collect(&mut swept)?;
        Ok(swept)
    }

    /// Tells what [`Store::prune`] would remove right now.
    pub fn plan(&self, rules: &[Rule<'_>]) -> Result<Vec<Doomed>> {
        Ok(policy::choose(self.usage()?, rules, self.free_bytes()?, now()))
    }

    /// Removes what `rules` choose, and what nothing reaches; waits for a collector that runs already.
    ///
    /// Gives the things that went, and the bytes that were freed in all.
    pub fn prune(&self, rules: &[Rule<'_>]) -> Result<(Vec<Doomed>, u64)> {
        let _alone = self.collect_alone()?;
        self.make_room()?;
        self.prune_alone(rules)
    }

    /// Keeps the cache within `policy`, unless another collector is at work. Next to nothing is done, and nothing
    /// written, while it is within.
    pub fn keep_within(&self, policy: &Policy) -> Result<()> {
        self.measure_snapshots()?;
        let Some(_alone) = self.try_collect_alone()? else { return Ok(()) };
        if policy.may_be_passed(&self.figures()?) {
            self.prune_alone(&policy.rules())?;
        }
        Ok(())
    }

    /// Returns the bounds that this store has on its disk when nobody says others.
    pub fn default_policy(&self) -> Result<Policy> {
        Ok(Policy::for_disk(self.disk_bytes()?))
    }

    /// Returns the size of the disk that holds the store.
    pub fn disk_bytes(&self) -> Result<u64> {
        let stat = self.disk()?;
        Ok(stat.f_blocks.saturating_mul(stat.f_frsize))
    }

    fn free_bytes(&self) -> Result<u64> {
        let stat = self.disk()?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn disk(&self) -> Result<rustix::fs::StatVfs> {
        rustix::fs::statvfs(self.root()).map_err(|errno| Error::io("examine", self.root())(errno.into()))
    }

    fn figures(&self) -> Result<Figures> {
        let (sums, now) = (self.meta().read(|tx| tx.sums())?, now());
        let mounts = self.cache_mount_uses()?;
        let mount_used = mounts.iter().map(|mount| mount.used).min();
        let unused_for =
            |used: [Option<i64>; 2]| used.into_iter().flatten().min().map_or(0, |used| now - used);
        Ok(Figures {
            bytes: sums.bytes + mounts.iter().map(|mount| mount.bytes).sum::<u64>(),
            free: self.free_bytes()?,
            unused_for: unused_for([sums.used, mount_used]),
            sources_unused_for: unused_for([sums.source_used, mount_used]),
        })
    }

    fn prune_alone(&self, rules: &[Rule<'_>]) -> Result<(Vec<Doomed>, u64)> {
        let (mut gone, mut swept) = (Vec::new(), Swept::default());
        // What others threw away takes room as well.
        self.empty_trash()?;
        for round in 0..ROUNDS {
            let doomed = self.plan(rules)?;
            if round > 0 && doomed.is_empty() {
                break;
            }
            for some in doomed.chunks(RECORD_BATCH) {
                self.drop_doomed(some, &mut gone, &mut swept)?;
            }
            self.collect(&mut swept)?;
            if !rules.iter().any(|rule| rule.bounds.any()) {
                break;
            }
        }
        Ok((gone, swept.bytes))
    }

    fn drop_doomed(&self, doomed: &[Doomed], gone: &mut Vec<Doomed>, swept: &mut Swept) -> Result<()> {
        let now = now();
        self.meta().write(|tx| {
            doomed.iter().try_for_each(|one| match one.entry.what {
                What::Record(row) => tx.collect_record(row, now),
                What::Mount(_) | What::Layer => Ok(()),
            })
        })?;
        for one in doomed {
            if let What::Mount(folder) = &one.entry.what {
                if !self.remove_cache_mount(folder)? {
                    // A step was quicker.
                    continue;
                }
                swept.bytes += one.entry.bytes;
            }
            gone.push(one.clone());
        }
        Ok(())
    }

    /// Waits until no other collector is at work.
    fn collect_alone(&self) -> Result<File> {
        let lock = self.open_collector_lock()?;
        lock.lock().map_err(Error::io("lock", &self.path("gc.lock")))?;
        Ok(lock)
    }

    /// `None` while another collector is at work.
    fn try_collect_alone(&self) -> Result<Option<File>> {
        let lock = self.open_collector_lock()?;
        let free = try_lock(&lock).map_err(Error::io("lock", &self.path("gc.lock")))?;
        Ok(free.then_some(lock))
    }

    fn open_collector_lock(&self) -> Result<File> {
        let path = self.path("gc.lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        lock.map_err(Error::io("open", &path))
    }

    /// Removes what nothing reaches, and tidies up.
    fn collect(&self, swept: &mut Swept) -> Result<()> {
        match self.condemn() {
            Err(error) if error.is_disk_full() && give_up_reserve(self.root())? => self.condemn(),
            other => other,
        }?;
        while self.bury_some(swept)? {}
        self.sweep_leftovers(usize::MAX)?;
        self.sweep_pins()?;
        self.discard_unknown(Kind::Snapshot)?;
        self.discard_unknown(Kind::Blob)?;
        self.drop_old_stat_caches()?;
        self.drop_stale_merged()?;
        self.drop_old_build_notes()?;
        self.empty_trash()?;
        self.meta().checkpoint()?;
        make_reserve(self.root())
    }

    /// Forgets records: those that `sweep` asks for, whose number it returns with that of those that nothing leads
    /// to, and those that were collected long ago.
    fn forget(&self, sweep: &Sweep) -> Result<u64> {
        let mut dropped = 0;
        if sweep.records {
            let unneeded = self.meta().read(unneeded_records)?;
            for some in unneeded.chunks(RECORD_BATCH) {
                self.meta().write(|tx| some.iter().try_for_each(|row| tx.collect_record(*row, now())))?;
            }
            dropped += unneeded.len() as u64;
        }
        if self.meta().read(|tx| tx.has_loose_records())? {
            dropped += self.meta().write(|tx| tx.drop_loose_records())? as u64;
        }
        Ok(dropped)
    }

    /// Marks what nothing reaches.
    ///
    /// All is read first, while builds go on; the short changes after it look again at what came since.
    fn condemn(&self) -> Result<()> {
        let leases = self.meta().read(|tx| tx.leases(usize::MAX))?;
        let dead: Vec<String> = leases.into_iter().filter(|lease| !self.is_alive(lease)).collect();
        if !dead.is_empty() {
            self.meta().write(|tx| dead.iter().try_for_each(|lease| tx.drop_lease(lease)))?;
        }
        let (unreached, newest, old) = self.meta().read(|tx| {
            let needed = self.needed(tx, 0)?;
            let mut unreached = tx.living_snapshots()?;
            unreached.retain(|id| !needed.contains(id));
            let old = tx.old_collected(now() - COLLECTED_SECONDS, COLLECTED_RECORDS)?;
            Ok((unreached, tx.newest_record()?, old))
        })?;
        for some in old.chunks(RECORD_BATCH) {
            self.meta().write(|tx| some.iter().try_for_each(|row| tx.drop_record(*row)))?;
        }
        for some in unreached.chunks(BATCH as usize) {
            self.meta().write(|tx| {
                let needed = self.needed(tx, newest)?;
                let mut some = some.iter().filter(|id| !needed.contains(id));
                some.try_for_each(|id| tx.condemn_snapshot(*id))
            })?;
        }
        self.meta().write(|tx| {
            tx.drop_loose_layer_blobs()?;
            tx.condemn_blobs()
        })
    }

    /// The snapshots that something needs; of the records, those that were entered after the row number `after`.
    fn needed(&self, tx: &Tx<'_>, after: i64) -> Result<HashSet<SnapshotId>> {
        let images = tx.images()?.into_iter().map(|image| image.chain);
        let records = tx.record_chains_after(after)?.into_iter().map(|(_, chain)| chain.0);
        let mut needed = self.pinned_snapshots()?;
        needed.extend(images.chain(records).flatten());
        needed.extend(tx.held_snapshots()?);
        Ok(needed)
    }

    /// Moves some of the condemned into the trash, and spares those that were pinned before they were condemned;
    /// false when none was left.
    fn bury_some(&self, swept: &mut Swept) -> Result<bool> {
        self.meta().write(|tx| {
            let dying = tx.dying(BATCH)?;
            if dying.is_empty() {
                return Ok(false);
            }
            let pinned = self.pinned_snapshots()?;
            for dead in &dying {
                if let Some(id) = dead.snapshot().filter(|id| pinned.contains(id))
                    && tx.spare_snapshot(id, self.boot())?
                {
                    continue;
                }
                self.discard_dead(dead)?;
                swept.bytes += tx.bury(dead)?;
                match dead.kind {
                    Kind::Snapshot => swept.snapshots += 1,
                    Kind::Blob => swept.blobs += 1,
                }
            }
            Ok(true)
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

/// The records whose chain isn't the beginning of an image's chain.
fn unneeded_records(tx: &Tx<'_>) -> Result<Vec<i64>> {
    let images: Vec<Vec<SnapshotId>> = tx.images()?.into_iter().map(|image| image.chain).collect();
    let beginnings: HashSet<&[SnapshotId]> =
        images.iter().flat_map(|chain| (0..=chain.len()).map(|end| &chain[..end])).collect();
    let unneeded = tx.record_chains()?.into_iter().filter(|(_, chain)| !beginnings.contains(&chain.0[..]));
    Ok(unneeded.map(|(row, _)| row).collect())
}

#[cfg(test)]
mod bound_tests;
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
    fn a_snapshot_renamed_by_a_transaction_that_never_ended_is_invisible_and_collected() {
        let (_folder, store) = new_store();
        let id = SnapshotId::fresh();
        fs::create_dir_all(store.snapshot_dir(&id)).unwrap();
        assert!(!store.lease().hold(&[id]).unwrap());
        store.gc(&Sweep::default()).unwrap();
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
        store.condemn().unwrap();
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
        store.condemn().unwrap();
        store.discard(&store.blob_path(&digest)).unwrap();
        assert_eq!(store.gc(&Sweep::default()).unwrap().blobs, 1);
        assert_eq!(fs::read_dir(store.path("trash")).unwrap().count(), 0);
    }

    #[test]
    fn who_pins_before_the_condemning_is_committed_is_seen_by_the_burying() {
        let (_folder, store) = new_store();
        let lease = store.lease();
        let [pinned, free] =
            [(); 2].map(|()| store.stage(&lease).unwrap().commit(Snapshot::default()).unwrap());
        drop(lease);
        let condemn = |tx: &Tx<'_>| {
            assert!(store.pinned_snapshots()?.is_empty(), "the collector has looked");
            assert!(store.pin("container:a", &[pinned])?, "it is ready as yet");
            tx.condemn_snapshot(pinned).and(tx.condemn_snapshot(free))
        };
        store.meta().write(condemn).unwrap();
        let mut swept = Swept::default();
        while store.bury_some(&mut swept).unwrap() {}
        assert_eq!(swept.snapshots, 1);
        assert!(store.lease().hold(&[pinned]).unwrap() && !store.lease().hold(&[free]).unwrap());
        assert!(store.snapshot_dir(&pinned).exists() && !store.snapshot_dir(&free).exists());
        assert!(store.needs_flush().unwrap(), "it wasn't flushed before either");
    }

    #[test]
    fn who_pins_after_the_condemning_is_told_that_it_is_gone() {
        let (_folder, store) = new_store();
        let id = store.stage(&store.lease()).unwrap().commit(Snapshot::default()).unwrap();
        store.condemn().unwrap();
        assert!(!store.pin("container:a", &[id]).unwrap());
        assert_eq!(store.gc(&Sweep::default()).unwrap().snapshots, 1);
        assert!(!store.snapshot_dir(&id).exists() && !store.pin("container:a", &[id]).unwrap());
    }

    #[test]
    fn many_are_spared_in_one_collection_but_none_that_a_power_loss_took() {
        let (_folder, store) = new_store();
        let lease = store.lease();
        let commit = || store.stage(&lease).unwrap().commit(Snapshot::default()).unwrap();
        let pinned: Vec<SnapshotId> = (0..2 * BATCH).map(|_| commit()).collect();
        let lost = commit();
        let condemn = |tx: &Tx<'_>| {
            assert!(store.pin("container:a", &pinned)? && store.pin("container:b", &[lost])?);
            tx.finish_snapshot(lost, &Snapshot::default(), "another boot")?;
            pinned.iter().chain([&lost]).try_for_each(|id| tx.condemn_snapshot(*id))
        };
        store.meta().write(condemn).unwrap();
        let mut swept = Swept::default();
        while store.bury_some(&mut swept).unwrap() {}
        assert_eq!(swept.snapshots, 1);
        assert!(store.lease().hold(&pinned).unwrap() && !store.snapshot_dir(&lost).exists());
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
