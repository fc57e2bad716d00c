//! Digests of files that were read once, for those who read them again soon.

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Mutex, PoisonError};

use kiln_cache::Digest;

use super::{Entry, Result, Time, Tree, Xattrs};

/// Digests of files of sealed layers, by what stat says of them.
#[derive(Debug, Default)]
pub(crate) struct Digests(Mutex<HashMap<Identity, Digest>>);

/// Device, inode, size, both times.
type Identity = (u64, u64, u64, Time, Time);

impl Digests {
    /// Forgets all of them.
    pub(crate) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// A tree that knows the digests of what was read before.
pub(crate) struct Known<'a> {
    tree: &'a dyn Tree,
    digests: &'a Digests,
}

impl<'a> Known<'a> {
    /// Returns `tree` with `digests`, which it adds to.
    pub(crate) fn new(tree: &'a dyn Tree, digests: &'a Digests) -> Self {
        Self { tree, digests }
    }
}

fn identity(entry: &Entry) -> Identity {
    (entry.dev, entry.ino, entry.size, entry.mtime, entry.ctime)
}

impl Tree for Known<'_> {
    fn entry(&self, path: &[u8]) -> Result<Option<Entry>> {
        self.tree.entry(path)
    }

    fn children(&self, dir: &Entry) -> Result<Vec<Entry>> {
        self.tree.children(dir)
    }

    fn open(&self, entry: &Entry) -> Result<File> {
        self.tree.open(entry)
    }

    fn link_target(&self, entry: &Entry) -> Result<Vec<u8>> {
        self.tree.link_target(entry)
    }

    fn xattrs(&self, entry: &Entry) -> Result<Xattrs> {
        self.tree.xattrs(entry)
    }

    fn opened_xattrs(&self, file: &File, entry: &Entry) -> Result<Xattrs> {
        self.tree.opened_xattrs(file, entry)
    }

    fn known_digest(&self, entry: &Entry) -> Option<Digest> {
        self.digests.0.lock().unwrap_or_else(PoisonError::into_inner).get(&identity(entry)).copied()
    }

    fn remember_digest(&self, entry: &Entry, digest: Digest) {
        self.digests.0.lock().unwrap_or_else(PoisonError::into_inner).insert(identity(entry), digest);
    }

    fn hides(&self, path: &[u8]) -> bool {
        self.tree.hides(path)
    }
}
