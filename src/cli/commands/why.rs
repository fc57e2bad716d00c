//! `kiln why`

use std::path::PathBuf;

use super::build_context;
use crate::api::{LastStep, StepEnd, WhyRequest};
use crate::cli::error::Error;
use crate::cli::format::{self, Columns, Row};
use crate::cli::session::Invocation;
use crate::cli::{exit, flags, reason, text};
use crate::oci::Platform;

/// `kiln why`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Why {
    /// Name of the Dockerfile (default: PATH/Dockerfile)
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
    /// `table`, `table TEMPLATE`, `json`, or a Go template
    #[arg(long, value_name = "FORMAT")]
    format: Option<String>,
    /// Platform of the build (OS/ARCH)
    #[arg(long)]
    platform: Option<String>,
    /// Directory or address of the build's context (default: the working directory)
    #[arg(value_name = "PATH")]
    path: Vec<String>,
}

const COLUMNS: Columns = &[
    ("Step", "STEP", true),
    ("Result", "RESULT", true),
    ("Why", "WHY", true),
    ("Reasons", "REASONS", false),
];

/// Columns of a step's name.
const NAME_COLUMNS: usize = 60;

/// Shows the steps of the last build that ran one, and why those that ran did.
pub(crate) fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let mut flags: Why = flags::parse(invocation)?;
    if flags.path.is_empty() {
        flags.path.push(".".to_owned());
    }
    let stdin = |name: &str| name == "-";
    if flags.path.iter().any(|path| stdin(path))
        || flags.file.as_ref().and_then(|file| file.to_str()).is_some_and(stdin)
    {
        return Err(Error::usage("standard input names no build")
            .hint("name the directory or the address of its context"));
    }
    let platform = match flags.platform.as_deref() {
        None => Platform::host(),
        Some(text) => {
            text.parse().map_err(|error| Error::usage(format!("invalid platform `{text}`: {error}")))?
        }
    };
    let found = build_context::find(&flags.path, flags.file.as_deref())?;
    let request = WhyRequest { context: found.context, dockerfile: found.dockerfile, platform };
    let last = invocation.session.engine()?.why(&request)?;
    let is_table = matches!(flags.format.as_deref(), None | Some("" | "table"));
    let rows = last.steps.iter().map(|step| row(step, is_table)).collect();
    format::print_rows(COLUMNS, rows, flags.format.as_deref())?;
    Ok(exit::SUCCESS)
}

fn row(step: &LastStep, cut: bool) -> Row {
    let name = text::harmless(text::one_line(&step.name).as_bytes());
    let name = if cut { text::ellipsis(&name, NAME_COLUMNS) } else { name };
    let end = match step.end {
        StepEnd::NotReached => "not reached",
        StepEnd::Cached => "cached",
        StepEnd::Ran => "ran",
        StepEnd::Failed => "failed",
    };
    let reasons = serde_json::to_value(&step.reasons).expect("reasons are plain data");
    vec![
        ("Step", name.into()),
        ("Result", end.into()),
        ("Why", reason::line(&step.reasons).into()),
        ("Reasons", reasons),
    ]
}
