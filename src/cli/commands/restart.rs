//! `kiln restart`

use super::stop::Stop;
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
    #[command(flatten)]
    stop: Stop,
}

/// Restarts containers and prints their names.
pub(crate) fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags = flags::parse::<Restart>(invocation)?.stop;
    let engine = invocation.session.root_engine()?;
    invocation.session.all_at_once(&flags.containers, |name| {
        engine.restart(name, flags.timeout, flags.signal.as_deref())?;
        Ok(name.to_owned())
    })
}
