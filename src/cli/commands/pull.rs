//! `kiln pull`

use super::pairs;
use crate::cli::error::Error;
use crate::cli::progress::Shown;
use crate::cli::session::{Invocation, print_line};
use crate::cli::{exit, flags, tell};
use crate::oci::Platform;

/// `kiln pull`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Pull {
    /// Platform of the image (OS/ARCH)
    #[arg(long)]
    platform: Option<String>,
    /// Show nothing but the image's name
    #[arg(long, short)]
    quiet: bool,
    /// The image
    #[arg(value_name = "NAME", required = true)]
    name: String,
}

/// Downloads an image and prints its full name.
pub(crate) fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Pull = flags::parse(invocation)?;
    let reference = pairs::reference(&flags.name)?;
    let platform = match flags.platform.as_deref() {
        None => Platform::host(),
        Some(text) => {
            text.parse().map_err(|error| Error::usage(format!("invalid platform `{text}`: {error}")))?
        }
    };
    let engine = invocation.session.root_engine()?;
    if !flags.quiet && !names_a_tag(&flags.name) {
        tell("Using default tag: latest\n");
    }
    let shown = Shown::transfers(flags.quiet);
    let result = engine.pull(&reference, &platform, &shown.events);
    shown.finish();
    result?;
    print_line(&reference.to_string())?;
    Ok(exit::SUCCESS)
}

/// Tells whether `name` was written with a tag or a digest.
pub(super) fn names_a_tag(name: &str) -> bool {
    name.contains('@') || name.rsplit_once(':').is_some_and(|(_, tag)| !tag.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::names_a_tag;

    #[test]
    fn a_port_is_no_tag() {
        assert!(names_a_tag("debian:bookworm") && names_a_tag("a@sha256:1") && names_a_tag("h:5000/a:1"));
        assert!(!names_a_tag("debian") && !names_a_tag("localhost:5000/a"));
    }
}
