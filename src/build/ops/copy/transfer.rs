//! Copying the bytes of one file into a layer.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use kiln_cache::{Digest, StreamHasher};
use rustix::io::Errno;

use crate::build::tree::{self, Entry, Error, Tree, Xattrs, restat};

use super::content::{BUFFER, file_digest, hash_file};

/// Files from this size on are asked for holes before the kernel copies them.
const HOLES_FROM: u64 = 1 << 20;

/// The most that the kernel copies before somebody may stop it.
const AT_ONCE: usize = 64 << 20;

/// What one file got.
pub(super) struct Copied {
    /// Its digest: of the bytes that were written.
    pub(super) digest: Digest,
    /// Its size.
    pub(super) bytes: u64,
    /// Whether it is a further name of an earlier layer's file.
    pub(super) is_shared: bool,
    /// Its extended attributes, which aren't set yet.
    pub(super) xattrs: Xattrs,
}

/// Copies files; remembers what the kernel can't do here.
#[derive(Default)]
pub(super) struct Copier {
    no_kernel_copy: AtomicBool,
}

impl Copier {
    /// Copies `entry` of `tree` into the empty file `to`, open for reading and writing.
    ///
    /// With a digest that is known, the kernel copies (or shares) the bytes, and the digest holds if the
    /// source is the same before and after. Else the bytes are hashed on their way.
    pub(super) fn copy(
        &self,
        tree: &dyn Tree,
        entry: &Entry,
        to: &File,
        buffer: &mut Vec<u8>,
    ) -> tree::Result<Copied> {
        let from = tree.open(entry)?;
        let before = restat(&from, entry)?;
        let xattrs = tree.opened_xattrs(&from, entry)?;
        let known = tree.known_digest(&before);
        if known.is_some() && self.kernel_copy(tree, (&from, to), &before)? {
            let unchanged = restat(&from, entry)?.is_unchanged(&before);
            return match known.filter(|_| unchanged) {
                Some(digest) => Ok(Copied { digest, bytes: before.size, is_shared: false, xattrs }),
                None => rehash(to, entry, xattrs, buffer),
            };
        }
        let (bytes, hash) = copy_and_hash(tree, (&from, to), entry, buffer)?;
        let digest = file_digest(hash, &xattrs);
        if restat(&from, entry)?.is_unchanged(&before) {
            tree.remember_digest(&before, digest);
        }
        Ok(Copied { digest, bytes, is_shared: false, xattrs })
    }

    /// Lets the kernel copy; false if it can't, and nothing was written.
    fn kernel_copy(&self, tree: &dyn Tree, (from, to): (&File, &File), entry: &Entry) -> tree::Result<bool> {
        if self.no_kernel_copy.load(Ordering::Relaxed) || has_holes(from, entry) {
            return Ok(false);
        }
        let mut copied = 0;
        while copied < entry.size {
            tree.ensure_wanted()?;
            let rest = usize::try_from(entry.size - copied).unwrap_or(usize::MAX);
            match rustix::fs::copy_file_range(from, None, to, None, rest.min(AT_ONCE)) {
                Ok(0) => break,
                Ok(count) => copied += count as u64,
                Err(Errno::INTR) => {}
                Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::PERM)
                    if copied == 0 =>
                {
                    self.no_kernel_copy.store(true, Ordering::Relaxed);
                    return Ok(false);
                }
                Err(source) => return Err(Error::io("copy", &entry.path, source)),
            }
        }
        Ok(true)
    }
}

/// A file with holes is copied by hand, so that they stay holes.
fn has_holes(file: &File, entry: &Entry) -> bool {
    if entry.size < HOLES_FROM {
        return false;
    }
    let hole = rustix::fs::seek(file, rustix::fs::SeekFrom::Hole(0));
    let back = rustix::fs::seek(file, rustix::fs::SeekFrom::Start(0));
    back.is_err() || hole.is_ok_and(|hole| hole < entry.size)
}

/// The source changed while the kernel copied: what counts is what arrived.
fn rehash(mut to: &File, entry: &Entry, xattrs: Xattrs, buffer: &mut Vec<u8>) -> tree::Result<Copied> {
    let fail = |source| Error::io("read back", &entry.path, source);
    to.seek(SeekFrom::Start(0)).map_err(fail)?;
    let digest = file_digest(hash_file(to, entry, buffer)?, &xattrs);
    let bytes = to.stream_position().map_err(fail)?;
    Ok(Copied { digest, bytes, is_shared: false, xattrs })
}

fn copy_and_hash(
    tree: &dyn Tree,
    (mut from, mut to): (&File, &File),
    entry: &Entry,
    buffer: &mut Vec<u8>,
) -> tree::Result<(u64, Digest)> {
    buffer.resize(BUFFER, 0);
    let mut hasher = StreamHasher::new();
    let mut hole = false;
    loop {
        tree.ensure_wanted()?;
        let count = match from.read(buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(Error::io("read", &entry.path, source)),
        };
        let chunk = &buffer[..count];
        hasher.update(chunk);
        // Whole buffers of zeros become holes: a sparse file doesn't fill the disk.
        hole = count == BUFFER && chunk.iter().all(|byte| *byte == 0);
        let result = match hole {
            true => to.seek(SeekFrom::Current(count as i64)).map(|_| ()),
            false => to.write_all(chunk),
        };
        result.map_err(|source| Error::io("write", &entry.path, source))?;
    }
    let (digest, bytes) = hasher.finish();
    if hole {
        to.set_len(bytes).map_err(|source| Error::io("write", &entry.path, source))?;
    }
    Ok((bytes, digest))
}
