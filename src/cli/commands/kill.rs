//! `kiln kill`

use crate::cli::error::Error;
use crate::cli::flags;
use crate::cli::session::Invocation;

/// `kiln kill`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Kill {
    /// Signal to send, by name or number
    #[arg(long, short, value_name = "SIGNAL", default_value = "KILL")]
    signal: String,
    /// The containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

/// Sends containers a signal and prints their names.
pub(crate) fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Kill = flags::parse(invocation)?;
    let engine = invocation.session.root_engine()?;
    invocation.session.all_at_once(&flags.containers, |name| {
        engine.kill(name, &flags.signal)?;
        Ok(name.to_owned())
    })
}
