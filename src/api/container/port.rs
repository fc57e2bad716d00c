//! Ports of a container that are reached from outside.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// What runs over a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
}

impl Protocol {
    /// Its name in ports: `80/tcp`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    /// Its number in packets.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

/// One `-p`, or one port of its range.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRequest {
    /// The host's address; none is all of them.
    pub address: Option<IpAddr>,
    /// First and last of the host's ports of which one is taken; none is any.
    pub host: Option<(u16, u16)>,
    /// The container's port.
    pub container: u16,
    /// What runs over it.
    pub protocol: Protocol,
}

/// A port of the host that a container's monitor holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundPort {
    /// The host's address; unspecified is all of its family.
    pub address: IpAddr,
    /// The host's port.
    pub host: u16,
    /// The container's port.
    pub container: u16,
    /// What runs over it.
    pub protocol: Protocol,
}

/// A port of a container that is reached from outside, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedPort {
    /// `80/tcp`.
    pub port: String,
    /// `0.0.0.0:8800`.
    pub address: String,
}
