//! `exec`: a further process in a container.
//!
//! As [`crate::runtime::exec`] does it: a helper enters the container's namespaces and clones the process from there as
//! the caller's own child, so that its exit code comes home, and so that it outlives the caller where that is asked for.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::child::{self, Message, Order};
use super::config::{Config, Process};
use super::error::{Doing, Error, Result};
use super::state::{Folder, Status};
use super::{check, console, rights, userns};
use crate::runtime::{
    self, At, Cgroup, Exit, StartError, clone_into, die_with_parent, end_with, enter_userns, reported, wire,
};
use crate::sys;
use crate::sys::clone::{Cloned, clone_process};
use crate::sys::seccomp::Instruction;

/// What `exec` is asked for.
#[derive(Debug, Clone, Default)]
pub struct ExecOptions {
    /// Returns when the program runs.
    pub detach: bool,
    /// Where its pid is written to.
    pub pid_file: Option<PathBuf>,
    /// The socket that the terminal's master is sent to.
    pub console_socket: Option<PathBuf>,
    /// Without that, the caller gets the terminal.
    pub keeps_terminal: bool,
    /// How many descriptors from 3 on the program gets.
    pub preserve_fds: u32,
    /// Joins a frozen container too.
    pub ignore_paused: bool,
}

/// A further process of a container, a child of this one.
#[derive(Debug)]
pub struct Further {
    /// Readable when it has ended.
    pub pidfd: OwnedFd,
    /// The master of its terminal, when that is the caller's.
    pub terminal: Option<OwnedFd>,
}

impl Further {
    /// Waits for its end.
    pub fn wait(&self) -> Result<Exit> {
        super::wait(self.pidfd.as_fd())
    }
}

/// What both take along.
struct Join<'a> {
    config: &'a Config,
    process: &'a Process,
    filter: Vec<Instruction>,
    container: BorrowedFd<'a>,
    tasks: &'a [OwnedFd],
    cgroup: Option<BorrowedFd<'a>>,
    preserved: i32,
    dies_with_caller: bool,
    report: BorrowedFd<'a>,
    channel: BorrowedFd<'a>,
}

/// Runs `process` in the container `id`; returns when its program runs.
pub(super) fn exec(root: &Path, id: &str, process: &Process, options: &ExecOptions) -> Result<Further> {
    let folder = Folder::find(root, id)?;
    let kept = folder.kept()?;
    match folder.status(kept.as_ref()) {
        Status::Running | Status::Created => {}
        Status::Paused if options.ignore_paused => {}
        Status::Paused => {
            let text = "cannot exec in a paused container (use --ignore-paused to override)";
            return Err(Error::Refused(text.into()));
        }
        Status::Stopped | Status::Creating => {
            return Err(Error::Refused("cannot exec in a stopped container".into()));
        }
    }
    check::process(process)?;
    console::check(process.terminal, options.console_socket.as_deref(), options.keeps_terminal)?;
    let Some(target) = kept.and_then(|kept| kept.process) else { return Err(Error::NotRunning) };
    let config = folder.config()?;
    userns::check_user(&config, process)?;
    let filter = rights::filter(config.linux.as_ref().and_then(|linux| linux.seccomp.as_ref()))?;
    let container = target.open()?;
    let fail = || "cannot enter the container";
    let mut cgroup = Cgroup::open(&target.cgroup);
    cgroup.open_doors().doing(fail)?;
    let (report, report_far) = wire::pair().doing(fail)?;
    let (channel, channel_far) = wire::pair().doing(fail)?;
    let helper = match clone_process(0, None).doing(fail)? {
        Cloned::Parent { pidfd, .. } => pidfd,
        Cloned::Child => join(Join {
            config: &config,
            process,
            filter,
            container: container.as_fd(),
            tasks: &cgroup.tasks,
            cgroup: cgroup.v2.as_ref().map(AsFd::as_fd),
            preserved: i32::try_from(options.preserve_fds).unwrap_or(0),
            dies_with_caller: !options.detach,
            report: report_far.as_fd(),
            channel: channel_far.as_fd(),
        }),
    };
    drop((report_far, channel_far));
    let (pid, pidfd) = reported(helper.as_fd(), &report)?;
    let limits = config.namespace("user").map(|_| process);
    match accompany(&channel, pid, limits, options) {
        Ok(terminal) => Ok(Further { pidfd, terminal }),
        Err(error) => {
            // It may have ended by itself.
            let _ = sys::process::pidfd_signal(pidfd.as_fd(), libc::SIGKILL);
            super::reap(pidfd.as_fd());
            Err(error)
        }
    }
}

/// Goes with the process until its program runs, and sets the limits of one in a user namespace; gives the terminal when
/// it is the caller's.
fn accompany(
    channel: &OwnedFd,
    pid: i32,
    limits: Option<&Process>,
    options: &ExecOptions,
) -> Result<Option<OwnedFd>> {
    let (mut is_ready, mut terminal) = (false, None);
    loop {
        match wire::receive::<Message>(channel).doing(|| "cannot hear from the new process")? {
            Some((Message::Failed(error), _)) => return Err(error.into()),
            Some((_, fds)) => {
                is_ready = true;
                match (fds.into_iter().next(), &options.console_socket) {
                    (Some(master), Some(socket)) => console::send(socket, &master)?,
                    (master, _) => terminal = master,
                }
                if let Some(file) = &options.pid_file {
                    super::write_pid(file, pid)?;
                }
                if let Some(process) = limits {
                    rights::limit(Some(pid), process)?;
                }
                wire::send(channel, &Order::Go, &[]).doing(|| "cannot reach the new process")?;
            }
            // Closed by execve.
            None if is_ready => return Ok(terminal),
            None => {
                return Err(StartError::new("exec", "the process ended before its program could run").into());
            }
        }
    }
}

/// The helper.
fn join(plan: Join<'_>) -> ! {
    let cloned = match enter(&plan) {
        Ok(Cloned::Child) => {
            let channel = plan.channel;
            end_with(channel, || match become_program(plan) {
                Ok(never) => never,
                Err(error) => error,
            })
        }
        Ok(Cloned::Parent { pid, pidfd }) => Ok((pid, pidfd)),
        Err(error) => Err(error),
    };
    runtime::report(plan.report, cloned)
}

fn enter(plan: &Join<'_>) -> std::result::Result<Cloned, StartError> {
    let mut keep = vec![plan.container.as_raw_fd(), plan.report.as_raw_fd(), plan.channel.as_raw_fd()];
    keep.extend(plan.tasks.iter().map(AsRawFd::as_raw_fd));
    keep.extend(plan.cgroup.iter().map(AsRawFd::as_raw_fd));
    child::leave_creator_behind(plan.preserved, &keep)?;
    clone_into(plan.container, plan.tasks, plan.cgroup)
}

/// The process, up to its program; returns only why it could not become that.
fn become_program(plan: Join<'_>) -> std::result::Result<StartError, StartError> {
    let process = plan.process;
    let first = 3 + plan.preserved;
    sys::fds::close_all_except(first, &[plan.channel.as_raw_fd(), plan.container.as_raw_fd()])
        .at("exec", || "cannot close inherited descriptors")?;
    let has_ids = plan.config.namespace("user").is_some();
    if has_ids {
        userns::give_stdio(plan.config, process);
        enter_userns(plan.container)?;
        userns::become_root()?;
    }
    rustix::process::setsid().at("exec", || "cannot make a session")?;
    let profile = child::apparmor(process)?;
    let master = if process.terminal { Some(child::terminal(process, None)?) } else { None };
    let (program, seal) = child::become_process(process, plan.filter, profile, has_ids)?;
    if plan.dies_with_caller {
        die_with_parent()?;
    }
    let fds: Vec<_> = master.iter().map(AsFd::as_fd).collect();
    wire::send(plan.channel, &Message::Ready, &fds).at("exec", || "cannot tell that the start is ready")?;
    sys::fds::close_all_except(first, &[plan.channel.as_raw_fd()])
        .at("exec", || "cannot close descriptors")?;
    child::order(plan.channel)?;
    let paths = program.find();
    rights::seal(&seal)?;
    Ok(program.run(paths))
}
