//! What can go wrong with volumes.

use std::io;
use std::path::{Path, PathBuf};

/// Why a volume could not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name has characters that no volume has.
    #[error("`{name}` is not a volume name: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")]
    Name {
        /// What was given.
        name: String,
    },
    /// There is none of this name.
    #[error("no such volume: {name}")]
    NotFound {
        /// What was given.
        name: String,
    },
    /// There is one already, which is not what was asked for.
    #[error("a volume named `{name}` already exists{}", if difference.is_empty() { String::new() } else { format!(", with {difference}") })]
    Exists {
        /// Its name.
        name: String,
        /// What it has instead.
        difference: String,
    },
    /// Containers use it.
    #[error("volume `{name}` is in use by {}", users.join(", "))]
    InUse {
        /// Its name.
        name: String,
        /// `container web`
        users: Vec<String>,
    },
    /// A driver, or an option of one, that isn't known.
    #[error("{message}")]
    Options {
        /// What is wrong.
        message: String,
        /// A thing to do.
        hint: String,
    },
    /// What its options ask for can't be mounted.
    #[error("cannot mount volume `{name}`: {what}: {reason}")]
    Mount {
        /// Its name.
        name: String,
        /// Kind and device.
        what: String,
        /// Why, in words.
        reason: String,
    },
    /// Its record is not what kiln writes.
    #[error("the record `{}` is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A file operation failed.
    #[error("cannot {action} `{}`", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },
}

/// The result of what is done to a volume.
pub type Result<T> = std::result::Result<T, Error>;

/// Says which file operation failed.
pub(super) trait At<T> {
    /// Names what was tried and on which path.
    fn at(self, action: &'static str, path: impl AsRef<Path>) -> Result<T>;
}

impl<T, E: Into<io::Error>> At<T> for std::result::Result<T, E> {
    fn at(self, action: &'static str, path: impl AsRef<Path>) -> Result<T> {
        self.map_err(|source| Error::File { action, path: path.as_ref().to_owned(), source: source.into() })
    }
}
