//! `kiln rmi`

use super::pairs::is_not_found;
use crate::api::Removed;
use crate::cli::error::Error;
use crate::cli::flags;
use crate::cli::session::{Invocation, print};

/// `kiln rmi`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Rmi {
    /// Remove an image even when it has several names or a stopped container uses it; one that doesn't exist is no failure
    #[arg(long, short)]
    force: bool,
    /// The images
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

/// Takes names away, and images that have none left.
pub(crate) fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Rmi = flags::parse(invocation)?;
    let engine = invocation.session.engine()?;
    invocation.session.each(&flags.images, |name| {
        match engine.rmi(name, flags.force).map_err(Error::from) {
            // As docker: the wanted state is there already.
            Err(error) if flags.force && is_not_found(&error) => {
                crate::cli::tell(&format!("no such image: `{name}`\n"));
                Ok(())
            }
            removed => print(&lines(&removed?)),
        }
    })
}

/// Docker's words, a line each.
pub(super) fn lines(removed: &[Removed]) -> String {
    let line = |removed: &Removed| match removed {
        Removed::Untagged(name) => format!("Untagged: {name}\n"),
        Removed::Deleted(id) => format!("Deleted: {id}\n"),
    };
    removed.iter().map(line).collect()
}
