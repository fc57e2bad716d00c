//! `kiln cp`

use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::import;
use crate::api::{Copied, CopyOptions};
use crate::cli::error::Error;
use crate::cli::session::Invocation;
use crate::cli::table_of_commands::{Entry, command};
use crate::cli::{exit, flags, tell, terminal, units};

/// Its place in the table.
pub(crate) const ENTRY: Entry = command!(
    Other,
    "cp",
    "Copy files/folders between a container and the local filesystem",
    "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|- | SRC_PATH|- CONTAINER:DEST_PATH",
    Cp,
    run
);

/// `kiln cp`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Cp {
    /// Keep owners; out of a container also set-id bits, capabilities and devices
    #[arg(long, short)]
    archive: bool,
    /// Follow a symbolic link in SRC_PATH
    #[arg(long, short = 'L')]
    follow_link: bool,
    /// Say nothing on success; the default where standard output is no terminal
    #[arg(long, short)]
    quiet: bool,
    /// What is copied: a path, CONTAINER:PATH, or `-` for a tar on standard input
    #[arg(value_name = "SOURCE", required = true)]
    source: String,
    /// Where to: a path, CONTAINER:PATH, or `-` for a tar on standard output
    #[arg(value_name = "TARGET", required = true)]
    target: String,
}

/// Copies into a container or out of it.
fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: Cp = flags::parse(invocation)?;
    let options = CopyOptions { archive: flags.archive, follow: flags.follow_link };
    let engine = || invocation.session.root_engine();
    for text in [&flags.source, &flags.target] {
        if place(text).is_some_and(|(_, path)| path.is_empty()) {
            return Err(Error::usage(format!("the path in `{text}` is empty"))
                .hint(format!("write `{text}/` for the container's whole root")));
        }
    }
    let copied = match (place(&flags.source), place(&flags.target)) {
        (Some(_), Some(_)) => return Err(Error::usage("copying between containers is not supported")),
        (None, None) => {
            return Err(Error::usage("must specify at least one container source")
                .hint("name a path in a container as CONTAINER:PATH"));
        }
        (Some(source), None) if flags.target == "-" => {
            terminal::refuse_archive("redirect it")?;
            let mut out = BufWriter::new(io::stdout().lock());
            engine()?.tar_out(source, options, &mut out)?;
            out.flush()?;
            return Ok(exit::SUCCESS);
        }
        (Some(source), None) => engine()?.copy_out(source, &flags.target, options)?,
        (None, Some(target)) if flags.source == "-" => {
            engine()?.tar_in(&mut *import::open("-")?, target)?;
            return Ok(exit::SUCCESS);
        }
        (None, Some(target)) => engine()?.copy_in(&flags.source, target, options)?,
    };
    let Copied { bytes, left_out } = copied;
    if !left_out.is_empty() {
        tell(&format!("not copied: {} (use -a to copy devices)\n", left_out.join(", ")));
    }
    if !flags.quiet && terminal::is_terminal(io::stdout()) {
        tell(&format!("Successfully copied {} to {}\n", units::size(bytes, 3), flags.target));
    }
    Ok(exit::SUCCESS)
}

/// Splits `CONTAINER:PATH`; as with docker, what begins with `/` or `.` is a path of the machine.
fn place(text: &str) -> Option<(&str, &str)> {
    if Path::new(text).is_absolute() {
        return None;
    }
    text.split_once(':').filter(|(container, _)| !container.is_empty() && !container.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::place;

    #[test]
    fn a_colon_names_a_container_unless_the_text_is_a_path() {
        assert_eq!(place("c1:/x"), Some(("c1", "/x")));
        assert_eq!(place("c1:a:b"), Some(("c1", "a:b")));
        for text in ["/a:b", "./a:b", "../a:b", "a", ":x", "-"] {
            assert_eq!(place(text), None, "{text}");
        }
    }
}
