//! `kiln attach`.

use crate::api::{ContainerStreams, Failure, Stdio};
use crate::container::Ended;

use super::Engine;
use super::containers::{exit_code, failure, streams};

impl Engine {
    /// Joins the streams of a container's program until that ends, or the user leaves it; gives the exit code.
    pub fn attach(&self, container: &str, stdio: Stdio) -> Result<i32, Failure> {
        let record = self.container(container)?;
        let streams = streams(stdio);
        let containers = self.containers();
        let attachment = containers.attach(&record, &streams).map_err(failure)?;
        containers.tell(&record, "attach", &[]);
        let ended = attachment.stream(streams).map_err(failure)?;
        if ended == Ended::Detached {
            containers.tell(&record, "detach", &[]);
        }
        Ok(exit_code(ended))
    }

    /// Tells what there is to be joined.
    pub fn streams_of(&self, container: &str) -> Result<ContainerStreams, Failure> {
        let record = self.container(container)?;
        let config = &record.config;
        Ok(ContainerStreams { state: record.state.status, tty: config.tty, interactive: config.interactive })
    }
}
