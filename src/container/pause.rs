//! Containers whose processes stand still.

use super::Containers;
use super::error::{Error, Result};
use super::life::{Answer, KILL_WAIT};
use super::record::Record;
use super::wire::Packet;

impl Containers {
    /// Freezes all processes of a running container; they are when this returns.
    pub fn pause(&self, record: &Record) -> Result<()> {
        self.ask_now(record, "pause", &Packet::Pause)
    }

    /// Lets the processes of a paused container go on.
    pub fn unpause(&self, record: &Record) -> Result<()> {
        self.ask_now(record, "unpause", &Packet::Unpause)
    }

    fn ask_now(&self, record: &Record, verb: &'static str, request: &Packet) -> Result<()> {
        // The monitor itself gives up by then.
        match self.ask(record, verb, request, Some(2 * KILL_WAIT))? {
            Answer::Done => Ok(()),
            Answer::Gone => Err(Error::NotRunning { name: record.name.clone() }),
            Answer::Silent => Err(Error::MonitorLost { name: record.name.clone() }),
        }
    }
}
