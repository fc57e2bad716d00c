//! `kiln network create`

use std::net::IpAddr;

use ipnet::IpNet;

use crate::api::NetworkCreateRequest;
use crate::cli::commands::pairs;
use crate::cli::error::Error;
use crate::cli::session::{Invocation, print_line};
use crate::cli::table_of_commands::{Entry, command};
use crate::cli::{exit, flags};

/// Its place in the table.
pub(crate) const CREATE: Entry = command!(
    Grouped,
    "network create",
    "Create a network",
    "[OPTIONS] NETWORK",
    Create,
    run,
    not_yet: &["--config-from", "--config-only", "--ingress", "--ipam-driver", "--ipam-opt", "--ipv4", "--scope"]
);

/// `kiln network create`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Create {
    /// Containers may be connected by hand: they always may
    #[arg(long)]
    attachable: bool,
    /// An address that isn't given out (NAME=ADDRESS)
    #[arg(long, value_name = "NAME=ADDRESS")]
    aux_address: Vec<String>,
    /// The driver: bridge
    #[arg(long, short, value_name = "DRIVER", default_value = "bridge")]
    driver: String,
    /// The bridge's address in the subnet
    #[arg(long, value_name = "ADDRESS")]
    gateway: Vec<String>,
    /// No way out
    #[arg(long)]
    internal: bool,
    /// Give out addresses of this part of the subnet
    #[arg(long, value_name = "SUBNET")]
    ip_range: Vec<String>,
    /// IPv6 addresses too
    #[arg(long)]
    ipv6: bool,
    /// Add a label
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Set an option: mtu=, name= (the bridge's), icc=, masquerade=, or docker's long names of them
    #[arg(long = "opt", short = 'o', value_name = "KEY=VALUE")]
    options: Vec<String>,
    /// The addresses, one subnet of each family (172.38.0.0/16)
    #[arg(long, value_name = "SUBNET")]
    subnet: Vec<String>,
    /// Its name
    #[arg(value_name = "NETWORK", required = true)]
    name: String,
}

/// Makes a network and prints its id.
fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Create = flags::parse(invocation)?;
    let request = NetworkCreateRequest {
        name: flags.name,
        driver: flags.driver,
        subnets: read(&flags.subnet, |text| net("--subnet", text))?,
        gateways: read(&flags.gateway, |text| address("--gateway", text))?,
        ranges: read(&flags.ip_range, |text| net("--ip-range", text))?,
        aux: read(&flags.aux_address, aux)?,
        internal: flags.internal,
        ipv6: flags.ipv6,
        attachable: flags.attachable,
        labels: read(&flags.label, pairs::label)?,
        options: read(&flags.options, pairs::label)?,
    };
    print_line(&invocation.session.root_engine()?.network_create(&request)?)?;
    Ok(exit::SUCCESS)
}

fn read<T>(texts: &[String], one: impl Fn(&str) -> Result<T, Error>) -> Result<Vec<T>, Error> {
    texts.iter().map(|text| one(text)).collect()
}

fn net(flag: &str, text: &str) -> Result<IpNet, Error> {
    text.parse().map_err(|_| {
        Error::usage(format!("invalid value `{text}` for `{flag}`")).hint("write it as `172.38.0.0/16`")
    })
}

/// Reads an address.
pub(super) fn address(flag: &str, text: &str) -> Result<IpAddr, Error> {
    text.parse().map_err(|_| {
        Error::usage(format!("invalid value `{text}` for `{flag}`: it must be an address"))
            .hint("write it as `172.38.0.5` or `fd00:38::5`")
    })
}

fn aux(text: &str) -> Result<(String, IpAddr), Error> {
    match text.split_once('=') {
        Some((name, at)) if !name.is_empty() => Ok((name.to_owned(), address("--aux-address", at)?)),
        _ => Err(Error::usage(format!("invalid value `{text}` for `--aux-address`"))
            .hint("write it as `router=172.38.0.5`")),
    }
}
