//! `kiln exec`

use std::path::PathBuf;

use super::{create, pairs};
use crate::api::ExecRequest;
use crate::cli::error::Error;
use crate::cli::session::Invocation;
use crate::cli::{exit, flags, stdio};

/// Flags of docker that are still to come.
pub(crate) const NOT_YET: &[&str] = &[];

/// `kiln exec`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Exec {
    /// Run in the background
    #[arg(long, short)]
    detach: bool,
    #[command(flatten)]
    detaching: stdio::Detaching,
    /// Set an environment variable (KEY=VALUE, or KEY to take the caller's)
    #[arg(long, short, value_name = "KEY=VALUE")]
    env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Keep standard input open
    #[arg(long, short)]
    interactive: bool,
    /// Give the program every privilege
    #[arg(long)]
    privileged: bool,
    /// Give the program a terminal
    #[arg(long, short)]
    tty: bool,
    /// User and group (NAME|UID[:GROUP|GID])
    #[arg(long, short, value_name = "USER")]
    user: Option<String>,
    /// Working directory of the program
    #[arg(long, short, value_name = "PATH")]
    workdir: Option<String>,
    /// The container, and the program with its arguments
    #[arg(value_name = "CONTAINER", trailing_var_arg = true)]
    rest: Vec<String>,
}

/// Runs a program in a container and returns its exit code.
pub(crate) fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Exec = flags::parse(invocation).map_err(|error| error.code(exit::OWN_FAILURE))?;
    let session = invocation.session;
    let [container, command @ ..] = flags.rest.as_slice() else { return Err(missing("<CONTAINER>")) };
    if command.is_empty() {
        return Err(missing("<COMMAND>"));
    }
    let mut env = Vec::new();
    for text in create::from_files(&flags.env_file, pairs::env_lines)?.iter().chain(&flags.env) {
        env.extend(pairs::variable(text, &session.environment)?.map(|(key, value)| format!("{key}={value}")));
    }
    let request = ExecRequest {
        container: container.clone(),
        command: command.to_vec(),
        env,
        workdir: flags.workdir,
        user: flags.user,
        tty: flags.tty,
        interactive: flags.interactive,
        detach: flags.detach,
        privileged: flags.privileged,
    };
    let attached =
        stdio::attach(request.tty, request.interactive, !flags.detach)?.detaching(&flags.detaching)?;
    let engine = session.root_engine()?;
    let _raw = attached.raw_mode()?;
    Ok(engine.exec(&request, attached.stdio.clone())?)
}

fn missing(what: &str) -> Error {
    Error::usage(format!("missing {what}")).hint("usage: kiln exec [OPTIONS] CONTAINER COMMAND [ARG...]")
}
