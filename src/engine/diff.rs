//! `kiln diff`.

use super::Engine;
use super::containers::failure;
use crate::api::{Failure, PathChange};

impl Engine {
    /// Lists the files that a container has added, changed and deleted, sorted by path.
    pub fn diff(&self, container: &str) -> Result<Vec<PathChange>, Failure> {
        let record = self.container(container)?;
        self.containers().diff(self.store()?, &record).map_err(failure)
    }
}
