//! Why a runtime command failed, in the words that callers of runc look for.

use std::io;

use crate::runtime::StartError;

/// What every function here gives.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a runtime command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No container has the id.
    #[error("container does not exist")]
    Unknown,
    /// A container has the id already.
    #[error("container with given ID already exists")]
    Exists,
    /// The id can't be one.
    #[error("invalid container ID format")]
    BadId,
    /// What was asked needs a running one.
    #[error("container not running")]
    NotRunning,
    /// What was asked needs a paused one.
    #[error("container not paused")]
    NotPaused,
    /// Something is asked for that isn't done, or not now.
    #[error("{0}")]
    Refused(String),
    /// A process could not be started.
    #[error("unable to start container process: {0}")]
    Start(#[from] StartError),
    /// The system refused something.
    #[error("{what}: {source}")]
    System {
        /// What was being done.
        what: String,
        /// The reason.
        source: io::Error,
    },
}

impl Error {
    /// Returns a thing to do.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Error::Start(error) => error.hint.as_deref(),
            _ => None,
        }
    }
}

/// Puts what was being done beside the reason.
pub(super) trait Doing<T> {
    /// Names it, lazily.
    fn doing<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T>;
}

impl<T, E: Into<io::Error>> Doing<T> for std::result::Result<T, E> {
    fn doing<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|error| Error::System { what: what().into(), source: error.into() })
    }
}
