//! Devices by their CDI names, for `RUN --device` and `run --device`, from the specs that the machine's drivers installed.
//!
//! A spec is a JSON or YAML file in one of a few folders; of two files that name one device the one in the later
//! folder wins. What a spec asks for and kiln can't do (hooks, other owners of nodes) is refused by name: a device
//! that half works is worse than none. Source: the Container Device Interface's SPEC.md, 0.8.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::api::{Failure, FailureKind};
use crate::runtime::{How, Mount};

/// A longer file is no spec.
const SPEC_BYTES: u64 = 4 << 20;
/// The annotation by which BuildKit finds the devices of a class.
const CLASS: &str = "org.mobyproject.buildkit.device.class";

/// What devices change about a step or a container.
#[derive(Debug, Default, PartialEq)]
pub struct Edits {
    /// Further variables, `NAME=value`.
    pub env: Vec<String>,
    /// Nodes, files and folders of the machine.
    pub mounts: Vec<Mount>,
    /// Further groups, by their numbers.
    pub groups: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    kind: String,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    devices: Vec<Device>,
    #[serde(default)]
    container_edits: ContainerEdits,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Device {
    name: String,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    container_edits: ContainerEdits,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ContainerEdits {
    env: Vec<String>,
    device_nodes: Vec<DeviceNode>,
    mounts: Vec<HostMount>,
    hooks: Vec<Hook>,
    #[serde(rename = "additionalGids")]
    additional_gids: Vec<u32>,
    intel_rdt: Option<serde::de::IgnoredAny>,
    net_devices: Vec<serde::de::IgnoredAny>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeviceNode {
    path: String,
    host_path: Option<String>,
    major: Option<u32>,
    minor: Option<u32>,
    file_mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HostMount {
    host_path: String,
    container_path: String,
    #[serde(default)]
    options: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct Hook {
    path: String,
}

/// A device, the kind that it is of, and what belongs to all devices of its file.
struct Known {
    kind: String,
    name: String,
    class: Option<String>,
    own: ContainerEdits,
    of_file: ContainerEdits,
    file: PathBuf,
}

/// Finds what is wanted in `folders`: names of devices, and whether each has to be there. Blocking.
pub fn edits(wanted: &[(&str, bool)], folders: &[PathBuf]) -> Result<Edits, Box<Failure>> {
    let mut edits = Edits::default();
    if wanted.is_empty() {
        return Ok(edits);
    }
    let known = known(folders)?;
    let mut files: Vec<&Path> = Vec::new();
    for (name, required) in wanted {
        let found = find(name, &known);
        if found.is_empty() && *required {
            return Err(missing(name, folders, &known));
        }
        for found in found {
            let name = format!("{}={}", found.kind, found.name);
            if !files.contains(&found.file.as_path()) {
                files.push(&found.file);
                edits.take(&name, &found.of_file)?;
            }
            edits.take(&name, &found.own)?;
        }
    }
    Ok(edits)
}

/// As BuildKit: `kind=name`, all of a kind by `kind=*`, the first of a kind by itself, or those of a class.
fn find<'a>(name: &str, known: &'a [Known]) -> Vec<&'a Known> {
    let (kind, device) = name.split_once('=').map_or((name, None), |(kind, device)| (kind, Some(device)));
    let mut of_kind: Vec<&Known> = known.iter().filter(|known| known.kind == kind).collect();
    of_kind.sort_by(|one, other| one.name.cmp(&other.name));
    match device {
        Some("*") => of_kind,
        Some(device) => of_kind.into_iter().filter(|known| known.name == device).collect(),
        None if !of_kind.is_empty() => of_kind.into_iter().take(1).collect(),
        None => known.iter().filter(|known| known.class.as_deref() == Some(name)).collect(),
    }
}

fn missing(name: &str, folders: &[PathBuf], known: &[Known]) -> Box<Failure> {
    let shown: Vec<String> = folders.iter().map(|folder| format!("`{}`", folder.display())).collect();
    let message = format!("the device `{name}` is needed, and no CDI spec in {} has it", shown.join(" and "));
    let failure = Failure::new(FailureKind::NotFound, message);
    let names: Vec<String> = known.iter().map(|known| format!("`{}={}`", known.kind, known.name)).collect();
    Box::new(match names.is_empty() {
        true => failure.hint("install the driver's CDI spec there"),
        false => failure.hint(format!("there are {}", names.join(", "))),
    })
}

/// All devices; those of later folders first, so that they are found first.
fn known(folders: &[PathBuf]) -> Result<Vec<Known>, Box<Failure>> {
    let mut known: Vec<Known> = Vec::new();
    for folder in folders.iter().rev() {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            let Some(spec) = read(&path)? else { continue };
            for device in spec.devices {
                let is_known = |one: &Known| one.kind == spec.kind && one.name == device.name;
                if known.iter().any(is_known) {
                    continue;
                }
                let class = device.annotations.get(CLASS).or(spec.annotations.get(CLASS)).cloned();
                known.push(Known {
                    kind: spec.kind.clone(),
                    name: device.name,
                    class,
                    own: device.container_edits,
                    of_file: spec.container_edits.clone(),
                    file: path.clone(),
                });
            }
        }
    }
    Ok(known)
}

fn read(path: &Path) -> Result<Option<Spec>, Box<Failure>> {
    let bad = |reason: String| -> Box<Failure> {
        let mut failure =
            Failure::new(FailureKind::Invalid, format!("cannot use the CDI spec `{}`", path.display()));
        failure.causes.push(reason);
        Box::new(failure)
    };
    let extension = path.extension().and_then(|extension| extension.to_str());
    let is_json = match extension {
        Some("json") => true,
        Some("yaml" | "yml") => false,
        _ => return Ok(None),
    };
    let length = fs::metadata(path).map_err(|error| bad(error.to_string()))?.len();
    if length > SPEC_BYTES {
        return Err(bad(format!("it has more than {SPEC_BYTES} bytes")));
    }
    let text = fs::read_to_string(path).map_err(|error| bad(error.to_string()))?;
    let spec = match is_json {
        true => serde_json::from_str(&text).map_err(|error| bad(error.to_string())),
        false => serde_yaml_ng::from_str(&text).map_err(|error| bad(error.to_string())),
    };
    spec.map(Some)
}

impl Edits {
    fn take(&mut self, name: &str, edits: &ContainerEdits) -> Result<(), Box<Failure>> {
        if let Some(hook) = edits.hooks.first() {
            return Err(refused(name, &format!("the hook `{}`", hook.path)));
        }
        if edits.intel_rdt.is_some() {
            return Err(refused(name, "`intelRdt`"));
        }
        if !edits.net_devices.is_empty() {
            return Err(refused(name, "`netDevices`"));
        }
        self.env.extend(edits.env.iter().cloned());
        self.groups.extend(edits.additional_gids.iter().map(u32::to_string));
        for node in &edits.device_nodes {
            let source = PathBuf::from(node.host_path.as_ref().unwrap_or(&node.path));
            check(name, node, &source)?;
            self.mounts.push(Mount::Device { source, target: node.path.clone() });
        }
        self.mounts.extend(edits.mounts.iter().map(|mount| Mount::Bind {
            source: PathBuf::from(&mount.host_path),
            target: mount.container_path.clone(),
            readonly: mount.options.iter().any(|option| option == "ro"),
            how: How::default(),
        }));
        Ok(())
    }
}

/// The machine's node is bound as it is, so what the spec says of it has to be so.
fn check(name: &str, node: &DeviceNode, source: &Path) -> Result<(), Box<Failure>> {
    let shown = source.display();
    let found = fs::metadata(source)
        .ok()
        .filter(|found| found.file_type().is_char_device() || found.file_type().is_block_device());
    let Some(found) = found else {
        let message = format!("the device `{name}` needs `{shown}`, which is no device of this machine");
        return Err(Box::new(Failure::new(FailureKind::System, message)));
    };
    let (major, minor) = (rustix::fs::major(found.rdev()), rustix::fs::minor(found.rdev()));
    let differs = [
        ("major", node.major, major),
        ("minor", node.minor, minor),
        ("fileMode", node.file_mode.map(|mode| mode & 0o7777), found.mode() & 0o7777),
        ("uid", node.uid, found.uid()),
        ("gid", node.gid, found.gid()),
    ];
    match differs.iter().find(|(_, wanted, is)| wanted.is_some_and(|wanted| wanted != *is)) {
        Some((field, Some(wanted), is)) => {
            Err(refused(name, &format!("`{field}: {wanted}` for `{shown}`, which has {is}")))
        }
        _ => Ok(()),
    }
}

fn refused(name: &str, what: &str) -> Box<Failure> {
    let message = format!("the CDI spec of the device `{name}` asks for {what}, which is not supported");
    Box::new(Failure::new(FailureKind::Invalid, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders(files: &[(&str, &str)]) -> (tempfile::TempDir, Vec<PathBuf>) {
        let folder = tempfile::tempdir().unwrap();
        let both = ["etc", "run"].map(|name| folder.path().join(name));
        for path in &both {
            fs::create_dir(path).unwrap();
        }
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        (folder, both.to_vec())
    }

    fn wanted(name: &str) -> [(&str, bool); 1] {
        [(name, true)]
    }

    const YAML: &str = "cdiVersion: 0.6.0\nkind: acme.example/gpu\ncontainerEdits:\n  env: [ALL=1]\ndevices:\n\
        - name: b\n  annotations: {org.mobyproject.buildkit.device.class: fast}\n  containerEdits: {env: [DEVICE=b]}\n\
        - name: a\n  containerEdits:\n    env: [DEVICE=a]\n    additionalGids: [44]\n    deviceNodes:\n    - {path: /dev/acme, hostPath: /dev/null, major: 1}\n    mounts:\n    - {hostPath: /etc/hostname, containerPath: /h, options: [ro, bind]}\n";

    #[test]
    fn devices_are_found_by_name_kind_and_class() {
        let (_folder, folders) = folders(&[("etc/acme.yaml", YAML)]);
        let env = |name: &str| edits(&wanted(name), &folders).unwrap().env;
        assert_eq!(env("acme.example/gpu=b"), ["ALL=1", "DEVICE=b"]);
        assert_eq!(env("acme.example/gpu"), ["ALL=1", "DEVICE=a"], "the first of its kind");
        assert_eq!(env("acme.example/gpu=*"), ["ALL=1", "DEVICE=a", "DEVICE=b"]);
        assert_eq!(env("fast"), ["ALL=1", "DEVICE=b"]);
        let all = edits(&wanted("acme.example/gpu=a"), &folders).unwrap();
        assert_eq!(all.groups, ["44"]);
        let device = Mount::Device { source: "/dev/null".into(), target: "/dev/acme".into() };
        let bind = Mount::Bind {
            source: "/etc/hostname".into(),
            target: "/h".into(),
            readonly: true,
            how: How::default(),
        };
        assert_eq!(all.mounts, [device, bind]);
    }

    #[test]
    fn a_later_folder_wins_and_a_missing_device_is_named() {
        let json = r#"{"cdiVersion":"0.6.0","kind":"acme.example/gpu","devices":[{"name":"a","containerEdits":{"env":["NEW=1"]}}]}"#;
        let (_folder, folders) =
            folders(&[("etc/acme.yml", YAML), ("run/acme.json", json), ("run/x.txt", "{")]);
        assert_eq!(edits(&wanted("acme.example/gpu=a"), &folders).unwrap().env, ["NEW=1"]);
        let error = edits(&wanted("acme.example/gpu=c"), &folders).unwrap_err();
        assert!(error.message.starts_with("the device `acme.example/gpu=c` is needed, and no CDI spec in"));
        assert_eq!(error.hints, ["there are `acme.example/gpu=a`, `acme.example/gpu=b`"]);
        let optional = [("acme.example/gpu=c", false)];
        assert_eq!(edits(&optional, &folders).unwrap(), Edits::default());
    }

    #[test]
    fn what_a_spec_asks_for_in_vain_is_refused_by_name() {
        let message = |edit: &str| {
            let text = format!("kind: a.b/c\ndevices:\n- name: x\n  containerEdits: {edit}\n");
            let (_folder, folders) = folders(&[("etc/a.yaml", &text)]);
            edits(&wanted("a.b/c=x"), &folders).unwrap_err().message
        };
        let of = "the CDI spec of the device `a.b/c=x` asks for";
        let cases = [
            ("{hooks: [{hookName: createContainer, path: /usr/bin/hook}]}", "the hook `/usr/bin/hook`"),
            ("{intelRdt: {closID: x}}", "`intelRdt`"),
            ("{deviceNodes: [{path: /dev/null, minor: 9}]}", "`minor: 9` for `/dev/null`, which has 3"),
        ];
        for (edit, what) in cases {
            assert_eq!(message(edit), format!("{of} {what}, which is not supported"));
        }
        assert!(
            message("{deviceNodes: [{path: /dev/nothing-here}]}")
                .contains("which is no device of this machine")
        );
        let (_folder, folders) = folders(&[("etc/bad.json", "{")]);
        assert!(
            edits(&wanted("a.b/c=x"), &folders).unwrap_err().message.starts_with("cannot use the CDI spec")
        );
    }
}
