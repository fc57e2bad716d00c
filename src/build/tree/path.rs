//! Relative paths as bytes: `a/b`, the root is empty.

use std::cmp::Ordering;

/// Returns `path` without `.`, empty parts and `..`, which stops at the root.
///
/// Lexical only, as Go's `path.Clean("/" + path)` without its slash.
pub fn clean(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    parts.join(&b'/')
}

/// Joins two relative paths; either may be empty.
pub fn join(base: &[u8], rest: &[u8]) -> Vec<u8> {
    if base.is_empty() || rest.is_empty() {
        return [base, rest].concat();
    }
    [base, b"/", rest].concat()
}

/// Splits off the last name: `a/b/c` gives `a/b` and `c`.
pub fn split_last(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// Returns the directory above `path`; `None` for the root.
pub fn parent(path: &[u8]) -> Option<&[u8]> {
    (!path.is_empty()).then(|| split_last(path).0)
}

/// Orders paths part by part, so that a directory comes right before what is in it.
pub fn compare(left: &[u8], right: &[u8]) -> Ordering {
    let same = left.iter().zip(right).take_while(|(left, right)| left == right).count();
    let rank =
        |byte: Option<&u8>| byte.map_or(0, |byte| if *byte == b'/' { 1 } else { u16::from(*byte) + 2 });
    rank(left.get(same)).cmp(&rank(right.get(same)))
}

/// Returns `path` inside its own tree: without the name under which that stands beside another ([`super::beside`]).
pub fn inner(path: &[u8]) -> &[u8] {
    match path.first() {
        Some(0) => path.splitn(2, |byte| *byte == b'/').nth(1).unwrap_or(b""),
        _ => path,
    }
}

/// Returns `path` as users read it: absolute inside its tree.
pub fn show(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(inner(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleaning_stops_at_the_root() {
        for (path, cleaned) in [
            ("", ""),
            (".", ""),
            ("/", ""),
            ("a//b/", "a/b"),
            ("./a/./b", "a/b"),
            ("../../x", "x"),
            ("a/../../b", "b"),
            ("a/b/..", "a"),
            ("..a/b", "..a/b"),
        ] {
            assert_eq!(clean(path.as_bytes()), cleaned.as_bytes(), "{path}");
        }
    }

    #[test]
    fn a_directory_comes_before_its_content_and_its_content_before_longer_names() {
        let mut paths = ["a.txt", "a/b", "a", "a-b", "b", "a/b/c", "a/b-"].map(str::as_bytes);
        paths.sort_by(|left, right| compare(left, right));
        let shown: Vec<_> = paths.iter().map(|path| String::from_utf8_lossy(path)).collect();
        assert_eq!(shown, ["a", "a/b", "a/b/c", "a/b-", "a-b", "a.txt", "b"]);
    }

    #[test]
    fn the_parent_of_a_name_is_the_root() {
        assert_eq!(parent(b"a"), Some(b"".as_slice()));
        assert_eq!(parent(b"a/b"), Some(b"a".as_slice()));
        assert_eq!(parent(b""), None);
        assert_eq!(join(b"", b"a"), b"a");
        assert_eq!(join(b"a", b"b/c"), b"a/b/c");
        assert_eq!(join(b"a", b""), b"a");
    }
}
