//! How much room files take on the disk.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::flush::patiently;
use crate::{Result, SnapshotId, Store};

/// Unit of a file's block count, whatever the filesystem's own blocks are.
const BLOCK_BYTES: u64 = 512;

/// Snapshots whose room is noted in one transaction.
const BATCH: usize = 64;

/// Returns the bytes on the disk of `folder` and all below it, a file with several names counted once; what
/// changes meanwhile is counted as it is met.
pub(crate) fn measure(folder: &Path) -> u64 {
    let mut bytes = fs::symlink_metadata(folder).map_or(0, |metadata| metadata.blocks() * BLOCK_BYTES);
    let mut seen = HashSet::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                pending.push(entry.path());
            } else if metadata.nlink() > 1 && !seen.insert((metadata.dev(), metadata.ino())) {
                continue;
            }
            bytes += metadata.blocks() * BLOCK_BYTES;
        }
    }
    bytes
}

impl Store {
    /// Measures the snapshots that nobody has measured yet. It is done once for each, where nobody waits or where
    /// somebody asks.
    pub(crate) fn measure_snapshots(&self) -> Result<()> {
        let unmeasured: Vec<SnapshotId> = self.meta().read(|tx| tx.unmeasured())?;
        for some in unmeasured.chunks(BATCH) {
            let room = |id: &SnapshotId| (*id, measure(&self.path("snapshots").join(id.to_string())));
            let measured: Vec<(SnapshotId, u64)> = patiently(|| some.iter().map(room).collect());
            self.meta().write(|tx| measured.iter().try_for_each(|(id, bytes)| tx.set_disk(*id, *bytes)))?;
        }
        Ok(())
    }
}
