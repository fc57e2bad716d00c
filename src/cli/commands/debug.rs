//! `kiln debug`

use std::io;

use super::pairs;
use crate::api::{ExecRequest, PullPolicy};
use crate::cli::error::Error;
use crate::cli::progress::Shown;
use crate::cli::session::Invocation;
use crate::cli::table_of_commands::{Entry, command};
use crate::cli::{exit, flags, stdio, terminal};

/// Its place in the table.
pub(crate) const ENTRY: Entry = command!(
    Other,
    "debug",
    "Get a shell with tools from another image inside a running container",
    "[OPTIONS] CONTAINER [COMMAND] [ARG...]",
    Debug,
    run,
    not_yet: &[],
    code: exit::OWN_FAILURE
);

/// `kiln debug`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Debug {
    /// Image that the tools come from; where both have a file, the container's is seen
    #[arg(long, value_name = "IMAGE", default_value = "busybox")]
    image: String,
    /// Set an environment variable (KEY=VALUE, or KEY to take the caller's)
    #[arg(long, short, value_name = "KEY=VALUE")]
    env: Vec<String>,
    /// Keep standard input open, as it always is; without -t the program gets no terminal
    #[arg(long, short)]
    interactive: bool,
    /// Give the program every privilege
    #[arg(long)]
    privileged: bool,
    /// Give the program a terminal; the default where standard input and output are one
    #[arg(long, short)]
    tty: bool,
    /// User and group (NAME|UID[:GROUP|GID])
    #[arg(long, short, value_name = "USER", default_value = "0")]
    user: String,
    /// Working directory of the program
    #[arg(long, short, value_name = "PATH")]
    workdir: Option<String>,
    /// The container, and the program with its arguments (a shell without one)
    #[arg(value_name = "CONTAINER", trailing_var_arg = true)]
    rest: Vec<String>,
}

/// Runs a shell, or a program, and returns its exit code. What it writes to the container's own files is gone
/// afterwards, except in volumes and below /proc/1/root, where those files really are.
fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Debug = flags::parse(invocation)?;
    let session = invocation.session;
    let [container, command @ ..] = flags.rest.as_slice() else {
        return Err(
            Error::usage("missing <CONTAINER>").hint("usage: kiln debug [OPTIONS] CONTAINER [COMMAND]")
        );
    };
    let mut env = Vec::new();
    for text in &flags.env {
        env.extend(pairs::variable(text, &session.environment)?.map(|(key, value)| format!("{key}={value}")));
    }
    let on_terminal = terminal::is_terminal(io::stdin()) && terminal::is_terminal(io::stdout());
    let request = ExecRequest {
        container: container.clone(),
        command: if command.is_empty() { vec!["sh".to_owned()] } else { command.to_vec() },
        env,
        workdir: flags.workdir,
        user: Some(flags.user),
        tty: flags.tty || (on_terminal && !flags.interactive),
        interactive: true,
        detach: false,
        privileged: flags.privileged,
    };
    let attached = stdio::attach(request.tty, true, true)?;
    let engine = session.root_engine()?;
    let shown = Shown::transfers(false);
    let raw = attached.raw_mode()?;
    let tools = (flags.image.as_str(), PullPolicy::Missing);
    let result = engine.debug(request, tools, attached.stdio.clone(), &shown.events);
    drop(raw);
    shown.finish();
    Ok(result?)
}
