//! `kiln top`.

use super::Engine;
use super::containers::failure;
use crate::api::{Failure, ProcessTable};

impl Engine {
    /// Lists the processes of a running container with the columns that `options` of `ps` choose.
    pub fn top(&self, container: &str, options: &[String]) -> Result<ProcessTable, Failure> {
        let record = self.container(container)?;
        let containers = self.containers();
        let table = containers.top(&record, options).map_err(failure)?;
        containers.tell(&record, "top", &[]);
        Ok(table)
    }
}
