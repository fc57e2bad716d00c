//! What can go wrong in the store.

use std::io;
use std::path::{Path, PathBuf};

use crate::{DatabaseError, Digest, SnapshotId};

/// The result of an operation on the store.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or folder of the store could not be used.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no room left for what was to be written.
    #[error("the disk of the store is full: cannot {action} `{}`", path.display())]
    DiskFull {
        /// What was tried.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system or the database said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The database refused a question or a change.
    #[error("cannot use the store's database `{}`", path.display())]
    Database {
        /// Which database.
        path: PathBuf,
        /// What it said.
        source: DatabaseError,
    },
    /// The store has a format that this program doesn't know.
    #[error("the store `{}` has the format `{found}`, and this kiln knows `{known}` only", root.display())]
    UnknownVersion {
        /// Which store.
        root: PathBuf,
        /// The format that its file `version` names.
        found: String,
        /// The one format that is known.
        known: &'static str,
    },
    /// The folder holds other things.
    #[error("`{}` is no store of kiln and holds other files, such as `{other}`", root.display())]
    NotAStore {
        /// Which folder.
        root: PathBuf,
        /// One of the files.
        other: String,
    },
    /// The folder lies where locks and shared memory don't work between processes.
    #[error("the store `{}` would lie on a {filesystem} filesystem, where several processes can't share it safely",
        root.display())]
    UnsafeFilesystem {
        /// Which folder.
        root: PathBuf,
        /// What the filesystem is called.
        filesystem: &'static str,
    },
    /// The bytes that were written are not those that were expected.
    #[error("the content has the digest `{actual}` where `{expected}` was expected")]
    DigestMismatch {
        /// What was promised.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// A blob's file has changed since it was written.
    #[error("the blob `{digest}` is damaged: `{}` has other content", path.display())]
    DamagedBlob {
        /// Which blob.
        digest: Digest,
        /// Its file.
        path: PathBuf,
    },
    /// A blob is too large to be read into memory.
    #[error("the blob `{digest}` has {size} bytes, more than the {limit} that a document may have")]
    BlobTooLarge {
        /// Which blob.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
        /// The largest size in bytes.
        limit: u64,
    },
    /// The file of a pin can't be read any more.
    #[error("the pin of `{owner}` is damaged: `{}` doesn't say what it keeps", path.display())]
    DamagedPin {
        /// Whose pin.
        owner: String,
        /// Its file.
        path: PathBuf,
    },
    /// There is no such blob.
    #[error("the store has no blob `{digest}`")]
    NoBlob {
        /// Which blob.
        digest: Digest,
    },
    /// There is no such snapshot.
    #[error("the store has no snapshot `{id}`")]
    NoSnapshot {
        /// Which snapshot.
        id: SnapshotId,
    },
    /// There is no such image.
    #[error("the store has no image `{id}`")]
    NoImage {
        /// Which image.
        id: Digest,
    },
}

impl Error {
    /// Wraps an IO error, for `map_err`.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { action, path, source: source.into() }
            }
            _ => Self::Io { action, path, source },
        }
    }

    /// Returns whether there was no room on the disk.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::DiskFull { .. })
    }
}
