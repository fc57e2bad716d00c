//! File lists: what a COPY or ADD layer was made of, kept beside its files.
//!
//! The list tells two layers apart by names rather than digests, lets a later copy take over the files that
//! stayed the same, and lets a check compare the layer with what it should be. It is written before the
//! snapshot's commit and renamed with it. Whoever reads a list that is missing or damaged does without.
//!
//! ```text
//! magic 8
//! frames   length 4 · checksum 8 · entries, until a frame is full
//! end      length 0 · number of entries 8
//! ```
//!
//! Numbers in entries take seven bits a byte, lowest first; a path says how much of its beginning it shares
//! with the path of the entry before, in the same frame. Entries are sorted by place, part by part: a
//! directory comes right before what is in it. One frame is in memory at a time.

use std::fs::File;
use std::io::{BufReader, BufWriter, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use crate::stat_cache::checksum;
use crate::{Digest, Error, Result, SnapshotId, Staged, Store};

/// The list's name beside the folder `fs`.
const NAME: &str = "files";
/// Names the format; of another one nothing is known.
const MAGIC: &[u8; 8] = b"kilnfls1";
/// A frame is closed when it has this many bytes.
const FRAME_BYTES: usize = 32 << 10;
/// A longer frame is damage: two paths and a link target are all that comes on top.
const MAX_FRAME_BYTES: usize = 1 << 20;

/// What kind of thing an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A pipe or a device.
    Special,
    /// An archive that was unpacked into the directory `place`.
    Archive,
}

/// Flag: the entry has extended attributes, and its digest is of them, too.
const ATTRIBUTED: u8 = 1;
/// Flag: the layer has the same file under another name, too.
const LINKED: u8 = 2;

/// One name of a layer and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// Its path in the context or in the stage that it was copied from, without a leading slash.
    pub source: Vec<u8>,
    /// Its path in the layer, without a leading slash.
    pub place: Vec<u8>,
    /// What it is.
    pub kind: FileKind,
    /// Permission bits (`07777`) in the layer.
    pub mode: u32,
    /// Owner in the layer.
    pub uid: u32,
    /// Group in the layer.
    pub gid: u32,
    /// Time in the layer: seconds since 1970 and nanoseconds. That of a directory is not kept.
    pub mtime: (i64, u32),
    /// Bytes of a regular file or an archive.
    pub size: u64,
    /// Where a symbolic link points.
    pub target: Vec<u8>,
    /// The digest of a regular file or an archive: of its bytes, and of its extended attributes if it is
    /// `attributed`.
    pub digest: Option<Digest>,
    /// True for a file with extended attributes that were copied.
    pub attributed: bool,
    /// True when the layer has the same file under another name, too.
    pub linked: bool,
}

/// A list that is being read; what is damaged ends it with an error.
#[derive(Debug)]
pub struct FileList {
    path: PathBuf,
    file: BufReader<File>,
    frame: Vec<u8>,
    /// Where the next entry begins in `frame`.
    offset: usize,
    count: u64,
    done: bool,
    /// Source and place of the last entry in this frame.
    last: (Vec<u8>, Vec<u8>),
}

impl Staged {
    /// Writes what the snapshot is made of; `entries` are sorted by place.
    pub fn write_files(&self, entries: impl IntoIterator<Item = FileEntry>) -> Result<()> {
        let path = self.fs().with_file_name(NAME);
        write(&path, entries.into_iter()).map_err(Error::io("write", &path))
    }
}

impl Store {
    /// Returns what the snapshot `id` was made of; `None` when nothing tells.
    pub fn file_list(&self, id: &SnapshotId) -> Result<Option<FileList>> {
        FileList::open(&self.snapshot_dir(id).with_file_name(NAME))
    }
}

fn write(path: &Path, entries: impl Iterator<Item = FileEntry>) -> std::io::Result<()> {
    let mut out = BufWriter::new(File::create(path)?);
    out.write_all(MAGIC)?;
    let mut frame = Vec::with_capacity(FRAME_BYTES);
    let mut last = (Vec::new(), Vec::new());
    let mut count = 0u64;
    for entry in entries {
        encode(&mut frame, &entry, &last);
        last = (entry.source, entry.place);
        count += 1;
        if frame.len() >= FRAME_BYTES {
            write_frame(&mut out, &mut frame)?;
            last = (Vec::new(), Vec::new());
        }
    }
    if !frame.is_empty() {
        write_frame(&mut out, &mut frame)?;
    }
    out.write_all(&0u32.to_le_bytes())?;
    out.write_all(&count.to_le_bytes())?;
    out.flush()
}

fn write_frame(out: &mut impl Write, frame: &mut Vec<u8>) -> std::io::Result<()> {
    let length = u32::try_from(frame.len()).map_err(std::io::Error::other)?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(&checksum(frame).to_le_bytes())?;
    out.write_all(frame)?;
    frame.clear();
    Ok(())
}

fn encode(out: &mut Vec<u8>, entry: &FileEntry, last: &(Vec<u8>, Vec<u8>)) {
    let kind = match entry.kind {
        FileKind::File => 0,
        FileKind::Directory => 1,
        FileKind::Symlink => 2,
        FileKind::Special => 3,
        FileKind::Archive => 4,
    };
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    out.push(kind);
    out.push(flag(entry.attributed, ATTRIBUTED) | flag(entry.linked, LINKED));
    for (path, last) in [(&entry.source, &last.0), (&entry.place, &last.1)] {
        let shared = path.iter().zip(last).take_while(|(byte, other)| byte == other).count();
        number(out, shared as u64);
        text(out, &path[shared..]);
    }
    for field in [entry.mode, entry.uid, entry.gid, entry.mtime.1] {
        number(out, u64::from(field));
    }
    out.extend(entry.mtime.0.to_le_bytes());
    number(out, entry.size);
    text(out, &entry.target);
    text(out, entry.digest.as_ref().map_or(&[], |digest| digest.as_bytes()));
}

fn number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn text(out: &mut Vec<u8>, text: &[u8]) {
    number(out, text.len() as u64);
    out.extend_from_slice(text);
}

impl FileList {
    fn open(path: &Path) -> Result<Option<Self>> {
        let file = match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            other => other.map_err(Error::io("open", path))?,
        };
        let mut file = BufReader::new(file);
        let mut magic = [0; MAGIC.len()];
        if file.read_exact(&mut magic).is_err() || magic != *MAGIC {
            return Ok(None);
        }
        let (frame, path) = (Vec::new(), path.to_owned());
        Ok(Some(Self { path, file, frame, offset: 0, count: 0, done: false, last: Default::default() }))
    }

    fn advance(&mut self) -> std::io::Result<Option<FileEntry>> {
        let damaged = || std::io::Error::new(ErrorKind::InvalidData, "the list is damaged");
        if self.offset == self.frame.len() && !self.read_frame()? {
            return Ok(None);
        }
        let mut fields = Fields(&self.frame[self.offset..]);
        let entry = fields.entry(&self.last).ok_or_else(damaged)?;
        self.offset = self.frame.len() - fields.0.len();
        self.last.0.clone_from(&entry.source);
        self.last.1.clone_from(&entry.place);
        self.count += 1;
        Ok(Some(entry))
    }

    /// Reads the next frame; false at a proper end.
    fn read_frame(&mut self) -> std::io::Result<bool> {
        let damaged = || std::io::Error::new(ErrorKind::InvalidData, "the list is damaged");
        let (mut length, mut sum) = ([0; 4], [0; 8]);
        self.file.read_exact(&mut length)?;
        self.file.read_exact(&mut sum)?;
        let (length, sum) = (u32::from_le_bytes(length) as usize, u64::from_le_bytes(sum));
        if length == 0 {
            return if sum == self.count { Ok(false) } else { Err(damaged()) };
        }
        if length > MAX_FRAME_BYTES {
            return Err(damaged());
        }
        self.frame.resize(length, 0);
        self.file.read_exact(&mut self.frame)?;
        self.offset = 0;
        self.last = Default::default();
        if checksum(&self.frame) == sum { Ok(true) } else { Err(damaged()) }
    }
}

impl Iterator for FileList {
    type Item = Result<FileEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = self.advance().map_err(Error::io("read", &self.path)).transpose();
        self.done = !matches!(next, Some(Ok(_)));
        next
    }
}

/// Takes fields from the front of a frame; `None` when it ends too soon or says something impossible.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn entry(&mut self, last: &(Vec<u8>, Vec<u8>)) -> Option<FileEntry> {
        let kind = match self.byte()? {
            0 => FileKind::File,
            1 => FileKind::Directory,
            2 => FileKind::Symlink,
            3 => FileKind::Special,
            4 => FileKind::Archive,
            _ => return None,
        };
        let flags = self.byte()?;
        let (source, place) = (self.path(&last.0)?, self.path(&last.1)?);
        let (mode, uid, gid, nanoseconds) = (self.u32()?, self.u32()?, self.u32()?, self.u32()?);
        let seconds = i64::from_le_bytes(self.take(8)?.try_into().ok()?);
        let (size, target) = (self.number()?, self.text()?.to_vec());
        let digest = match self.text()? {
            [] => None,
            bytes => Some(Digest::from_bytes(bytes.try_into().ok()?)),
        };
        Some(FileEntry {
            source,
            place,
            kind,
            mode,
            uid,
            gid,
            mtime: (seconds, nanoseconds),
            size,
            target,
            digest,
            attributed: flags & ATTRIBUTED != 0,
            linked: flags & LINKED != 0,
        })
    }

    fn path(&mut self, last: &[u8]) -> Option<Vec<u8>> {
        let shared = usize::try_from(self.number()?).ok()?;
        let mut path = last.get(..shared)?.to_vec();
        path.extend_from_slice(self.text()?);
        Some(path)
    }

    fn text(&mut self) -> Option<&[u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        self.take(length)
    }

    fn u32(&mut self) -> Option<u32> {
        self.number()?.try_into().ok()
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn take(&mut self, count: usize) -> Option<&[u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn entry(number: u32) -> FileEntry {
        let name = format!("src/folder {}/file {number}", number / 10);
        FileEntry {
            source: name.clone().into_bytes(),
            place: format!("app/{name}").into_bytes(),
            kind: [FileKind::File, FileKind::Symlink, FileKind::Directory, FileKind::Archive]
                [number as usize % 4],
            mode: 0o4755,
            uid: number,
            gid: u32::MAX - number,
            mtime: (-i64::from(number), number * 1000),
            size: u64::from(number) << 32,
            target: vec![b'x'; number as usize % 4],
            digest: (number.is_multiple_of(4)).then(|| Digest::of(number.to_le_bytes())),
            attributed: number.is_multiple_of(3),
            linked: number.is_multiple_of(5),
        }
    }

    fn written(count: u32) -> (tempfile::TempDir, PathBuf, Vec<FileEntry>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        let entries: Vec<_> = (0..count).map(entry).collect();
        write(&path, entries.iter().cloned()).unwrap();
        (folder, path, entries)
    }

    #[test]
    fn what_is_written_is_read_over_many_frames() {
        for count in [0, 1, 5000] {
            let (_folder, path, entries) = written(count);
            let read: Result<Vec<_>> = FileList::open(&path).unwrap().unwrap().collect();
            assert_eq!(read.unwrap(), entries);
        }
    }

    #[test]
    fn a_list_is_part_of_its_snapshot() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let commit = |files: &[FileEntry]| {
            let staged = store.stage(&store.lease()).unwrap();
            if !files.is_empty() {
                staged.write_files(files.iter().cloned()).unwrap();
            }
            staged.commit(crate::Snapshot::default()).unwrap()
        };
        let (without, with) = (commit(&[]), commit(&[entry(1), entry(2)]));
        assert!(store.file_list(&without).unwrap().is_none());
        let read: Result<Vec<_>> = store.file_list(&with).unwrap().unwrap().collect();
        assert_eq!(read.unwrap(), [entry(1), entry(2)]);
        let files: Vec<_> = fs::read_dir(store.snapshot_dir(&with)).unwrap().collect();
        assert!(files.is_empty());
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_noticed() {
        let (_folder, path, entries) = written(8);
        let whole = fs::read(&path).unwrap();
        let read = |bytes: &[u8]| {
            fs::write(&path, bytes).unwrap();
            let list = FileList::open(&path).unwrap();
            list.map(|list| list.collect::<Result<Vec<_>>>())
        };
        for length in 0..whole.len() {
            assert!(!matches!(read(&whole[..length]), Some(Ok(_))), "cut at {length}");
        }
        for index in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[index] ^= 1 << (index % 8);
            assert!(!matches!(read(&bytes), Some(Ok(_))), "changed at {index}");
        }
        assert_eq!(read(&whole).unwrap().unwrap(), entries);
    }
}
