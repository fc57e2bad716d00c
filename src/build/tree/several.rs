//! Several trees as one.

use std::fs::File;

use kiln_cache::Digest;

use super::{Entry, Result, Tree, Xattrs, join};

/// A tree with others beside it, for a copy that reads more than one place.
///
/// The others stand under names that begin with NUL ([`beside`]), which no path has that a user can write: nothing
/// in the first tree hides them, and no link leads to them.
pub struct Several<'a> {
    first: Option<&'a dyn Tree>,
    others: Vec<(usize, &'a dyn Tree)>,
}

/// Where the tree `number` stands in a [`Several`].
pub fn beside(number: usize) -> Vec<u8> {
    format!("\0{number}").into_bytes()
}

impl<'a> Several<'a> {
    /// Puts numbered `others` beside `first`.
    pub fn new(first: Option<&'a dyn Tree>, others: Vec<(usize, &'a dyn Tree)>) -> Self {
        Self { first, others }
    }

    /// The tree that has `path`, the name that it stands under, and the path inside it.
    fn of<'p>(&self, path: &'p [u8]) -> Option<(&'a dyn Tree, &'p [u8], &'p [u8])> {
        if path.first() != Some(&0) {
            return Some((self.first?, b"", path));
        }
        let end = path.iter().position(|byte| *byte == b'/').unwrap_or(path.len());
        let (name, rest) = path.split_at(end);
        let (_, tree) = self.others.iter().find(|(number, _)| beside(*number) == name)?;
        Some((*tree, name, rest.strip_prefix(b"/").unwrap_or(rest)))
    }

    /// Hands `entry` to its tree, with the path that it has there.
    fn within<T>(&self, entry: &Entry, ask: impl FnOnce(&'a dyn Tree, &Entry) -> T) -> Option<T> {
        let (tree, name, path) = self.of(&entry.path)?;
        if name.is_empty() {
            return Some(ask(tree, entry));
        }
        Some(ask(tree, &Entry { path: path.to_vec(), ..entry.clone() }))
    }

    fn missing<T>(entry: &Entry) -> Result<T> {
        Err(super::Error::Changed { path: super::show(&entry.path) })
    }
}

impl Tree for Several<'_> {
    fn entry(&self, path: &[u8]) -> Result<Option<Entry>> {
        let Some((tree, name, inner)) = self.of(path) else { return Ok(None) };
        let entry = tree.entry(inner)?;
        Ok(entry.map(|entry| Entry { path: join(name, &entry.path), ..entry }))
    }

    fn children(&self, dir: &Entry) -> Result<Vec<Entry>> {
        let name = self.of(&dir.path).map_or(&b""[..], |(_, name, _)| name);
        let mut children = match self.within(dir, |tree, dir| tree.children(dir)) {
            Some(children) => children?,
            None => Vec::new(),
        };
        if !name.is_empty() {
            children.iter_mut().for_each(|entry| entry.path = join(name, &entry.path));
        }
        Ok(children)
    }

    fn open(&self, entry: &Entry) -> Result<File> {
        self.within(entry, |tree, entry| tree.open(entry)).unwrap_or_else(|| Self::missing(entry))
    }

    fn link_target(&self, entry: &Entry) -> Result<Vec<u8>> {
        self.within(entry, |tree, entry| tree.link_target(entry)).unwrap_or_else(|| Self::missing(entry))
    }

    fn xattrs(&self, entry: &Entry) -> Result<Xattrs> {
        self.within(entry, |tree, entry| tree.xattrs(entry)).unwrap_or_else(|| Self::missing(entry))
    }

    fn opened_xattrs(&self, file: &File, entry: &Entry) -> Result<Xattrs> {
        self.within(entry, |tree, entry| tree.opened_xattrs(file, entry))
            .unwrap_or_else(|| Self::missing(entry))
    }

    fn known_digest(&self, entry: &Entry) -> Option<Digest> {
        self.within(entry, |tree, entry| tree.known_digest(entry))?
    }

    fn remember_digest(&self, entry: &Entry, digest: Digest) {
        self.within(entry, |tree, entry| tree.remember_digest(entry, digest));
    }

    fn hides(&self, path: &[u8]) -> bool {
        self.of(path).is_some_and(|(tree, _, inner)| tree.hides(inner))
    }
}
