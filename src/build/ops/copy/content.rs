//! The digest of what a copy writes.

use std::fs::File;
use std::io::Read;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use kiln_cache::{Digest, Hasher, StreamHasher};

use crate::build::graph::CopySpec;
use crate::build::tree::{
    self, Entry, Error as TreeError, Kind, Tree, Xattrs, archive, restat, show, threads,
};

use super::{Error, Match, Result, Selected};

/// Changes when the encoding below changes.
const VERSION: &[u8] = b"kiln copy 3";

/// How much is read at once.
pub(super) const BUFFER: usize = 256 * 1024;

/// Files that one thread takes at a time.
const BATCH: usize = 32;

/// The most of them that stay together.
const MAX_BATCH: usize = 512;

/// What is known of one regular file of a selection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Content {
    /// [`file_digest`].
    pub(super) digest: Digest,
    /// Whether ADD unpacks it.
    pub(super) archive: bool,
}

/// Returns the digest of `selected`, reading what isn't known.
pub(super) fn digest(spec: &CopySpec, tree: &dyn Tree, selected: &Selected) -> Result<Digest> {
    let files = files(selected);
    let digests = digest_files(tree, &files)?;
    let mut contents: Vec<_> = digests.into_iter().map(|digest| Content { digest, archive: false }).collect();
    if selected.matches.iter().any(|found| matches!(found, Match::File { unpack: true, .. })) {
        mark_archives(tree, selected, &mut contents)?;
    }
    digest_with(spec, tree, selected, &contents)
}

/// Only sources themselves are unpacked, never what is in a directory.
fn mark_archives(tree: &dyn Tree, selected: &Selected, contents: &mut [Content]) -> Result<()> {
    let mut contents = contents.iter_mut();
    for found in &selected.matches {
        match found {
            Match::File { entry, unpack, .. } => {
                let content = contents.next().expect("there is one for each file");
                content.archive = *unpack && is_archive(tree, entry)?;
            }
            Match::Directory { entries, .. } => {
                let inside = entries.iter().filter(|entry| entry.kind == Kind::File).count();
                contents.by_ref().take(inside).for_each(drop);
            }
            Match::Inline { .. } => {}
        }
    }
    Ok(())
}

/// Tells whether ADD unpacks the file `entry`.
pub(super) fn is_archive(tree: &dyn Tree, entry: &Entry) -> Result<bool> {
    let fail = |source| Error::Archive { path: show(&entry.path), source };
    archive::is_archive(&tree.open(entry)?).map_err(fail)
}

/// The regular files of `selected`, in its order.
pub(super) fn files<'s>(selected: &'s Selected) -> Vec<&'s Entry> {
    let of = |found: &'s Match| -> Vec<&'s Entry> {
        match found {
            Match::File { entry, .. } => vec![entry],
            Match::Directory { entries, .. } => {
                entries.iter().filter(|entry| entry.kind == Kind::File).collect()
            }
            Match::Inline { .. } => Vec::new(),
        }
    };
    selected.matches.iter().flat_map(of).collect()
}

/// Returns the digest of `selected`, whose regular files have `contents`.
pub(super) fn digest_with(
    spec: &CopySpec,
    tree: &dyn Tree,
    selected: &Selected,
    contents: &[Content],
) -> Result<Digest> {
    let mut encoder = Encoder { spec, tree, hasher: Hasher::new(), contents: contents.iter() };
    encoder.bytes(VERSION);
    for found in &selected.matches {
        match found {
            Match::Inline { name, body } => {
                encoder.bytes(b"inline");
                encoder.bytes(name.as_bytes());
                encoder.bytes(body.as_bytes());
            }
            Match::File { name, entry, .. } => {
                encoder.bytes(b"file");
                encoder.entry(name, entry)?;
            }
            Match::Directory { top, entries } => {
                // The directory itself lends nothing: see `Copy::directory`.
                encoder.bytes(b"directory");
                for entry in entries {
                    encoder.entry(Match::relative(top, entry), entry)?;
                }
                encoder.bytes(b"end");
            }
        }
    }
    Ok(encoder.hasher.finish())
}

struct Encoder<'a> {
    spec: &'a CopySpec,
    tree: &'a dyn Tree,
    hasher: Hasher,
    contents: std::slice::Iter<'a, Content>,
}

impl Encoder<'_> {
    /// Length first, so that no two lists of fields look alike.
    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.hasher.update(bytes);
    }

    fn number(&mut self, number: u64) {
        self.hasher.update(&number.to_le_bytes());
    }

    fn entry(&mut self, relative: &[u8], entry: &Entry) -> Result<()> {
        self.bytes(relative);
        if entry.kind != Kind::Symlink {
            self.number(u64::from(self.spec.mode(entry.mode, entry.is_dir())));
        }
        // With --chown the owner is in the definition, and its meaning in the destination's rootfs.
        if !self.spec.reset_owner && self.spec.chown.is_none() {
            self.number(u64::from(entry.uid));
            self.number(u64::from(entry.gid));
        }
        match entry.kind {
            Kind::File => {
                let content = *self.contents.next().expect("there is one for each file");
                self.bytes(if content.archive { b"archive" } else { b"f" });
                self.hasher.update(content.digest.as_bytes());
            }
            Kind::Directory => {
                self.bytes(b"d");
                let xattrs = self.tree.xattrs(entry)?;
                self.xattrs(&xattrs);
            }
            Kind::Symlink => {
                self.bytes(b"l");
                let target = self.tree.link_target(entry)?;
                self.bytes(&target);
            }
            Kind::Fifo => self.bytes(b"p"),
            Kind::Socket => self.bytes(b"s"),
            Kind::CharDevice(major, minor) => self.device(b"c", major, minor),
            Kind::BlockDevice(major, minor) => self.device(b"b", major, minor),
        }
        Ok(())
    }

    fn device(&mut self, kind: &[u8], major: u32, minor: u32) {
        self.bytes(kind);
        self.number(u64::from(major));
        self.number(u64::from(minor));
    }

    fn xattrs(&mut self, xattrs: &Xattrs) {
        self.number(xattrs.len() as u64);
        for (name, value) in xattrs {
            self.bytes(name);
            self.bytes(value);
        }
    }
}

/// The digest of a file: of its bytes alone, or with its extended attributes if it has any.
///
/// One number for both, so that the memory of a tree (whose stat sees a change of either) spares
/// reading the attributes as well.
pub(super) fn file_digest(bytes: Digest, xattrs: &Xattrs) -> Digest {
    if xattrs.is_empty() {
        return bytes;
    }
    let mut hasher = Hasher::new();
    hasher.update(b"file with attributes");
    hasher.update(bytes.as_bytes());
    for (name, value) in xattrs {
        for field in [name, value] {
            hasher.update(&(field.len() as u64).to_le_bytes());
            hasher.update(field);
        }
    }
    hasher.finish()
}

/// Returns the digests of `files`, on several threads when many have to be read.
pub(super) fn digest_files(tree: &dyn Tree, files: &[&Entry]) -> Result<Vec<Digest>> {
    let mut digests: Vec<Option<Digest>> = files.iter().map(|entry| tree.known_digest(entry)).collect();
    let unknown: Vec<usize> = (0..files.len()).filter(|index| digests[*index].is_none()).collect();
    let read = in_parallel(&unknown, |_, _| false, |index, buffer| read_digest(tree, files[*index], buffer))?;
    for (index, digest) in unknown.into_iter().zip(read) {
        digests[index] = Some(digest);
    }
    Ok(digests.into_iter().map(|digest| digest.expect("each file was read")).collect())
}

/// Calls `work` for each item, on as many threads as pay, and keeps the order of the results.
///
/// Neighbours that are `together` go to one thread, up to a bound. `S` is what a thread keeps from one item to the
/// next.
pub(super) fn in_parallel<I: Sync, S: Default, T: Send>(
    items: &[I],
    together: impl Fn(&I, &I) -> bool,
    work: impl Fn(&I, &mut S) -> tree::Result<T> + Sync,
) -> Result<Vec<T>> {
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let batches = batches(items, together);
    // By batch, so that they aren't moved until all are there.
    let done = Mutex::new(Vec::with_capacity(batches.len()));
    let one_thread = || -> tree::Result<()> {
        let mut kept = S::default();
        while !failed.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(batch) = batches.get(number) else { break };
            let results: tree::Result<Vec<T>> = batch.iter().map(|item| work(item, &mut kept)).collect();
            let results = results.inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
            done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((number, results));
        }
        Ok(())
    };
    // One batch needs no helper, and nobody has to count the processors.
    let helpers = if batches.len() > 1 { threads().min(batches.len()) - 1 } else { 0 };
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..helpers).map(|_| scope.spawn(one_thread)).collect();
        let mut result = one_thread();
        for handle in handles {
            let other = handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            result = result.and(other);
        }
        result
    })?;
    let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_unstable_by_key(|(number, _)| *number);
    Ok(done.into_iter().flat_map(|(_, results)| results).collect())
}

/// Cuts `items` where a batch is full and neighbours aren't `together`.
fn batches<I>(items: &[I], together: impl Fn(&I, &I) -> bool) -> Vec<&[I]> {
    let mut batches = Vec::with_capacity(items.len().div_ceil(BATCH));
    let mut start = 0;
    for end in 1..=items.len() {
        let is_full = match end - start {
            ..BATCH => false,
            BATCH..MAX_BATCH => items.get(end).is_some_and(|next| !together(&items[end - 1], next)),
            _ => true,
        };
        if is_full || end == items.len() {
            batches.push(&items[start..end]);
            start = end;
        }
    }
    batches
}

fn read_digest(tree: &dyn Tree, entry: &Entry, buffer: &mut Vec<u8>) -> tree::Result<Digest> {
    let file = tree.open(entry)?;
    let before = restat(&file, entry)?;
    let bytes = hash_file(&file, entry, buffer)?;
    let digest = file_digest(bytes, &tree.opened_xattrs(&file, entry)?);
    // A file that was written meanwhile has some digest; it isn't worth remembering.
    if restat(&file, entry)?.is_unchanged(&before) {
        tree.remember_digest(&before, digest);
    }
    Ok(digest)
}

/// Hashes `file` from where it stands.
pub(super) fn hash_file(mut file: &File, entry: &Entry, buffer: &mut Vec<u8>) -> tree::Result<Digest> {
    buffer.resize(BUFFER, 0);
    let mut hasher = StreamHasher::new();
    loop {
        match file.read(buffer) {
            Ok(0) => return Ok(hasher.finish().0),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(source) => return Err(TreeError::io("read", &entry.path, source)),
        }
    }
}
