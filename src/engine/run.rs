//! `kiln run`.

use crate::api::{CreateRequest, Events, Failure, RunOutcome, Stdio};
use crate::container::Purpose;

use super::Engine;
use super::containers::{exit_code, failure, streams};

impl Engine {
    /// Makes a container and runs it: in the background, or attached until its program ends.
    ///
    /// `created` hears the id before the program starts. A container that could not be started stays, unless it was to be removed: its record has the reason.
    pub fn run(
        &self,
        request: &CreateRequest,
        stdio: Stdio,
        detach: bool,
        events: &Events,
        created: &mut dyn FnMut(&str) -> Result<(), Failure>,
    ) -> Result<RunOutcome, Failure> {
        let purpose = if detach { Purpose::RunDetached } else { Purpose::Run };
        let (record, lock) = self.create_record(request, purpose, events)?;
        created(&record.id)?;
        let streams = if detach { Default::default() } else { streams(stdio) };
        let attachment =
            self.containers().start(self.store()?, &record, Some(lock), &streams).map_err(failure)?;
        if detach {
            return Ok(RunOutcome { id: record.id, exit_code: None });
        }
        let ended = attachment.stream(streams).map_err(failure)?;
        Ok(RunOutcome { id: record.id, exit_code: Some(exit_code(ended)) })
    }
}
