//! `kiln wait`

use crate::cli::error::Error;
use crate::cli::flags;
use crate::cli::session::Invocation;

/// `kiln wait`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Wait {
    /// The containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

/// Waits for containers to end and prints their exit codes.
pub(crate) fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Wait = flags::parse(invocation)?;
    let engine = invocation.session.engine()?;
    invocation.session.all_at_once(&flags.containers, |name| Ok(engine.wait(name)?.to_string()))
}
