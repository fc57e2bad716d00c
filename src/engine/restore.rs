//! `kiln system restore`.

use crate::api::Failure;

use super::Engine;
use super::containers::failure;

impl Engine {
    /// Starts the containers that should run and don't, as after a start of the machine; gives the name of each,
    /// and why it could not be started.
    pub fn restore(&self) -> Result<Vec<(String, Option<Failure>)>, Failure> {
        let containers = self.containers();
        let mut restored = Vec::new();
        // The oldest first: others may need it.
        for record in
            containers.list().map_err(failure)?.into_iter().rev().filter(|record| record.should_run())
        {
            let started = containers.revive(self.store()?, &record);
            restored.push((record.name, started.err().map(failure)));
        }
        Ok(restored)
    }
}
