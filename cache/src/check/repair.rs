//! Dropping what is damaged, with all that stands on it.

use std::collections::HashSet;

use super::{Fault, Severity, Subject};
use crate::meta::Tx;
use crate::{Digest, Result, SnapshotId, Store, Sweep, Swept};

/// What a repair took away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repaired {
    /// The images, each with its names.
    pub images: Vec<(String, Vec<String>)>,
    /// The number of build records.
    pub records: u64,
    /// Names that led to no image.
    pub names: u64,
    /// What the collector took.
    pub swept: Swept,
}

/// What is damaged.
#[derive(Default)]
struct Lost {
    snapshots: HashSet<SnapshotId>,
    blobs: HashSet<Digest>,
    records: HashSet<i64>,
    images: HashSet<String>,
}

impl Lost {
    fn of(faults: &[Fault]) -> Self {
        let mut lost = Self::default();
        for fault in faults.iter().filter(|fault| fault.severity == Severity::Damage) {
            match &fault.subject {
                Subject::Snapshot(id) => drop(lost.snapshots.insert(*id)),
                Subject::Blob(digest) => drop(lost.blobs.insert(*digest)),
                Subject::Record(row) => drop(lost.records.insert(*row)),
                Subject::Image(id) => drop(lost.images.insert(id.clone())),
                _ => {}
            }
        }
        lost
    }
}

impl Store {
    /// Drops what `faults` call damaged, with the records and images that stand on it, and collects.
    ///
    /// What a container stands on stays until the container goes. Indexes of a damaged database are made anew.
    pub fn repair(&self, faults: &[Fault]) -> Result<Repaired> {
        let lost = Lost::of(faults);
        let mut repaired = Repaired::default();
        if faults.iter().any(|fault| fault.subject == Subject::Database) {
            self.meta().write(|tx| tx.reindex())?;
        }
        self.meta().write(|tx| {
            drop_images(tx, &lost, &mut repaired)?;
            for (row, chain) in tx.record_chains()? {
                if lost.records.contains(&row) || chain.0.iter().any(|id| lost.snapshots.contains(id)) {
                    tx.drop_record(row)?;
                    repaired.records += 1;
                }
            }
            for blob in &lost.blobs {
                tx.drop_packed_layer(blob)?;
                tx.drop_manifest(blob)?;
                tx.retire_blob(blob)?;
            }
            lost.snapshots.iter().try_for_each(|id| tx.forget_diff(*id))?;
            repaired.names = tx.drop_loose_names()? as u64;
            Ok(())
        })?;
        for fault in faults {
            match &fault.subject {
                Subject::Merged(name) => self.discard(&self.path("merged").join(name))?,
                Subject::CacheMount(name) => self.discard(&self.path("cache-mounts").join(name))?,
                Subject::Place("stat") => self.drop_odd_stat_caches()?,
                // A blob that isn't there is no packed form of any layer.
                Subject::Blob(blob) => self.meta().write(|tx| tx.drop_packed_layer(blob))?,
                _ => {}
            }
        }
        repaired.swept = self.gc(&Sweep::default())?;
        Ok(repaired)
    }
}

fn drop_images(tx: &Tx<'_>, lost: &Lost, repaired: &mut Repaired) -> Result<()> {
    for image in tx.raw_images()? {
        let stands_on_lost = image
            .chain
            .split_whitespace()
            .any(|id| id.parse().is_ok_and(|id: SnapshotId| lost.snapshots.contains(&id)));
        let digest = format!("sha256:{}", image.id).parse::<Digest>();
        let has_lost_config = digest.as_ref().is_ok_and(|digest| lost.blobs.contains(digest));
        if !stands_on_lost && !has_lost_config && !lost.images.contains(&image.id) {
            continue;
        }
        let mut names = Vec::new();
        match digest {
            Ok(digest) => {
                names = [tx.names(&digest)?, tx.repo_digests(&digest)?].concat();
                tx.drop_image(&digest)?;
            }
            Err(_) => drop(tx.drop_raw_image(&image.id)?),
        }
        repaired.images.push((image.id, names));
    }
    Ok(())
}
