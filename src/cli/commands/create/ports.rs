//! Flags of `kiln create` and `run`: ports.

use std::net::IpAddr;

use crate::api::{CreateRequest, NetworkMode, PortRequest, Protocol};
use crate::cli::error::Error;
use crate::cli::tell;

/// Ports.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Ports {
    /// Name a port that the program listens on (80, 53/udp, 8000-8010)
    #[arg(long, value_name = "PORT")]
    expose: Vec<String>,
    /// Let a port of this machine lead to the container ([[IP:]HOST_PORT:]PORT[/udp])
    #[arg(long, short, value_name = "PORTS")]
    publish: Vec<String>,
    /// Let any free port lead to each exposed one
    #[arg(long, short = 'P')]
    publish_all: bool,
}

impl Ports {
    /// Puts them into the request, which has the network already.
    pub(super) fn fill(&self, request: &mut CreateRequest) -> Result<(), Error> {
        for text in &self.expose {
            request.expose.extend(exposed(text)?);
        }
        for text in &self.publish {
            let ports = published(text)?;
            request
                .ports
                .extend(ports.into_iter().filter(|port| !request.ports.contains(port)).collect::<Vec<_>>());
        }
        request.publish_all = self.publish_all;
        let wants_any = request.publish_all || !request.ports.is_empty();
        if wants_any && request.isolation.network.is_some() {
            return Err(Error::usage("conflicting options: `--publish` and `--network container:…`")
                .hint("publish the port with the container whose network it is"));
        }
        let warning = match request.network {
            NetworkMode::Host => "published ports have no meaning with `--network host`",
            NetworkMode::None => {
                "published ports lead nowhere with `--network none`, until the container is connected to another one"
            }
            NetworkMode::Bridge => return Ok(()),
        };
        if wants_any {
            tell(&format!("WARNING: {warning}\n"));
        }
        Ok(())
    }
}

/// Reads `--expose`: `80`, `53/udp`, `8000-8010/tcp`; gives every port with its protocol.
fn exposed(text: &str) -> Result<Vec<String>, Error> {
    let bad = || {
        Error::usage(format!("invalid value `{text}` for `--expose`"))
            .hint("write it as `80`, `53/udp` or `8000-8010`")
    };
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (first, last) = self::range(range).ok_or_else(bad)?;
    if first == 0 || !["tcp", "udp", "sctp"].contains(&protocol) {
        return Err(bad());
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

/// Reads one `-p`, and gives what it wants port by port.
fn published(text: &str) -> Result<Vec<PortRequest>, Error> {
    let bad = |why: String| {
        Error::usage(format!("invalid port `{text}` for `--publish`: {why}"))
            .hint("write it as `80`, `8800:80`, `127.0.0.1:8800:80`, `[::1]:8800:80`, `8000-8010:80-90` or `53:53/udp`")
    };
    let short = if text.contains('=') { short_form(text).map_err(&bad)? } else { text.to_owned() };
    let (ports, protocol) = short.split_once('/').unwrap_or((&short, "tcp"));
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => return Err(bad("sctp is not supported; it may be tcp or udp".to_owned())),
        other => return Err(bad(format!("the protocol `{other}` is neither tcp nor udp"))),
    };
    let (address, host, container) = parts(ports).map_err(&bad)?;
    let number =
        |text: &str| range(text).ok_or_else(|| bad(format!("`{text}` is no port and no range of ports")));
    let (first, last) = number(container)?;
    if first == 0 {
        return Err(bad("the container's port can't be 0".to_owned()));
    }
    let host = match host {
        "" | "0" => None,
        host => match number(host)? {
            (0, _) => return Err(bad("no range of the host's ports begins with 0".to_owned())),
            range => Some(range),
        },
    };
    let host_of = |container: u16| -> Result<Option<(u16, u16)>, Error> {
        let Some((host_first, host_last)) = host else { return Ok(None) };
        if first == last {
            return Ok(Some((host_first, host_last)));
        }
        if host_last - host_first != last - first {
            return Err(bad("the two ranges have different lengths".to_owned()));
        }
        let port = host_first + (container - first);
        Ok(Some((port, port)))
    };
    (first..=last)
        .map(|container| Ok(PortRequest { address, host: host_of(container)?, container, protocol }))
        .collect()
}

/// Splits into the host's address, the host's ports and the container's ports.
fn parts(text: &str) -> Result<(Option<IpAddr>, &str, &str), String> {
    let Some((rest, container)) = text.rsplit_once(':') else { return Ok((None, "", text)) };
    let (address, host) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']').ok_or("a `]` is missing")?;
            (Some(address), rest.strip_prefix(':').ok_or("after `]` there must be the host's port, or `::`")?)
        }
        None => match rest.rsplit_once(':') {
            Some((address, host)) => (Some(address), host),
            None if rest.parse::<IpAddr>().is_ok() => {
                return Err(format!("for any port of the address `{rest}` write `{rest}::{container}`"));
            }
            None => (None, rest),
        },
    };
    let address = address.map(|address| address.parse().map_err(|_| format!("`{address}` is no address")));
    Ok((address.transpose()?, host, container))
}

/// Turns `published=8800,target=80,protocol=udp` into the short form.
fn short_form(text: &str) -> Result<String, String> {
    let (mut host, mut target, mut protocol) = ("", "", "tcp");
    for field in text.split(',') {
        match field.split_once('=').unwrap_or((field, "")) {
            ("published", value) => host = value,
            ("target", value) => target = value,
            ("protocol", value) => protocol = value,
            ("mode", "host" | "ingress") => {}
            _ => return Err(format!("`{field}` is none of published=, target=, protocol=, mode=host")),
        }
    }
    if target.is_empty() {
        return Err("`target=` with the container's port is missing".to_owned());
    }
    Ok(format!("{host}:{target}/{protocol}"))
}

/// Reads `80` or `8000-8010`.
fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    // A sign would be read otherwise.
    let number =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u16>().ok())?;
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_exposed_one_by_one() {
        assert_eq!(exposed("80").unwrap(), ["80/tcp"]);
        assert_eq!(exposed("8000-8002/udp").unwrap(), ["8000/udp", "8001/udp", "8002/udp"]);
        for bad in ["", "0", "9-8", "80/icmp", "x", "70000"] {
            assert!(exposed(bad).is_err(), "{bad}");
        }
    }

    fn shown(text: &str) -> Vec<String> {
        let show = |port: &PortRequest| {
            let address = port.address.map_or_else(|| "*".to_owned(), |address| address.to_string());
            let host = port.host.map_or_else(|| "any".to_owned(), |(first, last)| format!("{first}-{last}"));
            format!("{address} {host} {}/{}", port.container, port.protocol.name())
        };
        published(text).unwrap().iter().map(show).collect()
    }

    #[test]
    fn every_form_of_a_published_port_is_read() {
        for (text, expected) in [
            ("80", &["* any 80/tcp"][..]),
            ("0:80", &["* any 80/tcp"]),
            (":80", &["* any 80/tcp"]),
            ("8800:80", &["* 8800-8800 80/tcp"]),
            ("53:53/UDP", &["* 53-53 53/udp"]),
            ("127.0.0.1:8800:80", &["127.0.0.1 8800-8800 80/tcp"]),
            ("127.0.0.1::80", &["127.0.0.1 any 80/tcp"]),
            ("[::1]:8800:80", &["::1 8800-8800 80/tcp"]),
            ("[::1]::80", &["::1 any 80/tcp"]),
            ("::1:8800:80", &["::1 8800-8800 80/tcp"]),
            ("8000-8001:80-81", &["* 8000-8000 80/tcp", "* 8001-8001 81/tcp"]),
            ("8000-8010:80", &["* 8000-8010 80/tcp"]),
            ("80-81/udp", &["* any 80/udp", "* any 81/udp"]),
            ("published=8800,target=80", &["* 8800-8800 80/tcp"]),
            ("target=53,protocol=udp,mode=host", &["* any 53/udp"]),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_port_is_said() {
        for (text, expected) in [
            ("", "is no port"),
            ("x", "`x` is no port"),
            ("8800:0", "can't be 0"),
            ("8800:+80", "`+80` is no port"),
            ("70000:80", "`70000` is no port"),
            ("9-8:80", "`9-8` is no port"),
            ("8000-8002:80-81", "different lengths"),
            ("132:132/sctp", "sctp is not supported"),
            ("80:80/icmp", "`icmp` is neither tcp nor udp"),
            ("localhost:80:80", "`localhost` is no address"),
            ("127.0.0.1:80", "write `127.0.0.1::80`"),
            ("[::1:80:80", "`]` is missing"),
            ("[::1]80:80", "after `]`"),
            ("published=80", "`target=`"),
            ("target=80,colour=red", "`colour=red` is none"),
        ] {
            let Err(Error::Failure(failure)) = published(text) else { panic!("{text} is fine") };
            assert!(failure.message.contains(expected), "{text}: {}", failure.message);
        }
    }
}
