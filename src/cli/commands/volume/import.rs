//! `kiln volume import`

use crate::cli::commands::import::open;
use crate::cli::error::Error;
use crate::cli::session::Invocation;
use crate::cli::table_of_commands::{Entry, command};
use crate::cli::{exit, flags};

/// Its place in the table.
pub(crate) const ENTRY: Entry = command!(
    Grouped,
    "volume import",
    "Fill a volume with the files of a tar archive",
    "[OPTIONS] VOLUME [FILE|-]",
    Import,
    run
);

/// `kiln volume import`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Import {
    /// Replace the files that the volume has
    #[arg(long, short)]
    force: bool,
    /// The volume, made when it is missing
    #[arg(value_name = "VOLUME")]
    volume: String,
    /// The archive, or `-` for standard input
    #[arg(value_name = "FILE", default_value = "-", hide_default_value = true)]
    file: String,
}

/// Fills a volume; prints nothing.
fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Import = flags::parse(invocation)?;
    let mut input = open(&flags.file)?;
    invocation.session.root_engine()?.import_volume(&flags.volume, &mut *input, flags.force)?;
    Ok(exit::SUCCESS)
}
