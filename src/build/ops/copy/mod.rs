//! COPY, and ADD of local files: which files, what their digest is, and how they get into a layer.
//!
//! 1. [`select`] walks what the sources name in the source [`Tree`]; nothing else is looked at.
//! 2. [`content_digest`] is the `selected` part of the key: of what would be written, after owner and mode
//!    rules, never of a time. Digests of files come from the tree's memory or from reading them.
//! 3. [`execute`] writes the layer and says which digest the written bytes have. A record is put under
//!    that digest, so that a file edited in between can't poison the cache.
//!
//! Links are followed only for the sources themselves and for the destination, both inside their roots.

mod content;
mod listing;
mod parents;
mod reuse;
mod select;
mod transfer;
mod write;

use std::path::{Path, PathBuf};

use kiln_cache::{Digest, FileEntry};

use crate::build::context::IgnoreError;
use crate::build::context::pattern::BadPattern;
use crate::build::graph::CopySpec;
use crate::build::tree::{self, Merged, Owner, Tree, lookup_owner};

pub use reuse::Previous;
pub use select::{Match, Selected, select};

/// Why files can't be copied.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A source that isn't there.
    #[error("`{path}`: not found")]
    NotFound {
        /// As the user would write it, from the root.
        path: String,
        /// True when the ignore file hides it.
        ignored: bool,
    },
    /// A source of `--parents` that stands behind a link.
    #[error("`{path}` is behind a symbolic link, which --parents doesn't follow")]
    BehindLink {
        /// As the user would write it, from the root.
        path: String,
    },
    /// A source pattern that can't be read.
    #[error(transparent)]
    Pattern(#[from] BadPattern),
    /// An `--exclude` that can't be read.
    #[error("invalid `--exclude`")]
    Exclude(#[from] IgnoreError),
    /// A device, pipe or socket as a source of its own.
    #[error("cannot copy `{path}`: it is neither a file nor a directory")]
    Special {
        /// Its path in the source.
        path: String,
    },
    /// An archive for ADD that can't be unpacked.
    #[error("cannot unpack `{path}`")]
    Archive {
        /// Its path in the source.
        path: String,
        /// Why.
        #[source]
        source: crate::build::tree::archive::Error,
    },
    /// Reading the source or writing the layer failed.
    #[error(transparent)]
    Tree(#[from] tree::Error),
    /// The list of what was written can't be kept.
    #[error(transparent)]
    List(#[from] kiln_cache::Error),
}

/// The result of copying.
pub type Result<T> = std::result::Result<T, Error>;

/// What [`execute`] wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Bytes of regular files.
    pub bytes: u64,
    /// Those of them that were taken over from the layer that the same copy made before.
    pub shared_bytes: u64,
    /// Regular files, links and other names; directories too.
    pub entries: u64,
    /// The content digest of what was written; equal to [`content_digest`] if nothing changed meanwhile.
    pub digest: Digest,
}

/// Returns the digest of what `spec` would write from `source`, without its place and its owner by name.
pub fn content_digest(spec: &CopySpec, source: &dyn Tree) -> Result<Digest> {
    selected_digest(spec, source, &select(spec, source)?)
}

/// [`content_digest`] of what was selected already.
pub fn selected_digest(spec: &CopySpec, source: &dyn Tree, selected: &Selected) -> Result<Digest> {
    content::digest(spec, source, selected)
}

/// Returns whom `spec` gives what it writes to, by the users and groups of the rootfs `chain`; `None` without
/// a `--chown`.
pub fn owner(spec: &CopySpec, chain: &[PathBuf]) -> Result<Option<Owner>> {
    let Some(text) = &spec.chown else { return Ok(None) };
    Ok(Some(lookup_owner(&Merged::open(chain)?, text)?))
}

/// Where a copy writes.
pub struct Layer<'a> {
    /// The fresh layer's empty folder.
    pub folder: &'a Path,
    /// The folders of the layers below, in overlay form, base first.
    pub chain: &'a [PathBuf],
    /// The layer that the same copy made before, whose files may be taken over.
    pub previous: Option<Previous>,
    /// Takes the list of what was written, sorted by place.
    pub list: &'a mut dyn FnMut(&mut dyn Iterator<Item = FileEntry>) -> kiln_cache::Result<()>,
}

/// Copies into the empty folder `layer`, a fresh layer on top of `chain` (folders in overlay form, base first).
pub fn execute(spec: &CopySpec, source: &dyn Tree, chain: &[PathBuf], layer: &Path) -> Result<Written> {
    let list = &mut |_: &mut dyn Iterator<Item = FileEntry>| Ok(());
    let layer = Layer { folder: layer, chain, previous: None, list };
    execute_as(owner(spec, chain)?, spec, source, &select(spec, source)?, layer)
}

/// [`execute`] with an [`owner`] that was looked up elsewhere, and what was selected before.
pub fn execute_as(
    owner: Option<Owner>,
    spec: &CopySpec,
    source: &dyn Tree,
    selected: &Selected,
    layer: Layer<'_>,
) -> Result<Written> {
    write::execute((spec, owner), source, selected, layer)
}

#[cfg(test)]
mod tests;
