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

use super::entries::BLOCK;
use super::error::LayerError;
use super::times::Times;
use super::walk::{Attributes, Markers, Node, walk, xattrs};

/// Version of the canonical form.
pub const TAR_VERSION: u32 = 1;
/// Bytes read at once from a file.
const BUFFER: usize = 256 << 10;
/// Largest number of 11 octal digits.
const OCTAL_11: u64 = (1 << 33) - 1;
/// Largest number of 7 octal digits.
const OCTAL_7: u64 = (1 << 21) - 1;

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

/// Returns the digest and the length of the canonical tar of `dir`.
pub fn diff_id(dir: &Path, times: Times) -> Result<(Digest, u64), LayerError> {
    let mut hasher = StreamHasher::new();
    tar(dir, &mut hasher, times)?;
    Ok(hasher.finish())
}

pub(super) struct Packer<'a> {
    out: &'a mut dyn Write,
    /// By layer.
    times: &'a [Times],
    /// First names of files with more than one, by layer and inode. Two layers may share an inode by the
    /// store's own linking, which is none of the layer's business.
    links: HashMap<(usize, u64), Vec<u8>>,
    buffer: Vec<u8>,
}

/// What a header says.
struct Header<'a> {
    kind: u8,
    path: &'a [u8],
    link: &'a [u8],
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: i64,
    size: u64,
    device: Option<(u32, u32)>,
    xattrs: &'a [(Vec<u8>, Vec<u8>)],
}

impl<'a> Packer<'a> {
    pub(super) fn new(out: &'a mut dyn Write, times: &'a [Times]) -> Self {
        Self { out, times, links: HashMap::new(), buffer: vec![0; BUFFER] }
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
            self.header(&Header { path: &path, xattrs: &attributes.kept, ..self.plain(node, b'5') })?;
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
        self.header(&Header { size, xattrs: &kept, ..self.plain(node, b'0') })?;
        self.content(node, &mut file, size)
    }

    fn special(&mut self, node: &Node<'_>, kind: u8, link: &[u8]) -> Result<(), LayerError> {
        if self.linked(node)? {
            return Ok(());
        }
        let rdev = node.stat.st_rdev;
        let device = matches!(kind, b'3' | b'4').then(|| (rustix::fs::major(rdev), rustix::fs::minor(rdev)));
        self.header(&Header { link, device, ..self.plain(node, kind) })
    }

    /// Takes note of `node`, of which the tar has been told before.
    pub(super) fn pass(&mut self, node: &Node<'_>) {
        if node.file_type() != FileType::Directory && node.stat.st_nlink > 1 {
            self.links.entry((node.layer, node.stat.st_ino)).or_insert_with(|| node.path.to_vec());
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
        self.header(&Header { link: &first, ..self.plain(node, b'1') })?;
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
        self.header(&Header {
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
            self.out.write_all(&self.buffer[..got]).map_err(LayerError::Output)?;
            left -= got as u64;
        }
        self.pad(size)
    }

    fn header(&mut self, header: &Header<'_>) -> Result<(), LayerError> {
        let mut records = Vec::new();
        let split = ustar_name(header.path);
        if split.is_none() {
            pax_record(&mut records, b"path", header.path);
        }
        if header.link.len() > 100 {
            pax_record(&mut records, b"linkpath", header.link);
        }
        for (key, value, most) in [
            ("size", header.size, OCTAL_11),
            ("uid", u64::from(header.uid), OCTAL_7),
            ("gid", u64::from(header.gid), OCTAL_7),
        ] {
            if value > most {
                pax_record(&mut records, key.as_bytes(), value.to_string().as_bytes());
            }
        }
        let mtime = u64::try_from(header.mtime).ok().filter(|mtime| *mtime <= OCTAL_11);
        if mtime.is_none() {
            pax_record(&mut records, b"mtime", header.mtime.to_string().as_bytes());
        }
        for (name, value) in header.xattrs {
            pax_record(&mut records, &[b"SCHILY.xattr.", name.as_slice()].concat(), value);
        }
        if !records.is_empty() {
            self.pax(&records)?;
        }
        let block = ustar(header, split.unwrap_or((b"", cut(header.path))), mtime.unwrap_or(0));
        self.out.write_all(&block).map_err(LayerError::Output)
    }

    fn pax(&mut self, records: &[u8]) -> Result<(), LayerError> {
        let header = Header {
            kind: b'x',
            path: b"PaxHeaders.0/entry",
            link: b"",
            mode: 0o644,
            uid: 0,
            gid: 0,
            mtime: 0,
            size: records.len() as u64,
            device: None,
            xattrs: &[],
        };
        self.out.write_all(&ustar(&header, (b"", header.path), 0)).map_err(LayerError::Output)?;
        self.out.write_all(records).map_err(LayerError::Output)?;
        self.pad(header.size)
    }

    fn pad(&mut self, size: u64) -> Result<(), LayerError> {
        let padding = (size.next_multiple_of(BLOCK) - size) as usize;
        self.out.write_all(&[0; BLOCK as usize][..padding]).map_err(LayerError::Output)
    }

    /// Ends the tar.
    pub(super) fn finish(self) -> Result<(), LayerError> {
        self.out.write_all(&[0; 2 * BLOCK as usize]).map_err(LayerError::Output)?;
        self.out.flush().map_err(LayerError::Output)
    }
}

fn whiteout_name(path: &[u8]) -> Vec<u8> {
    let start = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    [&path[..start], b".wh.", &path[start..]].concat()
}

/// Splits a name into ustar's prefix (at most 155 bytes) and name (at most 100), if it can be.
fn ustar_name(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.len() <= 100 {
        return Some((b"", path));
    }
    let slash =
        path.iter().enumerate().position(|(index, byte)| *byte == b'/' && path.len() - index - 1 <= 100)?;
    let (prefix, name) = (&path[..slash], &path[slash + 1..]);
    (prefix.len() <= 155 && !prefix.is_empty() && !name.is_empty()).then_some((prefix, name))
}

fn cut(path: &[u8]) -> &[u8] {
    &path[..path.len().min(100)]
}

fn ustar(header: &Header<'_>, (prefix, name): (&[u8], &[u8]), mtime: u64) -> [u8; 512] {
    let mut block = tar::Header::new_ustar();
    if let Some(fields) = block.as_ustar_mut() {
        fields.name[..name.len()].copy_from_slice(name);
        fields.prefix[..prefix.len()].copy_from_slice(prefix);
        let link = cut(header.link);
        fields.linkname[..link.len()].copy_from_slice(link);
        octal(&mut fields.mode, u64::from(header.mode));
        octal(&mut fields.uid, u64::from(header.uid));
        octal(&mut fields.gid, u64::from(header.gid));
        octal(&mut fields.size, header.size);
        octal(&mut fields.mtime, mtime);
        let (major, minor) = header.device.unwrap_or((0, 0));
        octal(&mut fields.dev_major, u64::from(major));
        octal(&mut fields.dev_minor, u64::from(minor));
        fields.typeflag = [header.kind];
    }
    block.set_cksum();
    *block.as_bytes()
}

/// Writes octal digits and a NUL; 0 for what a PAX record says instead.
fn octal(field: &mut [u8], value: u64) {
    let digits = field.len() - 1;
    let value = if value >> (3 * digits) == 0 { value } else { 0 };
    let text = format!("{value:0digits$o}");
    field[..digits].copy_from_slice(text.as_bytes());
    field[digits] = 0;
}

/// Appends `<length> <key>=<value>\n`, where length counts itself.
fn pax_record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    out.extend_from_slice(format!("{length} ").as_bytes());
    out.extend_from_slice(key);
    out.push(b'=');
    out.extend_from_slice(value);
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pax_record_counts_its_own_length() {
        for length in [1, 90, 91, 92, 93, 94, 990, 991, 992, 993] {
            let mut out = Vec::new();
            pax_record(&mut out, b"path", &vec![b'x'; length]);
            let text = String::from_utf8(out).unwrap();
            assert_eq!(text.split(' ').next().unwrap().parse::<usize>().unwrap(), text.len());
        }
    }

    #[test]
    fn long_names_are_split_at_a_slash_if_they_fit() {
        let deep = [vec![b'a'; 150], b"/".to_vec(), vec![b'b'; 99]].concat();
        assert_eq!(ustar_name(&deep).map(|(p, n)| (p.len(), n.len())), Some((150, 99)));
        assert_eq!(ustar_name(&[b'c'; 101]), None);
        assert_eq!(ustar_name(b"short"), Some((b"".as_slice(), b"short".as_slice())));
    }

    #[test]
    fn a_whiteout_keeps_its_folder() {
        assert_eq!(whiteout_name(b"a/b/c"), b"a/b/.wh.c");
        assert_eq!(whiteout_name(b"c"), b".wh.c");
    }
}
