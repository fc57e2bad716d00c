//! The stat cache's file.
//!
//! ```text
//! header   magic 8 · checksum of all that follows 8 · boot 36 · entries 4 · bytes of names 8
//! entries  dev 8 · ino 8 · size 8 · mode 4 · uid 4 · gid 4 · mtime 16 · ctime 16 · digest 32 ·
//!          age 4 · name's offset 4 · name's length 4
//! names    the paths, one after another
//! ```
//!
//! Numbers are little-endian. The checksum finds cut files and lost pages; nobody but the store's owner
//! can write here, so it needs no cryptography.

use std::fs::File;
use std::io::{self, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::path::Path;

use super::FileStat;
use crate::Digest;

/// Names the format; another one is another cache.
const MAGIC: &[u8; 8] = b"kilnsta1";
const BOOT_BYTES: usize = 36;
const HEADER_BYTES: usize = 8 + 8 + BOOT_BYTES + 4 + 8;
const ENTRY_BYTES: usize = 112;

/// One file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub(super) path: &'a [u8],
    pub(super) stat: FileStat,
    pub(super) digest: Digest,
    /// Saves since somebody asked for it.
    pub(super) age: u32,
}

/// A loaded file; entries are decoded when they are asked for.
#[derive(Debug, Default)]
pub(super) struct Table {
    bytes: Vec<u8>,
    count: usize,
    /// Numbers of entries by the hashes of their paths, each at the first free place from its hash on; a power of
    /// two, half of it empty at least.
    index: Vec<u32>,
}

/// A place of the index without an entry.
const FREE: u32 = u32::MAX;

impl Table {
    /// Reads a file of this boot; `None` when anything about it is odd.
    pub(super) fn decode(bytes: Vec<u8>, boot: &str) -> Option<Self> {
        let mut header = Reader(bytes.get(..HEADER_BYTES)?);
        let (magic, sum, of_boot) = (header.take(8)?, header.u64()?, header.take(BOOT_BYTES)?);
        let (count, names) = (header.u32()? as usize, usize::try_from(header.u64()?).ok()?);
        let length = count.checked_mul(ENTRY_BYTES)?.checked_add(HEADER_BYTES)?.checked_add(names)?;
        let sound = magic == MAGIC && length == bytes.len() && sum == checksum(&bytes[16..]);
        if !sound || of_boot != padded(boot) {
            return None;
        }
        let index = vec![FREE; (count * 2).next_power_of_two()];
        let mut table = Self { bytes, count, index };
        for number in 0..count {
            let mut place = table.place(table.path(number)?);
            while table.index[place] != FREE {
                place = table.next(place);
            }
            table.index[place] = u32::try_from(number).ok()?;
        }
        Some(table)
    }

    /// Where the search for a path begins.
    fn place(&self, path: &[u8]) -> usize {
        checksum(path) as usize & (self.index.len() - 1)
    }

    fn next(&self, place: usize) -> usize {
        (place + 1) & (self.index.len() - 1)
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Returns the number of a path's entry.
    pub(super) fn find(&self, path: &[u8]) -> Option<usize> {
        if self.index.is_empty() {
            return None;
        }
        let mut place = self.place(path);
        while self.index[place] != FREE {
            let number = self.index[place] as usize;
            if self.path(number)? == path {
                return Some(number);
            }
            place = self.next(place);
        }
        None
    }

    pub(super) fn stat(&self, number: usize) -> Option<(FileStat, Digest)> {
        decode_stat(self.bytes.get(entry_range(number))?)
    }

    pub(super) fn entry(&self, number: usize) -> Option<Entry<'_>> {
        let (stat, digest) = self.stat(number)?;
        let age = self.tail(number)?.u32()?;
        Some(Entry { path: self.path(number)?, stat, digest, age })
    }

    pub(super) fn path(&self, number: usize) -> Option<&[u8]> {
        let mut tail = self.tail(number)?;
        tail.u32()?;
        let (offset, length) = (tail.u32()? as usize, tail.u32()? as usize);
        let start = HEADER_BYTES + self.count * ENTRY_BYTES + offset;
        self.bytes.get(start..start.checked_add(length)?)
    }

    /// Returns the last three fields of an entry.
    fn tail(&self, number: usize) -> Option<Reader<'_>> {
        let range = entry_range(number);
        self.bytes.get(range.end - 12..range.end).map(Reader)
    }
}

/// Entries that were learnt, as the file has them, without age and name's place; names in one piece.
#[derive(Debug, Default)]
pub(super) struct Learnt {
    fixed: Vec<u8>,
    names: Vec<u8>,
    /// Where each name ends.
    ends: Vec<usize>,
}

impl Learnt {
    pub(super) fn push(&mut self, path: &[u8], stat: &FileStat, digest: &Digest) {
        encode_stat(&mut self.fixed, stat, digest);
        self.names.extend_from_slice(path);
        self.ends.push(self.names.len());
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn path(&self, number: usize) -> &[u8] {
        let start = if number == 0 { 0 } else { self.ends[number - 1] };
        &self.names[start..self.ends[number]]
    }

    pub(super) fn entry(&self, number: usize) -> Option<Entry<'_>> {
        let (stat, digest) = decode_stat(self.fixed.get(number * STAT_BYTES..(number + 1) * STAT_BYTES)?)?;
        Some(Entry { path: self.path(number), stat, digest, age: 0 })
    }
}

/// Writes `count` entries, which `entry` knows by number, to an empty file.
///
/// No more than a part of it is in memory. Names that don't fit into 4 GiB are an error.
pub(super) fn write<'e>(
    mut file: &File,
    boot: &str,
    count: usize,
    entry: impl Fn(usize) -> Option<Entry<'e>>,
) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(64 << 10, file);
    out.write_all(MAGIC)?;
    out.write_all(&[0; 8])?;
    let mut sum = Checksum::default();
    let mut put = |bytes: &[u8]| {
        sum.update(bytes);
        out.write_all(bytes)
    };
    let entries = || (0..count).filter_map(&entry);
    let names: u64 = entries().map(|entry| entry.path.len() as u64).sum();
    out_of_room(names.max(count as u64))?;
    put(&padded(boot))?;
    put(&(entries().count() as u32).to_le_bytes())?;
    put(&names.to_le_bytes())?;
    let (mut fixed, mut offset) = (Vec::with_capacity(ENTRY_BYTES), 0u32);
    for Entry { path, stat, digest, age } in entries() {
        fixed.clear();
        encode_stat(&mut fixed, &stat, &digest);
        for number in [age, offset, path.len() as u32] {
            fixed.extend(number.to_le_bytes());
        }
        put(&fixed)?;
        offset += path.len() as u32;
    }
    for entry in entries() {
        put(entry.path)?;
    }
    out.flush()?;
    drop(out);
    file.seek(SeekFrom::Start(MAGIC.len() as u64))?;
    file.write_all(&sum.finish().to_le_bytes())
}

/// Numbers and places in the file have four bytes.
fn out_of_room(number: u64) -> io::Result<()> {
    u32::try_from(number).map(drop).map_err(io::Error::other)
}

/// An entry without its last three fields.
const STAT_BYTES: usize = ENTRY_BYTES - 12;

fn encode_stat(out: &mut Vec<u8>, stat: &FileStat, digest: &Digest) {
    for number in [stat.dev, stat.ino, stat.size] {
        out.extend(number.to_le_bytes());
    }
    for number in [stat.mode, stat.uid, stat.gid] {
        out.extend(number.to_le_bytes());
    }
    out.extend(stat.mtime_ns.to_le_bytes());
    out.extend(stat.ctime_ns.to_le_bytes());
    out.extend(digest.as_bytes());
}

fn decode_stat(bytes: &[u8]) -> Option<(FileStat, Digest)> {
    let mut fields = Reader(bytes);
    let stat = FileStat {
        dev: fields.u64()?,
        ino: fields.u64()?,
        size: fields.u64()?,
        mode: fields.u32()?,
        uid: fields.u32()?,
        gid: fields.u32()?,
        mtime_ns: fields.i128()?,
        ctime_ns: fields.i128()?,
    };
    Some((stat, Digest::from_bytes(fields.take(32)?.try_into().ok()?)))
}

/// Returns whether a file begins as one of this boot does.
pub(super) fn is_of_boot(path: &Path, boot: &str) -> bool {
    let mut header = [0; HEADER_BYTES];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut header));
    read.is_ok() && header[16..16 + BOOT_BYTES] == padded(boot)
}

fn entry_range(number: usize) -> Range<usize> {
    let start = HEADER_BYTES + number * ENTRY_BYTES;
    start..start + ENTRY_BYTES
}

fn padded(boot: &str) -> [u8; BOOT_BYTES] {
    let mut bytes = [0; BOOT_BYTES];
    for (byte, of_boot) in bytes.iter_mut().zip(boot.bytes()) {
        *byte = of_boot;
    }
    bytes
}

const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

fn mix(sum: u64, word: u64) -> u64 {
    (sum ^ word).wrapping_mul(FACTOR).rotate_left(29)
}

/// Mixes eight bytes at a time (multiply, rotate); the length enters last.
pub(crate) fn checksum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let sum = words.iter().fold(FACTOR, |sum, word| mix(sum, u64::from_le_bytes(*word)));
    finish(sum, rest, bytes.len() as u64)
}

fn finish(sum: u64, rest: &[u8], length: u64) -> u64 {
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let sum = mix(mix(sum, u64::from_le_bytes(last)), length);
    sum ^ (sum >> 32)
}

/// [`checksum`] of what comes in pieces.
struct Checksum {
    sum: u64,
    /// The bytes that don't make a word yet.
    rest: Vec<u8>,
    length: u64,
}

impl Default for Checksum {
    fn default() -> Self {
        Self { sum: FACTOR, rest: Vec::new(), length: 0 }
    }
}

impl Checksum {
    fn update(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        self.rest.extend_from_slice(bytes);
        let (words, rest) = self.rest.as_chunks::<8>();
        self.sum = words.iter().fold(self.sum, |sum, word| mix(sum, u64::from_le_bytes(*word)));
        let done = self.rest.len() - rest.len();
        self.rest.drain(..done);
    }

    fn finish(self) -> u64 {
        finish(self.sum, &self.rest, self.length)
    }
}

/// Takes numbers from the front of a slice.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn i128(&mut self) -> Option<i128> {
        Some(i128::from_le_bytes(self.take(16)?.try_into().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_is_the_same_in_one_piece_and_in_many() {
        let bytes: Vec<u8> = (0..1000u32).map(|number| (number * 7) as u8).collect();
        for step in [1, 3, 8, 13, 500] {
            let mut sum = Checksum::default();
            bytes.chunks(step).for_each(|piece| sum.update(piece));
            assert_eq!(sum.finish(), checksum(&bytes), "{step}");
        }
    }
}
