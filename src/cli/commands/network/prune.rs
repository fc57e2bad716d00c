//! `kiln network rm` and `kiln network prune`

use crate::cli::commands::pairs::is_not_found;
use crate::cli::commands::prune::{confirmed, read_filter};
use crate::cli::error::Error;
use crate::cli::session::{Invocation, print, print_line};
use crate::cli::table_of_commands::{Entry, command};
use crate::cli::{exit, flags, time};

/// Its place in the table.
pub(crate) const REMOVE: Entry = command!(
    Grouped,
    "network rm",
    "Remove one or more networks",
    "[OPTIONS] NETWORK [NETWORK...]",
    Remove,
    remove
);
/// Its place in the table.
pub(crate) const PRUNE: Entry = command!(
    Grouped,
    "network prune",
    "Remove all networks that no container uses",
    "[OPTIONS]",
    Prune,
    prune
);

/// `kiln network rm`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Remove {
    /// A network that doesn't exist is no failure
    #[arg(long, short)]
    force: bool,
    /// The networks
    #[arg(value_name = "NETWORK", required = true)]
    networks: Vec<String>,
}

/// `kiln network prune`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Prune {
    /// Remove only what fits: until=, label=, label!=
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Don't ask
    #[arg(long, short)]
    force: bool,
}

fn remove(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Remove = flags::parse(invocation)?;
    let engine = invocation.session.root_engine()?;
    invocation.session.each(&flags.networks, |name| match engine.network_rm(name).map_err(Error::from) {
        Err(error) if flags.force && is_not_found(&error) => Ok(()),
        Err(error) => Err(error),
        Ok(()) => print_line(name),
    })
}

fn prune(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Prune = flags::parse(invocation)?;
    let wanted = read_filter(&flags.filter, time::now())?;
    if !flags.force && !confirmed("  - all networks that no container uses\n")? {
        return Ok(exit::SUCCESS);
    }
    let engine = invocation.session.root_engine()?;
    let removed = engine.network_prune(&|network| wanted.takes(network.created, &network.labels))?;
    if !removed.is_empty() {
        print(&format!("Deleted Networks:\n{}\n", removed.join("\n")))?;
    }
    Ok(exit::SUCCESS)
}
