//! `kiln rename`.

use crate::api::Failure;

use super::Engine;
use super::containers::failure;

impl Engine {
    /// Gives a container another name.
    pub fn rename(&self, container: &str, name: &str) -> Result<(), Failure> {
        let record = self.container(container)?;
        self.containers().rename(&record, name).map_err(failure)
    }
}
