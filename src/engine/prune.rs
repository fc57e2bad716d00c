//! `kiln prune` and its relatives.

use std::collections::BTreeSet;

use kiln_cache::{Image, Store, Sweep};

use super::Engine;
use crate::api::{Failure, PruneReport, PruneRequest};
use crate::image;

impl Engine {
    /// Removes what nothing needs and tells how much that freed.
    pub fn prune(&self, request: &PruneRequest) -> Result<PruneReport, Failure> {
        let mut report = PruneReport::default();
        let store = self.store()?;
        if request.images {
            let used: BTreeSet<_> = self.image_uses()?.into_iter().map(|user| user.image).collect();
            for found in unneeded(store, request.all)? {
                if !used.contains(&found.id) {
                    report.images.extend(image::forget(store, &found)?);
                }
            }
        }
        let swept = store.gc(&Sweep { records: request.cache }).map_err(image::Error::from)?;
        report.records = swept.records;
        report.bytes = swept.bytes;
        Ok(report)
    }
}

/// Dangling images, or all of them; the caller leaves out those in use.
fn unneeded(store: &Store, all: bool) -> Result<Vec<Image>, Failure> {
    let mut images = store.images().map_err(image::Error::from)?;
    images.retain(|image| all || image.names.is_empty());
    Ok(images)
}
