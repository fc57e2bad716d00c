//! Unpacking tar archives that a user gave: for ADD, and for a context on standard input.
//!
//! Unlike a layer's archive, nothing in it means a deletion: `.wh.` names are refused. Names may not lead
//! out of the archive; links in the way are followed inside the image, as a process in it would.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

use super::{
    Attributes, Kind, LayerWriter, Owner, clean, is_copied_xattr, join, set_attributes, show, split_last,
};
use crate::image::layer::{Entries, Entry, Kind as EntryKind, LayerError, decompress_any};

/// Why an archive can't be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The archive can't be read.
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    /// The archive is damaged.
    #[error(transparent)]
    Damaged(#[from] LayerError),
    /// A name that leads out.
    #[error("the archive's entry `{name}` leads out of it")]
    Outside {
        /// As in the archive.
        name: String,
    },
    /// A hard link to nothing.
    #[error("the archive's hard link `{name}` points to `{target}`, which is not a file of it")]
    HardLink {
        /// Its name.
        name: String,
        /// Where it points.
        target: String,
    },
    /// Writing failed.
    #[error(transparent)]
    Tree(#[from] super::Error),
}

/// The result of unpacking.
pub type Result<T> = std::result::Result<T, Error>;

/// How an archive is unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Who owns what is made; `None` leaves the archive's owners.
    pub owner: Option<Owner>,
    /// Whether devices are made; an error else.
    pub devices: bool,
}

/// What was unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unpacked {
    /// Bytes of regular files.
    pub bytes: u64,
    /// Entries.
    pub entries: u64,
}

/// Bytes of a tar block.
const BLOCK: usize = 512;

/// Tells whether `file` is a tar archive, plain, gzip, zstd, bzip2 or xz, by its first bytes; leaves its position
/// anywhere.
///
/// A compressed file is an archive only if a tar is in it, as with docker's ADD. One that can't be looked into
/// without much memory is an error.
pub fn is_archive(mut file: &File) -> Result<bool> {
    let head = first_block(file).map_err(Error::Read)?;
    match head.as_slice() {
        [0x1f, 0x8b, ..]
        | [0x28, 0xb5, 0x2f, 0xfd, ..]
        | [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, ..]
        | [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => {}
        head => return Ok(is_tar_header(head)),
    }
    file.seek(SeekFrom::Start(0)).map_err(Error::Read)?;
    match decompress_any(file).and_then(first_block) {
        Ok(block) => Ok(is_tar_header(&block)),
        Err(error) if error.kind() == io::ErrorKind::OutOfMemory => Err(Error::Read(error)),
        // A damaged stream isn't an archive: it is copied as it is.
        Err(_) => Ok(false),
    }
}

fn first_block(reader: impl Read) -> io::Result<Vec<u8>> {
    let mut block = Vec::with_capacity(BLOCK);
    reader.take(BLOCK as u64).read_to_end(&mut block)?;
    Ok(block)
}

/// A header whose checksum is right: old tars have no magic.
fn is_tar_header(block: &[u8]) -> bool {
    let Ok(block) = <&[u8; BLOCK]>::try_from(block) else { return false };
    let header = tar::Header::from_byte_slice(block);
    // The checksum counts its own field as blanks.
    let sum: u32 = block[..148].iter().chain(&block[156..]).map(|byte| u32::from(*byte)).sum();
    block.iter().any(|byte| *byte != 0) && header.cksum().is_ok_and(|expected| expected == sum + 8 * 32)
}

/// Unpacks `archive` at the directory `target` of a layer.
///
/// What stands in the way of an entry is replaced. `archive` is read to its end.
pub fn unpack(
    mut archive: impl Read + Send,
    writer: &mut LayerWriter<'_>,
    target: &[u8],
    options: Options,
) -> Result<Unpacked> {
    let mut unpacked = Unpacked::default();
    let mut entries = Entries::new(decompress_any(&mut archive).map_err(Error::Read)?);
    while let Some(entry) = entries.next()? {
        if leads_out(&entry.path) {
            return Err(Error::Outside { name: String::from_utf8_lossy(&entry.path).into_owned() });
        }
        let name = clean(&entry.path);
        // The archive's own root says nothing of the directory that it is unpacked to.
        if name.is_empty() {
            continue;
        }
        let place = place(writer, target, &name)?;
        write_entry(&entry, &mut entries, writer, (target, &place), options)?;
        unpacked.bytes += entry.size;
        unpacked.entries += 1;
    }
    entries.drain()?;
    drop(entries);
    // Bytes after the archive are nobody's, but whoever hashes the file wants to see them.
    io::copy(&mut archive, &mut io::sink()).map_err(Error::Read)?;
    Ok(unpacked)
}

fn leads_out(name: &[u8]) -> bool {
    name.split(|byte| *byte == b'/').any(|part| part == b"..")
}

/// Returns where the entry `name` goes: links above it are followed inside the image.
fn place(writer: &LayerWriter<'_>, target: &[u8], name: &[u8]) -> Result<Vec<u8>> {
    let (above, last) = split_last(name);
    Ok(join(&writer.resolve(&join(target, above))?.path, last))
}

fn write_entry<R: Read>(
    entry: &Entry,
    entries: &mut Entries<R>,
    writer: &mut LayerWriter<'_>,
    (target, place): (&[u8], &[u8]),
    options: Options,
) -> Result<()> {
    let device = matches!(entry.kind, EntryKind::Char(..) | EntryKind::Block(..));
    if device && !options.devices {
        return Err(super::Error::Device { path: show(&entry.path) }.into());
    }
    let attributes = attributes(entry, options);
    writer.clear(place, entry.kind == EntryKind::Directory)?;
    match entry.kind {
        EntryKind::Directory => writer.directory(place, &attributes, true)?,
        EntryKind::File => write_file(entry, entries, writer, place, &attributes)?,
        EntryKind::Symlink => writer.symlink(place, &entry.link, &attributes)?,
        EntryKind::HardLink => hard_link(entry, writer, target, place)?,
        EntryKind::Fifo => writer.node(place, Kind::Fifo, &attributes)?,
        EntryKind::Char(major, minor) => writer.node(place, Kind::CharDevice(major, minor), &attributes)?,
        EntryKind::Block(major, minor) => writer.node(place, Kind::BlockDevice(major, minor), &attributes)?,
    }
    Ok(())
}

fn attributes(entry: &Entry, options: Options) -> Attributes {
    Attributes {
        mode: entry.mode,
        owner: options.owner.unwrap_or(Owner { uid: entry.uid, gid: entry.gid }),
        mtime: Some(entry.mtime),
        xattrs: entry.xattrs.iter().filter(|(name, _)| is_copied_xattr(name)).cloned().collect(),
    }
}

fn hard_link(entry: &Entry, writer: &mut LayerWriter<'_>, target: &[u8], to: &[u8]) -> Result<()> {
    let inside = clean(&entry.link);
    let linked = !leads_out(&entry.link)
        && !inside.is_empty()
        && writer.hard_link(to, &place(writer, target, &inside)?)?;
    match linked {
        true => Ok(()),
        false => Err(Error::HardLink {
            name: show(&entry.path),
            target: String::from_utf8_lossy(&entry.link).into_owned(),
        }),
    }
}

fn write_file<R: Read>(
    entry: &Entry,
    entries: &mut Entries<R>,
    writer: &mut LayerWriter<'_>,
    place: &[u8],
    attributes: &Attributes,
) -> Result<()> {
    writer.make_room(place)?;
    let mut file = writer.create(place)?;
    let fail = |source| Error::from(super::Error::io("write", place, source));
    let mut buffer = vec![0; 64 * 1024];
    let whole = [(0, u64::MAX)];
    for &(offset, length) in entry.segments.as_deref().unwrap_or(&whole) {
        file.seek(SeekFrom::Start(offset)).map_err(fail)?;
        let mut left = length;
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let count = entries.read(&mut buffer[..want])?;
            if count == 0 {
                break;
            }
            file.write_all(&buffer[..count]).map_err(fail)?;
            left -= count as u64;
        }
    }
    if entry.segments.is_some() {
        file.set_len(entry.size).map_err(fail)?;
    }
    Ok(set_attributes(&file, place, attributes)?)
}
