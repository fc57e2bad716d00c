//! Flags of `kiln create` and `run`: the network.

use crate::api::{CreateRequest, NetworkMode};
use crate::cli::commands::pairs;
use crate::cli::error::Error;

/// Flags of docker that are still to come.
#[rustfmt::skip]
pub(super) const NOT_YET: &[&str] = &[
    "--ip",
    "--ip6",
    "--link-local-ip",
    "--mac-address",
    "--net-alias", "--network-alias",
];

/// The network.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Network {
    /// Network: bridge, none, host or container:NAME
    #[arg(
        long,
        visible_alias = "net",
        value_name = "MODE",
        default_value = "bridge",
        hide_default_value = true
    )]
    pub(super) network: String,
}

impl Network {
    /// Puts it into the request.
    pub(super) fn fill(&self, request: &mut CreateRequest) -> Result<(), Error> {
        request.network = network(&self.network)?;
        let is_shared = self.network.starts_with("container:");
        request.isolation.network = is_shared.then(|| self.network.clone());
        Ok(())
    }
}

fn network(text: &str) -> Result<NetworkMode, Error> {
    // Whose network it is says another field.
    if text.starts_with("container:") {
        return Ok(NetworkMode::None);
    }
    pairs::network(text)
}
