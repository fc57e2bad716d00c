//! Containers as they are asked for and listed.

use std::path::PathBuf;

use super::{NetworkMode, PullPolicy};

/// One `-v`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct VolumeRequest {
    /// What stands before the first colon: an absolute host path (bind), a volume's name, or nothing (anonymous).
    pub source: Option<String>,
    /// Where it appears in the container; absolute.
    pub target: String,
    /// `:ro`.
    pub readonly: bool,
}

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
    /// `-v`.
    pub volumes: Vec<VolumeRequest>,
    /// `--network`.
    pub network: NetworkMode,
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
    /// `--init` is refused elsewhere; `--stop-signal`, by name or number.
    pub stop_signal: Option<String>,
    /// `-m`, bytes.
    pub memory: Option<u64>,
    /// `--cpus`.
    pub cpus_millis: Option<u64>,
    /// `--pids-limit`.
    pub pids_limit: Option<i64>,
}

/// How the caller's terminal or pipes take part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stdio {
    /// Forward the caller's standard input.
    pub stdin: bool,
    /// Forward the program's outputs.
    pub attach: bool,
    /// The caller's terminal size, `(rows, columns)`.
    pub size: Option<(u16, u16)>,
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

/// `kiln logs`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogsRequest {
    /// The container, by name, id or prefix.
    pub container: String,
    /// `-f`.
    pub follow: bool,
    /// `-t`.
    pub timestamps: bool,
    /// `--tail`; `None` means all.
    pub tail: Option<usize>,
    /// `--since`, unix nanoseconds.
    pub since: Option<i64>,
    /// `--until`, unix nanoseconds.
    pub until: Option<i64>,
}

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContainerState {
    /// Made, never started.
    Created,
    /// Its program runs.
    Running,
    /// Its program ended.
    Exited,
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
    /// Its network, by docker's name.
    pub network: &'static str,
    /// What is mounted: a volume's name, or a host path.
    pub mounts: Vec<String>,
    /// How many of the mounts are volumes.
    pub volumes: usize,
    /// Its folder in the store.
    pub folder: PathBuf,
}

/// What `kiln run` gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunOutcome {
    /// The container's id, 64 hex digits.
    pub id: String,
    /// The program's exit code; `None` for one that runs in the background.
    pub exit_code: Option<i32>,
}
