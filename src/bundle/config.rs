//! `config.json` as far as it is used, by the names of the runtime-spec. What isn't known is ignored, as the spec
//! demands; what is known and can't be done is kept, for [`super::check`] to refuse it by name.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::{Doing, Error, Result};

/// The version of the runtime-spec that is followed.
pub const OCI_VERSION: &str = "1.0.2";

/// The largest `config.json` that is read.
const MOST_BYTES: u64 = 64 << 20;

/// A whole `config.json`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Config {
    pub(super) oci_version: String,
    pub(super) root: Option<Root>,
    pub(super) process: Option<Process>,
    pub(super) hostname: String,
    pub(super) domainname: String,
    pub(super) mounts: Vec<Mount>,
    pub(super) hooks: Option<Hooks>,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) linux: Option<Linux>,
    pub(super) vm: Value,
}

/// The root filesystem.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Root {
    pub(super) path: PathBuf,
    pub(super) readonly: bool,
}

/// A program to run, in `config.json` or in the file of an exec.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Process {
    pub(super) terminal: bool,
    pub(super) console_size: Option<ConsoleSize>,
    pub(super) user: User,
    pub(super) args: Vec<String>,
    #[serde(deserialize_with = "or_null")]
    pub(super) env: Vec<String>,
    pub(super) cwd: String,
    pub(super) capabilities: Option<Capabilities>,
    #[serde(deserialize_with = "or_null")]
    pub(super) rlimits: Vec<Rlimit>,
    pub(super) no_new_privileges: bool,
    pub(super) apparmor_profile: String,
    pub(super) oom_score_adj: Option<i32>,
    pub(super) selinux_label: String,
    pub(super) io_priority: Value,
    pub(super) scheduler: Value,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct ConsoleSize {
    pub(super) height: u16,
    pub(super) width: u16,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) umask: Option<u32>,
    #[serde(deserialize_with = "or_null")]
    pub(super) additional_gids: Vec<u32>,
}

/// The five sets, by the names of capabilities.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Capabilities {
    #[serde(deserialize_with = "or_null")]
    pub(super) bounding: Vec<String>,
    #[serde(deserialize_with = "or_null")]
    pub(super) effective: Vec<String>,
    #[serde(deserialize_with = "or_null")]
    pub(super) inheritable: Vec<String>,
    #[serde(deserialize_with = "or_null")]
    pub(super) permitted: Vec<String>,
    #[serde(deserialize_with = "or_null")]
    pub(super) ambient: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Rlimit {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) soft: u64,
    pub(super) hard: u64,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Mount {
    pub(super) destination: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) source: PathBuf,
    #[serde(deserialize_with = "or_null")]
    pub(super) options: Vec<String>,
    #[serde(deserialize_with = "or_null")]
    pub(super) uid_mappings: Vec<IdMapping>,
    #[serde(deserialize_with = "or_null")]
    pub(super) gid_mappings: Vec<IdMapping>,
}

/// A range of ids, inside and outside of a user namespace.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct IdMapping {
    #[serde(rename = "containerID")]
    pub(super) container_id: u32,
    #[serde(rename = "hostID")]
    pub(super) host_id: u32,
    pub(super) size: u32,
}

/// Programs of the caller's, run at fixed moments.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Hooks {
    #[serde(deserialize_with = "or_null")]
    pub(super) prestart: Vec<Hook>,
    #[serde(deserialize_with = "or_null")]
    pub(super) create_runtime: Vec<Hook>,
    #[serde(deserialize_with = "or_null")]
    pub(super) create_container: Vec<Hook>,
    #[serde(deserialize_with = "or_null")]
    pub(super) start_container: Vec<Hook>,
    #[serde(deserialize_with = "or_null")]
    pub(super) poststart: Vec<Hook>,
    #[serde(deserialize_with = "or_null")]
    pub(super) poststop: Vec<Hook>,
}

impl Hooks {
    /// Returns the hooks of every kind.
    pub(super) fn all(&self) -> impl Iterator<Item = &Hook> {
        let kinds = [&self.prestart, &self.create_runtime, &self.create_container, &self.start_container];
        kinds.into_iter().chain([&self.poststart, &self.poststop]).flatten()
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Hook {
    pub(super) path: PathBuf,
    #[serde(deserialize_with = "or_null")]
    pub(super) args: Vec<String>,
    #[serde(deserialize_with = "or_null")]
    pub(super) env: Vec<String>,
    /// Seconds.
    pub(super) timeout: Option<u64>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Linux {
    #[serde(deserialize_with = "or_null")]
    pub(super) namespaces: Vec<Namespace>,
    #[serde(deserialize_with = "or_null")]
    pub(super) uid_mappings: Vec<IdMapping>,
    #[serde(deserialize_with = "or_null")]
    pub(super) gid_mappings: Vec<IdMapping>,
    pub(super) time_offsets: Value,
    #[serde(deserialize_with = "or_null")]
    pub(super) devices: Vec<Device>,
    pub(super) cgroups_path: String,
    pub(super) rootfs_propagation: String,
    #[serde(deserialize_with = "or_null")]
    pub(super) masked_paths: Vec<String>,
    #[serde(deserialize_with = "or_null")]
    pub(super) readonly_paths: Vec<String>,
    pub(super) mount_label: String,
    pub(super) seccomp: Option<Value>,
    #[serde(deserialize_with = "or_null")]
    pub(super) sysctl: BTreeMap<String, String>,
    pub(super) resources: Option<Resources>,
    pub(super) intel_rdt: Value,
    pub(super) personality: Value,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Namespace {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) path: PathBuf,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Device {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) path: String,
    pub(super) major: u32,
    pub(super) minor: u32,
    pub(super) file_mode: Option<u32>,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// What a container may use up, of `config.json` or of an update.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Resources {
    #[serde(deserialize_with = "or_null")]
    pub(super) devices: Vec<DeviceRule>,
    pub(super) memory: Option<Memory>,
    pub(super) cpu: Option<Cpu>,
    pub(super) pids: Option<Pids>,
    #[serde(rename = "blockIO")]
    pub(super) block_io: Option<BlockIo>,
    pub(super) hugepage_limits: Value,
    pub(super) network: Value,
    pub(super) rdma: Value,
    pub(super) unified: Value,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct DeviceRule {
    pub(super) allow: bool,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) major: Option<i64>,
    pub(super) minor: Option<i64>,
    pub(super) access: String,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Memory {
    pub(super) limit: Option<i64>,
    pub(super) reservation: Option<i64>,
    pub(super) swap: Option<i64>,
    pub(super) swappiness: Option<u64>,
    #[serde(rename = "disableOOMKiller")]
    pub(super) disable_oom_killer: bool,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Cpu {
    pub(super) shares: Option<u64>,
    pub(super) quota: Option<i64>,
    pub(super) period: Option<u64>,
    pub(super) realtime_runtime: Option<i64>,
    pub(super) realtime_period: Option<u64>,
    pub(super) cpus: String,
    pub(super) mems: String,
    pub(super) idle: Option<i64>,
    pub(super) burst: Option<u64>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Pids {
    pub(super) limit: i64,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct BlockIo {
    pub(super) weight: Option<u16>,
    pub(super) leaf_weight: Option<u16>,
    #[serde(deserialize_with = "or_null")]
    pub(super) weight_device: Vec<WeightDevice>,
    #[serde(deserialize_with = "or_null")]
    pub(super) throttle_read_bps_device: Vec<Rate>,
    #[serde(deserialize_with = "or_null")]
    pub(super) throttle_write_bps_device: Vec<Rate>,
    #[serde(rename = "throttleReadIOPSDevice", deserialize_with = "or_null")]
    pub(super) throttle_read_iops_device: Vec<Rate>,
    #[serde(rename = "throttleWriteIOPSDevice", deserialize_with = "or_null")]
    pub(super) throttle_write_iops_device: Vec<Rate>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct WeightDevice {
    pub(super) major: i64,
    pub(super) minor: i64,
    pub(super) weight: Option<u16>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Rate {
    pub(super) major: i64,
    pub(super) minor: i64,
    pub(super) rate: u64,
}

/// Go writes an empty list as null.
fn or_null<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(
    from: D,
) -> std::result::Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

impl Config {
    /// Reads the `config.json` of a bundle.
    pub(super) fn of_bundle(bundle: &Path) -> Result<Config> {
        let file = bundle.join("config.json");
        match std::fs::metadata(&file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let text = format!("JSON specification file {} not found", file.display());
                Err(Error::Refused(text))
            }
            _ => read(&file),
        }
    }

    /// Returns the namespace of a kind that is asked for.
    pub(super) fn namespace(&self, kind: &str) -> Option<&Namespace> {
        self.linux.as_ref()?.namespaces.iter().find(|namespace| namespace.kind == kind)
    }

    /// Returns the hooks.
    pub(super) fn hooks(&self) -> Hooks {
        self.hooks.clone().unwrap_or_default()
    }
}

impl Process {
    /// Reads the file of an exec.
    pub fn of_file(file: &Path) -> Result<Process> {
        read(file)
    }

    /// Gives what an exec without a file runs: the container's own process with other arguments.
    pub fn like(self, args: Vec<String>, env: Vec<String>, cwd: Option<String>, terminal: bool) -> Process {
        let cwd = cwd.unwrap_or_else(|| self.cwd.clone());
        let env = self.env.iter().cloned().chain(env).collect();
        Process { args, env, cwd, terminal, console_size: None, ..self }
    }

    /// Runs it as another user and group.
    pub fn as_user(mut self, uid: u32, gid: Option<u32>) -> Process {
        self.user.uid = uid;
        self.user.gid = gid.unwrap_or(self.user.gid);
        self
    }
}

impl Resources {
    /// Reads limits, in the form of `linux.resources`.
    pub fn of(from: impl std::io::Read) -> Result<Resources> {
        let fail = || "cannot read the resources";
        let mut bytes = Vec::new();
        from.take(MOST_BYTES).read_to_end(&mut bytes).doing(fail)?;
        parse(&bytes).map_err(|error| Error::Refused(format!("{}: {error}", fail())))
    }
}

/// Reads JSON as Go does, for which what is null isn't there.
fn parse<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(bytes).or_else(|error| {
        let mut value = serde_json::from_slice(bytes)?;
        drop_nulls(&mut value);
        // The first error is the one that knows its line.
        serde_json::from_value(value).map_err(|_| error)
    })
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// Reads a JSON file of a sane size.
pub(super) fn read<T: serde::de::DeserializeOwned>(file: &Path) -> Result<T> {
    let fail = || format!("cannot read `{}`", file.display());
    let length = std::fs::metadata(file).doing(fail)?.len();
    if length > MOST_BYTES {
        return Err(Error::Refused(format!("{}: it is too large", fail())));
    }
    let bytes = std::fs::read(file).doing(fail)?;
    parse(&bytes).map_err(|error| Error::Refused(format!("{}: {error}", fail())))
}

/// What `runtime spec` writes: a shell with few rights in `rootfs`.
pub fn example() -> Value {
    let capabilities = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| serde_json::json!({"destination": destination, "type": kind, "source": source, "options": options});
    let namespaces =
        ["pid", "network", "ipc", "uts", "mount", "cgroup"].map(|kind| serde_json::json!({"type": kind}));
    serde_json::json!({
        "ociVersion": OCI_VERSION,
        "process": {
            "terminal": true,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": [format!("PATH={}", crate::runtime::DEFAULT_PATH), "TERM=xterm"],
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
            },
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "kiln",
        "mounts": [
            mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
            mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", "devpts",
                &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
            mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
            mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
            mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
            mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
        ],
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": namespaces,
            "maskedPaths": crate::runtime::masked_paths(),
            "readonlyPaths": crate::runtime::readonly_paths(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_read_and_passes_the_check() {
        let config: Config = serde_json::from_value(example()).unwrap();
        assert_eq!(config.namespace("pid").unwrap().path, Path::new(""));
        assert!(config.namespace("user").is_none());
        crate::bundle::check::config(&config).unwrap();
    }

    #[test]
    fn empty_lists_of_go_are_read() {
        let config: Config = serde_json::from_str(
            r#"{"process":{"env":null,"user":{"additionalGids":null}},"linux":{"sysctl":null,"devices":null}}"#,
        )
        .unwrap();
        assert!(config.process.unwrap().env.is_empty());
    }

    #[test]
    fn what_is_null_is_not_there() {
        let text = br#"{"annotations":null,"hostname":null,"mounts":[{"source":null,"destination":"/x"}],
            "process":{"args":null,"user":null,"cwd":"/"},"linux":null}"#;
        let config: Config = parse(text).unwrap();
        assert_eq!(
            (config.mounts[0].destination.as_str(), config.process.unwrap().cwd.as_str()),
            ("/x", "/")
        );
        assert!(config.annotations.is_empty() && config.linux.is_none());
        let error = parse::<Config>(br#"{"hostname":1,"annotations":null}"#).unwrap_err();
        assert!(error.to_string().contains("line 1 column 13"), "{error}");
    }
}
