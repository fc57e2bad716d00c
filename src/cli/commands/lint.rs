//! `kiln lint`

use std::path::{Path, PathBuf};

use super::build::{self, Build};
use crate::api::CheckReport;
use crate::cli::error::Error;
use crate::cli::findings::{self, Form};
use crate::cli::session::{Invocation, Session, print};
use crate::cli::{exit, flags, tell};

/// `kiln lint`
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Lint {
    /// Set a build argument (KEY=VALUE, or KEY to take the environment's)
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) build_arg: Vec<String>,
    /// Name of the Dockerfile (default: PATH/Dockerfile)
    #[arg(long, short, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// How findings are shown: plain, json or sarif
    #[arg(long, value_name = "FORMAT", default_value = "plain", hide_default_value = true)]
    pub(crate) format: String,
    /// Platform of the build that is looked at (OS/ARCH)
    #[arg(long)]
    pub(crate) platform: Option<String>,
    /// Look at the stages that this one needs only
    #[arg(long, value_name = "STAGE")]
    pub(crate) target: Option<String>,
    /// Directories, Dockerfiles, or `-` for a Dockerfile on standard input (default: this directory)
    #[arg(value_name = "PATH")]
    pub(crate) path: Vec<String>,
}

/// Looks Dockerfiles through; the exit code is 1 when anything was found.
pub(crate) fn run(invocation: &Invocation<'_>) -> Result<i32, Error> {
    let lint: Lint = flags::parse(invocation)?;
    let form = Form::parse(&lint.format)?;
    let here = [String::from(".")];
    let paths = if lint.path.is_empty() { &here[..] } else { &lint.path };
    if paths.len() > 1 && lint.file.is_some() {
        return Err(
            Error::usage("`-f` names the Dockerfile of one directory").hint("name the files themselves")
        );
    }
    let reports = paths.iter().map(|path| report(invocation.session, &lint, path));
    let reports = reports.collect::<Result<Vec<_>, _>>()?;
    tell_unknown(&reports);
    print(&findings::render(&reports, form))?;
    Ok(if findings::any(&reports) { exit::FAILURE } else { exit::SUCCESS })
}

/// Says which bases are not in the store.
pub(crate) fn tell_unknown(reports: &[CheckReport]) {
    for name in reports.iter().flat_map(|report| &report.unknown_bases) {
        tell(&format!("note: `{name}` is not in the store: checks that need it are left out\n"));
    }
}

fn report(session: &Session, lint: &Lint, path: &str) -> Result<CheckReport, Error> {
    let (context, file) = match Path::new(path) {
        // A file has its folder as the context; so does a pipe, as in `kiln lint <(…)`.
        file if path != "-" && file.exists() && !file.is_dir() => {
            let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
            (parent.unwrap_or(Path::new(".")).display().to_string(), Some(file.to_owned()))
        }
        _ => (path.to_owned(), lint.file.clone()),
    };
    let build = Build {
        build_arg: lint.build_arg.clone(),
        file: file.clone(),
        network: "default".to_owned(),
        platform: lint.platform.clone(),
        target: lint.target.clone(),
        path: vec![context],
        ..Build::default()
    };
    let (request, _spooled) = build::request(&build, &session.environment)?;
    let mut report = session.engine()?.check(&request)?;
    let shown = match file {
        Some(file) if file != Path::new("-") => file.display().to_string(),
        _ if path == "." || path == "-" => report.file.clone(),
        _ => Path::new(path).join(&report.file).display().to_string(),
    };
    rename(&mut report, &shown);
    Ok(report)
}

/// Gives the file the name that the user gave it, so that editors and forges find it.
fn rename(report: &mut CheckReport, name: &str) {
    name.clone_into(&mut report.file);
    for place in report.findings.iter_mut().filter_map(|finding| finding.place.as_mut()) {
        name.clone_into(&mut place.excerpt.file);
    }
}
