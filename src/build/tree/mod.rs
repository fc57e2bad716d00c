//! Trees of files that ops read: the build context, or the merged view of a chain of layers.
//!
//! A [`Tree`] is a root directory that nothing leads out of. It knows no links: every path handed to it
//! is relative, clean and free of symbolic links among its parents; [`resolve`] makes such a path by
//! following links inside the root, as a process whose `/` is the root would. Names are bytes.
//!
//! [`Merged`] reads layers in overlay form without mounting them. [`LayerWriter`] fills a fresh layer
//! on top of such a chain.

pub mod archive;
mod error;
mod known;
mod merged;
mod owner;
mod path;
mod raw;
mod resolve;
mod several;
mod walk;
mod wanted;
mod writer;

use std::fs::File;

use kiln_cache::Digest;

pub use error::{Error, Result};
pub use merged::Merged;
pub use owner::{Owner, lookup_owner};
pub use path::{clean, compare, inner, join, parent, show, split_last};
pub use resolve::{Resolved, resolve, way};
pub use several::{Several, beside};
pub use walk::{Filter, walk};
pub use writer::{Attributes, LayerWriter};

pub(crate) use known::{Digests, Known};
pub(crate) use walk::threads;
pub(crate) use wanted::Wanted;
pub(crate) use writer::{create_in, set_attributes};

pub(crate) use raw::{
    LastDir, file_xattrs, list_beneath, open_file, open_root, read_link, restat, stat_beneath,
};

/// What kind of thing an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket, which no layer can hold.
    Socket,
    /// A character device, `(major, minor)`.
    CharDevice(u32, u32),
    /// A block device, `(major, minor)`.
    BlockDevice(u32, u32),
}

/// A time of a file: seconds since 1970 and nanoseconds.
pub type Time = (i64, u32);

/// One name of a tree and what the filesystem says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The path relative to the tree's root; empty for the root itself.
    pub path: Vec<u8>,
    /// Its kind.
    pub kind: Kind,
    /// Permission bits, with set-id and sticky bits (`07777`).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size in bytes.
    pub size: u64,
    /// Last change of the content.
    pub mtime: Time,
    /// Last change of the inode.
    pub ctime: Time,
    /// The device that it is on.
    pub dev: u64,
    /// Its inode.
    pub ino: u64,
    /// How many names the inode has.
    pub names: u32,
    /// True for a directory that the tree hides, but below which it shows something.
    pub hollow: bool,
    /// Which layer has it, top first; 0 where there is one.
    pub(crate) layer: usize,
}

impl Entry {
    /// Returns true for a directory.
    pub fn is_dir(&self) -> bool {
        self.kind == Kind::Directory
    }

    /// Returns the name, without the directories above it.
    pub fn name(&self) -> &[u8] {
        split_last(&self.path).1
    }

    /// Tells whether `other` is this very file, unchanged.
    pub fn is_unchanged(&self, other: &Entry) -> bool {
        (self.dev, self.ino, self.size, self.mtime, self.ctime)
            == (other.dev, other.ino, other.size, other.mtime, other.ctime)
    }
}

/// Extended attributes by name, sorted.
pub type Xattrs = Vec<(Vec<u8>, Vec<u8>)>;

/// A readable tree of files.
pub trait Tree: Sync {
    /// Returns what stands at `path`, links not followed; `None` if nothing does, or the tree hides it.
    fn entry(&self, path: &[u8]) -> Result<Option<Entry>>;

    /// Returns what is in the directory `dir`, sorted by name.
    fn children(&self, dir: &Entry) -> Result<Vec<Entry>>;

    /// Opens a regular file for reading.
    ///
    /// An error if something else stands there by now.
    fn open(&self, entry: &Entry) -> Result<File>;

    /// Returns where the link `entry` points.
    fn link_target(&self, entry: &Entry) -> Result<Vec<u8>>;

    /// Returns the extended attributes that are copied: see [`is_copied_xattr`].
    fn xattrs(&self, entry: &Entry) -> Result<Xattrs>;

    /// Returns those of the regular file `entry`, which [`Tree::open`] opened.
    fn opened_xattrs(&self, file: &File, entry: &Entry) -> Result<Xattrs> {
        file_xattrs(file, &entry.path)
    }

    /// Returns the digest of a file's bytes and attributes, if it is known to be still right.
    fn known_digest(&self, _entry: &Entry) -> Option<Digest> {
        None
    }

    /// Remembers the digest of `entry`, which did not change while it was read.
    fn remember_digest(&self, _entry: &Entry, _digest: Digest) {}

    /// An error when nobody needs what is read any more: for work that takes long in one place.
    fn ensure_wanted(&self) -> Result<()> {
        Ok(())
    }

    /// Tells whether the tree hides something that stands at `path`.
    fn hides(&self, _path: &[u8]) -> bool {
        false
    }
}

/// Tells whether the extended attribute `name` is copied, keyed and packed.
///
/// These are `security.capability` and `user.*`, without overlayfs's own `user.overlay.*`.
pub fn is_copied_xattr(name: &[u8]) -> bool {
    name == b"security.capability" || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
}

#[cfg(test)]
pub(crate) mod merged_tests;
