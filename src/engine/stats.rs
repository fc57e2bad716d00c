//! `kiln stats`.

use super::Engine;
use super::containers::failure;
use crate::api::{ContainerStats, Failure};

impl Engine {
    /// Reads what containers have used up: `names`, or those that run, or all of them.
    pub fn stats(&self, names: &[String], all: bool) -> Result<Vec<ContainerStats>, Failure> {
        let containers = self.containers();
        let records = if names.is_empty() {
            let mut records = containers.list().map_err(failure)?;
            records.retain(|record| all || record.state.status.is_alive());
            records
        } else {
            names.iter().map(|name| self.container(name)).collect::<Result<_, _>>()?
        };
        Ok(records.iter().map(|record| containers.stats(record)).collect())
    }
}
