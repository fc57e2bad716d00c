//! `kiln exec`.

use crate::api::{ExecRequest, Failure, Stdio};

use super::Engine;
use super::containers::{exit_code, failure, streams};

impl Engine {
    /// Runs a further program in a running container; gives its exit code, 0 for one in the background.
    pub fn exec(&self, request: &ExecRequest, stdio: Stdio) -> Result<i32, Failure> {
        let record = self.container(&request.container)?;
        let streams = if request.detach { Default::default() } else { streams(stdio) };
        let attachment = self.containers().exec(&record, request, None, &streams).map_err(failure)?;
        if request.detach {
            return Ok(0);
        }
        attachment.stream(streams).map(exit_code).map_err(failure)
    }
}
