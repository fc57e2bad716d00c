//! A process without threads that starts steps for one that has them.
//!
//! ```text
//! engine (threads)            launcher (one thread)              step
//!   control socket  ──────▶   Request + fds  ── clone ──▶  child … execve
//!   status socket   ◀──────   Started | Failed
//!                   ──────▶   Kill
//!                   ◀──────   Ended   (stubs and cgroup are gone by then, the mounts before another start)
//!
//!   control socket  ──────▶   Request (ahead)  ── clone ──▶  child … stage, waits
//!   status socket   ──────▶   Run + fds        ── Go ─────▶  … execve
//!                   ◀──────   Started | Failed | Missed (to be started in the other way)
//! ```
//!
//! One status socket per step, so that steps don't wait for each other. The end of a status socket kills its
//! step; the end of the control socket kills all steps and the launcher. When the launcher itself is killed, its
//! steps get SIGKILL from the kernel (PDEATHSIG).

mod door;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::net::Shutdown;
use serde::{Deserialize, Serialize};

pub use door::launcher_main;

use super::child::spec_file;
use super::error::{At, Exit, StartError};
use super::process::Ended;
use super::sealed;
use super::spec::Spec;
use super::wire;
use crate::sys::packet;

/// The first argument by which `main` finds [`launcher_main`].
pub(super) const DOOR: &str = "_launcher";

/// The engine's request: start what the first descriptor holds. The rest are the status socket, stdout, stderr,
/// then stdin and the network namespace when told, then what is to be kept open.
#[derive(Debug, Serialize, Deserialize)]
struct Request {
    stdin: bool,
    netns: bool,
    /// Only the stage; stdio and what is kept come with the order to run.
    ahead: bool,
}

/// The launcher's answers on a status socket.
#[derive(Debug, Serialize, Deserialize)]
enum Reply {
    Started {
        pid: i32,
    },
    Failed(StartError),
    /// What was started ahead can't go on.
    Missed,
    Ended(Ended),
}

/// The engine's orders on a status socket.
#[derive(Debug, Serialize, Deserialize)]
enum Order {
    Kill(i32),
    /// With the spec, stdout, stderr, stdin when told, and what is to be kept open.
    Run {
        stdin: bool,
    },
}

/// The stdio of a step.
#[derive(Debug)]
pub struct StepIo {
    /// What the step reads; `/dev/null` when none.
    pub stdin: Option<OwnedFd>,
    /// Where it writes: the end of a pipe.
    pub stdout: OwnedFd,
    /// Where it writes errors: the end of a pipe.
    pub stderr: OwnedFd,
    /// Kept open until every process of the step is dead, also when the engine is killed: locks. At most
    /// [`MOST_KEPT`].
    pub keep: Vec<OwnedFd>,
}

/// The most descriptors that a step keeps.
pub const MOST_KEPT: usize = packet::MOST_FDS - 6;

/// A launcher process. Dropping it kills all its steps.
#[derive(Debug)]
pub struct Launcher {
    /// `None` only while dropping.
    control: Option<OwnedFd>,
    child: Mutex<Child>,
}

impl Launcher {
    /// Starts a launcher from the running program, whose `main` must open the door `_launcher`.
    pub fn start() -> Result<Launcher, StartError> {
        Launcher::start_from(Path::new("/proc/self/exe"))
    }

    /// Starts a launcher from another kiln program.
    pub fn start_from(program: &Path) -> Result<Launcher, StartError> {
        let fail = || "cannot start the launcher";
        let sealed = sealed::sealed_file(program).at("launcher", fail)?;
        let (control, far) = wire::pair().at("launcher", fail)?;
        let child = Command::new(format!("/proc/self/fd/{}", sealed.as_raw_fd()))
            .arg0("kiln")
            .arg(DOOR)
            .env_clear()
            .stdin(Stdio::from(far))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .at("launcher", fail)?;
        Ok(Launcher { control: Some(control), child: Mutex::new(child) })
    }

    /// Starts a child that sets up what doesn't depend on the root filesystem and waits to become a step.
    ///
    /// That is most of a start, done while another step runs. `spec` says the network, the rights, the size of
    /// `/dev/shm`, and as root filesystem any folder that exists. What goes wrong shows as a slower start.
    pub fn ahead(&self, spec: Spec, netns: Option<OwnedFd>) -> Result<Ahead, StartError> {
        if spec.tty.is_some() || !spec.limits.is_empty() {
            return Err(StartError::new("launcher", "only a step without limits can be started ahead"));
        }
        let fail = || "cannot reach the launcher";
        let (status, far) = wire::pair().at("launcher", fail)?;
        let file = spec_file(&spec).at("launcher", || "cannot write the step down")?;
        let mut fds = vec![file.as_fd(), far.as_fd()];
        fds.extend(netns.iter().map(AsFd::as_fd));
        let request = Request { stdin: false, netns: netns.is_some(), ahead: true };
        wire::send(self.control(), &request, &fds).at("launcher", fail)?;
        Ok(Ahead { spec, status })
    }

    /// Starts a step; returns when its program runs, or with the reason why it doesn't.
    ///
    /// Many threads may call it at once. A terminal is not for steps: `spec.tty` is refused.
    pub fn run(&self, spec: &Spec, io: StepIo, netns: Option<OwnedFd>) -> Result<Step, StartError> {
        self.run_from(None, spec, io, netns, || ())
    }

    /// Starts a step as [`Launcher::run`], from `ahead`, which has the same network, when it fits; does `meanwhile`
    /// before it waits.
    pub fn run_from(
        &self,
        ahead: Option<Ahead>,
        spec: &Spec,
        io: StepIo,
        netns: Option<OwnedFd>,
        meanwhile: impl FnOnce(),
    ) -> Result<Step, StartError> {
        if spec.tty.is_some() {
            return Err(StartError::new("launcher", "a step can't have a terminal"));
        }
        let fail = || "cannot reach the launcher";
        let file = spec_file(spec).at("launcher", || "cannot write the step down")?;
        let mut fds = vec![file.as_fd()];
        let own = [io.stdout.as_fd(), io.stderr.as_fd()].into_iter().chain(io.stdin.iter().map(AsFd::as_fd));
        let keep = io.keep.iter().map(AsFd::as_fd);
        let mut meanwhile = Some(meanwhile);
        if let Some(ahead) = ahead.filter(|ahead| spec.has_stage_of(&ahead.spec)) {
            fds.extend(own.clone().chain(keep.clone()));
            if wire::send(&ahead.status, &Order::Run { stdin: io.stdin.is_some() }, &fds).is_ok() {
                meanwhile.take().into_iter().for_each(|work| work());
                if let Some(step) = Step::begun(ahead.status)? {
                    return Ok(step);
                }
            }
            fds.truncate(1);
        }
        let (status, far) = wire::pair().at("launcher", fail)?;
        fds.push(far.as_fd());
        fds.extend(own.chain(netns.iter().map(AsFd::as_fd)).chain(keep));
        let request = Request { stdin: io.stdin.is_some(), netns: netns.is_some(), ahead: false };
        wire::send(self.control(), &request, &fds).at("launcher", fail)?;
        drop(fds);
        // The far ends live on in the launcher only, so that their end can be noticed.
        drop((far, io, netns));
        meanwhile.into_iter().for_each(|work| work());
        Step::begun(status)?.ok_or_else(lost)
    }

    fn control(&self) -> BorrowedFd<'_> {
        self.control.as_ref().expect("the control socket is open until the drop").as_fd()
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        self.control = None;
        let child = match self.child.get_mut() {
            Ok(child) => child,
            Err(poisoned) => poisoned.into_inner(),
        };
        // The launcher ends when its steps are dead and unmounted; there is nobody to tell of a failure.
        let _ = child.wait();
    }
}

fn lost() -> StartError {
    StartError::new("launcher", "the launcher process has ended; its steps were killed")
}

/// A child that waits to become a step. Dropping it ends it.
#[derive(Debug)]
pub struct Ahead {
    spec: Spec,
    status: OwnedFd,
}

/// A running step. Dropping it kills it and waits until it is gone.
#[derive(Debug)]
pub struct Step {
    pid: i32,
    status: Arc<OwnedFd>,
    ended: bool,
}

impl Step {
    /// Waits until its program runs; `None` when nobody starts it.
    fn begun(status: OwnedFd) -> Result<Option<Step>, StartError> {
        match wire::receive(&status).at("launcher", || "cannot reach the launcher")? {
            Some((Reply::Started { pid }, _)) => {
                Ok(Some(Step { pid, status: Arc::new(status), ended: false }))
            }
            Some((Reply::Failed(error), _)) => Err(error),
            Some((Reply::Ended(_) | Reply::Missed, _)) | None => Ok(None),
        }
    }

    /// Returns the pid of the first process as the machine sees it.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Waits for the end. By then every process of the step is dead, and nothing writes to its root filesystem.
    pub fn wait(self) -> Result<Exit, StartError> {
        self.wait_ended().map(|ended| ended.exit)
    }

    /// Waits as [`Step::wait`], and tells whether memory ran out.
    pub fn wait_ended(mut self) -> Result<Ended, StartError> {
        self.receive_end()
    }

    /// Returns a handle by which another thread may kill the step.
    pub fn killer(&self) -> Killer {
        Killer(Arc::clone(&self.status))
    }

    fn receive_end(&mut self) -> Result<Ended, StartError> {
        loop {
            let reply = wire::receive(&*self.status).at("launcher", || "cannot hear from the launcher")?;
            match reply {
                Some((Reply::Ended(ended), _)) => {
                    self.ended = true;
                    return Ok(ended);
                }
                Some(_) => {}
                None => {
                    self.ended = true;
                    return Err(lost());
                }
            }
        }
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if !self.ended {
            // The end of our side is the order to kill; a launcher that is gone has killed it already.
            let _ = rustix::net::shutdown(&*self.status, Shutdown::Write);
            let _ = self.receive_end();
        }
    }
}

/// Kills a step from another thread.
#[derive(Debug, Clone)]
pub struct Killer(Arc<OwnedFd>);

impl Killer {
    /// Sends a signal to the first process; SIGKILL ends the whole step. Fine when the step has ended.
    pub fn kill(&self, signal: i32) {
        // A closed socket means that the step is gone.
        let _ = wire::send(&*self.0, &Order::Kill(signal), &[]);
    }
}
