//! Containers whose monitor, or maker, was killed: everything that brings them back to the truth.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use kiln_cache::Store;

use super::error::{Error, Result};
use super::life::{KILL_WAIT, wait_for};
use super::monitor::is_wanted_again;
use super::record::{Record, Wanted};
use super::{Containers, Streams, UNKNOWN_CODE, now, remove_folder, try_lock};
use crate::api::{ContainerState, RestartPolicy};
use crate::runtime::Cgroup;
use crate::sys::process::pidfd_signal;

impl Containers {
    /// Reads a record, and puts right what a killed process left of the container.
    pub(super) fn load(&self, id: &str) -> Result<Record> {
        let folder = self.folder(id);
        let record = Record::read(&folder)?;
        if !is_doubtful(&record) {
            return Ok(record);
        }
        let Some(lock) = try_lock(&folder)? else { return Ok(record) };
        // The lock is ours now; what its last holder wrote is there to be read.
        let record = Record::read(&folder)?;
        if !is_doubtful(&record) {
            return Ok(record);
        }
        self.settle(record, &lock)
    }

    /// Makes the record of a container true that nobody looks after; gives an absence for one that was to go.
    fn settle(&self, mut record: Record, _lock: &OwnedFd) -> Result<Record> {
        let folder = self.folder(&record.id);
        end(&record);
        // The record of its address is nobody's now; it may be another one's by the time it is looked at.
        record.state.ports.clear();
        if !std::mem::take(&mut record.state.endpoints).is_empty() {
            let _ = self.networks.reap();
        }
        if record.config.mounts.iter().any(|mount| mount.held) {
            self.volumes.unmount_unused();
        }
        let _ = fs::remove_file(folder.join("socket"));
        // One that waited for its next start has told its last end itself.
        let had_program = record.state.process.is_some();
        if had_program {
            self.tell(&record, "die", &[("exitCode", UNKNOWN_CODE.to_string())]);
        }
        if record.config.remove {
            let removed = self.take_away(&record)?;
            self.remove_volumes(&record, true);
            // What stays after an error is found by the next sweep.
            let _ = Store::unpin_at(&self.root, &record.owner());
            let _ = remove_folder(&removed);
            return Err(Error::NotFound { text: record.name });
        }
        let state = &mut record.state;
        state.status = ContainerState::Exited;
        if had_program {
            state.exit_code = Some(UNKNOWN_CODE);
            state.finished = Some(now());
            state.unwatched();
            "its monitor was lost, and the program was killed with it; how that ended is not known"
                .clone_into(&mut state.error);
        }
        state.process = None;
        let code = state.exit_code.unwrap_or(UNKNOWN_CODE);
        let again = is_wanted_again(record.config.restart, code, state.restarts);
        state.restart_at = (again && state.wanted == Wanted::Up).then(now);
        record.write_state(&folder)?;
        Ok(record)
    }
}

impl Record {
    /// Tells whether it is to be started again because its monitor was lost.
    pub fn is_due(&self) -> bool {
        self.state.status == ContainerState::Exited && self.state.restart_at.is_some()
    }

    /// Tells whether it should run after the machine was started.
    pub fn should_run(&self) -> bool {
        let state = &self.state;
        let policy = self.config.restart;
        let again = is_wanted_again(policy, state.exit_code.unwrap_or(0), state.restarts);
        let is_up = state.wanted == Wanted::Up || policy == RestartPolicy::Always;
        self.is_due() || (state.status == ContainerState::Exited && again && is_up)
    }
}

impl Containers {
    /// Starts a container whose monitor was lost; what hinders it is kept in the record.
    pub fn revive(&self, store: &Store, record: &Record) -> Result<()> {
        let started = self.start(store, record, None, &Streams::default());
        if let Err(error) = &started
            && let Some(_lock) = self.take(record)?
        {
            let folder = self.folder(&record.id);
            let mut record = Record::read(&folder)?;
            record.state.restart_at = None;
            record.state.error = error.to_string();
            record.write_state(&folder)?;
        }
        started.map(drop)
    }
}

/// Tells whether a record says that somebody looks after the container.
fn is_doubtful(record: &Record) -> bool {
    let status = record.state.status;
    status.is_alive() || (status == ContainerState::Created && record.config.transient)
}

/// Sees the processes of a container end, which the kernel began to kill with their monitor, and removes their
/// cgroups.
fn end(record: &Record) {
    // Those of the record may lie elsewhere, and a monitor may have died before it could write them down.
    let recorded = record.state.process.as_ref().map_or(&[][..], |process| &process.cgroup);
    let cgroups = [Cgroup::open(recorded), Cgroup::of(&record.id)];
    for cgroup in &cgroups {
        // Without cgroups the end of the first process is that of all.
        let _ = cgroup.kill();
    }
    if let Some(first) = record.state.process.as_ref().and_then(|process| process.open().ok()) {
        let _ = pidfd_signal(first.as_fd(), libc::SIGKILL);
        wait_for(&first, KILL_WAIT);
    }
    for mut cgroup in cgroups {
        cgroup.remove();
    }
}
