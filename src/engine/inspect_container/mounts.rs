//! What is mounted in a container, in docker's shape.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::api::{MountKind, MountRequest, Propagation, Recursion};
use crate::container::{Config, MountPoint};

/// `Mounts`.
pub(super) fn mounts(config: &Config) -> Vec<Value> {
    let memory = config.isolation.tmpfs.iter().map(|(target, options)| {
        let readonly = options.split(',').any(|option| option == "ro");
        json!({
            "Type": "tmpfs",
            "Source": "",
            "Destination": target,
            "Mode": "",
            "RW": !readonly,
            "Propagation": "",
        })
    });
    config.mounts.iter().map(mount).chain(memory).collect()
}

/// `HostConfig.Binds`: what `-v` would say.
pub(super) fn binds(config: &Config) -> Vec<String> {
    let own = config.mounts.iter().filter(|mount| !mount.anonymous && !mount.taken_over);
    own.filter(|mount| !is_long(config, &mount.target)).map(bind).collect()
}

/// `HostConfig.Tmpfs`: what `--tmpfs` said.
pub(super) fn short_memory(config: &Config) -> Map<String, Value> {
    let short = config.isolation.tmpfs.iter().filter(|(target, _)| !is_long(config, target));
    short.map(|(target, options)| (target.clone(), json!(options))).collect()
}

/// `HostConfig.Mounts`: what `--mount` said.
pub(super) fn asked(config: &Config) -> Value {
    match config.long_mounts.is_empty() {
        true => Value::Null,
        false => config.long_mounts.iter().map(long).collect(),
    }
}

fn is_long(config: &Config, target: &str) -> bool {
    config.long_mounts.iter().any(|mount| Path::new(&mount.target) == Path::new(target))
}

/// Without what nobody asked for.
fn long(mount: &MountRequest) -> Value {
    let mut shown = Map::new();
    let (kind, source, options) = match &mount.kind {
        MountKind::Bind { source, create, recursion, propagation } => {
            let options = [
                ("Propagation", (*propagation != Propagation::default()).then(|| json!(propagation.name()))),
                ("NonRecursive", (*recursion == Recursion::Disabled).then_some(Value::Bool(true))),
                ("CreateMountpoint", create.then_some(Value::Bool(true))),
                ("ReadOnlyNonRecursive", (*recursion == Recursion::Writable).then_some(Value::Bool(true))),
                ("ReadOnlyForceRecursive", (*recursion == Recursion::Readonly).then_some(Value::Bool(true))),
            ];
            ("bind", Some(source), ("BindOptions", options.to_vec()))
        }
        MountKind::Volume { name, nocopy, subpath, driver, labels, options } => {
            let of_driver = [
                ("Name", driver.as_ref().map(|name| json!(name))),
                ("Options", (!options.is_empty()).then(|| pairs(options))),
            ];
            let of_driver = object(&of_driver);
            let options = [
                ("NoCopy", nocopy.then_some(Value::Bool(true))),
                ("Labels", (!labels.is_empty()).then(|| pairs(labels))),
                ("Subpath", subpath.as_ref().map(|path| json!(path))),
                ("DriverConfig", (!of_driver.is_empty()).then(|| of_driver.into())),
            ];
            ("volume", name.as_ref(), ("VolumeOptions", options.to_vec()))
        }
        MountKind::Tmpfs { options } => ("tmpfs", None, ("TmpfsOptions", memory(options))),
        MountKind::Image { image, subpath } => {
            let options = vec![("Subpath", subpath.as_ref().map(|path| json!(path)))];
            ("image", Some(image), ("ImageOptions", options))
        }
    };
    shown.insert("Type".to_owned(), kind.into());
    shown.extend(source.map(|source| ("Source".to_owned(), json!(source))));
    shown.insert("Target".to_owned(), json!(mount.target));
    shown.extend(mount.readonly.then(|| ("ReadOnly".to_owned(), true.into())));
    let (name, options) = (options.0, object(&options.1));
    shown.extend((!options.is_empty()).then(|| (name.to_owned(), options.into())));
    shown.into()
}

/// The options of a folder in memory: its size in bytes and its mode have fields of their own.
fn memory(options: &str) -> Vec<(&'static str, Option<Value>)> {
    let value = |wanted: &str| {
        let mut pairs = options.split(',').filter_map(|option| option.split_once('='));
        pairs.find(|(name, _)| *name == wanted).map(|(_, value)| value)
    };
    let is_other = |option: &&str| !matches!(option.split('=').next(), Some("" | "ro" | "size" | "mode"));
    let others = options.split(',').filter(is_other).map(|option| option.splitn(2, '=').collect::<Vec<_>>());
    let others: Vec<_> = others.collect();
    vec![
        ("SizeBytes", value("size").and_then(|bytes| bytes.parse::<u64>().ok()).map(Value::from)),
        ("Mode", value("mode").and_then(|mode| u32::from_str_radix(mode, 8).ok()).map(Value::from)),
        ("Options", (!others.is_empty()).then(|| json!(others))),
    ]
}

fn pairs(pairs: &[(String, String)]) -> Value {
    pairs.iter().map(|(key, value)| (key.clone(), json!(value))).collect()
}

/// Those of the fields that are there.
fn object(fields: &[(&str, Option<Value>)]) -> Map<String, Value> {
    let there = fields.iter().filter_map(|(name, value)| Some(((*name).to_owned(), value.clone()?)));
    there.collect()
}

/// `Config.Volumes`: what the image declares, and what was asked for without a source.
pub(super) fn declared(config: &Config, image: &Value) -> Value {
    let own = config.mounts.iter().filter(|mount| mount.anonymous && !mount.taken_over);
    let own = own.filter(|mount| !is_long(config, &mount.target));
    let mut declared = image.as_object().cloned().unwrap_or_default();
    declared.extend(own.map(|mount| (mount.target.clone(), json!({}))));
    if declared.is_empty() { Value::Null } else { declared.into() }
}

fn mount(mount: &MountPoint) -> Value {
    let mode = if mount.readonly { "ro" } else { "" };
    let mut shown = json!({
        "Type": "bind",
        "Source": mount.source,
        "Destination": mount.target,
        "Mode": mode,
        "RW": !mount.readonly,
        "Propagation": mount.propagation.name(),
    });
    if let Some(image) = &mount.image {
        shown["Type"] = "image".into();
        shown["Source"] = image.name.clone().into();
        shown["Propagation"] = "".into();
    }
    if let Some(name) = &mount.volume {
        shown["Type"] = "volume".into();
        shown["Name"] = name.clone().into();
        shown["Driver"] = "local".into();
        shown["Propagation"] = "".into();
    }
    shown
}

fn bind(mount: &MountPoint) -> String {
    let source = mount.volume.clone().unwrap_or_else(|| mount.source.display().to_string());
    let is_plain = mount.propagation == Propagation::default();
    let words = [mount.readonly.then_some("ro"), (!is_plain).then(|| mount.propagation.name())];
    let words: Vec<_> = words.into_iter().flatten().collect();
    let mode = if words.is_empty() { String::new() } else { format!(":{}", words.join(",")) };
    format!("{source}:{}{mode}", mount.target)
}
