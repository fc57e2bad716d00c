//! The inner side of a connection: a network namespace.

use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ipnet::Ipv4Net;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::link;
use super::netlink::Socket;

/// A network namespace, and a socket in it.
#[derive(Debug)]
pub struct Namespace {
    pub(super) fd: OwnedFd,
    pub(super) socket: Socket,
}

impl Namespace {
    /// Makes one on a thread of its own, because a thread never comes back from a namespace cleanly.
    pub(super) fn make() -> io::Result<Self> {
        let make = || {
            crate::sys::netns::unshare_network()?;
            let fd = File::open("/proc/thread-self/ns/net")?.into();
            Ok(Self { fd, socket: Socket::route()? })
        };
        let thread =
            std::thread::Builder::new().name("netns".to_owned()).stack_size(64 * 1024).spawn(make)?;
        thread.join().map_err(|_| io::Error::other("the thread panicked"))?
    }

    /// Takes a namespace that another process has made, with a socket of its own in it.
    ///
    /// The calling thread is in that namespace for a moment: for processes with one thread.
    pub fn enter(fd: OwnedFd) -> io::Result<Self> {
        let own = File::open("/proc/thread-self/ns/net")?;
        let network = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(fd.as_fd(), network)?;
        let socket = Socket::route();
        move_into_link_name_space(own.as_fd(), network)?;
        Ok(Self { fd, socket: socket? })
    }

    /// Gives what [`Namespace::of`] takes in another process.
    pub fn fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.fd.as_fd(), self.socket.as_fd()]
    }

    /// Takes what [`Namespace::fds`] gave.
    pub fn of(fds: Vec<OwnedFd>) -> Option<Self> {
        let [fd, socket] = <[OwnedFd; 2]>::try_from(fds).ok()?;
        Some(Self { fd, socket: socket.into() })
    }

    /// Gives `eth0` its address and its way out, and brings it and the loopback up.
    pub(super) fn configure(mut self, address: Ipv4Net, gateway: Ipv4Addr) -> io::Result<Self> {
        let eth0 = link::find(&mut self.socket, "eth0")?.ok_or(io::ErrorKind::NotFound)?;
        // The bridge has no IPv6: the address would serve nobody. A kernel without IPv6 refuses, and makes none.
        let _ = self.socket.request(link::no_own_address(eth0.index));
        self.socket.batch(vec![
            link::loopback_up(),
            link::set_up(eth0.index),
            link::add_address(eth0.index, address),
            link::default_route(gateway),
        ])?;
        Ok(self)
    }
}
