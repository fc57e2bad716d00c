//! Networks as they are asked for and listed.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

/// `kiln network create`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkCreateRequest {
    /// Its name.
    pub name: String,
    /// `--driver`; empty is `bridge`.
    pub driver: String,
    /// `--subnet`
    pub subnets: Vec<IpNet>,
    /// `--gateway`
    pub gateways: Vec<IpAddr>,
    /// `--ip-range`
    pub ranges: Vec<IpNet>,
    /// `--aux-address`: a name, and its address.
    pub aux: Vec<(String, IpAddr)>,
    /// `--internal`
    pub internal: bool,
    /// `--ipv6`
    pub ipv6: bool,
    /// `--attachable`
    pub attachable: bool,
    /// `--label`
    pub labels: Vec<(String, String)>,
    /// `--opt`
    pub options: Vec<(String, String)>,
}

/// A network, as `network ls` and `network inspect` show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkInfo {
    /// 64 hex digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `bridge`, `host` or `null`.
    pub driver: &'static str,
    /// Unix nanoseconds.
    pub created: i64,
    /// Its addresses, IPv4 first.
    pub subnets: Vec<SubnetInfo>,
    /// It has no way out.
    pub internal: bool,
    /// It has IPv6 addresses.
    pub ipv6: bool,
    /// `--attachable`
    pub attachable: bool,
    /// It came with kiln.
    pub is_builtin: bool,
    /// `--label`
    pub labels: BTreeMap<String, String>,
    /// `--opt`
    pub options: BTreeMap<String, String>,
    /// The containers that are connected to it and run.
    pub containers: Vec<NetworkMember>,
}

/// The addresses of one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubnetInfo {
    /// All of them.
    pub net: IpNet,
    /// The bridge's.
    pub gateway: IpAddr,
    /// Those that are given out, when not all.
    pub range: Option<IpNet>,
    /// Those that others have, and their names.
    pub aux: BTreeMap<String, IpAddr>,
}

/// A container in a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkMember {
    /// 64 hex digits; of something else its name.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its link's MAC.
    pub mac: String,
    /// Its address with the prefix length.
    pub address: String,
    /// Its IPv6 address with the prefix length, or nothing.
    pub address6: String,
}
