//! Which files the sources of a copy name.

use crate::build::context::Ignore;
use crate::build::context::pattern::{Glob, has_wildcards};
use crate::build::graph::{CopySource, CopySpec};
use crate::build::ops::remote::FILE as REMOTE_FILE;
use crate::build::tree::{Entry, Kind, Tree, beside, clean, join, resolve, show, split_last, walk};

use super::{Error, Result, parents};

/// What the sources of a copy name, in the order of the sources; matches of a wildcard are sorted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    /// One for each file, directory or inline file.
    pub matches: Vec<Match>,
}

/// One thing to copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// A file of the source tree.
    File {
        /// What it is called at a destination that is a directory.
        name: Vec<u8>,
        /// The file itself, links followed.
        entry: Entry,
        /// Whether it is unpacked if it is an archive.
        unpack: bool,
    },
    /// A directory of the source tree, whose content is copied.
    Directory {
        /// The directory itself.
        top: Entry,
        /// All that is below it, sorted.
        entries: Vec<Entry>,
    },
    /// A heredoc.
    Inline {
        /// Its name.
        name: String,
        /// Its bytes.
        body: String,
    },
}

/// Finds what the sources of `spec` name in `tree`.
///
/// A plain path that doesn't exist is an error; a wildcard may match nothing.
pub fn select(spec: &CopySpec, tree: &dyn Tree) -> Result<Selected> {
    let excludes = Ignore::new(spec.excludes.iter().map(String::as_bytes))?;
    let mut matches = Vec::new();
    for source in &spec.sources {
        match source {
            CopySource::Inline { name, body } => {
                matches.push(Match::Inline { name: name.clone(), body: body.clone() });
            }
            CopySource::Path(path) if spec.parents => {
                matches.extend(parents::select(tree, path.as_bytes(), &excludes)?);
            }
            CopySource::Path(path) => {
                for path in expand(tree, path.as_bytes())? {
                    let name = split_last(&path).1;
                    matches.extend(take(tree, (&path, name), &excludes, spec.unpack)?);
                }
            }
            CopySource::Remote { read, name, unpack, .. } => {
                let place = beside(*read);
                let found = match name {
                    Some(name) => {
                        let file = join(&place, REMOTE_FILE.as_bytes());
                        take(tree, (&file, name.as_bytes()), &excludes, *unpack)?
                    }
                    None => take(tree, (&place, b""), &excludes, false)?,
                };
                matches.extend(found);
            }
        }
    }
    Ok(Selected { matches })
}

/// Returns the paths that `source` names: itself, or the matches of a wildcard.
pub(super) fn expand(tree: &dyn Tree, source: &[u8]) -> Result<Vec<Vec<u8>>> {
    let source = clean(source);
    if !has_wildcards(&source) {
        return Ok(vec![unescape(tree, source)?]);
    }
    let parts: Vec<&[u8]> = source.split(|byte| *byte == b'/').collect();
    let plain = parts.iter().take_while(|part| !has_wildcards(part)).count();
    let globs =
        parts[plain..].iter().map(|part| Glob::new(part)).collect::<std::result::Result<Vec<_>, _>>()?;
    let base = resolve(tree, &parts[..plain].join(&b'/'))?;
    let mut level: Vec<Entry> = base.entry.into_iter().collect();
    for (depth, glob) in globs.iter().enumerate() {
        let mut next = Vec::new();
        for dir in level.iter().filter(|entry| entry.is_dir()) {
            next.extend(tree.children(dir)?.into_iter().filter(|entry| glob.matches(entry.name())));
        }
        if depth + 1 < globs.len() {
            next.retain(Entry::is_dir);
        }
        level = next;
    }
    // The name under which a link matched stays, so the path is taken again by `take`.
    let mut paths: Vec<_> = level.into_iter().filter(|entry| entry.kind != Kind::Socket).collect();
    drop_empty_hollow(tree, &mut paths)?;
    Ok(paths.into_iter().map(|entry| entry.path).collect())
}

/// Drops directories that are hidden with all that is in them.
fn drop_empty_hollow(tree: &dyn Tree, entries: &mut Vec<Entry>) -> Result<()> {
    let mut kept = Vec::with_capacity(entries.len());
    for entry in entries.drain(..) {
        if !entry.hollow || !walk(tree, &entry, &())?.is_empty() {
            kept.push(entry);
        }
    }
    *entries = kept;
    Ok(())
}

/// Takes `\x` for `x` when nothing is called `\x`.
fn unescape(tree: &dyn Tree, path: Vec<u8>) -> Result<Vec<u8>> {
    if !path.contains(&b'\\') || resolve(tree, &path)?.entry.is_some() {
        return Ok(path);
    }
    Ok(without_escapes(&path))
}

/// `x` for each `\x`.
pub(super) fn without_escapes(path: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(path.len());
    let mut bytes = path.iter();
    while let Some(&byte) = bytes.next() {
        plain.push(if byte == b'\\' { *bytes.next().unwrap_or(&byte) } else { byte });
    }
    plain
}

/// Looks at one path, which is called `name`; `None` when an exclude takes it away.
fn take(
    tree: &dyn Tree,
    (path, name): (&[u8], &[u8]),
    excludes: &Ignore,
    unpack: bool,
) -> Result<Option<Match>> {
    let found = resolve(tree, path)?;
    let not_found =
        || Error::NotFound { path: show(path), ignored: tree.hides(path) || tree.hides(&found.path) };
    let entry = found.entry.clone().ok_or_else(not_found)?;
    match entry.kind {
        Kind::Directory => {
            let entries = entries_below(tree, &entry, excludes)?;
            if entry.hollow && entries.is_empty() {
                return Err(not_found());
            }
            Ok(Some(Match::Directory { top: entry, entries }))
        }
        Kind::File => {
            let name = name.to_vec();
            Ok((!excludes.matches(&name)).then_some(Match::File { name, entry, unpack }))
        }
        _ => Err(Error::Special { path: show(path) }),
    }
}

fn entries_below(tree: &dyn Tree, top: &Entry, excludes: &Ignore) -> Result<Vec<Entry>> {
    let entries = match excludes.is_empty() {
        true => walk(tree, top, &())?,
        false => walk(tree, top, excludes)?,
    };
    Ok(without_sockets(entries))
}

/// A socket belongs to the process that listens on it; no layer can hold one.
pub(super) fn without_sockets(mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.retain(|entry| entry.kind != Kind::Socket);
    entries
}

impl Match {
    /// Returns the path of `entry` relative to this match's own directory.
    pub fn relative<'e>(top: &Entry, entry: &'e Entry) -> &'e [u8] {
        match top.path.len() {
            0 => &entry.path,
            length => &entry.path[length + 1..],
        }
    }

    /// Returns where `entry`, below `top`, goes under `target`.
    pub(super) fn place(target: &[u8], top: &Entry, entry: &Entry) -> Vec<u8> {
        join(target, Self::relative(top, entry))
    }
}
