//! `kiln build --call` and `--check`: what a build would do, without doing it.

use super::build::Build;
use super::lint;
use crate::api::BuildRequest;
use crate::cli::error::Error;
use crate::cli::exit;
use crate::cli::findings::{self, Form};
use crate::cli::session::{Session, print};

/// What is asked of a Dockerfile instead of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// `check`
    Check,
}

/// Reads `--call=NAME[,format=FORMAT]` and `--check`; `None` for a build.
pub(crate) fn parse(build: &Build) -> Result<Option<(Call, Form)>, Error> {
    let text = match &build.call {
        Some(_) if build.check => {
            return Err(Error::usage("`--check` and `--call` can't be used together"));
        }
        Some(text) => text.as_str(),
        None if build.check => "check",
        None => return Ok(None),
    };
    let (name, options) = text.split_once(',').unwrap_or((text, ""));
    let mut form = Form::Plain;
    for option in options.split(',').filter(|option| !option.is_empty()) {
        form = match option.split_once('=') {
            Some(("format", format)) => Form::parse(format)?,
            _ => return Err(Error::usage(format!("unknown option `{option}` of `--call`"))),
        };
    }
    match name {
        "" | "build" => Ok(None),
        "check" | "lint" => Ok(Some((Call::Check, form))),
        other => Err(Error::usage(format!("unknown method `{other}` of `--call`"))
            .hint("it may be build, check, outline or targets")),
    }
}

/// Answers the call.
pub(crate) fn run(
    session: &Session,
    request: &BuildRequest,
    (call, form): (Call, Form),
) -> Result<i32, Error> {
    match call {
        Call::Check => {
            let reports = [session.engine()?.check(request)?];
            lint::tell_unknown(&reports);
            print(&findings::render(&reports, form))?;
            Ok(if findings::any(&reports) { exit::FAILURE } else { exit::SUCCESS })
        }
    }
}
