//! OCI names and arithmetic, without IO.

mod config;

pub use config::{Empty, Healthcheck, HistoryEntry, ImageConfig, RootFs, RunConfig};
use kiln_cache::Digest;

/// A name of an image: registry, repository, and tag or digest.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    /// `docker.io`.
    pub registry: String,
    /// `library/debian`.
    pub repository: String,
    /// `bookworm`.
    pub tag: Option<String>,
    /// `sha256:…`.
    pub digest: Option<Digest>,
}

/// What an image runs on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `amd64`.
    pub architecture: String,
    /// `v8`.
    pub variant: Option<String>,
}
