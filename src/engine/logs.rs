//! `kiln logs`.

use std::io::Write;

use crate::api::{Failure, LogsRequest};

use super::Engine;
use super::containers::failure;

impl Engine {
    /// Writes what a container's program wrote, its two outputs apart; follows it when asked to.
    pub fn logs(
        &self,
        request: &LogsRequest,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<(), Failure> {
        let record = self.container(&request.container)?;
        self.containers().logs(&record, request, out, err).map_err(failure)
    }
}
