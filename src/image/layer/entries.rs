//! The entries of a tar stream, one after another, with bounded memory.
//!
//! The `tar` crate gives the header's layout and checksum. Its own entry iterator isn't used: it reads
//! long names and PAX records of any size into memory, cuts PAX values at newlines (a capability's bytes
//! may hold one), takes a truncated entry for a short one, and knows no PAX sparse files.
//!
//! Sources: POSIX.1-2017 pax, "ustar Interchange Format" and "pax Header Block"; GNU tar manual,
//! "Storing Sparse Files". As in Go's reader, global PAX headers are skipped.

use std::io::{self, Read};

use super::error::{LayerError, shown};

/// Bytes of a tar block.
pub(super) const BLOCK: u64 = 512;
/// Longest long name or PAX record block; Go's reader has the same limit.
const META_BYTES: u64 = 1 << 20;
/// Most extension headers before one entry.
const EXTENSIONS: u32 = 16;
/// Most data segments that a sparse file may have.
const SEGMENTS: usize = 1 << 18;

/// What an entry makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    HardLink,
    Symlink,
    Directory,
    Char(u32, u32),
    Block(u32, u32),
    Fifo,
}

/// One entry's attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// As written, without any cleaning.
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) link: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Seconds and nanoseconds.
    pub(crate) mtime: (i64, u32),
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The file's length.
    pub(crate) size: u64,
    /// Where the stored bytes go, `(offset, length)`; `None` means all of them from 0.
    pub(crate) segments: Option<Vec<(u64, u64)>>,
}

/// The entries of a tar stream.
pub(crate) struct Entries<R> {
    reader: R,
    offset: u64,
    /// Bytes of the current entry that weren't read yet.
    left: u64,
    padding: u64,
    current: Vec<u8>,
}

/// What extension headers say about the entry that follows.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u64>,
    gid: Option<u64>,
    mtime: Option<(i64, u32)>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    sparse: Sparse,
}

#[derive(Default)]
struct Sparse {
    name: Option<Vec<u8>>,
    real_size: Option<u64>,
    /// Formats 0.0 and 0.1.
    numbers: Vec<u64>,
    /// Format 1.0: the map stands before the data.
    inline_map: bool,
}

impl<R: Read> Entries<R> {
    pub(crate) fn new(reader: R) -> Self {
        Self { reader, offset: 0, left: 0, padding: 0, current: Vec::new() }
    }

    /// Returns the next entry; what is unread of the last one is skipped.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, LayerError> {
        self.skip(self.left + self.padding)?;
        (self.left, self.padding) = (0, 0);
        self.current.clear();
        let mut extensions = Extensions::default();
        let mut budget = EXTENSIONS;
        loop {
            let Some(header) = self.header()? else { return Ok(None) };
            let kind = header.entry_type();
            let size = self.number(&header.as_old().size, "size")?;
            match kind.as_byte() {
                b'g' | b'V' => self.skip(padded(size)?)?,
                b'x' => {
                    let records = self.meta(size)?;
                    extensions.read_pax(&records).map_err(|reason| self.damaged(reason))?;
                }
                b'L' => extensions.path = Some(until_nul(&self.meta(size)?).to_vec()),
                b'K' => extensions.link = Some(until_nul(&self.meta(size)?).to_vec()),
                _ => return self.entry(&header, extensions, size).map(Some),
            }
            budget =
                budget.checked_sub(1).ok_or_else(|| self.damaged("too many extension headers in a row"))?;
        }
    }

    /// Reads data of the current entry; 0 at its end.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, LayerError> {
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if want == 0 {
            return Ok(0);
        }
        let got = self.pull(&mut buffer[..want])?;
        if got == 0 {
            return Err(self.truncated());
        }
        self.left -= got as u64;
        Ok(got)
    }

    /// Reads what follows the archive's end to the end of the stream.
    pub(crate) fn drain(&mut self) -> Result<(), LayerError> {
        let mut sink = [0; 8192];
        while self.pull(&mut sink)? > 0 {}
        Ok(())
    }

    fn entry(
        &mut self,
        header: &tar::Header,
        extensions: Extensions,
        size: u64,
    ) -> Result<Entry, LayerError> {
        let mut ext = extensions;
        let path = ext.sparse.name.take().or(ext.path).unwrap_or_else(|| header.path_bytes().into_owned());
        self.current.clone_from(&path);
        let kind = self.kind(header, &path)?;
        let stored = if kind == Kind::File { ext.size.unwrap_or(size) } else { 0 };
        self.left = stored;
        self.padding = padded(stored)? - stored;
        let mut entry = Entry {
            kind,
            link: ext
                .link
                .or_else(|| header.link_name_bytes().map(|name| name.into_owned()))
                .unwrap_or_default(),
            mode: (self.number(&header.as_old().mode, "mode")? & 0o7777) as u32,
            uid: self.id(&header.as_old().uid, ext.uid)?,
            gid: self.id(&header.as_old().gid, ext.gid)?,
            mtime: ext.mtime.unwrap_or((self.signed(&header.as_old().mtime, "mtime")?, 0)),
            xattrs: ext.xattrs,
            size: stored,
            segments: None,
            path,
        };
        if entry.path.contains(&0) || entry.link.contains(&0) {
            return Err(LayerError::refused(&entry.path, "has a name with a NUL byte"));
        }
        if kind == Kind::File {
            if header.entry_type().as_byte() == b'S' {
                self.old_sparse(header, &mut entry)?;
            } else if ext.sparse.inline_map || ext.sparse.real_size.is_some() {
                let sparse = ext.sparse;
                let numbers = if sparse.inline_map { self.inline_map()? } else { sparse.numbers };
                self.set_segments(&mut entry, &numbers, sparse.real_size.unwrap_or(stored))?;
            }
        }
        Ok(entry)
    }

    fn kind(&self, header: &tar::Header, path: &[u8]) -> Result<Kind, LayerError> {
        let device = || -> Result<(u32, u32), LayerError> {
            let major = header.device_major().ok().flatten().unwrap_or(0);
            let minor = header.device_minor().ok().flatten().unwrap_or(0);
            Ok((major, minor))
        };
        Ok(match header.entry_type().as_byte() {
            b'0' | 0 | b'7' if path.ends_with(b"/") => Kind::Directory,
            b'0' | 0 | b'7' | b'S' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => device().map(|(major, minor)| Kind::Char(major, minor))?,
            b'4' => device().map(|(major, minor)| Kind::Block(major, minor))?,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => {
                return Err(LayerError::refused(
                    path,
                    format!("has the unknown type `{}`", other.escape_ascii()),
                ));
            }
        })
    }

    /// GNU's old sparse format: four segments in the header, 21 in each block that follows.
    fn old_sparse(&mut self, header: &tar::Header, entry: &mut Entry) -> Result<(), LayerError> {
        let Some(gnu) = header.as_gnu() else {
            return Err(self.damaged("a sparse file without GNU's header"));
        };
        let real = self.number(&gnu.realsize, "real size")?;
        let mut numbers = Vec::new();
        for segment in gnu.sparse.iter().filter(|segment| segment.offset[0] != 0 || segment.numbytes[0] != 0)
        {
            numbers.push(self.number(&segment.offset, "sparse offset")?);
            numbers.push(self.number(&segment.numbytes, "sparse length")?);
        }
        let mut more = gnu.isextended[0] != 0;
        while more {
            let mut block = tar::GnuExtSparseHeader::new();
            self.fill(block.as_mut_bytes())?;
            for segment in block.sparse.iter().filter(|s| s.offset[0] != 0 || s.numbytes[0] != 0) {
                numbers.push(self.number(&segment.offset, "sparse offset")?);
                numbers.push(self.number(&segment.numbytes, "sparse length")?);
            }
            if numbers.len() > 2 * SEGMENTS {
                return Err(self.damaged("too many sparse segments"));
            }
            more = block.isextended[0] != 0;
        }
        self.set_segments(entry, &numbers, real)
    }

    /// PAX format 1.0: decimal lines in whole blocks before the data: count, then offset and length of each.
    fn inline_map(&mut self) -> Result<Vec<u64>, LayerError> {
        let mut numbers = Vec::new();
        let mut wanted = None;
        let mut line = Vec::new();
        while wanted.is_none_or(|wanted| numbers.len() < wanted) {
            if self.left < BLOCK {
                return Err(self.damaged("a sparse map that doesn't end"));
            }
            let mut block = [0; BLOCK as usize];
            self.fill(&mut block)?;
            self.left -= BLOCK;
            for &byte in &block {
                if byte != b'\n' {
                    if line.len() > 20 {
                        return Err(self.damaged("a bad sparse map"));
                    }
                    line.push(byte);
                    continue;
                }
                let number = decimal(&line).ok_or_else(|| self.damaged("a bad sparse map"))?;
                line.clear();
                match wanted {
                    None if number <= SEGMENTS as u64 => wanted = Some(2 * number as usize),
                    None => return Err(self.damaged("too many sparse segments")),
                    Some(wanted) if numbers.len() < wanted => numbers.push(number),
                    Some(_) => {}
                }
                if wanted.is_some_and(|wanted| numbers.len() >= wanted) {
                    break;
                }
            }
        }
        Ok(numbers)
    }

    fn set_segments(&self, entry: &mut Entry, numbers: &[u64], real: u64) -> Result<(), LayerError> {
        let mut end = 0_u64;
        let mut stored = 0_u64;
        let mut segments = Vec::with_capacity(numbers.len() / 2);
        for pair in numbers.chunks(2) {
            let &[offset, length] = pair else { return Err(self.damaged("a bad sparse map")) };
            let fits = offset >= end && offset.checked_add(length).is_some_and(|end| end <= real);
            if !fits {
                return Err(self.damaged("sparse segments that overlap or leave the file"));
            }
            end = offset + length;
            stored += length;
            if length > 0 {
                segments.push((offset, length));
            }
        }
        if stored != self.left || i64::try_from(real).is_err() {
            return Err(self.damaged("a sparse map that doesn't fit the data"));
        }
        entry.size = real;
        entry.segments = Some(segments);
        Ok(())
    }

    /// Reads the next header; `None` at the end marker or at the end of the stream.
    fn header(&mut self) -> Result<Option<tar::Header>, LayerError> {
        let mut header = tar::Header::new_old();
        let got = self.fill_some(header.as_mut_bytes())?;
        if got == 0 {
            return Ok(None);
        }
        if got < BLOCK as usize {
            return Err(LayerError::Truncated { entry: None });
        }
        if header.as_bytes().iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let mut copy = header.clone();
        copy.set_cksum();
        let expected = numeric(&copy.as_old().cksum);
        if expected.is_none() || expected != numeric(&header.as_old().cksum) {
            return Err(self.damaged("wrong checksum (is this a tar archive?)"));
        }
        Ok(Some(header))
    }

    fn meta(&mut self, size: u64) -> Result<Vec<u8>, LayerError> {
        if size > META_BYTES {
            return Err(self.damaged("an extension header of more than 1 MiB"));
        }
        let mut bytes = vec![0; size as usize];
        self.fill(&mut bytes)?;
        self.skip(padded(size)? - size)?;
        Ok(bytes)
    }

    fn skip(&mut self, mut bytes: u64) -> Result<(), LayerError> {
        let mut sink = [0; 8192];
        while bytes > 0 {
            let want = bytes.min(sink.len() as u64) as usize;
            let got = self.pull(&mut sink[..want])?;
            if got == 0 {
                return Err(self.truncated());
            }
            bytes -= got as u64;
        }
        Ok(())
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), LayerError> {
        if self.fill_some(buffer)? < buffer.len() {
            return Err(self.truncated());
        }
        Ok(())
    }

    fn fill_some(&mut self, buffer: &mut [u8]) -> Result<usize, LayerError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.pull(&mut buffer[filled..])? {
                0 => break,
                got => filled += got,
            }
        }
        Ok(filled)
    }

    fn pull(&mut self, buffer: &mut [u8]) -> Result<usize, LayerError> {
        loop {
            match self.reader.read(buffer) {
                Ok(got) => {
                    self.offset += got as u64;
                    return Ok(got);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(self.truncated()),
                Err(error) => return Err(LayerError::Read(error)),
            }
        }
    }

    fn id(&self, field: &[u8], extension: Option<u64>) -> Result<u32, LayerError> {
        let id = extension.map_or_else(|| self.number(field, "owner"), Ok)?;
        // The last number means "no change" to chown.
        u32::try_from(id)
            .ok()
            .filter(|id| *id != u32::MAX)
            .ok_or_else(|| self.damaged("an owner beyond 32 bits"))
    }

    fn number(&self, field: &[u8], what: &str) -> Result<u64, LayerError> {
        let number = self.signed(field, what)?;
        u64::try_from(number).map_err(|_| self.damaged(format!("a negative {what}")))
    }

    fn signed(&self, field: &[u8], what: &str) -> Result<i64, LayerError> {
        numeric(field).ok_or_else(|| self.damaged(format!("a bad {what}")))
    }

    fn damaged(&self, reason: impl Into<String>) -> LayerError {
        LayerError::Header { offset: self.offset.saturating_sub(BLOCK), reason: reason.into() }
    }

    fn truncated(&self) -> LayerError {
        let entry = (!self.current.is_empty()).then(|| shown(&self.current));
        LayerError::Truncated { entry }
    }
}

impl Extensions {
    /// Takes in PAX records: `<length> <key>=<value>\n`, where length counts itself; later ones win.
    fn read_pax(&mut self, mut records: &[u8]) -> Result<(), &'static str> {
        const BAD: &str = "malformed PAX record";
        while !records.is_empty() {
            if records.iter().all(|byte| *byte == 0) {
                break;
            }
            let space = records.iter().take(20).position(|byte| *byte == b' ').ok_or(BAD)?;
            let length = decimal(&records[..space]).and_then(|n| usize::try_from(n).ok()).ok_or(BAD)?;
            if length <= space + 1 || length > records.len() || records[length - 1] != b'\n' {
                return Err(BAD);
            }
            let record = &records[space + 1..length - 1];
            let equals = record.iter().position(|byte| *byte == b'=').ok_or(BAD)?;
            self.set(&record[..equals], &record[equals + 1..]).ok_or(BAD)?;
            records = &records[length..];
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        // An empty value takes a former one back.
        let number = || if value.is_empty() { Some(None) } else { decimal(value).map(Some) };
        let text = || (!value.is_empty()).then(|| value.to_vec());
        match key {
            b"path" => self.path = text(),
            b"linkpath" => self.link = text(),
            b"size" => self.size = number()?,
            b"uid" => self.uid = number()?,
            b"gid" => self.gid = number()?,
            b"mtime" => self.mtime = if value.is_empty() { None } else { Some(pax_time(value)?) },
            b"GNU.sparse.name" => self.sparse.name = text(),
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.sparse.real_size = number()?,
            b"GNU.sparse.major" => self.sparse.inline_map = value == b"1",
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => {
                self.sparse.numbers.push(decimal(value)?);
            }
            b"GNU.sparse.map" => {
                let numbers: Option<Vec<u64>> = value.split(|byte| *byte == b',').map(decimal).collect();
                self.sparse.numbers = numbers?;
            }
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattrs.retain(|(known, _)| known != name);
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Some(())
    }
}

/// Rounds up to whole blocks.
fn padded(size: u64) -> Result<u64, LayerError> {
    size.checked_next_multiple_of(BLOCK)
        .filter(|size| i64::try_from(*size).is_ok())
        .ok_or(LayerError::Header { offset: 0, reason: "a size beyond 63 bits".to_owned() })
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Reads `seconds[.fraction]`, negative ones too.
fn pax_time(value: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanos: u32 = format!("{:0<9.9}", fraction).parse().ok()?;
    if whole.starts_with('-') && nanos > 0 {
        return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanos));
    }
    Some((seconds, nanos))
}

/// Reads a header's number: octal text, or two's complement when the first bit is set.
fn numeric(field: &[u8]) -> Option<i64> {
    if field.first().is_some_and(|byte| byte & 0x80 != 0) {
        let negative = field[0] & 0x40 != 0;
        let mut value: i128 = if negative { -1 } else { 0 };
        for (index, byte) in field.iter().enumerate() {
            let bits = if index == 0 { byte & 0x3f | if negative { 0xc0 } else { 0 } } else { *byte };
            value = value.checked_mul(256)? | i128::from(bits);
        }
        return i64::try_from(value).ok();
    }
    let text = std::str::from_utf8(until_nul(field)).ok()?.trim();
    if text.is_empty() { Some(0) } else { i64::from_str_radix(text, 8).ok().filter(|number| *number >= 0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_the_formats_say() {
        assert_eq!(numeric(b"0000644\0"), Some(0o644));
        assert_eq!(numeric(b"   644 \0"), Some(0o644));
        assert_eq!(numeric(b"\0\0\0\0\0\0\0\0"), Some(0));
        assert_eq!(numeric(&[0x80, 0, 0, 0, 0, 0, 1, 0]), Some(256));
        assert_eq!(numeric(&[0xff; 12]), Some(-1));
        assert_eq!(numeric(b"64x"), None);
        assert_eq!(numeric(b"-4"), None);
    }

    #[test]
    fn times_keep_their_fraction() {
        assert_eq!(pax_time(b"12.5"), Some((12, 500_000_000)));
        assert_eq!(pax_time(b"-1.25"), Some((-2, 750_000_000)));
        assert_eq!(pax_time(b"7"), Some((7, 0)));
        assert_eq!(pax_time(b"1.1234567899"), Some((1, 123_456_789)));
        assert_eq!(pax_time(b"x"), None);
    }

    #[test]
    fn a_pax_value_may_hold_a_newline() {
        let mut extensions = Extensions::default();
        extensions.read_pax(b"27 SCHILY.xattr.user.a=\n\n\n\n").unwrap();
        assert_eq!(extensions.xattrs, [(b"user.a".to_vec(), b"\n\n\n".to_vec())]);
    }

    #[test]
    fn an_enormous_extension_is_refused_without_reading_it() {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::GNULongName);
        header.set_size(1 << 33);
        header.set_cksum();
        let mut entries = Entries::new(header.as_bytes().as_slice());
        assert!(entries.next().unwrap_err().to_string().contains("more than 1 MiB"));
    }
}
