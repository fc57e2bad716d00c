//! The data that both front doors exchange with the engine: requests in, outcomes, events and failures out.
//!
//! Plain serde data; nothing here does anything.

mod build;
mod cache;
mod check;
mod container;
mod engine_event;
mod event;
mod failure;
mod image;
mod labels;
mod log;
mod network;
mod outline;
mod reason;
mod remote;
mod stop;
mod system;
mod volume;

pub use build::{
    Allow, BuildOutcome, BuildRequest, ContextModes, ContextSource, DockerfileSource, Layout, NamedContext,
    NamedSource, NetworkMode, Output, OutputKind, Progress, PullPolicy, Secret, SshAgent, SshSource,
};
pub use cache::{
    CACHE_KINDS, CacheBounds, CacheCondition, CacheEntry, CacheFilter, CachePruneReport, CachePruneRequest,
    CachePruned, CacheReason, Share, TextCondition,
};
pub use check::{BrokenRule, CheckReport, Finding, Formatted, Place};
pub use container::{
    BoundPort, ChangeKind, CommitRequest, ContainerInfo, ContainerSize, ContainerState, ContainerStats,
    ContainerStreams, Copied, CopyOptions, CreateRequest, DeviceValue, ExecRequest, Health, HealthCheck,
    HealthProbe, HealthRequest, HealthStatus, Isolation, LogConfig, LogsRequest, MountKind, MountRequest,
    NetworkWish, PathChange, PortRequest, ProcessTable, Propagation, Protocol, PublishedPort, Recursion,
    Resources, RestartPolicy, RunOutcome, Stdio, Ulimit, UpdateRequest,
};
pub use engine_event::{EngineEvent, EventsRequest};
pub use event::{Event, Events, StepId, StepOutcome, Stream};
pub(crate) use failure::MAKE_ROOM;
pub use failure::{Excerpt, Failure, FailureKind};
pub use image::{HistoryRow, ImageInfo, PruneFilter, PruneReport, PruneRequest, Pulled, Pushed, Removed};
pub use labels::LabelFilter;
pub use log::StepLog;
pub use network::{NetworkCreateRequest, NetworkInfo, NetworkMember, SubnetInfo};
pub use outline::{AskedFor, Outline, OutlineArg, Target, Targets};
pub use reason::{FileAspect, FileChange, LastBuild, LastStep, MissReason, StepEnd, WhyRequest};
pub use remote::{
    Checksum, GitSource, HashAlgorithm, HttpSource, RemoteSource, is_commit, without_password,
    without_passwords,
};
pub use stop::Stop;
pub use system::{Problem, Repairs, SystemCheckReport, SystemCheckRequest};
pub use volume::{VolumeCopyRequest, VolumeCreateRequest, VolumeInfo, VolumePruneReport, VolumePruneRequest};

use std::path::PathBuf;

/// Where an engine keeps its state and finds its configuration; read from argv and the environment by `cli`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The store: `--root`, `KILN_ROOT`, `/var/lib/kiln`.
    pub root: PathBuf,
    /// Sockets and locks that a reboot may forget: `KILN_RUN`, `<root>/run` when a root was named, else `/run/kiln`.
    pub run: PathBuf,
    /// Folders of `HOST/hosts.toml` files, first match wins: `$KILN_CONFIG/certs.d`, `/etc/kiln/certs.d`,
    /// `/etc/containerd/certs.d`, `/etc/docker/certs.d`.
    pub certs: Vec<PathBuf>,
    /// `SOURCE_DATE_EPOCH`, seconds.
    pub source_date_epoch: Option<i64>,
    /// Proxy variables of the environment (`HTTP_PROXY`, …), handed to RUN steps but to no key.
    pub proxies: Vec<(String, String)>,
    /// Variables of the environment that helper programs (git, ssh) get: `PATH`, where certificates are.
    pub programs: Vec<(String, String)>,
    /// Folders of CDI specs, the later ones win: `KILN_CDI`, else `/etc/cdi` and `/var/run/cdi`.
    pub cdi: Vec<PathBuf>,
    /// The user's file of known ssh hosts.
    pub known_hosts: Option<PathBuf>,
    /// What the build cache is kept to after builds.
    pub cache: CacheBounds,
    /// How ports are published.
    pub publish: PublishPolicy,
}

/// How ports are published: `[publish]` of `config.toml`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PublishPolicy {
    /// Where a port is reached whose request names no address; none is everywhere.
    pub address: Option<std::net::IpAddr>,
    /// What other programs' packet filters drop is let through to published ports.
    pub opens_firewall: bool,
}
