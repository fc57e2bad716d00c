//! `kiln stop`.

use crate::api::{Failure, FailureKind};
use crate::container::Record;
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
        let patience = patience(seconds, &record);
        self.containers().stop(&record, signal, patience).map_err(failure)
    }
}

/// How long a program may take to stop: the caller's wish, the container's, or docker's; none is for ever.
pub(super) fn patience(seconds: Option<i64>, record: &Record) -> Option<u64> {
    u64::try_from(seconds.or(record.config.stop_timeout).unwrap_or(PATIENCE)).ok()
}

/// Reads a signal's name or number.
pub(super) fn parse_signal(text: &str) -> Result<i32, Failure> {
    signals::parse(text).ok_or_else(|| Failure::new(FailureKind::Invalid, format!("invalid signal: {text}")))
}
