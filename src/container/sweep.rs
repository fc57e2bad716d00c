//! What killed processes left of containers: folders being deleted, and folders that never got a record.

use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;

use kiln_cache::Store;

use super::error::{At, Result};
use super::record::{Record, owner};
use super::{Containers, remove_folder, take_lock};
use crate::runtime::Cgroup;

impl Containers {
    /// Removes what no list shows and nobody is at work on.
    pub fn sweep(&self, store: &Store) -> Result<()> {
        self.mend_pins(store)?;
        let trash = self.folder.join("removed");
        self.set_aside_unmade(&trash)?;
        let Ok(entries) = std::fs::read_dir(&trash) else { return Ok(()) };
        for entry in entries {
            let entry = entry.at("read", &trash)?;
            let folder = entry.path();
            // Whoever removes a container holds its lock, which moved with the folder. Without one, the remover has come
            // past it, or was killed there; a new one would be in its way.
            let path = folder.join("lock");
            let _lock = match File::open(&path) {
                Ok(file) => match take_lock(file, &path) {
                    Ok(Some(lock)) => Some(lock),
                    _ => continue,
                },
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                Err(_) => continue,
            };
            self.finish_removal(store, &folder, &entry.file_name().to_string_lossy())?;
        }
        Ok(())
    }

    /// Makes the pins anew that a power loss has cut, from the records of their owners; those of nobody go.
    pub fn mend_pins(&self, store: &Store) -> Result<()> {
        for owner in store.damaged_pins()? {
            match owner.strip_prefix("container:").map(|id| Record::read(&self.folder(id))) {
                Some(Ok(record)) => store.mend_pin(&owner, &record.stands_on())?,
                _ if self.is_forsaken(&owner)? => store.unpin(&owner)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Tells whether a pin's owner is no more. A container is pinned while it is being made: its folder is there by then.
    pub fn is_forsaken(&self, owner: &str) -> Result<bool> {
        Ok(match owner.split_once(':') {
            Some(("container", id)) => !self.knows(id)?,
            // Mounts of images end with the machine's run.
            Some(("mount", id)) => !self.is_mounted(id),
            _ => false,
        })
    }

    /// Returns the containers whose record can't be read, and why.
    pub fn damaged(&self) -> Result<Vec<(String, String)>> {
        let mut damaged = Vec::new();
        for id in self.ids()? {
            match Record::read(&self.folder(&id)) {
                Ok(_) => {}
                // It is being made, or is gone by now.
                Err(error) if error.is_absence() => {}
                Err(error) => damaged.push((id, error.to_string())),
            }
        }
        Ok(damaged)
    }

    /// Tells whether container `id` is there, or on its way out.
    pub fn knows(&self, id: &str) -> Result<bool> {
        if self.folder(id).exists() {
            return Ok(true);
        }
        if !self.folder.exists() {
            return Ok(false);
        }
        let _names = self.lock_names()?;
        Ok(self.folder(id).exists() || self.folder.join("removed").join(id).exists())
    }

    /// Does what its remover would have done next.
    fn finish_removal(&self, store: &Store, folder: &Path, id: &str) -> Result<()> {
        Cgroup::of(id).remove();
        store.unpin(&owner(id))?;
        if let Ok(record) = Record::read(folder) {
            self.remove_volumes(&record, record.config.remove);
        }
        self.forget_name(id)?;
        remove_folder(folder).at("remove", folder)
    }

    /// Frees the name of a container whose maker or remover was killed before its own next step.
    fn forget_name(&self, id: &str) -> Result<()> {
        let _names = self.lock_names()?;
        let Ok(entries) = std::fs::read_dir(self.folder.join("names")) else { return Ok(()) };
        for path in entries.flatten().map(|entry| entry.path()) {
            if std::fs::read_link(&path).is_ok_and(|target| target == Path::new(id)) {
                std::fs::remove_file(&path).at("remove", &path)?;
            }
        }
        Ok(())
    }

    /// Containers are made under the lock of the names, so that one without a record is nobody's by then.
    fn set_aside_unmade(&self, trash: &Path) -> Result<()> {
        let ids = self.ids()?;
        if ids.iter().all(|id| Record::exists(&self.folder(id))) {
            return Ok(());
        }
        std::fs::create_dir_all(trash).at("create", trash)?;
        let _names = self.lock_names()?;
        for id in ids {
            let folder = self.folder(&id);
            if folder.exists() && !Record::exists(&folder) {
                std::fs::rename(&folder, trash.join(&id)).at("remove", &folder)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_killed_half_way_leaves_no_name_behind() {
        let root = tempfile::tempdir().unwrap();
        let (store, containers) = (Store::open(root.path()).unwrap(), Containers::new(root.path()));
        let (folder, names) = (root.path().join("containers"), root.path().join("containers/names"));
        std::fs::create_dir_all(&names).unwrap();
        let add = |id: &str, name: &str, place: &Path| {
            std::fs::create_dir_all(place).unwrap();
            std::os::unix::fs::symlink(id, names.join(name)).unwrap();
        };
        let [unmade, removed, kept] = ["a", "b", "c"].map(|digit| digit.repeat(64));
        // Its maker was killed between the name's link and the record.
        add(&unmade, "unmade", &folder.join(&unmade));
        // Its remover was killed before it took the name away.
        add(&removed, "removed", &folder.join("removed").join(&removed));
        add(&kept, "kept", &folder.join(&kept));
        let mut record = super::super::record::tests::record();
        record["id"] = kept.clone().into();
        record["name"] = "kept".into();
        let record: Record = serde_json::from_value(record).unwrap();
        record.write_config(&folder.join(&kept)).unwrap();

        containers.sweep(&store).unwrap();
        let mut left: Vec<_> =
            std::fs::read_dir(&names).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["kept"]);
        assert_eq!(containers.ids().unwrap(), [kept]);
        assert_eq!(std::fs::read_dir(folder.join("removed")).unwrap().count(), 0);
    }
}
