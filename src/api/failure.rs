//! A failure as its user sees it.

use std::io;

use super::StepLog;

/// What to do when a disk has no room.
pub(crate) const MAKE_ROOM: &str = "make room: `kiln prune` removes what nothing needs";

/// What kind of failure it was; `cli` maps it to an exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The request can't be carried out as written (unknown image, bad flag value, bad Dockerfile).
    Invalid,
    /// What was asked for doesn't exist.
    NotFound,
    /// It is in use, or the name is taken.
    Conflict,
    /// A RUN step's program failed with this exit code.
    Step(i32),
    /// A container's program could not be found (127).
    CommandNotFound,
    /// A container's program can't be executed (126).
    CommandNotExecutable,
    /// A registry or the network failed.
    Network,
    /// Input that is hostile or damaged: digest mismatch, truncated layer, path outside the root.
    Corrupt,
    /// The machine lacks something: disk, privilege, kernel feature.
    System,
    /// The user stopped it.
    Cancelled,
}

/// Lines of a source file with the failing ones marked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    /// The file's name as the user gave it.
    pub file: String,
    /// `(line number from 1, text, marked)`.
    pub lines: Vec<(usize, String, bool)>,
}

/// A failure as its user sees it: what went wrong, why, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What kind it was.
    pub kind: FailureKind,
    /// One sentence, lower case, no full stop.
    pub message: String,
    /// The chain of reasons, outermost first.
    pub causes: Vec<String>,
    /// Things to do, each an imperative sentence.
    pub hints: Vec<String>,
    /// Rendered diagnostics, one per mistake, ready to print.
    pub diagnostics: Vec<String>,
    /// The part of the Dockerfile that failed.
    pub excerpt: Option<Excerpt>,
    /// The last output lines of the failing step, with its shown name.
    pub log_tail: Option<(String, Vec<String>)>,
    /// All that it wrote.
    pub log: Option<StepLog>,
}

impl Failure {
    /// Returns a failure with nothing but its kind and message.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            causes: Vec::new(),
            hints: Vec::new(),
            diagnostics: Vec::new(),
            excerpt: None,
            log_tail: None,
            log: None,
        }
    }

    /// Returns a failure from `error` and the chain of its sources.
    pub fn from_error(kind: FailureKind, error: &(dyn std::error::Error + 'static)) -> Self {
        let mut failure = Self::new(kind, error.to_string());
        let mut full = is_disk_full(error);
        let mut source = error.source();
        while let Some(cause) = source {
            failure.causes.push(cause.to_string());
            full |= is_disk_full(cause);
            source = cause.source();
        }
        if full { failure.hint(MAKE_ROOM) } else { failure }
    }

    /// Adds a thing to do, unless it is there already.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        let hint = hint.into();
        if !self.hints.contains(&hint) {
            self.hints.push(hint);
        }
        self
    }
}

fn is_disk_full(error: &(dyn std::error::Error + 'static)) -> bool {
    let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
    matches!(kind, Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
}
