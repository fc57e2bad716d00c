//! How the findings of a check are shown: for people in BuildKit's form, as BuildKit's JSON, as SARIF.

mod json;
mod sarif;
#[cfg(test)]
mod tests;

pub(crate) use self::json::{Location, base64, pretty};
use super::error::Error;
use super::failure;
use super::text::harmless;
use crate::api::{CheckReport, Finding};

/// The form of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Form {
    /// For people.
    #[default]
    Plain,
    /// BuildKit's lint result.
    Json,
    /// SARIF 2.1.0, as code scanners of forges read it.
    Sarif,
}

impl Form {
    /// Reads `--format`.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        match text {
            "plain" | "text" => Ok(Self::Plain),
            "json" => Ok(Self::Json),
            "sarif" => Ok(Self::Sarif),
            other => {
                Err(Error::usage(format!("unknown format `{other}`")).hint("it may be plain, json or sarif"))
            }
        }
    }
}

/// Renders the reports of one or several files.
pub(crate) fn render(reports: &[CheckReport], form: Form) -> String {
    match form {
        Form::Plain => plain(reports),
        Form::Json => json::render(reports),
        Form::Sarif => sarif::render(reports),
    }
}

/// Tells whether anything was found.
pub(crate) fn any(reports: &[CheckReport]) -> bool {
    reports.iter().any(|report| !report.findings.is_empty())
}

fn plain(reports: &[CheckReport]) -> String {
    let mut out = summary(reports) + "\n";
    for finding in reports.iter().flat_map(|report| &report.findings) {
        out += "\n";
        out += &one(finding);
    }
    out
}

/// `Check complete, 2 warnings have been found!`
fn summary(reports: &[CheckReport]) -> String {
    let all = reports.iter().flat_map(|report| &report.findings);
    let (warnings, errors): (Vec<_>, Vec<_>) = all.partition(|finding| finding.rule.is_some());
    let count = |count: usize, what: &str| {
        let plural = if count == 1 { "" } else { "s" };
        format!("{count} {what}{plural}")
    };
    let have = |count: usize| if count == 1 { "has" } else { "have" };
    match (errors.len(), warnings.len()) {
        (0, 0) => "Check complete, no warnings found.".to_owned(),
        (0, found) => format!("Check complete, {} {} been found!", count(found, "warning"), have(found)),
        (found, 0) => format!("Check failed, {} {} been found!", count(found, "error"), have(found)),
        (errors, warnings) => {
            format!(
                "Check failed, {} and {} have been found!",
                count(errors, "error"),
                count(warnings, "warning")
            )
        }
    }
}

fn one(finding: &Finding) -> String {
    let mut out = match &finding.rule {
        None => format!("ERROR: {}\n", clean(&finding.message)),
        Some(rule) => {
            let page = rule.url.as_ref().map(|url| format!(" - {url}")).unwrap_or_default();
            format!("WARNING: {}{page}\n{}\n", rule.name, clean(&finding.message))
        }
    };
    if let Some(hint) = &finding.hint {
        out += &format!("hint: {}\n", clean(hint));
    }
    if let Some(place) = &finding.place {
        out += &failure::excerpt(&place.excerpt);
    }
    out
}

fn clean(text: &str) -> String {
    harmless(text.as_bytes())
}
