//! `kiln restart`.

use crate::api::Failure;

use super::Engine;
use super::containers::failure;
use super::stop::{parse_signal, patience};

impl Engine {
    /// Stops a container as [`Engine::stop`] does, and starts it again.
    pub fn restart(
        &self,
        container: &str,
        seconds: Option<i64>,
        signal: Option<&str>,
    ) -> Result<(), Failure> {
        let signal = signal.map(parse_signal).transpose()?;
        let record = self.container(container)?;
        let patience = patience(seconds, &record);
        self.containers().restart(self.store()?, &record, signal, patience).map_err(failure)
    }
}
