//! The OCI runtime face: bundles of the runtime-spec, as podman, containerd and docker hand them over.
//!
//! Apart from kiln's own containers: no image, no record, no monitor. A container here is a folder below `--root`
//! ([`state`]), its first process, and its cgroup. All of `config.json` is either done or refused by name ([`check`]);
//! [`crate::runtime`] gives what both have in common: places inside a root filesystem, cgroups, filters, programs.
//!
//! `create` clones the first process, which sets itself up and then waits at a socket ([`child`]); it outlives its
//! creator. `start` connects, and learns by the same connection why a program could not run.
//!
//! For processes with one thread only, and from the read-only clone of the program that [`crate::runtime`] makes.

mod check;
mod child;
mod config;
mod console;
mod create;
mod error;
mod exec;
mod hooks;
mod limits;
mod mounts;
mod options;
mod rights;
mod state;
mod userns;

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::{WaitId, WaitIdOptions, waitid};

pub use self::config::{OCI_VERSION, Process, Resources, example};
pub use self::create::CreateOptions;
use self::error::Doing;
pub use self::error::{Error, Result};
pub use self::exec::{ExecOptions, Further};
use self::state::{Folder, Kept};
pub use self::state::{State, Status};
pub use crate::runtime::{Exit, resize, sealed_program};
use crate::sys;

/// How long a killed process may take to go.
const KILL_TIME: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(2);

/// The containers below one folder.
#[derive(Debug)]
pub struct Bundles {
    root: PathBuf,
}

impl Bundles {
    /// Keeps them in `root`.
    pub fn new(root: PathBuf) -> Bundles {
        Bundles { root }
    }

    /// Creates a container: all but its program runs when this returns. Gives the terminal's master when it is the
    /// caller's. `warn` hears what went wrong without ending it.
    pub fn create(
        &self,
        id: &str,
        options: &CreateOptions,
        warn: &mut dyn FnMut(String),
    ) -> Result<Option<OwnedFd>> {
        create::create(&self.root, id, options, warn)
    }

    /// Starts the program of a created container. `warn` hears what went wrong without ending it.
    pub fn start(&self, id: &str, warn: &mut dyn FnMut(String)) -> Result<()> {
        create::start(&self.root, id, warn)
    }

    /// Returns what is known of a container.
    pub fn state(&self, id: &str) -> Result<State> {
        Folder::find(&self.root, id)?.state()
    }

    /// Returns what is known of all, by their ids.
    pub fn list(&self) -> Result<Vec<State>> {
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.doing(|| format!("cannot read `{}`", self.root.display()))?,
        };
        let folders = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
        // One that goes meanwhile isn't there.
        let mut all: Vec<State> = folders.filter_map(|folder| Folder(folder).state().ok()).collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(all)
    }

    /// Signals the first process, or with `all` every process of the container.
    pub fn kill(&self, id: &str, signal: i32, all: bool) -> Result<()> {
        let folder = Folder::find(&self.root, id)?;
        let kept = folder.kept()?;
        let status = folder.status(kept.as_ref());
        let Some(kept) = kept.filter(|_| all || status != Status::Stopped) else {
            return Err(Error::NotRunning);
        };
        if all {
            return kill_all(&kept, signal);
        }
        let Some(process) = &kept.process else { return Err(Error::NotRunning) };
        let pidfd = process.open().map_err(|_| Error::NotRunning)?;
        sys::process::pidfd_signal(pidfd.as_fd(), signal).doing(|| "cannot signal the container's process")
    }

    /// Removes a container that has stopped; with `force` any, which is killed first.
    pub fn delete(&self, id: &str, force: bool, warn: &mut dyn FnMut(String)) -> Result<()> {
        let folder = match Folder::find(&self.root, id) {
            Err(Error::Unknown) if force => return Ok(()),
            folder => folder?,
        };
        let lock = folder.lock()?;
        let kept = folder.kept()?;
        // `creating` is impossible: the lock would be the creator's.
        let status = match folder.status(kept.as_ref()) {
            Status::Creating => Status::Stopped,
            status => status,
        };
        match status {
            Status::Stopped => {}
            // As runc has it: what was never started has nothing to lose.
            Status::Created => end(kept.as_ref())?,
            _ if force => end(kept.as_ref())?,
            status => {
                let text = format!("cannot delete container {id} that is not stopped: {}", status.word());
                return Err(Error::Refused(text));
            }
        }
        if let Some(kept) = &kept {
            // Without a pid namespace of its own the rest lives on.
            let _ = kept.cgroup().kill();
            create::remove_cgroup(&kept.cgroup);
            let hooks = folder.config().map(|config| config.hooks().poststop).unwrap_or_default();
            hooks::run_all("poststop", &hooks, &kept.state(Status::Stopped), None, warn);
        }
        let removed = fs::remove_dir_all(&folder.0);
        drop(lock);
        removed.doing(|| format!("cannot remove `{}`", folder.0.display()))
    }

    /// Freezes or thaws a container.
    pub fn freeze(&self, id: &str, freeze: bool) -> Result<()> {
        let folder = Folder::find(&self.root, id)?;
        let kept = folder.kept()?;
        match (folder.status(kept.as_ref()), freeze) {
            (Status::Running | Status::Created, true) | (Status::Paused, false) => {}
            (_, true) => return Err(Error::NotRunning),
            (_, false) => return Err(Error::NotPaused),
        }
        let Some(mut kept) = kept else { return Err(Error::NotRunning) };
        let mut cgroup = kept.cgroup();
        let frozen = cgroup.freeze(freeze);
        // It may have got a folder to be frozen by.
        kept.has_cgroup(cgroup.folders());
        folder.write("state.json", &kept)?;
        frozen?;
        let wanted = if freeze { Status::Paused } else { Status::Running };
        let end = Instant::now() + KILL_TIME;
        loop {
            let kept = folder.kept()?;
            let status = folder.status(kept.as_ref());
            // One that wasn't started is `created` whether it is frozen or not.
            if status == wanted || status == Status::Stopped || status == Status::Created {
                return Ok(());
            }
            if Instant::now() > end {
                return Err(Error::Refused("the container's processes do not freeze".into()));
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Changes what a container may use up, to what is told of its limits.
    pub fn update(&self, id: &str, resources: &Resources) -> Result<()> {
        let folder = Folder::find(&self.root, id)?;
        let _lock = folder.lock()?;
        let kept = folder.kept()?;
        if matches!(folder.status(kept.as_ref()), Status::Stopped | Status::Creating) {
            return Err(Error::NotRunning);
        }
        let Some(mut kept) = kept else { return Err(Error::NotRunning) };
        check::update(resources)?;
        let folders = limits::update(&kept, resources)?;
        kept.has_cgroup(&folders);
        folder.write("state.json", &kept)
    }

    /// Returns the processes of a container, as the machine numbers them.
    pub fn processes(&self, id: &str) -> Result<Vec<i32>> {
        let folder = Folder::find(&self.root, id)?;
        let kept = folder.kept()?;
        if folder.status(kept.as_ref()) == Status::Stopped {
            return Err(Error::NotRunning);
        }
        Ok(kept.map(|kept| kept.cgroup().pids()).unwrap_or_default())
    }

    /// Runs a further process in a container; returns when its program runs.
    pub fn exec(&self, id: &str, process: &Process, options: &ExecOptions) -> Result<Further> {
        exec::exec(&self.root, id, process, options)
    }

    /// Returns the container's own process, for an exec that says only what differs.
    pub fn process(&self, id: &str) -> Result<Process> {
        create::process_of(&Folder::find(&self.root, id)?)
    }

    /// Waits for the end of a container whose first process is this process's child.
    pub fn wait(&self, id: &str) -> Result<Exit> {
        let kept = Folder::find(&self.root, id)?.kept()?;
        let Some(process) = kept.and_then(|kept| kept.process) else { return Err(Error::NotRunning) };
        wait(process.open()?.as_fd())
    }

    /// Returns the first process of a container, to be polled and signalled.
    pub fn pidfd(&self, id: &str) -> Result<OwnedFd> {
        let kept = Folder::find(&self.root, id)?.kept()?;
        let Some(process) = kept.and_then(|kept| kept.process) else { return Err(Error::NotRunning) };
        Ok(process.open()?)
    }
}

fn kill_all(kept: &Kept, signal: i32) -> Result<()> {
    let cgroup = kept.cgroup();
    if signal == libc::SIGKILL {
        return cgroup.kill().doing(|| "cannot kill the container's processes");
    }
    for pid in cgroup.pids() {
        // It may have ended by itself, and its number isn't another's before its pidfd is open.
        let Some(pid) = rustix::process::Pid::from_raw(pid) else { continue };
        let Ok(pidfd) = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) else {
            continue;
        };
        let _ = sys::process::pidfd_signal(pidfd.as_fd(), signal);
    }
    Ok(())
}

/// Kills the first process and waits until it is gone.
fn end(kept: Option<&Kept>) -> Result<()> {
    let Some(process) = kept.and_then(|kept| kept.process.as_ref()) else { return Ok(()) };
    let Ok(pidfd) = process.open() else { return Ok(()) };
    sys::process::pidfd_signal(pidfd.as_fd(), libc::SIGKILL)
        .doing(|| "cannot kill the container's process")?;
    if let Some(kept) = kept {
        // Frozen processes of v1 would not hear of it.
        let _ = kept.cgroup().kill();
    }
    let end = Instant::now() + KILL_TIME;
    while !state::has_ended(&pidfd) {
        if Instant::now() > end {
            return Err(Error::Refused("the container's process does not end".into()));
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// Waits for a child of this process.
fn wait(pidfd: BorrowedFd<'_>) -> Result<Exit> {
    let status = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED))
        .doing(|| "cannot wait for the process")?;
    Ok(match status.map(|status| (status.exit_status(), status.terminating_signal())) {
        Some((Some(code), _)) => Exit::Code(code),
        Some((None, Some(signal))) => Exit::Signal(signal),
        _ => Exit::Code(255),
    })
}

/// Waits for a child whose end doesn't matter.
fn reap(pidfd: BorrowedFd<'_>) {
    let _ = wait(pidfd);
}

/// Writes a pid's file whole: whoever waits for it reads it at once.
fn write_pid(file: &Path, pid: i32) -> Result<()> {
    let fail = || format!("cannot write the pid to `{}`", file.display());
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let new = file.with_file_name(format!(".{name}"));
    fs::write(&new, pid.to_string()).and_then(|()| fs::rename(&new, file)).doing(fail)
}

/// The time now, in the form of RFC 3339.
fn now() -> String {
    jiff::Timestamp::now().to_string()
}
