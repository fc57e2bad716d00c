//! `user[:group]` to numbers, by the rootfs's own files.

use std::io::Read;

use super::{Error, Kind, Result, Tree, resolve};

/// A larger passwd or group file isn't read further: a step can't make kiln hold gigabytes.
const MAX_DATABASE_BYTES: u64 = 4 << 20;

/// A user and a group by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Owner {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// Returns the owner that `text` (`user[:group]`, names or numbers) means in the image `rootfs`.
///
/// Without a group: the user's primary group when it is named, the user's own number else, as BuildKit
/// does. Empty text is root.
pub fn lookup_owner(rootfs: &dyn Tree, text: &str) -> Result<Owner> {
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    let invalid = |reason| Error::InvalidOwner { text: text.into(), reason };
    if group.is_some_and(|group| group.contains(':')) {
        return Err(invalid("it has more than one colon"));
    }
    let (uid, primary) = match number(user) {
        _ if user.is_empty() => (0, 0),
        Some(number) => (number.map_err(invalid)?, number.map_err(invalid)?),
        None => named(rootfs, "user", user)?,
    };
    let gid = match group {
        None | Some("") => primary,
        Some(group) => match number(group) {
            Some(number) => number.map_err(invalid)?,
            None => named(rootfs, "group", group)?.0,
        },
    };
    Ok(Owner { uid, gid })
}

/// `None` for text that is a name.
fn number(text: &str) -> Option<std::result::Result<u32, &'static str>> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // The highest number means "leave as it is" to chown(2).
    Some(text.parse().ok().filter(|id| *id != u32::MAX).ok_or("the number is too large"))
}

/// Returns fields 3 and 4 of the line of `name`: uid and gid in passwd, gid in group.
fn named(rootfs: &dyn Tree, what: &'static str, name: &str) -> Result<(u32, u32)> {
    let file = if what == "user" { "/etc/passwd" } else { "/etc/group" };
    let text = read_small(rootfs, file.as_bytes())?;
    let field = |field: Option<&[u8]>| std::str::from_utf8(field?).ok()?.parse::<u32>().ok();
    for line in text.split(|byte| *byte == b'\n') {
        let mut fields = line.split(|byte| *byte == b':');
        if fields.next() != Some(name.as_bytes()) {
            continue;
        }
        if let Some(id) = field(fields.nth(1)) {
            return Ok((id, field(fields.next()).unwrap_or(id)));
        }
    }
    Err(Error::UnknownOwner { what, name: name.into(), file })
}

/// Returns the start of a file, empty if there is none.
fn read_small(rootfs: &dyn Tree, path: &[u8]) -> Result<Vec<u8>> {
    let Some(entry) = resolve(rootfs, path)?.entry.filter(|entry| entry.kind == Kind::File) else {
        return Ok(Vec::new());
    };
    let mut text = Vec::new();
    let file = rootfs.open(&entry)?;
    file.take(MAX_DATABASE_BYTES)
        .read_to_end(&mut text)
        .map_err(|source| Error::io("read", &entry.path, source))?;
    Ok(text)
}
