//! `kiln restart`

use crate::cli::error::Error;
use crate::cli::flags;
use crate::cli::session::Invocation;
use crate::cli::table_of_commands::{Entry, command};

/// Its place in the table.
pub(crate) const ENTRY: Entry = command!(
    Other,
    "restart",
    "Restart one or more containers",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    Restart,
    run
);

/// `kiln restart`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Restart {
    /// Signal to send first
    #[arg(long, short, value_name = "SIGNAL")]
    signal: Option<String>,
    /// Seconds to wait before killing it (default 10, or the container's own; -1: for ever)
    #[arg(long, short, visible_alias = "time", value_name = "SECONDS", allow_negative_numbers = true)]
    timeout: Option<i64>,
    /// The containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

/// Restarts containers and prints their names.
pub(crate) fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Restart = flags::parse(invocation)?;
    let engine = invocation.session.root_engine()?;
    invocation.session.all_at_once(&flags.containers, |name| {
        engine.restart(name, flags.timeout, flags.signal.as_deref())?;
        Ok(name.to_owned())
    })
}
