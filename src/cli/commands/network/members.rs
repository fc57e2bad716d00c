//! `kiln network connect` and `kiln network disconnect`

use std::net::IpAddr;

use super::create::address;
use crate::api::NetworkWish;
use crate::cli::commands::create::mac;
use crate::cli::error::Error;
use crate::cli::session::Invocation;
use crate::cli::table_of_commands::{Entry, command};
use crate::cli::{exit, flags};

/// Its place in the table.
pub(crate) const CONNECT: Entry = command!(
    Grouped,
    "network connect",
    "Connect a container to a network",
    "[OPTIONS] NETWORK CONTAINER",
    Connect,
    connect,
    not_yet: &["--driver-opt", "--link", "--link-local-ip"]
);
/// Its place in the table.
pub(crate) const DISCONNECT: Entry = command!(
    Grouped,
    "network disconnect",
    "Disconnect a container from a network",
    "[OPTIONS] NETWORK CONTAINER",
    Disconnect,
    disconnect
);

/// `kiln network connect`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Connect {
    /// Another name of the container in the network
    #[arg(long, value_name = "NAME")]
    alias: Vec<String>,
    /// Of the networks with the way out the highest is it
    #[arg(long, value_name = "NUMBER", default_value_t = 0, allow_hyphen_values = true)]
    gw_priority: i32,
    /// Its IPv4 address
    #[arg(long, value_name = "ADDRESS")]
    ip: Option<String>,
    /// Its IPv6 address
    #[arg(long, value_name = "ADDRESS")]
    ip6: Option<String>,
    /// Its link's MAC
    #[arg(long, value_name = "MAC")]
    mac_address: Option<String>,
    /// The network
    #[arg(value_name = "NETWORK", required = true)]
    network: String,
    /// The container
    #[arg(value_name = "CONTAINER", required = true)]
    container: String,
}

/// `kiln network disconnect`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Disconnect {
    /// A container that doesn't exist is no failure
    #[arg(long, short)]
    force: bool,
    /// The network
    #[arg(value_name = "NETWORK", required = true)]
    network: String,
    /// The container
    #[arg(value_name = "CONTAINER", required = true)]
    container: String,
}

fn connect(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Connect = flags::parse(invocation)?;
    let wrong = |flag: &str, text: &str| {
        Error::usage(format!("invalid value `{text}` for `{flag}`: it is of the other family"))
            .hint("`--ip` is for IPv4 addresses, `--ip6` for IPv6 addresses")
    };
    let ip =
        match flags.ip.as_deref().map(|text| Ok::<_, Error>((text, address("--ip", text)?))).transpose()? {
            Some((text, IpAddr::V6(_))) => return Err(wrong("--ip", text)),
            Some((_, IpAddr::V4(ip))) => Some(ip),
            None => None,
        };
    let ip6 =
        match flags.ip6.as_deref().map(|text| Ok::<_, Error>((text, address("--ip6", text)?))).transpose()? {
            Some((text, IpAddr::V4(_))) => return Err(wrong("--ip6", text)),
            Some((_, IpAddr::V6(ip))) => Some(ip),
            None => None,
        };
    let wish = NetworkWish {
        network: flags.network,
        ip,
        ip6,
        mac: flags.mac_address.as_deref().map(mac).transpose()?,
        aliases: flags.alias,
        priority: flags.gw_priority,
        ..NetworkWish::default()
    };
    invocation.session.root_engine()?.network_connect(&flags.container, &wish)?;
    Ok(exit::SUCCESS)
}

fn disconnect(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Disconnect = flags::parse(invocation)?;
    let result = invocation.session.root_engine()?.network_disconnect(&flags.container, &flags.network);
    match result {
        Err(failure) if flags.force && failure.kind == crate::api::FailureKind::NotFound => {}
        result => result?,
    }
    Ok(exit::SUCCESS)
}
