//! `kiln fmt`

use std::io::Read;
use std::path::{Path, PathBuf};

use super::build_context;
use crate::api::{DockerfileSource, Formatted};
use crate::cli::error::Error;
use crate::cli::session::{Invocation, Session, print, print_line};
use crate::cli::{exit, flags};

/// `kiln fmt`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Fmt {
    /// Change nothing; print the names of files that would change, and give 1 if there are any
    #[arg(long)]
    pub(crate) check: bool,
    /// Write the result back to the files instead of printing it
    #[arg(long, short)]
    pub(crate) write: bool,
    /// Dockerfiles, directories, or `-` for standard input (default: this directory)
    #[arg(value_name = "FILE")]
    pub(crate) file: Vec<String>,
}

/// Brings Dockerfiles into their canonical form.
pub(crate) fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let fmt: Fmt = flags::parse(invocation)?;
    if fmt.check && fmt.write {
        return Err(Error::usage("`--check` and `--write` can't be used together"));
    }
    let here = [String::from(".")];
    let names = if fmt.file.is_empty() { &here[..] } else { &fmt.file };
    let mut differs = false;
    let code = invocation.session.each(names, |name| {
        let (path, formatted) = format(invocation.session, name)?;
        differs |= formatted.changed;
        done(invocation.session, &fmt, path.as_deref(), &formatted)
    })?;
    Ok(if fmt.check && differs { exit::FAILURE } else { code })
}

/// Prints or writes the result of one file.
fn done(session: &Session, fmt: &Fmt, path: Option<&Path>, formatted: &Formatted) -> Result<(), Error> {
    let shown = path.map_or_else(|| "-".to_owned(), |path| path.display().to_string());
    match (path, formatted.changed) {
        _ if fmt.check && formatted.changed => print_line(&shown),
        _ if fmt.check => Ok(()),
        (Some(path), true) if fmt.write => {
            session.engine()?.write_formatted(path, formatted)?;
            print_line(&shown)
        }
        (Some(_), false) if fmt.write => Ok(()),
        _ => print(&formatted.text),
    }
}

/// The file that `name` means, and its canonical form.
fn format(session: &Session, name: &str) -> Result<(Option<PathBuf>, Formatted), Error> {
    if name == "-" {
        let mut text = String::new();
        let limit = build_context::MAX_DOCKERFILE_BYTES + 1;
        std::io::stdin()
            .take(limit)
            .read_to_string(&mut text)
            .map_err(|error| Error::usage(format!("cannot read standard input: {error}")))?;
        return Ok((None, session.engine()?.format(&DockerfileSource::Text(text))?));
    }
    let mut path = PathBuf::from(name);
    if path.is_dir() {
        let names = ["Dockerfile", "dockerfile"].map(|file| path.join(file));
        let found = names.iter().find(|path| path.is_file());
        path = found.cloned().ok_or_else(|| Error::usage(format!("there is no Dockerfile in `{name}`")))?;
        path = path.strip_prefix(".").map(Path::to_owned).unwrap_or(path);
    }
    let formatted = session.engine()?.format(&DockerfileSource::Path(path.clone()))?;
    Ok((Some(path), formatted))
}
