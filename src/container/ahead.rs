//! What is begun while the command line is still being read.
//!
//! ```text
//! command                              monitor                          first process
//!   Ahead::monitor      ── fork ───▶     leaves the caller behind
//!   reads its flags,                     its cgroup     ── clone ──▶      namespaces, stage
//!   makes the record                     its network
//!                      ◀──────────
//!   takes addresses
//!   hands over          ── task ───▶     root filesystem  ── Go ───▶      root, user, rights
//!   makes the links     ─ Connected ▶                     ── Run ──▶      execve
//! ```
//!
//! Nothing depends on it: what turns out not to fit is let go, and the container is started without.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use super::helper::{self, Helper};
use super::{Containers, exec, monitor, names};
use crate::network::Namespace;
use crate::runtime::{Filter, Rights};
use crate::sys::awake::Awake;

/// The doors of `main`.
pub(super) const MONITOR: &str = "_monitor";
pub(super) const EXEC: &str = "_exec";

/// A monitor, or the helper of an exec, that waits for its task. When it is dropped without one, it has ended.
#[derive(Debug)]
pub struct Ahead {
    door: &'static str,
    /// `None` only while dropping.
    helper: Option<Helper>,
    /// The container that a first process is being got ready for.
    id: Option<String>,
    /// What is to come passes through four processes.
    awake: Option<Awake>,
}

impl Ahead {
    /// Starts the monitor of a container that is still to be made. With `staged` it gets a first process ready as most
    /// containers have it.
    pub fn monitor(staged: bool) -> io::Result<Ahead> {
        let id = staged.then(names::random_id).transpose()?;
        let forked = Helper::fork(staged, |socket| monitor::work(socket, id.as_deref()));
        let words: Vec<&str> = std::iter::once(MONITOR).chain(id.as_deref()).collect();
        let helper = forked.or_else(|_| Helper::start(&words))?;
        Ok(Ahead { door: MONITOR, helper: Some(helper), id, awake: Awake::ask() })
    }

    /// Starts the helper of an exec.
    pub fn exec() -> io::Result<Ahead> {
        let helper = Helper::fork(true, exec::work).or_else(|_| Helper::start(&[EXEC]))?;
        Ok(Ahead { door: EXEC, helper: Some(helper), id: None, awake: Awake::ask() })
    }

    /// Tells whether it can run programs with these rights: between kiln and the program a forked one needs system calls
    /// that a profile of the user's own may not let through.
    pub(super) fn may_run(&self, rights: &Rights) -> bool {
        let is_forked = self.helper.as_ref().is_some_and(Helper::is_forked);
        !is_forked || !matches!(rights.filter, Filter::Program(_))
    }

    /// Gives what keeps the processors awake, which is to last until the program runs.
    pub(super) fn take_awake(&mut self) -> Option<Awake> {
        self.awake.take()
    }

    /// Waits for the network of the first process that is being got ready.
    pub(super) fn network(&self) -> Option<Namespace> {
        self.id.as_ref()?;
        Namespace::of(helper::receive(self.helper.as_ref()?.socket()).ok()?)
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        if let Some(helper) = self.helper.take() {
            helper.dismiss();
        }
    }
}

/// Where a command keeps it until it is needed.
pub type Slot = Arc<Mutex<Option<Ahead>>>;

impl Containers {
    /// Lets it be used.
    #[must_use]
    pub fn with_ahead(self, slot: Slot) -> Self {
        Self { ahead: slot, ..self }
    }

    /// Takes it, when it was started for `door`.
    pub(super) fn take_ahead(&self, door: &str) -> Option<Ahead> {
        let mut slot = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        slot.take_if(|ahead| ahead.door == door)
    }

    /// Gives the id of the container to be made: that of the first process which is got ready, or a new one.
    pub(super) fn next_id(&self) -> io::Result<String> {
        let slot = self.ahead.lock().unwrap_or_else(PoisonError::into_inner);
        match slot.as_ref().and_then(|ahead| ahead.id.clone()) {
            Some(id) => Ok(id),
            None => names::random_id(),
        }
    }
}

/// Gives the task to what was started ahead, or to a helper of its own; gives the socket to it.
///
/// Its parent is done long before it; the machine's first process reaps it.
pub(super) fn hand_over<T: Serialize>(
    ahead: Option<Ahead>,
    door: &str,
    task: &T,
    fds: &[OwnedFd],
) -> io::Result<OwnedFd> {
    let helper = match ahead.and_then(|mut ahead| ahead.helper.take()) {
        Some(helper) => helper,
        None => Helper::start(&[door])?,
    };
    helper.hand_over(task, fds).map(|(socket, _)| socket)
}
