//! `kiln rm`.

use crate::api::Failure;

use super::Engine;
use super::containers::failure;

impl Engine {
    /// Removes a container; `force` kills a running one, `volumes` takes its anonymous volumes along.
    pub fn rm(&self, container: &str, force: bool, volumes: bool) -> Result<(), Failure> {
        let store = self.store_to_shrink()?;
        let record = self.container(container)?;
        self.containers().remove(store, &record, force, volumes).map_err(failure)
    }
}
