//! Mistakes in a Dockerfile, with the place where each stands.

use std::fmt::Write as _;
use std::ops::Range;

use crate::ast::Span;
use crate::lint::rules::{self, Rule};
use crate::source::{Source, shown};

/// How much a mistake matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The file can't be built.
    Error,
    /// It can.
    Warning,
}

impl Severity {
    /// The word that users see.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// A stable name: `unknown-instruction`.
    pub code: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// One sentence, lower case, no full stop.
    pub message: String,
    /// A thing to do.
    pub hint: Option<String>,
    /// Where it stands.
    pub span: Span,
}

/// A longer line is shown as a window around the mistake.
const WINDOW_COLUMNS: usize = 120;

/// What the window keeps before the mistake.
const WINDOW_BEFORE: usize = 40;

impl Diagnostic {
    /// Makes an error.
    pub fn error(code: &'static str, span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic { code, severity: Severity::Error, message: message.into(), hint: None, span }
    }

    /// Makes a warning.
    pub fn warning(code: &'static str, span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic { severity: Severity::Warning, ..Diagnostic::error(code, span, message) }
    }

    /// Adds a thing to do.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Diagnostic {
        Diagnostic { hint: Some(hint.into()), ..self }
    }

    /// Adds a thing to do when there is one.
    #[must_use]
    pub fn maybe_hint(self, hint: Option<String>) -> Diagnostic {
        Diagnostic { hint: hint.or(self.hint), ..self }
    }

    /// The rule that a warning is about.
    pub fn rule(&self) -> Option<&'static Rule> {
        rules::by_code(self.code).filter(|_| self.severity == Severity::Warning)
    }

    /// Shows the mistake with its line and a caret, without a line end after the last line; a warning
    /// with the rule's name, so that it can be skipped:
    ///
    /// ```text
    /// Dockerfile:3:1: error: unknown instruction `FORM`
    ///    3 | FORM alpine
    ///      | ^^^^
    /// hint: did you mean FROM?
    /// ```
    ///
    /// A span over several lines is marked in its first line. Control characters are shown as their
    /// pictures and long lines as a window, so any text is safe to print.
    pub fn render(&self, source: &Source<'_>) -> String {
        let (line, column) = source.line_column(self.span.start);
        let mut out = String::new();
        escape(source.name, &mut out);
        if self.span != Span::NOWHERE {
            let _ = write!(out, ":{line}:{column}");
        }
        let _ = write!(out, ": {}: ", self.severity.as_str());
        escape(&self.message, &mut out);
        if let Some(rule) = self.rule() {
            let _ = write!(out, " [{}]", rule.name);
        }
        if self.span != Span::NOWHERE {
            let (text, marked) = source.excerpt(self.span);
            let (shown, caret) = excerpt(text, marked);
            let _ = write!(out, "\n{line:>4} | {shown}\n     | {caret}");
        }
        if let Some(hint) = &self.hint {
            out.push_str("\nhint: ");
            escape(hint, &mut out);
        }
        out
    }
}

/// Appends `text` with its control characters shown as pictures.
fn escape(text: &str, out: &mut String) {
    text.chars().for_each(|c| {
        shown(c, out);
    });
}

/// The line as shown and the caret line below it.
fn excerpt(line: &str, marked: Range<usize>) -> (String, String) {
    let (mut shown_line, mut caret) = (String::new(), String::new());
    let start = window_start(line, marked.start);
    if start > 0 {
        shown_line.push('…');
        caret.push(' ');
    }
    let mut width = 0;
    let mut marks = 0;
    for (at, c) in line[start..].char_indices().map(|(at, c)| (at + start, c)) {
        if width >= WINDOW_COLUMNS {
            shown_line.push('…');
            break;
        }
        let columns = shown(c, &mut shown_line);
        width += columns;
        if at < marked.start {
            caret.extend(std::iter::repeat_n(' ', columns));
        } else if at < marked.end {
            caret.extend(std::iter::repeat_n('^', columns));
            marks += columns;
        }
    }
    if marks == 0 {
        caret.push('^');
    }
    (shown_line, caret)
}

/// Where the window into a long line begins: a character boundary at or before the mistake.
fn window_start(line: &str, mistake: usize) -> usize {
    let total = line.chars().take(WINDOW_COLUMNS + 1).count();
    let before = line[..mistake].chars().rev().take(WINDOW_COLUMNS).count();
    if total <= WINDOW_COLUMNS || before <= WINDOW_COLUMNS / 2 {
        return 0;
    }
    line[..mistake].char_indices().rev().nth(WINDOW_BEFORE - 1).map_or(0, |(at, _)| at)
}

/// Quotes a user's text for a message: in backticks, and cut when it is long.
pub(crate) fn quote(text: &str) -> String {
    const LONGEST: usize = 60;
    match text.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("`{}…`", &text[..at]),
        None => format!("`{text}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(text: &str, start: usize, end: usize) -> String {
        let source = Source { name: "Dockerfile", text };
        Diagnostic::error("test", Span { start, end }, "wrong").render(&source)
    }

    #[test]
    fn the_line_and_a_caret_are_shown() {
        let source = Source { name: "Dockerfile", text: "FROM a\n\nFORM alpine\n" };
        let diagnostic =
            Diagnostic::error("unknown-instruction", Span { start: 8, end: 12 }, "unknown `FORM`")
                .hint("did you mean FROM?");
        let expected = "Dockerfile:3:1: error: unknown `FORM`\n   3 | FORM alpine\n     | ^^^^\nhint: did you mean FROM?";
        assert_eq!(diagnostic.render(&source), expected);
    }

    #[test]
    fn tabs_and_wide_characters_keep_the_caret_under_the_word() {
        assert_eq!(
            render("\tRUN x", 5, 6),
            "Dockerfile:1:6: error: wrong\n   1 |     RUN x\n     |         ^"
        );
        assert_eq!(render("中文 x", 7, 8), "Dockerfile:1:4: error: wrong\n   1 | 中文 x\n     |      ^");
    }

    #[test]
    fn an_empty_span_and_the_end_of_the_file_have_one_caret() {
        assert_eq!(render("RUN", 3, 3), "Dockerfile:1:4: error: wrong\n   1 | RUN\n     |    ^");
        assert_eq!(render("", 0, 0), "Dockerfile:1:1: error: wrong\n   1 | \n     | ^");
    }

    #[test]
    fn a_span_over_lines_is_marked_in_the_first() {
        assert_eq!(render("RUN a\r\n b", 4, 9), "Dockerfile:1:5: error: wrong\n   1 | RUN a\n     |     ^");
    }

    #[test]
    fn a_long_line_is_cut_around_the_mistake() {
        let text = format!("{}X{}", "a".repeat(500), "b".repeat(500));
        let shown = render(&text, 500, 501);
        assert!(shown.lines().all(|line| line.chars().count() < 140), "{shown}");
        assert_eq!(shown.lines().nth(2), Some(format!("     |  {}^", " ".repeat(40)).as_str()));
    }
}
