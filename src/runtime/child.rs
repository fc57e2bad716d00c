//! The child's side of a start: what runs between clone and exec, in a fixed order.
//!
//! 1. Close what isn't listed, not dumpable, signals default, umask 022, new keyring, new session.
//! 2. Join the cgroups (v1), then make the cgroup namespace.
//! 3. The stage, for which the machine's tree goes; then the root filesystem with all mounts in it becomes `/`.
//! 4. Groups, ids, capabilities; READY; seccomp; the program.
//!
//! A child that is started ahead comes to the stage and waits there for what it shall be: [`Go`].
//!
//! The parent has one thread, so this copy of it may allocate. Nothing here reads the machine's environment.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, Mode, OFlags};
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{DumpableBehavior, Signal};
use rustix::thread::{LinkNameSpaceType, ThreadNameSpaceType, UnshareFlags, move_into_thread_name_spaces};
use serde::{Deserialize, Serialize};

use super::cgroup::Cgroup;
use super::credentials::{self, Seal};
use super::error::{At, StartError};
use super::inroot::{Kind, Made, Root};
use super::mounts::{Mounter, attach};
use super::program::Program;
use super::spec::{IdRange, Net, Ns, Spec};
use super::stage::Stage;
use super::stub::{self, Stub};
use super::user;
use super::{init, pty, rlimits, userns, wire};
use crate::sys;

/// What the child tells its parent.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Message {
    /// The next thing is execve. The pty's master comes along when there is one.
    Ready {
        /// Mount points that were made in the upper folder.
        made: Vec<Made>,
        /// What is tried by way of the stub.
        attempt: Option<Attempt>,
    },
    /// It ends here.
    Failed(StartError),
}

/// The one attempt to run a program.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Attempt {
    /// As it was asked for.
    pub(super) name: String,
    /// Where it is, as the program's own root and working directory have it.
    pub(super) path: String,
}

/// What the parent tells a child that was started ahead. The descriptors are those of [`read_spec`], the root
/// filesystem, stdin, stdout and stderr, then the sources of mounts.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Go {
    /// Once it is ready it waits for [`Run`].
    pub(super) is_held: bool,
}

/// What the parent tells such a child when it is ready: the program may run.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Run;

/// The stage of a failure that says nothing about the step: it can be started in the other way.
pub(super) const AHEAD: &str = "ahead";

/// How many descriptors of [`Go`] come before the sources of mounts.
const GO_FDS: usize = 5;

/// Nothing is left to do but to give up the last rights and to run the program.
pub(super) struct Ready {
    pub(super) program: Program,
    pub(super) seal: Seal,
    /// A first process stays before it.
    pub(super) init: bool,
    /// The way there from the installed file, and where it leads.
    pub(super) stub: Option<(Stub, String)>,
}

impl Ready {
    /// Becomes the program; returns only the reason why it could not.
    pub(super) fn run(self) -> StartError {
        if let Some((stub, path)) = &self.stub {
            return match credentials::seal(&self.seal) {
                Ok(()) => self.program.run_by(stub, path),
                Err(error) => error,
            };
        }
        let paths = self.program.find();
        if self.init
            && let Err(error) = init::stay(&self.seal)
        {
            return error;
        }
        match credentials::seal(&self.seal) {
            Ok(()) => self.program.run(paths),
            Err(error) => error,
        }
    }
}

/// All that the child takes along.
pub(super) struct Plan<'a> {
    pub(super) spec: &'a Spec,
    pub(super) rootfs: BorrowedFd<'a>,
    /// What [`super::rootfs::mount_sources`] made.
    pub(super) sources: &'a [OwnedFd],
    /// None means a pty.
    pub(super) stdio: Option<[BorrowedFd<'a>; 3]>,
    pub(super) netns: Option<BorrowedFd<'a>>,
    /// The process whose IPC is shared.
    pub(super) ipc: Option<BorrowedFd<'a>>,
    /// The user namespace to enter.
    pub(super) userns: Option<BorrowedFd<'a>>,
    /// The cgroup to join.
    pub(super) cgroup: &'a Cgroup,
    pub(super) channel: BorrowedFd<'a>,
    /// The program waits for [`Run`].
    pub(super) is_held: bool,
}

/// Runs the child to its end.
pub(super) fn main(plan: &Plan<'_>) -> ! {
    end_with(plan.channel, || match prepare(plan) {
        Ok(ready) => ready.run(),
        Err(error) => error,
    })
}

/// Runs a child that is started ahead to its end; `spec` says what [`Stage::set_up`] reads.
pub(super) fn main_ahead(
    spec: &Spec,
    netns: Option<BorrowedFd<'_>>,
    cgroup: &Cgroup,
    channel: BorrowedFd<'_>,
) -> ! {
    end_with(channel, || match prepare_ahead(spec, netns, cgroup, channel) {
        Ok(ready) => ready.run(),
        Err(error) => error,
    })
}

/// Runs `work`, which only returns when it fails, tells the failure, and ends the process.
pub fn end_with(channel: BorrowedFd<'_>, work: impl FnOnce() -> StartError) -> ! {
    let error = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work))
        .unwrap_or_else(|_| StartError::new("start", "a bug in kiln ended the start"));
    // When the parent is gone there is nobody to tell.
    let _ = wire::send_plainly(channel, &Message::Failed(error));
    sys::process::exit_now(125)
}

fn prepare(plan: &Plan<'_>) -> Result<Ready, StartError> {
    leave_parent_behind(&keep_list(plan))?;
    if let Some(range) = plan.spec.ids {
        // Until it enters the namespace; its ids are set there.
        std::mem::forget(userns::assume(range)?);
    }
    join_namespaces(plan.spec, plan.netns, &plan.cgroup.tasks)?;
    if let Some(ipc) = plan.ipc {
        let ipc_only = ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION;
        move_into_thread_name_spaces(ipc, ipc_only)
            .at("ipc", || "cannot enter the container's IPC namespace")?;
    }
    finish(plan, Stage::set_up(plan.spec, plan.cgroup, plan.ipc)?)
}

fn prepare_ahead(
    spec: &Spec,
    netns: Option<BorrowedFd<'_>>,
    cgroup: &Cgroup,
    channel: BorrowedFd<'_>,
) -> Result<Ready, StartError> {
    let mut keep: Vec<i32> = netns.iter().chain([&channel]).map(AsRawFd::as_raw_fd).collect();
    keep.extend(cgroup.tasks.iter().map(AsRawFd::as_raw_fd));
    let set_up = || {
        leave_parent_behind(&keep)?;
        die_with_parent()?;
        join_namespaces(spec, netns, &cgroup.tasks)?;
        Stage::set_up(spec, cgroup, None)
    };
    let stage = set_up().map_err(|error| StartError { stage: AHEAD.to_owned(), ..error })?;
    let fail = || "cannot hear what is to be started";
    let Some((Go { is_held }, fds)) = wire::receive(channel).at("start", fail)? else {
        // It was never needed.
        sys::process::exit_now(0)
    };
    // Closed with all others before the program runs.
    let fds = ManuallyDrop::new(fds);
    let incomplete = || StartError::new("start", "the order to start lacks a descriptor");
    let (first, sources) = fds.split_at_checked(GO_FDS).ok_or_else(incomplete)?;
    let [spec, rootfs, stdin, stdout, stderr] = first else { return Err(incomplete()) };
    let plan = Plan {
        spec: &read_spec(spec)?,
        rootfs: rootfs.as_fd(),
        sources,
        stdio: Some([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()]),
        netns: None,
        ipc: None,
        userns: None,
        cgroup,
        channel,
        is_held,
    };
    finish(&plan, stage)
}

/// Writes a spec to a file in memory: it can be larger than a message, heredoc scripts are in it.
pub(super) fn spec_file(spec: &Spec) -> io::Result<OwnedFd> {
    let fd = rustix::fs::memfd_create(c"kiln-spec", MemfdFlags::CLOEXEC)?;
    let mut file = File::from(fd);
    file.write_all(&serde_json::to_vec(spec)?)?;
    Ok(file.into())
}

/// Reads a spec from its file.
pub(super) fn read_spec(file: &OwnedFd) -> Result<Spec, StartError> {
    let fail = || "cannot read the step";
    let mut file = File::from(file.try_clone().at("start", fail)?);
    file.rewind().at("start", fail)?;
    let mut text = Vec::new();
    file.read_to_end(&mut text).at("start", fail)?;
    serde_json::from_slice(&text)
        .map_err(|error| StartError::new("start", format!("cannot read the step: {error}")))
}

/// The rest, once everything is known.
fn finish(plan: &Plan<'_>, mut stage: Stage) -> Result<Ready, StartError> {
    let (spec, root) = (plan.spec, plan.rootfs);
    attach(root, &stage.top).at("mount", || "cannot attach the root filesystem")?;
    let user = user::look_up(&Root(root), &spec.user, &spec.groups)?;
    let master = stage.pty.take();
    let mut mounter = Mounter {
        spec,
        root,
        stage: &stage,
        sources: plan.sources,
        made: Vec::new(),
        root_dev: rustix::fs::fstat(root).at("mount", || "cannot look at the root filesystem")?.st_dev,
    };
    mounter.mount_all()?;
    let made = std::mem::take(&mut mounter.made);
    enter_root(root)?;
    let host = |id| IdRange::host(spec.ids, id);
    let (uid, gid) = if spec.cwd_of_root { (0, 0) } else { (user.uid, user.gid) };
    enter_cwd(&spec.cwd, Some((host(uid), host(gid))))?;
    if !spec.hostname.is_empty() {
        rustix::system::sethostname(spec.hostname.as_bytes())
            .at("hostname", || format!("cannot set the host name `{}`", spec.hostname))?;
    }
    if !spec.domainname.is_empty() {
        rustix::system::setdomainname(spec.domainname.as_bytes())
            .at("domainname", || format!("cannot set the domain name `{}`", spec.domainname))?;
    }
    connect_stdio(plan.stdio, master.as_ref().map(AsFd::as_fd), spec.tty, host(user.uid))?;
    // Before the user namespace: who enters one has its memory to itself.
    stage.left()?;
    let program = Program::new(&spec.args, &spec.env, &spec.secret_env, &user);
    rlimits::apply(&spec.rlimits)?;
    if let Some(userns) = plan.userns {
        userns::enter(userns)?;
    }
    let seal = credentials::become_user(&user, &spec.rights)?;
    die_with_parent()?;
    let attempt = attempt(&program, spec.init)?;
    let fds: Vec<_> = master.iter().map(AsFd::as_fd).collect();
    let ready = Message::Ready { made, attempt };
    wire::send(plan.channel, &ready, &fds).at("start", || "cannot tell that the start is ready")?;
    drop(fds);
    drop(master);
    // Only the channel is open besides stdio when the first untrusted byte runs.
    close_all_but(plan.channel)?;
    let ready = Ready { program, seal, init: spec.init, stub: stub_for(ready, plan.channel)? };
    if plan.is_held {
        let run = wire::receive(plan.channel).at("start", || "cannot hear whether the program may run")?;
        // Nobody is left to hear that it ends.
        let Some((Run, _)) = run else { sys::process::exit_now(125) };
    }
    Ok(ready)
}

/// Chooses what to run, where it runs by way of the stub.
pub(super) fn attempt(program: &Program, init: bool) -> Result<Option<Attempt>, StartError> {
    if !stub::is_needed() {
        return Ok(None);
    }
    if init {
        // It would stay, run from a file that the container can reach.
        return Err(StartError::new("init", "a forked start has no first process of its own"));
    }
    Ok(Some(Attempt { name: program.name().to_owned(), path: program.choose()? }))
}

/// Makes the stub for what [`Message::Ready`] has told.
pub(super) fn stub_for(
    ready: Message,
    channel: BorrowedFd<'_>,
) -> Result<Option<(Stub, String)>, StartError> {
    let Message::Ready { attempt: Some(attempt), .. } = ready else { return Ok(None) };
    let stub = Stub::make(channel).at("exec", || "cannot make the program before the program")?;
    Ok(Some((stub, attempt.path)))
}

fn keep_list(plan: &Plan<'_>) -> Vec<i32> {
    let mut keep = vec![plan.channel.as_raw_fd(), plan.rootfs.as_raw_fd()];
    keep.extend(plan.sources.iter().map(AsRawFd::as_raw_fd));
    keep.extend(plan.stdio.iter().flatten().map(AsRawFd::as_raw_fd));
    keep.extend(plan.netns.iter().chain(&plan.ipc).chain(&plan.userns).map(AsRawFd::as_raw_fd));
    keep.extend(plan.cgroup.tasks.iter().map(AsRawFd::as_raw_fd));
    keep
}

/// Step 1: nothing of the parent stays but the listed descriptors.
pub(super) fn leave_parent_behind(keep: &[i32]) -> Result<(), StartError> {
    sys::fds::close_all_except(0, keep).at("start", || "cannot close inherited descriptors")?;
    fill_standard_numbers()?;
    forget_caller()
}

/// The rest of step 1, behind the descriptors.
pub fn forget_caller() -> Result<(), StartError> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .at("start", || "cannot hide the process's memory")?;
    sys::process::reset_signals().at("start", || "cannot reset signals")?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    // A kernel without keyrings has nothing to leave behind.
    let _ = sys::process::new_session_keyring();
    rustix::process::setsid().at("start", || "cannot make a session").map(drop)
}

/// Takes the numbers 0, 1 and 2, so that nothing opened from here on is overwritten when stdio is put there.
fn fill_standard_numbers() -> Result<(), StartError> {
    loop {
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .at("start", || "cannot open `/dev/null`")?;
        if null.as_raw_fd() > 2 {
            return Ok(());
        }
        // Replaced when stdio is connected.
        std::mem::forget(null);
    }
}

/// Step 2, and the network: all before the mounts, which show both.
fn join_namespaces(spec: &Spec, netns: Option<BorrowedFd<'_>>, tasks: &[OwnedFd]) -> Result<(), StartError> {
    for tasks in tasks {
        rustix::io::write(tasks, b"0").at("cgroup", || "cannot join the cgroup")?;
    }
    if spec.namespaces.cgroup == Ns::Own {
        sys::process::unshare_namespaces(UnshareFlags::NEWCGROUP)
            .at("cgroup", || "cannot make a cgroup namespace")?;
    }
    match (spec.network, netns) {
        (Net::Namespace | Net::Shared, Some(netns)) => {
            rustix::thread::move_into_link_name_space(netns, Some(LinkNameSpaceType::Network))
                .at("network", || "cannot enter the network namespace")?;
        }
        (Net::Namespace, None) => {
            sys::netns::loopback_up().at("network", || "cannot bring the loopback up")?;
        }
        (Net::Shared, None) => return Err(StartError::new("network", "there is no network to share")),
        (Net::Host, _) => {}
    }
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .at("mount", || "cannot make the mounts private")
}

/// Makes the root filesystem `/`. It lies over the stage, which no path leads to; whoever may unmount it finds there
/// what this very process was given.
fn enter_root(root: BorrowedFd<'_>) -> Result<(), StartError> {
    let fail = || "cannot change the root";
    rustix::process::fchdir(root).at("chroot", fail)?;
    rustix::process::chroot(".").at("chroot", fail)?;
    rustix::process::chdir("/").at("chroot", fail)
}

/// Enters the working directory; makes it for the user when `make` is given.
///
/// The descriptor comes from the kernel's walk inside the root, without magic links, and the kernel must know
/// the result by a path: a directory of the machine has none here.
pub fn enter_cwd(cwd: &str, make: Option<(u32, u32)>) -> Result<(), StartError> {
    let cwd = if cwd.is_empty() { "/" } else { cwd };
    if !cwd.starts_with('/') {
        return Err(StartError::new("cwd", format!("the working directory `{cwd}` is not an absolute path")));
    }
    let fail = || format!("cannot enter the working directory `{cwd}`");
    let root = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).at("cwd", fail)?;
    let root = Root(root.as_fd());
    let folder = match make {
        // A folder that was asked for is no mount point: what is made here belongs to the layer.
        Some(owner) => root.ensure(cwd, Kind::Folder, owner, &mut Vec::new()).at("cwd", fail)?,
        None => root.open(cwd, OFlags::PATH | OFlags::DIRECTORY).at("cwd", fail)?,
    };
    rustix::process::fchdir(&folder).at("cwd", fail)?;
    let path = rustix::process::getcwd(Vec::new()).at("cwd", fail)?;
    if path.as_bytes().first() != Some(&b'/') {
        return Err(StartError::new("cwd", format!("the working directory `{cwd}` is outside of the root")));
    }
    Ok(())
}

/// Puts stdio at 0, 1 and 2 and gives it to `user`, an id of the machine; a pty also becomes the controlling terminal.
pub fn connect_stdio(
    stdio: Option<[BorrowedFd<'_>; 3]>,
    master: Option<BorrowedFd<'_>>,
    size: Option<(u16, u16)>,
    user: u32,
) -> Result<(), StartError> {
    let fail = || "cannot connect stdin, stdout and stderr";
    /// Above every number that stdio is put at.
    const FIRST_FREE: i32 = 3;
    let mut sources = Vec::new();
    match (stdio, master) {
        (Some(stdio), _) => {
            for fd in stdio {
                sources.push(rustix::io::fcntl_dupfd_cloexec(fd, FIRST_FREE).at("stdio", fail)?);
            }
        }
        (None, Some(master)) => {
            let slave = pty::slave(master)?;
            for _ in 0..3 {
                sources.push(rustix::io::fcntl_dupfd_cloexec(&slave, FIRST_FREE).at("stdio", fail)?);
            }
        }
        (None, None) => return Err(StartError::new("stdio", "a terminal was asked for without a size")),
    }
    rustix::stdio::dup2_stdin(&sources[0]).at("stdio", fail)?;
    rustix::stdio::dup2_stdout(&sources[1]).at("stdio", fail)?;
    rustix::stdio::dup2_stderr(&sources[2]).at("stdio", fail)?;
    if stdio.is_none() {
        rustix::process::ioctl_tiocsctty(&sources[0]).at("pty", || "cannot take the terminal")?;
        if let Some((rows, columns)) = size {
            pty::resize(&sources[0], rows, columns).at("pty", || "cannot set the terminal's size")?;
        }
    }
    credentials::own_stdio(&sources, user);
    Ok(())
}

/// Asks to be killed when the parent ends; a parent that has ended already shows as a closed channel.
pub fn die_with_parent() -> Result<(), StartError> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .at("start", || "cannot ask to end with the parent")
}

pub(super) fn close_all_but(channel: BorrowedFd<'_>) -> Result<(), StartError> {
    sys::fds::close_all_except(3, &[channel.as_raw_fd()]).at("start", || "cannot close descriptors")
}
