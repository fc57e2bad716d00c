//! A further process in a running container.
//!
//! The caller forks a helper (stage 1) that enters the container's namespaces, and from there the process itself
//! (stage 2), which is the caller's own child by CLONE_PARENT, so that its exit code comes home. Both leave all
//! descriptors behind before the first namespace is entered, and neither can be looked into (not dumpable): a
//! hostile container sees nothing of the machine in the moment between joining and execve.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::process::{PidfdFlags, WaitId, WaitIdOptions, pidfd_open, waitid};
use rustix::thread::{ThreadNameSpaceType, UnshareFlags, move_into_thread_name_spaces};
use serde::{Deserialize, Serialize};

use super::cgroup::Cgroup;
use super::child::{self, Message, Ready};
use super::credentials;
use super::error::{At, StartError};
use super::inroot::Root;
use super::process::{Process, Starting, Stdio, boot_id, start_time};
use super::program::Program;
use super::spec::{ExecSpec, IdRange, Target};
use super::tools::Tools;
use super::{pty, rlimits, user, userns, wire};
use crate::sys;
use crate::sys::clone::{Cloned, clone_process};

const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1;

/// Stage 1's report to the caller.
#[derive(Debug, Serialize, Deserialize)]
enum Report {
    /// Stage 2 was cloned; its pidfd comes along. The pid is the caller's view.
    Cloned {
        pid: i32,
    },
    Failed(StartError),
}

/// What both stages take along.
struct Join<'a> {
    spec: &'a ExecSpec,
    container: BorrowedFd<'a>,
    stdio: Option<[BorrowedFd<'a>; 3]>,
    tools: Option<&'a Tools>,
    tasks: &'a [OwnedFd],
    cgroup: Option<BorrowedFd<'a>>,
    report: BorrowedFd<'a>,
    channel: BorrowedFd<'a>,
}

/// Starts a further process in the container whose first process is `target`; returns when its program runs.
///
/// For single-threaded processes only.
pub fn exec(target: &Target, spec: &ExecSpec, stdio: Stdio) -> Result<Process, StartError> {
    if spec.args.is_empty() {
        return Err(StartError::new("exec", "no command specified"));
    }
    let container = target.open()?;
    let fail = || "cannot enter the container";
    let mut cgroup = Cgroup::open(&target.cgroup);
    cgroup.open_doors().at("cgroup", fail)?;
    let tools = spec.tools.as_ref().map(|layers| Tools::open(layers, spec.ids, target)).transpose()?;
    let (report, report_far) = wire::pair().at("exec", fail)?;
    let (channel, channel_far) = wire::pair().at("exec", fail)?;
    let helper = match clone_process(0, None).at("clone", fail)? {
        Cloned::Parent { pidfd, .. } => pidfd,
        Cloned::Child => join(&Join {
            spec,
            container: container.as_fd(),
            stdio: match &stdio {
                Stdio::Fds(fds) => Some(fds.each_ref().map(AsFd::as_fd)),
                Stdio::Pty => None,
            },
            tools: tools.as_ref(),
            tasks: &cgroup.tasks,
            cgroup: cgroup.v2.as_ref().map(AsFd::as_fd),
            report: report_far.as_fd(),
            channel: channel_far.as_fd(),
        }),
    };
    drop((report_far, channel_far, stdio));
    let (pid, pidfd) = reported(helper.as_fd(), &report)?;
    let mut starting = Starting::adopt(pid, pidfd, channel);
    while !starting.advance()? {}
    Ok(starting.process)
}

impl Target {
    /// Names a process that runs, in its cgroup.
    pub fn of(pid: i32, cgroup: &[std::path::PathBuf]) -> std::io::Result<Target> {
        Ok(Target { pid, start_time: start_time(pid)?, boot_id: boot_id()?, cgroup: cgroup.to_vec() })
    }

    /// Opens the first process, and makes sure that it is the one of the record.
    pub fn open(&self) -> Result<OwnedFd, StartError> {
        let gone = || StartError::new("exec", "the container is not running");
        let pid = rustix::process::Pid::from_raw(self.pid).ok_or_else(gone)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|_| gone())?;
        // Read after the open: the descriptor's process is the one that these describe, or it has ended.
        let same_start = start_time(self.pid).map_err(|_| gone())? == self.start_time;
        let same_boot = self.boot_id.is_empty() || boot_id().map_err(|_| gone())? == self.boot_id;
        if same_start && same_boot { Ok(pidfd) } else { Err(gone()) }
    }
}

/// Waits for the report of stage 1, and for its end; gives the process that it cloned.
pub fn reported(helper: BorrowedFd<'_>, report: &OwnedFd) -> Result<(i32, OwnedFd), StartError> {
    let reported = wire::receive::<Report>(report).at("exec", || "cannot enter the container");
    let reaped = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(helper), WaitIdOptions::EXITED));
    reaped.at("exec", || "cannot wait for the helper")?;
    match reported? {
        Some((Report::Cloned { pid }, fds)) => match fds.into_iter().next() {
            Some(pidfd) => Ok((pid, pidfd)),
            None => Err(StartError::new("exec", "the new process has no descriptor")),
        },
        Some((Report::Failed(error), _)) => Err(error),
        None => Err(StartError::new("exec", "the container ended while a process was entering it")),
    }
}

/// The end of stage 1: reports what became of its task.
pub fn report(socket: BorrowedFd<'_>, cloned: Result<(i32, OwnedFd), StartError>) -> ! {
    let (message, pidfd) = match cloned {
        Ok((pid, pidfd)) => (Report::Cloned { pid }, Some(pidfd)),
        Err(error) => (Report::Failed(error), None),
    };
    let fds: Vec<_> = pidfd.iter().map(AsFd::as_fd).collect();
    // Without a caller there is nobody to report to; stage 2 dies by its closed channel.
    let sent = wire::send(socket, &message, &fds);
    sys::process::exit_now(i32::from(sent.is_err()))
}

/// Stage 1.
fn join(plan: &Join<'_>) -> ! {
    let cloned = match enter(plan) {
        Ok(Cloned::Child) => child::end_with(plan.channel, || match prepare(plan) {
            Ok(ready) => ready.run(),
            Err(error) => error,
        }),
        Ok(Cloned::Parent { pid, pidfd }) => Ok((pid, pidfd)),
        Err(error) => Err(error),
    };
    report(plan.report, cloned)
}

fn enter(plan: &Join<'_>) -> Result<Cloned, StartError> {
    let mut keep = vec![plan.container.as_raw_fd(), plan.report.as_raw_fd(), plan.channel.as_raw_fd()];
    keep.extend(plan.stdio.iter().flatten().map(AsRawFd::as_raw_fd));
    keep.extend(plan.tasks.iter().map(AsRawFd::as_raw_fd));
    keep.extend(plan.tools.iter().map(|tools| tools.files.as_raw_fd()));
    keep.extend(plan.cgroup.iter().map(AsRawFd::as_raw_fd));
    child::leave_parent_behind(&keep)?;
    clone_into(plan.container, plan.tasks, plan.cgroup)
}

/// Enters a container's cgroups and namespaces, and clones there a child of the caller's own parent.
pub fn clone_into(
    container: BorrowedFd<'_>,
    tasks: &[OwnedFd],
    cgroup: Option<BorrowedFd<'_>>,
) -> Result<Cloned, StartError> {
    for tasks in tasks {
        rustix::io::write(tasks, b"0").at("cgroup", || "cannot join the container's cgroup")?;
    }
    let all = UnshareFlags::NEWNS
        | UnshareFlags::NEWPID
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWUTS
        | UnshareFlags::NEWNET
        | UnshareFlags::NEWCGROUP;
    let all = ThreadNameSpaceType::from_bits_retain(all.bits());
    move_into_thread_name_spaces(container, all).at("exec", || "cannot enter the container's namespaces")?;
    clone_process(libc::CLONE_PARENT as u64, cgroup).at("clone", || "cannot make a process in the container")
}

/// Stage 2, up to the program. Root is the container's already: setns of a mount namespace sets it.
fn prepare(plan: &Join<'_>) -> Result<Ready, StartError> {
    let spec = plan.spec;
    // 0, 1 and 2 are taken since stage 1.
    let mut keep = vec![plan.channel.as_raw_fd()];
    keep.extend(spec.ids.map(|_| plan.container.as_raw_fd()));
    keep.extend(plan.stdio.iter().flatten().map(AsRawFd::as_raw_fd));
    keep.extend(plan.tools.iter().map(|tools| tools.files.as_raw_fd()));
    sys::fds::close_all_except(3, &keep).at("exec", || "cannot close inherited descriptors")?;
    rustix::process::setsid().at("exec", || "cannot make a session")?;
    if let Some(tools) = plan.tools {
        tools.enter()?;
    }
    let root = open_path("/")?;
    let user = user::look_up(&Root(root.as_fd()), &spec.user, &spec.groups)?;
    child::enter_cwd(&spec.cwd, None)?;
    let master = match plan.stdio {
        Some(_) => None,
        None => Some(open_pty()?),
    };
    child::connect_stdio(
        plan.stdio,
        master.as_ref().map(AsFd::as_fd),
        spec.tty,
        IdRange::host(spec.ids, user.uid),
    )?;
    let program = Program::new(&spec.args, &spec.env, &[], &user);
    rlimits::apply(&spec.rlimits)?;
    if spec.ids.is_some() {
        userns::enter(plan.container)?;
    }
    let seal = credentials::become_user(&user, &spec.rights)?;
    child::die_with_parent()?;
    let fds: Vec<_> = master.iter().map(AsFd::as_fd).collect();
    let ready = Message::Ready { made: Vec::new(), attempt: child::attempt(&program, false)? };
    wire::send(plan.channel, &ready, &fds).at("exec", || "cannot tell that the start is ready")?;
    drop(fds);
    drop((master, root));
    child::close_all_but(plan.channel)?;
    Ok(Ready { program, seal, init: false, stub: child::stub_for(ready, plan.channel)? })
}

/// Opens a terminal in the container's own devpts; whatever the container put in its place is refused.
fn open_pty() -> Result<OwnedFd, StartError> {
    let devpts = open_path("/dev/pts")?;
    let kind = rustix::fs::fstatfs(&devpts).at("pty", || "cannot look at the container's `/dev/pts`")?.f_type;
    if kind != DEVPTS_SUPER_MAGIC {
        return Err(StartError::new("pty", "the container's `/dev/pts` is no devpts filesystem"));
    }
    Ok(pty::open(devpts.as_fd())?.0)
}

fn open_path(path: &str) -> Result<OwnedFd, StartError> {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .at("exec", || format!("cannot open the container's `{path}`"))
}
