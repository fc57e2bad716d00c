//! `kiln ps`.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::api::{ContainerInfo, ContainerSize, ContainerState, Failure};
use crate::container::Record;
use crate::image;

use super::Engine;
use super::inspect_container::network_names;

impl Engine {
    /// Lists the running containers, or all of them, the newest first.
    pub fn ps(&self, all: bool) -> Result<Vec<ContainerInfo>, Failure> {
        self.reap_networks();
        let mut records = self.all_containers()?;
        records.retain(|record| all || record.state.status.is_alive());
        Ok(records.into_iter().map(|record| self.info(record)).collect())
    }

    /// Lists all containers that can be read, the newest first, and says what is wrong with the others.
    pub fn survey(&self) -> Result<(Vec<ContainerInfo>, Vec<Failure>), Failure> {
        self.reap_networks();
        let (records, damaged) = self.surveyed()?;
        Ok((records.into_iter().map(|record| self.info(record)).collect(), damaged))
    }

    /// Measures a container; an image that is gone counts nothing.
    pub fn container_size(&self, id: &str, image_id: &str) -> Result<ContainerSize, Failure> {
        let store = self.store()?;
        let image = match image_id.parse() {
            Ok(id) => store.image(&id).map_err(image::Error::from)?.map_or(0, |image| image.size),
            Err(_) => 0,
        };
        let written = bytes_below(&self.containers().folder(id).join("upper"));
        Ok(ContainerSize { written, whole: written + image })
    }

    fn info(&self, record: Record) -> ContainerInfo {
        let mounts = &record.config.mounts;
        let alive = record.state.status.is_alive();
        ContainerInfo {
            networks: network_names(&record.config),
            mounts: mounts
                .iter()
                .map(|mount| mount.volume.clone().unwrap_or_else(|| mount.source.display().to_string()))
                .collect(),
            targets: mounts.iter().map(|mount| mount.target.clone()).collect(),
            volumes: mounts.iter().filter(|mount| mount.volume.is_some()).count(),
            health: record.state.health.as_ref().filter(|_| alive).map(|health| health.status),
            exposed: record.config.exposed,
            ports: super::port::published(&record.state.ports),
            folder: self.containers().folder(&record.id),
            id: record.id,
            name: record.name,
            image: record.image,
            image_id: record.image_id,
            command: record.config.args,
            created: record.created,
            state: record.state.status,
            started: record.state.started,
            finished: record.state.finished,
            // A start that failed has a code too, but nothing exited.
            exit_code: record.state.exit_code.filter(|_| record.state.status != ContainerState::Created),
            pid: record.state.process.map(|process| process.pid),
            labels: record.config.labels,
        }
    }
}

/// Adds up the files below `folder`, each once, as docker does: directories don't count.
fn bytes_below(folder: &Path) -> u64 {
    let mut seen = BTreeSet::new();
    let entries = walkdir::WalkDir::new(folder).into_iter().filter_map(Result::ok);
    entries
        .filter(|entry| !entry.file_type().is_dir())
        .filter_map(|entry| entry.metadata().ok())
        .filter(|metadata| metadata.nlink() == 1 || seen.insert((metadata.dev(), metadata.ino())))
        .map(|metadata| metadata.len())
        .sum()
}
