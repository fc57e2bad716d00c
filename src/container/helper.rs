//! Starting a process of kiln's own, and giving it its task.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Seek, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use rustix::fs::MemfdFlags;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::runtime::sealed_program;

/// The most descriptors that go in one packet: a task, the program, and what belongs to the task.
pub(super) const MOST_FDS: usize = 64;

/// A process of kiln's own that waits for its task. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Helper {
    socket: OwnedFd,
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
        Ok(Helper { socket, child, program })
    }

    /// Gives it its task with descriptors, and gives what is left: its socket, and the child to reap where this process
    /// lives on.
    pub(super) fn hand_over<T: Serialize>(self, task: &T, fds: &[OwnedFd]) -> io::Result<(OwnedFd, Child)> {
        // The task may be longer than a packet: a file in memory has no limit.
        let mut file = File::from(rustix::fs::memfd_create(c"task", MemfdFlags::CLOEXEC)?);
        file.write_all(&serde_json::to_vec(task)?)?;
        file.rewind()?;
        let mut all = vec![file.as_fd(), self.program.as_fd()];
        all.extend(fds.iter().map(AsFd::as_fd));
        send(&self.socket, &all)?;
        Ok((self.socket, self.child))
    }

    /// The socket to it.
    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Lets it go, and waits until it has.
    pub(super) fn dismiss(self) {
        let Helper { socket, mut child, program } = self;
        drop((socket, program));
        // There is nobody to tell of a failure.
        let _ = child.wait();
    }
}

/// The helper's side of its start: leaves the caller's session behind, and gives the socket.
pub(super) fn settle_in() -> io::Result<OwnedFd> {
    let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let null = File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    drop(null);
    crate::sys::fds::close_all_except(3, &[socket.as_raw_fd()])?;
    rustix::process::chdir("/")?;
    // It fails for a process that leads a group, which one that was just made never does.
    let _ = rustix::process::setsid();
    Ok(socket)
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
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("too many descriptors"));
    }
    rustix::io::retry_on_intr(|| sendmsg(&socket, &[IoSlice::new(b"T")], &mut control, SendFlags::NOSIGNAL))?;
    Ok(())
}

/// Waits for descriptors; none when the other side has gone.
pub(super) fn receive(socket: BorrowedFd<'_>) -> io::Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    rustix::io::retry_on_intr(|| {
        recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    let mut fds: Vec<OwnedFd> = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    Ok(fds)
}
