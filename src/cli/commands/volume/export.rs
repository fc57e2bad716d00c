//! `kiln volume export`

use std::path::PathBuf;

use crate::cli::error::Error;
use crate::cli::session::Invocation;
use crate::cli::table_of_commands::{Entry, command};
use crate::cli::{exit, flags, terminal};

/// Its place in the table.
pub(crate) const ENTRY: Entry = command!(
    Grouped,
    "volume export",
    "Export a volume's files as a tar archive",
    "[OPTIONS] VOLUME",
    Export,
    run
);

/// `kiln volume export`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Export {
    /// Write to a file instead of standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The volume
    #[arg(value_name = "VOLUME")]
    volume: String,
}

/// Writes the files of a volume as a tar, as they are at one moment.
fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Export = flags::parse(invocation)?;
    if flags.output.is_none() {
        terminal::refuse_archive("use `-o FILE`, or redirect")?;
    }
    invocation.session.root_engine()?.export_volume(&flags.volume, flags.output.as_deref())?;
    Ok(exit::SUCCESS)
}
