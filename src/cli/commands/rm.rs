//! `kiln rm`

use super::pairs::is_not_found;
use crate::cli::error::Error;
use crate::cli::flags;
use crate::cli::session::{Invocation, print_line};

/// `kiln rm`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Rm {
    /// Kill a running container first; one that doesn't exist is no failure
    #[arg(long, short)]
    force: bool,
    /// Remove the container's anonymous volumes too
    #[arg(long, short)]
    volumes: bool,
    /// Remove links instead of containers: CONTAINER/ALIAS
    #[arg(long, short)]
    link: bool,
    /// The containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

/// Removes containers and prints their names.
pub(crate) fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Rm = flags::parse(invocation)?;
    let engine = invocation.session.root_engine()?;
    if flags.link {
        return invocation.session.all_at_once_then(
            &flags.containers,
            |name| engine.rm_link(name).map_err(Error::from),
            |name, removed| removed.and_then(|()| print_line(name)),
        );
    }
    let remove = |name: &str| engine.rm(name, flags.force, flags.volumes).map_err(Error::from);
    invocation.session.all_at_once_then(&flags.containers, remove, |name, removed| match removed {
        // As docker since 20.10: the wanted state is there already.
        Err(error) if flags.force && is_not_found(&error) => {
            crate::cli::tell(&format!("no such container: `{name}`\n"));
            Ok(())
        }
        Err(error) => Err(error),
        Ok(()) => print_line(name),
    })
}
