//! `kiln export`

use std::path::PathBuf;

use crate::cli::error::Error;
use crate::cli::session::Invocation;
use crate::cli::table_of_commands::{Entry, command};
use crate::cli::{exit, flags, terminal};

/// Its place in the table.
pub(crate) const ENTRY: Entry = command!(
    Other,
    "export",
    "Export a container's filesystem as a tar archive",
    "[OPTIONS] CONTAINER",
    Export,
    run
);

/// `kiln export`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Export {
    /// Write to a file instead of standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The container
    #[arg(value_name = "CONTAINER", required = true)]
    container: String,
}

/// Writes the files of a container as a tar, its volumes left out.
fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Export = flags::parse(invocation)?;
    if flags.output.is_none() {
        terminal::refuse_archive("use `-o FILE`, or redirect")?;
    }
    invocation.session.root_engine()?.export(&flags.container, flags.output.as_deref())?;
    Ok(exit::SUCCESS)
}
