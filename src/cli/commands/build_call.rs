//! `kiln build --call` and `--check`: what a build would do, without doing it.

use serde::Serialize;

use super::build::Build;
use super::lint;
use crate::api::{AskedFor, BuildRequest, Outline, OutlineArg, Targets};
use crate::cli::error::Error;
use crate::cli::findings::{self, Form, Location, base64, pretty};
use crate::cli::session::{Session, print};
use crate::cli::text::harmless;
use crate::cli::{exit, table};

/// What is asked of a Dockerfile instead of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    /// `check`
    Check,
    /// `outline`
    Outline,
    /// `targets`
    Targets,
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
    let call = match name {
        "" | "build" => return Ok(None),
        "check" | "lint" => Call::Check,
        "outline" => Call::Outline,
        "targets" => Call::Targets,
        other => {
            return Err(Error::usage(format!("unknown method `{other}` of `--call`"))
                .hint("it may be build, check, outline or targets"));
        }
    };
    if form == Form::Sarif && call != Call::Check {
        return Err(Error::usage("only a check has the format sarif"));
    }
    Ok(Some((call, form)))
}

/// Answers the call.
pub(crate) fn run(
    session: &Session,
    request: &BuildRequest,
    (call, form): (Call, Form),
) -> Result<i32, Error> {
    let engine = session.engine()?;
    match call {
        Call::Check => {
            let reports = [engine.check(request)?];
            lint::tell_unknown(&reports);
            print(&findings::render(&reports, form))?;
            return Ok(if findings::any(&reports) { exit::FAILURE } else { exit::SUCCESS });
        }
        Call::Outline => {
            let outline = engine.outline(request)?;
            print(&if form == Form::Json { outline_json(&outline) } else { outline_text(&outline) })?;
        }
        Call::Targets => {
            let targets = engine.targets(request)?;
            print(&if form == Form::Json { targets_json(&targets) } else { targets_text(&targets) })?;
        }
    }
    Ok(exit::SUCCESS)
}

/// buildx's tables, with one of the caches after them.
fn outline_text(outline: &Outline) -> String {
    let name = if outline.name.is_empty() { "(default)" } else { &outline.name };
    let mut head = vec![row(&["TARGET:", name])];
    head.extend(outline.description.as_ref().map(|text| row(&["DESCRIPTION:", text])));
    let mut tables = vec![head];
    let mut args = vec![row(&["BUILD ARG", "VALUE", "DESCRIPTION"])];
    args.extend(
        outline
            .args
            .iter()
            .map(|arg| row(&[&arg.name, &arg.value, arg.description.as_deref().unwrap_or_default()])),
    );
    tables.push(args);
    for (title, asked) in [("SECRET", &outline.secrets), ("SSH", &outline.ssh)] {
        let mut rows = vec![row(&[title, "REQUIRED"])];
        rows.extend(asked.iter().map(|one| row(&[&one.id, if one.required { "true" } else { "" }])));
        tables.push(rows);
    }
    let mut caches = vec![row(&["CACHE MOUNT"])];
    caches.extend(outline.caches.iter().map(|one| row(&[&one.id])));
    tables.push(caches);
    // A table with nothing below its head is left out; the target's own has no head.
    let shown = tables.into_iter().enumerate().filter(|(index, rows)| *index == 0 || rows.len() > 1);
    shown.map(|(index, rows)| lines(&rows, if index == 0 { 1 } else { 3 })).collect::<Vec<_>>().join("\n")
}

/// buildx's table of stages; one without a name has its number.
fn targets_text(targets: &Targets) -> String {
    let last = targets.targets.len().saturating_sub(1);
    let mut rows = vec![row(&["TARGET", "DESCRIPTION"])];
    for (index, target) in targets.targets.iter().enumerate() {
        let name = match (&target.name, index == last) {
            (None, true) => "(default)".to_owned(),
            (None, false) => index.to_string(),
            (Some(name), true) => format!("{name} (default)"),
            (Some(name), false) => name.clone(),
        };
        rows.push(row(&[&name, target.description.as_deref().unwrap_or_default()]));
    }
    lines(&rows, 3)
}

fn row(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|cell| harmless(cell.as_bytes())).collect()
}

/// Columns as buildx's tables have them, without blanks at the ends of lines.
fn lines(rows: &[Vec<String>], padding: usize) -> String {
    table::padded(rows, 0, padding).lines().map(|line| line.trim_end().to_owned() + "\n").collect()
}

/// The names of BuildKit's `frontend/subrequests/outline`.
#[derive(Serialize)]
struct OutlineShape<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    args: Vec<ArgShape<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    secrets: Vec<AskedShape<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ssh: Vec<AskedShape<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cache: Vec<CacheShape<'a>>,
    sources: [String; 1],
}

#[derive(Serialize)]
struct ArgShape<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    value: &'a str,
    location: Location,
}

#[derive(Serialize)]
struct AskedShape<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    required: bool,
    location: Location,
}

#[derive(Serialize)]
struct CacheShape<'a> {
    #[serde(rename = "ID")]
    id: &'a str,
    location: Location,
}

fn outline_json(outline: &Outline) -> String {
    pretty(&OutlineShape {
        name: &outline.name,
        description: outline.description.as_deref(),
        args: outline.args.iter().map(arg_shape).collect(),
        secrets: outline.secrets.iter().map(asked_shape).collect(),
        ssh: outline.ssh.iter().map(asked_shape).collect(),
        cache: outline.caches.iter().map(cache_shape).collect(),
        sources: [base64(outline.text.as_bytes())],
    })
}

fn arg_shape(arg: &OutlineArg) -> ArgShape<'_> {
    let location = Location::of(arg.place.as_ref(), 0);
    ArgShape { name: &arg.name, description: arg.description.as_deref(), value: &arg.value, location }
}

fn asked_shape(asked: &AskedFor) -> AskedShape<'_> {
    AskedShape { name: &asked.id, required: asked.required, location: Location::of(asked.place.as_ref(), 0) }
}

fn cache_shape(asked: &AskedFor) -> CacheShape<'_> {
    CacheShape { id: &asked.id, location: Location::of(asked.place.as_ref(), 0) }
}

/// The names of BuildKit's `frontend/subrequests/targets`.
#[derive(Serialize)]
struct TargetsShape<'a> {
    targets: Vec<TargetShape<'a>>,
    sources: [String; 1],
}

#[derive(Serialize)]
struct TargetShape<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    default: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    base: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<&'a str>,
    location: Location,
}

fn targets_json(targets: &Targets) -> String {
    let last = targets.targets.len().saturating_sub(1);
    let all = targets.targets.iter().enumerate().map(|(index, target)| TargetShape {
        name: target.name.as_deref(),
        default: index == last,
        description: target.description.as_deref(),
        base: &target.base,
        platform: target.platform.as_deref(),
        location: Location::of(target.place.as_ref(), 0),
    });
    pretty(&TargetsShape { targets: all.collect(), sources: [base64(targets.text.as_bytes())] })
}
