//! Datagrams with the address of this machine that they were sent to.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::net::SocketAddrAny;

use super::checked;

/// Room for one control message with an address, suitably aligned.
type Control = [u64; 8];

/// Lets [`receive`] tell where a datagram was sent to.
pub fn note_destinations(socket: BorrowedFd<'_>, is_v6: bool) -> io::Result<()> {
    let (level, option) = if is_v6 {
        (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO)
    } else {
        (libc::IPPROTO_IP, libc::IP_PKTINFO)
    };
    let on: libc::c_int = 1;
    // SAFETY: the option's value is an int that outlives the call, and its size is given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    checked(result.into()).map(drop)
}

/// A datagram that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrived {
    /// How many of the buffer's bytes it filled.
    pub length: usize,
    /// Who sent it.
    pub from: SocketAddr,
    /// Where it was sent to, as far as the kernel tells.
    pub to: Option<IpAddr>,
}

/// Takes one datagram, without waiting.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Arrived> {
    // SAFETY: an all-zero address is a valid one of no family.
    let mut from: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let mut control: Control = [0; 8];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: an all-zero header is a valid one without parts.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_name = (&raw mut from).cast();
    header.msg_namelen = size_of_val(&from) as libc::socklen_t;
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&control) as _;
    // SAFETY: all that the header points to lives here, is writable and has the sizes given.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_DONTWAIT) };
    let length = checked(length as libc::c_long)? as usize;
    // SAFETY: the kernel filled the header and the control messages that it points to.
    let to = unsafe { destination(&header) };
    let from = address(&from).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok(Arrived { length, from, to })
}

/// Sends a datagram from an address of this machine, without waiting.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], to: SocketAddr, from: Option<IpAddr>) -> io::Result<()> {
    let to = SocketAddrAny::from(to);
    let mut control: Control = [0; 8];
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: an all-zero header is a valid one without parts.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_name = to.as_ptr().cast_mut().cast();
    header.msg_namelen = to.addr_len();
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    if let Some(from) = from {
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = size_of_val(&control) as _;
        // SAFETY: the control buffer has room for either message, is aligned, and lives as long as the header.
        header.msg_controllen = unsafe { put_source(&header, from) } as _;
    }
    // SAFETY: all that the header points to lives here and has the sizes given; the kernel only reads it.
    let result = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, libc::MSG_DONTWAIT) };
    checked(result as libc::c_long).map(drop)
}

/// Reads the address out of the control messages of a filled header.
///
/// # Safety
/// The header's control messages must be the kernel's.
unsafe fn destination(header: &libc::msghdr) -> Option<IpAddr> {
    // SAFETY: the caller's promise.
    let message = unsafe { libc::CMSG_FIRSTHDR(header) };
    // SAFETY: it is null, or a whole message that lives as long as the header.
    let message = unsafe { message.as_ref() }?;
    // SAFETY: the message is a whole one of the kernel's.
    let data = unsafe { libc::CMSG_DATA(message) };
    match (message.cmsg_level, message.cmsg_type) {
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
            // SAFETY: a message of this kind holds this structure, perhaps not aligned for it.
            let info = unsafe { data.cast::<libc::in_pktinfo>().read_unaligned() };
            Some(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr)).into())
        }
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
            // SAFETY: as above.
            let info = unsafe { data.cast::<libc::in6_pktinfo>().read_unaligned() };
            Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into())
        }
        _ => None,
    }
}

/// Writes the control message that chooses the source; gives its length.
///
/// # Safety
/// The header's control buffer must have room for it.
unsafe fn put_source(header: &libc::msghdr, from: IpAddr) -> libc::c_uint {
    // SAFETY: the caller's promise: the buffer has room for a message.
    let message = unsafe { libc::CMSG_FIRSTHDR(header) };
    // SAFETY: its data begins behind its head, within the buffer.
    let data = unsafe { libc::CMSG_DATA(message) };
    let (level, kind, size) = match from {
        IpAddr::V4(from) => {
            let zero = libc::in_addr { s_addr: 0 };
            let source = libc::in_addr { s_addr: u32::from(from).to_be() };
            let info = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: source, ipi_addr: zero };
            // SAFETY: the buffer has room for it.
            unsafe { data.cast::<libc::in_pktinfo>().write_unaligned(info) };
            (libc::IPPROTO_IP, libc::IP_PKTINFO, size_of::<libc::in_pktinfo>())
        }
        IpAddr::V6(from) => {
            let ipi6_addr = libc::in6_addr { s6_addr: from.octets() };
            let info = libc::in6_pktinfo { ipi6_addr, ipi6_ifindex: 0 };
            // SAFETY: the buffer has room for it.
            unsafe { data.cast::<libc::in6_pktinfo>().write_unaligned(info) };
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, size_of::<libc::in6_pktinfo>())
        }
    };
    let size = size as libc::c_uint;
    // SAFETY: computes with a number only.
    let length = unsafe { libc::CMSG_LEN(size) };
    // SAFETY: the message's head is within the buffer.
    unsafe {
        *message = libc::cmsghdr { cmsg_len: length as _, cmsg_level: level, cmsg_type: kind };
    }
    // SAFETY: computes with a number only.
    unsafe { libc::CMSG_SPACE(size) }
}

fn address(from: &libc::sockaddr_storage) -> Option<SocketAddr> {
    let from = &raw const *from;
    // SAFETY: the storage is valid and aligned for every family.
    match i32::from(unsafe { (*from).ss_family }) {
        libc::AF_INET => {
            // SAFETY: the family says what it holds.
            let from = unsafe { from.cast::<libc::sockaddr_in>().read() };
            let address = Ipv4Addr::from(u32::from_be(from.sin_addr.s_addr));
            Some((address, u16::from_be(from.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: the family says what it holds.
            let from = unsafe { from.cast::<libc::sockaddr_in6>().read() };
            let address = std::net::SocketAddrV6::new(
                from.sin6_addr.s6_addr.into(),
                u16::from_be(from.sin6_port),
                from.sin6_flowinfo,
                from.sin6_scope_id,
            );
            Some(address.into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn an_answer_goes_out_from_the_address_that_was_asked() {
        for (any, asked) in [("0.0.0.0:0", "127.0.0.9"), ("[::]:0", "::1")] {
            let Ok(server) = UdpSocket::bind(any) else { continue };
            let asked: IpAddr = asked.parse().unwrap();
            note_destinations(server.as_fd(), asked.is_ipv6()).unwrap();
            let Ok(client) = UdpSocket::bind((if asked.is_ipv6() { "::1" } else { "127.0.0.1" }, 0)) else {
                continue;
            };
            client.connect((asked, server.local_addr().unwrap().port())).unwrap();
            client.send(b"question").unwrap();
            let mut buffer = [0; 64];
            let arrived = loop {
                match receive(server.as_fd(), &mut buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    arrived => break arrived.unwrap(),
                }
            };
            let expected = Arrived { length: 8, from: client.local_addr().unwrap(), to: Some(asked) };
            assert_eq!(arrived, expected);
            send(server.as_fd(), b"answer", arrived.from, arrived.to).unwrap();
            // A connected socket takes nothing from another address.
            assert_eq!(client.recv(&mut buffer).unwrap(), 6);
        }
    }
}
