//! `kiln volume rm`

use crate::cli::error::Error;
use crate::cli::flags;
use crate::cli::session::{Invocation, print_line};
use crate::cli::table_of_commands::{Entry, command};

/// Its place in the table.
pub(crate) const ENTRY: Entry = command!(
    Grouped,
    "volume rm",
    "Remove one or more volumes that no container has",
    "[OPTIONS] VOLUME [VOLUME...]",
    Remove,
    run
);

/// `kiln volume rm`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Remove {
    /// Don't fail for a volume that doesn't exist
    #[arg(long, short)]
    force: bool,
    /// The volumes
    #[arg(value_name = "VOLUME", required = true)]
    volumes: Vec<String>,
}

/// Removes volumes, and prints their names.
fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Remove = flags::parse(invocation)?;
    let engine = invocation.session.root_engine()?;
    invocation.session.each(&flags.volumes, |name| {
        engine.remove_volume(name, flags.force)?;
        print_line(name)
    })
}
