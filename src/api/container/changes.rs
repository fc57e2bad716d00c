//! The files of a container, in requests and answers.

use std::path::PathBuf;

/// How a container's file differs from its image's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// It is new.
    Added,
    /// It was there, and is another one; a folder also when something in it changed.
    Changed,
    /// It is gone.
    Deleted,
}

impl ChangeKind {
    /// Returns docker's letter.
    pub fn letter(self) -> char {
        match self {
            Self::Added => 'A',
            Self::Changed => 'C',
            Self::Deleted => 'D',
        }
    }
}

/// A line of `kiln diff`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathChange {
    /// How it changed.
    pub kind: ChangeKind,
    /// From the container's root.
    pub path: PathBuf,
}

/// `kiln commit`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommitRequest {
    /// Name, id or prefix.
    pub container: String,
    /// The new image's author.
    pub author: Option<String>,
    /// The comment of its line in the history.
    pub message: Option<String>,
    /// Dockerfile instructions that change how containers of it run.
    pub changes: Vec<String>,
    /// Pauses the container while its files are read.
    pub pause: bool,
}

/// The flags of `kiln cp`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CopyOptions {
    /// Keeps owners; coming out of a container also what gives rights by them: set-id bits, capabilities, devices.
    pub archive: bool,
    /// Follows a symbolic link that is the source.
    pub follow: bool,
}

/// What `kiln cp` did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Copied {
    /// Bytes of the archive that the copy went through.
    pub bytes: u64,
    /// What wasn't copied, and why.
    pub left_out: Vec<String>,
}
