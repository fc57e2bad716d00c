//! The end of containers: stop, kill, remove; and their logs.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use kiln_cache::Store;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::error::{At, Error, Result};
use super::record::Record;
use super::{Containers, log};
use crate::api::{ContainerState, LogsRequest};

/// How long a killed program may take to be gone.
const KILL_WAIT: Duration = Duration::from_secs(10);

impl Containers {
    /// Sends `signal` to the first process of a running container; after SIGKILL the container is stopped.
    pub fn kill(&self, record: &Record, signal: i32) -> Result<()> {
        let process = running(record)?;
        crate::sys::process::pidfd_signal(process.as_fd(), signal).at("signal", self.folder(&record.id))?;
        // So that `kill` and then `rm` or `start` find what they expect.
        match signal {
            libc::SIGKILL if wait_for(&process, KILL_WAIT) => self.recorded(record),
            libc::SIGKILL => Err(Error::Stuck { name: record.name.clone() }),
            _ => Ok(()),
        }
    }

    /// Stops a container: `signal`, or its own stop signal, and after `patience` SIGKILL. One that doesn't run
    /// stays as it is.
    pub fn stop(&self, record: &Record, signal: Option<i32>, patience: Duration) -> Result<()> {
        let Ok(process) = running(record) else { return Ok(()) };
        let send = |signal| match crate::sys::process::pidfd_signal(process.as_fd(), signal) {
            Err(error) if error.raw_os_error() != Some(libc::ESRCH) => {
                Err(error).at("signal", self.folder(&record.id))
            }
            _ => Ok(()),
        };
        send(signal.unwrap_or(record.config.stop_signal))?;
        if !wait_for(&process, patience) {
            send(libc::SIGKILL)?;
            if !wait_for(&process, KILL_WAIT) {
                return Err(Error::Stuck { name: record.name.clone() });
            }
        }
        self.recorded(record)
    }

    /// Waits until the monitor has recorded the end.
    pub(super) fn recorded(&self, record: &Record) -> Result<()> {
        let end = Instant::now() + KILL_WAIT;
        while Instant::now() < end {
            match self.load(&record.id) {
                Ok(now) if now.state.status == ContainerState::Running => {
                    std::thread::sleep(super::CLEANUP_PAUSE)
                }
                // Ended, or already removed.
                _ => return Ok(()),
            }
        }
        Err(Error::Stuck { name: record.name.clone() })
    }

    /// Removes a container; `force` kills it first, `volumes` takes its anonymous volumes along.
    pub fn remove(&self, store: &Store, record: &Record, force: bool, volumes: bool) -> Result<()> {
        if record.state.status == ContainerState::Running {
            if !force {
                return Err(Error::Running { verb: "remove", name: record.name.clone() });
            }
            self.stop(record, Some(libc::SIGKILL), KILL_WAIT)?;
        }
        let folder = self.folder(&record.id);
        let lock = match self.take(record) {
            // A container with --rm is gone once it was stopped.
            Err(Error::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            taken => taken?,
        };
        let _lock = lock.ok_or_else(|| Error::Running { verb: "remove", name: record.name.clone() })?;
        if !folder.exists() {
            return Ok(());
        }
        let removed = self.take_away(record)?;
        store.unpin(&record.owner())?;
        self.remove_volumes(record, volumes || record.config.remove);
        std::fs::remove_dir_all(&removed).at("remove", &removed)
    }

    /// Makes a container disappear by renaming its folder, and gives the folder's new place. The caller has its
    /// lock.
    pub(super) fn take_away(&self, record: &Record) -> Result<PathBuf> {
        let trash = self.folder.join("removed");
        std::fs::create_dir_all(&trash).at("create", &trash)?;
        let _names = self.lock_names()?;
        let removed = trash.join(&record.id);
        std::fs::rename(self.folder(&record.id), &removed).at("remove", self.folder(&record.id))?;
        if self.id_of_name(&record.name).as_deref() == Some(&record.id) {
            let name = self.name_path(&record.name);
            std::fs::remove_file(&name).at("remove", &name)?;
        }
        Ok(removed)
    }

    /// Removes the volumes that belong to this container alone.
    pub(super) fn remove_volumes(&self, record: &Record, wanted: bool) {
        for mount in record.config.mounts.iter().filter(|mount| wanted && mount.anonymous) {
            if let Some(Err(error)) = mount.volume.as_ref().map(|name| self.volumes.remove(name)) {
                tracing::debug!(%error, "a volume stays");
            }
        }
    }

    /// Writes a container's log.
    pub fn logs(
        &self,
        record: &Record,
        request: &LogsRequest,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<()> {
        let path = log::path(&self.folder(&record.id), &record.id);
        let wanted = log::Wanted {
            tail: request.tail,
            since: request.since,
            until: request.until,
            timestamps: request.timestamps,
            follow: request.follow,
        };
        let mut is_running =
            || self.load(&record.id).is_ok_and(|now| now.state.status == ContainerState::Running);
        match log::read(&path, &wanted, &mut is_running, out, err) {
            // Nobody reads any further: `kiln logs x | head -1`.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            result => result.at("read", &path),
        }
    }
}

/// Opens the first process of a running container, sure that it is still the one of the record.
fn running(record: &Record) -> Result<OwnedFd> {
    let not_running = || Error::NotRunning { name: record.name.clone() };
    let target = record.state.process.as_ref().ok_or_else(not_running)?;
    target.open().map_err(|_| not_running())
}

fn wait_for(process: &OwnedFd, patience: Duration) -> bool {
    let end = Instant::now().checked_add(patience);
    loop {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        let timeout = left.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        });
        match poll(&mut [PollFd::new(process, PollFlags::IN)], timeout.as_ref()) {
            Ok(count) => return count > 0,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}
