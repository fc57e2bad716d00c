//! Where the containers of a network ask for names.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::netlink::Socket;
use super::nft;

/// In each namespace; containers find it in their `/etc/resolv.conf`.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
const PORT: u16 = 53;
/// Room for the questions that come before they can be answered: some thousands.
const RECEIVE_BYTES: usize = 4 << 20;
const BACKLOG: i32 = 1024;

/// The sockets of a namespace that a resolver answers on.
#[derive(Debug)]
pub struct NameSockets {
    /// For datagrams.
    pub udp: OwnedFd,
    /// For connections.
    pub tcp: OwnedFd,
}

impl NameSockets {
    /// Makes them in `namespace`, whose loopback is up, by a thread that ends. The port of name servers itself stays
    /// free for the container's own programs.
    pub fn make(namespace: BorrowedFd<'_>) -> io::Result<Self> {
        let namespace = namespace.try_clone_to_owned()?;
        let make = move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            let udp = socket(SocketType::DGRAM)?;
            sockopt::set_socket_recv_buffer_size_force(&udp, RECEIVE_BYTES)?;
            let tcp = socket(SocketType::STREAM)?;
            rustix::net::listen(&tcp, BACKLOG)?;
            let asked = SocketAddrV4::new(ADDRESS, PORT);
            nft::write_names(&mut Socket::netfilter()?, asked, port(&udp)?, port(&tcp)?)?;
            Ok(Self { udp, tcp })
        };
        let thread =
            std::thread::Builder::new().name("names".to_owned()).stack_size(64 * 1024).spawn(make)?;
        thread.join().map_err(|_| io::Error::other("the thread panicked"))?
    }
}

fn socket(kind: SocketType) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::INET, kind, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrV4::new(ADDRESS, 0))?;
    Ok(socket)
}

fn port(socket: &OwnedFd) -> io::Result<u16> {
    let address = SocketAddrV4::try_from(rustix::net::getsockname(socket)?);
    address.map(|address| address.port()).map_err(|_| io::ErrorKind::InvalidData.into())
}
