//! `kiln kill`.

use crate::api::Failure;

use super::Engine;
use super::containers::failure;
use super::stop::parse_signal;

impl Engine {
    /// Sends a signal, by name or number, to the first process of a running container.
    pub fn kill(&self, container: &str, signal: &str) -> Result<(), Failure> {
        let signal = parse_signal(signal)?;
        let record = self.container(container)?;
        self.containers().kill(&record, signal).map_err(failure)
    }
}
