//! `kiln wait`.

use crate::api::Failure;

use super::Engine;
use super::containers::failure;

impl Engine {
    /// Waits for the end of a container's program, and gives its exit code.
    pub fn wait(&self, container: &str) -> Result<i32, Failure> {
        let record = self.container(container)?;
        self.containers().wait(&record).map_err(failure)
    }
}
