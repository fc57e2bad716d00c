//! `kiln start`.

use crate::api::{ContainerState, Failure, Stdio};
use crate::container::Error;

use super::Engine;
use super::containers::{exit_code, failure, streams};

impl Engine {
    /// Starts a container again; attached, it gives the exit code. One that runs stays as it is.
    pub fn start(&self, container: &str, stdio: Stdio) -> Result<Option<i32>, Failure> {
        let record = self.container(container)?;
        if record.state.status == ContainerState::Paused {
            return Err(failure(Error::Paused { name: record.name }));
        }
        if record.state.status.is_alive() && !stdio.attach {
            return Ok(None);
        }
        let containers = self.containers();
        let attaches = stdio.attach;
        let streams = streams(stdio);
        let attachment = match record.state.status {
            state if state.is_alive() => containers.attach(&record, &streams),
            _ => containers.start(self.store()?, &record, None, &streams),
        };
        let attachment = attachment.map_err(failure)?;
        if !attaches {
            return Ok(None);
        }
        attachment.stream(streams).map(|ended| Some(exit_code(ended))).map_err(failure)
    }
}
