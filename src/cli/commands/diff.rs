//! `kiln diff`

use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;

use crate::cli::error::Error;
use crate::cli::session::Invocation;
use crate::cli::table_of_commands::{Entry, command};
use crate::cli::{exit, flags};

/// Its place in the table.
pub(crate) const ENTRY: Entry = command!(
    Other,
    "diff",
    "Inspect changes to files or directories on a container's filesystem",
    "CONTAINER",
    Diff,
    run
);

/// `kiln diff`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Diff {
    /// The container
    #[arg(value_name = "CONTAINER", required = true)]
    container: String,
}

/// Prints a line for each changed path: A is added, C changed, D deleted.
fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Diff = flags::parse(invocation)?;
    let mut text = Vec::new();
    for change in invocation.session.root_engine()?.diff(&flags.container)? {
        text.extend_from_slice(&[change.kind.letter() as u8, b' ']);
        text.extend_from_slice(change.path.as_os_str().as_bytes());
        text.push(b'\n');
    }
    let mut out = io::stdout().lock();
    out.write_all(&text)?;
    out.flush()?;
    Ok(exit::SUCCESS)
}
