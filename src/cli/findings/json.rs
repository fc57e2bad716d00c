//! The JSON of BuildKit's lint result, with columns, hints and all errors beside its first one.

use serde::Serialize;

use crate::api::{CheckReport, Finding, Place};

#[derive(Serialize)]
struct Results<'a> {
    warnings: Vec<Warning<'a>>,
    sources: Vec<Source<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Mistake<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Mistake<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Warning<'a> {
    rule_name: &'a str,
    description: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<&'a str>,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
    location: Location,
}

#[derive(Serialize)]
struct Source<'a> {
    filename: &'a str,
    /// Base64, as Go writes bytes.
    data: String,
}

#[derive(Serialize, Clone)]
struct Mistake<'a> {
    message: &'a str,
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
    location: Location,
}

/// BuildKit's `pb.Location`: which source, and where in it.
#[derive(Serialize, Clone)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Location {
    #[serde(skip_serializing_if = "is_zero")]
    source_index: i32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ranges: Vec<Range>,
}

#[derive(Serialize, Clone)]
struct Range {
    start: Position,
    end: Position,
}

#[derive(Serialize, Clone)]
struct Position {
    line: usize,
    /// From 0.
    character: usize,
}

impl Location {
    /// A place in one of the sources; no range for what isn't in the file.
    pub(crate) fn of(place: Option<&Place>, source: usize) -> Self {
        let position = |(line, column): (usize, usize)| Position { line, character: column - 1 };
        let range = |place: &Place| Range { start: position(place.start), end: position(place.end) };
        let source_index = if place.is_some() { i32::try_from(source).unwrap_or(0) } else { -1 };
        Self { source_index, ranges: place.map(range).into_iter().collect() }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
fn is_zero(number: &i32) -> bool {
    *number == 0
}

pub(super) fn render(reports: &[CheckReport]) -> String {
    let (mut warnings, mut errors) = (Vec::new(), Vec::new());
    for (index, report) in reports.iter().enumerate() {
        for finding in &report.findings {
            match &finding.rule {
                Some(_) => warnings.extend(warning(finding, index)),
                None => errors.push(mistake(finding, index)),
            }
        }
    }
    let source = |report| Source { filename: file(report), data: base64(text(report)) };
    let sources = reports.iter().map(source).collect();
    pretty(&Results { warnings, sources, error: errors.first().cloned(), errors })
}

fn file(report: &CheckReport) -> &str {
    &report.file
}

fn text(report: &CheckReport) -> &[u8] {
    report.text.as_bytes()
}

fn warning(finding: &Finding, source: usize) -> Option<Warning<'_>> {
    let rule = finding.rule.as_ref()?;
    Some(Warning {
        rule_name: rule.name,
        description: rule.about,
        url: rule.url.as_deref(),
        detail: &finding.message,
        hint: finding.hint.as_deref(),
        location: Location::of(finding.place.as_ref(), source),
    })
}

fn mistake(finding: &Finding, source: usize) -> Mistake<'_> {
    let location = Location::of(finding.place.as_ref(), source);
    Mistake { message: &finding.message, code: finding.code, hint: finding.hint.as_deref(), location }
}

/// `value` as indented JSON with a line end.
pub(crate) fn pretty(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).expect("texts and numbers are JSON") + "\n"
}

/// The standard base64 of `bytes`.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let part = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = (part(0) << 16) | (part(1) << 8) | part(2);
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit)) & 0x3f;
            let char = if digit > group.len() { b'=' } else { DIGITS[value as usize] };
            out.push(char::from(char));
        }
    }
    out
}
