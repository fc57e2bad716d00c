//! Which files a source of `COPY --parents` names, and where they go.
//!
//! A source is `PIVOT/./PATTERN`, or a pattern alone, whose pivot is the root. The pattern is one of a
//! `.dockerignore` (with `**`), relative to the pivot; what it matches goes to the destination with all
//! directories between the pivot and itself. So the destination is always a directory, and what is selected is
//! a part of the pivot's tree.

use crate::build::context::pattern::has_wildcards;
use crate::build::context::{Ignore, IgnoreError, Matched};
use crate::build::tree::{Entry, Filter, Tree, clean, join, resolve, show, walk};

use super::select::{expand, without_escapes, without_sockets};
use super::{Error, Match, Result};

/// Returns one directory for each pivot that `source` has.
///
/// A source without wildcards that names nothing is an error.
pub(super) fn select(tree: &dyn Tree, source: &[u8], excludes: &Ignore) -> Result<Vec<Match>> {
    let (pivot, pattern) = split(source);
    let pattern = clean(pattern);
    let mut found = Vec::new();
    for path in expand(tree, pivot)? {
        let there = resolve(tree, &path)?;
        let not_found = || Error::NotFound { path: show(&path), ignored: tree.hides(&path) };
        let top = there.entry.ok_or_else(not_found)?;
        if !top.is_dir() {
            // As with a wildcard of a shell, only directories can have something below them.
            if has_wildcards(pivot) {
                continue;
            }
            return Err(crate::build::tree::Error::NotDirectory { path: show(&path) }.into());
        }
        if !has_wildcards(pivot) && !has_wildcards(&pattern) {
            require(tree, &top, &without_escapes(&pattern))?;
        }
        let entries = without_sockets(below(tree, &top, &pattern, excludes)?);
        found.push(Match::Directory { top, entries });
    }
    Ok(found)
}

/// Splits at the first `/./`.
fn split(source: &[u8]) -> (&[u8], &[u8]) {
    const PIVOT: &[u8] = b"/./";
    match source.windows(PIVOT.len()).position(|window| window == PIVOT) {
        Some(at) => (&source[..at], &source[at + PIVOT.len()..]),
        None => (b"", source),
    }
}

/// An error if there is nothing at `path` below `top`.
fn require(tree: &dyn Tree, top: &Entry, path: &[u8]) -> Result<()> {
    let path = join(&top.path, path);
    match tree.entry(&path)? {
        Some(entry) if !entry.hollow => Ok(()),
        Some(entry) if !walk(tree, &entry, &())?.is_empty() => Ok(()),
        _ if resolve(tree, &path)?.entry.is_some_and(|entry| entry.path != path) => {
            Err(Error::BehindLink { path: show(&path) })
        }
        _ => Err(Error::NotFound { path: show(&path), ignored: tree.hides(&path) }),
    }
}

fn below(tree: &dyn Tree, top: &Entry, pattern: &[u8], excludes: &Ignore) -> Result<Vec<Entry>> {
    let included = match pattern.is_empty() {
        true => Ignore::default(),
        false => Ignore::all_but(pattern).map_err(bad_pattern)?,
    };
    Ok(walk(tree, top, &Both(&included, excludes))?)
}

fn bad_pattern(error: IgnoreError) -> Error {
    match error {
        IgnoreError::Pattern(bad) => bad.into(),
        other @ IgnoreError::Empty => other.into(),
    }
}

/// What neither of the two hides.
struct Both<'a>(&'a Ignore, &'a Ignore);

impl Filter for Both<'_> {
    type State = (Matched, Matched);

    fn start(&self) -> Self::State {
        (self.0.start(), self.1.start())
    }

    fn descend(&self, state: &Self::State, relative: &[u8], is_dir: bool) -> Option<(Self::State, bool)> {
        let (first, hollow) = self.0.descend(&state.0, relative, is_dir)?;
        let (second, too) = self.1.descend(&state.1, relative, is_dir)?;
        Some(((first, second), hollow || too))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_dot_between_slashes_is_the_pivot() {
        for (source, pivot, pattern) in [
            ("a/b", "", "a/b"),
            ("./a/b", "", "./a/b"),
            ("a/./b/c", "a", "b/c"),
            ("./a/./b", "./a", "b"),
            ("a/././b", "a", "./b"),
            ("a/./b/./c", "a", "b/./c"),
            ("/./a", "", "a"),
            ("a/.", "", "a/."),
        ] {
            assert_eq!(split(source.as_bytes()), (pivot.as_bytes(), pattern.as_bytes()), "{source}");
        }
    }
}
