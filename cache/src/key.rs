//! Cache keys.
//!
//! The key of an op is the digest of everything that its result depends on. A new field of an op adds
//! a row here, and raises the op's version when old results could be wrong for it.
//!
//! | op | what enters its key |
//! |---|---|
//! | every op | its name and version, and the platform where it runs (`platform`) |
//! | `source` | the base's identity: platform and chain ID (`chain`) |
//! | `exec` | the parent's result (`rootfs`); arguments (`args`), environment (`env`), folder (`cwd`), user (`user`), heredoc files (`files`), network mode (`network`), mounts: kind, target, options (`mounts`), and per bind mount the content digest of what is selected (`selected`) |
//! | `copy` | the parent's result (`rootfs`, since a destination's links, folders and user names matter); destination, owner, mode and other flags (`definition`); the content digest of what would be written (`selected`) |
//! | `add` | as `copy`, and whether archives unpack (`unpack`) |
//! | `mkdir` | the parent's result (`rootfs`), the folder (`path`), owner and mode (`owner`, `mode`) |
//!
//! Never part of a key: secrets, ssh sockets, proxy arguments, resource limits, the content of cache
//! mounts, mtimes, and the place of the context.
//!
//! The digest is of a prefix code: each text has its length before it, each field its kind and name, so no
//! two different lists of fields give the same bytes.

use crate::{Digest, Hasher};

/// The longest value that [`KeyBuilder::parts`] shows whole, in bytes.
const SHOWN_BYTES: usize = 120;

/// Collects the parts of a key.
#[derive(Debug, Clone)]
pub struct KeyBuilder {
    hasher: Hasher,
    parts: Vec<(String, String)>,
}

impl KeyBuilder {
    /// Begins the key of an op of this version.
    pub fn new(op: &str, version: u32) -> Self {
        let mut builder = Self { hasher: Hasher::new(), parts: Vec::new() };
        builder.hasher.update(b"kiln key 1");
        builder.text(op.as_bytes());
        builder.hasher.update(&version.to_le_bytes());
        builder.parts.push(("op".to_owned(), format!("{op} {version}")));
        builder
    }

    /// Adds a value.
    #[must_use]
    pub fn field(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.begin(b'f', name);
        self.text(value.as_ref());
        self.parts.push((name.to_owned(), shown(value.as_ref())));
        self
    }

    /// Adds a value that may be missing; a missing one differs from an empty one.
    #[must_use]
    pub fn optional(mut self, name: &str, value: Option<impl AsRef<[u8]>>) -> Self {
        match value {
            Some(value) => self.field(name, value),
            None => {
                self.begin(b'n', name);
                self.parts.push((name.to_owned(), "(none)".to_owned()));
                self
            }
        }
    }

    /// Adds values in their order.
    #[must_use]
    pub fn list<T: AsRef<[u8]>>(mut self, name: &str, values: impl IntoIterator<Item = T>) -> Self {
        let values: Vec<T> = values.into_iter().collect();
        self.begin(b'l', name);
        self.length(values.len());
        for value in &values {
            self.text(value.as_ref());
        }
        let texts: Vec<_> = values.iter().map(|value| String::from_utf8_lossy(value.as_ref())).collect();
        let all = serde_json::json!(texts).to_string();
        self.parts.push((name.to_owned(), shown(all.as_bytes())));
        self
    }

    /// Returns the key.
    pub fn digest(&self) -> Digest {
        self.hasher.clone().finish()
    }

    /// Returns the name and a short text of each part; comparing two builds of one step tells what changed.
    pub fn parts(&self) -> Vec<(String, String)> {
        self.parts.clone()
    }

    fn begin(&mut self, kind: u8, name: &str) {
        self.hasher.update(&[kind]);
        self.text(name.as_bytes());
    }

    fn text(&mut self, bytes: &[u8]) {
        self.length(bytes.len());
        self.hasher.update(bytes);
    }

    fn length(&mut self, length: usize) {
        self.hasher.update(&(length as u64).to_le_bytes());
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
