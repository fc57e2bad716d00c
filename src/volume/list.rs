//! Volumes come, are found, and go.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::error::{At, Error, Result};
use super::record::Record;
use super::{Volumes, device, is_name, make_dirs, remove_tree};
use crate::api::VolumeCreateRequest;

/// The name that the driver of all volumes has.
const DRIVER: &str = "local";

impl Volumes {
    /// Makes a volume; one that is there already stays, if it is what was asked for. Tells whether it is new.
    ///
    /// An anonymous one may have a name already.
    pub fn create(&self, request: &VolumeCreateRequest, anonymous: bool) -> Result<(Record, bool)> {
        if let Some(driver) = request.driver.as_deref().filter(|driver| !["", DRIVER].contains(driver)) {
            let message = format!("there is no volume driver `{driver}`: `{DRIVER}` is the only one");
            return Err(Error::Options { message, hint: "leave the driver out".to_owned() });
        }
        let options: BTreeMap<_, _> = request.options.iter().cloned().collect();
        let labels: BTreeMap<_, _> = request.labels.iter().cloned().collect();
        device::check(&options)?;
        let name = match &request.name {
            Some(name) => name.clone(),
            None => random_name().at("read", "/dev/urandom")?,
        };
        let found = match self.find(&name) {
            Err(Error::NotFound { .. }) => None,
            found => Some(found?),
        };
        let Some(found) = found else {
            return self
                .add(Record { labels, options, anonymous, ..Record::new(&name) })
                .map(|made| (made, true));
        };
        let differs = [
            (!options.is_empty() && options != found.options).then_some("other options"),
            (!labels.is_empty() && labels != found.labels).then_some("other labels"),
        ];
        match differs.into_iter().flatten().next() {
            Some(difference) => Err(Error::Exists { name, difference: difference.to_owned() }),
            None => Ok((found, false)),
        }
    }

    /// Returns volume `name`, made when it is missing.
    pub fn open(&self, name: &str) -> Result<Record> {
        let request = VolumeCreateRequest { name: Some(name.to_owned()), ..VolumeCreateRequest::default() };
        self.create(&request, false).map(|(record, _)| record)
    }

    fn add(&self, record: Record) -> Result<Record> {
        let home = self.home(&record.name);
        make_dirs(&home)?;
        // The record comes first: what has a content folder is complete.
        record.write(&home)?;
        make_dirs(&home.join("_data"))?;
        Ok(record)
    }

    /// Returns volume `name`.
    pub fn find(&self, name: &str) -> Result<Record> {
        if !is_name(name) {
            return Err(Error::Name { name: name.to_owned() });
        }
        let record = Record::read(&self.home(name), name)?;
        // Whoever made it may have been killed before this.
        make_dirs(&self.data(name))?;
        Ok(record)
    }

    /// Lists all volumes by name.
    pub fn list(&self) -> Result<Vec<Record>> {
        let entries = match std::fs::read_dir(&self.folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.at("read", &self.folder)?,
        };
        let mut records = Vec::new();
        for entry in entries {
            let entry = entry.at("read", &self.folder)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if !is_name(&name) || !entry.path().is_dir() {
                continue;
            }
            match Record::read(&entry.path(), &name) {
                Ok(record) => records.push(record),
                // Removed meanwhile.
                Err(Error::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        records.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(records)
    }

    /// Removes volume `name` and its content; a missing one is no error. The caller has [`Self::lock_exclusive`],
    /// and knows that no container has it.
    pub fn remove(&self, name: &str) -> Result<()> {
        match self.set_aside(name)? {
            None => Ok(()),
            Some(aside) => remove_tree(&aside).at("remove", &aside),
        }
    }

    /// Deletes what was set aside. What stays after an error is found by the next sweep.
    pub fn delete(aside: &[PathBuf]) {
        for path in aside {
            if let Err(error) = remove_tree(path) {
                tracing::debug!(%error, ?path, "a volume is not deleted");
            }
        }
    }

    /// Makes a volume disappear; what has to be deleted is at the path given, which nobody else uses. The caller has
    /// what [`Self::remove`] needs.
    pub fn set_aside(&self, name: &str) -> Result<Option<PathBuf>> {
        if !is_name(name) {
            return Err(Error::Name { name: name.to_owned() });
        }
        // What is mounted in it isn't the volume's to delete.
        self.unmount(name)?;
        let removed = self.folder.join(".removed");
        make_dirs(&removed)?;
        let aside = removed.join(random_name().at("read", "/dev/urandom")?);
        let home = self.home(name);
        match std::fs::rename(&home, &aside) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            renamed => renamed.at("remove", &home).map(|()| Some(aside)),
        }
    }

    /// Gives a volume another name. The caller has [`Self::lock_exclusive`], and knows that no container has it.
    pub fn rename(&self, name: &str, new: &str) -> Result<()> {
        self.find(name)?;
        if !is_name(new) {
            return Err(Error::Name { name: new.to_owned() });
        }
        self.unmount(name)?;
        self.publish(&self.home(name), new)
    }

    /// Gives a complete volume its name, unless that is taken.
    pub(super) fn publish(&self, home: &std::path::Path, name: &str) -> Result<()> {
        let flags = rustix::fs::RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(rustix::fs::CWD, home, rustix::fs::CWD, self.home(name), flags) {
            Err(rustix::io::Errno::EXIST) => {
                Err(Error::Exists { name: name.to_owned(), difference: String::new() })
            }
            renamed => renamed.at("rename", home),
        }
    }

    /// Measures the disk space that a volume takes; what can't be looked at takes none.
    pub fn size(&self, name: &str) -> u64 {
        let mut seen = BTreeSet::new();
        let mut folders = vec![self.data(name)];
        let mut bytes = 0;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                let Ok(found) = entry.metadata() else { continue };
                if found.is_dir() {
                    folders.push(entry.path());
                } else if found.nlink() == 1 || seen.insert((found.dev(), found.ino())) {
                    bytes += found.blocks() * 512;
                }
            }
        }
        bytes
    }

    /// Deletes what killed processes have set aside or begun, and gives how many there were.
    pub fn sweep(&self) -> Result<usize> {
        let mut swept = self.sweep_copies()?;
        let removed = self.folder.join(".removed");
        for entry in std::fs::read_dir(&removed).into_iter().flatten().flatten() {
            // Two may be at it: the other one's work is as good.
            let _ = remove_tree(&entry.path());
            swept += 1;
        }
        Ok(swept)
    }
}

/// A name that nobody has: 64 hex digits.
pub(super) fn random_name() -> std::io::Result<String> {
    let mut bytes = [0; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volumes() -> (tempfile::TempDir, Volumes) {
        let folder = tempfile::tempdir().unwrap();
        let volumes = Volumes::new(&folder.path().join("volumes"));
        (folder, volumes)
    }

    fn request(name: &str, labels: &[(&str, &str)]) -> VolumeCreateRequest {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        VolumeCreateRequest { name: Some(name.to_owned()), labels, ..VolumeCreateRequest::default() }
    }

    #[test]
    fn a_volume_is_made_once_and_listed_by_name() {
        let (_folder, volumes) = volumes();
        assert_eq!(volumes.list().unwrap(), []);
        let made = volumes.create(&request("data", &[("a", "1")]), false).unwrap().0;
        assert_eq!(volumes.create(&request("data", &[]), false).unwrap(), (made, false));
        assert!(matches!(volumes.create(&request("data", &[("a", "2")]), false), Err(Error::Exists { .. })));
        assert!(volumes.create(&VolumeCreateRequest::default(), true).unwrap().0.anonymous);
        assert!(volumes.data("data").is_dir());
        assert_eq!(volumes.list().unwrap().len(), 2);
        volumes.remove("data").unwrap();
        assert!(matches!(volumes.find("data"), Err(Error::NotFound { .. })));
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused_by_every_verb() {
        let (_folder, volumes) = volumes();
        for bad in ["..", "../up", "a/b", "/etc", ".lock", ".removed", "x", "", "a\0b", "ä1"] {
            assert!(matches!(volumes.create(&request(bad, &[]), false), Err(Error::Name { .. })), "{bad}");
            assert!(volumes.find(bad).is_err() && volumes.remove(bad).is_err(), "{bad}");
        }
        volumes.open("data").unwrap();
        assert!(volumes.rename("data", "../x").is_err() && volumes.find("data").is_ok());
    }

    #[test]
    fn a_rename_takes_no_name_that_is_taken() {
        let (_folder, volumes) = volumes();
        volumes.open("one").unwrap();
        volumes.open("two").unwrap();
        std::fs::write(volumes.data("one").join("file"), "x").unwrap();
        assert!(matches!(volumes.rename("one", "two"), Err(Error::Exists { .. })));
        volumes.rename("one", "three").unwrap();
        assert!(volumes.data("three").join("file").exists());
        assert!(matches!(volumes.rename("one", "four"), Err(Error::NotFound { .. })));
    }
}
