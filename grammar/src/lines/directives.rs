//! The parser directives `# key=value` at the top of a file.

use super::{Physical, physical};
use crate::ast::{Directives, Span, Word};
use crate::diagnostic::{Diagnostic, quote};
use crate::source::BYTE_ORDER_MARK;

/// Reads the directives and where their lines end; the scan ends at the first line that isn't one.
///
/// After a `#!` first line only `syntax` counts, as BuildKit reads it for choosing a frontend.
pub(super) fn scan(text: &str, start: usize, diagnostics: &mut Vec<Diagnostic>) -> (Directives, usize) {
    let mut found = Directives { syntax: None, escape: '\\', check: None };
    let shebang = text[start..].starts_with("#!");
    let mut seen: Vec<&'static str> = Vec::new();
    let mut at = start;
    while let Some(line) = physical(text, at) {
        if shebang && line.start == start {
            at = line.next;
            continue;
        }
        let Some((key, value)) = directive(text, line) else { break };
        if shebang && key != "syntax" {
            break;
        }
        at = line.next;
        if seen.contains(&key) {
            let message = format!("only one {key} parser directive can be used");
            diagnostics.push(Diagnostic::error("duplicate-directive", value.span, message));
            continue;
        }
        seen.push(key);
        match key {
            "syntax" => found.syntax = Some(value),
            "check" => found.check = Some(value),
            _ => escape(&value, &mut found, diagnostics),
        }
    }
    (found, at)
}

fn escape(value: &Word, found: &mut Directives, diagnostics: &mut Vec<Diagnostic>) {
    match value.text.as_str() {
        "\\" => found.escape = '\\',
        "`" => found.escape = '`',
        other => {
            let message = format!("invalid escape token {}", quote(other));
            let hint = "the escape character is \\ or `";
            diagnostics.push(Diagnostic::error("invalid-escape", value.span, message).hint(hint));
        }
    }
}

/// Finds out that a file is in another language: it names its frontend in a `//` comment or as JSON, as
/// BuildKit looks for it in files that aren't Dockerfiles.
pub(crate) fn foreign_frontend(text: &str) -> Option<Diagnostic> {
    let start = text.len() - text.trim_start_matches(BYTE_ORDER_MARK).len();
    let start = match text[start..].starts_with("#!") {
        true => physical(text, start)?.next,
        false => start,
    };
    let span = slashed(text, start).or_else(|| in_json(text, start))?;
    let name = text[span.start..span.end].split_whitespace().next()?;
    if name.trim_start_matches("docker.io/").starts_with("docker/dockerfile") {
        return None;
    }
    let message = format!("the file is written for the frontend {}, not a Dockerfile", quote(name));
    let hint = "name another file with `-f`, or build it with the tool that runs this frontend";
    Some(Diagnostic::error("foreign-frontend", span, message).hint(hint))
}

/// The value of `// syntax=` among such lines at the top.
fn slashed(text: &str, start: usize) -> Option<Span> {
    let mut at = start;
    loop {
        let line = physical(text, at)?;
        let content = text[line.start..line.end].strip_prefix("//")?.trim_start();
        let (key, value) = content.split_once('=')?;
        match key.trim_end().to_ascii_lowercase().as_str() {
            "syntax" if !value.trim().is_empty() => {
                let start = line.end - value.trim_start().len();
                return Some(Span { start, end: start + value.trim().len() });
            }
            "escape" | "check" => at = line.next,
            _ => return None,
        }
    }
}

/// The value of `"syntax"` in a JSON object.
fn in_json(text: &str, start: usize) -> Option<Span> {
    if !text[start..].trim_start().starts_with('{') {
        return None;
    }
    let key = text.find("\"syntax\"")? + "\"syntax\"".len();
    let value = text[key..].trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
    let start = text.len() - value.len();
    Some(Span { start, end: start + value.find(['"', '\n'])? })
}

/// Tells whether a line would be a directive, if it stood at the top.
pub(crate) fn is_directive(line: &str) -> bool {
    physical(line, 0).is_some_and(|whole| directive(line, whole).is_some())
}

/// `# key=value`; a line that is no directive comes back as it is.
pub(crate) fn canonical(line: &str) -> String {
    match physical(line, 0).and_then(|whole| directive(line, whole)) {
        Some((key, value)) => format!("# {key}={}", value.text),
        None => line.to_owned(),
    }
}

/// The known key and the value of a directive-shaped comment.
fn directive(text: &str, line: Physical) -> Option<(&'static str, Word)> {
    let after_hash = text[line.start..line.end].trim_start().strip_prefix('#')?.trim_start();
    let (key, value) = after_hash.split_once('=')?;
    let known = ["syntax", "escape", "check"];
    let key = known.into_iter().find(|name| name.eq_ignore_ascii_case(key.trim_end()))?;
    let start = line.end - value.trim_start().len();
    let value = value.trim();
    if value.is_empty() {
        return None;
    }
    let span = Span { start, end: start + value.len() };
    Some((key, Word { text: value.to_owned(), span }))
}
