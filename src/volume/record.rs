//! What is known of a volume: `volume.json`, written once, when it is made.
//!
//! A volume of an older kiln has none; what it would say follows from the folder.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

use super::error::{At, Error, Result};

/// The format of the file.
const VERSION: u32 = 1;
const FILE: &str = "volume.json";
/// Digits of an anonymous volume's name.
const ANONYMOUS_DIGITS: usize = 64;

/// A volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The format; another one is refused.
    pub version: u32,
    /// Its name, which its folder has too: a rename changes that alone.
    #[serde(skip)]
    pub name: String,
    /// Unix nanoseconds.
    pub created: i64,
    /// Given by the user.
    pub labels: BTreeMap<String, String>,
    /// The driver's: what is mounted in the place of the volume's own folder.
    pub options: BTreeMap<String, String>,
    /// Made without a name, for one container.
    pub anonymous: bool,
    /// A snapshot: nobody writes to it.
    pub readonly: bool,
}

impl Record {
    /// The record of a volume that is made now.
    pub(super) fn new(name: &str) -> Self {
        let created = now();
        Self { version: VERSION, name: name.to_owned(), created, ..Self::default() }
    }

    /// Reads the record of the volume `name` in its folder `home`.
    pub(super) fn read(home: &Path, name: &str) -> Result<Self> {
        let path = home.join(FILE);
        let bytes = match std::fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Self::of_folder(home, name),
            bytes => bytes.at("read", &path)?,
        };
        let record: Self =
            serde_json::from_slice(&bytes).map_err(|source| Error::Damaged { path: path.clone(), source })?;
        if record.version != VERSION {
            let message = format!("`{}` was written by another version of kiln", path.display());
            return Err(Error::Options { message, hint: "use that one".to_owned() });
        }
        Ok(Self { name: name.to_owned(), ..record })
    }

    /// What can be told of a volume without a record.
    fn of_folder(home: &Path, name: &str) -> Result<Self> {
        let changed = match std::fs::metadata(home).and_then(|folder| folder.modified()) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(Error::NotFound { name: name.to_owned() });
            }
            changed => changed.at("look at", home)?,
        };
        let created = changed.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
        let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        Ok(Self {
            created: i64::try_from(created).unwrap_or_default(),
            anonymous: name.len() == ANONYMOUS_DIGITS && name.bytes().all(is_hex),
            ..Self::new(name)
        })
    }

    /// Writes it into the volume's folder.
    pub(super) fn write(&self, home: &Path) -> Result<()> {
        let (path, new) = (home.join(FILE), home.join("volume.json.new"));
        let bytes =
            serde_json::to_vec(self).map_err(|source| Error::Damaged { path: path.clone(), source })?;
        std::fs::write(&new, bytes).at("write", &new)?;
        std::fs::rename(&new, &path).at("write", &path)
    }
}

/// The time, in unix nanoseconds.
fn now() -> i64 {
    let now = std::time::SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
    i64::try_from(now).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_and_follows_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let mut record = Record::new("one");
        record.labels.insert("tier".into(), "db".into());
        record.write(folder.path()).unwrap();
        assert_eq!(Record::read(folder.path(), "one").unwrap(), record);
        assert_eq!(Record::read(folder.path(), "two").unwrap().name, "two");
        std::fs::write(folder.path().join(FILE), "{").unwrap();
        assert!(matches!(Record::read(folder.path(), "one"), Err(Error::Damaged { .. })));
    }

    #[test]
    fn a_volume_without_a_record_is_known_by_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let read = |name: &str| Record::read(folder.path(), name).unwrap();
        assert!(!read("data").anonymous && read("data").created > 0);
        assert!(read(&"0a".repeat(32)).anonymous && !read(&"0A".repeat(32)).anonymous);
        assert!(matches!(Record::read(&folder.path().join("x"), "x"), Err(Error::NotFound { .. })));
    }
}
