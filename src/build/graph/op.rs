//! The ops that a Dockerfile lowers to: data, ready to be keyed and executed.

use serde::{Deserialize, Serialize};

use kiln_cache::Digest;

use super::Chmod;
use crate::api::{NetworkMode, RemoteSource};

/// What a vertex does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpSpec {
    /// Starts from an image.
    Source(SourceSpec),
    /// Starts from nothing (`FROM scratch`).
    Scratch,
    /// Runs a program in a rootfs.
    Exec(ExecSpec),
    /// Copies files into a rootfs (COPY, and ADD of local files).
    Copy(CopySpec),
    /// Makes the working directory.
    Mkdir(MkdirSpec),
    /// Finds whom the text (`user[:group]`) means in the rootfs, for a copy that doesn't stand on it.
    Owner(String),
    /// Puts the layers of what it reads on its rootfs: the end of a `COPY --link`.
    Merge,
    /// Brings files of another machine, as a layer of their own.
    Remote(RemoteSource),
}

impl OpSpec {
    /// Tells whether users see it as a step of its own.
    pub fn is_shown(&self) -> bool {
        !matches!(self, Self::Scratch | Self::Owner(_) | Self::Merge)
    }
}

/// An image to start from or to copy from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceSpec {
    /// The image as resolved: `docker.io/library/debian:bookworm`.
    pub name: String,
    /// The image's id in the store.
    pub image: Digest,
    /// `linux/amd64`.
    pub platform: String,
    /// The chain ID of its layers; `None` for an image without any.
    pub chain_id: Option<Digest>,
}

/// A program to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecSpec {
    /// The program and its arguments, the shell included.
    pub args: Vec<String>,
    /// The environment, in order.
    pub env: Vec<(String, String)>,
    /// Variables that the program sees but no key does (proxies).
    pub hidden_env: Vec<(String, String)>,
    /// Its working directory; absolute.
    pub cwd: String,
    /// `name|uid[:group|gid]`, empty for root.
    pub user: String,
    /// Its network.
    pub network: NetworkMode,
    /// A heredoc script with its own `#!` line: mounted read-only at [`SCRIPT_FOLDER`]`/<name>`, mode 0755.
    pub script: Option<Script>,
    /// Extra entries of /etc/hosts, `(name, address)`.
    pub add_hosts: Vec<(String, String)>,
}

/// Where heredoc scripts are mounted; BuildKit's place, so that error messages look alike.
pub const SCRIPT_FOLDER: &str = "/dev/pipes";

/// A heredoc script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// The heredoc's delimiter.
    pub name: String,
    /// Its body.
    pub body: String,
}

/// Files to copy: from the first place that the vertex reads.
///
/// If it reads a second one, that is an [`OpSpec::Owner`], in whose rootfs names of `chown` are looked up
/// instead of the vertex's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopySpec {
    /// What is copied, in order.
    pub sources: Vec<CopySource>,
    /// Where to; absolute, a trailing slash (or `/.`) kept as written.
    pub destination: String,
    /// `--chown`, expanded: `user[:group]` by name or number.
    pub chown: Option<String>,
    /// `--chmod`.
    pub chmod: Option<Chmod>,
    /// `--exclude` patterns, expanded.
    pub excludes: Vec<String>,
    /// True for files of the context, which become 0:0; files of a stage or image keep their owner.
    pub reset_owner: bool,
    /// True for ADD: local archives are unpacked.
    pub unpack: bool,
    /// `--parents`: sources keep the directories above them, from the pivot `/./` on.
    pub parents: bool,
}

impl CopySpec {
    /// Returns the mode that something of the source with `mode` gets.
    pub fn mode(&self, mode: u32, is_dir: bool) -> u32 {
        self.chmod.as_ref().map_or(mode, |chmod| chmod.apply(mode, is_dir))
    }
}

/// One source of a copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CopySource {
    /// A path or wildcard relative to the root of the source tree, expanded, not yet cleaned.
    Path(String),
    /// What a [`OpSpec::Remote`] brought.
    Remote {
        /// Which of the vertex' reads it is.
        read: usize,
        /// What its file is called; `None` for a tree, whose content is copied.
        name: Option<String>,
        /// Whether an archive is unpacked.
        unpack: bool,
        /// As written, for the history.
        shown: String,
    },
    /// A heredoc: a file named `name` with mode 0644.
    Inline {
        /// The file's name.
        name: String,
        /// The file's bytes.
        body: String,
    },
}

/// A directory to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MkdirSpec {
    /// The directory; absolute and clean.
    pub path: String,
    /// Who owns what is made: `name|uid[:group|gid]`, empty for root.
    pub user: String,
}
