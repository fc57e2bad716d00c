//! `kiln stop`.

use crate::api::{Failure, FailureKind};
use crate::sys::signals;

use super::Engine;
use super::containers::failure;

/// How long a program may take to stop by itself; docker's.
const PATIENCE: i64 = 10;

impl Engine {
    /// Stops a container: its stop signal or `signal`, and SIGKILL after `seconds`; fewer than 0 are for ever.
    pub fn stop(&self, container: &str, seconds: Option<i64>, signal: Option<&str>) -> Result<(), Failure> {
        let signal = signal.map(parse_signal).transpose()?;
        let record = self.container(container)?;
        let seconds = seconds.unwrap_or(PATIENCE);
        self.containers().stop(&record, signal, u64::try_from(seconds).ok()).map_err(failure)
    }
}

/// Reads a signal's name or number.
pub(super) fn parse_signal(text: &str) -> Result<i32, Failure> {
    signals::parse(text).ok_or_else(|| Failure::new(FailureKind::Invalid, format!("invalid signal: {text}")))
}
