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

use std::collections::HashMap;
use std::fs::File;
use std::hash::{BuildHasherDefault, Hasher};
use std::io::Read as _;
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
    /// From a path's hash to its entry. Should two paths share a hash, one of them is never found.
    index: HashMap<u64, u32, BuildHasherDefault<AsIs>>,
}

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
        let mut table = Self { bytes, count, index: HashMap::default() };
        table.index.reserve(count);
        for number in 0..count {
            let hash = checksum(table.path(number)?);
            table.index.insert(hash, u32::try_from(number).ok()?);
        }
        Some(table)
    }

    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Returns the number of a path's entry.
    pub(super) fn find(&self, path: &[u8]) -> Option<usize> {
        let number = *self.index.get(&checksum(path))? as usize;
        (self.path(number)? == path).then_some(number)
    }

    pub(super) fn stat(&self, number: usize) -> Option<(FileStat, Digest)> {
        let mut fields = Reader(self.bytes.get(entry_range(number))?);
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

    pub(super) fn entry(&self, number: usize) -> Option<Entry<'_>> {
        let (stat, digest) = self.stat(number)?;
        let age = self.tail(number)?.u32()?;
        Some(Entry { path: self.path(number)?, stat, digest, age })
    }

    fn path(&self, number: usize) -> Option<&[u8]> {
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

/// Writes a file. Entries whose names don't fit into 4 GiB are left out.
pub(super) fn encode(entries: &[Entry<'_>], boot: &str) -> Vec<u8> {
    let (mut fixed, mut names, mut count) =
        (Vec::with_capacity(entries.len() * ENTRY_BYTES), Vec::new(), 0u32);
    for Entry { path, stat, digest, age } in entries {
        let (Ok(offset), Ok(length)) = (u32::try_from(names.len()), u32::try_from(path.len())) else { break };
        for number in [stat.dev, stat.ino, stat.size] {
            fixed.extend(number.to_le_bytes());
        }
        for number in [stat.mode, stat.uid, stat.gid] {
            fixed.extend(number.to_le_bytes());
        }
        fixed.extend(stat.mtime_ns.to_le_bytes());
        fixed.extend(stat.ctime_ns.to_le_bytes());
        fixed.extend(digest.as_bytes());
        for number in [*age, offset, length] {
            fixed.extend(number.to_le_bytes());
        }
        names.extend_from_slice(path);
        count += 1;
    }
    let mut bytes = Vec::with_capacity(HEADER_BYTES + fixed.len() + names.len());
    bytes.extend(MAGIC);
    bytes.extend([0; 8]);
    bytes.extend(padded(boot));
    bytes.extend(count.to_le_bytes());
    bytes.extend((names.len() as u64).to_le_bytes());
    bytes.extend(fixed);
    bytes.extend(names);
    let sum = checksum(&bytes[16..]);
    bytes[8..16].copy_from_slice(&sum.to_le_bytes());
    bytes
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

/// Mixes eight bytes at a time (multiply, rotate); the length enters last.
pub(crate) fn checksum(bytes: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |sum: u64, word: u64| (sum ^ word).wrapping_mul(FACTOR).rotate_left(29);
    let (words, rest) = bytes.as_chunks::<8>();
    let sum = words.iter().fold(FACTOR, |sum, word| mix(sum, u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let sum = mix(mix(sum, u64::from_le_bytes(last)), bytes.len() as u64);
    sum ^ (sum >> 32)
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

/// The keys of the index are hashes already.
#[derive(Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = checksum(bytes);
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
