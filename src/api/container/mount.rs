//! What is mounted in a container.

use serde::{Deserialize, Serialize};

/// What one mount shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountKind {
    /// A path of the host.
    Bind {
        /// It is absolute.
        source: String,
        /// Make it a directory when it is missing.
        create: bool,
        /// What becomes of mounts below it.
        recursion: Recursion,
        /// Whether later mounts show on the other side.
        propagation: Propagation,
    },
    /// A volume.
    Volume {
        /// Its name; without one it belongs to the container.
        name: Option<String>,
        /// Leave an empty one empty.
        nocopy: bool,
        /// Only this folder or file of it.
        subpath: Option<String>,
        /// The driver of one that is made for this.
        driver: Option<String>,
        /// The labels of one that is made for this.
        labels: Vec<(String, String)>,
        /// The driver's options of one that is made for this.
        options: Vec<(String, String)>,
    },
    /// A folder in memory.
    Tmpfs {
        /// As `mount` takes them.
        options: String,
    },
    /// The files of an image, which can't be written to.
    Image {
        /// As the user wrote it.
        image: String,
        /// Only this folder or file of it.
        subpath: Option<String>,
    },
}

/// One mount that was asked for: `-v`, `--mount`, `--tmpfs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountRequest {
    /// What it shows.
    pub kind: MountKind,
    /// Where it appears in the container; absolute.
    pub target: String,
    /// It can't be written to.
    pub readonly: bool,
    /// It was asked for by `--mount`.
    pub is_long: bool,
}

/// What becomes of mounts below a path of the host that is bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recursion {
    /// They come along, read-only when it is.
    #[default]
    Enabled,
    /// They stay away.
    Disabled,
    /// They come along and can be written to, though it can't.
    Writable,
    /// They come along read-only, or the container isn't started.
    Readonly,
}

impl Recursion {
    /// Reads the word of `bind-recursive`.
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "enabled" => Self::Enabled,
            "disabled" => Self::Disabled,
            "writable" => Self::Writable,
            "readonly" => Self::Readonly,
            _ => return None,
        })
    }
}

/// Whether mounts that come and go later show on the other side of a bind. The kernel knows no difference in how far:
/// each word is meant for the mounts below, too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Propagation {
    /// No.
    #[default]
    Rprivate,
    /// No.
    Private,
    /// The host's show in the container.
    Rslave,
    /// The host's show in the container.
    Slave,
    /// On both sides.
    Rshared,
    /// On both sides.
    Shared,
}

impl Propagation {
    /// Docker's words.
    pub const WORDS: [(&'static str, Self); 6] = [
        ("rprivate", Self::Rprivate),
        ("private", Self::Private),
        ("rslave", Self::Rslave),
        ("slave", Self::Slave),
        ("rshared", Self::Rshared),
        ("shared", Self::Shared),
    ];

    /// Reads one of [`Self::WORDS`].
    pub fn parse(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(known, _)| *known == word).map(|(_, propagation)| *propagation)
    }

    /// Its word.
    pub fn name(self) -> &'static str {
        Self::WORDS.iter().find(|(_, known)| *known == self).map_or("", |(word, _)| word)
    }
}
