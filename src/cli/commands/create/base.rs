//! Flags of `kiln create` and `run`: the image, the program, and the container's names.

use std::path::{Path, PathBuf};

use crate::api::{CreateRequest, PullPolicy};
use crate::cli::commands::pairs;
use crate::cli::error::Error;
use crate::cli::settings::Environment;
use crate::oci::Platform;

/// Flags of docker that are still to come.
pub(super) const NOT_YET: &[&str] = &["--disable-content-trust", "--use-api-socket"];

/// The program, and the container's names.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Base {
    /// Add an annotation (KEY=VALUE)
    #[arg(long, value_name = "KEY=VALUE")]
    annotation: Vec<String>,
    /// Take part only in this stream: stdin, stdout or stderr
    #[arg(long, short, value_name = "STREAM", ignore_case = true, value_parser = ["stdin", "stdout", "stderr"])]
    attach: Vec<String>,
    /// Write the container's id to a file
    #[arg(long, value_name = "FILE")]
    pub(super) cidfile: Option<PathBuf>,
    /// Run this instead of the image's ENTRYPOINT
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// Set an environment variable (KEY=VALUE, or KEY to take the caller's)
    #[arg(long, short, value_name = "KEY=VALUE")]
    pub(super) env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Host name of the container
    #[arg(long, short = 'h', value_name = "NAME")]
    hostname: Option<String>,
    /// Keep standard input open
    #[arg(long, short)]
    interactive: bool,
    /// Set a label (KEY=VALUE)
    #[arg(long, short, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Read labels from a file
    #[arg(long, value_name = "FILE")]
    label_file: Vec<PathBuf>,
    /// Name of the container
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Take the image of this platform (linux/arm64)
    #[arg(long, value_name = "PLATFORM")]
    platform: Option<String>,
    /// When to pull the image: missing, always or never
    #[arg(long, value_name = "WHEN", default_value = "missing", hide_default_value = true)]
    pub(super) pull: String,
    /// Don't show the pull
    #[arg(long, short)]
    pub(super) quiet: bool,
    /// Give the program a terminal
    #[arg(long, short)]
    tty: bool,
    /// User and group (NAME|UID[:GROUP|GID])
    #[arg(long, short, value_name = "USER")]
    user: Option<String>,
    /// Working directory of the program
    #[arg(long, short, value_name = "PATH")]
    pub(super) workdir: Option<String>,
}

impl Base {
    /// Puts it into the request.
    pub(super) fn fill(&self, request: &mut CreateRequest, environment: &Environment) -> Result<(), Error> {
        for text in from_files(&self.env_file, pairs::env_lines)?.iter().chain(&self.env) {
            let variable = pairs::variable(text, environment)?;
            request.env.extend(variable.map(|(key, value)| format!("{key}={value}")));
        }
        let labels = from_files(&self.label_file, pairs::lines)?;
        let labels = labels.iter().chain(&self.label);
        request.labels = labels.map(|text| pairs::label(text)).collect::<Result<_, _>>()?;
        request.annotations =
            self.annotation.iter().map(|text| annotation(text)).collect::<Result<_, _>>()?;
        request.attach = self.attach.iter().map(|stream| stream.to_ascii_lowercase()).collect();
        if let Some(text) = self.platform.as_ref().filter(|text| !text.is_empty()) {
            text.parse::<Platform>()
                .map_err(|error| Error::usage(format!("invalid value `{text}` for `--platform`: {error}")))?;
            request.platform = Some(text.clone());
        }
        request.pull = pull(&self.pull)?;
        request.entrypoint.clone_from(&self.entrypoint);
        request.workdir = self.workdir.as_deref().map(|path| absolute("--workdir", path)).transpose()?;
        request.user.clone_from(&self.user);
        request.name = self.name.clone().filter(|name| !name.is_empty());
        // As in docker: an empty one is none given, and surely not the machine's.
        request.hostname = self.hostname.clone().filter(|name| !name.is_empty());
        request.tty = self.tty;
        request.interactive = self.interactive;
        Ok(())
    }
}

/// Reads all lines of all `files`.
pub(in crate::cli::commands) fn from_files(
    files: &[PathBuf],
    read: fn(&Path) -> Result<Vec<String>, Error>,
) -> Result<Vec<String>, Error> {
    let mut lines = Vec::new();
    for file in files {
        lines.extend(read(file)?);
    }
    Ok(lines)
}

fn annotation(text: &str) -> Result<(String, String), Error> {
    let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
    let (key, value) = pair.ok_or_else(|| {
        Error::usage(format!("invalid value `{text}` for `--annotation`")).hint("write it as `key=value`")
    })?;
    Ok((key.to_owned(), value.to_owned()))
}

fn pull(text: &str) -> Result<PullPolicy, Error> {
    match text {
        "missing" => Ok(PullPolicy::Missing),
        "always" => Ok(PullPolicy::Always),
        "never" => Ok(PullPolicy::Never),
        other => Err(Error::usage(format!("invalid value `{other}` for `--pull`"))
            .hint("it may be missing, always or never")),
    }
}

fn absolute(flag: &str, path: &str) -> Result<String, Error> {
    if !path.starts_with('/') {
        return Err(Error::usage(format!("`{flag} {path}` must be an absolute path")));
    }
    Ok(path.to_owned())
}
