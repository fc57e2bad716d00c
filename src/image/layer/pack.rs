//! The canonical tar of a layer: a function of the folder and the rule of times, and of nothing else.
//!
//! Sorted names; ustar headers with PAX records only where a value doesn't fit; whole seconds; numeric
//! owners; no sockets; the first name of a hard-link group is the file. Whiteouts are empty files of mode 0
//! and time 0. The root appears only when its mode, owner or attributes differ from 0755 0:0 without any.
//! A change here changes diffIDs: count [`TAR_VERSION`] up.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use kiln_cache::{Digest, StreamHasher};
use rustix::fs::FileType;

use super::error::LayerError;
use super::times::Times;
use super::walk::{Attributes, Markers, Node, walk, walk_live, xattrs};
use super::write::{Header, TarWriter};

/// Version of the canonical form.
pub const TAR_VERSION: u32 = 1;
/// Bytes read at once from a file.
const BUFFER: usize = 256 << 10;

/// Writes the canonical tar of the layer in `dir`.
pub fn tar(dir: &Path, out: &mut dyn Write, times: Times) -> Result<(), LayerError> {
    let times = [times];
    let mut packer = Packer::new(out, &times);
    walk(&[dir.to_owned()], Markers::Show, &mut |node| packer.add(node, Markers::Show))?;
    packer.finish()
}

/// Writes the root filesystem that `dirs` (base first, each with its rule of times) make together as a tar.
pub fn tar_merged(dirs: &[(PathBuf, Times)], out: &mut dyn Write) -> Result<(), LayerError> {
    let (dirs, times): (Vec<_>, Vec<_>) = dirs.iter().cloned().unzip();
    let mut packer = Packer::new(out, &times);
    walk(&dirs, Markers::Apply, &mut |node| packer.add(node, Markers::Apply))?;
    packer.finish()
}

/// Writes the tar of the layer in `dir`, which a running container may change meanwhile, without the paths that
/// `is_left_out` names. What disappears before it is read was never there; what shrinks is filled up with zeros.
pub fn tar_live(
    dir: &Path,
    is_left_out: &dyn Fn(&[u8]) -> bool,
    out: &mut dyn Write,
) -> Result<(), LayerError> {
    live(&[dir.to_owned()], Markers::Show, is_left_out, out)
}

/// Writes the root filesystem that `dirs` (base first) make together as a tar; the uppermost may change meanwhile.
pub fn tar_merged_live(dirs: &[PathBuf], out: &mut dyn Write) -> Result<(), LayerError> {
    live(dirs, Markers::Apply, &|_| false, out)
}

fn live(
    dirs: &[PathBuf],
    markers: Markers,
    is_left_out: &dyn Fn(&[u8]) -> bool,
    out: &mut dyn Write,
) -> Result<(), LayerError> {
    let times = vec![Times::Kept; dirs.len()];
    let mut packer = Packer { live: true, ..Packer::new(out, &times) };
    walk_live(dirs, markers, &mut |node| {
        if is_left_out(node.path) {
            return Ok(());
        }
        match packer.add(node, markers) {
            Err(error) if error.is_gone() => {
                packer.forget(node);
                Ok(())
            }
            added => added,
        }
    })?;
    packer.finish()
}

/// Returns the digest and the length of the canonical tar of `dir`.
pub fn diff_id(dir: &Path, times: Times) -> Result<(Digest, u64), LayerError> {
    let mut hasher = StreamHasher::new();
    tar(dir, &mut hasher, times)?;
    Ok(hasher.finish())
}

pub(super) struct Packer<'a> {
    out: TarWriter<'a>,
    /// The files may change while they are read.
    live: bool,
    /// By layer.
    times: &'a [Times],
    /// First names of files with more than one, by layer and inode. Two layers may share an inode by the
    /// store's own linking, which is none of the layer's business.
    links: HashMap<(usize, u64), Vec<u8>>,
    buffer: Vec<u8>,
}

impl<'a> Packer<'a> {
    pub(super) fn new(out: &'a mut dyn Write, times: &'a [Times]) -> Self {
        Self { out: TarWriter(out), live: false, times, links: HashMap::new(), buffer: vec![0; BUFFER] }
    }

    /// Appends what the tar says of `node`.
    pub(super) fn add(&mut self, node: &Node<'_>, markers: Markers) -> Result<(), LayerError> {
        let name = node.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        if name.starts_with(b".wh.") {
            return Err(LayerError::Name {
                path: String::from_utf8_lossy(node.path).into_owned(),
                reason: "names that begin with `.wh.` mean deletions there",
            });
        }
        if markers == Markers::Show && node.is_whiteout() {
            return self.marker(&whiteout_name(node.path));
        }
        match node.file_type() {
            FileType::Directory => self.folder(node, markers),
            FileType::RegularFile => self.file(node),
            FileType::Symlink => {
                let target = node.link_target()?;
                self.special(node, b'2', &target)
            }
            FileType::CharacterDevice => self.special(node, b'3', b""),
            FileType::BlockDevice => self.special(node, b'4', b""),
            FileType::Fifo => self.special(node, b'6', b""),
            // A socket without its listener is nothing.
            FileType::Socket | FileType::Unknown => Ok(()),
        }
    }

    fn folder(&mut self, node: &Node<'_>, markers: Markers) -> Result<(), LayerError> {
        let attributes = node.folder_xattrs()?;
        let plain = (node.stat.st_mode & 0o7777, node.stat.st_uid, node.stat.st_gid) == (0o755, 0, 0);
        if !node.path.is_empty() || !plain || !attributes.kept.is_empty() {
            let path = if node.path.is_empty() { b"./".to_vec() } else { [node.path, b"/"].concat() };
            self.out.header(&Header { path: &path, xattrs: &attributes.kept, ..self.plain(node, b'5') })?;
        }
        if attributes.opaque && markers == Markers::Show {
            let name = b".wh..wh..opq".as_slice();
            let path = if node.path.is_empty() { name.to_vec() } else { [node.path, b"/", name].concat() };
            self.marker(&path)?;
        }
        Ok(())
    }

    fn file(&mut self, node: &Node<'_>) -> Result<(), LayerError> {
        if self.linked(node)? {
            return Ok(());
        }
        let mut file = node.open()?;
        let Attributes { kept, .. } =
            xattrs(file.as_fd()).map_err(|error| LayerError::walk(node.path, error))?;
        let size = node.stat.st_size as u64;
        self.out.header(&Header { size, xattrs: &kept, ..self.plain(node, b'0') })?;
        self.content(node, &mut file, size)
    }

    fn special(&mut self, node: &Node<'_>, kind: u8, link: &[u8]) -> Result<(), LayerError> {
        if self.linked(node)? {
            return Ok(());
        }
        let rdev = node.stat.st_rdev;
        let device = matches!(kind, b'3' | b'4').then(|| (rustix::fs::major(rdev), rustix::fs::minor(rdev)));
        self.out.header(&Header { link, device, ..self.plain(node, kind) })
    }

    /// Takes note of `node`, of which the tar has been told before.
    pub(super) fn pass(&mut self, node: &Node<'_>) {
        if node.file_type() != FileType::Directory && node.stat.st_nlink > 1 {
            self.links.entry((node.layer, node.stat.st_ino)).or_insert_with(|| node.path.to_vec());
        }
    }

    /// Undoes [`Packer::pass`], for a name that turned out to be gone: a further name becomes the file.
    fn forget(&mut self, node: &Node<'_>) {
        let key = (node.layer, node.stat.st_ino);
        if self.links.get(&key).is_some_and(|first| first == node.path) {
            self.links.remove(&key);
        }
    }

    /// Writes a hard link when an earlier name of the same file was written.
    fn linked(&mut self, node: &Node<'_>) -> Result<bool, LayerError> {
        if node.stat.st_nlink < 2 {
            return Ok(false);
        }
        let Some(first) = self.links.get(&(node.layer, node.stat.st_ino)) else {
            self.pass(node);
            return Ok(false);
        };
        let first = first.clone();
        self.out.header(&Header { link: &first, ..self.plain(node, b'1') })?;
        Ok(true)
    }

    fn plain<'n>(&self, node: &'n Node<'_>, kind: u8) -> Header<'n> {
        Header {
            kind,
            path: node.path,
            link: b"",
            mode: node.stat.st_mode & 0o7777,
            uid: node.stat.st_uid,
            gid: node.stat.st_gid,
            mtime: self.times[node.layer].of(node.stat.st_mtime),
            size: 0,
            device: None,
            xattrs: &[],
        }
    }

    fn marker(&mut self, path: &[u8]) -> Result<(), LayerError> {
        self.out.header(&Header {
            kind: b'0',
            path,
            link: b"",
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: 0,
            size: 0,
            device: None,
            xattrs: &[],
        })
    }

    fn content(&mut self, node: &Node<'_>, file: &mut File, size: u64) -> Result<(), LayerError> {
        let mut left = size;
        while left > 0 {
            let want = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let got = match file.read(&mut self.buffer[..want]) {
                // What the header promised has to come.
                Ok(0) if self.live => {
                    self.buffer[..want].fill(0);
                    want
                }
                Ok(0) => {
                    return Err(LayerError::walk(
                        node.path,
                        io::Error::other("the file shrank while it was read"),
                    ));
                }
                Ok(got) => got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(LayerError::walk(node.path, error)),
            };
            self.out.content(&self.buffer[..got])?;
            left -= got as u64;
        }
        self.out.pad(size)
    }

    /// Ends the tar.
    pub(super) fn finish(self) -> Result<(), LayerError> {
        self.out.finish()
    }
}

fn whiteout_name(path: &[u8]) -> Vec<u8> {
    let start = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    [&path[..start], b".wh.", &path[start..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whiteout_keeps_its_folder() {
        assert_eq!(whiteout_name(b"a/b/c"), b"a/b/.wh.c");
        assert_eq!(whiteout_name(b"c"), b".wh.c");
    }
}
