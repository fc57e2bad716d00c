//! What ends a command early.

use std::io;

use super::template::TemplateError;
use crate::api::{Failure, FailureKind};

/// What ends a command early.
#[derive(Debug)]
pub(crate) enum Error {
    /// `--help` was asked for: this text goes to standard output.
    Help(String),
    /// The verb failed or was used wrongly.
    Failure(Box<Failure>),
    /// The same with an exit code that isn't the verb's.
    Coded(Box<Failure>, i32),
    /// Standard output can't be written.
    Output(io::Error),
}

impl Error {
    /// A mistake in the command line, with things to do.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::from(Failure::new(FailureKind::Invalid, message))
    }

    /// Adds a thing to do.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        if let Self::Failure(failure) | Self::Coded(failure, _) = &mut self {
            failure.hints.push(hint.into());
        }
        self
    }

    /// Sets the exit code.
    pub(crate) fn code(self, code: i32) -> Self {
        match self {
            Self::Failure(failure) => Self::Coded(failure, code),
            other => other,
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Failure(Box::new(failure))
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<TemplateError> for Error {
    fn from(error: TemplateError) -> Self {
        Self::usage(error.to_string())
    }
}
