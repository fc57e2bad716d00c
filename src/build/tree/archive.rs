//! Unpacking tar archives that a user gave: for ADD, and for a context on standard input.
//!
//! Unlike a layer's archive, nothing in it means a deletion: `.wh.` names are refused. Names may not lead
//! out of the archive; links in the way are followed inside the image, as a process in it would.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};

use super::{Attributes, Kind, LayerWriter, Owner, clean, join, set_attributes, show, split_last};

/// Why an archive can't be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The archive is damaged or can't be read.
    #[error("the archive is damaged or cut short")]
    Read(#[source] io::Error),
    /// A compression that isn't built in.
    #[error("{name} archives are not supported yet: use gzip, zstd or plain tar")]
    Compression {
        /// `bzip2`, `xz`.
        name: &'static str,
    },
    /// A name that leads out.
    #[error("the archive's entry `{name}` leads out of it")]
    Outside {
        /// As in the archive.
        name: String,
    },
    /// A hard link to nothing.
    #[error("the archive's hard link `{name}` points to `{target}`, which is not there")]
    HardLink {
        /// Its name.
        name: String,
        /// Where it points.
        target: String,
    },
    /// An entry of a kind that no file has.
    #[error("the archive's entry `{name}` is of the unknown type {kind}")]
    Unknown {
        /// Its name.
        name: String,
        /// The type's byte.
        kind: u8,
    },
    /// Writing failed.
    #[error(transparent)]
    Tree(#[from] super::Error),
}

/// The result of unpacking.
pub type Result<T> = std::result::Result<T, Error>;

/// How an archive is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Not at all.
    Tar,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

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

/// A zstd window beyond this is refused: 128 MiB, as `zstd --long` allows.
const ZSTD_WINDOW_LOG: u32 = 27;

/// Tells what kind of archive `file` is, by its first bytes; `None` for something else.
///
/// A compressed file is an archive only if a tar is in it, as with docker's ADD. Leaves the file's position
/// anywhere.
pub fn sniff(mut file: &File) -> Result<Option<Format>> {
    let mut head = Vec::new();
    file.take(512).read_to_end(&mut head).map_err(Error::Read)?;
    let format = match head.as_slice() {
        [0x1f, 0x8b, ..] => Format::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Format::Zstd,
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, ..] => {
            return Err(Error::Compression { name: "bzip2" });
        }
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => return Err(Error::Compression { name: "xz" }),
        head if is_tar_header(head) => return Ok(Some(Format::Tar)),
        _ => return Ok(None),
    };
    file.seek(SeekFrom::Start(0)).map_err(Error::Read)?;
    let mut inner = Vec::new();
    // A damaged stream isn't an archive: it is copied as it is.
    let readable =
        decompress(file, format).and_then(|inside| inside.take(512).read_to_end(&mut inner)).is_ok();
    Ok((readable && is_tar_header(&inner)).then_some(format))
}

/// A header whose checksum is right: old tars have no magic.
fn is_tar_header(block: &[u8]) -> bool {
    let Ok(block) = <&[u8; 512]>::try_from(block) else { return false };
    let header = tar::Header::from_byte_slice(block);
    let sum: u32 = block[..148].iter().chain(&block[156..]).map(|byte| u32::from(*byte)).sum();
    block.iter().any(|byte| *byte != 0) && header.cksum().is_ok_and(|expected| expected == sum + 8 * 32)
}

fn decompress<'r>(reader: impl Read + 'r, format: Format) -> io::Result<Box<dyn Read + 'r>> {
    Ok(match format {
        Format::Tar => Box::new(BufReader::with_capacity(128 * 1024, reader)),
        Format::Gzip => Box::new(flate2::read::MultiGzDecoder::new(reader)),
        Format::Zstd => {
            let mut decoder = zstd::Decoder::new(reader)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
    })
}

/// Unpacks `archive` at the directory `target` of a layer.
///
/// What stands in the way of an entry is replaced.
pub fn unpack(
    archive: impl Read,
    format: Format,
    writer: &mut LayerWriter<'_>,
    target: &[u8],
    options: Options,
) -> Result<Unpacked> {
    let reader = decompress(archive, format).map_err(Error::Read)?;
    let mut unpacked = Unpacked::default();
    let mut archive = tar::Archive::new(reader);
    for entry in archive.entries().map_err(Error::Read)? {
        let mut entry = entry.map_err(Error::Read)?;
        let name = entry.path_bytes().into_owned();
        if name.split(|byte| *byte == b'/').any(|part| part == b"..") {
            return Err(Error::Outside { name: String::from_utf8_lossy(&name).into_owned() });
        }
        let name = clean(&name);
        // The archive's own root says nothing of the directory that it is unpacked to.
        if name.is_empty() || entry.header().entry_type().is_pax_global_extensions() {
            continue;
        }
        let (above, last) = split_last(&name);
        let place = join(&writer.resolve(&join(target, above))?.path, last);
        let attributes = attributes(&mut entry, options.owner)?;
        let kind = entry.header().entry_type();
        if !options.devices && (kind.is_character_special() || kind.is_block_special()) {
            return Err(super::Error::Device { path: show(&name) }.into());
        }
        unpacked.bytes += write_entry(&mut entry, writer, target, &place, &attributes)?;
        unpacked.entries += 1;
    }
    Ok(unpacked)
}

fn attributes(entry: &mut tar::Entry<'_, impl Read>, owner: Option<Owner>) -> Result<Attributes> {
    let header = entry.header();
    let old = header.as_old();
    let owner = match owner {
        Some(owner) => owner,
        None => Owner { uid: id(&old.uid, header.uid())?, gid: id(&old.gid, header.gid())? },
    };
    let mode = if is_blank(&old.mode) { 0 } else { header.mode().map_err(Error::Read)? & 0o7777 };
    let mtime = if is_blank(&old.mtime) { 0 } else { header.mtime().map_err(Error::Read)? };
    let mtime = i64::try_from(mtime).unwrap_or(0);
    let mut xattrs = Vec::new();
    for extension in entry.pax_extensions().map_err(Error::Read)?.into_iter().flatten() {
        let extension = extension.map_err(Error::Read)?;
        let Some(name) = extension.key_bytes().strip_prefix(b"SCHILY.xattr.") else { continue };
        if super::is_copied_xattr(name) {
            xattrs.push((name.to_vec(), extension.value_bytes().to_vec()));
        }
    }
    Ok(Attributes { mode, owner, mtime: Some((mtime, 0)), xattrs })
}

fn id(field: &[u8], value: io::Result<u64>) -> Result<u32> {
    if is_blank(field) {
        return Ok(0);
    }
    let too_large = |_| Error::Read(io::Error::other("an owner's number is too large"));
    u32::try_from(value.map_err(Error::Read)?).map_err(too_large)
}

/// Some writers leave fields empty that they don't use; Go's reader takes that for zero.
fn is_blank(field: &[u8]) -> bool {
    field.iter().all(|byte| matches!(byte, 0 | b' '))
}

fn write_entry(
    entry: &mut tar::Entry<'_, impl Read>,
    writer: &mut LayerWriter<'_>,
    target: &[u8],
    place: &[u8],
    attributes: &Attributes,
) -> Result<u64> {
    use tar::EntryType as Type;
    let kind = entry.header().entry_type();
    writer.clear(place, kind == Type::Directory)?;
    match kind {
        Type::Directory => writer.directory(place, attributes, true)?,
        Type::Regular | Type::Continuous | Type::GNUSparse => {
            writer.make_room(place)?;
            let mut file = writer.create(place)?;
            let bytes = copy(entry, &mut file, place)?;
            set_attributes(&file, place, attributes)?;
            return Ok(bytes);
        }
        Type::Symlink => {
            let link = link_name(entry)?;
            writer.symlink(place, &link, attributes)?;
        }
        Type::Link => hard_link(entry, writer, target, place)?,
        Type::Fifo => writer.node(place, Kind::Fifo, attributes)?,
        Type::Char | Type::Block => {
            let header = entry.header();
            let major = header.device_major().map_err(Error::Read)?.unwrap_or(0);
            let minor = header.device_minor().map_err(Error::Read)?.unwrap_or(0);
            let device = if kind == Type::Char { Kind::CharDevice } else { Kind::BlockDevice };
            writer.node(place, device(major, minor), attributes)?;
        }
        other => return Err(Error::Unknown { name: show(place), kind: other.as_byte() }),
    }
    Ok(0)
}

fn link_name(entry: &tar::Entry<'_, impl Read>) -> Result<Vec<u8>> {
    let target = entry.link_name_bytes().map(|name| name.into_owned()).unwrap_or_default();
    match target.is_empty() {
        true => Err(Error::Read(io::Error::other("a link without a target"))),
        false => Ok(target),
    }
}

fn hard_link(
    entry: &tar::Entry<'_, impl Read>,
    writer: &mut LayerWriter<'_>,
    target: &[u8],
    place: &[u8],
) -> Result<()> {
    let link = link_name(entry)?;
    let missing =
        || Error::HardLink { name: show(place), target: String::from_utf8_lossy(&link).into_owned() };
    if link.split(|byte| *byte == b'/').any(|part| part == b"..") {
        return Err(missing());
    }
    let inside = clean(&link);
    let (above, last) = split_last(&inside);
    let existing = join(&writer.resolve(&join(target, above))?.path, last);
    match writer.hard_link(place, &existing)? {
        true => Ok(()),
        false => Err(missing()),
    }
}

fn copy(reader: &mut impl Read, file: &mut File, place: &[u8]) -> Result<u64> {
    let mut reader = BufReader::with_capacity(128 * 1024, reader);
    let mut bytes = 0;
    loop {
        let chunk = reader.fill_buf().map_err(Error::Read)?;
        if chunk.is_empty() {
            return Ok(bytes);
        }
        file.write_all(chunk).map_err(|source| super::Error::io("write", place, source))?;
        let count = chunk.len();
        bytes += count as u64;
        reader.consume(count);
    }
}
