//! `kiln volume rename`

use crate::cli::error::Error;
use crate::cli::session::Invocation;
use crate::cli::table_of_commands::{Entry, command};
use crate::cli::{exit, flags};

/// Its place in the table.
pub(crate) const ENTRY: Entry = command!(
    Grouped,
    "volume rename",
    "Rename a volume that no container has",
    "VOLUME NEW_NAME",
    Rename,
    run
);

/// `kiln volume rename`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Rename {
    /// The volume
    #[arg(value_name = "VOLUME")]
    volume: String,
    /// Its new name
    #[arg(value_name = "NEW_NAME")]
    name: String,
}

/// Renames a volume; prints nothing.
fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Rename = flags::parse(invocation)?;
    invocation.session.root_engine()?.rename_volume(&flags.volume, &flags.name)?;
    Ok(exit::SUCCESS)
}
