//! The headers of a tar: ustar, with PAX records only where a value doesn't fit.
//!
//! Written by hand, because a library's choices would be a part of every diffID.

use std::io::Write;

use super::entries::BLOCK;
use super::error::LayerError;

/// Largest number of 11 octal digits.
const OCTAL_11: u64 = (1 << 33) - 1;
/// Largest number of 7 octal digits.
const OCTAL_7: u64 = (1 << 21) - 1;

/// What a header says.
pub(crate) struct Header<'a> {
    /// The type flag: `0` a file, `1` a hard link, `2` a symlink, `3` and `4` devices, `5` a folder, `6` a FIFO.
    pub(crate) kind: u8,
    pub(crate) path: &'a [u8],
    /// Where a link points.
    pub(crate) link: &'a [u8],
    /// Permission bits.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Unix seconds.
    pub(crate) mtime: i64,
    /// Bytes of content.
    pub(crate) size: u64,
    /// A device's major and minor number.
    pub(crate) device: Option<(u32, u32)>,
    pub(crate) xattrs: &'a [(Vec<u8>, Vec<u8>)],
}

/// Writes a tar, header by header.
pub(crate) struct TarWriter<'a>(pub(crate) &'a mut dyn Write);

impl TarWriter<'_> {
    /// Writes the header of an entry; its content follows.
    pub(crate) fn header(&mut self, header: &Header<'_>) -> Result<(), LayerError> {
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
        self.0.write_all(&block).map_err(LayerError::Output)
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
        self.0.write_all(&ustar(&header, (b"", header.path), 0)).map_err(LayerError::Output)?;
        self.0.write_all(records).map_err(LayerError::Output)?;
        self.pad(header.size)
    }

    /// Fills the last block of a content of `size` bytes.
    pub(crate) fn pad(&mut self, size: u64) -> Result<(), LayerError> {
        let padding = (size.next_multiple_of(BLOCK) - size) as usize;
        self.0.write_all(&[0; BLOCK as usize][..padding]).map_err(LayerError::Output)
    }

    /// Writes a part of an entry's content.
    pub(crate) fn content(&mut self, bytes: &[u8]) -> Result<(), LayerError> {
        self.0.write_all(bytes).map_err(LayerError::Output)
    }

    /// Ends the tar.
    pub(crate) fn finish(self) -> Result<(), LayerError> {
        self.0.write_all(&[0; 2 * BLOCK as usize]).map_err(LayerError::Output)?;
        self.0.flush().map_err(LayerError::Output)
    }
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
}
