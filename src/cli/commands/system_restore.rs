//! `kiln system restore`

use crate::cli::error::Error;
use crate::cli::failure;
use crate::cli::session::{Invocation, print_line};
use crate::cli::table_of_commands::{Entry, command};
use crate::cli::{exit, flags, tell};

/// Its place in the table.
pub(crate) const ENTRY: Entry = command!(
    Grouped,
    "system restore",
    "Start the containers that should run, as after a reboot",
    "[--unit]",
    Restore,
    run
);

/// `kiln system restore`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Restore {
    /// Start nothing: print a systemd unit that does it at each boot
    #[arg(long)]
    unit: bool,
}

/// Put it into `/etc/systemd/system`, and enable it.
const UNIT: &str = include_str!("kiln-restore.service");

/// Starts what should run by its restart policy, and prints the names.
pub(crate) fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let Restore { unit } = flags::parse(invocation)?;
    if unit {
        let kiln = std::env::current_exe().unwrap_or_else(|_| "/usr/local/bin/kiln".into());
        return print_line(UNIT.replace("KILN", &kiln.to_string_lossy()).trim_end()).map(|()| exit::SUCCESS);
    }
    let session = invocation.session;
    let mut code = exit::SUCCESS;
    for (name, failed) in session.root_engine()?.restore()? {
        match failed {
            None => print_line(&name)?,
            Some(failed) => {
                tell(&failure::render(&failed, session.style));
                code = exit::FAILURE;
            }
        }
    }
    Ok(code)
}
