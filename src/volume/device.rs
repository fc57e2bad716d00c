//! Volumes whose driver has options: what they name is mounted on `_data` while somebody uses it.
//!
//! Who does holds a shared lock of `users`. The first one mounts; whoever finds nobody left takes the mount away: the
//! last user, or after that was killed the next command that looks ([`Volumes::unmount_unused`]).

use std::collections::BTreeMap;
use std::fs::File;
use std::net::ToSocketAddrs;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FlockOperation, StatxAttributes, StatxFlags, flock, statx};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, unmount};

use super::error::{At, Error, Result};
use super::{PAUSE, Volumes, locked};

/// What is mounted on a volume's `_data`, for as long as this is there.
#[derive(Debug)]
pub struct Held {
    volumes: Volumes,
    name: String,
    users: Option<File>,
}

impl Drop for Held {
    fn drop(&mut self) {
        // The next one to look would find the same.
        drop(self.users.take());
        let _ = self.volumes.unmount_if_unused(&self.name);
    }
}

/// Refuses options that the driver hasn't, and those that can't be mounted by anybody.
pub(super) fn check(options: &BTreeMap<String, String>) -> Result<()> {
    let bad = |message: String| {
        let hint = "write them as `-o type=tmpfs -o o=size=64m`, `-o type=none -o o=bind -o device=/path` or \
                    `-o type=nfs -o o=addr=HOST -o device=:/path`";
        Err(Error::Options { message, hint: hint.to_owned() })
    };
    for (name, value) in options {
        match name.as_str() {
            "type" | "o" | "device" if !value.contains('\0') => {}
            _ => {
                return bad(format!("unknown option `{name}` of a volume: it may be type, o or device"));
            }
        }
    }
    if options.is_empty() {
        return Ok(());
    }
    let wanted = Wanted::of(options);
    if wanted.kind.is_empty() && !wanted.binds() {
        return bad("a volume with options needs a type: `type=tmpfs`, `type=nfs`, or `o=bind`".to_owned());
    }
    if wanted.kind == "none" && !wanted.binds() {
        return bad("a volume of `type=none` needs `o=bind`".to_owned());
    }
    if wanted.device.is_empty() && wanted.kind != "tmpfs" {
        return bad("a volume with options needs a device: `device=PATH`".to_owned());
    }
    if wanted.binds() && !wanted.device.starts_with('/') {
        return bad(format!("the device `{}` of a bind must be an absolute path", wanted.device));
    }
    Ok(())
}

/// What the options ask for.
struct Wanted<'a> {
    kind: &'a str,
    device: &'a str,
    words: Vec<&'a str>,
}

impl<'a> Wanted<'a> {
    fn of(options: &'a BTreeMap<String, String>) -> Self {
        let get = |name: &str| options.get(name).map_or("", String::as_str);
        let words = get("o").split(',').filter(|word| !word.is_empty()).collect();
        Self { kind: get("type"), device: get("device"), words }
    }

    fn binds(&self) -> bool {
        self.words.iter().any(|word| matches!(*word, "bind" | "rbind"))
    }

    /// The kernel's flags, and what is left for the filesystem to read.
    fn flags(&self) -> (MountFlags, String) {
        let (mut flags, mut data) = (MountFlags::empty(), Vec::new());
        for word in &self.words {
            match *word {
                "ro" => flags |= MountFlags::RDONLY,
                "nosuid" => flags |= MountFlags::NOSUID,
                "nodev" => flags |= MountFlags::NODEV,
                "noexec" => flags |= MountFlags::NOEXEC,
                "noatime" => flags |= MountFlags::NOATIME,
                "sync" => flags |= MountFlags::SYNCHRONOUS,
                "rw" | "bind" | "rbind" | "defaults" => {}
                other => data.push(with_address(other, self.kind)),
            }
        }
        (flags, data.join(","))
    }

    fn mount(&self, place: &Path) -> rustix::io::Result<()> {
        let (flags, data) = self.flags();
        if !self.binds() {
            let data = std::ffi::CString::new(data).map_err(|_| Errno::INVAL)?;
            let device = if self.device.is_empty() { self.kind } else { self.device };
            return rustix::mount::mount(device, place, self.kind, flags, Some(data.as_c_str()));
        }
        let deep = self.words.contains(&"rbind");
        let kind = if deep { rustix::mount::mount_bind_recursive } else { rustix::mount::mount_bind };
        kind(self.device, place)?;
        if flags.is_empty() {
            return Ok(());
        }
        let changed = rustix::mount::mount_remount(place, MountFlags::BIND | flags, "");
        changed.inspect_err(|_| {
            let _ = unmount(place, UnmountFlags::DETACH);
        })
    }

    fn reason(&self, error: Errno) -> String {
        match error {
            Errno::NODEV => format!("this kernel has no filesystem `{}`", self.kind),
            Errno::NOENT => "it does not exist".to_owned(),
            Errno::INVAL => format!("the kernel refuses the options `{}`", self.words.join(",")),
            other => std::io::Error::from(other).to_string(),
        }
    }
}

/// Network filesystems want the server's address, people write its name.
fn with_address(word: &str, kind: &str) -> String {
    let is_network = kind.starts_with("nfs") || kind == "cifs";
    let Some(host) = word.strip_prefix("addr=").filter(|_| is_network) else { return word.to_owned() };
    let found = (host, 0).to_socket_addrs().ok().and_then(|mut found| found.next());
    found.map_or_else(|| word.to_owned(), |found| format!("addr={}", found.ip()))
}

impl Volumes {
    /// Mounts what the options of volume `name` ask for, unless that is done already, until what is given is dropped;
    /// none for a volume without options.
    pub fn hold(&self, name: &str) -> Result<Option<Held>> {
        let record = self.find(name)?;
        if record.options.is_empty() {
            return Ok(None);
        }
        let (data, path) = (self.data(name), self.home(name).join("users"));
        loop {
            let users = locked(&path, FlockOperation::LockShared)?;
            if is_mount(&data) {
                return Ok(Some(Held { volumes: self.clone(), name: name.to_owned(), users: Some(users) }));
            }
            drop(users);
            let alone = locked_now(&path)?;
            if alone.is_none() {
                // Somebody mounts it, or takes it away.
                std::thread::sleep(PAUSE);
                continue;
            }
            if !is_mount(&data) {
                let wanted = Wanted::of(&record.options);
                wanted.mount(&data).map_err(|error| Error::Mount {
                    name: name.to_owned(),
                    what: format!(
                        "{} `{}`",
                        if wanted.binds() { "bind" } else { wanted.kind },
                        wanted.device
                    ),
                    reason: wanted.reason(error),
                })?;
            }
        }
    }

    fn unmount_if_unused(&self, name: &str) -> Result<bool> {
        let (data, path) = (self.data(name), self.home(name).join("users"));
        if !is_mount(&data) {
            return Ok(false);
        }
        let Some(_alone) = locked_now(&path)? else { return Ok(false) };
        take_away(&data)
    }

    /// Takes away what is mounted on a volume that is to go.
    pub(super) fn unmount(&self, name: &str) -> Result<()> {
        let data = self.data(name);
        while is_mount(&data) {
            if !self.unmount_if_unused(name)? {
                return Err(Errno::BUSY).at("unmount", &data);
            }
        }
        Ok(())
    }

    /// Lists what is mounted on volumes and used by nobody: killed processes have left it.
    pub fn unused_mounts(&self) -> Vec<PathBuf> {
        let is_unused = |name: &String| {
            is_mount(&self.data(name))
                && locked_now(&self.home(name).join("users")).is_ok_and(|lock| lock.is_some())
        };
        self.with_options().filter(is_unused).map(|name| self.data(&name)).collect()
    }

    /// Takes them away.
    pub fn unmount_unused(&self) {
        for name in self.with_options() {
            if let Err(error) = self.unmount_if_unused(&name) {
                tracing::debug!(%error, "a volume stays mounted");
            }
        }
    }

    fn with_options(&self) -> impl Iterator<Item = String> + use<> {
        let records = self.list().unwrap_or_default();
        records.into_iter().filter(|record| !record.options.is_empty()).map(|record| record.name)
    }
}

/// Takes a mount away, one of several that lie on each other.
fn take_away(place: &Path) -> Result<bool> {
    match unmount(place, UnmountFlags::NOFOLLOW) {
        Ok(()) => Ok(true),
        // Nobody who was told of it has it: a file that is still open goes with its owner.
        Err(Errno::BUSY) => {
            unmount(place, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH).map(|()| true).at("unmount", place)
        }
        Err(Errno::INVAL | Errno::NOENT) => Ok(false),
        Err(error) => Err(error).at("unmount", place),
    }
}

/// Takes a lock for itself, if nobody has it.
fn locked_now(path: &Path) -> Result<Option<File>> {
    let file = std::fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    let file = file.at("open", path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(None),
        Err(error) => Err(error).at("lock", path),
    }
}

fn is_mount(path: &Path) -> bool {
    let asked = statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::empty());
    asked.is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(words: &[&str]) -> BTreeMap<String, String> {
        let pair = |word: &&str| {
            let (key, value) = word.split_once('=').unwrap();
            (key.to_owned(), value.to_owned())
        };
        words.iter().map(pair).collect()
    }

    #[test]
    fn options_are_those_of_dockers_local_driver() {
        for good in [
            &[][..],
            &["type=tmpfs", "device=tmpfs", "o=size=100m,uid=1000"],
            &["type=tmpfs"],
            &["type=none", "o=bind", "device=/srv"],
            &["o=bind,ro", "device=/srv"],
            &["type=nfs", "o=addr=10.0.0.1,rw", "device=:/export"],
        ] {
            assert!(check(&options(good)).is_ok(), "{good:?}");
        }
        for bad in [
            &["colour=red"][..],
            &["device=/srv"],
            &["type=none", "device=/srv"],
            &["type=ext4"],
            &["o=bind", "device=srv"],
        ] {
            assert!(check(&options(bad)).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn words_are_the_kernels_flags_or_the_filesystems() {
        let options = options(&["type=tmpfs", "o=ro,size=1m,nosuid,mode=700"]);
        let (flags, data) = Wanted::of(&options).flags();
        assert_eq!(flags, MountFlags::RDONLY | MountFlags::NOSUID);
        assert_eq!(data, "size=1m,mode=700");
        assert_eq!(with_address("addr=127.0.0.1", "nfs4"), "addr=127.0.0.1");
        assert_eq!(with_address("addr=x", "tmpfs"), "addr=x");
    }
}
