//! `kiln unmount`

use crate::cli::error::Error;
use crate::cli::flags;
use crate::cli::session::{Invocation, print_line};
use crate::cli::table_of_commands::{Entry, command};

/// Its place in the table.
pub(crate) const ENTRY: Entry = command!(
    Other,
    "unmount",
    "Unmount the filesystems of containers and images",
    "[OPTIONS] [CONTAINER|IMAGE...]",
    Unmount,
    run
);

/// `kiln unmount`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Unmount {
    /// Unmount all that `kiln mount` lists
    #[arg(long, short)]
    all: bool,
    /// Unmount also what somebody still uses
    #[arg(long, short)]
    force: bool,
    /// Containers and images
    #[arg(value_name = "CONTAINER|IMAGE", required_unless_present = "all", conflicts_with = "all")]
    names: Vec<String>,
}

/// Takes mounts away, and prints a line for each.
fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Unmount = flags::parse(invocation)?;
    let engine = invocation.session.root_engine()?;
    let names = match flags.all {
        true => engine.mounted()?.into_iter().map(|(id, _)| id).collect(),
        false => flags.names,
    };
    let only_images = invocation.name.starts_with("image ");
    invocation.session.each(&names, |name| {
        engine.unmount(name, only_images, flags.force)?;
        print_line(name)
    })
}
