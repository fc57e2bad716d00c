//! Containers as they are asked for and listed.

mod changes;
mod health;
mod isolation;
mod limits;
mod log;
mod mount;
mod network;
mod port;
mod restart;
mod stats;

pub use changes::{ChangeKind, CommitRequest, Copied, CopyOptions, PathChange};
pub use health::{Health, HealthCheck, HealthProbe, HealthRequest, HealthStatus};
pub use isolation::{Isolation, Ulimit};
pub use limits::{DeviceValue, Resources, UpdateRequest};
pub use log::{LogConfig, LogsRequest};
pub use mount::{MountKind, MountRequest, Propagation, Recursion};
pub use network::NetworkWish;
pub use port::{BoundPort, PortRequest, Protocol, PublishedPort};
pub use restart::RestartPolicy;
pub use stats::{ContainerStats, ProcessTable};

use std::net::IpAddr;
use std::path::PathBuf;

use super::{NetworkMode, PullPolicy};

/// `kiln run` and `kiln create`.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CreateRequest {
    /// The image as the user wrote it.
    pub image: String,
    /// Whether to ask the registry.
    #[serde(skip)]
    pub pull: PullPolicy,
    /// The arguments after the image.
    pub command: Vec<String>,
    /// `--entrypoint`; `Some("")` resets the image's.
    pub entrypoint: Option<String>,
    /// `-e`, as `KEY=value`; `cli` has already looked up bare names.
    pub env: Vec<String>,
    /// `-w`.
    pub workdir: Option<String>,
    /// `-u`.
    pub user: Option<String>,
    /// `--name`.
    pub name: Option<String>,
    /// `-h`.
    pub hostname: Option<String>,
    /// `-l`.
    pub labels: Vec<(String, String)>,
    /// `-v` and `--mount`.
    pub mounts: Vec<MountRequest>,
    /// `--volumes-from`: a container, and whether its mounts become read-only or writable.
    pub volumes_from: Vec<(String, Option<bool>)>,
    /// What kind of network it has.
    pub network: NetworkMode,
    /// The networks of `--network`; without any the default bridge.
    pub networks: Vec<NetworkWish>,
    /// `--link`: container and alias.
    pub links: Vec<(String, String)>,
    /// `-p`.
    pub ports: Vec<PortRequest>,
    /// `-P`.
    pub publish_all: bool,
    /// Where ports are published that name no address; none is everywhere.
    pub publish_address: Option<IpAddr>,
    /// `--add-host`, `(name, address)`.
    pub add_hosts: Vec<(String, String)>,
    /// `-t`.
    pub tty: bool,
    /// `-i`.
    pub interactive: bool,
    /// `--rm`.
    pub remove: bool,
    /// `--privileged`.
    pub privileged: bool,
    /// `--read-only`.
    pub readonly: bool,
    /// `--stop-signal`, by name or number.
    pub stop_signal: Option<String>,
    /// `--stop-timeout`, seconds; -1 waits for ever.
    pub stop_timeout: Option<i64>,
    /// `-a`: of stdin, stdout and stderr those that `run` takes part in; empty is docker's choice.
    pub attach: Vec<String>,
    /// `--platform`, as typed; `None` is the machine's.
    #[serde(skip)]
    pub platform: Option<String>,
    /// `--annotation`.
    pub annotations: Vec<(String, String)>,
    /// `--expose`, as typed.
    pub expose: Vec<String>,
    /// `--dns`.
    pub dns: Vec<String>,
    /// `--dns-option`.
    pub dns_options: Vec<String>,
    /// `--dns-search`.
    pub dns_search: Vec<String>,
    /// What it may use up.
    pub resources: Resources,
    /// What it may do and see.
    pub isolation: Isolation,
    /// How its health is told.
    pub health: HealthRequest,
    /// What happens when its program ends.
    pub restart: RestartPolicy,
    /// Where its output goes.
    pub log: LogConfig,
}

/// How the caller's terminal or pipes take part.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stdio {
    /// Forward the caller's standard input.
    pub stdin: bool,
    /// Forward the program's outputs.
    pub attach: bool,
    /// The caller's terminal size, `(rows, columns)`.
    pub size: Option<(u16, u16)>,
    /// What leaves a terminal's program running when it is typed; `None` is ctrl-p ctrl-q.
    pub detach_keys: Option<Vec<u8>>,
    /// Keep the caller's signals from the program.
    pub keeps_signals: bool,
    /// Of the outputs, leave away standard output, standard error.
    pub hides: (bool, bool),
}

/// What streams a container's program has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContainerStreams {
    /// Where the container is in its life.
    pub state: ContainerState,
    /// One terminal for all.
    pub tty: bool,
    /// Standard input is open.
    pub interactive: bool,
}

/// `kiln exec`.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ExecRequest {
    /// The container, by name, id or prefix.
    pub container: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// `-e`.
    pub env: Vec<String>,
    /// `-w`.
    pub workdir: Option<String>,
    /// `-u`.
    pub user: Option<String>,
    /// `-t`.
    pub tty: bool,
    /// `-i`.
    pub interactive: bool,
    /// `-d`.
    pub detach: bool,
    /// `--privileged`.
    pub privileged: bool,
}

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContainerState {
    /// Made, never started.
    Created,
    /// Its program runs.
    Running,
    /// Its program runs, and its processes are frozen.
    Paused,
    /// Its program ended, and is started again after a delay.
    Restarting,
    /// It is being removed.
    Removing,
    /// Its program ended.
    Exited,
    /// It could not be removed as a whole.
    Dead,
}

impl ContainerState {
    /// Tells whether a monitor stands behind it: its program runs, or will run again by itself.
    pub fn is_alive(self) -> bool {
        matches!(self, Self::Running | Self::Paused | Self::Restarting)
    }

    /// Docker's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Removing => "removing",
            Self::Exited => "exited",
            Self::Dead => "dead",
        }
    }
}

/// A row of `kiln ps`, and the head of `kiln inspect`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerInfo {
    /// 64 hex digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The image as the user wrote it.
    pub image: String,
    /// The image's id.
    pub image_id: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Unix nanoseconds.
    pub created: i64,
    /// Where it is in its life.
    pub state: ContainerState,
    /// Unix nanoseconds of the last start.
    pub started: Option<i64>,
    /// Unix nanoseconds of the last end.
    pub finished: Option<i64>,
    /// The exit code of the last run.
    pub exit_code: Option<i32>,
    /// The process id of its first process, while it runs.
    pub pid: Option<i32>,
    /// Its labels.
    pub labels: std::collections::BTreeMap<String, String>,
    /// Its networks, by their names.
    pub networks: Vec<String>,
    /// What is mounted: a volume's name, or a host path.
    pub mounts: Vec<String>,
    /// Where they are mounted.
    pub targets: Vec<String>,
    /// How many of the mounts are volumes.
    pub volumes: usize,
    /// What its probes say, while it runs.
    pub health: Option<HealthStatus>,
    /// Ports that it says it listens on: `80/tcp`.
    pub exposed: Vec<String>,
    /// Its ports that are reached from outside.
    pub ports: Vec<PublishedPort>,
    /// Its folder in the store.
    pub folder: PathBuf,
}

/// The disk space of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContainerSize {
    /// Bytes that it has written.
    pub written: u64,
    /// The same with those of its image.
    pub whole: u64,
}

/// What `kiln run` gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunOutcome {
    /// The container's id, 64 hex digits.
    pub id: String,
    /// The program's exit code; `None` for one that runs in the background.
    pub exit_code: Option<i32>,
}
