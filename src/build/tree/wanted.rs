//! A tree that is read only as long as somebody wants it.

use std::fs::File;

use kiln_cache::Digest;

use super::{Entry, Error, Result, Tree, Xattrs};

/// A tree for work that may become useless: from then on reading it is an error.
pub(crate) struct Wanted<'a> {
    tree: &'a dyn Tree,
    is_wanted: &'a (dyn Fn() -> bool + Sync),
}

impl<'a> Wanted<'a> {
    /// Returns `tree` for as long as `is_wanted` says so.
    pub(crate) fn new(tree: &'a dyn Tree, is_wanted: &'a (dyn Fn() -> bool + Sync)) -> Self {
        Self { tree, is_wanted }
    }
}

impl Tree for Wanted<'_> {
    fn ensure_wanted(&self) -> Result<()> {
        if (self.is_wanted)() { Ok(()) } else { Err(Error::Unwanted) }
    }

    fn entry(&self, path: &[u8]) -> Result<Option<Entry>> {
        self.ensure_wanted()?;
        self.tree.entry(path)
    }

    fn children(&self, dir: &Entry) -> Result<Vec<Entry>> {
        self.ensure_wanted()?;
        self.tree.children(dir)
    }

    fn open(&self, entry: &Entry) -> Result<File> {
        self.ensure_wanted()?;
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
        self.tree.known_digest(entry)
    }

    fn remember_digest(&self, entry: &Entry, digest: Digest) {
        self.tree.remember_digest(entry, digest);
    }

    fn hides(&self, path: &[u8]) -> bool {
        self.tree.hides(path)
    }
}
