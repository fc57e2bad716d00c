//! Options of a mount, as `mount(8)` and the runtime-spec name them.

use std::io;
use std::os::fd::BorrowedFd;

use super::config::Mount;
use crate::runtime::StartError;
use crate::sys::mount::{NODEV, NOEXEC, NOSUID, RDONLY, alter};

/// Filesystems without a source.
pub(super) const IN_MEMORY: [&str; 5] = ["proc", "sysfs", "tmpfs", "devpts", "mqueue"];

/// Words that set (true) or clear attributes of a mount.
const ATTRIBUTES: [(&str, bool, u64); 11] = [
    ("ro", true, RDONLY),
    ("rw", false, RDONLY),
    ("nosuid", true, NOSUID),
    ("suid", false, NOSUID),
    ("nodev", true, NODEV),
    ("dev", false, NODEV),
    ("noexec", true, NOEXEC),
    ("exec", false, NOEXEC),
    ("nodiratime", true, libc::MOUNT_ATTR_NODIRATIME),
    ("diratime", false, libc::MOUNT_ATTR_NODIRATIME),
    ("nosymfollow", true, libc::MOUNT_ATTR_NOSYMFOLLOW),
];

/// Words for when the time of access is written.
const ACCESS_TIMES: [(&str, u64); 6] = [
    ("relatime", libc::MOUNT_ATTR_RELATIME),
    ("norelatime", libc::MOUNT_ATTR_STRICTATIME),
    ("noatime", libc::MOUNT_ATTR_NOATIME),
    ("atime", libc::MOUNT_ATTR_RELATIME),
    ("strictatime", libc::MOUNT_ATTR_STRICTATIME),
    ("nostrictatime", libc::MOUNT_ATTR_RELATIME),
];

/// Words for how mounts come and go; with an `r` before them for those below too.
const PROPAGATION: [(&str, u64); 4] = [
    ("private", libc::MS_PRIVATE),
    ("slave", libc::MS_SLAVE),
    ("shared", libc::MS_SHARED),
    ("unbindable", libc::MS_UNBINDABLE),
];

/// Words that say what holds anyway.
const EMPTY: [&str; 8] =
    ["defaults", "async", "loud", "silent", "nomand", "nolazytime", "symfollow", "noiversion"];

/// What the options of one mount say.
#[derive(Debug, Default)]
pub(super) struct Options {
    /// Another place, with what is mounted below it or without.
    pub(super) bind: Option<bool>,
    /// With ids mapped, those of what is mounted below it too or not.
    pub(super) idmap: Option<bool>,
    pub(super) set: u64,
    pub(super) clear: u64,
    /// The same for what is mounted below.
    below_set: u64,
    below_clear: u64,
    pub(super) propagation: Option<(u64, bool)>,
    /// For the filesystem itself.
    pub(super) data: Vec<(String, Option<String>)>,
}

impl Options {
    /// Reads those of a mount.
    pub(super) fn read(mount: &Mount) -> Result<Options, StartError> {
        let mut options = Options::default();
        if mount.kind == "bind" {
            options.bind = Some(false);
        }
        for word in &mount.options {
            if !options.take(word) && !EMPTY.contains(&word.as_str()) {
                options.take_data(mount, word)?;
            }
        }
        if let (Some(_), Some((word, _))) = (options.bind, options.data.first()) {
            let text = format!("the mount option `{word}` of `{}` is not supported", mount.destination);
            return Err(StartError::new("mount", text));
        }
        Ok(options)
    }

    /// Takes a word that every mount understands.
    fn take(&mut self, word: &str) -> bool {
        match word {
            "bind" => self.bind = Some(self.bind.unwrap_or(false)),
            "rbind" => self.bind = Some(true),
            "idmap" => self.idmap = Some(self.idmap.unwrap_or(false)),
            "ridmap" => self.idmap = Some(true),
            _ => return self.take_attribute(word) || self.take_propagation(word),
        }
        true
    }

    fn take_attribute(&mut self, word: &str) -> bool {
        if let Some((_, set, bit)) = ATTRIBUTES.iter().find(|(known, ..)| *known == word) {
            put(&mut self.set, &mut self.clear, *set, *bit);
            return true;
        }
        if let Some((_, value)) = ACCESS_TIMES.iter().find(|(known, _)| *known == word) {
            self.set = self.set & !libc::MOUNT_ATTR__ATIME | value;
            self.clear |= libc::MOUNT_ATTR__ATIME;
            return true;
        }
        // `rro` is `ro` for all that is mounted below too.
        let below =
            word.strip_prefix('r').and_then(|word| ATTRIBUTES.iter().find(|(known, ..)| *known == word));
        if let Some((_, set, bit)) = below {
            put(&mut self.below_set, &mut self.below_clear, *set, *bit);
        }
        below.is_some()
    }

    fn take_propagation(&mut self, word: &str) -> bool {
        let found = |word: &str| PROPAGATION.iter().find(|(known, _)| *known == word).map(|(_, flag)| *flag);
        let plain = found(word).map(|flag| (flag, false));
        let with_below = word.strip_prefix('r').and_then(found).map(|flag| (flag, true));
        let taken = plain.or(with_below);
        self.propagation = taken.or(self.propagation);
        taken.is_some()
    }

    fn take_data(&mut self, mount: &Mount, word: &str) -> Result<(), StartError> {
        if word == "remount" {
            let text = format!("the mount option `remount` of `{}` is not supported", mount.destination);
            return Err(StartError::new("mount", text));
        }
        let (key, value) = match word.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (word, None),
        };
        self.data.push((key.to_owned(), value));
        Ok(())
    }

    /// Changes a mount to what they say.
    pub(super) fn apply(&self, tree: BorrowedFd<'_>) -> io::Result<()> {
        if self.below_set | self.below_clear != 0 {
            alter(tree, self.below_set, self.below_clear, 0, true)?;
        }
        if self.set | self.clear != 0 {
            alter(tree, self.set, self.clear, 0, false)?;
        }
        self.propagate(tree)
    }

    /// Changes how mounts come and go there.
    pub(super) fn propagate(&self, tree: BorrowedFd<'_>) -> io::Result<()> {
        match self.propagation {
            Some((flag, below)) => alter(tree, 0, 0, flag, below),
            None => Ok(()),
        }
    }
}

/// The last word wins.
fn put(set: &mut u64, clear: &mut u64, wanted: bool, bit: u64) {
    let (to, from) = if wanted { (set, clear) } else { (clear, set) };
    *to |= bit;
    *from &= !bit;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: &str, words: &[&str]) -> Result<Options, StartError> {
        let options = words.iter().map(|word| (*word).to_owned()).collect();
        Options::read(&Mount { kind: kind.into(), options, ..Mount::default() })
    }

    #[test]
    fn words_become_attributes_and_the_last_wins() {
        let options = read("none", &["rbind", "ro", "nosuid", "suid", "rro", "rslave", "noatime"]).unwrap();
        assert_eq!(options.bind, Some(true));
        assert_eq!(options.set, RDONLY | libc::MOUNT_ATTR_NOATIME);
        assert_eq!(options.clear, NOSUID | libc::MOUNT_ATTR__ATIME);
        assert_eq!(options.below_set, RDONLY);
        assert_eq!(options.propagation, Some((libc::MS_SLAVE, true)));
    }

    #[test]
    fn the_rest_is_for_the_filesystem_or_refused() {
        let options = read("tmpfs", &["size=1m", "mode=755", "rw", "defaults"]).unwrap();
        assert_eq!(options.data[0], ("size".to_owned(), Some("1m".to_owned())));
        assert_eq!(options.data.len(), 2);
        assert!(read("bind", &["size=1m"]).unwrap_err().message.contains("`size`"));
        assert!(read("tmpfs", &["remount"]).is_err());
    }
}
