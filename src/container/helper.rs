//! Starting a process of kiln's own, and giving it its task.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use rustix::fs::MemfdFlags;
use rustix::net::{AddressFamily, RecvFlags, Shutdown, SocketFlags, SocketType, socketpair};
use rustix::process::{DumpableBehavior, Pid};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::runtime::{sealed_program, stub};
use crate::sys::packet;
use crate::sys::processor::Elsewhere;

/// The exit code of a helper that could not begin; nobody reads it but a debugger.
const FAILED: i32 = 1;

/// A process of kiln's own that waits for its task. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Helper {
    socket: OwnedFd,
    /// `None` for one that was forked.
    spawned: Option<Spawned>,
}

#[derive(Debug)]
struct Spawned {
    child: Child,
    /// What it is run from. The last one to close it waits for all processors, and the helper has the time.
    program: OwnedFd,
}

impl Helper {
    /// Runs this program again, from a clone of it that nobody can write, as `kiln <words>`. It inherits one socket and
    /// nothing else.
    pub(super) fn start(words: &[&str]) -> io::Result<Helper> {
        let (socket, far) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let program = sealed_program()?;
        let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
        // No working directory here: with one, std forks instead of spawning, and copies this process's page tables.
        command.arg0("kiln").args(words).env_clear();
        command.stdin(far).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn()?;
        Ok(Helper { socket, spawned: Some(Spawned { child, program }) })
    }

    /// Runs one anew and gives it its task, for a parent that lives on and has to reap it.
    pub(super) fn child<T: Serialize>(
        words: &[&str],
        task: &T,
        fds: &[OwnedFd],
    ) -> io::Result<(OwnedFd, Child)> {
        let (socket, child) = Helper::start(words)?.hand_over(task, fds)?;
        Ok((socket, child.expect("a helper that was run anew is a child")))
    }

    /// Forks this process, which has just begun, to do `work` with a socket: that takes a fraction of the time of a start.
    /// It becomes the programs of containers by way of [`stub`]. With `at_once` it has something to do before its task
    /// comes, and another processor to do it on.
    pub(super) fn fork(at_once: bool, work: impl FnOnce(OwnedFd) -> i32) -> io::Result<Helper> {
        let (socket, far) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let elsewhere = if at_once { Elsewhere::from_here() } else { None };
        let child = crate::sys::clone::fork()?;
        // Whichever side goes on first.
        if let Some(elsewhere) = elsewhere {
            elsewhere.send(child.and_then(Pid::from_raw));
        }
        if child.is_some() {
            // Asked beside it; where it is not, the child ends with the socket.
            return match stub::is_possible() {
                true => Ok(Helper { socket, spawned: None }),
                false => Err(io::ErrorKind::Unsupported.into()),
            };
        }
        drop(socket);
        stub::use_always();
        let code = leave_caller(&far).map_or(FAILED, |()| work(far));
        crate::sys::process::exit_now(code)
    }

    /// Tells whether it was forked.
    pub(super) fn is_forked(&self) -> bool {
        self.spawned.is_none()
    }

    /// Gives it its task with descriptors, and gives what is left: its socket, and the child of one that was run anew.
    pub(super) fn hand_over<T: Serialize>(
        self,
        task: &T,
        fds: &[OwnedFd],
    ) -> io::Result<(OwnedFd, Option<Child>)> {
        // The task may be longer than a packet: a file in memory has no limit.
        let mut file = File::from(rustix::fs::memfd_create(c"task", MemfdFlags::CLOEXEC)?);
        file.write_all(&serde_json::to_vec(task)?)?;
        file.rewind()?;
        let own = self.spawned.as_ref().map_or(file.as_fd(), |spawned| spawned.program.as_fd());
        let mut all = vec![file.as_fd(), own];
        all.extend(fds.iter().map(AsFd::as_fd));
        send(&self.socket, &all)?;
        Ok((self.socket, self.spawned.map(|spawned| spawned.child)))
    }

    /// The socket to it.
    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Lets it go, and waits until it has cleaned up behind it.
    pub(super) fn dismiss(self) {
        // There is nobody to tell of a failure.
        let _ = rustix::net::shutdown(&self.socket, Shutdown::Write);
        while receive(self.socket()).is_ok_and(|fds| !fds.is_empty()) {}
    }
}

/// The side of a helper that was run anew: leaves the caller's session behind, and gives the socket.
pub(super) fn settle_in() -> io::Result<OwnedFd> {
    let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let null = File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    drop(null);
    leave(&socket)?;
    Ok(socket)
}

/// The side of one that was forked. Nobody may look into it, or at the file it runs from: a container's first process
/// is forked from it.
fn leave_caller(socket: &OwnedFd) -> io::Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    crate::sys::process::clear_environment();
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    drop(null);
    leave(socket)
}

fn leave(socket: &OwnedFd) -> io::Result<()> {
    crate::sys::fds::close_all_except(3, &[socket.as_raw_fd()])?;
    rustix::process::chdir("/")?;
    // It fails for a process that leads a group, which one that was just made never does.
    let _ = rustix::process::setsid();
    Ok(())
}

/// What a helper was given.
pub(super) struct Given<T> {
    pub(super) task: T,
    pub(super) fds: Vec<OwnedFd>,
    /// To be closed at the end.
    pub(super) program: OwnedFd,
}

/// Waits for the task; `None` when it was never needed.
pub(super) fn receive_task<T: DeserializeOwned>(socket: &OwnedFd) -> io::Result<Option<Given<T>>> {
    let mut fds = receive(socket.as_fd())?;
    if fds.len() < 2 {
        return Ok(None);
    }
    let (file, program) = (fds.remove(0), fds.remove(0));
    let mut text = Vec::new();
    File::from(file).read_to_end(&mut text)?;
    Ok(Some(Given { task: serde_json::from_slice(&text)?, fds, program }))
}

/// Sends descriptors.
pub(super) fn send(socket: impl AsFd, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    packet::send(socket, b"T", fds)
}

/// Waits for descriptors; none when the other side has gone.
pub(super) fn receive(socket: BorrowedFd<'_>) -> io::Result<Vec<OwnedFd>> {
    let packet = packet::receive(socket, &mut [0], RecvFlags::empty())?;
    Ok(packet.map_or_else(Vec::new, |(_, fds)| fds))
}
