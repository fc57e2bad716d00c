//! `kiln run`

use super::create;
use crate::cli::error::Error;
use crate::cli::progress::Shown;
use crate::cli::session::{Invocation, print_line};
use crate::cli::stdio;
use crate::cli::{exit, flags};

/// `kiln run`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Run {
    /// Run in the background and print the container's id
    #[arg(long, short)]
    detach: bool,
    #[command(flatten)]
    options: create::Options,
    /// The image, and the program with its arguments
    #[arg(value_name = "IMAGE", trailing_var_arg = true)]
    rest: Vec<String>,
}

/// Makes a container, runs its program, and returns the program's exit code.
pub(crate) fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Run = flags::parse(invocation)?;
    let session = invocation.session;
    let options = &flags.options;
    let request = create::request(options, &flags.rest, &session.environment, &invocation.name)?;
    create::refuse_known_id(options.cidfile())?;
    let attached = stdio::attach(request.tty, request.interactive, !flags.detach)?;
    let engine = session.root_engine()?;
    let shown = Shown::transfers(options.quiet());
    let raw = attached.raw_mode()?;
    let result = engine.run(&request, attached.stdio, flags.detach, &shown.events);
    drop(raw);
    shown.finish();
    let outcome = result?;
    create::write_id(options.cidfile(), &outcome.id)?;
    if flags.detach {
        print_line(&outcome.id)?;
    }
    Ok(outcome.exit_code.unwrap_or(exit::SUCCESS))
}
