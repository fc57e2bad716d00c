//! Cache keys.
//!
//! The key of an op is the digest of everything that its result depends on. A new field of an op adds
//! a row here, and raises the op's version when old results could be wrong for it.
//!
//! | op | what enters its key |
//! |---|---|
//! | every op | its name and version, and the platform where it runs (`platform`) |
//! | `source` | the base's identity: platform and chain ID (`chain`) |
//! | `exec` | the parent's result (`rootfs`); arguments (`args`), environment without the ARGs that it can't read (`env`), folder (`cwd`), user (`user`), heredoc files (`files`), network mode (`network`), security and devices; mounts: kind, target, options (`mount`), and per mount of files the content digest of what is selected (`mounted`), or its result id in the cheap key (`mounted result`) |
//! | `copy` | the parent's result (`rootfs`, since a destination's links, folders and user names matter); destination, owner, mode and other flags (`definition`); the content digest of what would be written (`selected`) |
//! | a linked `copy` | as `copy`, but no rootfs: it is made on nothing; of a `--chown` by name the numbers (`owner`) |
//! | `owner` | the parent's result (`rootfs`), the name (`owner`) |
//! | `merge` | the results that are put on each other (`layers`) |
//! | `add` | as `copy`, and whether archives unpack (`unpack`) |
//! | `remote` of http | what the checksum says (`checksum`), else the address (`url`), which is asked in each build; the result by the digest of its bytes and the server's time (`content`, `time`) |
//! | `remote` of git | the address, the folder in it and the flags; the result by the commit (`commit`) |
//! | `mkdir` | the parent's result (`rootfs`), the folder (`path`), owner and mode (`owner`, `mode`) |
//!
//! Never part of a key: secrets, ssh sockets, proxy arguments, resource limits, the content of cache
//! mounts, mtimes, and the place of the context.
//!
//! The digest is of a prefix code: each text has its length before it, each field its kind and name, so no
//! two different lists of fields give the same bytes.

use std::fmt;

use crate::Digest;

/// The longest value that [`Parts::texts`] shows whole, in bytes.
const SHOWN_BYTES: usize = 120;

/// What opens each key.
const START: &[u8] = b"kiln key 1";

/// What opens each field.
const FIELD: u8 = b'f';
const MISSING: u8 = b'n';
const LIST: u8 = b'l';

/// Collects the parts of a key.
#[derive(Clone)]
pub struct KeyBuilder {
    parts: Encoded,
}

/// The bytes that are digested, which are also what the parts are told from: only who records a result wants them.
#[derive(Clone, Default, PartialEq, Eq)]
struct Encoded {
    bytes: Vec<u8>,
    /// Where the fields begin whose values aren't shown.
    hidden: Vec<usize>,
}

/// The parts of a key: names and short texts.
#[derive(Clone, PartialEq, Eq)]
pub struct Parts(Told);

#[derive(Clone, PartialEq, Eq)]
enum Told {
    Encoded(Encoded),
    Texts(Vec<(String, String)>),
}

impl KeyBuilder {
    /// Begins the key of an op of this version.
    pub fn new(op: &str, version: u32) -> Self {
        let mut builder = Self { parts: Encoded::default() };
        builder.parts.bytes.extend_from_slice(START);
        builder.text(op.as_bytes());
        builder.parts.bytes.extend_from_slice(&version.to_le_bytes());
        builder
    }

    /// Adds a value.
    #[must_use]
    pub fn field(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.begin(FIELD, name);
        self.text(value.as_ref());
        self
    }

    /// Adds a value that may be a secret: its part shows a digest of it only.
    #[must_use]
    pub fn hidden(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.parts.hidden.push(self.parts.bytes.len());
        self.field(name, value)
    }

    /// Adds a value that may be missing; a missing one differs from an empty one.
    #[must_use]
    pub fn optional(mut self, name: &str, value: Option<impl AsRef<[u8]>>) -> Self {
        match value {
            Some(value) => self.field(name, value),
            None => {
                self.begin(MISSING, name);
                self
            }
        }
    }

    /// Adds values in their order.
    #[must_use]
    pub fn list<T: AsRef<[u8]>>(mut self, name: &str, values: impl IntoIterator<Item = T>) -> Self {
        let values: Vec<T> = values.into_iter().collect();
        self.begin(LIST, name);
        self.length(values.len());
        for value in &values {
            self.text(value.as_ref());
        }
        self
    }

    /// Returns the key.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.parts.bytes)
    }

    /// Returns the parts; comparing two builds of one step tells what changed.
    pub fn parts(&self) -> Parts {
        Parts(Told::Encoded(self.parts.clone()))
    }

    fn begin(&mut self, kind: u8, name: &str) {
        self.parts.bytes.push(kind);
        self.text(name.as_bytes());
    }

    fn text(&mut self, bytes: &[u8]) {
        self.length(bytes.len());
        self.parts.bytes.extend_from_slice(bytes);
    }

    fn length(&mut self, length: usize) {
        self.parts.bytes.extend_from_slice(&(length as u64).to_le_bytes());
    }
}

impl Parts {
    /// Returns the name and a short text of each part.
    pub fn texts(&self) -> Vec<(String, String)> {
        match &self.0 {
            Told::Texts(texts) => texts.clone(),
            Told::Encoded(encoded) => encoded.texts().expect("a builder wrote it"),
        }
    }
}

impl Default for Parts {
    fn default() -> Self {
        Vec::new().into()
    }
}

impl From<Vec<(String, String)>> for Parts {
    fn from(texts: Vec<(String, String)>) -> Self {
        Self(Told::Texts(texts))
    }
}

/// As texts: values may be secrets.
impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.texts()).finish()
    }
}

impl fmt::Debug for KeyBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts().fmt(f)
    }
}

impl Encoded {
    /// `None` for what no builder wrote.
    fn texts(&self) -> Option<Vec<(String, String)>> {
        let mut rest = Rest(self.bytes.strip_prefix(START)?);
        let op = rest.text()?;
        let version = u32::from_le_bytes(rest.take(4)?.try_into().ok()?);
        let mut texts = vec![("op".to_owned(), format!("{} {version}", String::from_utf8_lossy(op)))];
        while !rest.0.is_empty() {
            let at = self.bytes.len() - rest.0.len();
            let kind = rest.take(1)?[0];
            let name = String::from_utf8_lossy(rest.text()?).into_owned();
            let value = match kind {
                FIELD if self.hidden.binary_search(&at).is_ok() => {
                    format!("({})", Digest::of(rest.text()?).short())
                }
                FIELD => shown(rest.text()?),
                MISSING => "(none)".to_owned(),
                _ => {
                    let count = rest.length()?;
                    let values: Option<Vec<_>> =
                        (0..count).map(|_| rest.text().map(String::from_utf8_lossy)).collect();
                    shown(serde_json::json!(values?).to_string().as_bytes())
                }
            };
            texts.push((name, value));
        }
        Some(texts)
    }
}

/// What is still to be read of an encoded key.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(u64::from_le_bytes(self.take(8)?.try_into().ok()?)).ok()
    }

    fn text(&mut self) -> Option<&'a [u8]> {
        let length = self.length()?;
        self.take(length)
    }
}

/// Shortens a value for people; different values stay different by their digest.
fn shown(value: &[u8]) -> String {
    match std::str::from_utf8(value) {
        Ok(text) if text.len() <= SHOWN_BYTES => text.to_owned(),
        Ok(text) => {
            let start: String = text.chars().take(SHOWN_BYTES / 2).collect();
            format!("{start}… ({} bytes, {})", text.len(), Digest::of(value).short())
        }
        Err(_) => format!("({} bytes, {})", value.len(), Digest::of(value).short()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, PartialEq, Eq, Hash)]
    enum Part {
        Field(String, Vec<u8>),
        Missing(String),
        List(String, Vec<Vec<u8>>),
    }

    type Key = (String, u32, Vec<Part>);

    fn build((op, version, parts): &Key) -> KeyBuilder {
        parts.iter().fold(KeyBuilder::new(op, *version), |builder, part| match part {
            Part::Field(name, value) => builder.field(name, value),
            Part::Missing(name) => builder.optional(name, None::<&str>),
            Part::List(name, values) => builder.list(name, values),
        })
    }

    /// Few and short texts, so that equal and nearly equal keys come up.
    fn any_key() -> impl Strategy<Value = Key> {
        let text = "[ab\0]{0,2}";
        let bytes = || proptest::collection::vec(0..3u8, 0..3);
        let part = prop_oneof![
            (text, bytes()).prop_map(|(name, value)| Part::Field(name, value)),
            text.prop_map(Part::Missing),
            (text, proptest::collection::vec(bytes(), 0..3))
                .prop_map(|(name, values)| Part::List(name, values)),
        ];
        (text, 0..2u32, proptest::collection::vec(part, 0..4))
    }

    proptest! {
        #[test]
        fn two_keys_are_equal_only_if_all_parts_are(one in any_key(), other in any_key()) {
            prop_assert_eq!(build(&one).digest() == build(&other).digest(), one == other);
        }

        #[test]
        fn moving_a_boundary_changes_the_key(text in "[a-z]{2,12}", at in 1..12usize) {
            let (left, right) = text.split_at(at.min(text.len() - 1));
            let keys = [
                KeyBuilder::new("op", 1).field(&text, ""),
                KeyBuilder::new("op", 1).field(left, right),
                KeyBuilder::new("op", 1).field("", &text),
                KeyBuilder::new("op", 1).field(left, "").field(right, ""),
                KeyBuilder::new("op", 1).list(left, [right]),
                KeyBuilder::new("op", 1).list("", [left, right]),
                KeyBuilder::new("op", 1).list("", [&text]),
                KeyBuilder::new("op", 1).list("", [left]).list("", [right]),
            ];
            let encoded: HashSet<_> = keys.iter().map(KeyBuilder::digest).collect();
            prop_assert_eq!(encoded.len(), keys.len());
        }
    }

    #[test]
    fn missing_and_empty_differ() {
        let (missing, empty) = (
            KeyBuilder::new("op", 1).optional("mode", None::<&str>),
            KeyBuilder::new("op", 1).optional("mode", Some("")),
        );
        assert_ne!(missing.digest(), empty.digest());
        assert_ne!(missing.parts(), empty.parts());
        assert_eq!(empty.digest(), KeyBuilder::new("op", 1).field("mode", "").digest());
        assert_ne!(
            KeyBuilder::new("op", 1).list("l", [""; 0]).digest(),
            KeyBuilder::new("op", 1).list("l", [""]).digest()
        );
    }

    #[test]
    fn parts_are_short_and_tell_builds_apart() {
        let long = |end: &str| KeyBuilder::new("exec", 1).field("script", "echo ".repeat(1000) + end);
        let (one, other) = (long("1"), long("2"));
        assert_ne!(one.parts().texts(), other.parts().texts());
        assert!(one.parts().texts().iter().all(|(_, value)| value.len() < 2 * SHOWN_BYTES));
        let key = KeyBuilder::new("exec", 1).list("args", ["sh", "-c", "true"]).field("cwd", "/");
        let expected = [("op", "exec 1"), ("args", r#"["sh","-c","true"]"#), ("cwd", "/")];
        assert_eq!(key.parts().texts(), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let binary = KeyBuilder::new("exec", 1).field("file", [0xff, 0]).parts().texts();
        assert_eq!(binary[1].1, format!("(2 bytes, {})", Digest::of([0xff, 0]).short()));
    }

    #[test]
    fn a_hidden_value_makes_the_same_key_and_is_in_no_part() {
        let (plain, hidden) = (
            KeyBuilder::new("exec", 1).field("env A", "hunter2"),
            KeyBuilder::new("exec", 1).hidden("env A", "hunter2"),
        );
        assert_eq!(plain.digest(), hidden.digest());
        assert_eq!(
            hidden.parts().texts()[1],
            ("env A".to_owned(), format!("({})", Digest::of("hunter2").short()))
        );
    }

    #[test]
    fn a_key_stays_the_same_across_versions_of_kiln() {
        let key = KeyBuilder::new("copy", 1).field("rootfs", "r").list("sources", ["a", "b"]);
        assert_eq!(key.digest().short(), "2804fec11556");
    }
}
