//! Power loss: which snapshots are surely on the disk.
//!
//! A build doesn't wait for its files to reach the disk. Each snapshot's row names the boot of its
//! commit instead; [`Store::flush`], which a process calls that nobody waits for, brings all to the disk and
//! takes the mark away. A marked row of another boot stands for files that may be empty or
//! cut: it goes, and so do the records, images and pins that name it. They are pulled or built again.

use std::collections::HashSet;
use std::fs::File;

use crate::record::now;
use crate::{Error, Result, SnapshotId, Store};

/// How much of its priority a thread gives up for work that nobody waits for.
const PATIENCE: i32 = 10;

/// Does `work` on a thread of low priority: what runs comes first. Changes of the database have no place in it: they
/// keep the priority of those who wait for its lock.
pub(crate) fn patiently<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let work = || {
        let _ = rustix::process::nice(PATIENCE);
        work()
    };
    std::thread::scope(|scope| scope.spawn(work).join())
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

impl Store {
    /// Returns whether [`Store::flush`] has something to bring to the disk, or to throw away, or makes the next start of
    /// a kiln faster.
    pub fn needs_flush(&self) -> Result<bool> {
        Ok(self.has_trash()
            || self.meta().has_long_log()
            || !self.meta().read(|tx| tx.unflushed(self.boot()))?.is_empty())
    }

    /// Brings all snapshots that were committed before the call to the disk, and tidies up.
    ///
    /// This flushes a whole filesystem and may take seconds: call it where nobody waits.
    pub fn flush(&self) -> Result<()> {
        let written = self.meta().read(|tx| tx.unflushed(self.boot()))?;
        if !written.is_empty() {
            let root = File::open(self.root()).map_err(Error::io("open", self.root()))?;
            rustix::fs::syncfs(&root).map_err(|errno| Error::io("flush", self.root())(errno.into()))?;
            self.meta().write(|tx| written.iter().try_for_each(|id| tx.set_flushed(*id)))?;
        }
        self.meta().checkpoint()?;
        patiently(|| self.empty_trash())
    }

    /// Like [`Store::flush`], for processes that many builds leave behind: one flushes, one waits for its turn
    /// and covers all that was committed meanwhile, any further one returns at once.
    pub fn flush_in_turn(&self) -> Result<()> {
        let open = |name: &str| {
            let path = self.path(name);
            let file = File::options().write(true).create(true).truncate(false).open(&path);
            file.map_err(Error::io("open", &path))
        };
        let (next, turn) = (open("flush.next")?, open("flush.lock")?);
        if next.try_lock().is_err() {
            return Ok(());
        }
        turn.lock().map_err(Error::io("lock", &self.path("flush.lock")))?;
        drop(next);
        self.flush()
    }

    /// Drops the snapshots that another boot left unflushed, with all that names them.
    pub(crate) fn drop_lost_snapshots(&self) -> Result<()> {
        if !self.meta().read(|tx| tx.has_lost(self.boot()))? {
            return Ok(());
        }
        self.meta().write(|tx| {
            let lost: HashSet<SnapshotId> = tx.lost(self.boot())?.into_iter().collect();
            for (record, chain) in tx.record_chains()? {
                if chain.0.iter().any(|id| lost.contains(id)) {
                    tx.collect_record(record, now())?;
                }
            }
            tx.drop_loose_records()?;
            for image in tx.images_with(|id| lost.contains(id))? {
                tx.drop_image(&image)?;
            }
            self.drop_pins_on(&lost)?;
            lost.into_iter().try_for_each(|id| tx.condemn_snapshot(id))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Digest, Label, NewImage, Record, Snapshot, Sweep};

    const KEY: &[u8] = b"key";

    fn open(folder: &tempfile::TempDir, boot: &str) -> Store {
        Store::open_in_boot(&folder.path().join("store"), boot.to_owned()).unwrap()
    }

    /// Commits a snapshot with a record, an image with a name, and a pin on it.
    fn build(store: &Store, name: &str, base: &[SnapshotId]) -> SnapshotId {
        let lease = store.lease();
        let id = store.stage(&lease).unwrap().commit(Snapshot::default()).unwrap();
        let chain = [base, &[id]].concat();
        let record = Record { result: Digest::of(name), chain: chain.clone(), created: 0, parts: vec![] };
        store.put_record(&[Digest::of([KEY, name.as_bytes()].concat())], &record, &Label::default()).unwrap();
        let config = store.put_blob(name.as_bytes(), &lease).unwrap();
        store.put_image(&NewImage { id: config, manifest: None, chain, size: 0, created: 0 }).unwrap();
        store.tag(name, &config).unwrap();
        store.pin(name, &[id]).unwrap();
        id
    }

    fn is_found(store: &Store, name: &str) -> (bool, bool) {
        let record = store.record(&Digest::of([KEY, name.as_bytes()].concat())).unwrap();
        (record.is_some(), store.image_by_name(name).unwrap().is_some())
    }

    #[test]
    fn after_a_power_loss_unflushed_snapshots_go_with_all_that_names_them() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder, "monday");
        assert!(!store.needs_flush().unwrap());
        let base = build(&store, "base", &[]);
        assert!(store.needs_flush().unwrap());
        store.flush().unwrap();
        assert!(!store.needs_flush().unwrap());
        let top = build(&store, "top", &[base]);
        drop(store);
        let store = open(&folder, "tuesday");
        assert_eq!(is_found(&store, "base"), (true, true));
        assert_eq!(is_found(&store, "top"), (false, false));
        assert!(!store.lease().hold(&[top]).unwrap() && store.lease().hold(&[base]).unwrap());
        let pins: Vec<String> = store.check_pins().unwrap().into_iter().map(|(owner, _)| owner).collect();
        assert_eq!(pins, ["base"]);
        let swept = store.gc(&Sweep::default()).unwrap();
        assert_eq!((swept.snapshots, swept.blobs), (1, 1));
        assert!(!store.snapshot_dir(&top).exists() && store.snapshot_dir(&base).exists());
    }

    #[test]
    fn an_image_on_a_lost_base_goes_although_its_own_layer_was_flushed() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder, "monday");
        let base = build(&store, "base", &[]);
        build(&store, "top", &[base]);
        store.flush().unwrap();
        store.meta().write(|tx| tx.finish_snapshot(base, &Snapshot::default(), "monday")).unwrap();
        drop(store);
        let store = open(&folder, "tuesday");
        assert_eq!((is_found(&store, "base"), is_found(&store, "top")), ((false, false), (false, false)));
    }

    #[test]
    fn a_log_that_grew_long_is_cut_by_a_flush() {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder, "monday");
        let enter =
            |number: u32| store.meta().write(|tx| tx.lease_blob("lease", &Digest::of(number.to_string())));
        (0..100).try_for_each(enter).unwrap();
        assert!(store.needs_flush().unwrap());
        store.flush().unwrap();
        assert!(!store.needs_flush().unwrap());
    }

    #[test]
    fn in_the_same_boot_nothing_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        build(&open(&folder, "monday"), "image", &[]);
        assert_eq!(is_found(&open(&folder, "monday"), "image"), (true, true));
    }
}
