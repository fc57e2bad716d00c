//! What is legal but unwise: BuildKit's build checks that need nothing but the file, and two more.
//!
//! Codes are BuildKit's rule names in kebab case. `# check=skip=Rule,…;error=true` is obeyed for all
//! warnings of a file, those that earlier steps found included.

mod instructions;
mod stages;

use crate::ast::{Dockerfile, Span, Word};
use crate::diagnostic::{Diagnostic, Severity, quote};

/// Adds warnings about a file, and removes those that it doesn't want.
///
/// Advice waits until the file has no errors; what it wants is checked at once.
pub(crate) fn check(file: &Dockerfile, text: &str, diagnostics: &mut Vec<Diagnostic>) {
    if diagnostics.iter().all(|found| found.severity == Severity::Warning) {
        advise(file, text, diagnostics);
    }
    if let Some(directive) = &file.directives.check {
        obey(directive, diagnostics);
    }
}

fn advise(file: &Dockerfile, text: &str, diagnostics: &mut Vec<Diagnostic>) {
    let mut linter = Linter { text, diagnostics };
    linter.casing(file);
    linter.stages(file);
    for (index, stage) in file.stages.iter().enumerate() {
        let earlier = file.stages[..index].iter().filter_map(|other| other.name.as_ref());
        let inherits = earlier.into_iter().any(|name| name.text.eq_ignore_ascii_case(&stage.base.text));
        linter.stage_instructions(stage, inherits);
    }
    for declaration in &file.globals {
        linter.secret(&declaration.name, "ARG");
    }
}

struct Linter<'a> {
    text: &'a str,
    diagnostics: &'a mut Vec<Diagnostic>,
}

impl Linter<'_> {
    fn warn(&mut self, code: &'static str, span: Span, message: impl Into<String>, hint: Option<String>) {
        self.diagnostics.push(Diagnostic::warning(code, span, message).maybe_hint(hint));
    }

    /// What stands in the source; empty when the span is not inside it.
    fn written(&self, span: Span) -> &str {
        self.text.get(span.start..span.end).unwrap_or("")
    }
}

/// The place of an instruction's keyword.
fn keyword_span(instruction: Span, original: &str) -> Span {
    Span { end: instruction.start + crate::lines::first_word(original).len(), ..instruction }
}

/// What `# check=` asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wishes {
    skip: Vec<String>,
    error: bool,
}

impl Wishes {
    fn parse(directive: &Word) -> Result<Wishes, Diagnostic> {
        let mut wishes = Wishes::default();
        for part in directive.text.split(';') {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let value = value.trim();
            match (key.trim(), value.to_ascii_lowercase().as_str()) {
                ("skip", _) => wishes.skip.extend(value.split(',').map(plain_name)),
                // Experimental rules are off here anyway.
                ("experimental", _) => {}
                ("error", "true") => wishes.error = true,
                ("error", "false") => wishes.error = false,
                _ => {
                    let message = format!("invalid check option {}", quote(part.trim()));
                    let hint = "write skip=<Rule>,… or error=true, separated by `;`";
                    return Err(Diagnostic::error("check-directive", directive.span, message).hint(hint));
                }
            }
        }
        Ok(wishes)
    }

    fn skips(&self, code: &str) -> bool {
        let code = plain_name(code);
        self.skip.iter().any(|name| *name == code || name == "all")
    }
}

/// A rule's name without case and dashes, so that `JSONArgsRecommended` is `json-args-recommended`.
fn plain_name(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

fn obey(directive: &Word, diagnostics: &mut Vec<Diagnostic>) {
    let wishes = match Wishes::parse(directive) {
        Ok(wishes) => wishes,
        Err(mistake) => return diagnostics.push(mistake),
    };
    diagnostics.retain(|found| found.severity == Severity::Error || !wishes.skips(found.code));
    let mut rules: Vec<&str> = diagnostics
        .iter()
        .filter(|found| found.severity == Severity::Warning)
        .map(|found| found.code)
        .collect();
    rules.sort_unstable();
    rules.dedup();
    if wishes.error && !rules.is_empty() {
        let message = format!("lint violation found for rules: {}", rules.join(", "));
        diagnostics.push(Diagnostic::error("check-failed", directive.span, message));
    }
}
