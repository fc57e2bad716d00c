//! What can go wrong between registries, archives and the store.

use std::io;

use kiln_cache::Digest;

use super::layer::LayerError;
use crate::api::{Failure, FailureKind, MAKE_ROOM};
use crate::oci::{Platform, ReferenceError};
use crate::registry;

/// A result of this module.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an image could not be moved, found or described.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] kiln_cache::Error),
    /// The registry failed.
    #[error(transparent)]
    Registry(#[from] Box<registry::Error>),
    /// A name is not one.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// No image has this name or id.
    #[error("no such image: {name}")]
    NotFound {
        /// As the user wrote it.
        name: String,
        /// A name that the user may have meant.
        closest: Option<String>,
    },
    /// More than one image has an id that begins so.
    #[error("`{prefix}` is the beginning of {count} image ids")]
    Ambiguous {
        /// As the user wrote it.
        prefix: String,
        /// How many.
        count: usize,
    },
    /// A layer's bytes are wrong, or can't be unpacked or packed.
    #[error("cannot {action} {layer}")]
    Layer {
        /// `unpack` or `pack`.
        action: &'static str,
        /// ``layer `sha256:…` ``, or what else it is called where it comes from.
        layer: String,
        /// Why.
        #[source]
        source: LayerError,
    },
    /// A layer's uncompressed bytes are not those of the image's config.
    #[error("{layer} unpacks to `{actual}` where the image's config says `{expected}`")]
    DiffId {
        /// The layer, as it is called where it comes from.
        layer: String,
        /// The diffID of the config.
        expected: Digest,
        /// The digest of what was unpacked.
        actual: Digest,
    },
    /// A layer's packed bytes could not be made again.
    #[error("layer `{layer}` can no longer be packed as it was: its archive was removed from the store")]
    Unpackable {
        /// Its diffID.
        layer: Digest,
    },
    /// A manifest, index or config makes no sense.
    #[error("{what} of {image} is not valid: {reason}")]
    Document {
        /// `the manifest`, `the config`.
        what: &'static str,
        /// Which image.
        image: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An index has nothing for the platform.
    #[error("{image} has no image for platform {platform}; it has {available}")]
    Platform {
        /// Which image.
        image: String,
        /// What was asked for.
        platform: Platform,
        /// What there is.
        available: String,
    },
    /// An archive that was to be loaded isn't one of images, or is damaged.
    #[error("cannot load the archive: {reason}")]
    Archive {
        /// What is wrong with it.
        reason: String,
    },
    /// The archive's tar is damaged.
    #[error("cannot read the archive")]
    ReadArchive(#[source] LayerError),
    /// A file or stream failed.
    #[error("cannot {action}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A container or another name still needs the image.
    #[error("{0}")]
    Conflict(String),
    /// The work was given up because other work failed.
    #[error("cancelled")]
    Cancelled,
}

impl From<registry::Error> for Error {
    fn from(error: registry::Error) -> Self {
        Self::Registry(Box::new(error))
    }
}

impl Error {
    /// Returns an error of reading or writing while trying to do `action`.
    pub(crate) fn io(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, source }
    }

    pub(crate) fn archive(reason: impl Into<String>) -> Self {
        Self::Archive { reason: reason.into() }
    }

    fn kind(&self) -> FailureKind {
        match self {
            Self::Store(error) if is_corrupt(error) => FailureKind::Corrupt,
            Self::Store(_) => FailureKind::System,
            Self::Registry(error) if error.is_corrupt() => FailureKind::Corrupt,
            Self::Registry(error) if error.is_not_found() => FailureKind::NotFound,
            Self::Registry(_) => FailureKind::Network,
            Self::Reference(_) | Self::Ambiguous { .. } => FailureKind::Invalid,
            Self::NotFound { .. } | Self::Platform { .. } => FailureKind::NotFound,
            Self::Layer { source, .. } | Self::ReadArchive(source) if source.is_corrupt() => {
                FailureKind::Corrupt
            }
            Self::DiffId { .. } | Self::Document { .. } | Self::Archive { .. } => FailureKind::Corrupt,
            Self::Conflict(_) => FailureKind::Conflict,
            Self::Cancelled => FailureKind::Cancelled,
            Self::Layer { .. } | Self::ReadArchive(_) | Self::Io { .. } | Self::Unpackable { .. } => {
                FailureKind::System
            }
        }
    }

    fn hint(&self) -> Option<String> {
        if self.is_disk_full() {
            return Some(MAKE_ROOM.to_owned());
        }
        match self {
            Self::NotFound { closest: Some(name), .. } => Some(format!("did you mean `{name}`?")),
            Self::NotFound { .. } => Some("list the local images with `kiln images`".to_owned()),
            Self::Ambiguous { .. } => Some("write more digits of the id".to_owned()),
            Self::Reference(error) => error.hint(),
            Self::Registry(error) => error.hint(),
            Self::Conflict(reason) if reason.contains("cannot be forced") => {
                Some("stop and remove that container first: `kiln rm -f CONTAINER`".to_owned())
            }
            Self::Conflict(_) => Some("remove it all the same with `kiln rmi -f`".to_owned()),
            Self::Store(kiln_cache::Error::DamagedPin { .. }) => {
                Some("`kiln system check` tells what to do about it".to_owned())
            }
            Self::Unpackable { .. } => Some("pull or load the image again".to_owned()),
            _ => None,
        }
    }

    /// Tells whether the disk had no room.
    pub fn is_disk_full(&self) -> bool {
        if matches!(self, Self::Store(error) if error.is_disk_full()) {
            return true;
        }
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<io::Error>() {
                return matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
            }
            cause = error.source();
        }
        false
    }
}

fn is_corrupt(error: &kiln_cache::Error) -> bool {
    use kiln_cache::Error::{DamagedBlob, DamagedPin, DigestMismatch};
    matches!(error, DigestMismatch { .. } | DamagedBlob { .. } | DamagedPin { .. })
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let failure = Failure::from_error(error.kind(), &error);
        match error.hint() {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}
