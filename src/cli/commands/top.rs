//! `kiln top`

use crate::cli::error::Error;
use crate::cli::session::{Invocation, print};
use crate::cli::table_of_commands::{Entry, command};
use crate::cli::{exit, flags, table};

/// Docker's widths.
const MIN_COLUMN: usize = 20;
const PADDING: usize = 3;

/// Its place in the table.
pub(crate) const ENTRY: Entry = command!(
    Other,
    "top",
    "Display the running processes of a container",
    "CONTAINER [ps OPTIONS]",
    Top,
    run
);

/// `kiln top`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Top {
    /// The container, and options of ps: -ef, aux, -o LIST
    #[arg(value_name = "CONTAINER", trailing_var_arg = true)]
    rest: Vec<String>,
}

/// Prints a line for each process.
fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Top = flags::parse(invocation)?;
    let [container, options @ ..] = flags.rest.as_slice() else {
        return Err(Error::usage("missing <CONTAINER>").hint("usage: kiln top CONTAINER [ps OPTIONS]"));
    };
    let shown = invocation.session.root_engine()?.top(container, options)?;
    let rows: Vec<Vec<String>> = std::iter::once(shown.titles).chain(shown.rows).collect();
    print(&table::padded(&rows, MIN_COLUMN, PADDING))?;
    Ok(exit::SUCCESS)
}
