//! What is mounted in a root filesystem.

use std::path::PathBuf;

use kiln_cache::Mounts;
use serde::{Deserialize, Serialize};

use crate::redacted::Redacted;

/// One mount inside the root filesystem. Targets are absolute, resolved inside the root, created when missing,
/// and never under `/proc` or `/sys`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mount {
    /// A file or folder of the machine.
    Bind {
        /// The path on the machine.
        source: PathBuf,
        /// The path inside.
        target: String,
        /// Refuses writes.
        readonly: bool,
        /// What else there is to say.
        #[serde(default)]
        how: How,
    },
    /// A device of the machine, which can be used as such.
    Device {
        /// The node on the machine.
        source: PathBuf,
        /// The path inside.
        target: String,
    },
    /// What lies at a path in a stack of layers.
    Layers {
        /// The layers; with an upper folder, that is where writes go.
        layers: Mounts,
        /// The path in them, links followed inside; a folder or a file.
        source: String,
        /// What is there, for the mount point that may have to be made.
        is_folder: bool,
        /// The path inside.
        target: String,
        /// Refuses writes.
        readonly: bool,
    },
    /// An empty folder in memory.
    Tmpfs {
        /// The path inside.
        target: String,
        /// The most that it may hold, in bytes.
        size: Option<u64>,
        /// Its permission bits.
        mode: Option<u32>,
        /// Lets programs in it run.
        exec: bool,
        /// Lets set-user-id programs in it do so.
        suid: bool,
        /// Refuses writes.
        readonly: bool,
        /// Further options of the filesystem.
        options: Vec<(String, String)>,
    },
    /// A small file with the given bytes, in memory and private to this process tree.
    File {
        /// The path inside.
        target: String,
        /// The bytes.
        content: Redacted,
        /// Its permission bits.
        mode: u32,
        /// Its user and group.
        owner: (u32, u32),
        /// Refuses writes.
        readonly: bool,
    },
}

/// How a file or folder of the machine is shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct How {
    /// Only this part of the source is shown; links in it are followed inside the source.
    pub subpath: Option<String>,
    /// What becomes of mounts below the source.
    pub below: Below,
    /// Whether mounts that come and go later are seen on the other side.
    pub propagation: Propagation,
}

/// What becomes of mounts below a source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Below {
    /// They come along, read-only when the source is.
    #[default]
    Same,
    /// They come along, and can be written to though the source can't.
    Writable,
    /// They stay away.
    None,
}

/// Whether mounts that come and go below a source, or below its place in the container, do so on the other side too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    /// On neither.
    #[default]
    Private,
    /// Those of the machine come and go in the container.
    Slave,
    /// Those of the container come and go on the machine, too.
    Shared,
}

impl Mount {
    /// Tells whether something of the machine's is opened for it.
    pub fn has_source(&self) -> bool {
        matches!(self, Mount::Bind { .. } | Mount::Device { .. } | Mount::Layers { .. })
    }

    /// Returns the path inside.
    pub fn target(&self) -> &str {
        match self {
            Mount::Bind { target, .. }
            | Mount::Device { target, .. }
            | Mount::Layers { target, .. }
            | Mount::Tmpfs { target, .. }
            | Mount::File { target, .. } => target,
        }
    }
}
