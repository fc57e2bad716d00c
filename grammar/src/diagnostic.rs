//! Mistakes in a Dockerfile, with the place where each stands.

use crate::ast::Span;

/// How much a mistake matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The file can't be built.
    Error,
    /// It can.
    Warning,
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
