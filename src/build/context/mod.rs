//! The build context: a directory on the user's disk, read in place, without what `.dockerignore` hides.
//!
//! 1. [`ignore_for`] finds the ignore file that belongs to a Dockerfile.
//! 2. [`Context::open`] opens the directory. Nothing is walked yet.
//! 3. Ops read it as a [`Tree`]: only what they ask for is looked at.
//! 4. Digests of files come from the [`StatCache`] that earlier builds left, keyed by what stat says; what
//!    isn't known there is read. [`Context::save`] keeps what was learnt.
//!
//! A context that arrives as a tar archive is unpacked into a scratch folder first ([`unpack`]), and is then
//! read like any other, without digests from earlier builds.

mod ignore;
pub mod pattern;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use kiln_cache::{Digest, FileStat, StatCache};

pub use ignore::{Ignore, IgnoreError, Matched};

use super::tree::{self, Entry, Filter, LayerWriter, Merged, Owner, Tree, Xattrs, archive};

/// A context can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory can't be opened.
    #[error("cannot open the build context `{}`", path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The ignore file can't be read.
    #[error("cannot read `{}`", path.display())]
    ReadIgnore {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The ignore file has a mistake.
    #[error("cannot use `{}`", path.display())]
    Ignore {
        /// The file.
        path: PathBuf,
        /// The mistake.
        #[source]
        source: IgnoreError,
    },
    /// Standard input isn't a tar archive.
    #[error("the build context is not a tar archive")]
    NoArchive,
    /// The archive can't be unpacked.
    #[error("cannot unpack the build context")]
    Unpack {
        /// Why.
        #[source]
        source: archive::Error,
    },
}

/// Longest ignore file that is read.
const MAX_IGNORE_BYTES: u64 = 1 << 20;

/// Reads the ignore file of a build: `<Dockerfile>.dockerignore` if it exists, else the context's
/// own `.dockerignore`; hides nothing when there is neither.
///
/// What is inside the context is read inside it: links in it lead nowhere else.
pub fn ignore_for(dockerfile: Option<&Path>, context: &Path) -> Result<Ignore, Error> {
    let beside = dockerfile.map(|path| {
        let mut name = path.as_os_str().to_owned();
        name.push(".dockerignore");
        PathBuf::from(name)
    });
    let inside = Context::open(context, Ignore::default(), None)?;
    for path in beside.into_iter().chain([context.join(".dockerignore")]) {
        let text = match path.strip_prefix(context) {
            Ok(name) => inside.read(name, MAX_IGNORE_BYTES).map_err(io::Error::other),
            Err(_) => read_bounded(&path),
        };
        match text {
            Ok(None) => {}
            Ok(Some(text)) => return Ignore::parse(&text).map_err(|source| Error::Ignore { path, source }),
            Err(source) => return Err(Error::ReadIgnore { path, source }),
        }
    }
    Ok(Ignore::default())
}

fn read_bounded(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match std::fs::metadata(path) {
        Ok(found) if !found.is_file() => return Err(io::Error::other("it is not a regular file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        _ => {}
    }
    let mut text = Vec::new();
    File::open(path)?.take(MAX_IGNORE_BYTES).read_to_end(&mut text)?;
    Ok(Some(text))
}

/// Unpacks the archive `archive` (tar; plain, gzip, zstd, bzip2 or xz), which a user sent as a context, into the empty
/// folder `folder`.
///
/// Nothing in it leads out of the folder. Everything belongs to root in there; devices are refused.
pub fn unpack(archive: &File, folder: &Path) -> Result<(), Error> {
    let fail = |source| Error::Unpack { source };
    let mut from_start = archive;
    let mut rewind = || from_start.rewind().map_err(|source| fail(archive::Error::Read(source)));
    rewind()?;
    if !archive::is_archive(archive).map_err(fail)? {
        return Err(Error::NoArchive);
    }
    rewind()?;
    let write = || -> Result<(), archive::Error> {
        let nothing = Merged::open(&[] as &[&Path])?;
        let mut writer = LayerWriter::new(folder, &nothing, Owner::default())?;
        let options = archive::Options { owner: Some(Owner::default()), devices: false };
        archive::unpack(archive, &mut writer, b"", options)?;
        Ok(writer.finish()?)
    };
    write().map_err(fail)
}

/// Tells whether a downloaded file is an archive that [`unpack`] takes.
pub fn is_archive(file: &File) -> Result<bool, Error> {
    archive::is_archive(file).map_err(|source| Error::Unpack { source })
}

/// What permission bits the entries of a context have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Modes {
    /// Those of the files.
    #[default]
    AsIs,
    /// Those that git keeps, whatever the umask of a checkout was: 755 for directories and for files that their owner
    /// may execute, else 644.
    Git,
}

impl Modes {
    fn of(self, entry: &Entry) -> u32 {
        match self {
            Self::AsIs => entry.mode,
            Self::Git if entry.is_dir() || entry.mode & 0o100 != 0 => 0o755,
            Self::Git => 0o644,
        }
    }
}

/// A build context that is a directory.
pub struct Context {
    root: OwnedFd,
    dir: PathBuf,
    ignore: Ignore,
    modes: Modes,
    digests: Option<StatCache>,
    /// What [`Ignore`] knows of directories that were looked at.
    matched: Mutex<HashMap<Vec<u8>, Matched>>,
}

impl Context {
    /// Opens the directory `dir`.
    ///
    /// `digests` may know its files from earlier builds; without it every file that is asked for is read.
    pub fn open(dir: &Path, ignore: Ignore, digests: Option<StatCache>) -> Result<Self, Error> {
        let root = tree::open_root(dir).map_err(|source| Error::Open { path: dir.to_path_buf(), source })?;
        let dir = dir.to_path_buf();
        Ok(Self { root, dir, ignore, modes: Modes::AsIs, digests, matched: Mutex::default() })
    }

    /// Returns its directory, if digests of its files are kept from build to build.
    pub fn lasting_dir(&self) -> Option<&Path> {
        self.digests.is_some().then_some(&self.dir)
    }

    /// Shows all entries with these modes.
    #[must_use]
    pub fn with_modes(self, modes: Modes) -> Self {
        Self { modes, ..self }
    }

    /// Returns when the newest file that the context shows last changed, in unix seconds.
    pub fn newest(&self) -> tree::Result<Option<i64>> {
        let Some(root) = self.entry(b"")? else { return Ok(None) };
        let entries = tree::walk(self, &root, &())?;
        Ok(entries.iter().filter(|entry| !entry.is_dir()).map(|entry| entry.mtime.0).max())
    }

    /// Reads the first `limit` bytes of the file `path`, links followed inside the context; `None` if nothing
    /// is there or the ignore file hides it.
    pub fn read(&self, path: &Path, limit: u64) -> tree::Result<Option<Vec<u8>>> {
        let Some(entry) = tree::resolve(self, path.as_os_str().as_bytes())?.entry else { return Ok(None) };
        let mut bytes = Vec::new();
        let file = self.open(&entry)?;
        match file.take(limit).read_to_end(&mut bytes) {
            Ok(_) => Ok(Some(bytes)),
            Err(source) => Err(tree::Error::io("read", &entry.path, source)),
        }
    }

    /// Keeps the digests that were learnt for later builds; writes nothing if there are none.
    pub fn save(&self) -> kiln_cache::Result<()> {
        self.digests.as_ref().map_or(Ok(()), StatCache::save)
    }

    /// Tells whether `path` is hidden, and what its children need to know.
    fn check(&self, path: &[u8]) -> (bool, Matched) {
        let start = self.ignore.start();
        if self.ignore.is_empty() || path.is_empty() {
            return (false, start);
        }
        let above = tree::parent(path).unwrap_or(b"");
        self.ignore.check(&self.matched(above), path)
    }

    fn matched(&self, dir: &[u8]) -> Matched {
        if dir.is_empty() {
            return self.ignore.start();
        }
        if let Some(known) = self.lock().get(dir) {
            return known.clone();
        }
        let mut state = self.ignore.start();
        for level in ignore::levels(dir) {
            state = self.ignore.check(&state, level).1;
        }
        self.lock().insert(dir.to_vec(), state.clone());
        state
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Vec<u8>, Matched>> {
        self.matched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks or drops `entry` as the ignore file says.
    fn filter(&self, mut entry: Entry) -> Option<Entry> {
        entry.mode = self.modes.of(&entry);
        let hidden = self.check(&entry.path).0;
        entry.hollow = hidden;
        let shown = !hidden || (entry.is_dir() && self.ignore.may_show_below(&entry.path));
        shown.then_some(entry)
    }
}

impl Tree for Context {
    fn entry(&self, path: &[u8]) -> tree::Result<Option<Entry>> {
        let Some(mut entry) = tree::stat_beneath(self.root.as_fd(), path, 0)? else { return Ok(None) };
        if path.is_empty() {
            // The context's own folder may be a private scratch folder; its mode says nothing of an image.
            entry.mode = 0o755;
        }
        Ok(self.filter(entry))
    }

    fn children(&self, dir: &Entry) -> tree::Result<Vec<Entry>> {
        let mut found = tree::list_beneath(self.root.as_fd(), &dir.path)?;
        if !self.ignore.is_empty() || self.modes == Modes::Git {
            found = found.into_iter().filter_map(|entry| self.filter(entry)).collect();
        }
        found.sort_unstable_by(|left, right| left.path.cmp(&right.path));
        Ok(found)
    }

    fn open(&self, entry: &Entry) -> tree::Result<File> {
        tree::open_file(self.root.as_fd(), entry)
    }

    fn link_target(&self, entry: &Entry) -> tree::Result<Vec<u8>> {
        tree::read_link(self.root.as_fd(), &entry.path)
    }

    /// None: what a checkout, a backup or a desktop noted beside a file is no part of the context, as in BuildKit.
    fn xattrs(&self, _entry: &Entry) -> tree::Result<Xattrs> {
        Ok(Xattrs::new())
    }

    fn opened_xattrs(&self, _file: &File, _entry: &Entry) -> tree::Result<Xattrs> {
        Ok(Xattrs::new())
    }

    fn known_digest(&self, entry: &Entry) -> Option<Digest> {
        self.digests.as_ref()?.get(as_path(entry), &file_stat(entry, self.modes))
    }

    fn remember_digest(&self, entry: &Entry, digest: Digest) {
        if let Some(digests) = &self.digests {
            digests.put(as_path(entry), &file_stat(entry, self.modes), digest);
        }
    }

    fn hides(&self, path: &[u8]) -> bool {
        self.check(path).0 && matches!(tree::stat_beneath(self.root.as_fd(), path, 0), Ok(Some(_)))
    }
}

fn as_path(entry: &Entry) -> &Path {
    Path::new(OsStr::from_bytes(&entry.path))
}

/// Only regular files have digests. An entry has its own mode or that which the context shows: they are made equal.
fn file_stat(entry: &Entry, modes: Modes) -> FileStat {
    /// `S_IFREG`.
    const REGULAR: u32 = 0o100_000;
    const SECOND: i128 = 1_000_000_000;
    let nanoseconds = |(seconds, rest): tree::Time| i128::from(seconds) * SECOND + i128::from(rest);
    FileStat {
        dev: entry.dev,
        ino: entry.ino,
        size: entry.size,
        mode: REGULAR | modes.of(entry),
        uid: entry.uid,
        gid: entry.gid,
        mtime_ns: nanoseconds(entry.mtime),
        ctime_ns: nanoseconds(entry.ctime),
    }
}

#[cfg(test)]
mod tests;
