//! What is known of a container, in one JSON file.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use kiln_cache::SnapshotId;
use serde::{Deserialize, Serialize};

use super::error::{At, Error, Result};
use crate::api::{ContainerState, HealthCheck, Isolation, LogConfig, NetworkMode, Resources, RestartPolicy};

/// The format of `record.json`.
pub(super) const VERSION: u32 = 1;

/// A container: what it was made from, and how it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The format; another one is refused.
    pub version: u32,
    /// 64 hex digits.
    pub id: String,
    /// Unique among the store's containers.
    pub name: String,
    /// The image as the user wrote it.
    pub image: String,
    /// The image's id.
    pub image_id: String,
    /// The image's snapshots, base first; they are pinned in the store as `container:<id>`.
    pub chain: Vec<SnapshotId>,
    /// Unix nanoseconds.
    pub created: i64,
    /// What never changes.
    pub config: Config,
    /// How it is.
    pub state: State,
}

/// What a container was asked to be, with the image's defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// The effective entrypoint, which is the head of `args`.
    pub entrypoint: Vec<String>,
    /// The program and its arguments.
    pub args: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// The working directory; empty means `/`.
    pub cwd: String,
    /// `""` or `user[:group]`.
    pub user: String,
    /// The host name.
    pub hostname: String,
    /// Of the image and the request.
    pub labels: BTreeMap<String, String>,
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
    /// What `stop` sends first.
    pub stop_signal: i32,
    /// Seconds that `stop` waits; -1 is for ever.
    #[serde(default)]
    pub stop_timeout: Option<i64>,
    /// What it may use up.
    #[serde(flatten)]
    pub resources: Resources,
    /// What it may do and see.
    #[serde(default)]
    pub isolation: Isolation,
    /// How its health is looked at.
    #[serde(default)]
    pub health: Option<HealthCheck>,
    /// What happens when its program ends.
    #[serde(default)]
    pub restart: RestartPolicy,
    /// Where its output goes.
    #[serde(default)]
    pub log: LogConfig,
    /// `--annotation`.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// Ports that it says it listens on, the image's too: `80/tcp`.
    #[serde(default)]
    pub exposed: Vec<String>,
    /// `--dns`.
    #[serde(default)]
    pub dns: Vec<String>,
    /// `--dns-option`.
    #[serde(default)]
    pub dns_options: Vec<String>,
    /// `--dns-search`.
    #[serde(default)]
    pub dns_search: Vec<String>,
    /// Which network it has.
    pub network: NetworkMode,
    /// `--add-host`.
    pub add_hosts: Vec<(String, String)>,
    /// Volumes and binds, in order.
    pub mounts: Vec<MountPoint>,
}

/// A volume or a bind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountPoint {
    /// The volume's name; none for a bind.
    pub volume: Option<String>,
    /// Whether the volume goes with the container.
    pub anonymous: bool,
    /// The host path.
    pub source: PathBuf,
    /// The path inside.
    pub target: String,
    /// `:ro`.
    pub readonly: bool,
}

/// How a container is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Where it is in its life.
    pub status: ContainerState,
    /// The first process, while it runs.
    pub process: Option<crate::runtime::Target>,
    /// Unix nanoseconds of the last start.
    pub started: Option<i64>,
    /// Unix nanoseconds of the last end.
    pub finished: Option<i64>,
    /// The last exit code.
    pub exit_code: Option<i32>,
    /// Why the last start failed, or the monitor was lost.
    pub error: String,
    /// The kernel killed one of its processes for memory.
    pub oom_killed: bool,
    /// Its place in the network, while it runs.
    pub address: Option<Address>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            status: ContainerState::Created,
            process: None,
            started: None,
            finished: None,
            exit_code: None,
            error: String::new(),
            oom_killed: false,
            address: None,
        }
    }
}

/// A place in a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    /// The bridge.
    pub bridge: String,
    /// The address with its prefix length.
    pub address: String,
    /// The default route's next hop.
    pub gateway: String,
    /// The MAC of `eth0`.
    pub mac: String,
}

impl Record {
    /// Reads the record in `folder`.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("record.json");
        let bytes = std::fs::read(&path).at("read", &path)?;
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        let damaged = |source| Error::Damaged { path: path.clone(), source };
        let head: Head = serde_json::from_slice(&bytes).map_err(damaged)?;
        if head.version != VERSION {
            return Err(Error::Version { path, found: head.version, known: VERSION });
        }
        serde_json::from_slice(&bytes).map_err(|source| Error::Damaged { path, source })
    }

    /// Writes the record in `folder` by one rename: a reader sees the old one or the new one.
    ///
    /// On a full disk it goes into the place of the old one: how a container ended is known only once.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let (path, new) = (folder.join("record.json"), folder.join("record.json.new"));
        let bytes =
            serde_json::to_vec(self).map_err(|source| Error::Damaged { path: path.clone(), source })?;
        match File::create(&new).and_then(|mut file| file.write_all(&bytes)) {
            Ok(()) => std::fs::rename(&new, &path).at("write", &path),
            Err(error) if error.kind() == ErrorKind::StorageFull && path.exists() => {
                let _ = std::fs::remove_file(&new);
                overwrite(&path, &bytes).at("write", &path)
            }
            Err(error) => Err(error).at("write", &new),
        }
    }

    /// Returns the first 12 digits of the id.
    pub fn short_id(&self) -> &str {
        self.id.get(..12).unwrap_or(&self.id)
    }

    /// Returns the owner of its pins in the store.
    pub fn owner(&self) -> String {
        owner(&self.id)
    }
}

/// Returns the owner of the pins of container `id`.
pub(super) fn owner(id: &str) -> String {
    format!("container:{id}")
}

/// Writes into the blocks that the file at `path` has already, all of it or nothing.
fn overwrite(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::KEEP_SIZE, 0, bytes.len() as u64)?;
    file.write_all(bytes)?;
    file.set_len(bytes.len() as u64)
}
