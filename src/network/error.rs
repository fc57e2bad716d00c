//! What goes wrong with networks.

use std::io;
use std::path::PathBuf;

use ipnet::IpNet;

/// Why a network could not be made, used or removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the network's folder, or a kernel setting.
    #[error("cannot {action} `{}`", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// The kernel refused a request.
    #[error("cannot {action} for bridge `{bridge}`")]
    Kernel {
        /// What was tried.
        action: &'static str,
        /// For which bridge.
        bridge: String,
        /// The reason.
        #[source]
        source: io::Error,
    },
    /// Every private subnet is in use.
    #[error("no private subnet is free for bridge `{bridge}`: routes of this host use all candidates")]
    NoSubnet {
        /// The bridge.
        bridge: String,
    },
    /// Every address is in use.
    #[error("no address is free in `{subnet}` of network {network}")]
    NoAddress {
        /// The network.
        network: String,
        /// Where one was looked for.
        subnet: IpNet,
    },
    /// Somebody else has the address.
    #[error("the address {address} of network {network} is in use{}", by_whom(owner))]
    AddressTaken {
        /// The address.
        address: std::net::IpAddr,
        /// The network.
        network: String,
        /// The container that has it by its name or id, or nothing.
        owner: String,
    },
    /// No network has this name, id or id prefix.
    #[error("no such network: {text}")]
    NotFound {
        /// What was asked for.
        text: String,
    },
    /// Several ids begin with this.
    #[error("`{text}` is the beginning of several network ids")]
    Ambiguous {
        /// What was asked for.
        text: String,
    },
    /// Another network has the name.
    #[error("a network with the name {name} exists already")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// An address or a range is none of the subnet's.
    #[error("{what} is not in the subnet {subnet}{}", of_whom(network))]
    Outside {
        /// What was asked for, in words.
        what: String,
        /// Where it should be.
        subnet: IpNet,
        /// Whose subnet it is; nothing while the network is made.
        network: String,
    },
    /// Another network has addresses of the subnet.
    #[error("subnet {subnet} overlaps network {other} ({theirs})")]
    Overlaps {
        /// What was asked for.
        subnet: IpNet,
        /// The other network.
        other: String,
        /// Its subnet.
        theirs: IpNet,
    },
    /// The host has another way to addresses of the subnet.
    #[error("subnet {subnet} overlaps the host's route {route} through `{link}`")]
    Route {
        /// What was asked for.
        subnet: IpNet,
        /// The route's destination.
        route: IpNet,
        /// The link that it goes through.
        link: String,
    },
    /// Containers are connected to it.
    #[error("network {name} is in use by {}", users.join(", "))]
    InUse {
        /// The network.
        name: String,
        /// Who uses it.
        users: Vec<String>,
    },
    /// The wish can't be carried out.
    #[error("{message}")]
    Invalid {
        /// Which and why.
        message: String,
        /// A thing to do.
        hint: String,
    },
}

/// The result of a network's verb.
pub type Result<T> = std::result::Result<T, Error>;

fn by_whom(owner: &str) -> String {
    match owner {
        "" => String::new(),
        id if id.len() == 64 => format!(" by {}", &id[..12]),
        name => format!(" by {name}"),
    }
}

fn of_whom(network: &str) -> String {
    if network.is_empty() { String::new() } else { format!(" of network {network}") }
}

/// Says that a wish can't be carried out, and what can be done.
pub(super) fn invalid<T>(message: impl Into<String>, hint: impl Into<String>) -> Result<T> {
    Err(Error::Invalid { message: message.into(), hint: hint.into() })
}

/// Says which file operation failed.
pub(super) fn file(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
    let path = path.into();
    move |source| Error::File { action, path, source }
}
