//! Following symbolic links inside a root.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::{Entry, Error, Kind, Result, Tree, join, show};

/// As in the kernel (`MAXSYMLINKS`).
const MAX_LINKS: usize = 40;

/// Where a path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// The path without links, `.` and `..`.
    pub path: Vec<u8>,
    /// What stands there; `None` if nothing does.
    pub entry: Option<Entry>,
}

/// Follows every link of `path`, the last one too, as a process whose root is the tree's would.
///
/// `..` at the root stays at the root. Below something that is missing, the rest of the path is taken
/// as written. An error for a path through a file and for links that lead round.
pub fn resolve<T: Tree + ?Sized>(tree: &T, path: &[u8]) -> Result<Resolved> {
    resolve_with(path, |path| tree.entry(path), |entry| tree.link_target(entry))
}

/// Returns the directories and links that [`resolve`] comes by, the last one too if it is one: parents first, each
/// with where it points.
pub fn way<T: Tree + ?Sized>(tree: &T, path: &[u8]) -> Result<Vec<(Entry, Option<Vec<u8>>)>> {
    let seen = RefCell::new(BTreeMap::new());
    let note =
        |entry: &Entry, target| drop(seen.borrow_mut().insert(entry.path.clone(), (entry.clone(), target)));
    let look_up = |path: &[u8]| {
        let found = tree.entry(path)?;
        found.iter().filter(|entry| entry.is_dir()).for_each(|entry| note(entry, None));
        Ok(found)
    };
    let link_target = |entry: &Entry| {
        let target = tree.link_target(entry)?;
        note(entry, Some(target.clone()));
        Ok(target)
    };
    resolve_with(path, look_up, link_target)?;
    Ok(seen.into_inner().into_values().collect())
}

/// [`resolve`] over any way to look entries up.
pub(super) fn resolve_with(
    path: &[u8],
    look_up: impl Fn(&[u8]) -> Result<Option<Entry>>,
    link_target: impl Fn(&Entry) -> Result<Vec<u8>>,
) -> Result<Resolved> {
    let mut pending = parts(path);
    let mut found = Resolved { path: Vec::new(), entry: look_up(b"")? };
    let mut links = 0;
    while let Some(part) = pending.pop() {
        if part == b".." {
            let above = super::parent(&found.path).unwrap_or(b"").to_vec();
            found = Resolved { entry: look_up(&above)?, path: above };
            continue;
        }
        if found.entry.as_ref().is_some_and(|entry| !entry.is_dir()) {
            return Err(Error::NotDirectory { path: show(&found.path) });
        }
        let next = join(&found.path, &part);
        let entry = if found.entry.is_some() { look_up(&next)? } else { None };
        match entry {
            Some(entry) if entry.kind == Kind::Symlink => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(Error::Links { path: show(path) });
                }
                let target = link_target(&entry)?;
                if target.starts_with(b"/") {
                    found = Resolved { path: Vec::new(), entry: look_up(b"")? };
                }
                pending.extend(parts(&target));
            }
            entry => found = Resolved { path: next, entry },
        }
    }
    Ok(found)
}

/// The parts of `path`, last first.
fn parts(path: &[u8]) -> Vec<Vec<u8>> {
    let parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".");
    parts.rev().map(<[u8]>::to_vec).collect()
}
