//! `kiln pause`

use crate::cli::error::Error;
use crate::cli::flags;
use crate::cli::session::Invocation;
use crate::cli::table_of_commands::{Entry, command};

/// Its place in the table.
pub(crate) const ENTRY: Entry = command!(
    Other,
    "pause",
    "Pause all processes within one or more containers",
    "CONTAINER [CONTAINER...]",
    Pause,
    run
);

/// `kiln pause`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Pause {
    /// The containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

/// Freezes containers and prints their names.
fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Pause = flags::parse(invocation)?;
    let engine = invocation.session.root_engine()?;
    invocation.session.all_at_once(&flags.containers, |name| {
        engine.pause(name)?;
        Ok(name.to_owned())
    })
}
