//! `kiln system check`

use crate::api::{Problem, Repairs, SystemCheckReport, SystemCheckRequest};
use crate::cli::error::Error;
use crate::cli::format;
use crate::cli::progress::Shown;
use crate::cli::session::{Invocation, print};
use crate::cli::{exit, flags, text, units};

/// `kiln system check`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct SystemCheck {
    /// Drop what is damaged, with the records and images that stand on it, and remove what was left over
    #[arg(long)]
    repair: bool,
    /// Compare names and sizes, but read no content
    #[arg(long)]
    quick: bool,
    /// `json`, or a Go template
    #[arg(long, short, value_name = "FORMAT")]
    format: Option<String>,
}

/// Prints a line per problem and a summary; fails when something is damaged.
pub(crate) fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let flags: SystemCheck = flags::parse(invocation)?;
    let request = SystemCheckRequest { repair: flags.repair, quick: flags.quick };
    let shown = Shown::transfers(flags.format.is_some());
    let result = invocation.session.engine()?.system_check(&request, &shown.events);
    shown.finish();
    let report = result?;
    match &flags.format {
        Some(format) => {
            let json = |error: serde_json::Error| Error::usage(format!("cannot print as JSON: {error}"));
            format::print_objects(&[serde_json::to_value(&report).map_err(json)?], Some(format))?;
        }
        None => print(&lines(&report))?,
    }
    Ok(if report.is_damaged() { exit::FAILURE } else { exit::SUCCESS })
}

fn lines(report: &SystemCheckReport) -> String {
    let mut out: String = report.repaired.iter().map(repairs).collect();
    out.extend(report.problems.iter().map(line));
    let damaged = report.problems.iter().filter(|problem| problem.damage).count();
    let left_over = report.problems.len() - damaged;
    let count = |number: u64, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    out += &format!(
        "checked {}, {}, {} and {} ({} read): {}\n",
        count(report.blobs, "blob"),
        count(report.layers, "layer"),
        count(report.records, "build record"),
        count(report.images, "image"),
        units::size(report.bytes, 4),
        match (damaged, left_over) {
            (0, 0) => "all is well".to_owned(),
            (0, some) => format!("no damage, {some} left over"),
            (some, _) => format!("{some} damaged, {left_over} left over"),
        }
    );
    out
}

fn line(problem: &Problem) -> String {
    let Problem { damage, kind, name, problem, remedy } = problem;
    let severity = if *damage { "damage" } else { "left over" };
    format!("{}\n", text::one_line(&format!("{severity}: {kind} {name}: {problem}; {remedy}")))
}

fn repairs(repairs: &Repairs) -> String {
    let mut out = String::new();
    for image in &repairs.images {
        out += &format!("dropped image {}\n", text::one_line(image));
    }
    let Repairs { records, layers, blobs, bytes, .. } = repairs;
    out += &format!(
        "dropped {records} build records; removed {layers} layers and {blobs} blobs ({})\n",
        units::size(*bytes, 4)
    );
    out
}
