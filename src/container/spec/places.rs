//! What is mounted in a container besides the standard set: volumes, folders in memory, devices, in an order in which
//! none hides another.

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use crate::api::{Propagation, Recursion};
use crate::container::error::{Error, Result};
use crate::container::record::{Config, MountPoint};
use crate::runtime::{self, Below, How, Mount};

/// Returns the mounts that were asked for, with `files` and `images`, shallow ones first.
pub(super) fn mounts(config: &Config, files: Vec<Mount>, images: Vec<Mount>) -> Result<Vec<Mount>> {
    let mut mounts = files;
    for (target, options) in &config.isolation.tmpfs {
        mounts.push(tmpfs(target, options)?);
    }
    mounts.extend(images);
    mounts.extend(config.mounts.iter().filter(|mount| mount.image.is_none()).map(bind));
    for device in &config.isolation.devices {
        mounts.extend(devices(device)?);
    }
    mounts.sort_by_key(|mount| Path::new(mount.target()).components().count());
    Ok(mounts)
}

/// Refuses what [`mounts`] would not understand.
pub(super) fn check(config: &Config) -> Result<()> {
    for (target, options) in &config.isolation.tmpfs {
        tmpfs(target, options)?;
    }
    config.isolation.devices.iter().try_for_each(|device| parse_device(device).map(drop))
}

/// Returns the volumes and binds, shallow ones first: what a container has also while it doesn't run.
pub(in crate::container) fn binds(config: &Config) -> Vec<Mount> {
    let points = config.mounts.iter().filter(|mount| mount.image.is_none());
    let mut binds: Vec<_> = points.map(bind).collect();
    binds.sort_by_key(|mount| Path::new(mount.target()).components().count());
    binds
}

fn bind(mount: &MountPoint) -> Mount {
    let below = match mount.recursion {
        Recursion::Enabled | Recursion::Readonly => Below::Same,
        Recursion::Writable => Below::Writable,
        Recursion::Disabled => Below::None,
    };
    let propagation = match mount.propagation {
        Propagation::Rprivate | Propagation::Private => runtime::Propagation::Private,
        Propagation::Rslave | Propagation::Slave => runtime::Propagation::Slave,
        Propagation::Rshared | Propagation::Shared => runtime::Propagation::Shared,
    };
    Mount::Bind {
        source: mount.source.clone(),
        target: mount.target.clone(),
        readonly: mount.readonly,
        how: How { subpath: mount.subpath.clone(), below, propagation },
    }
}

/// Reads `--tmpfs`: a path, and options as `mount` takes them. Without any it runs no programs, as docker's.
fn tmpfs(target: &str, options: &str) -> Result<Mount> {
    let bad = |why: String| invalid(format!("invalid value `{target}:{options}` for `--tmpfs`: {why}"));
    if !target.starts_with('/')
        || target.trim_end_matches('/').is_empty()
        || target.split('/').any(|part| part == "..")
    {
        return Err(bad("it must be an absolute path below /".to_owned()));
    }
    let (mut exec, mut suid, mut readonly) = (false, false, false);
    let (mut mode, mut more) = (None, Vec::new());
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        match (name, value) {
            ("rw", "") => readonly = false,
            ("ro", "") => readonly = true,
            ("exec", "") => exec = true,
            ("noexec", "") => exec = false,
            ("suid", "") => suid = true,
            ("nosuid", "") => suid = false,
            ("nodev", "") => {}
            ("mode", octal) => {
                let number = u32::from_str_radix(octal, 8).ok().filter(|mode| *mode <= 0o7777);
                mode = Some(number.ok_or_else(|| bad(format!("`{octal}` is no mode")))?);
            }
            ("size" | "nr_inodes" | "nr_blocks", amount) if is_amount(amount) => {
                more.push((name.to_owned(), amount.to_owned()));
            }
            ("uid" | "gid", number) if number.parse::<u32>().is_ok() => {
                more.push((name.to_owned(), number.to_owned()));
            }
            _ => return Err(bad(format!("the option `{option}` is not supported"))),
        }
    }
    let target = target.trim_end_matches('/').to_owned();
    Ok(Mount::Tmpfs { target, size: None, mode, exec, suid, readonly, options: more })
}

/// A number with one of the kernel's units, or a share of the memory.
fn is_amount(text: &str) -> bool {
    let number = text.strip_suffix(['k', 'K', 'm', 'M', 'g', 'G', '%']).unwrap_or(text);
    number.parse::<u64>().is_ok()
}

/// Reads `--device`: `SOURCE[:TARGET][:rwm]`.
fn parse_device(text: &str) -> Result<(PathBuf, String)> {
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
    if !(mode.contains('r') && mode.contains('w')) {
        return Err(bad("less than reading and writing is not supported yet"));
    }
    Ok((PathBuf::from(source), target.to_owned()))
}

/// One device, or all that are below a folder.
fn devices(text: &str) -> Result<Vec<Mount>> {
    let (source, target) = parse_device(text)?;
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
        let read =
            |text| parse_device(text).ok().map(|(source, target)| (source.display().to_string(), target));
        let same = |path: &str| Some((path.to_owned(), path.to_owned()));
        assert_eq!(read("/dev/fuse"), same("/dev/fuse"));
        assert_eq!(read("/dev/fuse:rwm"), same("/dev/fuse"));
        assert_eq!(read("/dev/fuse:/dev/x"), Some(("/dev/fuse".into(), "/dev/x".into())));
        assert_eq!(read("/dev/fuse:/dev/x:rw"), Some(("/dev/fuse".into(), "/dev/x".into())));
        for bad in
            ["fuse", "/dev/fuse:x", "/dev/fuse:/x:z", "/dev/fuse:/x:r", "/dev/fuse:r", "/a:/b:rwm:c", ""]
        {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn folders_in_memory_are_read_as_docker_reads_them() {
        let read = |options| match tmpfs("/run/", options) {
            Ok(Mount::Tmpfs { target, mode, exec, readonly, options, .. }) => {
                Some((target, mode, exec, readonly, options.len()))
            }
            _ => None,
        };
        assert_eq!(read(""), Some(("/run".into(), None, false, false, 0)));
        assert_eq!(
            read("rw,exec,size=64m,mode=1770,uid=5"),
            Some(("/run".into(), Some(0o1770), true, false, 2))
        );
        for bad in ["dev", "size=x", "size=", "mode=9", "uid=me", "bind"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert!(tmpfs("run", "").is_err() && tmpfs("/", "").is_err() && tmpfs("/a/../b", "").is_err());
    }
}
