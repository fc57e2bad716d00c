//! What `config.json` asks for and kiln doesn't do is refused by name, before anything is made.

use serde_json::Value;

use super::config::{Config, Device, DeviceRule, Linux, Mount, Process, Resources};
use super::error::{Error, Result};
use super::userns;
use crate::runtime::{Capabilities, SysctlOwner, sysctl_owner};

fn refuse<T>(what: impl AsRef<str>) -> Result<T> {
    Err(Error::Refused(format!("config.json: {} is not supported", what.as_ref())))
}

/// Refuses a field that says something.
fn only_empty(name: &str, value: &Value) -> Result<()> {
    let says_nothing = match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    };
    if says_nothing { Ok(()) } else { refuse(format!("`{name}`")) }
}

/// Checks all that is known to be impossible.
pub(super) fn config(config: &Config) -> Result<()> {
    let bad = |text: &str| Err(Error::Refused(format!("config.json: {text}")));
    if !config.oci_version.starts_with("1.") {
        return bad(&format!("`ociVersion` is `{}`, and 1.x is understood", config.oci_version));
    }
    if config.root.as_ref().is_none_or(|root| root.path.as_os_str().is_empty()) {
        return bad("`root.path` is missing");
    }
    let Some(linux) = &config.linux else { return bad("`linux` is missing") };
    only_empty("vm", &config.vm)?;
    if let Some(hook) = config.hooks().all().find(|hook| !hook.path.is_absolute()) {
        return bad(&format!("the path of the hook `{}` must be absolute", hook.path.display()));
    }
    namespaces(config, linux)?;
    let values = [
        ("linux.timeOffsets", &linux.time_offsets),
        ("linux.intelRdt", &linux.intel_rdt),
        ("linux.personality", &linux.personality),
    ];
    values.iter().try_for_each(|(name, value)| only_empty(name, value))?;
    only_empty("linux.mountLabel", &linux.mount_label.as_str().into())?;
    userns::check(config, linux)?;
    config.mounts.iter().try_for_each(mount)?;
    linux.devices.iter().try_for_each(device)?;
    if let Some(resources) = &linux.resources {
        self::resources(resources, &linux.devices)?;
    }
    match &config.process {
        Some(process) => {
            self::process(process)?;
            userns::check_user(config, process)?;
            // Nodes that are made in a user namespace open nothing, nor do those of its own mounts.
            if config.namespace("user").is_some() { Ok(()) } else { rights_over_devices(process, linux) }
        }
        None => bad("`process` is missing"),
    }
}

fn namespaces(config: &Config, linux: &Linux) -> Result<()> {
    let known = ["pid", "network", "mount", "ipc", "uts", "cgroup", "user"];
    for (index, namespace) in linux.namespaces.iter().enumerate() {
        let kind = namespace.kind.as_str();
        if !known.contains(&kind) {
            return refuse(format!("a namespace of type `{kind}`"));
        }
        if linux.namespaces[..index].iter().any(|earlier| earlier.kind == kind) {
            return Err(Error::Refused(format!("config.json: two namespaces of type `{kind}`")));
        }
        let path = &namespace.path;
        if !path.as_os_str().is_empty() && !path.is_absolute() {
            return Err(Error::Refused(format!("config.json: `{}` is no absolute path", path.display())));
        }
    }
    match config.namespace("mount") {
        None => refuse("a container without a mount namespace"),
        Some(mount) if !mount.path.as_os_str().is_empty() => refuse("a mount namespace by its path"),
        Some(_) => Ok(()),
    }?;
    let is_host = |kind: &str| config.namespace(kind).is_none();
    if is_host("uts") && !(config.hostname.is_empty() && config.domainname.is_empty()) {
        return refuse("`hostname` or `domainname` without a uts namespace");
    }
    match linux.sysctl.keys().find(|name| is_of_machine(name, &is_host)) {
        Some(name) => refuse(format!("`linux.sysctl` of `{name}`, which is no namespace's own,")),
        None => Ok(()),
    }
}

/// Tells whether a kernel parameter would be changed for the whole machine.
fn is_of_machine(name: &str, is_host: &impl Fn(&str) -> bool) -> bool {
    match sysctl_owner(name) {
        SysctlOwner::Ipc => is_host("ipc"),
        SysctlOwner::Uts => is_host("uts"),
        SysctlOwner::Network => is_host("network"),
        SysctlOwner::Machine => true,
    }
}

fn mount(mount: &Mount) -> Result<()> {
    if mount.options.iter().any(|given| given == "tmpcopyup") {
        return refuse(format!("the mount option `tmpcopyup` of `{}`", mount.destination));
    }
    Ok(())
}

fn device(device: &Device) -> Result<()> {
    match device.kind.as_str() {
        "c" | "u" | "b" | "p" if device.path.starts_with('/') => Ok(()),
        "c" | "u" | "b" | "p" => refuse(format!("a device at `{}`, no absolute path,", device.path)),
        kind => refuse(format!("a device of type `{kind}`")),
    }
}

/// Checks a program to run.
pub(super) fn process(process: &Process) -> Result<()> {
    let bad = |text: &str| Err(Error::Refused(format!("process: {text}")));
    if process.args.is_empty() {
        return bad("`args` must not be empty");
    }
    if !process.cwd.starts_with('/') {
        return bad("`cwd` must be an absolute path");
    }
    only_empty("process.selinuxLabel", &process.selinux_label.as_str().into())?;
    only_empty("process.ioPriority", &process.io_priority)?;
    only_empty("process.scheduler", &process.scheduler)?;
    match process.rlimits.iter().find(|limit| super::rights::resource(&limit.kind).is_none()) {
        Some(limit) => refuse(format!("the resource limit `{}`", limit.kind)),
        None => Ok(()),
    }
}

/// Checks the limits of an update. Who may use a device was decided at the creation.
pub(super) fn update(resources: &Resources) -> Result<()> {
    if !resources.devices.is_empty() {
        return refuse("an update of `devices`");
    }
    self::resources(resources, &[])
}

/// Checks limits, of a container or of an update.
pub(super) fn resources(resources: &Resources, devices: &[Device]) -> Result<()> {
    let values = [
        ("linux.resources.hugepageLimits", &resources.hugepage_limits),
        ("linux.resources.network", &resources.network),
        ("linux.resources.rdma", &resources.rdma),
        ("linux.resources.unified", &resources.unified),
    ];
    values.iter().try_for_each(|(name, value)| only_empty(name, value))?;
    if resources.block_io.as_ref().is_some_and(|io| io.leaf_weight.is_some_and(|weight| weight > 0)) {
        return refuse("`linux.resources.blockIO.leafWeight`");
    }
    if resources.cpu.as_ref().is_some_and(|cpu| cpu.idle.unwrap_or(0) != 0 || cpu.burst.unwrap_or(0) != 0) {
        return refuse("`linux.resources.cpu.idle` or `burst`");
    }
    if lets_all_devices(&resources.devices) {
        return Ok(());
    }
    // Of a device that can be opened nothing can be held back without the kernel's device controller.
    for device in devices {
        let mut rules = resources.devices.iter().rev();
        let last = rules
            .find(|rule| is_for(rule, device) && rule.major.is_some())
            .filter(|rule| !(rule.access.contains('r') && rule.access.contains('w')));
        if let Some(rule) = last {
            let text =
                format!("the access `{}` to `{}`, other than `rw` and `rwm`,", rule.access, device.path);
            return refuse(text);
        }
    }
    Ok(())
}

fn is_for(rule: &DeviceRule, device: &Device) -> bool {
    let number =
        |rule: Option<i64>, device: u32| rule.is_none_or(|rule| rule < 0 || rule == i64::from(device));
    let kind = if device.kind == "u" { "c" } else { &device.kind };
    (rule.kind.is_empty() || rule.kind == "a" || rule.kind == kind)
        && number(rule.major, device.major)
        && number(rule.minor, device.minor)
}

/// Tells whether the rules let every device be used.
pub(super) fn lets_all_devices(rules: &[DeviceRule]) -> bool {
    let any = |number: Option<i64>| number.is_none_or(|number| number < 0);
    let is_for_all = |rule: &&DeviceRule| {
        (rule.kind.is_empty() || rule.kind == "a")
            && any(rule.major)
            && any(rule.minor)
            && rule.access.len() == 3
    };
    rules.iter().rev().find(is_for_all).is_some_and(|rule| rule.allow)
}

/// Devices are held back by mounts that open none. Whoever can mount and make nodes gets around that.
fn rights_over_devices(process: &Process, linux: &Linux) -> Result<()> {
    let open = linux.resources.as_ref().is_some_and(|resources| lets_all_devices(&resources.devices));
    let bounding = process.capabilities.as_ref().map(|sets| sets.bounding.as_slice()).unwrap_or_default();
    let named = |name: &str| {
        let wanted = Capabilities::named(name);
        bounding.iter().any(|given| Capabilities::named(given) == wanted)
    };
    if !open && named("SYS_ADMIN") && named("MKNOD") {
        return refuse(
            "CAP_SYS_ADMIN together with CAP_MKNOD while `linux.resources.devices` denies devices",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::config::example;

    fn refusal(change: impl FnOnce(&mut Value)) -> String {
        let mut json = example();
        change(&mut json);
        config(&serde_json::from_value(json).unwrap()).unwrap_err().to_string()
    }

    #[test]
    fn what_is_not_done_is_refused_by_name() {
        let add = |json: &mut Value, kind: &str| {
            json["linux"]["namespaces"].as_array_mut().unwrap().push(serde_json::json!({"type": kind}));
        };
        assert!(refusal(|json| add(json, "time")).contains("`time`"));
        assert!(refusal(|json| add(json, "pid")).contains("two namespaces"));
        assert!(
            refusal(|json| json["linux"]["sysctl"] = serde_json::json!({"kernel.panic": "1"}))
                .contains("kernel.panic")
        );
        assert!(
            refusal(|json| json["linux"]["sysctl"] = serde_json::json!({"net/../kernel/panic": "1"}))
                .contains("net/../kernel/panic")
        );
        assert!(refusal(|json| json["ociVersion"] = "2.0.0".into()).contains("ociVersion"));
        assert!(refusal(|json| json["process"]["args"] = Value::Array(Vec::new())).contains("args"));
        assert!(refusal(|json| json["process"]["cwd"] = "tmp".into()).contains("cwd"));
        assert!(refusal(|json| json["process"]["selinuxLabel"] = "x".into()).contains("selinuxLabel"));
        assert!(
            refusal(|json| json["linux"]["resources"]["rdma"] = serde_json::json!({"x": {}}))
                .contains("rdma")
        );
    }

    #[test]
    fn rights_that_open_devices_again_are_refused() {
        let sets = serde_json::json!(["CAP_SYS_ADMIN", "CAP_MKNOD"]);
        let text = refusal(|json| json["process"]["capabilities"]["bounding"] = sets);
        assert!(text.contains("CAP_MKNOD"), "{text}");
        let read_only = |json: &mut Value| {
            json["linux"]["devices"] =
                serde_json::json!([{"type": "c", "path": "/dev/fuse", "major": 10, "minor": 229}]);
            json["linux"]["resources"]["devices"] =
                serde_json::json!([{"allow": true, "type": "c", "major": 10, "minor": 229, "access": "r"}]);
        };
        assert!(refusal(read_only).contains("`r`"));
    }

    #[test]
    fn the_last_rule_for_all_devices_decides() {
        let rule = |allow| DeviceRule { allow, access: "rwm".into(), ..DeviceRule::default() };
        assert!(!lets_all_devices(&[]));
        assert!(lets_all_devices(&[rule(false), rule(true)]));
        assert!(!lets_all_devices(&[rule(true), rule(false)]));
    }
}
