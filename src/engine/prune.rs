//! `kiln prune` and its relatives.

use std::collections::BTreeSet;

use kiln_cache::{Image, Store, Sweep};

use super::Engine;
use super::containers::failure;
use crate::api::{Failure, FailureKind, PruneFilter, PruneReport, PruneRequest, VolumePruneRequest};
use crate::image;
use crate::network::Networks;

impl Engine {
    /// Removes what nothing needs and tells how much that freed.
    pub fn prune(&self, request: &PruneRequest) -> Result<PruneReport, Failure> {
        let mut report = PruneReport::default();
        let store = self.store_to_shrink()?;
        if request.containers {
            self.prune_containers(&request.filter, &mut report)?;
            self.containers().sweep(store).map_err(failure)?;
            // A bridge that nothing is connected to is made again when it is needed.
            let unused = Networks::new(&store.root().join("networks")).remove_unused();
            unused.map_err(|error| Failure::from_error(FailureKind::System, &error))?;
        }
        if request.volumes {
            let request = VolumePruneRequest { all: false, filter: request.filter.clone() };
            let removed = self.prune_volumes(&request)?;
            report.bytes += removed.bytes;
            report.volumes = removed.volumes;
        }
        let mut images = Vec::new();
        if request.images {
            let used: BTreeSet<_> = self.image_uses()?.into_iter().map(|user| user.image).collect();
            images = unneeded(store, request)?;
            images.retain(|image| !used.contains(&image.id));
        }
        let sweep = Sweep { records: request.cache, cache_mounts: request.cache };
        let (removed, swept) = image::forget(store, &images, &sweep)?;
        report.images = removed;
        report.records = swept.records;
        report.cache_mounts = swept.cache_mounts;
        report.bytes += swept.bytes;
        Ok(report)
    }

    /// Removes every container that doesn't run and that `filter` takes.
    fn prune_containers(&self, filter: &PruneFilter, report: &mut PruneReport) -> Result<(), Failure> {
        let unused = self.ps(true)?.into_iter().filter(|known| !known.state.is_alive());
        for container in unused.filter(|known| filter.takes(known.created, &known.labels)) {
            let size = self.container_size(&container.id, &container.image_id)?;
            match self.rm(&container.id, false, false) {
                Ok(()) => {
                    report.containers.push(container.id);
                    report.bytes += size.written;
                }
                // Started or removed by somebody else meanwhile.
                Err(failure) if matches!(failure.kind, FailureKind::Conflict | FailureKind::NotFound) => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }
}

/// Dangling images, or all of them, that the filter takes; the caller leaves out those in use.
fn unneeded(store: &Store, request: &PruneRequest) -> Result<Vec<Image>, Failure> {
    let mut images = store.images().map_err(image::Error::from)?;
    images.retain(|image| request.all || image.names.is_empty());
    let filter = &request.filter;
    images.retain(|image| {
        let created = image.created.saturating_mul(1_000_000_000);
        // The labels are in the config, which is read when they matter.
        match filter.labels.is_empty() && filter.not_labels.is_empty() {
            true => filter.takes(created, &Default::default()),
            // An image that another process removes meanwhile is none.
            false => {
                image::config(store, image).is_ok_and(|config| filter.takes(created, &config.config.labels))
            }
        }
    });
    Ok(images)
}
