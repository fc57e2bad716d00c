//! `kiln volume prune`

use crate::api::VolumePruneRequest;
use crate::cli::commands::prune::{confirmed, read_filter};
use crate::cli::error::Error;
use crate::cli::session::{Invocation, print};
use crate::cli::table_of_commands::{Entry, command};
use crate::cli::{exit, flags, time, units};

/// Its place in the table.
pub(crate) const ENTRY: Entry =
    command!(Grouped, "volume prune", "Remove volumes that no container has", "[OPTIONS]", Prune, run);

/// `kiln volume prune`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Prune {
    /// Remove also volumes with a name
    #[arg(long, short)]
    all: bool,
    /// Remove only what fits: label=, label!=, until=
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
    /// Don't ask
    #[arg(long, short)]
    force: bool,
}

/// Removes what nobody uses, and tells what that was.
fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Prune = flags::parse(invocation)?;
    // Docker takes `--all` as a filter, too.
    let (every, filters): (Vec<_>, Vec<_>) =
        flags.filter.iter().cloned().partition(|text| matches!(text.as_str(), "all" | "all=1" | "all=true"));
    let all = flags.all || !every.is_empty();
    let request = VolumePruneRequest { all, filter: read_filter(&filters, time::now())? };
    let what = if all { "all volumes" } else { "all anonymous volumes" };
    if !flags.force && !confirmed(&format!("  - {what} that no container has\n"))? {
        return Ok(exit::SUCCESS);
    }
    let report = invocation.session.root_engine()?.prune_volumes(&request)?;
    let freed = units::size(report.bytes, 4);
    print(&format!("{}Total reclaimed space: {freed}\n", deleted(&report.volumes)))?;
    Ok(exit::SUCCESS)
}

/// The part of a report that names the volumes.
pub(crate) fn deleted(volumes: &[String]) -> String {
    match volumes.is_empty() {
        true => String::new(),
        false => format!("Deleted Volumes:\n{}\n\n", volumes.join("\n")),
    }
}
