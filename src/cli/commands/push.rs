//! `kiln push`

use super::pairs;
use super::pull::names_a_tag;
use crate::cli::error::Error;
use crate::cli::progress::Shown;
use crate::cli::session::{Invocation, print_line};
use crate::cli::{exit, flags, tell};

/// `kiln push`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Push {
    /// Show nothing but the image's name
    #[arg(long, short)]
    quiet: bool,
    /// The image
    #[arg(value_name = "NAME", required = true)]
    name: String,
}

/// Uploads an image and prints what docker prints last.
pub(crate) fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Push = flags::parse(invocation)?;
    let reference = pairs::new_name(&flags.name)?;
    let engine = invocation.session.engine()?;
    if !flags.quiet && !names_a_tag(&flags.name) {
        tell("Using default tag: latest\n");
    }
    let shown = Shown::transfers(flags.quiet);
    let result = engine.push(&reference, &shown.events);
    shown.finish();
    let pushed = result?;
    if flags.quiet {
        print_line(&reference.to_string())?;
    } else {
        let tag = reference.tag.as_deref().unwrap_or("latest");
        print_line(&format!("{tag}: digest: {} size: {}", pushed.digest, pushed.size))?;
    }
    Ok(exit::SUCCESS)
}
