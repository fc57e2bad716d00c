//! What a build is asked for and what it gives.

use std::path::PathBuf;
use std::time::Duration;

use super::remote::{HttpSource, RemoteSource};
use crate::oci::{Platform, Reference};
use crate::redacted::Redacted;

/// Where the build context comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContextSource {
    /// A directory; absolute.
    Directory(PathBuf),
    /// A tar archive (plain, gzip, zstd, bzip2 or xz) in a file that `cli` spooled from stdin.
    Tar(PathBuf),
    /// A repository, or an archive (or a Dockerfile alone) to download.
    Remote(RemoteSource),
    /// A Dockerfile alone, without any context.
    None,
}

/// `--build-context NAME=…`: files or an image that the Dockerfile may name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedContext {
    /// Its name: a word of the Dockerfile, or an image's name that it takes the place of; perhaps `::platform` after it.
    pub name: String,
    /// What it is.
    pub source: NamedSource,
}

/// What a named context is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedSource {
    /// A directory; absolute.
    Directory(PathBuf),
    /// An image of the store or a registry.
    Image(Reference),
    /// An image of an OCI layout.
    Layout(Layout),
    /// A repository or a download.
    Remote(RemoteSource),
}

/// An image in a folder of OCI's form.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Layout {
    /// The folder; absolute.
    pub folder: PathBuf,
    /// A tag or digest; `None` for the only image, or the one tagged `latest`.
    pub image: Option<String>,
}

/// What permission bits files of local contexts have, in keys and in layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ContextModes {
    /// Those of the files.
    #[default]
    AsIs,
    /// Those that git keeps: 755 for directories and what its owner may execute, else 644.
    Git,
}

/// Which network RUN steps and containers have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NetworkMode {
    /// A namespace of its own, connected to the bridge.
    #[default]
    Bridge,
    /// A namespace of its own with loopback only.
    None,
    /// The host's.
    Host,
}

/// When an image is asked of its registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PullPolicy {
    /// Only if the store doesn't have it.
    #[default]
    Missing,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Progress {
    /// `Tty` on a terminal, else `Plain`.
    #[default]
    Auto,
    /// A line per event.
    Plain,
    /// A block that is repainted.
    Tty,
    /// Nothing but errors.
    Quiet,
}

/// The form of an exported result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputKind {
    /// The local image store (the default).
    Image,
    /// An OCI image layout as a tar file.
    Oci,
    /// A `docker load` archive.
    Docker,
    /// The root filesystem as a tar file.
    Tar,
    /// The root filesystem as a directory.
    Local,
}

/// One `-o`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its form.
    pub kind: OutputKind,
    /// Where it goes; `None` means standard output (not for `Local` and `Image`).
    pub destination: Option<PathBuf>,
}

/// `kiln build`.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// The context.
    pub context: ContextSource,
    /// The Dockerfile's text, its name as shown in messages, and where its own `.dockerignore` would be.
    pub dockerfile: DockerfileSource,
    /// `-t`, in order.
    pub tags: Vec<Reference>,
    /// `--build-arg`, in order.
    pub build_args: Vec<(String, String)>,
    /// `--label`, in order.
    pub labels: Vec<(String, String)>,
    /// `--target`: a stage's name or index.
    pub target: Option<String>,
    /// `--platform`, else the machine's own.
    pub platform: Platform,
    /// `--no-cache`.
    pub no_cache: bool,
    /// `--jobs`: how many steps may run at the same time; 0 for the default.
    pub jobs: usize,
    /// `--no-cache-filter`: stages, by name or number, whose steps run anew.
    pub no_cache_filter: Vec<String>,
    /// `--cache-ttl`: what is older isn't used.
    pub cache_ttl: Option<Duration>,
    /// `--pull`.
    pub pull: PullPolicy,
    /// `--network`: what RUN steps get without a flag of their own.
    pub network: NetworkMode,
    /// `--network NAME`: the network of the user's own that they join instead of the default one. What they find there
    /// is not part of any key of the cache.
    pub join: Option<String>,
    /// `-o`; empty means the image store.
    pub outputs: Vec<Output>,
    /// Extra entries of /etc/hosts in RUN steps, `(name, address)`.
    pub add_hosts: Vec<(String, String)>,
    /// `--build-context`, later ones win.
    pub named_contexts: Vec<NamedContext>,
    /// `--reproducible`: the image carries a time in any case, 1970 if nobody names another.
    pub reproducible: bool,
    /// `--context-modes`.
    pub context_modes: ContextModes,
    /// `--secret`.
    pub secrets: Vec<Secret>,
    /// `--ssh`.
    pub ssh: Vec<SshAgent>,
    /// `--allow`.
    pub allow: Allow,
    /// `--shm-size`: bytes of `/dev/shm` in RUN steps; `None` is the default. A limit, so in no key.
    pub shm_bytes: Option<u64>,
}

/// A secret that RUN steps may mount: in no key, no layer, no record and no message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// Its name.
    pub id: String,
    /// Its bytes.
    pub value: Redacted,
}

/// Whose signatures RUN steps may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshAgent {
    /// The name that a step knows it by.
    pub id: String,
    /// Where the signatures come from.
    pub source: SshSource,
}

/// Where signatures come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SshSource {
    /// The socket of an agent that runs.
    Socket(PathBuf),
    /// Private keys, for an agent that runs as long as the build.
    Keys(Vec<Redacted>),
}

/// What RUN steps may do beyond their sandbox, because the user said so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allow {
    /// `network.host`: `RUN --network=host`.
    pub network_host: bool,
    /// `security.insecure`: `RUN --security=insecure`.
    pub security_insecure: bool,
    /// `device`: `RUN --device` of every device.
    pub all_devices: bool,
    /// `device=NAME`: of these.
    pub devices: Vec<String>,
}

/// Where the Dockerfile is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DockerfileSource {
    /// `-f FILE` or the default, inside or outside the context; relative names are joined to the context
    /// (or to the working directory) by `cli`. For an archive: a path inside it. For a remote context: a relative path
    /// is inside it, an absolute one a local file.
    Path(PathBuf),
    /// A file to download.
    Remote(HttpSource),
    /// The text itself, from standard input.
    Text(String),
}

/// What a build gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildOutcome {
    /// The image's id (its config's digest), `sha256:…`; `None` when only files were exported.
    pub image: Option<String>,
    /// The names that now point at it.
    pub tags: Vec<String>,
}
