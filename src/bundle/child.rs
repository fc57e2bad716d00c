//! The child's side of a creation: what runs between clone and exec.
//!
//! 1. Close what isn't listed, not dumpable, signals default, new keyring, new session; end with the creator.
//! 2. Join cgroups and namespaces, mount everything, say PREPARED; the creator runs its hooks.
//! 3. `createContainer` hooks, the new root, terminal, ids, capabilities, say READY; the creator writes the state.
//! 4. From its COMMIT on it lives without the creator, and waits for somebody to connect to the start socket.
//! 5. `startContainer` hooks, seccomp, the program. The end of the connection, closed by execve, tells the starter.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::net::{SocketFlags, accept_with};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
use serde::{Deserialize, Serialize};

use super::config::{Config, Linux, Process};
use super::hooks;
use super::mounts::{self, Mounter};
use super::rights::{self, Seal};
use super::state::{State, Status};
use super::userns;
use crate::runtime::{
    At, Program, Root, StartError, User, connect_stdio, die_with_parent, end_with, enter_cwd, forget_caller,
    look_up, new_filesystem, open_pty, own_stdio, sysctl_path, wire,
};
use crate::sys;
use crate::sys::mount::{NODEV, NOEXEC, NOSUID, RDONLY, set_attributes};
use crate::sys::seccomp::Instruction;

type Result<T> = std::result::Result<T, StartError>;

const DEVPTS_SUPER_MAGIC: i64 = 0x1cd1;

/// What the child tells the creator, and the last word the starter.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Message {
    /// Everything is mounted.
    Prepared,
    /// Only the start is missing. The terminal's master comes along when there is one.
    Ready,
    /// It lives on by itself.
    Free,
    /// It ends here.
    Failed(StartError),
}

/// What the creator tells the child.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// The hooks have run, or the limits are set.
    Go,
    /// The state is written.
    Commit,
}

/// All that the child takes along.
pub(super) struct Plan<'a> {
    pub(super) config: &'a Config,
    pub(super) linux: &'a Linux,
    pub(super) process: &'a Process,
    pub(super) mounter: Mounter<'a>,
    /// Namespaces of others to enter.
    pub(super) namespaces: &'a [(LinkNameSpaceType, OwnedFd)],
    /// The cgroup's files to join it by.
    pub(super) tasks: &'a [OwnedFd],
    pub(super) filter: Vec<Instruction>,
    pub(super) channel: BorrowedFd<'a>,
    pub(super) listener: BorrowedFd<'a>,
    /// Descriptors from 3 on that the program gets.
    pub(super) preserved: i32,
    /// As the hooks inside see it.
    pub(super) state: State,
}

/// Runs the child to its end.
pub(super) fn main(plan: Plan<'_>) -> ! {
    let channel = plan.channel;
    end_with(channel, || match until_start(plan) {
        Ok(waiting) => waiting.run(),
        Err(error) => error,
    })
}

/// A child that waits for its start.
struct Waiting<'a> {
    listener: BorrowedFd<'a>,
    program: Program,
    seal: Seal,
    hooks: Vec<super::config::Hook>,
    preserved: i32,
    state: State,
}

impl Waiting<'_> {
    fn run(self) -> StartError {
        let starter = loop {
            match accept_with(self.listener, SocketFlags::CLOEXEC) {
                Ok(starter) => break starter,
                // The one that connected is gone again.
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(error) => {
                    return Err::<(), _>(error)
                        .at("start", || "cannot hear the start")
                        .expect_err("it is one");
                }
            }
        };
        end_with(starter.as_fd(), || match self.start(&starter) {
            Ok((program, paths)) => program.run(paths),
            Err(error) => error,
        })
    }

    fn start(self, starter: &OwnedFd) -> Result<(Program, Vec<String>)> {
        hooks::run("startContainer", &self.hooks, &self.state, None)
            .map_err(|error| StartError::new("hooks", error.to_string()))?;
        let first = 3 + self.preserved;
        sys::fds::close_all_except(first, &[starter.as_raw_fd()])
            .at("start", || "cannot close descriptors")?;
        let paths = self.program.find();
        rights::seal(&self.seal)?;
        Ok((self.program, paths))
    }
}

fn until_start(plan: Plan<'_>) -> Result<Waiting<'_>> {
    let mut keep = vec![plan.channel.as_raw_fd(), plan.listener.as_raw_fd()];
    keep.extend(plan.namespaces.iter().map(|(_, fd)| fd.as_raw_fd()));
    keep.extend(plan.tasks.iter().map(AsRawFd::as_raw_fd));
    keep.extend(plan.mounter.lender.iter().map(AsRawFd::as_raw_fd));
    keep.extend(plan.mounter.idmaps.iter().flatten().map(AsRawFd::as_raw_fd));
    leave_creator_behind(plan.preserved, &keep)?;
    die_with_parent()?;
    let has_ids = plan.mounter.lender.is_some();
    if has_ids {
        userns::become_root()?;
        // The change took it away.
        die_with_parent()?;
    }
    join(&plan)?;
    let root = plan.mounter.mount_all()?;
    tell(&plan, &Message::Prepared, &[])?;
    order(plan.channel)?;
    let hooks = plan.config.hooks().create_container;
    hooks::run("createContainer", &hooks, &plan.state, Some(&plan.state.rootfs))
        .map_err(|error| StartError::new("hooks", error.to_string()))?;
    // The machine's, for what is written below its folders before they are out of reach.
    let profile = apparmor(plan.process)?;
    mounts::enter(&root)?;
    plan.mounter.share(&root)?;
    settle(&plan)?;
    let master = if plan.process.terminal { Some(terminal(plan.process, Some(root.as_fd()))?) } else { None };
    if plan.config.root.as_ref().is_some_and(|root| root.readonly) {
        set_attributes(root.as_fd(), RDONLY, false).at("mount", || "cannot make `/` read-only")?;
    }
    let (program, seal) = become_process(plan.process, plan.filter.clone(), profile, has_ids)?;
    die_with_parent()?;
    let fds: Vec<_> = master.iter().map(AsFd::as_fd).collect();
    tell(&plan, &Message::Ready, &fds)?;
    order(plan.channel)?;
    rustix::process::set_parent_process_death_signal(None).at("start", || "cannot outlive the creator")?;
    tell(&plan, &Message::Free, &[])?;
    let hooks = plan.config.hooks().start_container;
    let state = State { status: Status::Created, ..plan.state };
    Ok(Waiting { listener: plan.listener, program, seal, hooks, preserved: plan.preserved, state })
}

/// Nothing of the creator stays but stdio, what the program shall get, and the listed descriptors.
pub(super) fn leave_creator_behind(preserved: i32, keep: &[i32]) -> Result<()> {
    sys::fds::close_all_except(3 + preserved, keep).at("start", || "cannot close inherited descriptors")?;
    forget_caller()
}

fn join(plan: &Plan<'_>) -> Result<()> {
    for tasks in plan.tasks {
        rustix::io::write(tasks, b"0").at("cgroup", || "cannot join the cgroup")?;
    }
    for (kind, fd) in plan.namespaces {
        move_into_link_name_space(fd.as_fd(), Some(*kind))
            .at("namespaces", || format!("cannot enter the namespace {kind:?}"))?;
    }
    let is_new =
        |kind| plan.config.namespace(kind).is_some_and(|namespace| namespace.path.as_os_str().is_empty());
    if is_new("cgroup") {
        sys::process::unshare_namespaces(UnshareFlags::NEWCGROUP)
            .at("namespaces", || "cannot make a cgroup namespace")?;
    }
    if is_new("network") {
        sys::netns::loopback_up().at("network", || "cannot bring the loopback up")?;
    }
    let propagation = match plan.linux.rootfs_propagation.as_str() {
        "private" | "rprivate" => MountPropagationFlags::PRIVATE,
        "" | "slave" | "rslave" => MountPropagationFlags::DOWNSTREAM,
        // What the program mounts where it is shared shall be seen on the machine.
        "shared" | "rshared" => MountPropagationFlags::SHARED,
        other => {
            let text = format!("`linux.rootfsPropagation` of `{other}` is not supported");
            return Err(StartError::new("mount", text));
        }
    };
    mount_change("/", propagation | MountPropagationFlags::REC).at("mount", || "cannot part the mounts")
}

/// What is set once the new root is entered: kernel parameters, names, the score.
fn settle(plan: &Plan<'_>) -> Result<()> {
    // In a user namespace the helper has set it: only the machine's root may lower it.
    let score = plan.process.oom_score_adj.filter(|_| plan.mounter.lender.is_none());
    if score.is_some() || !plan.linux.sysctl.is_empty() {
        settle_kernel(plan, score)?;
    }
    let (host, domain) = (&plan.config.hostname, &plan.config.domainname);
    if !host.is_empty() {
        rustix::system::sethostname(host.as_bytes()).at("hostname", || format!("cannot set `{host}`"))?;
    }
    if !domain.is_empty() {
        rustix::system::setdomainname(domain.as_bytes())
            .at("domainname", || format!("cannot set `{domain}`"))?;
    }
    Ok(())
}

fn settle_kernel(plan: &Plan<'_>, score: Option<i32>) -> Result<()> {
    let proc = new_filesystem("proc", &[], NOSUID | NODEV | NOEXEC).at("proc", || "cannot make `/proc`")?;
    for (name, value) in &plan.linux.sysctl {
        write_below(&proc, &format!("sys/{}", sysctl_path(name)), value)
            .at("sysctl", || format!("cannot set the kernel parameter `{name}` to `{value}`"))?;
    }
    if let Some(score) = score {
        let own = format!("{}/oom_score_adj", rustix::process::getpid().as_raw_nonzero());
        write_below(&proc, &own, &score.to_string())
            .at("oom", || format!("cannot set `oomScoreAdj` to {score}"))?;
    }
    Ok(())
}

/// Writes a value below a procfs of our own.
fn write_below(proc: &OwnedFd, path: &str, value: &str) -> std::result::Result<(), Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
    let file = rustix::fs::openat2(proc, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty(), resolve)?;
    rustix::io::write(&file, value.as_bytes()).map(drop)
}

/// Opens where an AppArmor profile is written to; refused where the kernel has none.
pub(super) fn apparmor(process: &Process) -> Result<Option<OwnedFd>> {
    let profile = &process.apparmor_profile;
    if profile.is_empty() || (profile == "unconfined" && !Path::new("/sys/kernel/security/apparmor").exists())
    {
        return Ok(None);
    }
    let file = "/proc/thread-self/attr/apparmor/exec";
    rustix::fs::open(file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        .at("apparmor", || {
            format!("cannot apply the AppArmor profile `{profile}`: this kernel has no AppArmor")
        })
        .map(Some)
}

/// Makes a terminal in the container's own devpts the process's; returns its master.
///
/// With `root` it also becomes the container's console.
pub(super) fn terminal(process: &Process, console: Option<BorrowedFd<'_>>) -> Result<OwnedFd> {
    let fail = || "cannot open the container's `/dev/pts`";
    let slash = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).at("pty", fail)?;
    let devpts = Root(slash.as_fd()).open("/dev/pts", OFlags::PATH).at("pty", fail)?;
    if rustix::fs::fstatfs(&devpts).at("pty", fail)?.f_type != DEVPTS_SUPER_MAGIC {
        return Err(StartError::new("pty", "the container's `/dev/pts` is no devpts filesystem"));
    }
    let (master, slave) = open_pty(devpts.as_fd())?;
    if let Some(root) = console {
        mounts::bind_console(root, &slave)?;
    }
    let size = process.console_size.map(|size| (size.height, size.width));
    connect_stdio(None, Some(master.as_fd()), size, process.user.uid)?;
    Ok(master)
}

fn owner(process: &Process) -> User {
    let user = &process.user;
    User { uid: user.uid, gid: user.gid, groups: Vec::new(), home: "/".into() }
}

/// The rest of what makes the process what it shall be: folder, limits, ids, capabilities.
///
/// `has_ids` is for a user namespace: root inside can't raise limits, the creator sets them.
pub(super) fn become_process(
    process: &Process,
    filter: Vec<Instruction>,
    profile: Option<OwnedFd>,
    has_ids: bool,
) -> Result<(Program, Seal)> {
    let slash = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .at("rootfs", || "cannot open `/`")?;
    // Only its home is asked for; a broken file of the image names none.
    let home = look_up(&Root(slash.as_fd()), &process.user.uid.to_string(), &[]).map(|user| user.home);
    let user = User { home: home.unwrap_or_else(|_| "/".into()), ..owner(process) };
    enter_cwd(&process.cwd, Some((user.uid, user.gid)))?;
    if !process.terminal {
        let stdio = [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()]
            .map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, 3));
        let stdio: Vec<OwnedFd> = stdio.into_iter().flatten().collect();
        own_stdio(&stdio, user.uid);
    }
    let program = Program::new(&process.args, &process.env, &[], &user);
    if let Some(profile) = profile {
        let name = &process.apparmor_profile;
        rustix::io::write(&profile, format!("exec {name}").as_bytes())
            .at("apparmor", || format!("cannot apply the AppArmor profile `{name}`"))?;
    }
    if !has_ids {
        rights::limit(None, process)?;
    }
    let seal = rights::become_user(process, filter)?;
    // Told now rather than at the start, as callers expect it.
    let found = program.find();
    if found.is_empty() || found.iter().all(|path| !Path::new(path).exists()) {
        return Err(program.run(found));
    }
    Ok((program, seal))
}

fn tell(plan: &Plan<'_>, message: &Message, fds: &[BorrowedFd<'_>]) -> Result<()> {
    wire::send(plan.channel, message, fds).at("start", || "cannot reach the creator")
}

pub(super) fn order(channel: BorrowedFd<'_>) -> Result<()> {
    match wire::receive::<Order>(channel).at("start", || "cannot hear the creator")? {
        Some(_) => Ok(()),
        None => Err(StartError::new("start", "the creator is gone")),
    }
}
