//! Containers whose monitor, or maker, was killed: everything that brings them back to the truth.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use kiln_cache::Store;

use super::error::{Error, Result};
use super::life::{KILL_WAIT, wait_for};
use super::record::Record;
use super::{Containers, UNKNOWN_CODE, now, try_lock};
use crate::api::ContainerState;
use crate::runtime::Target;
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
        if let Some(process) = &record.state.process {
            end(process);
        }
        // The record of its address is nobody's now; it may be another one's by the time it is looked at.
        if record.state.address.take().is_some() {
            let _ = self.networks.reap();
        }
        let _ = fs::remove_file(folder.join("socket"));
        if record.state.status.is_alive() {
            self.tell(&record, "die", &[("exitCode", UNKNOWN_CODE.to_string())]);
        }
        if record.config.remove {
            let removed = self.take_away(&record)?;
            self.remove_volumes(&record, true);
            // What stays after an error is found by the next sweep.
            if let Ok(store) = Store::open(&self.root) {
                let _ = store.unpin(&record.owner());
            }
            let _ = fs::remove_dir_all(removed);
            return Err(Error::NotFound { text: record.name });
        }
        let state = &mut record.state;
        state.status = ContainerState::Exited;
        state.exit_code = Some(UNKNOWN_CODE);
        state.finished = Some(now());
        "its monitor was lost, and the program was killed with it; how that ended is not known"
            .clone_into(&mut state.error);
        state.process = None;
        state.restart_at = None;
        record.write_state(&folder)?;
        Ok(record)
    }
}

/// Tells whether a record says that somebody looks after the container.
fn is_doubtful(record: &Record) -> bool {
    let status = record.state.status;
    status.is_alive() || (status == ContainerState::Created && record.config.transient)
}

/// Sees the processes of a container end, which the kernel began to kill with their monitor.
fn end(process: &Target) {
    for folder in &process.cgroup {
        // Only version 2 has it; for the others, the end of the first process is that of all.
        let _ = fs::write(folder.join("cgroup.kill"), "1");
    }
    if let Ok(first) = process.open() {
        let _ = pidfd_signal(first.as_fd(), libc::SIGKILL);
        wait_for(&first, KILL_WAIT);
    }
    for folder in &process.cgroup {
        remove_cgroup(folder);
    }
}

/// Removes a cgroup whose processes are about to be gone from it.
fn remove_cgroup(folder: &Path) {
    const ATTEMPTS: u32 = 100;
    for _ in 0..ATTEMPTS {
        match fs::remove_dir(folder) {
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
                std::thread::sleep(super::CLEANUP_PAUSE);
            }
            _ => return,
        }
    }
}
