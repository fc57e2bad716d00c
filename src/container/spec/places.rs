//! What is mounted in a container besides the standard set: volumes, folders in memory, devices, in an order in which
//! none hides another.

use std::path::Path;

use super::devices;
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
        mounts.extend(devices::nodes(device)?);
    }
    mounts.sort_by_key(|mount| Path::new(mount.target()).components().count());
    Ok(mounts)
}

/// Refuses what [`mounts`] would not understand.
pub(super) fn check(config: &Config) -> Result<()> {
    for (target, options) in &config.isolation.tmpfs {
        tmpfs(target, options)?;
    }
    Ok(())
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
    let colon = if options.is_empty() { "" } else { ":" };
    let bad = |why: String| Error::Advised {
        message: format!("invalid value `{target}{colon}{options}` for `--tmpfs`: {why}"),
        hint: "write it as `/run`, or with options of tmpfs(5): `/run:size=64m,mode=1770,exec`".to_owned(),
    };
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

#[cfg(test)]
mod tests {
    use super::*;

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
