//! What is kept of a container, `<root>/<id>/`, and what it says.
//!
//! ```text
//! state.json   what doesn't change after the creation, and the first process
//! config.json  the bundle's, as it was at the creation
//! lock         held by whoever creates, starts or deletes it
//! start        a socket: its being there means that the program hasn't been started
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use serde::{Deserialize, Serialize};

use super::config::{self, Config, OCI_VERSION};
use super::error::{Doing, Error, Result};
use crate::runtime::{Cgroup, Target};

/// Bytes of the longest id; runc's.
const MOST_ID_BYTES: usize = 1024;

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is being made.
    Creating,
    /// It waits for its start.
    Created,
    /// Its program runs.
    Running,
    /// It is frozen.
    Paused,
    /// Its first process has ended.
    Stopped,
}

impl Status {
    /// Returns the spec's word.
    pub fn word(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

/// What `runtime state` shows.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// Of the spec that is followed.
    pub oci_version: String,
    /// Its id.
    pub id: String,
    /// Where it is in its life.
    pub status: Status,
    /// Its first process; 0 when it has ended.
    pub pid: i32,
    /// The bundle's folder.
    pub bundle: PathBuf,
    /// Its root filesystem.
    pub rootfs: PathBuf,
    /// When it was created, in the form of RFC 3339.
    pub created: String,
    /// Those of `config.json`.
    pub annotations: BTreeMap<String, String>,
}

/// `state.json`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) id: String,
    pub(super) bundle: PathBuf,
    pub(super) rootfs: PathBuf,
    pub(super) created: String,
    pub(super) annotations: BTreeMap<String, String>,
    /// `None` until the first process is ready.
    pub(super) process: Option<Target>,
    /// The folders of its cgroup.
    pub(super) cgroup: Vec<PathBuf>,
}

/// A container's folder.
#[derive(Debug)]
pub(super) struct Folder(pub(super) PathBuf);

/// Tells whether `id` can be one.
pub(super) fn check_id(id: &str) -> Result<()> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_+-.".contains(&byte);
    let is_id =
        !id.is_empty() && id.len() <= MOST_ID_BYTES && id.bytes().all(allowed) && id != "." && id != "..";
    if is_id { Ok(()) } else { Err(Error::BadId) }
}

impl Folder {
    /// The folder of an id, which exists.
    pub(super) fn find(root: &Path, id: &str) -> Result<Folder> {
        check_id(id)?;
        let folder = root.join(id);
        if folder.is_dir() { Ok(Folder(folder)) } else { Err(Error::Unknown) }
    }

    /// Makes the folder of a new container.
    pub(super) fn make(root: &Path, id: &str) -> Result<Folder> {
        check_id(id)?;
        fs::create_dir_all(root).doing(|| format!("cannot make `{}`", root.display()))?;
        let folder = root.join(id);
        match fs::create_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(Error::Exists),
            made => made.doing(|| format!("cannot make `{}`", folder.display()))?,
        }
        let folder = Folder(folder);
        let only_ours = fs::Permissions::from_mode(0o700);
        fs::set_permissions(&folder.0, only_ours)
            .doing(|| "cannot close the container's folder to others")?;
        Ok(folder)
    }

    /// Takes the container for oneself; waits for others.
    pub(super) fn lock(&self) -> Result<File> {
        let file = self.open_lock()?;
        flock(&file, FlockOperation::LockExclusive).doing(|| "cannot lock the container")?;
        if self.0.is_dir() { Ok(file) } else { Err(Error::Unknown) }
    }

    fn open_lock(&self) -> Result<File> {
        match File::options().create(true).truncate(false).write(true).open(self.0.join("lock")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::Unknown),
            file => file.doing(|| "cannot open the container's lock"),
        }
    }

    fn is_locked(&self) -> bool {
        let lock = self.open_lock();
        lock.is_ok_and(|lock| flock(&lock, FlockOperation::NonBlockingLockShared).is_err())
    }

    /// The socket of the start, by a path that is short enough for one whatever the folder's is.
    pub(super) fn start_socket(&self) -> Result<(OwnedFd, String)> {
        let fail = || format!("cannot open `{}`", self.0.display());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(&self.0, flags, Mode::empty()).doing(fail)?;
        let path = format!("/proc/self/fd/{}/start", folder.as_raw_fd());
        Ok((folder, path))
    }

    /// Says that the program was started.
    pub(super) fn started(&self) {
        // Gone already when two start it at once.
        let _ = fs::remove_file(self.0.join("start"));
    }

    /// Writes a file whole or not at all.
    pub(super) fn write(&self, name: &str, value: &impl Serialize) -> Result<()> {
        let (new, file) = (self.0.join(format!("{name}.new")), self.0.join(name));
        write_json(&new, value)
            .and_then(|()| fs::rename(&new, &file))
            .doing(|| format!("cannot write `{}`", file.display()))
    }

    /// What is kept; `None` of one whose creation was cut off early.
    pub(super) fn kept(&self) -> Result<Option<Kept>> {
        let file = self.0.join("state.json");
        if file.exists() { config::read(&file).map(Some) } else { Ok(None) }
    }

    /// The config of the creation.
    pub(super) fn config(&self) -> Result<Config> {
        config::read(&self.0.join("config.json"))
    }

    /// Where the container is in its life.
    pub(super) fn status(&self, kept: Option<&Kept>) -> Status {
        let Some(process) = kept.and_then(|kept| kept.process.as_ref()) else {
            return if self.is_locked() { Status::Creating } else { Status::Stopped };
        };
        match process.open() {
            Ok(pidfd) if !has_ended(&pidfd) => {}
            _ => return Status::Stopped,
        }
        match self.0.join("start").exists() {
            true => Status::Created,
            false if is_frozen(&process.cgroup) => Status::Paused,
            false => Status::Running,
        }
    }

    /// What `runtime state` shows.
    pub(super) fn state(&self) -> Result<State> {
        let kept = self.kept()?;
        let status = self.status(kept.as_ref());
        let id = self.0.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let kept = kept.unwrap_or_else(|| Kept {
            id,
            bundle: PathBuf::new(),
            rootfs: PathBuf::new(),
            created: String::new(),
            annotations: BTreeMap::new(),
            process: None,
            cgroup: Vec::new(),
        });
        Ok(kept.state(status))
    }
}

impl Kept {
    /// What is shown of it.
    pub(super) fn state(&self, status: Status) -> State {
        let pid = self.process.as_ref().map_or(0, |process| process.pid);
        State {
            oci_version: OCI_VERSION.to_owned(),
            id: self.id.clone(),
            status,
            pid: if status == Status::Stopped { 0 } else { pid },
            bundle: self.bundle.clone(),
            rootfs: self.rootfs.clone(),
            created: self.created.clone(),
            annotations: self.annotations.clone(),
        }
    }

    /// Notes the folders of its cgroup.
    pub(super) fn has_cgroup(&mut self, folders: &[PathBuf]) {
        self.cgroup = folders.to_vec();
        if let Some(process) = &mut self.process {
            process.cgroup = folders.to_vec();
        }
    }

    /// Its cgroup.
    pub(super) fn cgroup(&self) -> Cgroup {
        Cgroup::open(&self.cgroup)
    }
}

/// Tells whether a process has ended, reaped or not.
pub(super) fn has_ended(pidfd: &OwnedFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)], Some(&now))
        .is_ok_and(|ready| ready > 0)
}

/// Tells whether a cgroup is frozen.
fn is_frozen(folders: &[PathBuf]) -> bool {
    let read = |folder: &PathBuf, name| fs::read_to_string(folder.join(name)).unwrap_or_default();
    folders.iter().any(|folder| {
        read(folder, "cgroup.events").lines().any(|line| line == "frozen 1")
            || ["FROZEN", "FREEZING"].contains(&read(folder, "freezer.state").trim())
    })
}

fn write_json(file: &Path, value: &impl Serialize) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(value)?;
    bytes.push(b'\n');
    File::create(file)?.write_all(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_lead_elsewhere_are_refused() {
        for id in ["", ".", "..", "a/b", "a b", "ä"] {
            assert!(matches!(check_id(id), Err(Error::BadId)), "{id}");
        }
        check_id("a+b_c-1.2").unwrap();
    }

    #[test]
    fn a_folder_is_made_once() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::make(root.path(), "c").unwrap();
        assert!(matches!(Folder::make(root.path(), "c"), Err(Error::Exists)));
        assert!(matches!(Folder::find(root.path(), "d"), Err(Error::Unknown)));
        // Nobody makes it any more.
        assert_eq!(folder.state().unwrap().status, Status::Stopped);
        let _lock = folder.lock().unwrap();
        assert_eq!(folder.state().unwrap().status, Status::Creating);
    }
}
