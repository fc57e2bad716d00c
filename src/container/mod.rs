//! Containers at rest and in life.
//!
//! ```text
//! <store>/containers/
//!     lock                 flock while a name is taken or given back
//!     names/<name>         a link whose text is the id
//!     <64 hex>/
//!         config.json      what it was made from; changed under the lock above, by rename
//!         state.json       how it is; missing until the first start
//!         lock             flock of its monitor, or of who makes it: whoever holds it may change the state
//!         socket           where the monitor listens (SEQPACKET)
//!         upper/ work/     the writable layer
//!         <id>-json.log    its output
//!     removed/<64 hex>     folders being deleted
//! ```
//!
//! 1. `create` writes the record, takes the name and pins the image's snapshots in the store.
//! 2. `start` takes the container's lock, connects its network, and spawns a monitor: a process of its own,
//!    run from a read-only clone of this program, that inherits the lock and lives as long as the container.
//! 3. The monitor starts the program as its child, keeps its pipes or terminal, writes the log, serves those who
//!    attach or wait, and records the end. It opens no store before that.
//! 4. Whoever started it in the foreground is the monitor's first client and may die at any time.
//!
//! Who reads `running` in a record asks the lock: when it is free, the monitor was killed, and with it (by its
//! parent-death signal) the program. `settle` then puts right whatever that left behind.
//!
//! Not known here: how images come to the store, terminals' raw mode, what is printed.

mod ahead;
mod attach;
mod commit;
mod create;
mod diff;
mod error;
mod events;
mod exec;
mod files;
mod foreign;
mod health;
mod helper;
mod holding;
mod identity;
mod launch;
mod life;
mod links;
mod log;
mod monitor;
mod mount;
mod mounting;
mod names;
mod networking;
mod pause;
mod ports;
mod record;
mod settle;
mod sharing;
mod spec;
mod stats;
mod sweep;
mod top;
mod update;
mod wire;

pub use ahead::{Ahead, Slot};
pub use attach::{Attachment, Ended};
pub use commit::{NewImage, run_config};
pub use create::{Image, Purpose};
pub use error::{Error, Result};
pub use exec::exec_main;
pub use files::{pack_folder, unpack_folder};
pub use launch::Streams;
pub use log::{COMPRESS_DOOR, PUMP_DOOR, compress_main, path as log_path, pump_main};
pub use monitor::{monitor_main, proxy_main, resolver_main};
pub use mounting::MountedImage;
pub use record::{Config, Endpoint, MountPoint, Record, State, Wanted};

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use self::error::At;
use crate::api::PublishPolicy;
use crate::events::Log;
use crate::network::Networks;
use crate::volume::Volumes;

/// How long a verb waits for the monitor of a container that has ended to clean up behind it.
const CLEANUP_WAIT: Duration = Duration::from_secs(20);
const CLEANUP_PAUSE: Duration = Duration::from_millis(2);
/// The exit code of a container whose own one is unknown.
const UNKNOWN_CODE: i32 = 255;

/// The containers of one store.
#[derive(Debug, Clone)]
pub struct Containers {
    root: PathBuf,
    folder: PathBuf,
    networks: Networks,
    volumes: Volumes,
    events: Log,
    ahead: Slot,
}

impl Containers {
    /// Returns the containers of the store at `root`; nothing is made before the first one.
    pub fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            folder: root.join("containers"),
            networks: Networks::new(&root.join("networks")),
            volumes: Volumes::new(&root.join("volumes")),
            events: Log::new(root),
            ahead: Slot::default(),
        }
    }

    /// Publishes ports as the machine's configuration says.
    #[must_use]
    pub fn publishing(self, policy: PublishPolicy) -> Self {
        Self { networks: self.networks.opening_firewalls(policy.opens_firewall), ..self }
    }

    /// Names the chains of other programs that drop what other machines send to published ports.
    pub fn closed_chains(&self) -> Vec<String> {
        self.networks.foreign_drops()
    }

    /// Returns the folder of container `id`.
    pub fn folder(&self, id: &str) -> PathBuf {
        self.folder.join(id)
    }

    /// Lists all containers, the newest first. One that disappears meanwhile is left out.
    pub fn list(&self) -> Result<Vec<Record>> {
        let (records, mut damaged) = self.survey()?;
        damaged.pop().map_or(Ok(records), Err)
    }

    /// The same, with what is wrong with those that can't be read.
    pub fn survey(&self) -> Result<(Vec<Record>, Vec<Error>)> {
        let (mut records, mut damaged) = (Vec::new(), Vec::new());
        for id in self.ids()? {
            match self.load(&id) {
                Ok(record) => records.push(record),
                Err(error) if error.is_absence() => {}
                Err(error) => damaged.push(error),
            }
        }
        records.sort_by_key(|record| std::cmp::Reverse(record.created));
        Ok((records, damaged))
    }

    /// Finds a container by name, id or unique beginning of its id, in this order.
    pub fn find(&self, text: &str) -> Result<Record> {
        let not_found = || Error::NotFound { text: text.to_owned() };
        let text = names::bare(text);
        if let Some(id) = self.id_of_name(text) {
            return self.load(&id).map_err(|error| missing(error, not_found()));
        }
        let is_hex =
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if !is_hex {
            return Err(not_found());
        }
        let mut ids = self.ids()?;
        ids.retain(|id| id.starts_with(text));
        match ids.as_slice() {
            [] => Err(not_found()),
            [id] => self.load(id).map_err(|error| missing(error, not_found())),
            _ => Err(Error::Ambiguous { text: text.to_owned() }),
        }
    }

    fn ids(&self) -> Result<Vec<String>> {
        let entries = match std::fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).at("read", &self.folder),
        };
        let mut ids = Vec::new();
        for entry in entries {
            let name = entry.at("read", &self.folder)?.file_name();
            let is_id = |name: &str| name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
            ids.extend(name.into_string().ok().filter(|name| is_id(name)));
        }
        Ok(ids)
    }

    fn id_of_name(&self, name: &str) -> Option<String> {
        if !names::is_name(name) {
            return None;
        }
        std::fs::read_link(self.name_path(name)).ok()?.into_os_string().into_string().ok()
    }

    fn name_path(&self, name: &str) -> PathBuf {
        self.folder.join("names").join(name)
    }

    /// Takes the container's record for changes; waits while a monitor cleans up behind an ended program.
    ///
    /// `None` while its program runs.
    fn take(&self, record: &Record) -> Result<Option<OwnedFd>> {
        let folder = self.folder(&record.id);
        let gone = |error| missing(error, Error::NotFound { text: record.name.clone() });
        let end = Instant::now() + CLEANUP_WAIT;
        loop {
            if let Some(lock) = try_lock(&folder).map_err(gone)? {
                return Ok(Some(lock));
            }
            let now = Record::read(&folder).map_err(gone)?;
            if now.state.status.is_alive() || Instant::now() > end {
                return Ok(None);
            }
            std::thread::sleep(CLEANUP_PAUSE);
        }
    }

    /// Locks the names.
    fn lock_names(&self) -> Result<File> {
        let path = self.folder.join("lock");
        let file = open_lock(&path).at("open", &path)?;
        rustix::io::retry_on_intr(|| flock(&file, FlockOperation::LockExclusive)).at("lock", &path)?;
        Ok(file)
    }
}

fn missing(error: Error, not_found: Error) -> Error {
    if error.is_absence() { not_found } else { error }
}

fn open_lock(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

/// Removes what is left of a container. Two processes may be at it: then one finds the other's work done.
fn remove_folder(folder: &Path) -> std::io::Result<()> {
    const TRIES: usize = 10;
    let mut removed = Ok(());
    for _ in 0..TRIES {
        removed = std::fs::remove_dir_all(folder);
        match &removed {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            // Something came or went while it was listed.
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {}
            _ => break,
        }
    }
    removed
}

/// Takes the lock of the container in `folder`, if it is free.
fn try_lock(folder: &Path) -> Result<Option<OwnedFd>> {
    let path = folder.join("lock");
    take_lock(open_lock(&path).at("open", &path)?, &path)
}

/// Takes a container's lock, if it is free.
fn take_lock(file: File, path: &Path) -> Result<Option<OwnedFd>> {
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file.into())),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error).at("lock", path),
    }
}

/// The time, in unix nanoseconds.
fn now() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}
