//! Devices: the nodes that a container gets, and who may do what with them.
//!
//! Without rules a container can open no node but those that are bound into it: everything else is mounted so that
//! devices are plain files. `--device-cgroup-rule` is about nodes that it makes itself, so with it the mounts let
//! devices be used, and the kernel's controller decides.

use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::container::error::{Error, Result};
use crate::container::record::Config;
use crate::runtime::{DeviceRule, Mount};

/// The usual nodes, and terminals; docker's list.
const USUAL: [(u32, Option<u32>); 8] = [
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    (5, Some(0)),
    (5, Some(2)),
    (136, None),
];
/// All that can be done with a device.
const ALL: &str = "rwm";

/// One `--device`.
#[derive(Debug, PartialEq)]
struct Device {
    source: PathBuf,
    target: String,
    access: String,
}

/// Refuses what [`nodes`] and [`rules`] would not understand.
pub(super) fn check(config: &Config) -> Result<()> {
    config.isolation.devices.iter().try_for_each(|text| parse(text).map(drop))?;
    config.isolation.device_cgroup_rules.iter().try_for_each(|text| parse_rule(text).map(drop))
}

/// Returns what the kernel's controller is told, which isn't needed for most containers.
pub(super) fn rules(config: &Config) -> Result<Vec<DeviceRule>> {
    let isolation = &config.isolation;
    if config.privileged {
        return Ok(Vec::new());
    }
    let mut given = Vec::new();
    for text in &isolation.devices {
        let access = parse(text)?.access;
        for node in nodes(text)? {
            let Mount::Device { source, .. } = node else { continue };
            // The start tells of one that is missing.
            let Ok(found) = std::fs::metadata(&source) else { continue };
            let kind = if found.file_type().is_block_device() { 'b' } else { 'c' };
            let (major, minor) = (rustix::fs::major(found.rdev()), rustix::fs::minor(found.rdev()));
            given.push((kind, Some(major), Some(minor), access.clone()));
        }
    }
    let rule = |allow, (kind, major, minor, access)| DeviceRule { allow, kind, major, minor, access };
    if isolation.device_cgroup_rules.is_empty() {
        let missing =
            |access: &str| "rw".chars().filter(|letter| !access.contains(*letter)).collect::<String>();
        let limited =
            given.into_iter().map(|(kind, major, minor, access)| (kind, major, minor, missing(&access)));
        return Ok(limited
            .filter(|(.., access)| !access.is_empty())
            .map(|given| rule(false, given))
            .collect());
    }
    let mut rules = vec![rule(false, ('a', None, None, ALL.to_owned()))];
    rules.extend(['b', 'c'].map(|kind| rule(true, (kind, None, None, "m".to_owned()))));
    rules.extend(USUAL.map(|(major, minor)| rule(true, ('c', Some(major), minor, ALL.to_owned()))));
    rules.extend(given.into_iter().map(|given| rule(true, given)));
    for text in &isolation.device_cgroup_rules {
        rules.push(parse_rule(text)?);
    }
    Ok(rules)
}

/// Reads `--device-cgroup-rule`: `c 10:* rwm`.
fn parse_rule(text: &str) -> Result<DeviceRule> {
    let bad = |why: &str| invalid(format!("invalid value `{text}` for `--device-cgroup-rule`: {why}"));
    let fields: Vec<&str> = text.split(' ').collect();
    let [kind, numbers, access] = fields[..] else { return Err(bad("write it as `c 10:200 rwm`")) };
    let kind = match kind {
        "a" => 'a',
        "b" => 'b',
        "c" => 'c',
        _ => return Err(bad("the first word is a, b or c")),
    };
    let number = |text: &str| match text {
        "*" => Ok(None),
        text => text.parse().map(Some).map_err(|_| bad("a device has two numbers, or `*` for every one")),
    };
    let (major, minor) = numbers.split_once(':').ok_or_else(|| bad("a device has two numbers"))?;
    if access.is_empty() || access.len() > ALL.len() || !access.chars().all(|letter| ALL.contains(letter)) {
        return Err(bad("the permissions are letters of `rwm`"));
    }
    Ok(DeviceRule {
        allow: true,
        kind,
        major: number(major)?,
        minor: number(minor)?,
        access: access.to_owned(),
    })
}

/// Reads `--device`: `SOURCE[:TARGET][:rwm]`.
fn parse(text: &str) -> Result<Device> {
    let bad = |why: &str| invalid(format!("invalid value `{text}` for `--device`: {why}"));
    let is_mode = |word: &str| !word.is_empty() && word.chars().all(|c| "rwm".contains(c));
    let fields: Vec<&str> = text.split(':').collect();
    let (source, target, mode) = match fields[..] {
        [source] => (source, source, "rwm"),
        [source, mode] if is_mode(mode) => (source, source, mode),
        [source, target] => (source, target, "rwm"),
        [source, target, mode] => (source, target, mode),
        _ => return Err(bad("too many colons")),
    };
    if !source.starts_with('/') || !target.starts_with('/') {
        return Err(bad("it must be an absolute path"));
    }
    if !is_mode(mode) {
        return Err(bad("the permissions are letters of `rwm`"));
    }
    Ok(Device { source: PathBuf::from(source), target: target.to_owned(), access: mode.to_owned() })
}

/// One device, or all that are below a folder.
pub(super) fn nodes(text: &str) -> Result<Vec<Mount>> {
    let Device { source, target, .. } = parse(text)?;
    if !source.is_dir() {
        return Ok(vec![Mount::Device { source, target }]);
    }
    let mut found = Vec::new();
    below(&source, &target, &mut found)
        .map_err(|error| invalid(format!("cannot read `{}` for `--device`: {error}", source.display())))?;
    Ok(found)
}

/// The machine's devices, for a container that may use all of them.
pub(in crate::container) fn host_devices() -> Vec<PathBuf> {
    // Folders of filesystems that a container has itself, and what every runtime makes.
    const OWN: [&str; 12] =
        ["console", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "tty", "urandom", "zero"];
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/dev").into_iter().flatten().flatten() {
        if OWN.iter().any(|own| entry.file_name() == *own) {
            continue;
        }
        match entry.file_type() {
            // One that goes meanwhile isn't there.
            Ok(kind) if kind.is_dir() => drop(below(&entry.path(), "", &mut found)),
            Ok(kind) if kind.is_char_device() || kind.is_block_device() => {
                found.push(Mount::Device { source: entry.path(), target: String::new() });
            }
            _ => {}
        }
    }
    let source = |mount| if let Mount::Device { source, .. } = mount { Some(source) } else { None };
    found.into_iter().filter_map(source).collect()
}

fn below(folder: &Path, target: &str, found: &mut Vec<Mount>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let target = format!("{}/{}", target.trim_end_matches('/'), entry.file_name().to_string_lossy());
        if kind.is_dir() {
            below(&entry.path(), &target, found)?;
        } else if kind.is_char_device() || kind.is_block_device() {
            found.push(Mount::Device { source: entry.path(), target });
        }
    }
    Ok(())
}

fn invalid(message: String) -> Error {
    Error::Invalid { message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_as_docker_reads_them() {
        let read = |text| parse(text).ok().map(|device| (device.source.display().to_string(), device.target));
        let same = |path: &str| Some((path.to_owned(), path.to_owned()));
        assert_eq!(read("/dev/fuse"), same("/dev/fuse"));
        assert_eq!(read("/dev/fuse:rwm"), same("/dev/fuse"));
        assert_eq!(read("/dev/fuse:/dev/x"), Some(("/dev/fuse".into(), "/dev/x".into())));
        assert_eq!(read("/dev/fuse:/dev/x:rw"), Some(("/dev/fuse".into(), "/dev/x".into())));
        for bad in ["fuse", "/dev/fuse:x", "/dev/fuse:/x:z", "/a:/b:rwm:c", ""] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn rules_are_read_as_docker_reads_them() {
        let read = |text| parse_rule(text).ok().map(|rule| rule.to_string());
        assert_eq!(read("c 10:200 rwm").as_deref(), Some("c 10:200 rwm"));
        assert_eq!(read("b *:* m").as_deref(), Some("b *:* m"));
        for bad in
            ["", "c 10:200", "d 1:2 r", "c 1 r", "c 1:x r", "c 1:2 x", "c 1:2 rwmr", "c  1:2 r", "c -1:2 r"]
        {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
