//! What a copy takes over from the layer that the same copy made before: a file that is still the same becomes a
//! further name of the same inode.
//!
//! Linking is what pays: for 20,000 files of 10 KB on XFS it takes 0.18 s of processor time, where reflinks take
//! 0.70 s and copying 0.75 s; nearly all of that is for making inodes. What shows of it: `stat` in a later step
//! counts the names of all layers together. The image doesn't: its tar knows only the names of one layer.
//!
//! - A file is taken over if it has the same place, content, mode, owner and time, to the nanosecond.
//! - Files with extended attributes, and those with a second name in either layer, are made anew: so no two names
//!   of one layer share an inode that the source has twice.
//! - Nobody changes such an inode: layers are sealed, and a copy only creates, links and unlinks.
//! - Where linking fails (another filesystem, too many names), the file is copied.

use std::iter::Peekable;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use kiln_cache::{Digest, FileEntry, FileKind, FileList};
use rustix::fs::AtFlags;

use crate::build::tree::{self, Attributes, LastDir, compare, open_root, split_last};

/// A layer that an earlier execution of a copy made, and that is held.
pub struct Previous {
    root: OwnedFd,
    list: Peekable<FileList>,
}

impl Previous {
    /// Reads the layer `folder`, which `list` describes; `None` if it can't be opened.
    pub fn open(folder: &Path, list: FileList) -> Option<Self> {
        Some(Self { root: open_root(folder).ok()?, list: list.peekable() })
    }

    /// Tells whether the layer has just this file at `place`; ask for one place after another.
    pub(super) fn has(&mut self, place: &[u8], digest: &Digest, attributes: &Attributes) -> bool {
        while let Some(Ok(entry)) = self.list.peek() {
            match compare(&entry.place, place) {
                std::cmp::Ordering::Less => drop(self.list.next()),
                std::cmp::Ordering::Equal => return is_same(entry, digest, attributes),
                std::cmp::Ordering::Greater => return false,
            }
        }
        false
    }

    /// Makes the layer's file `place` the file `name` in `dir`, too; false if that can't be.
    pub(super) fn link(
        &self,
        last: &mut LastDir,
        place: &[u8],
        (dir, name): (BorrowedFd<'_>, &[u8]),
    ) -> tree::Result<bool> {
        let (above, own_name) = split_last(place);
        let from = last.open(self.root.as_fd(), above)?;
        Ok(rustix::fs::linkat(from, own_name, dir, name, AtFlags::empty()).is_ok())
    }
}

fn is_same(entry: &FileEntry, digest: &Digest, attributes: &Attributes) -> bool {
    entry.kind == FileKind::File
        && !entry.attributed
        && !entry.linked
        && entry.digest.as_ref() == Some(digest)
        && entry.mode == attributes.mode & 0o7777
        && (entry.uid, entry.gid) == (attributes.owner.uid, attributes.owner.gid)
        && Some(entry.mtime) == attributes.mtime
}
