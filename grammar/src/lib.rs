//! Dockerfile text in, typed tree or diagnostics out. No IO.
//!
//! A Dockerfile goes through four steps:
//!
//! 1. `lines`: physical lines to instructions (directives, continuations, comments, heredocs);
//! 2. `parse`: an instruction to its parts, by the grammar in `dockerfile.pest`;
//! 3. `instruction`: the parts to a typed instruction ([`ast`]), with the rules of each keyword;
//! 4. `stages`: instructions to stages; then `lint` looks for what is legal but unwise.
//!
//! Each step goes on after a mistake, so that one run reports all of them ([`Diagnostic`]). Words
//! stay as written: [`word`] expands them when the values are known.

pub mod ast;
mod csv;
pub mod diagnostic;
mod duration;
mod flags;
pub mod format;
mod instruction;
mod keyword;
mod lines;
pub mod lint;
pub mod mount;
mod parse;
pub mod run_flags;
pub mod source;
mod stages;
pub mod suggest;
pub mod word;

pub use ast::{Dockerfile, Instruction, Span};
pub use diagnostic::{Diagnostic, Severity};
pub use source::Source;

/// The largest Dockerfile in bytes.
pub const MAX_BYTES: usize = 16 << 20;

/// More mistakes than this are not listed.
const MAX_DIAGNOSTICS: usize = 100;

/// Parses a Dockerfile.
///
/// `name` is only used in messages. Spans are byte offsets into `text`, a byte order mark included.
///
/// # Errors
/// All mistakes found, warnings among them, in the order of the file; at least one is an error. When
/// the text is not UTF-8 the one mistake points at the first bad byte, which `from_utf8_lossy` keeps
/// in its place.
pub fn parse(name: &str, text: &[u8]) -> Result<Dockerfile, Vec<Diagnostic>> {
    parse_checked(name, text, None)
}

/// Parses a Dockerfile; `checks` takes the place of what it says with `# check=`.
///
/// # Errors
/// As [`parse`].
pub fn parse_checked(name: &str, text: &[u8], checks: Option<&str>) -> Result<Dockerfile, Vec<Diagnostic>> {
    let text = readable(name, text).map_err(|mistake| vec![mistake])?;
    if let Some(foreign) = lines::foreign_frontend(text) {
        return Err(vec![foreign]);
    }
    let mut scanned = lines::scan(text);
    let mut diagnostics = std::mem::take(&mut scanned.diagnostics);
    let (globals, stages) = stages::assemble(&scanned, text, &mut diagnostics);
    let checks = lint::Checks::of(&scanned.directives, checks, &scanned.lines, &mut diagnostics);
    let mut file =
        Dockerfile { directives: scanned.directives, globals, stages, checks, warnings: Vec::new() };
    lint::check(&file, text, &mut diagnostics);
    if diagnostics.iter().any(|found| found.severity == Severity::Error) {
        return Err(listed(diagnostics));
    }
    file.warnings = listed(diagnostics);
    Ok(file)
}

/// Parses an ONBUILD trigger as it is stored in an image's config, heredoc bodies included.
///
/// `escape` is `\` unless the image's maker says otherwise. Spans are offsets into `text`.
///
/// # Errors
/// All mistakes found, as [`parse`]; so is anything but one instruction that may be a trigger.
pub fn parse_trigger(text: &str, escape: char) -> Result<Instruction, Vec<Diagnostic>> {
    let text = readable("ONBUILD trigger", text.as_bytes()).map_err(|mistake| vec![mistake])?;
    let (lines, mut diagnostics) = lines::scan_plain(text, escape);
    let mut triggers = Vec::new();
    for line in &lines {
        triggers.extend(instruction::trigger(line, escape, &mut diagnostics));
    }
    if let Some(second) = lines.get(1) {
        let message = "an ONBUILD trigger is one instruction";
        diagnostics.push(Diagnostic::error("trigger-count", second.span, message));
    }
    let trigger = if triggers.is_empty() { None } else { Some(triggers.swap_remove(0)) };
    match trigger {
        Some(trigger) if diagnostics.iter().all(|found| found.severity == Severity::Warning) => Ok(trigger),
        _ => {
            if diagnostics.iter().all(|found| found.severity == Severity::Warning) {
                let message = "the ONBUILD trigger is empty";
                diagnostics.push(Diagnostic::error("trigger-count", Span::default(), message));
            }
            Err(listed(diagnostics))
        }
    }
}

/// The text of a file, or why it can't be a Dockerfile at all.
fn readable<'a>(name: &str, text: &'a [u8]) -> Result<&'a str, Diagnostic> {
    if text.is_empty() {
        let message = "the Dockerfile cannot be empty";
        let hint = format!("start `{name}` with `FROM <image>`");
        return Err(Diagnostic::error("empty-file", Span::default(), message).hint(hint));
    }
    if text.len() > MAX_BYTES {
        let message = format!("`{name}` has {} bytes, more than the {MAX_BYTES} of a Dockerfile", text.len());
        return Err(Diagnostic::error("file-too-large", Span::default(), message));
    }
    let text = std::str::from_utf8(text).map_err(|error| {
        let at = error.valid_up_to();
        let wide = text.starts_with(&[0xff, 0xfe]) || text.starts_with(&[0xfe, 0xff]);
        let hint = if wide { "the file is UTF-16: save it as UTF-8" } else { "save the file as UTF-8" };
        let message = format!("`{name}` is not valid UTF-8: byte 0x{:02x} at offset {at}", text[at]);
        Diagnostic::error("invalid-utf8", Span { start: at, end: at }, message).hint(hint)
    })?;
    match text.find('\0') {
        Some(at) => {
            let message = format!("`{name}` has a NUL byte: it isn't a text file");
            Err(Diagnostic::error("nul-byte", Span { start: at, end: at + 1 }, message))
        }
        None => Ok(text),
    }
}

/// The diagnostics in the order of the file, the first errors before the rest when there are many.
fn listed(mut found: Vec<Diagnostic>) -> Vec<Diagnostic> {
    found.sort_by_key(|diagnostic| (diagnostic.span.start, diagnostic.span.end));
    if found.len() <= MAX_DIAGNOSTICS {
        return found;
    }
    let (errors, warnings): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|diagnostic| diagnostic.severity == Severity::Error);
    let dropped = errors.len() + warnings.len() - MAX_DIAGNOSTICS;
    let mut kept: Vec<Diagnostic> = errors.into_iter().chain(warnings).take(MAX_DIAGNOSTICS).collect();
    if let Some(last) = kept.last() {
        let message = format!("too many mistakes: at least {dropped} more are not shown");
        let summary = Diagnostic { message, hint: None, code: "too-many", ..last.clone() };
        kept.push(summary);
    }
    kept
}

#[cfg(test)]
mod tests;
