//! `kiln pause` and `kiln unpause`.

use super::Engine;
use super::containers::failure;
use crate::api::Failure;

impl Engine {
    /// Freezes all processes of a running container.
    pub fn pause(&self, container: &str) -> Result<(), Failure> {
        let record = self.container(container)?;
        self.containers().pause(&record).map_err(failure)
    }

    /// Lets them go on.
    pub fn unpause(&self, container: &str) -> Result<(), Failure> {
        let record = self.container(container)?;
        self.containers().unpause(&record).map_err(failure)
    }
}
