//! `kiln volume clone` and `kiln volume snapshot`

use crate::api::VolumeCopyRequest;
use crate::cli::commands::pairs;
use crate::cli::error::Error;
use crate::cli::session::{Invocation, print_line};
use crate::cli::table_of_commands::{Entry, command};
use crate::cli::{exit, flags};

/// The place of `clone` in the table.
pub(crate) const CLONE: Entry = command!(
    Grouped,
    "volume clone",
    "Copy a volume to a new one",
    "[OPTIONS] VOLUME NEW_VOLUME",
    Clone,
    clone
);

/// The place of `snapshot` in the table.
pub(crate) const SNAPSHOT: Entry = command!(
    Grouped,
    "volume snapshot",
    "Keep a volume's files as they are now, in a new volume that can't be written to",
    "[OPTIONS] VOLUME [NEW_VOLUME]",
    Snapshot,
    snapshot
);

/// `kiln volume clone`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Clone {
    /// Set a label of the copy (KEY=VALUE)
    #[arg(long, value_name = "LABEL")]
    label: Vec<String>,
    /// The volume
    #[arg(value_name = "VOLUME")]
    volume: String,
    /// Its copy
    #[arg(value_name = "NEW_VOLUME")]
    copy: String,
}

/// `kiln volume snapshot`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Snapshot {
    /// Set a label of the snapshot (KEY=VALUE)
    #[arg(long, value_name = "LABEL")]
    label: Vec<String>,
    /// The volume
    #[arg(value_name = "VOLUME")]
    volume: String,
    /// Its snapshot; without a name it is called after the volume and the time
    #[arg(value_name = "NEW_VOLUME")]
    copy: Option<String>,
}

/// Copies a volume, and prints the copy's name.
fn clone(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Clone = flags::parse(invocation)?;
    copy(invocation, flags.volume, Some(flags.copy), &flags.label, false)
}

/// Takes a snapshot, and prints its name.
fn snapshot(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Snapshot = flags::parse(invocation)?;
    copy(invocation, flags.volume, flags.copy, &flags.label, true)
}

fn copy(
    invocation: &Invocation<'_>,
    from: String,
    to: Option<String>,
    labels: &[String],
    readonly: bool,
) -> Result<i32, Error> {
    let labels = labels.iter().map(|text| pairs::label(text)).collect::<Result<_, _>>()?;
    let request = VolumeCopyRequest { from, to, labels, readonly };
    print_line(&invocation.session.root_engine()?.copy_volume(&request)?)?;
    Ok(exit::SUCCESS)
}
