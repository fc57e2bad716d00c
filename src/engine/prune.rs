//! `kiln prune` and its relatives.

use std::collections::BTreeSet;

use kiln_cache::{Image, Store, Sweep};

use super::Engine;
use super::containers::failure;
use crate::api::{Failure, FailureKind, PruneReport, PruneRequest};
use crate::image;
use crate::network::Networks;

impl Engine {
    /// Removes what nothing needs and tells how much that freed.
    pub fn prune(&self, request: &PruneRequest) -> Result<PruneReport, Failure> {
        let mut report = PruneReport::default();
        let store = self.store_to_shrink()?;
        if request.containers {
            report.containers = self.prune_containers()?;
            self.containers().sweep(store).map_err(failure)?;
            // A bridge that nothing is connected to is made again when it is needed.
            let unused = Networks::new(&store.root().join("networks")).remove_unused();
            unused.map_err(|error| Failure::from_error(FailureKind::System, &error))?;
        }
        let mut images = Vec::new();
        if request.images {
            let used: BTreeSet<_> = self.image_uses()?.into_iter().map(|user| user.image).collect();
            images = unneeded(store, request.all)?;
            images.retain(|image| !used.contains(&image.id));
        }
        let sweep = Sweep { records: request.cache, cache_mounts: request.cache };
        let (removed, swept) = image::forget(store, &images, &sweep)?;
        report.images = removed;
        report.records = swept.records;
        report.cache_mounts = swept.cache_mounts;
        report.bytes = swept.bytes;
        Ok(report)
    }

    /// Removes every container that doesn't run; returns their ids.
    fn prune_containers(&self) -> Result<Vec<String>, Failure> {
        let mut removed = Vec::new();
        for container in self.ps(true)?.into_iter().filter(|known| !known.state.is_alive()) {
            match self.rm(&container.id, false, false) {
                Ok(()) => removed.push(container.id),
                // Started or removed by somebody else meanwhile.
                Err(failure) if matches!(failure.kind, FailureKind::Conflict | FailureKind::NotFound) => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(removed)
    }
}

/// Dangling images, or all of them; the caller leaves out those in use.
fn unneeded(store: &Store, all: bool) -> Result<Vec<Image>, Failure> {
    let mut images = store.images().map_err(image::Error::from)?;
    images.retain(|image| all || image.names.is_empty());
    Ok(images)
}
