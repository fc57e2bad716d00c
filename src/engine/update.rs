//! `kiln update`.

use super::Engine;
use super::containers::failure;
use crate::api::{Failure, UpdateRequest};

impl Engine {
    /// Changes a container's limits and restart policy, at once when it runs.
    pub fn update(&self, container: &str, request: &UpdateRequest) -> Result<(), Failure> {
        let record = self.container(container)?;
        self.containers().update(&record, request).map_err(failure)
    }
}
