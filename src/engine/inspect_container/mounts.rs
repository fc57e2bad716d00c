//! What is mounted in a container, in docker's shape.

use serde_json::{Value, json};

use crate::api::Propagation;
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
    own.filter(|mount| mount.image.is_none()).map(bind).collect()
}

/// `Config.Volumes`: what the image declares, and what was asked for without a source.
pub(super) fn declared(config: &Config, image: &Value) -> Value {
    let own = config.mounts.iter().filter(|mount| mount.anonymous && !mount.taken_over);
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
