//! What is legal but unwise: the list of all rules, which of them a file wants, and those that need
//! nothing but the file.
//!
//! Codes are the rules' names in kebab case ([`rules`]). [`Checks`] says which warnings are wanted; it
//! counts for those that later stages of a build find, too.

mod checks;
mod instructions;
pub mod rules;
pub mod script;
mod stages;
#[cfg(test)]
mod tests;

pub use checks::Checks;
pub use instructions::names_secret;

use crate::ast::{Dockerfile, Span};
use crate::diagnostic::{Diagnostic, Severity};

/// Adds warnings about a file, and removes those that it doesn't want.
///
/// Advice waits until the file has no errors.
pub(crate) fn check(file: &Dockerfile, text: &str, diagnostics: &mut Vec<Diagnostic>) {
    if diagnostics.iter().all(|found| found.severity == Severity::Warning) {
        advise(file, text, diagnostics);
    }
    file.checks.keep(diagnostics);
}

fn advise(file: &Dockerfile, text: &str, diagnostics: &mut Vec<Diagnostic>) {
    let mut linter = Linter { text, diagnostics };
    linter.casing(file);
    linter.stages(file);
    for stage in &file.stages {
        linter.stage_instructions(stage);
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
