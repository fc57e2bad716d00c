//! Walking a tree, on several threads when it is large.

use std::collections::HashSet;
use std::sync::{Condvar, Mutex, PoisonError};

use super::{Entry, Result, Tree, compare, parent};
use crate::sys;

/// Directories that are read before other threads are asked to help.
const ALONE_DIRECTORIES: usize = 64;

/// Decides what a walk leaves out.
pub trait Filter: Sync {
    /// What is known about a directory and needed for its children.
    type State: Clone + Send + Sync;

    /// Returns the state of the directory where the walk begins.
    fn start(&self) -> Self::State;

    /// Decides about `relative`, whose parent has `state`: `None` drops it with all that is below;
    /// else its own state, and whether it is shown only if something below it is.
    fn descend(&self, state: &Self::State, relative: &[u8], is_dir: bool) -> Option<(Self::State, bool)>;
}

/// Leaves nothing out.
impl Filter for () {
    type State = ();

    fn start(&self) {}

    fn descend(&self, (): &(), _relative: &[u8], _is_dir: bool) -> Option<((), bool)> {
        Some(((), false))
    }
}

/// Returns all that is below the directory `top`, sorted by [`compare`], without `top` itself.
///
/// Paths given to `filter` are relative to `top`. Hollow directories without anything shown in them
/// are left out.
pub fn walk<F: Filter>(tree: &dyn Tree, top: &Entry, filter: &F) -> Result<Vec<Entry>> {
    let skip = if top.path.is_empty() { 0 } else { top.path.len() + 1 };
    let mut pending = vec![(top.clone(), filter.start())];
    let mut found = Vec::new();
    let mut directories = 0;
    while let Some((dir, state)) = pending.pop() {
        read_dir(tree, filter, skip, (&dir, &state), &mut found, &mut pending)?;
        directories += 1;
        if directories == ALONE_DIRECTORIES && pending.len() > 1 && threads() > 1 {
            found.extend(walk_together(tree, filter, skip, std::mem::take(&mut pending))?);
        }
    }
    found.sort_unstable_by(|left, right| compare(&left.path, &right.path));
    drop_hollow(&mut found);
    Ok(found)
}

fn read_dir<F: Filter>(
    tree: &dyn Tree,
    filter: &F,
    skip: usize,
    (dir, state): (&Entry, &F::State),
    found: &mut Vec<Entry>,
    pending: &mut Vec<(Entry, F::State)>,
) -> Result<()> {
    for mut child in tree.children(dir)? {
        let Some((state, hollow)) = filter.descend(state, &child.path[skip..], child.is_dir()) else {
            continue;
        };
        child.hollow |= hollow;
        if child.is_dir() {
            pending.push((child.clone(), state));
        } else if child.hollow {
            continue;
        }
        found.push(child);
    }
    Ok(())
}

/// How many threads work on files at once.
pub(crate) fn threads() -> usize {
    /// Beyond this, threads only wait for each other's directory locks.
    const MOST: usize = 8;
    sys::processors().min(MOST)
}

struct Shared<S> {
    pending: Vec<(Entry, S)>,
    busy: usize,
    failed: bool,
}

fn walk_together<F: Filter>(
    tree: &dyn Tree,
    filter: &F,
    skip: usize,
    pending: Vec<(Entry, F::State)>,
) -> Result<Vec<Entry>> {
    let shared = (Mutex::new(Shared { pending, busy: 0, failed: false }), Condvar::new());
    let results: Vec<Result<Vec<Entry>>> = std::thread::scope(|scope| {
        let workers: Vec<_> =
            (0..threads()).map(|_| scope.spawn(|| work(tree, filter, skip, &shared))).collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let mut all = Vec::new();
    for result in results {
        all.extend(result?);
    }
    Ok(all)
}

fn work<F: Filter>(
    tree: &dyn Tree,
    filter: &F,
    skip: usize,
    (shared, changed): &(Mutex<Shared<F::State>>, Condvar),
) -> Result<Vec<Entry>> {
    let lock = || shared.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut found, mut below) = (Vec::new(), Vec::new());
    loop {
        let mut state = lock();
        let (dir, filter_state) = loop {
            if state.failed {
                return Ok(found);
            }
            if let Some(next) = state.pending.pop() {
                break next;
            }
            if state.busy == 0 {
                changed.notify_all();
                return Ok(found);
            }
            state = changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        state.busy += 1;
        drop(state);
        let result = read_dir(tree, filter, skip, (&dir, &filter_state), &mut found, &mut below);
        let mut state = lock();
        state.busy -= 1;
        state.failed |= result.is_err();
        state.pending.append(&mut below);
        drop(state);
        changed.notify_all();
        result?;
    }
}

/// Drops the hollow directories of a sorted list that have nothing in them.
fn drop_hollow(entries: &mut Vec<Entry>) {
    if !entries.iter().any(|entry| entry.hollow) {
        return;
    }
    let mut kept: HashSet<Vec<u8>> = HashSet::new();
    for entry in entries.iter().rev() {
        if !entry.hollow || kept.contains(&entry.path) {
            kept.extend(parent(&entry.path).map(<[u8]>::to_vec));
        }
    }
    entries.retain(|entry| !entry.hollow || kept.contains(&entry.path));
}
