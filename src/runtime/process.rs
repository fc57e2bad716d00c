//! Starting a process tree, and the parent's hold on it.

use std::cell::{Ref, RefCell};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use kiln_cache::Mounts;
use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus, waitid};
use rustix::thread::{
    LinkNameSpaceType, ThreadNameSpaceType, move_into_link_name_space, move_into_thread_name_spaces,
};

use super::cgroup::Cgroup;
use super::child::{self, AHEAD, Attempt, Go, Message, Plan, Run};
use super::error::{At, Exit, StartError};
use super::inroot::Made;
use super::rootfs::Stubs;
use super::spec::{Limits, Net, Ns, Spec, Target};
use super::{outside, rootfs, userns, wire};
use crate::sys;
use crate::sys::clone::{Cloned, clone_process};

/// What a process gets as stdin, stdout and stderr. Never hand over the caller's own terminal or files: pipes,
/// or a pty.
#[derive(Debug)]
pub enum Stdio {
    /// Three descriptors; the process owns them.
    Fds([OwnedFd; 3]),
    /// A new terminal; its master comes from [`Process::take_pty`].
    Pty,
}

/// The end of a process tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Ended {
    /// How the first process ended.
    pub exit: Exit,
    /// The kernel killed one of its processes for memory.
    pub oom_killed: bool,
}

/// A started process tree. Dropping it kills it and cleans up.
#[derive(Debug)]
pub struct Process {
    pid: i32,
    pidfd: OwnedFd,
    pty: Option<OwnedFd>,
    /// Its limits can be changed, and it can be frozen, by who only looks at the process.
    cgroup: RefCell<Cgroup>,
    /// The overlay's mount; its last descriptor.
    mount: Option<OwnedFd>,
    /// What is mounted in it: stacks of layers, files and folders of the machine.
    sources: Vec<OwnedFd>,
    /// The mount namespace of a child that was started ahead, so that it isn't taken down on that child's way out.
    namespace: Option<OwnedFd>,
    /// The network namespace of such a child.
    network: Option<OwnedFd>,
    /// The layer of its mount points, when it had one of its own.
    stubs: Stubs,
    mounts: Mounts,
    made: Vec<Made>,
    remove_stubs: bool,
    /// Its processes don't end with the first one.
    shares_pids: bool,
    exit: Option<Exit>,
}

/// Starts `spec`; returns when its program runs.
///
/// For single-threaded processes only (`EBUSY` otherwise); others use [`super::Launcher`].
pub fn start(spec: &Spec, stdio: Stdio, netns: Option<OwnedFd>) -> Result<Process, StartError> {
    let mut starting = Starting::begin(spec, stdio, netns, &mut Stubs::default())?;
    while !starting.advance()? {}
    Ok(starting.process)
}

/// A process between its clone and its program.
#[derive(Debug)]
pub(super) struct Starting {
    pub(super) process: Process,
    channel: OwnedFd,
    ready: bool,
    /// What it is about to run by way of the stub.
    attempt: Option<Attempt>,
    /// What a failure without words is a failure of.
    stage: &'static str,
}

impl Starting {
    /// Mounts, clones and lets the child go.
    pub(super) fn begin(
        spec: &Spec,
        stdio: Stdio,
        netns: Option<OwnedFd>,
        stubs: &mut Stubs,
    ) -> Result<Starting, StartError> {
        if spec.args.is_empty() {
            return Err(StartError::new("exec", "no command specified"));
        }
        let userns = spec.ids.map(userns::make).transpose()?;
        let (mount, sources) = mounts_of(spec, stubs, userns.as_ref().map(AsFd::as_fd))?;
        let ipc = match &spec.namespaces.ipc {
            Ns::Of(target) => Some(target.open()?),
            Ns::Own | Ns::Host => None,
        };
        let mut cgroup = Cgroup::create(&spec.id, &spec.cgroup, &spec.limits)?;
        let (channel, far) = wire::pair().at("start", || "cannot make a socket pair")?;
        let cloned = match clone_in(spec, netns.is_some(), &cgroup) {
            Ok(cloned) => cloned,
            Err(error) => {
                cgroup.remove();
                return Err(error);
            }
        };
        let (pid, pidfd) = match cloned {
            Cloned::Parent { pid, pidfd } => (pid, pidfd),
            Cloned::Child => child::main(&Plan {
                spec,
                rootfs: mount.as_fd(),
                sources: &sources,
                stdio: match &stdio {
                    Stdio::Fds(fds) => Some(fds.each_ref().map(AsFd::as_fd)),
                    Stdio::Pty => None,
                },
                netns: netns.as_ref().map(AsFd::as_fd),
                ipc: ipc.as_ref().map(AsFd::as_fd),
                userns: userns.as_ref().map(AsFd::as_fd),
                cgroup: &cgroup,
                channel: far.as_fd(),
                is_held: false,
            }),
        };
        cgroup.close_doors();
        let process = Process {
            pid,
            pidfd,
            pty: None,
            cgroup: RefCell::new(cgroup),
            mount: Some(mount),
            sources,
            namespace: None,
            network: None,
            stubs: Stubs::default(),
            mounts: spec.rootfs.clone(),
            made: Vec::new(),
            remove_stubs: spec.remove_stubs,
            shares_pids: spec.namespaces.pid != Ns::Own,
            exit: None,
        };
        Ok(Starting { process, channel, ready: false, attempt: None, stage: "start" })
    }

    /// Clones a child that sets its stage up and waits: `spec` needs to be right in what
    /// [`Spec::has_stage_of`] compares, without a terminal.
    pub(super) fn begin_ahead(spec: &Spec, netns: Option<OwnedFd>) -> Result<Starting, StartError> {
        let (channel, far) = wire::pair().at("start", || "cannot make a socket pair")?;
        let mut cgroup = Cgroup::create(&spec.id, &spec.cgroup, &spec.limits)?;
        let folder = cgroup.v2.as_ref().map(AsFd::as_fd);
        match clone_process(namespaces(spec, netns.is_some()), folder) {
            Ok(Cloned::Parent { pid, pidfd }) => {
                cgroup.close_doors();
                let mut starting = Starting { stage: AHEAD, ..Starting::adopt(pid, pidfd, channel) };
                starting.process.cgroup = RefCell::new(cgroup);
                let namespace =
                    |kind: &str| File::open(format!("/proc/{pid}/ns/{kind}")).ok().map(OwnedFd::from);
                // Without the right to look at them they go with the child.
                starting.process.namespace = namespace("mnt");
                starting.process.network = namespace("net");
                Ok(starting)
            }
            Ok(Cloned::Child) => {
                child::main_ahead(spec, netns.as_ref().map(AsFd::as_fd), &cgroup, far.as_fd())
            }
            Err(error) => {
                cgroup.remove();
                Err(error).at("clone", || "cannot make a process")
            }
        }
    }

    /// Lets a child that waits go on as `spec`, which `file` holds; with `is_held` to where its program is next.
    pub(super) fn go(
        &mut self,
        spec: &Spec,
        file: &OwnedFd,
        stdio: &[OwnedFd; 3],
        stubs: &mut Stubs,
        is_held: bool,
    ) -> Result<(), StartError> {
        if spec.args.is_empty() {
            return Err(StartError::new("exec", "no command specified"));
        }
        let process = &mut self.process;
        process.mounts = spec.rootfs.clone();
        process.remove_stubs = spec.remove_stubs;
        let (mount, sources) = mounts_of(spec, stubs, None)?;
        process.sources = sources;
        let mount = process.mount.insert(mount);
        let mut fds = vec![file.as_fd(), mount.as_fd()];
        fds.extend(stdio.iter().map(AsFd::as_fd));
        fds.extend(process.sources.iter().map(AsFd::as_fd));
        wire::send(&self.channel, &Go { is_held }, &fds).at(AHEAD, || "cannot reach the new process")
    }

    /// Lets a child go on that was started ahead and has told that it is ready.
    pub(super) fn let_run(&self) -> Result<(), StartError> {
        wire::send(&self.channel, &Run, &[]).at("start", || "cannot reach the new process")
    }

    /// Takes over a process that was cloned elsewhere and talks through `channel`.
    pub(super) fn adopt(pid: i32, pidfd: OwnedFd, channel: OwnedFd) -> Starting {
        let process = Process {
            pid,
            pidfd,
            pty: None,
            cgroup: RefCell::default(),
            mount: None,
            sources: Vec::new(),
            namespace: None,
            network: None,
            stubs: Stubs::default(),
            mounts: Mounts { lowers: Vec::new(), upper: None, work: None },
            made: Vec::new(),
            remove_stubs: false,
            shares_pids: false,
            exit: None,
        };
        Starting { process, channel, ready: false, attempt: None, stage: "start" }
    }

    /// Becomes readable when [`Starting::advance`] has something to do.
    pub(super) fn channel(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }

    /// Waits for the child's next message; `true` when the program runs.
    ///
    /// READY and then the end of the channel, closed by execve, is success. The end alone is a failure.
    pub(super) fn advance(&mut self) -> Result<bool, StartError> {
        let fail = || "cannot hear from the new process";
        match wire::receive_bytes(&self.channel).at("start", fail)? {
            Some((bytes, fds)) => {
                if let (Some(attempt), Ok(errno)) = (&self.attempt, <[u8; 8]>::try_from(bytes.as_slice())) {
                    return Err(outside::explain(self.process.pid, attempt, -i64::from_le_bytes(errno)));
                }
                match serde_json::from_slice(&bytes).map_err(io::Error::from).at("start", fail)? {
                    Message::Ready { made, attempt } => {
                        self.ready = true;
                        self.attempt = attempt;
                        self.process.made = made;
                        self.process.pty = fds.into_iter().next();
                        Ok(false)
                    }
                    Message::Failed(error) => Err(error),
                }
            }
            None if self.ready => Ok(true),
            None => {
                let how = match self.process.wait() {
                    Ok(Exit::Signal(signal)) => format!("was killed by signal {signal}"),
                    Ok(Exit::Code(code)) => format!("ended with code {code}"),
                    Err(error) => error.to_string(),
                };
                Err(StartError::new(self.stage, format!("the process {how} before its program could run")))
            }
        }
    }
}

/// Makes the root filesystem and what is mounted in it, attached to nothing.
fn mounts_of(
    spec: &Spec,
    stubs: &mut Stubs,
    userns: Option<BorrowedFd<'_>>,
) -> Result<(OwnedFd, Vec<OwnedFd>), StartError> {
    let _assumed = spec.ids.map(userns::assume).transpose()?;
    let sources = rootfs::mount_sources(spec, userns)?;
    Ok((rootfs::mount(spec, &sources, stubs, userns)?, sources))
}

/// Clones the child, in the pid namespace of another tree when it shares that.
fn clone_in(spec: &Spec, has_netns: bool, cgroup: &Cgroup) -> Result<Cloned, StartError> {
    let cgroup_folder = cgroup.v2.as_ref().map(AsFd::as_fd);
    let clone =
        || clone_process(namespaces(spec, has_netns), cgroup_folder).at("clone", || "cannot make a process");
    if spec.namespaces.pid != Ns::Own && cgroup.folders().is_empty() {
        let text =
            "without a cgroup its processes could not be ended together: it needs a pid namespace of its own";
        return Err(StartError::new("cgroup", text));
    }
    let Ns::Of(target) = &spec.namespaces.pid else { return clone() };
    let fail = || "cannot enter the container's pid namespace";
    let own = File::open("/proc/self/ns/pid").at("pid", fail)?;
    let pids = Some(LinkNameSpaceType::ProcessID);
    move_into_thread_name_spaces(target.open()?.as_fd(), ThreadNameSpaceType::PROCESS_ID).at("pid", fail)?;
    let cloned = clone()?;
    if let Cloned::Parent { .. } = &cloned {
        // What else this process starts is its own again.
        move_into_link_name_space(own.as_fd(), pids).at("pid", fail)?;
    }
    Ok(cloned)
}

fn namespaces(spec: &Spec, has_netns: bool) -> u64 {
    let own = |namespace: &Ns, flag| if *namespace == Ns::Own { flag } else { 0 };
    let wanted = &spec.namespaces;
    let mut flags = libc::CLONE_NEWNS
        | own(&wanted.pid, libc::CLONE_NEWPID)
        | own(&wanted.ipc, libc::CLONE_NEWIPC)
        | own(&wanted.uts, libc::CLONE_NEWUTS);
    if spec.network == Net::Namespace && !has_netns {
        flags |= libc::CLONE_NEWNET;
    }
    flags as u64
}

impl Process {
    /// Keeps the layer of its mount points until the end.
    pub(super) fn keeping(mut self, stubs: Stubs) -> Self {
        self.stubs = stubs;
        self
    }

    /// Returns the pid of the first process as this process sees it.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Returns the first process; readable when it has ended.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Returns the network namespace of one that was started ahead.
    pub(super) fn network(&self) -> Option<BorrowedFd<'_>> {
        self.network.as_ref().map(AsFd::as_fd)
    }

    /// Takes it, for who lets it go later than the process.
    pub fn take_network(&mut self) -> Option<OwnedFd> {
        self.network.take()
    }

    /// Takes the pty's master, once.
    pub fn take_pty(&mut self) -> Option<OwnedFd> {
        self.pty.take()
    }

    /// Returns what [`super::exec`] needs to find the container again, to be kept in its record.
    pub fn target(&self) -> io::Result<Target> {
        Ok(Target {
            pid: self.pid,
            start_time: start_time(self.pid)?,
            boot_id: boot_id()?,
            cgroup: self.cgroup.borrow().folders().to_vec(),
        })
    }

    /// Sends a signal to the first process. SIGKILL ends the whole tree. Fine when it has ended already.
    pub fn kill(&self, signal: i32) -> io::Result<()> {
        kill(self.pidfd.as_fd(), signal)?;
        if signal == libc::SIGKILL {
            self.cgroup.borrow().let_die();
        }
        Ok(())
    }

    /// Waits for the end of the first process; by then every process of its tree is dead.
    pub fn wait(&mut self) -> io::Result<Exit> {
        if let Some(exit) = self.exit {
            return Ok(exit);
        }
        let status =
            rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED))?;
        let exit = status.as_ref().map_or(Exit::Code(255), exit_of);
        self.exit = Some(exit);
        Ok(exit)
    }

    /// Tells whether the kernel killed one of its processes for memory, so far.
    pub fn oom_killed(&self) -> bool {
        self.cgroup.borrow().oom_kills() > 0
    }

    /// Returns the cgroup, which has no folder when there was nothing to make one for.
    pub fn cgroup(&self) -> Ref<'_, Cgroup> {
        self.cgroup.borrow()
    }

    /// Changes its limits.
    pub fn limit(&self, limits: &Limits) -> Result<(), StartError> {
        self.cgroup.borrow_mut().limit(limits)
    }

    /// Begins to freeze its processes, or lets them go on; see [`Cgroup::is_frozen`].
    pub fn freeze(&self, frozen: bool) -> Result<(), StartError> {
        self.cgroup.borrow_mut().freeze(frozen)
    }

    /// Lets the child take its mount namespace down on its way out.
    pub(super) fn leave_namespace(&mut self) {
        self.namespace = None;
    }

    /// Waits, takes the mount away, removes stubs and the cgroup.
    pub fn finish(mut self) -> io::Result<Ended> {
        self.end()
    }

    /// As [`Process::finish`], but mounts that nobody can use any more may stay until the drop.
    pub(super) fn end(&mut self) -> io::Result<Ended> {
        let exit = self.wait()?;
        let oom_killed = self.oom_killed();
        self.end_others();
        self.cgroup.get_mut().remove();
        if !self.made.is_empty() {
            self.clean();
        }
        Ok(Ended { exit, oom_killed })
    }

    /// Kills what the first process left running, where the kernel doesn't.
    fn end_others(&self) {
        if self.shares_pids {
            // The removal of the cgroup waits for them.
            let _ = self.cgroup.borrow().kill();
        }
    }

    fn clean(&mut self) {
        // Nothing else holds these mounts by now: closing them ends the overlays, here and now.
        self.mount = None;
        self.sources.clear();
        self.namespace = None;
        self.cgroup.get_mut().remove();
        if self.remove_stubs {
            rootfs::remove_stubs(&self.mounts, &std::mem::take(&mut self.made));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.exit.is_none() {
            // It may have ended by itself; either way the wait returns.
            let _ = self.kill(libc::SIGKILL);
            self.end_others();
            let _ = self.wait();
        }
        self.clean();
    }
}

/// Signals the process behind a pidfd; one that has ended is no error.
pub(super) fn kill(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    match sys::process::pidfd_signal(pidfd, signal) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        result => result,
    }
}

fn exit_of(status: &WaitIdStatus) -> Exit {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Code(255),
    }
}

/// Returns the start time of a process in clock ticks since the boot.
pub(super) fn start_time(pid: i32) -> io::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse_start_time(&stat).ok_or_else(|| io::Error::other(format!("`/proc/{pid}/stat` has no start time")))
}

/// The program's name may hold blanks and parentheses; fields count from the last one.
fn parse_start_time(stat: &str) -> Option<u64> {
    /// Field 22, counted from field 3, which follows the name.
    const INDEX: usize = 22 - 3;
    stat.rsplit_once(") ")?.1.split(' ').nth(INDEX)?.parse().ok()
}

/// Returns this boot's id.
pub(super) fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_start_time() {
        let stat =
            "7 (a) b (c)) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 987654 1000 1 18446744073709551615";
        assert_eq!(parse_start_time(stat), Some(987_654));
    }

    #[test]
    fn a_process_with_threads_cannot_start_one_itself() {
        let spec = Spec {
            args: vec!["true".into()],
            rootfs: Mounts { lowers: vec!["/".into()], upper: None, work: None },
            ..Spec::default()
        };
        let handle = std::thread::spawn(std::thread::park);
        let null = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let result = start(&spec, Stdio::Fds([null(), null(), null()]), None);
        handle.thread().unpark();
        assert!(result.is_err());
    }
}
