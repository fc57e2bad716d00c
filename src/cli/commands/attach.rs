//! `kiln attach`

use crate::api::ContainerState;
use crate::cli::error::Error;
use crate::cli::session::Invocation;
use crate::cli::table_of_commands::{Entry, command};
use crate::cli::{flags, stdio};

/// Its place in the table.
pub(crate) const ENTRY: Entry = command!(
    Other,
    "attach",
    "Attach standard input, output, and error streams to a running container",
    "[OPTIONS] CONTAINER",
    Attach,
    run
);

/// `kiln attach`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Attach {
    #[command(flatten)]
    detaching: stdio::Detaching,
    /// Don't forward standard input
    #[arg(long)]
    no_stdin: bool,
    #[command(flatten)]
    signals: stdio::SignalProxy,
    /// The container
    #[arg(value_name = "CONTAINER")]
    container: String,
}

/// Joins the streams of a container's program, and returns its exit code.
pub(crate) fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Attach = flags::parse(invocation)?;
    let engine = invocation.session.root_engine()?;
    let streams = engine.streams_of(&flags.container)?;
    let advice = match streams.state {
        ContainerState::Running => None,
        ContainerState::Paused => Some(("paused", "unpause it first")),
        ContainerState::Restarting => Some(("restarting", "wait until it is running")),
        _ => Some(("stopped", "start it first")),
    };
    if let Some((state, advice)) = advice {
        return Err(Error::usage(format!("you cannot attach to a {state} container, {advice}")));
    }
    let attached = stdio::attach(streams.tty, streams.interactive && !flags.no_stdin, true)?
        .detaching(&flags.detaching)?
        .signals(&flags.signals);
    let _raw = attached.raw_mode()?;
    Ok(engine.attach(&flags.container, attached.stdio.clone())?)
}
