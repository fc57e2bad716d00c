//! `kiln port`

use crate::cli::error::Error;
use crate::cli::session::{Invocation, print};
use crate::cli::table_of_commands::{Entry, command};
use crate::cli::{exit, flags};

/// Its place in the table.
pub(crate) const ENTRY: Entry = command!(
    Other,
    "port",
    "List port mappings or a specific mapping for the container",
    "CONTAINER [PRIVATE_PORT[/PROTO]]",
    Port,
    run
);

/// `kiln port`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Port {
    /// The container
    #[arg(value_name = "CONTAINER", required = true)]
    container: String,
    /// Only this port of it: 80, 53/udp
    #[arg(value_name = "PRIVATE_PORT[/PROTO]")]
    port: Option<String>,
}

/// Prints where the ports of a container are reached: `80/tcp -> 0.0.0.0:8800`.
fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Port = flags::parse(invocation)?;
    let wanted = flags.port.as_deref().map(port).transpose()?;
    let ports = invocation.session.engine()?.ports(&flags.container)?;
    let mut text = String::new();
    for published in
        ports.iter().filter(|published| wanted.as_ref().is_none_or(|port| *port == published.port))
    {
        match wanted {
            None => text += &format!("{} -> {}\n", published.port, published.address),
            Some(_) => text += &format!("{}\n", published.address),
        }
    }
    match wanted {
        Some(port) if text.is_empty() => {
            let name = &flags.container;
            Err(Error::usage(format!("no public port `{port}` published for `{name}`"))
                .hint(format!("`kiln port {name}` shows those that are")))
        }
        _ => print(&text).map(|()| exit::SUCCESS),
    }
}

/// Reads `80`, `53/udp`; gives it with its protocol.
fn port(text: &str) -> Result<String, Error> {
    let bad = || Error::usage(format!("invalid port `{text}`")).hint("write it as `80` or `53/udp`");
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let number: u16 = number.parse().map_err(|_| bad())?;
    if number == 0 || !["tcp", "udp", "sctp"].contains(&protocol) {
        return Err(bad());
    }
    Ok(format!("{number}/{protocol}"))
}

#[cfg(test)]
mod tests {
    use super::port;

    #[test]
    fn a_port_is_tcp_unless_said_otherwise() {
        for (text, expected) in [
            ("80", Some("80/tcp")),
            ("53/udp", Some("53/udp")),
            ("0", None),
            ("70000", None),
            ("80/icmp", None),
            ("x", None),
        ] {
            assert_eq!(port(text).ok().as_deref(), expected, "{text}");
        }
    }
}
