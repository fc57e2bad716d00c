//! Messages between kiln's own processes: one JSON value and some descriptors in each packet.
//!
//! The sockets are SEQPACKET pairs: a message arrives whole or not at all, several threads may send without a
//! lock, and the end of the other process is an end of file.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, socketpair};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::sys::packet;

/// The longest message; a socket's default buffer takes it.
const MESSAGE_BYTES: usize = 128 * 1024;

/// Makes a connected pair of packet sockets, closed on exec.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Sends one message.
pub fn send<T: Serialize>(socket: impl AsFd, message: &T, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    packet::send(socket, &serde_json::to_vec(message)?, fds)
}

/// Sends one message by `write`, which even a strict filter permits. Where nobody listens, SIGPIPE comes.
pub fn send_plainly<T: Serialize>(socket: impl AsFd, message: &T) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    rustix::io::retry_on_intr(|| rustix::io::write(&socket, &bytes)).map(drop).map_err(io::Error::from)
}

/// Waits for one message; `None` when the other side has closed.
pub fn receive<T: DeserializeOwned>(socket: impl AsFd) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    match receive_bytes(socket)? {
        Some((bytes, fds)) => Ok(Some((serde_json::from_slice(&bytes)?, fds))),
        None => Ok(None),
    }
}

/// The same, of whatever it consists.
pub(super) fn receive_bytes(socket: impl AsFd) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; waiting(&socket)?.min(MESSAGE_BYTES)];
    let Some((length, fds)) = packet::receive(socket, &mut bytes, RecvFlags::empty())? else {
        return Ok(None);
    };
    bytes.truncate(length);
    Ok(Some((bytes, fds)))
}

/// Waits for a message, and gives its length: the memory for the longest would cost more than most messages.
fn waiting(socket: impl AsFd) -> io::Result<usize> {
    let peek = RecvFlags::PEEK | RecvFlags::TRUNC;
    match rustix::io::retry_on_intr(|| rustix::net::recv(&socket, &mut [0u8; 0][..], peek)) {
        Ok((_, length)) => Ok(length),
        // Told by the next read.
        Err(rustix::io::Errno::CONNRESET) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_brings_its_descriptors() {
        let (left, right) = pair().unwrap();
        let (read, write) = rustix::pipe::pipe().unwrap();
        send(&left, &"hello", &[write.as_fd()]).unwrap();
        let (text, fds): (String, _) = receive(&right).unwrap().unwrap();
        assert_eq!(text, "hello");
        rustix::io::write(&fds[0], b"x").unwrap();
        let mut byte = [0];
        assert_eq!(rustix::io::read(&read, &mut byte).unwrap(), 1);
    }

    #[test]
    fn the_end_of_the_other_side_is_none() {
        let (left, right) = pair().unwrap();
        drop(left);
        assert!(receive::<String>(&right).unwrap().is_none());
    }

    #[test]
    fn a_message_that_is_too_long_is_refused_whole() {
        let (left, _right) = pair().unwrap();
        assert!(send(&left, &"x".repeat(4 << 20), &[]).is_err());
    }
}
