//! `kiln update`

use super::create::{Changeable, restart_policy};
use crate::api::UpdateRequest;
use crate::cli::error::Error;
use crate::cli::session::Invocation;
use crate::cli::table_of_commands::{Entry, command};
use crate::cli::{exit, flags};

/// Its place in the table.
pub(crate) const ENTRY: Entry = command!(
    Other,
    "update",
    "Update configuration of one or more containers",
    "[OPTIONS] CONTAINER [CONTAINER...]",
    Update,
    run,
    not_yet: &["--kernel-memory"],
    code: exit::FAILURE
);

/// `kiln update`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Update {
    #[command(flatten)]
    limits: Changeable,
    /// When to start it again: no, on-failure[:n], always or unless-stopped
    #[arg(long, value_name = "POLICY")]
    restart: Option<String>,
    /// The containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

/// Changes containers and prints their names.
fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Update = flags::parse(invocation)?;
    let restart = flags.restart.as_deref().map(restart_policy).transpose()?;
    let request = UpdateRequest { resources: flags.limits.resources()?, restart };
    if request == UpdateRequest::default() {
        return Err(Error::usage("there is nothing to change: give at least one flag")
            .hint("see `kiln update --help`"));
    }
    let engine = invocation.session.root_engine()?;
    invocation.session.all_at_once(&flags.containers, |name| {
        engine.update(name, &request)?;
        Ok(name.to_owned())
    })
}
