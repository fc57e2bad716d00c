//! What goes wrong with trees of files.

use std::io;

/// The result of reading or writing a tree.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a tree can't be read or a layer can't be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused.
    #[error("cannot {verb} `{path}`")]
    Io {
        /// What was tried: `open`, `read`.
        verb: &'static str,
        /// The path inside the tree, or of the tree.
        path: String,
        /// Its answer.
        #[source]
        source: io::Error,
    },
    /// The work was stopped.
    #[error("the reading was stopped")]
    Unwanted,
    /// Links that lead round, or too many.
    #[error("too many symbolic links in `{path}`")]
    Links {
        /// The path as asked for.
        path: String,
    },
    /// A path through something that isn't a directory.
    #[error("`{path}` is not a directory")]
    NotDirectory {
        /// What stands in the way.
        path: String,
    },
    /// A file changed its kind while it was read.
    #[error("`{path}` changed while it was read")]
    Changed {
        /// Its path.
        path: String,
    },
    /// A directory in the place of a file to write.
    #[error("cannot overwrite the directory `{path}` with a file")]
    OverwriteDirectory {
        /// Its path in the image.
        path: String,
    },
    /// A file in the place of a directory to write.
    #[error("cannot copy to `{path}`: it is not a directory")]
    OverwriteFile {
        /// Its path in the image.
        path: String,
    },
    /// A name that means a deletion in a layer.
    #[error("cannot copy `{path}`: names that start with `.wh.` mark deletions in an image's layers")]
    WhiteoutName {
        /// Its path in the source.
        path: String,
    },
    /// A device that can't be copied.
    #[error("cannot copy the device `{path}`")]
    Device {
        /// Its path in the source.
        path: String,
    },
    /// A user or group that the image doesn't know.
    #[error("unknown {what} `{name}`: the image's `{file}` doesn't have it")]
    UnknownOwner {
        /// `user` or `group`.
        what: &'static str,
        /// The name as asked for.
        name: String,
        /// `/etc/passwd` or `/etc/group`.
        file: &'static str,
    },
    /// Text that is no owner.
    #[error("invalid owner `{text}`: {reason}")]
    InvalidOwner {
        /// As written.
        text: String,
        /// What is wrong.
        reason: &'static str,
    },
}

impl Error {
    /// Wraps what the kernel said when `verb` was tried on the path `path` of a tree.
    pub(crate) fn io(verb: &'static str, path: &[u8], source: impl Into<io::Error>) -> Self {
        Self::Io { verb, path: super::show(path), source: source.into() }
    }
}
