//! What is known of a container, in two JSON files: what it was asked to be, and how it is.
//!
//! `config.json` is changed under the lock of the names; `state.json` by the holder of the container's own lock
//! alone. Without a state the container was never started. Version 1 had both in one `record.json`, which is
//! read as long as nothing changes.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use kiln_cache::SnapshotId;
use serde::{Deserialize, Serialize};

use super::error::{At, Error, Result};
use crate::api::{
    BoundPort, ContainerState, Health, HealthCheck, HealthStatus, Isolation, LogConfig, MountRequest,
    NetworkMode, NetworkWish, PortRequest, Propagation, Recursion, Resources, RestartPolicy,
};

/// The format of both files.
pub(super) const VERSION: u32 = 2;
/// The format of `record.json`.
const JOINED_VERSION: u32 = 1;
/// The name of the default bridge's network.
pub(super) const DEFAULT_NETWORK: &str = "bridge";
const CONFIG: &str = "config.json";
const STATE: &str = "state.json";
const JOINED: &str = "record.json";

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
    /// What it was asked to be.
    pub config: Config,
    /// How it is; in a file of its own.
    #[serde(default, skip_serializing)]
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
    /// The machine's ids that it has in a user namespace of its own.
    #[serde(default)]
    pub ids: Option<crate::runtime::IdRange>,
    /// How its health is looked at.
    #[serde(default)]
    pub health: Option<HealthCheck>,
    /// What runs the check's line; empty for `/bin/sh -c`.
    #[serde(default)]
    pub shell: Vec<String>,
    /// What happens when its program ends.
    #[serde(default)]
    pub restart: RestartPolicy,
    /// Where its output goes.
    #[serde(default)]
    pub log: LogConfig,
    /// `-a`.
    #[serde(default)]
    pub attach: Vec<String>,
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
    /// What kind of network it has.
    pub network: NetworkMode,
    /// The networks that it is connected to; without any the default bridge.
    #[serde(default)]
    pub networks: Vec<NetworkWish>,
    /// It was taken out of all networks.
    #[serde(default)]
    pub unconnected: bool,
    /// `--link`: container and alias.
    #[serde(default)]
    pub links: Vec<(String, String)>,
    /// `-p`.
    #[serde(default)]
    pub ports: Vec<PortRequest>,
    /// `-P`.
    #[serde(default)]
    pub publish_all: bool,
    /// Where ports are published that name no address; none is everywhere.
    #[serde(default)]
    pub publish_address: Option<IpAddr>,
    /// `--add-host`.
    pub add_hosts: Vec<(String, String)>,
    /// Volumes, binds and images, in order.
    pub mounts: Vec<MountPoint>,
    /// Those of `--mount`, and its folders in memory, as they were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub long_mounts: Vec<MountRequest>,
    /// `--volumes-from`: `container[:ro]`; what came of it is among the mounts.
    #[serde(default)]
    pub volumes_from: Vec<String>,
    /// Made by `run --rm`: without a process at work on it, it goes even when it was never started.
    #[serde(default)]
    pub transient: bool,
    /// The end of the input of whoever is attached with one is the end of the program's.
    #[serde(default)]
    pub stdin_once: bool,
}

/// A volume, a bind, or an image.
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
    /// Only this part of the source is mounted.
    #[serde(default)]
    pub subpath: Option<String>,
    /// The image whose files it shows; the source then says nothing.
    #[serde(default)]
    pub image: Option<ImageMount>,
    /// What becomes of mounts below the source.
    #[serde(default)]
    pub recursion: Recursion,
    /// Whether later mounts show on the other side.
    #[serde(default)]
    pub propagation: Propagation,
    /// The volume's driver has to mount something first.
    #[serde(default)]
    pub held: bool,
    /// It came from another container: `--volumes-from`.
    #[serde(default)]
    pub taken_over: bool,
}

/// An image whose files are mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageMount {
    /// As the user wrote it.
    pub name: String,
    /// `sha256:…`.
    pub id: String,
    /// Its snapshots, base first; pinned like the container's own.
    pub chain: Vec<SnapshotId>,
}

/// What the user last asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wanted {
    /// To stay as it is without a program.
    #[default]
    Down,
    /// To run.
    Up,
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
    /// Its places in networks, while it runs.
    #[serde(default)]
    pub endpoints: Vec<Endpoint>,
    /// The host's ports that lead to it, while it runs.
    #[serde(default)]
    pub ports: Vec<BoundPort>,
    /// How often its policy has started it again.
    #[serde(default)]
    pub restarts: u32,
    /// Unix nanoseconds of the next start, while it waits for that.
    #[serde(default)]
    pub restart_at: Option<i64>,
    /// What the user last asked for.
    #[serde(default)]
    pub wanted: Wanted,
    /// What its probes say, when it has any.
    #[serde(default)]
    pub health: Option<Health>,
}

impl State {
    /// Notes that nobody looks at the health any more. Docker's word for that.
    pub fn unwatched(&mut self) {
        if let Some(health) = &mut self.health {
            health.status = HealthStatus::Unhealthy;
        }
    }
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
            endpoints: Vec::new(),
            ports: Vec::new(),
            restarts: 0,
            restart_at: None,
            wanted: Wanted::Down,
            health: None,
        }
    }
}

/// A place in a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The network's id.
    pub network: String,
    /// Its name.
    pub network_name: String,
    /// Its bridge.
    pub bridge: String,
    /// The container's link: `eth0`.
    pub interface: String,
    /// The host's link, a port of the bridge.
    pub link: String,
    /// The MAC of the container's link.
    pub mac: String,
    /// The address in its subnet.
    pub address: Option<Ipv4Net>,
    /// The bridge's address.
    pub gateway: Option<Ipv4Addr>,
    /// The address in its subnet.
    pub address6: Option<Ipv6Net>,
    /// The bridge's address.
    pub gateway6: Option<Ipv6Addr>,
    /// Names that it has there besides its own.
    pub aliases: Vec<String>,
    /// The network has no way out, and no way in.
    #[serde(default)]
    pub internal: bool,
}

impl Endpoint {
    /// Its addresses, in their subnets.
    pub fn addresses(&self) -> Vec<IpNet> {
        self.address.map(IpNet::from).into_iter().chain(self.address6.map(IpNet::from)).collect()
    }

    /// Tells whether containers have names there: everywhere but on the default bridge.
    pub fn has_names(&self) -> bool {
        self.network_name != DEFAULT_NETWORK
    }
}

impl Record {
    /// Reads the record in `folder`.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(CONFIG);
        let bytes = match std::fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Self::read_joined(folder, error),
            bytes => bytes.at("read", &path)?,
        };
        let record: Self = parse(&path, &bytes, VERSION)?;
        let path = folder.join(STATE);
        let state = match std::fs::read(&path) {
            // Never started.
            Err(error) if error.kind() == ErrorKind::NotFound => State::default(),
            bytes => serde_json::from_slice(&bytes.at("read", &path)?)
                .map_err(|source| Error::Damaged { path, source })?,
        };
        Ok(Self { state, ..record })
    }

    fn read_joined(folder: &Path, missing: io::Error) -> Result<Self> {
        let path = folder.join(JOINED);
        let Ok(bytes) = std::fs::read(&path) else { return Err(missing).at("read", folder.join(CONFIG)) };
        let record: Self = parse(&path, &bytes, JOINED_VERSION)?;
        Ok(Self { version: VERSION, ..record })
    }

    /// Tells whether `folder` has a record.
    pub(super) fn exists(folder: &Path) -> bool {
        folder.join(CONFIG).exists() || folder.join(JOINED).exists()
    }

    /// Writes what it was asked to be. The caller has the lock of the names.
    pub(super) fn write_config(&self, folder: &Path) -> Result<()> {
        if folder.join(JOINED).exists() {
            replace(&folder.join(STATE), &self.state)?;
            replace(&folder.join(CONFIG), self)?;
            let path = folder.join(JOINED);
            return std::fs::remove_file(&path).at("remove", &path);
        }
        replace(&folder.join(CONFIG), self)
    }

    /// Writes how it is. The caller has the container's lock.
    pub(super) fn write_state(&self, folder: &Path) -> Result<()> {
        match folder.join(CONFIG).exists() {
            true => replace(&folder.join(STATE), &self.state),
            false => self.write_config(folder),
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

    /// Returns the snapshots that it pins: its image's, and those of images that are mounted.
    pub fn stands_on(&self) -> Vec<SnapshotId> {
        let mounted = self.config.mounts.iter().filter_map(|mount| mount.image.as_ref());
        std::iter::once(&self.chain).chain(mounted.map(|image| &image.chain)).flatten().copied().collect()
    }
}

/// Returns the owner of the pins of container `id`.
pub(super) fn owner(id: &str) -> String {
    format!("container:{id}")
}

fn parse(path: &Path, bytes: &[u8], known: u32) -> Result<Record> {
    #[derive(Deserialize)]
    struct Head {
        version: u32,
    }
    let damaged = |source| Error::Damaged { path: path.to_owned(), source };
    let head: Head = serde_json::from_slice(bytes).map_err(damaged)?;
    if head.version != known {
        return Err(Error::Version { path: path.to_owned(), found: head.version, known });
    }
    serde_json::from_slice(bytes).map_err(damaged)
}

/// Writes the file at `path` by one rename: a reader sees the old one or the new one.
///
/// On a full disk it goes into the place of the old one: how a container ended is known only once.
fn replace(path: &Path, value: &impl Serialize) -> Result<()> {
    let new = path.with_added_extension("new");
    let bytes =
        serde_json::to_vec(value).map_err(|source| Error::Damaged { path: path.to_owned(), source })?;
    match File::create(&new).and_then(|mut file| file.write_all(&bytes)) {
        Ok(()) => std::fs::rename(&new, path).at("write", path),
        Err(error) if error.kind() == ErrorKind::StorageFull && path.exists() => {
            let _ = std::fs::remove_file(&new);
            overwrite(path, &bytes).at("write", path)
        }
        Err(error) => Err(error).at("write", &new),
    }
}

/// Writes into the blocks that the file at `path` has already, all of it or nothing.
fn overwrite(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::KEEP_SIZE, 0, bytes.len() as u64)?;
    file.write_all(bytes)?;
    file.set_len(bytes.len() as u64)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::container) fn record() -> serde_json::Value {
        serde_json::json!({
            "version": 1, "id": "a".repeat(64), "name": "box", "image": "busybox", "image_id": "sha256:1",
            "chain": [], "created": 5,
            "config": {
                "entrypoint": [], "args": ["sh"], "env": [], "cwd": "", "user": "", "hostname": "box",
                "labels": {}, "tty": false, "interactive": true, "remove": false, "privileged": false,
                "readonly": false, "stop_signal": 15, "memory": 1000, "cpus_millis": null, "pids_limit": null,
                "network": "none", "add_hosts": [], "mounts": [],
            },
            "state": {
                "status": "exited", "process": null, "started": 6, "finished": 7, "exit_code": 3,
                "error": "", "oom_killed": false, "address": null,
            },
        })
    }

    #[test]
    fn a_record_of_version_1_is_read_and_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        std::fs::write(folder.join(JOINED), record().to_string()).unwrap();
        let mut read = Record::read(folder).unwrap();
        assert_eq!((read.state.exit_code, read.config.resources.memory), (Some(3), Some(1000)));
        read.state.exit_code = Some(4);
        read.write_state(folder).unwrap();
        assert!(!folder.join(JOINED).exists());
        assert_eq!(Record::read(folder).unwrap(), read);
    }

    #[test]
    fn without_a_state_a_container_was_never_started() {
        let folder = tempfile::tempdir().unwrap();
        let mut value = record();
        value["version"] = VERSION.into();
        let record: Record = serde_json::from_value(value).unwrap();
        record.write_config(folder.path()).unwrap();
        assert_eq!(Record::read(folder.path()).unwrap().state, State::default());
        std::fs::write(folder.path().join(CONFIG), r#"{"version":99}"#).unwrap();
        assert!(matches!(Record::read(folder.path()), Err(Error::Version { found: 99, .. })));
    }
}
