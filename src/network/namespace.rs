//! The inner side of a connection: a network namespace.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
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
    pub fn make() -> io::Result<Self> {
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

    /// Brings up the loopback, which a link's configuration does too.
    pub fn loopback_up(&mut self) -> io::Result<()> {
        self.socket.request(link::loopback_up()).map(drop)
    }

    /// Gives the namespace and the socket in it, to be passed to another process.
    pub fn into_parts(self) -> (OwnedFd, OwnedFd) {
        (self.fd, self.socket.into())
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

    /// Gives a link its addresses and, if it leads out, the default routes; brings it and the loopback up.
    pub(super) fn configure(&mut self, interface: &str, place: &Place) -> io::Result<()> {
        let link = link::find(&mut self.socket, interface)?.ok_or(io::ErrorKind::NotFound)?;
        let addresses =
            || [Some(place.address.into()), place.address6.map(IpNet::from)].into_iter().flatten();
        let mut requests = vec![
            // Addresses of its own choice would serve nobody. A kernel without IPv6 refuses, and makes none.
            link::no_own_address(link.index).optional(),
            link::loopback_up(),
            link::set_up(link.index),
        ];
        requests.extend(addresses().map(|address| link::add_address(link.index, address)));
        if !place.is_paced {
            requests.extend(addresses().map(|address| link::unpaced(link.index, address)));
        }
        requests.extend(place.ways.iter().map(|way| link::default_route(*way)));
        self.socket.batch(requests)?;
        Ok(())
    }

    /// Takes a link's addresses away: nobody is left to answer there, but the kernel would.
    pub fn fall_silent(&mut self, interface: &str, addresses: &[IpNet]) -> io::Result<()> {
        let Some(link) = link::find(&mut self.socket, interface)? else { return Ok(()) };
        let requests = addresses.iter().map(|address| link::remove_address(link.index, *address).optional());
        self.socket.batch(requests.collect()).map(drop)
    }

    /// Sends everything unknown to `ways` instead of where it goes now.
    pub fn lead_out(&mut self, ways: &[IpAddr]) -> io::Result<()> {
        for family in [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
            match self.socket.request(link::no_default_route(family)) {
                Err(error) if error.raw_os_error() != Some(libc::ESRCH) => return Err(error),
                _ => {}
            }
        }
        match ways {
            [] => Ok(()),
            ways => self.socket.batch(ways.iter().map(|way| link::default_route(*way)).collect()).map(drop),
        }
    }
}

/// What a link gets in its namespace.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) address: Ipv4Net,
    pub(super) address6: Option<Ipv6Net>,
    /// Where the default routes lead.
    pub(super) ways: Vec<IpAddr>,
    /// TCP to its neighbours goes by the namespace's own congestion control.
    pub(super) is_paced: bool,
}
