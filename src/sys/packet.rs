//! Packets that bring descriptors, between kiln's own processes.
//!
//! The sockets are SEQPACKET ones: a packet arrives whole or not at all.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// The most descriptors that a packet brings: those of a start, and the locks that it keeps.
pub const MOST_FDS: usize = 64;

/// Sends one packet.
pub fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
    }
    let sent = rustix::io::retry_on_intr(|| {
        sendmsg(&socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)
    })?;
    if sent == bytes.len() { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EMSGSIZE)) }
}

/// Takes the next packet into `bytes`, waiting for it unless `DONTWAIT` is given, and gives its length and its
/// descriptors; `None` when the other side has gone. One that is longer than `bytes` is an error.
pub fn receive(
    socket: impl AsFd,
    bytes: &mut [u8],
    flags: RecvFlags,
) -> io::Result<Option<(usize, Vec<OwnedFd>)>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        recvmsg(&socket, &mut [IoSliceMut::new(bytes)], &mut control, flags | RecvFlags::CMSG_CLOEXEC)
    });
    let received = match received {
        Ok(received) => received,
        Err(rustix::io::Errno::CONNRESET) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
    }
    Ok(Some((received.bytes, fds)))
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap()
    }

    #[test]
    fn as_many_descriptors_arrive_as_a_packet_may_bring() {
        let (near, far) = pair();
        send(&near, b"x", &[far.as_fd(); MOST_FDS]).unwrap();
        let (length, fds) = receive(&far, &mut [0; 8], RecvFlags::empty()).unwrap().unwrap();
        assert_eq!((length, fds.len()), (1, MOST_FDS));
        assert!(send(&near, b"x", &[far.as_fd(); 2 * MOST_FDS]).is_err());
    }

    #[test]
    fn a_packet_that_does_not_fit_is_no_packet() {
        let (near, far) = pair();
        send(&near, b"longer", &[]).unwrap();
        assert!(receive(&far, &mut [0; 3], RecvFlags::empty()).is_err());
        drop(near);
        assert!(receive(&far, &mut [0; 3], RecvFlags::empty()).unwrap().is_none());
    }
}
