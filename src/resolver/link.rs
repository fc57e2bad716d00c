//! How those who stand behind containers find the resolver of a network.
//!
//! A packet is the settings as JSON; the first one of a connection brings the container's two sockets. The connection
//! stays open as long as the container is to be answered.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::net::{AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType};
use serde::{Deserialize, Serialize};

use crate::sys::packet;

/// The most bytes of a packet.
const PACKET_BYTES: usize = 64 * 1024;
const SOCKET: &str = "resolver.sock";
const LOCK: &str = "resolver.lock";

/// What a resolver has to know of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Serve {
    /// The folders of the networks whose containers it finds by name.
    pub networks: Vec<PathBuf>,
    /// Names of its own, with the ids of the containers that they stand for.
    pub links: Vec<(String, String)>,
    /// Who is asked for other names; nobody means the machine's servers.
    pub servers: Vec<SocketAddr>,
    /// Whether it has a way out that is none of these networks: without any, other names aren't asked for.
    pub has_other_way: bool,
}

/// Connects to the resolver of the network in `folder`.
pub fn connect(folder: &Path) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    let folder = File::open(folder)?;
    rustix::net::connect(&socket, &address(&folder)?)?;
    Ok(socket)
}

/// Takes the right to be the resolver of the network in `folder`; `None` while another one has it.
pub fn claim(folder: &Path) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = rustix::fs::open(folder.join(LOCK), flags, Mode::from_raw_mode(0o600))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Tells the resolver at `socket` what is to be known, at first with the container's sockets, for datagrams and for
/// connections.
pub fn tell(socket: impl AsFd, serve: &Serve, sockets: Option<[BorrowedFd<'_>; 2]>) -> io::Result<()> {
    let fds = sockets.as_ref().map_or(&[][..], |sockets| sockets);
    packet::send(socket, &serde_json::to_vec(serve)?, fds)
}

/// Listens for those who stand behind containers. The caller has the right to.
pub(super) fn listen(folder: &Path) -> io::Result<OwnedFd> {
    remove(folder)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    rustix::net::bind(&socket, &address(&File::open(folder)?)?)?;
    rustix::net::listen(&socket, 1024)?;
    Ok(socket)
}

/// Lets nobody find it any more.
pub(super) fn remove(folder: &Path) -> io::Result<()> {
    match std::fs::remove_file(folder.join(SOCKET)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Takes the next packet; `None` when the other side has gone.
pub(super) fn receive(socket: impl AsFd) -> io::Result<Option<(Serve, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; PACKET_BYTES];
    match packet::receive(socket, &mut bytes, RecvFlags::DONTWAIT)? {
        Some((length, fds)) => Ok(Some((serde_json::from_slice(&bytes[..length])?, fds))),
        None => Ok(None),
    }
}

/// The socket's address by its open folder: short, however long the folder's path is.
fn address(folder: &File) -> io::Result<SocketAddrUnix> {
    Ok(SocketAddrUnix::new(format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd()))?)
}
