//! The column PORTS of `kiln ps`.

use std::fmt;

use crate::api::ContainerInfo;

/// Ports one after another that are written as one.
struct Run<'a> {
    /// Where they are reached from outside, under the same numbers; nothing for ports that are only named.
    address: Option<&'a str>,
    protocol: &'a str,
    first: u16,
    last: u16,
}

impl<'a> Run<'a> {
    fn of(address: Option<&'a str>, port: &'a str) -> Option<Self> {
        let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
        let number = number.parse().ok()?;
        Some(Self { address, protocol, first: number, last: number })
    }

    fn is_like(&self, other: &Self) -> bool {
        (self.address, self.protocol) == (other.address, other.protocol)
    }
}

impl fmt::Display for Run<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let &Self { address, protocol, first, last } = self;
        let numbers = if first == last { first.to_string() } else { format!("{first}-{last}") };
        match address {
            Some(address) => write!(f, "{address}:{numbers}->{numbers}/{protocol}"),
            None => write!(f, "{numbers}/{protocol}"),
        }
    }
}

/// As docker writes them: `80/tcp` for a port that is only named, `0.0.0.0:8800->80/tcp` for one that is published
/// under another number; ports one after another that aren't are one word, `5000-5003/tcp`. Nothing while it is stopped.
pub(super) fn ports(container: &ContainerInfo) -> String {
    if !container.state.is_alive() {
        return String::new();
    }
    let (mut runs, mut words, mut moved) = (Vec::new(), Vec::new(), Vec::new());
    for port in &container.ports {
        let own = port.port.split('/').next().unwrap_or_default();
        match port.address.rsplit_once(':').filter(|(_, host)| *host == own) {
            Some((address, _)) => runs.extend(Run::of(Some(address), &port.port)),
            None => moved.push(format!("{}->{}", port.address, port.port)),
        }
    }
    for named in container.exposed.iter().filter(|named| container.ports.iter().all(|it| it.port != **named))
    {
        match Run::of(None, named) {
            Some(run) => runs.push(run),
            None => words.push(named.clone()),
        }
    }
    runs.sort_by_key(|run| (run.first, run.address, run.protocol));
    let mut open: Vec<Run<'_>> = Vec::new();
    for run in runs {
        match open.iter_mut().find(|open| open.is_like(&run)) {
            Some(open) if open.last.checked_add(1) == Some(run.first) => open.last = run.first,
            Some(open) => words.push(std::mem::replace(open, run).to_string()),
            None => open.push(run),
        }
    }
    words.extend(open.iter().map(Run::to_string));
    words.append(&mut moved);
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{ContainerState, PublishedPort};
    use crate::cli::commands::ps::tests::all;

    fn shown(published: &[(&str, &str)], exposed: &[&str]) -> String {
        let [mut running, _, _] = all();
        let port = |(port, address): &(&str, &str)| PublishedPort {
            port: (*port).to_owned(),
            address: (*address).to_owned(),
        };
        running.ports = published.iter().map(port).collect();
        running.exposed = exposed.iter().map(|port| (*port).to_owned()).collect();
        ports(&running)
    }

    #[test]
    fn ports_are_shown_while_it_runs() {
        let [running, exited, _] = all();
        assert_eq!(ports(&running), "80/tcp");
        assert_eq!(exited.state, ContainerState::Exited);
        assert_eq!(ports(&ContainerInfo { exposed: vec!["80/tcp".into()], ..exited }), "");
    }

    /// What docker.io 20.10.24 shows for the same options.
    #[test]
    fn ports_one_after_another_are_one_word() {
        let published = [
            ("77/tcp", "127.0.0.1:32768"),
            ("80/tcp", "0.0.0.0:8899"),
            ("93/udp", "0.0.0.0:8893"),
            ("94/udp", "0.0.0.0:8894"),
            ("8090/tcp", "0.0.0.0:8090"),
            ("8090/tcp", "[::]:8090"),
            ("8091/tcp", "0.0.0.0:8091"),
            ("8091/tcp", "[::]:8091"),
        ];
        let exposed = ["5000/tcp", "5001/tcp", "5002/tcp", "7000/tcp", "80/tcp", "8090/tcp"];
        assert_eq!(
            shown(&published, &exposed),
            "5000-5002/tcp, 7000/tcp, 0.0.0.0:8090-8091->8090-8091/tcp, [::]:8090-8091->8090-8091/tcp, \
             127.0.0.1:32768->77/tcp, 0.0.0.0:8899->80/tcp, 0.0.0.0:8893->93/udp, 0.0.0.0:8894->94/udp"
        );
        assert_eq!(shown(&[], &["53/tcp", "53/udp", "54/udp", "65535/tcp"]), "53/tcp, 65535/tcp, 53-54/udp");
        assert_eq!(
            shown(&[("80/tcp", "0.0.0.0:8800")], &["80/tcp", "443/tcp"]),
            "443/tcp, 0.0.0.0:8800->80/tcp"
        );
    }
}
