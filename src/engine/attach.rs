//! `kiln attach`.

use crate::api::{ContainerStreams, Failure, Stdio};

use super::Engine;
use super::containers::{exit_code, failure, streams};

impl Engine {
    /// Joins the streams of a container's program until that ends, or the user leaves it; gives the exit code.
    pub fn attach(&self, container: &str, stdio: Stdio) -> Result<i32, Failure> {
        let record = self.container(container)?;
        let streams = streams(stdio);
        let attachment = self.containers().attach(&record, &streams).map_err(failure)?;
        attachment.stream(streams).map(exit_code).map_err(failure)
    }

    /// Tells what there is to be joined.
    pub fn streams_of(&self, container: &str) -> Result<ContainerStreams, Failure> {
        let record = self.container(container)?;
        let config = &record.config;
        Ok(ContainerStreams { state: record.state.status, tty: config.tty, interactive: config.interactive })
    }
}
