//! What is mounted in a container.

use serde::{Deserialize, Serialize};

/// What one mount shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountKind {
    /// A path of the host.
    Bind {
        /// It is absolute.
        source: String,
    },
    /// A volume.
    Volume {
        /// Its name; without one it belongs to the container.
        name: Option<String>,
    },
}

/// One mount that was asked for: `-v`, `--mount`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountRequest {
    /// What it shows.
    pub kind: MountKind,
    /// Where it appears in the container; absolute.
    pub target: String,
    /// It can't be written to.
    pub readonly: bool,
}
