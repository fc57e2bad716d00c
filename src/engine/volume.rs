//! `kiln volume`.

use std::collections::BTreeMap;

use super::Engine;
use super::containers::failure;
use crate::api::{
    Failure, FailureKind, VolumeCreateRequest, VolumeInfo, VolumePruneReport, VolumePruneRequest,
};
use crate::container::Containers;
use crate::volume::{Error, Record, Volumes};

type Users = BTreeMap<String, Vec<String>>;

impl Engine {
    pub(super) fn volumes_of_store(&self) -> Volumes {
        Volumes::new(&self.settings().root.join("volumes"))
    }

    /// Makes a volume, unless it is there already, and gives its name.
    pub fn create_volume(&self, request: &VolumeCreateRequest) -> Result<String, Failure> {
        let volumes = self.volumes_of_store();
        let _lock = volumes.lock_shared().map_err(told)?;
        let (record, is_new) = volumes.create(request, request.name.is_none()).map_err(told)?;
        if is_new {
            tell(&self.containers(), &record.name, "create");
        }
        Ok(record.name)
    }

    /// Lists all volumes by name.
    pub fn volumes(&self) -> Result<Vec<VolumeInfo>, Failure> {
        let volumes = self.volumes_of_store();
        volumes.unmount_unused();
        let mut users = self.containers().volume_users().map_err(failure)?;
        let records = volumes.list().map_err(told)?;
        Ok(records.into_iter().map(|record| info(&volumes, record, &mut users)).collect())
    }

    /// Returns what is known of volume `name`.
    pub fn volume(&self, name: &str) -> Result<VolumeInfo, Failure> {
        let volumes = self.volumes_of_store();
        let record = volumes.find(name).map_err(told)?;
        let mut users = self.containers().volume_users().map_err(failure)?;
        Ok(info(&volumes, record, &mut users))
    }

    /// Removes a volume that no container has; with `force` it may be missing.
    pub fn remove_volume(&self, name: &str, force: bool) -> Result<(), Failure> {
        let (volumes, containers) = (self.volumes_of_store(), self.containers());
        let _lock = volumes.lock_exclusive().map_err(told)?;
        match volumes.find(name) {
            Err(Error::NotFound { .. }) if force => return Ok(()),
            found => found.map_err(told)?,
        };
        refuse_used(&containers, name)?;
        volumes.remove(name).map_err(told)?;
        tell(&containers, name, "destroy");
        Ok(())
    }

    /// Gives a volume that no container has another name.
    pub fn rename_volume(&self, name: &str, new: &str) -> Result<(), Failure> {
        let (volumes, containers) = (self.volumes_of_store(), self.containers());
        let _lock = volumes.lock_exclusive().map_err(told)?;
        volumes.find(name).map_err(told)?;
        refuse_used(&containers, name)?;
        volumes.rename(name, new).map_err(told)?;
        containers.tell_volume(new, "rename", &[("oldName", name.to_owned())]);
        Ok(())
    }

    /// Removes volumes that no container has: anonymous ones, or all.
    pub fn prune_volumes(&self, request: &VolumePruneRequest) -> Result<VolumePruneReport, Failure> {
        let (volumes, containers) = (self.volumes_of_store(), self.containers());
        // Containers whose monitors were killed may have been the last to have some.
        self.all_containers()?;
        let _lock = volumes.lock_exclusive().map_err(told)?;
        volumes.sweep().map_err(told)?;
        volumes.unmount_unused();
        let users = containers.volume_users().map_err(failure)?;
        let mut report = VolumePruneReport::default();
        for record in volumes.list().map_err(told)? {
            let is_unused = !users.contains_key(&record.name) && (request.all || record.anonymous);
            if is_unused && request.filter.takes(record.created, &record.labels) {
                report.bytes += volumes.size(&record.name);
                volumes.remove(&record.name).map_err(told)?;
                tell(&containers, &record.name, "destroy");
                report.volumes.push(record.name);
            }
        }
        containers.tell_volume("", "prune", &[("reclaimed", report.bytes.to_string())]);
        Ok(report)
    }
}

fn info(volumes: &Volumes, record: Record, users: &mut Users) -> VolumeInfo {
    VolumeInfo {
        created: record.created,
        mountpoint: volumes.data(&record.name),
        anonymous: record.anonymous,
        readonly: record.readonly,
        users: users.remove(&record.name).unwrap_or_default(),
        name: record.name,
        labels: record.labels,
        options: record.options,
    }
}

fn refuse_used(containers: &Containers, name: &str) -> Result<(), Failure> {
    let users = containers.volume_users().map_err(failure)?.remove(name).unwrap_or_default();
    if users.is_empty() {
        return Ok(());
    }
    let hint = format!("remove the containers first: `kiln rm {}`", users.join(" "));
    let users = users.iter().map(|user| format!("container `{user}`")).collect();
    Err(told(Error::InUse { name: name.to_owned(), users }).hint(hint))
}

fn tell(containers: &Containers, name: &str, action: &str) {
    containers.tell_volume(name, action, &[("driver", "local".to_owned())]);
}

/// Puts a volume's error into the user's words.
pub(super) fn told(error: Error) -> Failure {
    let kind = kind(&error);
    let hint = hint(&error);
    let failure = Failure::from_error(kind, &error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// What to do about it.
pub(super) fn hint(error: &Error) -> Option<String> {
    match error {
        Error::NotFound { .. } => Some("see all volumes with `kiln volume ls`".to_owned()),
        Error::Name { name } if name.chars().count() == 1 => {
            Some("a name has at least two characters".to_owned())
        }
        Error::Name { .. } => Some("it begins with a letter or a digit, and is no path".to_owned()),
        Error::Options { hint, .. } => Some(hint.clone()),
        Error::Mount { name, .. } => Some(format!("`kiln volume inspect {name}` shows what it is made of")),
        Error::Exists { name, .. } => {
            Some(format!("choose another name, or remove it with `kiln volume rm {name}`"))
        }
        _ => None,
    }
}

/// What kind of failure a volume's error is.
pub(super) fn kind(error: &Error) -> FailureKind {
    match error {
        Error::NotFound { .. } => FailureKind::NotFound,
        Error::Name { .. } | Error::Options { .. } => FailureKind::Invalid,
        Error::Exists { .. } | Error::InUse { .. } => FailureKind::Conflict,
        _ => FailureKind::System,
    }
}
