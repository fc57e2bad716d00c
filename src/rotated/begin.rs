//! Where a file begins in all that was ever written, as an attribute of the file: by it a reader knows how much was
//! dropped before it could read it. On a filesystem without attributes nobody knows.

use std::ffi::CStr;
use std::fs::File;

use rustix::fs::XattrFlags;

/// A number of bytes, as decimal digits.
const NAME: &CStr = c"user.kiln.begin";

/// Notes that `file` begins after `bytes` of earlier files; they count as they were before any compression.
pub fn set(file: &File, bytes: u64) {
    let _ = rustix::fs::fsetxattr(file, NAME, bytes.to_string().as_bytes(), XattrFlags::empty());
}

/// Tells where `file` begins; `None` for the first one, and where nothing is noted.
pub fn of(file: &File) -> Option<u64> {
    let mut value = [0; 20];
    let length = rustix::fs::fgetxattr(file, NAME, &mut value[..]).ok()?;
    std::str::from_utf8(value.get(..length)?).ok()?.parse().ok()
}
