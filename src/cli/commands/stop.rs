//! `kiln stop`

use crate::cli::error::Error;
use crate::cli::flags;
use crate::cli::session::Invocation;

/// `kiln stop`, and what `kiln restart` begins with.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Stop {
    /// Signal to send first
    #[arg(long, short, value_name = "SIGNAL")]
    pub(super) signal: Option<String>,
    /// Seconds to wait before killing it (default 10, or the container's own; -1: for ever)
    #[arg(long, short, visible_alias = "time", value_name = "SECONDS", allow_negative_numbers = true)]
    pub(super) timeout: Option<i64>,
    /// The containers
    #[arg(value_name = "CONTAINER", required = true)]
    pub(super) containers: Vec<String>,
}

/// Stops containers and prints their names.
pub(crate) fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Stop = flags::parse(invocation)?;
    let engine = invocation.session.root_engine()?;
    invocation.session.all_at_once(&flags.containers, |name| {
        engine.stop(name, flags.timeout, flags.signal.as_deref())?;
        Ok(name.to_owned())
    })
}
