//! Who has a port that can't be had.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::api::Protocol;
use crate::container::record::Record;
use crate::container::{Containers, try_lock};

/// A listening TCP socket in the kernel's lists.
const LISTENS: &str = "0A";

impl Containers {
    /// Names who has `at`, other than the container `own`: a container of this store, or a process.
    pub(super) fn holder(&self, at: SocketAddr, protocol: Protocol, own: &str) -> Option<String> {
        let has_it = |record: &Record| {
            let ports = record.state.ports.iter();
            ports
                .filter(|port| port.protocol == protocol)
                .any(|port| meets((port.address, port.host).into(), at))
        };
        // A container whose lock is free was lost, and holds nothing.
        let is_held = |id: &str| matches!(try_lock(&self.folder(id)), Ok(None));
        let others = self.ids().unwrap_or_default().into_iter().filter(|id| id != own);
        let mut records = others.filter_map(|id| Record::read(&self.folder(&id)).ok());
        let container = records.find(|record| has_it(record) && is_held(&record.id));
        container.map(|record| format!("container `{}`", record.name)).or_else(|| process(at, protocol))
    }
}

/// Tells whether two sockets of one protocol can't both be there.
pub(super) fn meets(one: SocketAddr, other: SocketAddr) -> bool {
    let (a, b) = (one.ip(), other.ip());
    let is_same = a == b || a.is_ipv4() == b.is_ipv4() && (a.is_unspecified() || b.is_unspecified());
    // Most listeners of all IPv6 addresses have those of IPv4 as well.
    let is_all = |address: IpAddr| address == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    one.port() == other.port() && (is_same || is_all(a) || is_all(b))
}

/// Finds the process that has the port, by the number of its socket.
fn process(at: SocketAddr, protocol: Protocol) -> Option<String> {
    let lists = ["", "6"].map(|version| format!("/proc/net/{}{version}", protocol.name()));
    let text: String = lists.iter().filter_map(|path| fs::read_to_string(path).ok()).collect();
    let mut found =
        text.lines().filter_map(|line| socket(line, protocol)).filter(|(socket, _)| meets(*socket, at));
    let link = format!("socket:[{}]", found.next()?.1);
    let is_it = |fd: fs::DirEntry| fs::read_link(fd.path()).is_ok_and(|to| to.as_os_str() == link.as_str());
    let is_process =
        |entry: &fs::DirEntry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit);
    let holds = |process: &fs::DirEntry| {
        let fds = fs::read_dir(process.path().join("fd")).into_iter().flatten();
        fds.filter_map(Result::ok).any(is_it)
    };
    let mut processes = fs::read_dir("/proc").ok()?.filter_map(Result::ok).filter(is_process);
    let process = processes.find(holds)?;
    let name = fs::read_to_string(process.path().join("comm")).ok()?;
    Some(format!("process `{}` ({})", name.trim_end(), process.file_name().to_string_lossy()))
}

/// Reads a line of the kernel's list of sockets: its address, when it takes what comes, and its inode.
fn socket(line: &str, protocol: Protocol) -> Option<(SocketAddr, &str)> {
    let fields: Vec<_> = line.split_whitespace().collect();
    let (address, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
    if protocol == Protocol::Tcp && *state != LISTENS {
        return None;
    }
    let (address, port) = address.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    // In words of the machine's own byte order.
    let word = |at: usize| u32::from_str_radix(address.get(at..at + 8)?, 16).ok().map(u32::to_ne_bytes);
    let ip: IpAddr = match address.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?].concat();
            Ipv6Addr::from(<[u8; 16]>::try_from(words).ok()?).to_canonical()
        }
        _ => return None,
    };
    Some((SocketAddr::new(ip, port), inode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_found_by_its_port() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let holder = process(at, Protocol::Tcp).unwrap();
        assert!(holder.ends_with(&format!("({})", std::process::id())), "{holder}");
        assert_eq!(process(at, Protocol::Udp), None);
    }

    #[test]
    fn sockets_meet_when_one_of_them_has_all_addresses() {
        for (one, other, expected) in [
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("10.0.0.1:80", "127.0.0.1:80", false),
            ("[::]:80", "0.0.0.0:80", true),
            ("[::1]:80", "0.0.0.0:80", false),
            ("[::1]:80", "[::]:80", true),
            ("0.0.0.0:80", "0.0.0.0:81", false),
        ] {
            assert_eq!(meets(one.parse().unwrap(), other.parse().unwrap()), expected, "{one} {other}");
        }
    }
}
