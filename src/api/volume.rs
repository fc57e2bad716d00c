//! Volumes as they are asked for and listed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::PruneFilter;

/// `kiln volume create`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VolumeCreateRequest {
    /// Its name; without one it is made up, and the volume is anonymous.
    pub name: Option<String>,
    /// `local` is the only one there is.
    pub driver: Option<String>,
    /// `--label`.
    pub labels: Vec<(String, String)>,
    /// `--opt`: `type`, `o`, `device`.
    pub options: Vec<(String, String)>,
}

/// A row of `kiln volume ls`, and what `kiln volume inspect` shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeInfo {
    /// Its name.
    pub name: String,
    /// Unix nanoseconds.
    pub created: i64,
    /// Given by the user.
    pub labels: BTreeMap<String, String>,
    /// The driver's.
    pub options: BTreeMap<String, String>,
    /// Where its files are.
    pub mountpoint: PathBuf,
    /// Made without a name, for one container.
    pub anonymous: bool,
    /// A snapshot: nobody writes to it.
    pub readonly: bool,
    /// The names of the containers that have it, running or not.
    pub users: Vec<String>,
}

/// `kiln volume clone` and `kiln volume snapshot`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VolumeCopyRequest {
    /// The volume.
    pub from: String,
    /// The copy's name; without one it is called after the volume and the time.
    pub to: Option<String>,
    /// The copy's labels, besides those of the volume.
    pub labels: Vec<(String, String)>,
    /// Nobody writes to the copy.
    pub readonly: bool,
}

/// What `kiln volume prune` removes: volumes that no container has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VolumePruneRequest {
    /// Named ones too.
    pub all: bool,
    /// What else must be true of them.
    pub filter: PruneFilter,
}

/// What a prune of volumes removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VolumePruneReport {
    /// Their names.
    pub volumes: Vec<String>,
    /// The disk space that they took.
    pub bytes: u64,
}
