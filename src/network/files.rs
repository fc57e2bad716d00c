//! What a container reads about its network: `/etc/resolv.conf` and `/etc/hosts`.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

/// Where a container with names in its networks finds the resolver.
pub const RESOLVER: &str = "127.0.0.11";

/// Where systemd-resolved keeps the servers that stand behind its stub on 127.0.0.53.
const RESOLVED: &str = "/run/systemd/resolve/resolv.conf";

/// Asked when the host has no name server that a container could reach.
const PUBLIC_SERVERS: [&str; 2] = ["8.8.8.8", "8.8.4.4"];

/// No more is read of a host's file.
const MAX_BYTES: usize = 64 * 1024;

/// Returns the `/etc/resolv.conf` for a namespace of its own on a host with this `/etc/resolv.conf`.
///
/// Name servers on loopback addresses are another program inside the namespace, so they are left out. If none
/// is left, those of systemd-resolved are taken, and else public ones. Search domains and options are kept.
pub fn resolv_conf(host: &str) -> String {
    let behind = || read(Path::new(RESOLVED)).unwrap_or_default();
    resolv_conf_from(host, behind)
}

/// Returns the host's `/etc/resolv.conf`, empty when there is none.
pub fn host_resolv_conf() -> String {
    read(Path::new("/etc/resolv.conf")).unwrap_or_default()
}

fn resolv_conf_from(host: &str, behind: impl FnOnce() -> String) -> String {
    let mut servers = servers(host);
    let mut rest: Vec<&str> = host.lines().filter(|line| keeps(line)).map(str::trim).collect();
    let resolved;
    if servers.is_empty() {
        resolved = behind();
        servers = self::servers(&resolved);
        if rest.is_empty() {
            rest = resolved.lines().filter(|line| keeps(line)).map(str::trim).collect();
        }
    }
    if servers.is_empty() {
        servers = PUBLIC_SERVERS.map(str::to_owned).to_vec();
    }
    let servers = servers.into_iter().map(|server| format!("nameserver {server}\n"));
    let rest = rest.into_iter().map(|line| format!("{line}\n"));
    servers.chain(rest).collect()
}

/// Returns the resolv.conf `text` with the user's own servers, domains and options in the place of its own ones; a
/// domain `.` is none.
pub fn own_resolv_conf(text: &str, servers: &[String], domains: &[String], options: &[String]) -> String {
    let replaced = [("nameserver", servers), ("search", domains), ("options", options)];
    let is_kept = |line: &&str| {
        let key = line.split_ascii_whitespace().next().unwrap_or_default();
        let key = if key == "domain" { "search" } else { key };
        replaced.iter().all(|(own, values)| *own != key || values.is_empty())
    };
    let kept: Vec<&str> = text.lines().filter(is_kept).collect();
    let servers = servers.iter().map(|server| format!("nameserver {server}\n"));
    let kept = kept.into_iter().map(|line| format!("{line}\n"));
    let mut text: String = servers.chain(kept).collect();
    let domains: Vec<&str> = domains.iter().map(String::as_str).filter(|domain| *domain != ".").collect();
    if !domains.is_empty() {
        text += &format!("search {}\n", domains.join(" "));
    }
    if !options.is_empty() {
        text += &format!("options {}\n", options.join(" "));
    }
    text
}

fn servers(text: &str) -> Vec<String> {
    let addresses = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()).flatten()
    });
    // The bridge has no IPv6 route, so that only IPv4 servers can answer.
    addresses.filter(|text| reachable(text)).map(str::to_owned).collect()
}

fn reachable(text: &str) -> bool {
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V4(address)) => !address.is_loopback() && !address.is_unspecified(),
        _ => false,
    }
}

fn keeps(line: &str) -> bool {
    matches!(line.split_ascii_whitespace().next(), Some("search" | "domain" | "options" | "sortlist"))
}

fn read(path: &Path) -> Option<String> {
    let bytes = std::fs::read(path).ok()?;
    Some(String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_BYTES)]).into_owned())
}

/// Returns an `/etc/hosts` with the loopback names, `extra` entries as `(name, address)`, and the own name.
///
/// The address `host-gateway` stands for `gateway`. Without addresses of its own the own name is on loopback.
pub fn hosts_file(
    hostname: &str,
    addresses: &[IpAddr],
    gateway: Option<Ipv4Addr>,
    extra: &[(String, String)],
) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n\
         ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
    );
    for (name, at) in extra {
        match gateway {
            Some(gateway) if at == "host-gateway" => text.push_str(&format!("{gateway}\t{name}\n")),
            None if at == "host-gateway" => text.push_str(&format!("127.0.0.1\t{name}\n")),
            _ => text.push_str(&format!("{at}\t{name}\n")),
        }
    }
    let own = if addresses.is_empty() { &[IpAddr::V4(Ipv4Addr::LOCALHOST)] } else { addresses };
    for address in own {
        text.push_str(&format!("{address}\t{hostname}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_on_loopback_are_replaced_and_the_rest_is_kept() {
        let host = "# stub\nnameserver 127.0.0.53\noptions edns0 trust-ad\nsearch example.org\n";
        let behind = || "nameserver 192.0.2.53\nsearch other.org\n".to_owned();
        assert_eq!(
            resolv_conf_from(host, behind),
            "nameserver 192.0.2.53\noptions edns0 trust-ad\nsearch example.org\n"
        );
        assert_eq!(
            resolv_conf_from("", String::new),
            "nameserver 8.8.8.8\nnameserver 8.8.4.4\n",
            "without any server a public one is asked"
        );
    }

    #[test]
    fn reachable_servers_stay_as_they_are() {
        let host = "nameserver 10.0.0.1\nnameserver ::1\nnameserver 127.0.0.1\nnameserver\t10.0.0.2\n";
        assert_eq!(resolv_conf_from(host, || unreachable!()), "nameserver 10.0.0.1\nnameserver 10.0.0.2\n");
    }

    #[test]
    fn own_servers_take_the_place_of_the_machines() {
        let host = "nameserver 10.0.0.1\nsearch example.org\noptions edns0\n";
        let list = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        assert_eq!(own_resolv_conf(host, &[], &[], &[]), host);
        assert_eq!(
            own_resolv_conf(host, &list(&["9.9.9.9"]), &list(&["a", "b"]), &list(&["ndots:2"])),
            "nameserver 9.9.9.9\nsearch a b\noptions ndots:2\n"
        );
        assert_eq!(own_resolv_conf(host, &[], &list(&["."]), &[]), "nameserver 10.0.0.1\noptions edns0\n");
    }

    #[test]
    fn the_own_name_and_extra_hosts_are_in_the_hosts_file() {
        let extra =
            [("db".to_owned(), "10.0.0.9".to_owned()), ("host".to_owned(), "host-gateway".to_owned())];
        let own = [IpAddr::V4(Ipv4Addr::new(172, 17, 0, 2))];
        let text = hosts_file("box", &own, Some(Ipv4Addr::new(172, 17, 0, 1)), &extra);
        assert!(text.starts_with("127.0.0.1\tlocalhost\n"));
        assert!(text.ends_with("10.0.0.9\tdb\n172.17.0.1\thost\n172.17.0.2\tbox\n"), "{text}");
    }
}
