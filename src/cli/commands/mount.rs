//! `kiln mount`

use crate::cli::error::Error;
use crate::cli::session::{Invocation, print_line};
use crate::cli::table_of_commands::{Entry, command};
use crate::cli::{exit, flags};

/// Its place in the table.
pub(crate) const ENTRY: Entry = command!(
    Other,
    "mount",
    "Mount the filesystem of a container or an image and print the path; list what is mounted",
    "[CONTAINER|IMAGE...]",
    Mount,
    run
);

/// `kiln mount`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Mount {
    /// Containers and images; without any, what is mounted is listed
    #[arg(value_name = "CONTAINER|IMAGE")]
    names: Vec<String>,
}

/// Mounts what is named and prints where; an image is mounted read-only, a container without its volumes.
fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Mount = flags::parse(invocation)?;
    let engine = invocation.session.root_engine()?;
    if flags.names.is_empty() {
        for (id, path) in engine.mounted()? {
            print_line(&format!("{} {}", id.get(..12).unwrap_or(&id), path.display()))?;
        }
        return Ok(exit::SUCCESS);
    }
    let only_images = invocation.name.starts_with("image ");
    invocation.session.each(&flags.names, |name| {
        let path = engine.mount(name, only_images)?;
        print_line(&path.display().to_string())
    })
}
