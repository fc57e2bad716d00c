//! `kiln stop`.

use std::time::Duration;

use crate::api::{Failure, FailureKind};
use crate::sys::signals;

use super::Engine;
use super::containers::failure;

/// How long a program may take to stop by itself; docker's.
const PATIENCE: Duration = Duration::from_secs(10);

impl Engine {
    /// Stops a container: its stop signal or `signal`, and SIGKILL when `patience` is over.
    pub fn stop(
        &self,
        container: &str,
        patience: Option<Duration>,
        signal: Option<&str>,
    ) -> Result<(), Failure> {
        let signal = signal.map(parse_signal).transpose()?;
        let record = self.container(container)?;
        self.containers().stop(&record, signal, patience.unwrap_or(PATIENCE)).map_err(failure)
    }
}

/// Reads a signal's name or number.
pub(super) fn parse_signal(text: &str) -> Result<i32, Failure> {
    signals::parse(text).ok_or_else(|| Failure::new(FailureKind::Invalid, format!("invalid signal: {text}")))
}
