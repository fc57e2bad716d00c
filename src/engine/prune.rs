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
        let mut images = Vec::new();
        if request.images {
            let used: BTreeSet<_> = self.image_uses()?.into_iter().map(|user| user.image).collect();
            images = unneeded(store, request.all)?;
            images.retain(|image| !used.contains(&image.id));
        }
        let (removed, swept) = image::forget(store, &images, &Sweep { records: request.cache })?;
        report.images = removed;
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
