//! What is legal but unwise.

use crate::ast::Dockerfile;
use crate::diagnostic::Diagnostic;

/// Adds warnings about a file.
pub(crate) fn check(_file: &Dockerfile, _diagnostics: &mut Vec<Diagnostic>) {}
