//! `kiln export`.

use std::io::Write;
use std::path::Path;

use super::Engine;
use super::containers::failure;
use super::outfile;
use crate::api::Failure;

impl Engine {
    /// Writes the files of a container as one tar, to `output` or to standard output.
    ///
    /// Volumes and what else is mounted in it are left out, as with docker.
    pub fn export(&self, container: &str, output: Option<&Path>) -> Result<(), Failure> {
        let record = self.container(container)?;
        let store = self.store()?;
        let containers = self.containers();
        outfile::write(output, |out: &mut dyn Write| {
            containers.export(store, &record, out).map_err(failure)
        })?;
        containers.tell(&record, "export", &[]);
        Ok(())
    }
}
