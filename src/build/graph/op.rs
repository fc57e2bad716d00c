//! The ops that a Dockerfile lowers to: data, ready to be keyed and executed.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use kiln_cache::{Digest, Sharing};

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
    /// Keeps of the rootfs the directories and links that lead to the path, for a copy that stands on nothing else.
    Way(String),
    /// Puts the last layer of what it reads on its rootfs: the end of a `COPY --link`.
    Merge,
    /// Brings files of another machine, as a layer of their own.
    Remote(RemoteSource),
}

impl OpSpec {
    /// Tells whether users see it as a step of its own.
    pub fn is_shown(&self) -> bool {
        !matches!(self, Self::Scratch | Self::Owner(_) | Self::Way(_) | Self::Merge)
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
    /// ARGs that it can't read if the programs that it relies on are what they are called: in no key then.
    pub unread_env: Vec<(String, String)>,
    /// Which of the variables above are ARGs.
    pub arg_names: BTreeSet<String>,
    /// The programs that those ARGs rely on, when there are some.
    pub relies_on: Option<Box<Relied>>,
    /// Its working directory; absolute.
    pub cwd: String,
    /// `name|uid[:group|gid]`, empty for root.
    pub user: String,
    /// The host name that it sees.
    pub hostname: String,
    /// Its network.
    pub network: NetworkMode,
    /// A heredoc script with its own `#!` line: mounted read-only at [`SCRIPT_FOLDER`]`/<name>`, mode 0755.
    pub script: Option<Script>,
    /// Extra entries of /etc/hosts, `(name, address)`.
    pub add_hosts: Vec<(String, String)>,
    /// `--mount`, sorted by target, so that what lies inside of another mount comes after it.
    pub mounts: Vec<MountSpec>,
    /// `--security=insecure`: no sandbox.
    pub insecure: bool,
    /// `--device`, CDI names, and whether the step needs them.
    pub devices: Vec<DeviceSpec>,
}

/// A `--mount` of a RUN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountSpec {
    /// Where it goes: absolute and clean; `None` for a secret that is only a variable.
    pub target: Option<String>,
    /// What is mounted.
    pub kind: MountKind,
}

/// What a RUN mounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    /// Files of what a vertex made; writes are gone after the step.
    Files {
        /// Which of the vertex' reads.
        read: usize,
        /// The path in it; absolute and clean.
        source: String,
        /// Refuses writes.
        readonly: bool,
    },
    /// A folder that later builds find again.
    Cache {
        /// Its name, the namespace included.
        id: String,
        /// What a new one begins with: which of the vertex' reads, and the path in it.
        from: Option<(usize, String)>,
        /// Who may have it at the same time.
        sharing: Sharing,
        /// Mode and owner of a new one.
        owner: Option<FileOwner>,
        /// Refuses writes.
        readonly: bool,
    },
    /// An empty folder in memory.
    Tmpfs {
        /// The most that it may hold, in bytes.
        size: Option<u64>,
        /// Refuses writes.
        readonly: bool,
    },
    /// A secret of the build.
    Secret {
        /// Its name.
        id: String,
        /// The variable that has it.
        env: Option<String>,
        /// Whether the step needs it.
        required: bool,
        /// Of its file.
        owner: FileOwner,
    },
    /// A socket of the user's ssh agent.
    Ssh {
        /// The agent's name.
        id: String,
        /// Whether the step needs it.
        required: bool,
        /// Of the socket.
        owner: FileOwner,
    },
}

/// Mode and owner of what a mount makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileOwner {
    /// Permission bits.
    pub mode: u32,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// A `--device` of a RUN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceSpec {
    /// Its CDI name: `vendor/class=device`, or `vendor/class` for all of them.
    pub name: String,
    /// Whether the step needs it.
    pub required: bool,
}

/// Programs that a step was judged by the names of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relied {
    /// The shell: a path, or a name to be looked for like the others.
    pub shell: Option<String>,
    /// What it runs.
    pub programs: BTreeSet<String>,
    /// The folders where programs are looked for.
    pub folders: Vec<String>,
}

/// The host name that RUN steps see, unless the build-arg `BUILDKIT_SANDBOX_HOSTNAME` says another.
///
/// It is fixed, so that no key and no layer depends on the machine.
pub const HOSTNAME: &str = "buildkitsandbox";

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
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
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

/// The mode of directories that are made because something goes into them.
pub const PARENTS_MODE: u32 = 0o755;

impl CopySpec {
    /// Returns a copy of `path` and nothing else, names and modes kept.
    pub fn of(path: &str, destination: &str) -> Self {
        Self {
            sources: vec![CopySource::Path(without_wildcards(path))],
            destination: destination.to_owned(),
            chown: None,
            chmod: None,
            excludes: Vec::new(),
            reset_owner: false,
            unpack: false,
            parents: false,
        }
    }

    /// Returns the mode that something of the source with `mode` gets.
    pub fn mode(&self, mode: u32, is_dir: bool) -> u32 {
        self.chmod.as_ref().map_or(mode, |chmod| chmod.apply(mode, is_dir))
    }

    /// Returns the mode of directories that are made because something goes into them.
    ///
    /// As in BuildKit, an octal `--chmod` is theirs too, less what a umask of 022 takes.
    pub fn parents_mode(&self) -> u32 {
        match self.chmod {
            Some(Chmod::Mode(mode)) => mode & PARENTS_MODE,
            _ => PARENTS_MODE,
        }
    }
}

/// Escapes what a copy would take for a wildcard.
fn without_wildcards(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for c in path.chars() {
        if matches!(c, '*' | '?' | '[' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out
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
