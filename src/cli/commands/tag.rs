//! `kiln tag`

use super::pairs;
use crate::cli::error::Error;
use crate::cli::session::Invocation;
use crate::cli::{exit, flags};

/// `kiln tag`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Tag {
    /// The image
    #[arg(value_name = "SOURCE_IMAGE", required = true)]
    source: String,
    /// Its new name
    #[arg(value_name = "TARGET_IMAGE", required = true)]
    target: String,
}

/// Gives an image one more name.
pub(crate) fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Tag = flags::parse(invocation)?;
    let target = pairs::new_name(&flags.target)?;
    invocation.session.engine()?.tag(&flags.source, &target)?;
    Ok(exit::SUCCESS)
}
