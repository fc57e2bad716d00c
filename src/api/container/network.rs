//! A container's place in a network, as it is asked for.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// One `--network`, or one `network connect`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkWish {
    /// The network: what was typed; in a container's record its id.
    pub network: String,
    /// The network's name, once it was found.
    pub name: String,
    /// `--ip`
    pub ip: Option<Ipv4Addr>,
    /// `--ip6`
    pub ip6: Option<Ipv6Addr>,
    /// `--mac-address`
    pub mac: Option<String>,
    /// `--network-alias`
    pub aliases: Vec<String>,
    /// `--link` of `network connect`: container and alias.
    pub links: Vec<(String, String)>,
    /// `driver-opt` of the long form.
    pub options: Vec<(String, String)>,
    /// `gw-priority` of the long form: the highest one has the default route.
    pub priority: i32,
}
