//! `kiln ps`.

use crate::api::{ContainerInfo, Failure};
use crate::container::Record;

use super::Engine;
use super::containers::failure;
use super::inspect_container::network_name;

impl Engine {
    /// Lists the running containers, or all of them, the newest first.
    pub fn ps(&self, all: bool) -> Result<Vec<ContainerInfo>, Failure> {
        let mut records = self.containers().list().map_err(failure)?;
        records.retain(|record| all || record.state.status.is_alive());
        Ok(records.into_iter().map(|record| self.info(record)).collect())
    }

    fn info(&self, record: Record) -> ContainerInfo {
        let mounts = &record.config.mounts;
        ContainerInfo {
            network: network_name(record.config.network),
            mounts: mounts
                .iter()
                .map(|mount| mount.volume.clone().unwrap_or_else(|| mount.source.display().to_string()))
                .collect(),
            volumes: mounts.iter().filter(|mount| mount.volume.is_some()).count(),
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
            exit_code: record.state.exit_code,
            pid: record.state.process.map(|process| process.pid),
            labels: record.config.labels,
        }
    }
}
