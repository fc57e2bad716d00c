//! `kiln rename`

use crate::cli::error::Error;
use crate::cli::session::Invocation;
use crate::cli::table_of_commands::{Entry, command};
use crate::cli::{exit, flags};

/// Its place in the table.
pub(crate) const ENTRY: Entry =
    command!(Other, "rename", "Rename a container", "CONTAINER NEW_NAME", Rename, run);

/// `kiln rename`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Rename {
    /// The container
    #[arg(value_name = "CONTAINER")]
    container: String,
    /// Its new name
    #[arg(value_name = "NEW_NAME")]
    name: String,
}

/// Renames a container; prints nothing.
pub(crate) fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Rename = flags::parse(invocation)?;
    invocation.session.root_engine()?.rename(&flags.container, &flags.name)?;
    Ok(exit::SUCCESS)
}
