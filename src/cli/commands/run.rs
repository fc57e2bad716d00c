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
    detaching: stdio::Detaching,
    #[command(flatten)]
    signals: stdio::SignalProxy,
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
    if flags.detach && !request.attach.is_empty() {
        return Err(Error::usage("`--attach` and `--detach` can't be used together"));
    }
    let mut id_file = options.cidfile().map(create::IdFile::make).transpose()?;
    let attached = stdio::attach(request.tty, request.interactive, !flags.detach)?
        .detaching(&flags.detaching)?
        .signals(&flags.signals)
        .only(&request.attach);
    let engine = session.root_engine()?;
    create::tell_of_firewalls(&request, engine);
    let shown = Shown::transfers(options.quiet());
    let raw = attached.raw_mode()?;
    // It says which container runs while that runs.
    let mut created = |id: &str| id_file.as_mut().map_or(Ok(()), |file| file.write(id));
    let result = engine.run(&request, attached.stdio.clone(), flags.detach, &shown.events, &mut created);
    drop(raw);
    shown.finish();
    let outcome = result?;
    if flags.detach {
        print_line(&outcome.id)?;
    }
    Ok(outcome.exit_code.unwrap_or(exit::SUCCESS))
}
