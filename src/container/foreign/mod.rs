//! Containers that another OCI runtime runs: `--runtime crun|runc|youki|PATH`.
//!
//! The monitor stays what it is: parent of the program, keeper of its streams. Only the way to a process differs:
//!
//! ```text
//! containers/<id>/
//!     bundle/     config.json and rootfs: mounted in a mount namespace of the monitor's own, so it can't outlive it
//!     runtime/    what the runtime keeps (`--root`)
//! ```
//!
//! 1. The cgroup is made and limited as for any container; the runtime is told to use it.
//! 2. `create` leaves the first process as this process's child, since this one takes in its orphans meanwhile;
//!    a terminal comes by the console socket. Then `start`.
//! 3. Signals, limits and freezing need no runtime: they are the kernel's.
//! 4. At the end `delete`, then what is left of both folders goes.
//!
//! A killed monitor leaves the program running; whoever finds that ends it, as `settle` does for all.

mod bundle;
mod process;

use std::fs;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio as Io};

use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_change, unmount};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrUnix, SocketFlags,
    SocketType, recvmsg,
};
use rustix::thread::UnshareFlags;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::bundle::{Bundle, Program};
pub(super) use self::process::Process;
use super::error::{Error, Result};
use super::record::{Config, Record};
use super::{remove_folder, spec};
use crate::runtime::{
    At, Cgroup, ExecSpec, Limits, Root, Spec, StartError, StartErrorKind, Stdio, Target, Tree, is_mount,
    look_up,
};
use crate::sys::process::unshare_namespaces;

/// Another runtime, and the container that it runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Foreign {
    program: PathBuf,
    id: String,
    /// The container's.
    folder: PathBuf,
    /// `linux.seccomp`, null for none.
    seccomp: Value,
}

/// A process that was started, and the master of its terminal.
pub(super) type Started = (Process, Option<OwnedFd>);

/// Refuses what another runtime can't be told.
pub(super) fn check(config: &Config) -> Result<()> {
    let Some(runtime) = &config.isolation.runtime else { return Ok(()) };
    let refuse = |flag: &str, why: &str| {
        Err(Error::Invalid { message: format!("`{flag}` is not possible with `--runtime {runtime}`: {why}") })
    };
    if config.isolation.init {
        return refuse("--init", "the process before the program is part of kiln's own");
    }
    if config.isolation.userns.as_deref() == Some("auto") {
        return refuse("--userns auto", "the layers are mapped by kiln's own");
    }
    Ok(())
}

impl Foreign {
    /// The runtime of a container, when it isn't kiln's own.
    pub(super) fn of(record: &Record, folder: &Path) -> Result<Option<Foreign>> {
        let Some(program) = &record.config.isolation.runtime else { return Ok(None) };
        Ok(Some(Foreign {
            program: PathBuf::from(program),
            id: record.id.clone(),
            folder: folder.to_owned(),
            seccomp: spec::seccomp(&record.config)?,
        }))
    }

    fn bundle(&self) -> PathBuf {
        self.folder.join("bundle")
    }

    fn state(&self) -> PathBuf {
        self.folder.join("runtime")
    }

    /// Starts what `spec` says, in `network`.
    ///
    /// For single-threaded processes only: this one gets a mount namespace of its own.
    pub(super) fn start(
        &self,
        spec: &Spec,
        stdio: Stdio,
        network: Option<&OwnedFd>,
    ) -> std::result::Result<Started, StartError> {
        self.clear();
        let bundle = self.bundle();
        let fail = || format!("cannot make `{}`", bundle.display());
        fs::create_dir_all(bundle.join("rootfs")).at("bundle", fail)?;
        leave_mounts()?;
        let root = Tree::of_layers(&spec.rootfs)?;
        root.attach_at(&bundle.join("rootfs"))?;
        let user = look_up(&Root(root.as_fd()), &spec.user, &spec.groups)?;
        drop(root);
        // The runtime tells the controller of devices itself.
        let limits = Limits { devices: Vec::new(), ..spec.limits.clone() };
        let mut cgroup = Cgroup::create(&spec.id, &spec.cgroup, &limits)?;
        cgroup.close_doors();
        let own = rustix::process::getpid().as_raw_nonzero();
        let config = Bundle {
            spec,
            folder: &bundle,
            user: &user,
            network: network.map(|fd| format!("/proc/{own}/fd/{}", fd.as_raw_fd())),
            cgroup: cgroup.name(),
            seccomp: &self.seccomp,
        };
        let started = config
            .config()
            .and_then(|config| write_json(&bundle.join("config.json"), &config))
            .and_then(|()| self.make("create", &[], stdio));
        let (pid, pty) = match started {
            Ok(started) => started,
            Err(error) => {
                self.clear();
                cgroup.remove();
                return Err(error);
            }
        };
        // From here on it is killed and cleaned up behind when this fails.
        let process = Process::first(pid, cgroup, self)?;
        self.run("start", &mut self.command("start", &["start", &self.id]))?;
        Ok((process, pty))
    }

    /// Starts a further process in the container whose first process is `target`.
    pub(super) fn exec(
        &self,
        target: &Target,
        spec: &ExecSpec,
        stdio: Stdio,
    ) -> std::result::Result<Started, StartError> {
        let root = Tree::of_running(target)?;
        let user = look_up(&Root(root.as_fd()), &spec.user, &spec.groups)?;
        drop(root);
        let name = format!("exec-{}", rustix::process::getpid().as_raw_nonzero());
        let file = self.bundle().join(format!("{name}.json"));
        write_json(&file, &Program::of_exec(spec, &user).json())?;
        let made = self.make("exec", &["--detach", "--process", &file.to_string_lossy()], stdio);
        let _ = fs::remove_file(&file);
        let (pid, pty) = made?;
        Ok((Process::further(pid, target)?, pty))
    }

    /// Has the runtime make a process, which becomes a child of this one; gives its pid and its terminal.
    fn make(
        &self,
        verb: &str,
        words: &[&str],
        stdio: Stdio,
    ) -> std::result::Result<(i32, Option<OwnedFd>), StartError> {
        let name = format!("{verb}-{}", rustix::process::getpid().as_raw_nonzero());
        // From the bundle, which it runs in: an address has room for little more than a hundred bytes.
        let (pid_file, socket) = (format!("{name}.pid"), format!("{name}.sock"));
        let console = match &stdio {
            Stdio::Pty => Some(self.listen(&socket).at("pty", || "cannot listen for the terminal")?),
            Stdio::Fds(_) => None,
        };
        let mut all = [&[verb][..], words, &["--pid-file", &pid_file]].concat();
        if console.is_some() {
            all.extend(["--console-socket", &socket]);
        }
        all.push(&self.id);
        let mut command = self.command(&name, &all);
        if let Stdio::Fds([stdin, stdout, stderr]) = stdio {
            command.stdin(stdin).stdout(stdout).stderr(stderr);
        }
        let own = Some(rustix::process::getpid());
        rustix::process::set_child_subreaper(own).at("runtime", || "cannot take in the new process")?;
        let ran = self.run(&name, &mut command);
        let _ = rustix::process::set_child_subreaper(None);
        let pid = fs::read_to_string(self.bundle().join(&pid_file));
        for file in [pid_file, socket] {
            let _ = fs::remove_file(self.bundle().join(file));
        }
        ran?;
        let pid = pid.ok().and_then(|text| text.trim().parse().ok());
        let pid = pid.ok_or_else(|| StartError::new("runtime", "the runtime has named no process"))?;
        let pty = console.map(|console| receive(&console).at("pty", || "the terminal has not come"));
        Ok((pid, pty.transpose()?))
    }

    /// A call of the runtime, in the bundle's folder.
    fn command(&self, name: &str, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.current_dir(self.bundle()).arg("--root").arg(self.state());
        command.arg("--log").arg(self.log(name)).args(["--log-format", "json"]).args(words);
        command.stdin(Io::null()).stdout(Io::null()).stderr(Io::null());
        command
    }

    fn log(&self, name: &str) -> PathBuf {
        self.bundle().join(format!("{name}.log"))
    }

    /// Runs it to its end; why it failed is in its log.
    fn run(&self, name: &str, command: &mut Command) -> std::result::Result<(), StartError> {
        let status = command.status();
        let log = fs::read_to_string(self.log(name)).unwrap_or_default();
        let _ = fs::remove_file(self.log(name));
        match status.at("runtime", || format!("cannot run `{}`", self.program.display()))? {
            status if status.success() => Ok(()),
            status => Err(failure(&self.program, last_error(&log).unwrap_or_else(|| status.to_string()))),
        }
    }

    /// Takes away what a run has left.
    fn clear(&self) {
        let (bundle, rootfs) = (self.bundle(), self.bundle().join("rootfs"));
        if self.state().exists() && fs::create_dir_all(&bundle).is_ok() {
            // One that it doesn't know is gone.
            let _ = self.run("delete", &mut self.command("delete", &["delete", "--force", &self.id]));
        }
        let _ = unmount(&rootfs, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
        if !is_mount(&rootfs) {
            let _ = remove_folder(&bundle);
        }
        let _ = remove_folder(&self.state());
    }

    /// Listens in the bundle's folder.
    fn listen(&self, name: &str) -> io::Result<OwnedFd> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        let folder = fs::File::open(self.bundle())?;
        let address = SocketAddrUnix::new(format!("/proc/self/fd/{}/{name}", folder.as_raw_fd()))?;
        rustix::net::bind(&socket, &address)?;
        rustix::net::listen(&socket, 1)?;
        Ok(socket)
    }
}

/// Takes the terminal's master from whoever has connected by now.
fn receive(listener: &OwnedFd) -> io::Result<OwnedFd> {
    let socket = rustix::net::accept_with(listener, SocketFlags::CLOEXEC)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    // With its name, which doesn't matter.
    let mut name = [0; 256];
    recvmsg(&socket, &mut [IoSliceMut::new(&mut name)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut fds = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    let first = fds.next().and_then(|mut fds| fds.next());
    first.ok_or_else(|| io::Error::other("there was none in the packet"))
}

/// Gives this process a mount namespace of its own, where nothing that it mounts is seen by others.
fn leave_mounts() -> std::result::Result<(), StartError> {
    let fail = || "cannot make a mount namespace";
    unshare_namespaces(UnshareFlags::NEWNS).at("mount", fail)?;
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC).at("mount", fail)
}

fn write_json(file: &Path, value: &Value) -> std::result::Result<(), StartError> {
    fs::write(file, value.to_string()).at("bundle", || format!("cannot write `{}`", file.display()))
}

/// The last error of a runtime's log.
fn last_error(log: &str) -> Option<String> {
    let line = |line: &str| {
        let line: Value = serde_json::from_str(line).ok()?;
        (line["level"] == "error").then(|| line["msg"].as_str().map(str::to_owned))?
    };
    log.lines().rev().find_map(line)
}

/// What its words say of the exit code, as docker reads them.
fn failure(program: &Path, text: String) -> StartError {
    let name = program.file_name().unwrap_or_default().to_string_lossy();
    let has = |words: &[&str]| words.iter().any(|word| text.to_lowercase().contains(word));
    let kind = match has(&["exec: ", "executable", "exec "]) {
        true if has(&["not found", "no such file or directory"]) => StartErrorKind::NotFound,
        true if has(&["permission denied", "is a directory", "exec format"]) => StartErrorKind::NotExecutable,
        _ => StartErrorKind::Other,
    };
    StartError { kind, ..StartError::new("runtime", format!("{name}: {}", text.trim())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The texts: runc 1.1.5, crun 1.8.1.
    #[test]
    fn a_runtimes_words_decide_the_exit_code() {
        let code = |text: &str| failure(Path::new("/usr/bin/runc"), text.to_owned()).exit_code();
        for (text, expected) in [
            (r#"unable to start container process: exec: "no": executable file not found in $PATH"#, 127),
            (r#"unable to start container process: exec: "/no": stat /no: no such file or directory"#, 127),
            (r#"unable to start container process: exec: "/etc/passwd": permission denied"#, 126),
            ("executable file `no` not found in $PATH: No such file or directory", 127),
            ("cgroups in hybrid mode not supported, drop all controllers from cgroupv2", 125),
        ] {
            assert_eq!(code(text), expected, "{text}");
        }
    }

    #[test]
    fn the_last_error_of_a_log_is_the_reason() {
        let log = "{\"level\":\"warning\",\"msg\":\"w\"}\n{\"level\":\"error\",\"msg\":\"why\"}\nnoise\n";
        assert_eq!(last_error(log).as_deref(), Some("why"));
        assert_eq!(last_error(""), None);
    }
}
