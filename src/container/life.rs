//! The end of containers: stop, kill, remove; and their logs.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use kiln_cache::Store;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::RecvFlags;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::error::{At, Error, Result};
use super::record::Record;
use super::wire::{self, Packet, Wants};
use super::{Containers, Streams, log, names, remove_folder};
use crate::api::{ContainerState, LogsRequest};
use crate::runtime::{Cgroup, Target};
use crate::volume::Volumes;

/// How long a killed program may take to be gone.
pub(super) const KILL_WAIT: Duration = Duration::from_secs(10);
/// How often a container is ended that others start again while it is being removed.
const TAKE_ATTEMPTS: usize = 8;
/// How long volumes may be kept by who makes a container; what stays is found by a prune.
const VOLUMES_WAIT: Duration = Duration::from_secs(20);

/// How a monitor took a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Done,
    /// It left without a word: the container has ended.
    Gone,
    /// It didn't answer in time.
    Silent,
}

impl Containers {
    /// Sends `signal` to the first process of a running container; after SIGKILL the container is stopped.
    pub fn kill(&self, record: &Record, signal: i32) -> Result<()> {
        match self.ask(record, "kill", &Packet::Kill(signal), Some(KILL_WAIT))? {
            Answer::Done if signal != libc::SIGKILL => Ok(()),
            Answer::Silent => self.kill_without_monitor(record, signal),
            _ => self.recorded(record),
        }
    }

    /// Stops a container: `signal`, or its own stop signal, and after `patience` seconds SIGKILL; without
    /// `patience` it waits as long as it takes. One that doesn't run stays as it is.
    pub fn stop(&self, record: &Record, signal: Option<i32>, patience: Option<u64>) -> Result<()> {
        let request = Packet::Stop(signal.unwrap_or(record.config.stop_signal), seconds(patience));
        match self.ask(record, "stop", &request, patience.map(answer_time)) {
            Err(Error::NotRunning { .. }) => self.recorded(record),
            Ok(Answer::Done | Answer::Gone) => {
                self.recorded(record)?;
                self.tell(record, "stop", &[]);
                Ok(())
            }
            Ok(Answer::Silent) => self.kill_without_monitor(record, libc::SIGKILL),
            Err(error) => Err(error),
        }
    }

    /// Stops a container as [`Self::stop`] does, and starts it again; one that doesn't run is only started.
    pub fn restart(
        &self,
        store: &Store,
        record: &Record,
        signal: Option<i32>,
        patience: Option<u64>,
    ) -> Result<()> {
        // A container whose network it shares is missed before anything is stopped.
        self.shared_network(&record.config)?;
        let request = Packet::Restart(signal.unwrap_or(record.config.stop_signal), seconds(patience));
        if record.state.status.is_alive() {
            match self.ask(record, "restart", &request, patience.map(answer_time)) {
                Ok(Answer::Done) => {
                    self.tell(record, "restart", &[]);
                    return Ok(());
                }
                Ok(Answer::Silent) => self.kill_without_monitor(record, libc::SIGKILL)?,
                // It was just ending.
                Ok(Answer::Gone) | Err(Error::NotRunning { .. }) => self.recorded(record)?,
                Err(error) => return Err(error),
            }
        }
        self.start(store, record, None, &Streams::default())?;
        self.tell(record, "restart", &[]);
        Ok(())
    }

    /// Gives a container another name.
    pub fn rename(&self, record: &Record, name: &str) -> Result<()> {
        let name = names::bare(name);
        if !names::is_name(name) {
            return Err(Error::Name { name: name.to_owned() });
        }
        let renamed = {
            let _names = self.lock_names()?;
            let folder = self.folder(&record.id);
            let mut record = Record::read(&folder)?;
            if record.name == name {
                let message = format!("container {name} has this name already");
                return Err(Error::Invalid { message });
            }
            self.free_name(name)?;
            let (old, new) = (self.name_path(&record.name), self.name_path(name));
            // A name that is no record's own is free: whatever a kill here leaves can be taken by the next one.
            std::os::unix::fs::symlink(&record.id, &new).at("create", &new)?;
            name.clone_into(&mut record.name);
            record.write_config(&folder)?;
            std::fs::remove_file(&old).at("remove", &old)?;
            record
        };
        for endpoint in renamed.state.endpoints.iter().filter(|endpoint| endpoint.has_names()) {
            // One that has just ended is known there no more.
            if let Ok(network) = self.networks.find(&endpoint.network) {
                let _ = network.rename(&renamed.id, name);
            }
        }
        self.tell(&renamed, "rename", &[("oldName", format!("/{}", record.name))]);
        self.tell_update(&renamed)
    }

    /// Tells the monitor of a container, if there is one, that its `config.json` has changed.
    pub(super) fn tell_update(&self, record: &Record) -> Result<()> {
        match self.ask(record, "update", &Packet::Update, Some(KILL_WAIT)) {
            Ok(_) | Err(Error::NotRunning { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Asks the monitor of a container for something; `Gone` may have done it or not.
    pub(super) fn ask(
        &self,
        record: &Record,
        verb: &'static str,
        request: &Packet,
        patience: Option<Duration>,
    ) -> Result<Answer> {
        let socket = self.reach(record, Wants::default(), (0, 0))?;
        if request.send(&socket).is_err() {
            return Ok(Answer::Gone);
        }
        let name = || record.name.clone();
        let end = patience.and_then(|patience| Instant::now().checked_add(patience));
        while wait_until(&socket, end) {
            match wire::receive(&socket, RecvFlags::DONTWAIT) {
                Ok(Some(Packet::Done)) => return Ok(Answer::Done),
                Ok(Some(Packet::Refused(why))) => return Err(Error::Refused { verb, name: name(), why }),
                Ok(Some(Packet::Failed(source))) => return Err(Error::Start { name: name(), source }),
                Ok(Some(_)) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Ok(None) | Err(_) => return Ok(Answer::Gone),
            }
        }
        Ok(Answer::Silent)
    }

    /// Signals the first process of a container whose monitor doesn't answer. After SIGKILL nothing is left for
    /// such a monitor to do: it goes too, and with it its hold on the record.
    fn kill_without_monitor(&self, record: &Record, signal: i32) -> Result<()> {
        let process = running(record)?;
        let monitor = record.state.process.as_ref().and_then(monitor_of);
        crate::sys::process::pidfd_signal(process.as_fd(), signal).at("signal", self.folder(&record.id))?;
        match signal {
            libc::SIGKILL if wait_for(&process, KILL_WAIT) => {
                if let Some(monitor) = monitor {
                    let _ = crate::sys::process::pidfd_signal(monitor.as_fd(), libc::SIGKILL);
                }
                self.recorded(record)
            }
            libc::SIGKILL => Err(Error::Stuck { name: record.name.clone() }),
            _ => Ok(()),
        }
    }

    /// Waits until the monitor has recorded the end; a later run of the program has nothing to do with it.
    pub(super) fn recorded(&self, record: &Record) -> Result<()> {
        let end = Instant::now() + KILL_WAIT;
        while Instant::now() < end {
            match self.load(&record.id) {
                Ok(now) if now.state.status.is_alive() && now.state.started == record.state.started => {
                    std::thread::sleep(super::CLEANUP_PAUSE);
                }
                // Ended, or already removed.
                _ => return Ok(()),
            }
        }
        Err(Error::Stuck { name: record.name.clone() })
    }

    /// Removes a container; `force` kills it first, `volumes` takes its anonymous volumes along.
    pub fn remove(&self, store: &Store, record: &Record, force: bool, volumes: bool) -> Result<()> {
        let Some(_lock) = self.take_ended(record, force)? else { return Ok(()) };
        let folder = self.folder(&record.id);
        if !folder.exists() {
            return Ok(());
        }
        // A monitor that was killed on its way out has left it.
        Cgroup::of(&record.id).remove();
        let removed = self.take_away(record)?;
        store.unpin(&record.owner())?;
        self.remove_volumes(record, volumes || record.config.remove);
        remove_folder(&removed).at("remove", &removed)
    }

    /// Takes a container that is to be removed, with `force` after its end; `None` for one that is gone.
    fn take_ended(&self, record: &Record, force: bool) -> Result<Option<OwnedFd>> {
        let mut record = record.clone();
        for _ in 0..TAKE_ATTEMPTS {
            if record.state.status.is_alive() {
                if !force && record.state.status == ContainerState::Paused {
                    return Err(Error::Paused { name: record.name });
                }
                if !force {
                    return Err(Error::Running { verb: "remove", name: record.name });
                }
                self.stop(&record, Some(libc::SIGKILL), Some(0))?;
            }
            let taken = self.take(&record).and_then(|lock| match lock {
                Some(lock) => Ok(Some(lock)),
                // Somebody has started it meanwhile.
                None => self.load(&record.id).map(|now| {
                    record = now;
                    None
                }),
            });
            match taken {
                // A container with --rm is gone once it was stopped.
                Err(error) if error.is_absence() => return Ok(None),
                Ok(None) => {}
                taken => return taken,
            }
        }
        Err(Error::Busy { verb: "remove", name: record.name })
    }

    /// Makes a container disappear by renaming its folder, and gives the folder's new place. The caller has its
    /// lock.
    pub(super) fn take_away(&self, record: &Record) -> Result<PathBuf> {
        let trash = self.folder.join("removed");
        std::fs::create_dir_all(&trash).at("create", &trash)?;
        let _names = self.lock_names()?;
        // It may have been renamed since `record` was read.
        let name =
            Record::read(&self.folder(&record.id)).map_or_else(|_| record.name.clone(), |now| now.name);
        // What somebody still has open there goes with its last user.
        let _ = self.unmount(&record.id, true);
        let removed = trash.join(&record.id);
        std::fs::rename(self.folder(&record.id), &removed).at("remove", self.folder(&record.id))?;
        if self.id_of_name(&name).as_deref() == Some(&record.id) {
            let name = self.name_path(&name);
            std::fs::remove_file(&name).at("remove", &name)?;
        }
        self.tell(record, "destroy", &[]);
        Ok(removed)
    }

    /// Removes the anonymous volumes of a container that is gone, unless another one has them too.
    pub(super) fn remove_volumes(&self, record: &Record, wanted: bool) {
        if wanted {
            Volumes::delete(&self.set_volumes_aside(record));
        }
    }

    /// Makes them disappear, and gives what has to be deleted.
    pub(super) fn set_volumes_aside(&self, record: &Record) -> Vec<PathBuf> {
        let own = record.config.mounts.iter().filter(|mount| mount.anonymous);
        let own: Vec<&String> = own.filter_map(|mount| mount.volume.as_ref()).collect();
        if own.is_empty() {
            return Vec::new();
        }
        // Who can't be asked may have one.
        let (Ok(Some(_lock)), Ok(users)) =
            (self.volumes.lock_exclusive_within(VOLUMES_WAIT), self.volume_users())
        else {
            tracing::debug!(?own, "volumes stay");
            return Vec::new();
        };
        let mut aside = Vec::new();
        for name in own.into_iter().filter(|name| !users.contains_key(*name)) {
            match self.volumes.set_aside(name) {
                Ok(path) => {
                    aside.extend(path);
                    self.tell_volume(name, "destroy", &[("driver", "local".to_owned())]);
                }
                Err(error) => tracing::debug!(%error, "a volume stays"),
            }
        }
        aside
    }

    /// Returns the names of the containers that have each volume.
    pub fn volume_users(&self) -> Result<BTreeMap<String, Vec<String>>> {
        let mut users: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for id in self.ids()? {
            let record = match Record::read(&self.folder(&id)) {
                // It is being made, or is gone by now.
                Err(error) if error.is_absence() => continue,
                record => record?,
            };
            let volumes: BTreeSet<_> =
                record.config.mounts.into_iter().filter_map(|mount| mount.volume).collect();
            for volume in volumes {
                users.entry(volume).or_default().push(record.name.clone());
            }
        }
        Ok(users)
    }

    /// Writes a container's log.
    pub fn logs(
        &self,
        record: &Record,
        request: &LogsRequest,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> Result<()> {
        let folder = self.folder(&record.id);
        let wanted = log::Wanted {
            tail: request.tail,
            since: request.since,
            until: request.until,
            timestamps: request.timestamps,
            details: request.details,
            follow: request.follow,
        };
        let mut is_running = || self.load(&record.id).is_ok_and(|now| now.state.status.is_alive());
        match log::read(&folder, record, &wanted, &mut is_running, out, err) {
            // Nobody reads any further: `kiln logs x | head -1`.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            Ok(false) => Err(Error::Invalid {
                message: format!("the log driver `{}` keeps nothing to read", record.config.log.driver),
            }),
            result => result.map(drop).at("read the log in", &folder),
        }
    }
}

/// Opens the first process of a running container, sure that it is still the one of the record.
fn running(record: &Record) -> Result<OwnedFd> {
    let not_running = || Error::NotRunning { name: record.name.clone() };
    let target = record.state.process.as_ref().ok_or_else(not_running)?;
    target.open().map_err(|_| not_running())
}

/// Opens the monitor behind a program, which is its parent.
fn monitor_of(process: &Target) -> Option<OwnedFd> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.pid)).ok()?;
    let parent: i32 = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?;
    let monitor = pidfd_open(Pid::from_raw(parent)?, PidfdFlags::empty()).ok()?;
    // Whoever adopts a program whose monitor is dead is none.
    let line = std::fs::read(format!("/proc/{parent}/cmdline")).ok()?;
    line.starts_with(b"kiln\0_monitor\0").then_some(monitor)
}

/// Waits until `fd` is readable: a process that has ended, a socket with something in it.
pub(super) fn wait_for(fd: &OwnedFd, patience: Duration) -> bool {
    wait_until(fd, Instant::now().checked_add(patience))
}

fn wait_until(fd: &OwnedFd, end: Option<Instant>) -> bool {
    loop {
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        let timeout = left.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        });
        match poll(&mut [PollFd::new(fd, PollFlags::IN)], timeout.as_ref()) {
            Ok(count) => return count > 0,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

fn seconds(patience: Option<u64>) -> i64 {
    patience.map_or(-1, |seconds| i64::try_from(seconds).unwrap_or(i64::MAX))
}

/// How long the answer to a stop may take.
fn answer_time(patience: u64) -> Duration {
    Duration::from_secs(patience).saturating_add(KILL_WAIT)
}
