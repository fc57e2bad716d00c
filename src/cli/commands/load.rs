//! `kiln load`

use super::import;
use crate::cli::error::Error;
use crate::cli::session::{Invocation, print};
use crate::cli::{exit, flags};

/// `kiln load`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Load {
    /// Read from a file instead of standard input
    #[arg(long, short, value_name = "FILE")]
    input: Option<String>,
    /// Show nothing but the images' names
    #[arg(long, short)]
    quiet: bool,
}

/// Stores the images of a docker archive or an OCI layout.
pub(crate) fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Load = flags::parse(invocation)?;
    let mut input = import::open(flags.input.as_deref().unwrap_or("-"))?;
    let loaded = invocation.session.root_engine()?.load(&mut *input)?;
    let line = |name: &String| match name.starts_with("sha256:") {
        true => format!("Loaded image ID: {name}\n"),
        false => format!("Loaded image: {name}\n"),
    };
    print(&loaded.iter().map(line).collect::<String>())?;
    Ok(exit::SUCCESS)
}
