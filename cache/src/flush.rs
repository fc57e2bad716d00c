//! Power loss: which snapshots are surely on the disk.
//!
//! A build doesn't wait for its files to reach the disk. Each snapshot's row names the boot of its
//! commit instead; [`Store::flush`], which a process calls that nobody waits for, brings all to the disk and
//! takes the mark away. A marked row of another boot stands for files that may be empty or
//! cut: it goes, and so do the records, images and pins that name it. They are pulled or built again.

use std::collections::HashSet;
use std::fs::File;

use crate::{Error, Result, SnapshotId, Store};

impl Store {
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
        self.empty_trash()
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
                    tx.drop_record(record)?;
                }
            }
            tx.drop_loose_records()?;
            for image in tx.images_with(|id| lost.contains(id))? {
                tx.drop_image(&image)?;
            }
            for id in lost {
                tx.drop_pins_on(id)?;
                tx.condemn_snapshot(id)?;
            }
            Ok(())
        })
    }
}
