//! `create` and `start`: the parent's side.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::child::{self, Message, Order, Plan};
use super::config::{Config, Process};
use super::error::{Doing, Error, Result};
use super::mounts::{self, Mounter};
use super::state::{Folder, Kept, Status};
use super::{check, console, hooks, limits, rights, userns};
use crate::runtime::{Cgroup, StartError, Target, wire};
use crate::sys;
use crate::sys::clone::{Cloned, clone_process};

/// What `create` and `run` are asked for.
#[derive(Debug, Clone, Default)]
pub struct CreateOptions {
    /// The bundle's folder.
    pub bundle: PathBuf,
    /// Where the first process's pid is written to.
    pub pid_file: Option<PathBuf>,
    /// The socket that the terminal's master is sent to.
    pub console_socket: Option<PathBuf>,
    /// Without that, the caller gets the terminal.
    pub keeps_terminal: bool,
    /// How many descriptors from 3 on the program gets.
    pub preserve_fds: u32,
}

/// Creates the container `id`: all but the program runs when this returns. Gives the terminal's master when it is
/// the caller's.
pub(super) fn create(
    root: &Path,
    id: &str,
    options: &CreateOptions,
    warn: &mut dyn FnMut(String),
) -> Result<Option<OwnedFd>> {
    let bundle = options
        .bundle
        .canonicalize()
        .doing(|| format!("cannot find the bundle `{}`", options.bundle.display()))?;
    let config = Config::of_bundle(&bundle)?;
    check::config(&config)?;
    let terminal = config.process.as_ref().is_some_and(|process| process.terminal);
    console::check(terminal, options.console_socket.as_deref(), options.keeps_terminal)?;
    let folder = Folder::make(root, id)?;
    let result = folder.lock().and_then(|lock| {
        let creation = Creation { folder: &folder, id, bundle: &bundle, config: &config, options };
        let result = creation.run();
        drop(lock);
        result
    });
    if result.is_err() {
        // As the spec's lifecycle has it: what a hook has begun, those after the end may have to undo.
        if let Ok(Some(kept)) = folder.kept() {
            hooks::run_all("poststop", &config.hooks().poststop, &kept.state(Status::Stopped), None, warn);
        }
        // Whatever is left of it is of no use to anybody.
        let _ = std::fs::remove_dir_all(&folder.0);
    }
    result
}

/// Namespaces to enter.
struct Namespaces {
    /// Those of others.
    others: Vec<(LinkNameSpaceType, OwnedFd)>,
    /// The one of processes, which only children get into.
    pid: Option<OwnedFd>,
    /// The one of ids, new or given, which all new ones belong to.
    user: Option<OwnedFd>,
}

/// One creation.
struct Creation<'a> {
    folder: &'a Folder,
    id: &'a str,
    bundle: &'a Path,
    config: &'a Config,
    options: &'a CreateOptions,
}

impl Creation<'_> {
    fn run(&self) -> Result<Option<OwnedFd>> {
        let config = self.config;
        let linux = config.linux.clone().unwrap_or_default();
        let process = config.process.clone().unwrap_or_default();
        let rootfs = self.bundle.join(config.root.clone().unwrap_or_default().path);
        if !mounts::is_folder(&rootfs) {
            return Err(Error::Refused(format!("invalid rootfs: `{}` is no folder", rootfs.display())));
        }
        let rootfs = rootfs.canonicalize().doing(|| "cannot find the root filesystem")?;
        let filter = rights::filter(linux.seccomp.as_ref())?;
        let namespaces = self.namespaces()?;
        let idmaps = userns::of_mounts(config, namespaces.user.as_ref())?;
        let resources = linux.resources.clone().unwrap_or_default();
        let mut cgroup = limits::create(&self.folder.0, &linux.cgroups_path, &resources)?;
        let mut kept = Kept {
            id: self.id.to_owned(),
            bundle: self.bundle.to_owned(),
            rootfs: rootfs.clone(),
            created: super::now(),
            annotations: config.annotations.clone(),
            process: None,
            cgroup: cgroup.folders().to_vec(),
        };
        let result = (|| {
            // From here on a `delete` finds what is there, should this process be killed.
            self.folder.write("config.json", config)?;
            self.folder.write("state.json", &kept)?;
            let (listener, (channel, far)) =
                (self.listen()?, wire::pair().doing(|| "cannot make a socket pair")?);
            let (lending, borrowing) = wire::pair().doing(|| "cannot make a socket pair")?;
            let mounter = Mounter {
                config,
                linux: &linux,
                bundle: self.bundle,
                rootfs: &rootfs,
                all_devices: check::lets_all_devices(&resources.devices),
                cgroup: &kept.cgroup,
                idmaps: &idmaps,
                lender: namespaces.user.as_ref().map(|_| borrowing.as_fd()),
            };
            let plan = Plan {
                config,
                linux: &linux,
                process: &process,
                mounter,
                namespaces: if namespaces.user.is_some() { &[] } else { &namespaces.others },
                tasks: &cgroup.tasks,
                filter,
                channel: far.as_fd(),
                listener: listener.as_fd(),
                preserved: i32::try_from(self.options.preserve_fds).unwrap_or(0),
                state: kept.state(Status::Creating),
            };
            let cloned = self.clone_first(&namespaces, &process, &cgroup)?;
            let Cloned::Parent { pid, pidfd } = cloned else { child::main(plan) };
            drop((far, listener));
            let child = Child { pid, pidfd, channel };
            let lender = namespaces
                .user
                .is_some()
                .then(|| userns::Lender::clone(child.pidfd.as_fd(), &lending, &mounter));
            drop((lending, borrowing));
            lender
                .transpose()
                .and_then(|_lender| self.accompany(&child, &mut kept))
                .inspect_err(|_| child.end())
        })();
        cgroup.close_doors();
        if result.is_err() {
            cgroup.remove();
        }
        result
    }

    /// Clones the first process into its namespaces.
    fn clone_first(&self, namespaces: &Namespaces, process: &Process, cgroup: &Cgroup) -> Result<Cloned> {
        let (flags, v2) = (clone_flags(self.config), cgroup.v2.as_ref().map(AsFd::as_fd));
        let pid = namespaces.pid.as_ref();
        let Some(userns) = &namespaces.user else { return clone(flags, pid, v2) };
        let others = &namespaces.others;
        userns::Entry { userns, others, pid, flags, v2, config: self.config, process }.clone()
    }

    /// Goes with the child until it lives by itself.
    fn accompany(&self, child: &Child, kept: &mut Kept) -> Result<Option<OwnedFd>> {
        let fail = || "cannot look at the new process";
        child.expect(|message| matches!(message, Message::Prepared))?;
        let process = Target::of(child.pid, &kept.cgroup).doing(fail)?;
        kept.process = Some(process);
        let hooks = self.config.hooks();
        let state = kept.state(Status::Creating);
        hooks::run("prestart", &hooks.prestart, &state, Some(&state.bundle))?;
        hooks::run("createRuntime", &hooks.create_runtime, &state, Some(&state.bundle))?;
        child.order(&Order::Go)?;
        let mut master = child.expect(|message| matches!(message, Message::Ready))?.into_iter().next();
        if let Some(socket) = &self.options.console_socket
            && let Some(master) = master.take()
        {
            console::send(socket, &master)?;
        }
        if let Some(process) = &self.config.process
            && self.config.namespace("user").is_some()
        {
            rights::limit(Some(child.pid), process)?;
        }
        self.folder.write("state.json", kept)?;
        if let Some(file) = &self.options.pid_file {
            super::write_pid(file, child.pid)?;
        }
        child.order(&Order::Commit)?;
        child.expect(|message| matches!(message, Message::Free))?;
        Ok(master)
    }

    fn listen(&self) -> Result<OwnedFd> {
        let fail = || "cannot make the start socket";
        let (_folder, path) = self.folder.start_socket()?;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .doing(fail)?;
        bind(&socket, &SocketAddrUnix::new(path).doing(fail)?).doing(fail)?;
        listen(&socket, 1).doing(fail)?;
        Ok(socket)
    }

    /// Opens the namespaces of others that are to be entered, and apart from them that of processes.
    fn namespaces(&self) -> Result<Namespaces> {
        let kinds = [
            ("network", LinkNameSpaceType::Network),
            ("ipc", LinkNameSpaceType::InterProcessCommunication),
            ("uts", LinkNameSpaceType::HostNameAndNISDomainName),
            ("cgroup", LinkNameSpaceType::ControlGroup),
        ];
        let open = |name: &str| -> Result<Option<OwnedFd>> {
            let path = self
                .config
                .namespace(name)
                .map(|namespace| namespace.path.as_path())
                .unwrap_or(Path::new(""));
            if path.as_os_str().is_empty() {
                return Ok(None);
            }
            let opened = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
            opened.doing(|| format!("cannot open the {name} namespace `{}`", path.display())).map(Some)
        };
        let mut list = Vec::new();
        for (name, kind) in kinds {
            list.extend(open(name)?.map(|fd| (kind, fd)));
        }
        Ok(Namespaces { others: list, pid: open("pid")?, user: userns::namespace(self.config)? })
    }
}

/// The new process, as its creator holds it.
struct Child {
    pid: i32,
    pidfd: OwnedFd,
    channel: OwnedFd,
}

impl Child {
    /// Waits for the message that comes next.
    fn expect(&self, is_expected: impl Fn(&Message) -> bool) -> Result<Vec<OwnedFd>> {
        match wire::receive::<Message>(&self.channel).doing(|| "cannot hear from the new process")? {
            Some((Message::Failed(error), _)) => Err(error.into()),
            Some((message, fds)) if is_expected(&message) => Ok(fds),
            Some(_) => Err(StartError::new("start", "the new process lost its way").into()),
            None => {
                Err(StartError::new("start", "the new process ended before its program could run").into())
            }
        }
    }

    fn order(&self, order: &Order) -> Result<()> {
        wire::send(&self.channel, order, &[]).doing(|| "cannot reach the new process")
    }

    /// Ends what must not stay, and reaps it.
    fn end(&self) {
        // It may have ended by itself.
        let _ = sys::process::pidfd_signal(self.pidfd.as_fd(), libc::SIGKILL);
        super::reap(self.pidfd.as_fd());
    }
}

fn clone_flags(config: &Config) -> u64 {
    let kinds = [
        ("mount", libc::CLONE_NEWNS),
        ("pid", libc::CLONE_NEWPID),
        ("ipc", libc::CLONE_NEWIPC),
        ("uts", libc::CLONE_NEWUTS),
        ("network", libc::CLONE_NEWNET),
    ];
    let is_new = |name| config.namespace(name).is_some_and(|namespace| namespace.path.as_os_str().is_empty());
    kinds.iter().filter(|(name, _)| is_new(name)).fold(0, |flags, (_, flag)| flags | *flag as u64)
}

/// Clones into a pid namespace, which only children get into.
fn clone(flags: u64, pid: Option<&OwnedFd>, v2: Option<BorrowedFd<'_>>) -> Result<Cloned> {
    let fail = || "cannot make a process";
    let Some(pid) = pid else { return clone_process(flags, v2).doing(fail) };
    let own = File::open("/proc/self/ns/pid").doing(fail)?;
    let enter =
        |fd: BorrowedFd<'_>| move_into_link_name_space(fd, Some(LinkNameSpaceType::ProcessID)).doing(fail);
    enter(pid.as_fd())?;
    let cloned = clone_process(flags, v2).doing(fail)?;
    if let Cloned::Parent { .. } = &cloned {
        // Hooks are the caller's.
        enter(own.as_fd())?;
    }
    Ok(cloned)
}

/// Starts the program of a created container.
pub(super) fn start(root: &Path, id: &str, warn: &mut dyn FnMut(String)) -> Result<()> {
    let folder = Folder::find(root, id)?;
    let _lock = folder.lock()?;
    let kept = folder.kept()?;
    match folder.status(kept.as_ref()) {
        Status::Created => {}
        Status::Stopped => return Err(Error::Refused("cannot start a container that has stopped".into())),
        Status::Running | Status::Paused => {
            return Err(Error::Refused("cannot start an already running container".into()));
        }
        Status::Creating => {
            return Err(Error::Refused("cannot start a container that is being created".into()));
        }
    }
    let fail = || "cannot reach the container's process";
    let (_folder, path) = folder.start_socket()?;
    let socket =
        socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).doing(fail)?;
    connect(&socket, &SocketAddrUnix::new(path).doing(fail)?).doing(fail)?;
    let answer = wire::receive::<Message>(&socket).doing(fail)?;
    folder.started();
    if let Some((Message::Failed(error), _)) = answer {
        return Err(error.into());
    }
    let hooks = folder.config()?.hooks();
    if let Some(kept) = &kept {
        let state = kept.state(Status::Running);
        hooks::run_all("poststart", &hooks.poststart, &state, Some(&state.bundle), warn);
    }
    Ok(())
}

/// Gives the process that an exec without a file goes by, and what is refused of one.
pub(super) fn process_of(folder: &Folder) -> Result<Process> {
    Ok(folder.config()?.process.unwrap_or_default())
}

/// Takes a cgroup's folders away.
pub(super) fn remove_cgroup(folders: &[PathBuf]) {
    Cgroup::open(folders).remove();
}
