//! What a container sends in another one's name over IPv6, frame by frame: nobody hears it.

use std::fs::File;
use std::net::Ipv6Addr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::support::binary::Kiln;
use crate::support::needs_root;

const IPV6: [u8; 2] = [0x86, 0xdd];
const VLAN: [u8; 4] = [0x81, 0, 0, 7];
const UDP: u8 = 17;
const ICMP6: u8 = 58;
const HOP_BY_HOP: u8 = 0;
const ROUTER_ADVERT: u8 = 134;
const NEIGHBOUR_ADVERT: u8 = 136;
/// How long a frame may take from one namespace to the other.
const PATIENCE_SECONDS: i64 = 20;

/// A container's place in the network.
#[derive(Clone, Copy)]
struct Place {
    mac: [u8; 6],
    address: Ipv6Addr,
}

fn started(kiln: &Kiln, name: &str) -> Place {
    kiln.ok(&["run", "-d", "--name", name, "--network", "six", "busybox", "sleep", "1000"]);
    let format =
        "{{.NetworkSettings.Networks.six.MacAddress}} {{.NetworkSettings.Networks.six.GlobalIPv6Address}}";
    let shown = kiln.ok(&["inspect", "-f", format, name]);
    let (mac, address) = shown.trim().split_once(' ').unwrap();
    let bytes: Vec<u8> = mac.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    Place { mac: bytes.try_into().unwrap(), address: address.parse().unwrap() }
}

/// Work on a thread in a container's network, with all rights there.
fn inside<T: Send + 'static>(kiln: &Kiln, name: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let pid = kiln.ok(&["inspect", "-f", "{{.State.Pid}}", name]);
    let namespace = File::open(format!("/proc/{}/ns/net", pid.trim())).unwrap();
    let enter = move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        work()
    };
    std::thread::spawn(enter).join().unwrap()
}

/// A socket for whole frames.
fn packet_socket() -> OwnedFd {
    let all = i32::from((libc::ETH_P_ALL as u16).to_be());
    #[expect(unsafe_code, reason = "rustix has no packet sockets")]
    // SAFETY: the call takes numbers.
    let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, all) };
    assert!(fd >= 0, "{}", std::io::Error::last_os_error());
    #[expect(unsafe_code, reason = "rustix has no packet sockets")]
    // SAFETY: the descriptor is new and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    socket
}

/// Sends frames out of `eth0` of the namespace that the socket is of.
fn send(socket: &OwnedFd, frames: &[Vec<u8>]) {
    let index = rustix::net::netdevice::name_to_index(socket, "eth0").unwrap();
    for frame in frames {
        #[expect(unsafe_code, reason = "rustix has no packet sockets")]
        // SAFETY: the type is made of numbers.
        let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        to.sll_family = libc::AF_PACKET as u16;
        to.sll_ifindex = index.cast_signed();
        let size = size_of_val(&to) as libc::socklen_t;
        #[expect(unsafe_code, reason = "rustix has no packet sockets")]
        // SAFETY: the frame and the address are as long as the call is told.
        let sent = unsafe {
            libc::sendto(
                socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
                (&raw const to).cast(),
                size,
            )
        };
        assert_eq!(sent, frame.len().cast_signed(), "{}", std::io::Error::last_os_error());
    }
}

/// The marks of the frames that come, until that of the last one.
fn heard(socket: &OwnedFd, last: u8) -> Vec<u8> {
    let mut marks = Vec::new();
    let time = std::time::Duration::from_secs(PATIENCE_SECONDS.unsigned_abs());
    rustix::net::sockopt::set_socket_timeout(socket, rustix::net::sockopt::Timeout::Recv, Some(time))
        .unwrap();
    let mut frame = [0; 2048];
    while marks.last() != Some(&last) {
        let (_, length) = rustix::net::recv(socket, &mut frame, rustix::net::RecvFlags::empty())
            .expect("what is allowed comes through");
        let end = &frame[length.saturating_sub(5)..length];
        if end.starts_with(b"mark") {
            marks.push(end[4]);
        }
    }
    marks
}

/// A frame that says that it is from `from`; `next` is what the header of IPv6 is followed by.
fn frame(from: Place, to: Place, tag: &[u8], next: u8, content: &[u8], mark: u8) -> Vec<u8> {
    let content = [content, b"mark", &[mark]].concat();
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    let header = [&[0x60, 0, 0, 0][..], &length, &[next, 255]].concat();
    let addresses = [from.address.octets(), to.address.octets()].concat();
    [&to.mac[..], &from.mac, tag, &IPV6, &header, &addresses, &content].concat()
}

fn datagram() -> Vec<u8> {
    [&4000_u16.to_be_bytes()[..], &4000_u16.to_be_bytes(), &13_u16.to_be_bytes(), &[0, 0]].concat()
}

fn advert(kind: u8, target: Ipv6Addr) -> Vec<u8> {
    [&[kind, 0, 0, 0, 0x60, 0, 0, 0][..], &target.octets()].concat()
}

/// The same behind a header of options.
fn hidden(next: u8, content: &[u8]) -> Vec<u8> {
    [&[next, 0, 1, 4, 0, 0, 0, 0][..], content].concat()
}

#[test]
fn a_container_cannot_speak_for_another_one_over_ipv6() {
    if !needs_root("a_container_cannot_speak_for_another_one_over_ipv6") {
        return;
    }
    let kiln = Kiln::busybox();
    kiln.ok(&["network", "create", "--ipv6", "six"]);
    let [victim, other, thief] = ["victim", "other", "thief"].map(|name| started(&kiln, name));
    let router = Place { address: "fe80::1".parse().unwrap(), ..thief };
    let as_other = Place { address: other.address, ..thief };
    let router_advert = advert(ROUTER_ADVERT, Ipv6Addr::UNSPECIFIED);
    let for_other = advert(NEIGHBOUR_ADVERT, other.address);
    let for_itself = advert(NEIGHBOUR_ADVERT, thief.address);
    let frames = vec![
        frame(thief, victim, &[], UDP, &datagram(), b'0'),
        frame(as_other, victim, &[], UDP, &datagram(), b'a'),
        frame(other, victim, &[], UDP, &datagram(), b'b'),
        frame(Place { mac: other.mac, ..thief }, victim, &[], UDP, &datagram(), b'c'),
        frame(as_other, victim, &VLAN, UDP, &datagram(), b'd'),
        frame(router, victim, &[], ICMP6, &router_advert, b'e'),
        frame(thief, victim, &[], ICMP6, &router_advert, b'f'),
        frame(thief, victim, &[], HOP_BY_HOP, &hidden(ICMP6, &router_advert), b'g'),
        frame(thief, victim, &[], ICMP6, &for_other, b'h'),
        frame(as_other, victim, &[], ICMP6, &for_other, b'i'),
        frame(thief, victim, &[], HOP_BY_HOP, &hidden(ICMP6, &for_other), b'j'),
        frame(thief, victim, &[], ICMP6, &for_itself, b'1'),
        frame(thief, victim, &[], UDP, &datagram(), b'2'),
    ];
    let ear = inside(&kiln, "victim", packet_socket);
    inside(&kiln, "thief", move || send(&packet_socket(), &frames));
    let marks = String::from_utf8(heard(&ear, b'2')).unwrap();
    assert_eq!(marks, "012", "what is not its own is heard by nobody");
    kiln.ok(&["rm", "-f", "victim", "other", "thief"]);
}
