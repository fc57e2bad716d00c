//! Containers that stand still while something of theirs is copied.
//!
//! A running one is frozen by its monitor for as long as the connection lasts: when the copier is killed it goes on.
//! One that doesn't run is kept from being started.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::net::RecvFlags;

use super::error::{Error, Result};
use super::life::KILL_WAIT;
use super::record::Record;
use super::wire::{self, Packet, Wants};
use super::{Containers, try_lock};

/// How long a container may be neither running nor at rest.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(5);

/// Containers that neither run nor begin to until this is dropped.
#[derive(Debug)]
pub struct Still {
    _holds: Vec<OwnedFd>,
}

impl Containers {
    /// Lists the containers that have volume `name`.
    pub fn having_volume(&self, name: &str) -> Result<Vec<Record>> {
        let mut records = self.list()?;
        records
            .retain(|record| record.config.mounts.iter().any(|mount| mount.volume.as_deref() == Some(name)));
        Ok(records)
    }

    /// Makes containers stand still.
    pub fn hold_still(&self, records: &[Record]) -> Result<Still> {
        let holds = records.iter().map(|record| self.hold(record)).collect::<Result<Vec<_>>>()?;
        Ok(Still { _holds: holds.into_iter().flatten().collect() })
    }

    /// Holds one container; none when it is gone.
    fn hold(&self, record: &Record) -> Result<Option<OwnedFd>> {
        let end = Instant::now() + PATIENCE;
        loop {
            match try_lock(&self.folder(&record.id)) {
                Ok(Some(lock)) => return Ok(Some(lock)),
                Err(error) if error.is_absence() => return Ok(None),
                busy => busy?,
            };
            match self.freeze(record) {
                // It is just being started, or has just ended.
                Err(Error::NotRunning { .. }) if Instant::now() < end => std::thread::sleep(PAUSE),
                frozen => return frozen.map(Some),
            }
        }
    }

    fn freeze(&self, record: &Record) -> Result<OwnedFd> {
        let name = || record.name.clone();
        let socket = self.reach(record, Wants::default(), (0, 0))?;
        let gone = || Error::NotRunning { name: name() };
        Packet::Hold.send(&socket).map_err(|_| gone())?;
        while super::life::wait_for(&socket, 2 * KILL_WAIT) {
            match wire::receive(&socket, RecvFlags::DONTWAIT) {
                Ok(Some(Packet::Done)) => return Ok(socket),
                Ok(Some(Packet::Refused(why))) => {
                    return Err(Error::Refused { verb: "freeze", name: name(), why });
                }
                Ok(Some(_)) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Ok(None) | Err(_) => return Err(gone()),
            }
        }
        Err(Error::MonitorLost { name: name() })
    }
}
