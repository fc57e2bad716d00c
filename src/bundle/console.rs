//! The terminal of a container, handed to whoever listens at the console socket.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, connect, sendmsg, socket_with,
};

use super::error::{Doing, Error, Result};

/// A terminal needs somebody to get it, who may be the caller (`kept`), and nobody else may ask for one.
pub(super) fn check(terminal: bool, socket: Option<&Path>, kept: bool) -> Result<()> {
    match (terminal, socket) {
        (true, None) if kept => Ok(()),
        (true, None) => Err(Error::Refused("cannot allocate tty without setting console socket".into())),
        (false, Some(_)) => Err(Error::Refused("cannot use console socket if no tty is allocated".into())),
        _ => Ok(()),
    }
}

/// Sends the master.
pub(super) fn send(path: &Path, master: &OwnedFd) -> Result<()> {
    let fail = || format!("cannot send the terminal to `{}`", path.display());
    let socket =
        socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).doing(fail)?;
    connect(&socket, &SocketAddrUnix::new(path).doing(fail)?).doing(fail)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [master.as_fd()];
    // There is room for one.
    let _ = control.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(&socket, &[IoSlice::new(b"/dev/ptmx")], &mut control, SendFlags::NOSIGNAL).doing(fail).map(drop)
}
