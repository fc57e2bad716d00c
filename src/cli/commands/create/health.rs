//! Flags of `kiln create` and `run`: health, restarts and the stop.

use crate::api::CreateRequest;
use crate::cli::error::Error;

/// Flags of docker that are still to come.
#[rustfmt::skip]
pub(super) const NOT_YET: &[&str] = &[
    "--health-cmd",
    "--health-interval",
    "--health-retries",
    "--health-start-interval",
    "--health-start-period",
    "--health-timeout",
    "--no-healthcheck",
    "--restart",
];

/// How a container goes on living, and ends.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Life {
    /// Remove the container when it exits
    #[arg(long)]
    rm: bool,
    /// Signal that stops the container
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// Seconds that `stop` waits before it kills (-1: for ever)
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    stop_timeout: Option<i64>,
}

impl Life {
    /// Puts it into the request.
    #[expect(clippy::unnecessary_wraps, reason = "the values of the flags to come can be wrong")]
    pub(super) fn fill(&self, request: &mut CreateRequest) -> Result<(), Error> {
        request.remove = self.rm;
        request.stop_signal.clone_from(&self.stop_signal);
        request.stop_timeout = self.stop_timeout;
        Ok(())
    }
}
