//! A process that another runtime has made.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::{Pid, PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};

use super::Foreign;
use crate::container::monitor::Running;
use crate::runtime::{At, Cgroup, Exit, Limits, OomWatch, StartError, Target};
use crate::sys::process::pidfd_signal;

/// A child of this process. Dropping it kills it.
///
/// Behind a container's first one is cleaned up when its end is heard of: afterwards the container's folder may be
/// another one.
pub(in crate::container) struct Process {
    pid: i32,
    pidfd: OwnedFd,
    cgroup: RefCell<Cgroup>,
    /// For the first process of a container.
    foreign: Option<Foreign>,
    exit: Option<Exit>,
    /// Known before the cgroup goes.
    oom_killed: bool,
}

impl Process {
    /// Takes over the first process of a container, whose `cgroup` the runtime was told to use.
    pub(super) fn first(pid: i32, cgroup: Cgroup, foreign: &Foreign) -> Result<Process, StartError> {
        let mut process = Process::of(pid, cgroup)?;
        process.foreign = Some(foreign.clone());
        process.cgroup.get_mut().adopt(pid).at("cgroup", || "cannot find the new process's cgroup")?;
        Ok(process)
    }

    /// Takes over a further process of the container whose first one is `target`.
    pub(super) fn further(pid: i32, target: &Target) -> Result<Process, StartError> {
        Process::of(pid, Cgroup::open(&target.cgroup))
    }

    fn of(pid: i32, cgroup: Cgroup) -> Result<Process, StartError> {
        let fail = || "cannot open the new process";
        let number = Pid::from_raw(pid).ok_or_else(|| StartError::new("runtime", fail()))?;
        let pidfd = pidfd_open(number, PidfdFlags::empty()).at("runtime", fail)?;
        Ok(Process { pid, pidfd, cgroup: RefCell::new(cgroup), foreign: None, exit: None, oom_killed: false })
    }

    fn end(&mut self) -> io::Result<Exit> {
        if let Some(exit) = self.exit {
            return Ok(exit);
        }
        let status =
            rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED))?;
        let exit = match status.map(|status| (status.exit_status(), status.terminating_signal())) {
            Some((Some(code), _)) => Exit::Code(code),
            Some((None, Some(signal))) => Exit::Signal(signal),
            _ => Exit::Code(255),
        };
        self.exit = Some(exit);
        self.oom_killed = self.oom_killed();
        if let Some(foreign) = &self.foreign {
            // Without a pid namespace of its own the rest lives on.
            let _ = self.cgroup.get_mut().kill();
            foreign.clear();
            self.cgroup.get_mut().remove();
        }
        Ok(exit)
    }
}

impl Running for Process {
    fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    fn target(&self) -> io::Result<Target> {
        Target::of(self.pid, self.cgroup.borrow().folders())
    }

    fn kill(&self, signal: i32) -> io::Result<()> {
        match pidfd_signal(self.pidfd.as_fd(), signal) {
            Err(error) if error.raw_os_error() != Some(libc::ESRCH) => return Err(error),
            _ => {}
        }
        if signal == libc::SIGKILL {
            self.cgroup.borrow().let_die();
        }
        Ok(())
    }

    fn wait(&mut self) -> io::Result<i32> {
        Ok(self.end()?.code())
    }

    fn oom_killed(&self) -> bool {
        self.oom_killed || self.cgroup.borrow().oom_kills() > 0
    }

    fn oom_watch(&self) -> Option<OomWatch> {
        self.cgroup.borrow().oom_watch()
    }

    fn freeze(&self, frozen: bool) -> Result<(), StartError> {
        self.cgroup.borrow_mut().freeze(frozen)
    }

    fn is_frozen(&self) -> bool {
        self.cgroup.borrow().is_frozen()
    }

    fn limit(&self, limits: &Limits) -> Result<(), StartError> {
        self.cgroup.borrow_mut().limit(limits)
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.end().map(drop)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.exit.is_none() {
            // It may have ended by itself; either way the wait returns.
            let _ = self.kill(libc::SIGKILL);
            let _ = self.end();
        }
    }
}
