//! Why a process could not be started, and how one ended.

use serde::{Deserialize, Serialize};

/// The class of a start's failure; it decides the exit code of `kiln run`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartErrorKind {
    /// The program isn't there: 127.
    NotFound,
    /// The program is there but can't be run: 126.
    NotExecutable,
    /// Anything else: 125.
    Other,
}

/// A process that could not be started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct StartError {
    /// The step that failed: `overlay`, `mount`, `user`, `exec`, ….
    pub stage: String,
    /// The class.
    pub kind: StartErrorKind,
    /// What failed, with its path or name and the reason.
    pub message: String,
    /// The kernel's error number; 0 when it wasn't the kernel.
    pub errno: i32,
    /// A thing to do.
    #[serde(default)]
    pub hint: Option<String>,
}

impl StartError {
    /// Makes an error of kiln's own, without an error number.
    pub fn new(stage: &str, message: impl Into<String>) -> StartError {
        StartError {
            stage: stage.into(),
            kind: StartErrorKind::Other,
            message: message.into(),
            errno: 0,
            hint: None,
        }
    }

    /// Returns docker's exit code for it: 125, 126 or 127.
    pub fn exit_code(&self) -> i32 {
        match self.kind {
            StartErrorKind::Other => 125,
            StartErrorKind::NotExecutable => 126,
            StartErrorKind::NotFound => 127,
        }
    }
}

/// Puts the stage and the object of a failed call beside its error number.
pub trait At<T> {
    /// Names the stage and, lazily, what was being done.
    fn at<S: Into<String>>(self, stage: &str, what: impl FnOnce() -> S) -> Result<T, StartError>;
}

impl<T, E: Into<std::io::Error>> At<T> for Result<T, E> {
    fn at<S: Into<String>>(self, stage: &str, what: impl FnOnce() -> S) -> Result<T, StartError> {
        self.map_err(|error| {
            let error = error.into();
            let errno = error.raw_os_error().unwrap_or(0);
            let reason = match error.raw_os_error() {
                Some(errno) => errno_text(errno),
                None => error.to_string(),
            };
            StartError {
                stage: stage.into(),
                kind: StartErrorKind::Other,
                message: format!("{}: {reason}", what().into()),
                errno,
                hint: None,
            }
        })
    }
}

/// Returns the kernel's words for an error number, in lower case and without Rust's `(os error N)`.
pub(super) fn errno_text(errno: i32) -> String {
    let text = std::io::Error::from_raw_os_error(errno).to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => format!("error {errno}"),
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl Exit {
    /// Returns the shell's code: 128 + the signal's number for a killed process.
    pub fn code(self) -> i32 {
        match self {
            Exit::Code(code) => code,
            Exit::Signal(signal) => 128 + signal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_dockers() {
        assert_eq!(Exit::Code(3).code(), 3);
        assert_eq!(Exit::Signal(9).code(), 137);
        assert_eq!(StartError::new("mount", "no").exit_code(), 125);
    }

    #[test]
    fn a_failed_call_says_what_it_was_doing() {
        let result: Result<(), _> = Err(rustix::io::Errno::NOENT);
        let error = result.at("mount", || "cannot mount `/proc`").unwrap_err();
        assert_eq!(error.message, "cannot mount `/proc`: no such file or directory");
        assert_eq!(error.errno, 2);
    }
}
