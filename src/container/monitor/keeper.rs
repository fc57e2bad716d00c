//! The monitor's hold on the record.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Child;
use std::time::Duration;

use super::restart::{Backoff, is_wanted_again};
use super::serve::Running;
use crate::api::{ContainerState, Health, HealthStatus};
use crate::container::record::{Record, Wanted};
use crate::container::{Containers, now};

/// Keeps the record of a container whose lock this process has.
pub(super) struct Keeper {
    pub(super) containers: Containers,
    pub(super) folder: PathBuf,
    pub(super) record: Record,
    /// The next end is the first half of a restart.
    pub(super) again: bool,
    backoff: Backoff,
    /// The network that every run of the program is started in; without one each makes its own.
    pub(super) namespace: Option<OwnedFd>,
    /// Processes of its own that are about to end.
    pub(super) helpers: Vec<Child>,
}

impl Keeper {
    /// Takes over a record.
    pub(super) fn new(containers: Containers, record: Record, namespace: Option<OwnedFd>) -> Self {
        Self {
            folder: containers.folder(&record.id),
            containers,
            record,
            again: false,
            backoff: Backoff::default(),
            namespace,
            helpers: Vec::new(),
        }
    }

    /// Takes leave of the helpers that have ended.
    pub(super) fn reap(&mut self) {
        self.helpers.retain_mut(|helper| matches!(helper.try_wait(), Ok(None)));
    }

    /// Writes how the container is.
    pub(super) fn write(&self) -> io::Result<()> {
        self.record.write_state(&self.folder).map_err(io::Error::other)
    }

    /// Notes what the user wants, before it is done: the end that follows is no failure.
    pub(super) fn want(&mut self, wanted: Wanted) {
        if self.record.state.wanted != wanted {
            self.record.state.wanted = wanted;
            // On a full disk the wish lives as long as this process.
            let _ = self.write();
        }
    }

    /// Reads what a command has changed.
    pub(super) fn reload(&mut self) -> io::Result<()> {
        let now = Record::read(&self.folder).map_err(io::Error::other)?;
        let state = std::mem::take(&mut self.record.state);
        self.record = Record { state, ..now };
        Ok(())
    }

    /// Notes that the program runs.
    pub(super) fn running(&mut self, process: &dyn Running) -> io::Result<()> {
        let state = &mut self.record.state;
        state.status = ContainerState::Running;
        state.process = Some(process.target()?);
        state.started = Some(now());
        state.finished = None;
        state.exit_code = None;
        state.error.clear();
        state.oom_killed = false;
        state.restart_at = None;
        // The last run's probes are seen until there are new ones.
        let log = state.health.take().map(|health| health.log).unwrap_or_default();
        let fresh = Health { status: HealthStatus::Starting, failing_streak: 0, log };
        state.health = self.record.config.health.as_ref().map(|_| fresh);
        self.write()?;
        self.tell("start", &[]);
        Ok(())
    }

    /// Tells the store's events what happened.
    pub(super) fn tell(&self, action: &str, details: &[(&str, String)]) {
        self.containers.tell(&self.record, action, details);
    }

    /// Notes that it doesn't run any more; it isn't written yet.
    pub(super) fn ended(&mut self, code: i32, oom_killed: bool) {
        let state = &mut self.record.state;
        let is_news = oom_killed && !state.oom_killed;
        state.status = ContainerState::Exited;
        state.exit_code = Some(code);
        state.oom_killed = oom_killed;
        state.finished = Some(now());
        state.process = None;
        state.unwatched();
        let seconds = (state.finished.unwrap_or(0) - state.started.unwrap_or(0)) / 1_000_000_000;
        if is_news {
            self.tell("oom", &[]);
        }
        self.tell("die", &[("execDuration", seconds.to_string()), ("exitCode", code.to_string())]);
        // A stop of its own is told by who asked for it.
        if self.again {
            self.tell("stop", &[]);
        }
    }

    /// Decides whether the program is started again, and after which time.
    pub(super) fn next_start(&mut self) -> Option<Duration> {
        if std::mem::take(&mut self.again) {
            // The user's start begins a new count.
            self.record.state.restarts = 0;
            self.backoff = Backoff::default();
            return Some(Duration::ZERO);
        }
        let state = &mut self.record.state;
        let code = state.exit_code.unwrap_or(0);
        if state.wanted == Wanted::Down || !is_wanted_again(self.record.config.restart, code, state.restarts)
        {
            return None;
        }
        state.restarts += 1;
        let ran = state.finished.unwrap_or(0).saturating_sub(state.started.unwrap_or(0));
        Some(self.backoff.next(Duration::from_nanos(u64::try_from(ran).unwrap_or(0))))
    }
}
