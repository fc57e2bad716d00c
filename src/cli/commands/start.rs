//! `kiln start`

use crate::api::Stdio;
use crate::cli::error::Error;
use crate::cli::session::{Invocation, print_line};
use crate::cli::{exit, flags, stdio};

/// Flags of docker that are still to come.
pub(crate) const NOT_YET: &[&str] = &["--checkpoint", "--checkpoint-dir"];

/// `kiln start`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Start {
    /// Show the program's output, and return its exit code
    #[arg(long, short)]
    attach: bool,
    #[command(flatten)]
    detaching: stdio::Detaching,
    /// Forward standard input too
    #[arg(long, short)]
    interactive: bool,
    /// The containers
    #[arg(value_name = "CONTAINER", required = true)]
    containers: Vec<String>,
}

/// Starts containers and prints their names.
pub(crate) fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Start = flags::parse(invocation)?;
    let session = invocation.session;
    let engine = session.root_engine()?;
    if !flags.attach && !flags.interactive {
        return session.each(&flags.containers, |name| {
            engine.start(name, Stdio::default())?;
            print_line(name)
        });
    }
    let [container] = flags.containers.as_slice() else {
        return Err(Error::usage("only one container can be attached to"));
    };
    let streams = engine.streams_of(container)?;
    let interactive = flags.interactive && streams.interactive;
    let attached = stdio::attach(streams.tty, interactive, true)?.detaching(&flags.detaching)?;
    let _raw = attached.raw_mode()?;
    Ok(engine.start(container, attached.stdio.clone())?.unwrap_or(exit::SUCCESS))
}
