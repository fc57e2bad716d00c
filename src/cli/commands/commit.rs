//! `kiln commit`

use super::pairs;
use crate::api::CommitRequest;
use crate::cli::error::Error;
use crate::cli::session::{Invocation, print_line};
use crate::cli::table_of_commands::{Entry, command};
use crate::cli::{exit, flags};

/// Its place in the table.
pub(crate) const ENTRY: Entry = command!(
    Other,
    "commit",
    "Create a new image from a container's changes",
    "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
    Commit,
    run
);

/// `kiln commit`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Commit {
    /// Author of the image (`Ann Hacker <ann@example.org>`)
    #[arg(long, short, value_name = "TEXT")]
    author: Option<String>,
    /// Apply a Dockerfile instruction to the image's configuration, such as `CMD ["sh"]`
    #[arg(long, short, value_name = "INSTRUCTION")]
    change: Vec<String>,
    /// Set the comment of the image's history
    #[arg(long, short, value_name = "TEXT")]
    message: Option<String>,
    /// Let the container run on meanwhile (the default, unlike docker's)
    #[arg(long)]
    no_pause: bool,
    /// Pause the container meanwhile
    #[arg(long, short, overrides_with = "no_pause")]
    pause: bool,
    /// The container
    #[arg(value_name = "CONTAINER", required = true)]
    container: String,
    /// Name of the image
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

/// Makes an image of a container and prints its id.
fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Commit = flags::parse(invocation)?;
    let name = flags.name.as_deref().map(pairs::new_name).transpose()?;
    let request = CommitRequest {
        container: flags.container,
        author: flags.author,
        message: flags.message,
        changes: flags.change,
        pause: flags.pause,
    };
    let id = invocation.session.root_engine()?.commit(&request, name.as_ref())?;
    print_line(&id)?;
    Ok(exit::SUCCESS)
}
