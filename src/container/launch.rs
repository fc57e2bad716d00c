//! Starting a container: its network, and its monitor.

use std::error::Error as _;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use kiln_cache::Store;
use rustix::net::RecvFlags;
use serde::{Deserialize, Serialize};

use super::ahead::{Ahead, MONITOR, hand_over};
use super::attach::Attachment;
use super::error::{At, Error, Result};
use super::foreign::Foreign;
use super::mounting::image_mounts;
use super::networking::{Connection, Pending};
use super::record::{Record, State, Wanted};
use super::wire::{self, Packet, Wants};
use super::{Containers, missing, spec};
use crate::network::{self, NameSockets};
use crate::runtime::{Spec, StartError};

/// What a monitor has to do.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct MonitorTask {
    /// The store.
    pub(super) root: PathBuf,
    pub(super) record: Record,
    /// The record's, which it doesn't bring itself.
    pub(super) state: State,
    pub(super) spec: Spec,
    /// The runtime, when it isn't kiln's own.
    pub(super) foreign: Option<Foreign>,
    /// What the starter wants of the streams.
    pub(super) wants: Wants,
    /// The starter tells when its networks are connected; the program doesn't run before.
    pub(super) awaits_networks: bool,
    /// The descriptors that come with it.
    pub(super) fds: Vec<FdKind>,
}

/// What a descriptor is that a monitor gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum FdKind {
    Lock,
    Namespace,
    Inside,
    Lease,
    NameDatagrams,
    NameConnections,
    Filter,
}

/// What a monitor gets besides its task.
#[derive(Debug, Default)]
pub(super) struct Handed {
    /// The container's lock.
    pub(super) lock: Option<OwnedFd>,
    /// What every run of the program is started in.
    pub(super) namespace: Option<OwnedFd>,
    /// A socket in that one, when it is the container's own.
    pub(super) inside: Option<OwnedFd>,
    /// What holds its addresses as long as it is open.
    pub(super) leases: Vec<OwnedFd>,
    /// Where it asks for names.
    pub(super) names: Option<NameSockets>,
    /// Where it changes the packet filter.
    pub(super) filter: Option<OwnedFd>,
}

impl Handed {
    /// Puts them into an order, and tells it.
    fn into_fds(self) -> (Vec<FdKind>, Vec<OwnedFd>) {
        let lock = self.lock.map(|fd| (FdKind::Lock, fd));
        let namespace = self.namespace.map(|fd| (FdKind::Namespace, fd));
        let inside = self.inside.map(|fd| (FdKind::Inside, fd));
        let leases = self.leases.into_iter().map(|fd| (FdKind::Lease, fd));
        let names = self
            .names
            .map(|names| [(FdKind::NameDatagrams, names.udp), (FdKind::NameConnections, names.tcp)]);
        let names = names.into_iter().flatten();
        let filter = self.filter.map(|fd| (FdKind::Filter, fd));
        lock.into_iter().chain(namespace).chain(inside).chain(leases).chain(names).chain(filter).unzip()
    }

    /// Takes them as they came.
    pub(super) fn of(kinds: &[FdKind], fds: Vec<OwnedFd>) -> Self {
        let mut handed = Self::default();
        let (mut udp, mut tcp) = (None, None);
        for (kind, fd) in kinds.iter().zip(fds) {
            match kind {
                FdKind::Lock => handed.lock = Some(fd),
                FdKind::Namespace => handed.namespace = Some(fd),
                FdKind::Inside => handed.inside = Some(fd),
                FdKind::Lease => handed.leases.push(fd),
                FdKind::NameDatagrams => udp = Some(fd),
                FdKind::NameConnections => tcp = Some(fd),
                FdKind::Filter => handed.filter = Some(fd),
            }
        }
        handed.names = udp.zip(tcp).map(|(udp, tcp)| NameSockets { udp, tcp });
        handed
    }
}

/// How a start takes part in the container's streams.
#[derive(Debug, Clone, Default)]
pub struct Streams {
    /// Show the program's outputs.
    pub outputs: bool,
    /// Forward standard input; its end is the program's.
    pub stdin: bool,
    /// The terminal's rows and columns.
    pub size: Option<(u16, u16)>,
    /// What leaves a terminal's program running when it is typed; `None` is ctrl-p ctrl-q.
    pub detach_keys: Option<Vec<u8>>,
    /// The caller's signals are not the program's.
    pub keeps_signals: bool,
    /// Of the outputs, standard output and standard error are left away.
    pub hides: (bool, bool),
}

impl Streams {
    /// What is asked of the monitor of `record`.
    pub(super) fn wants(&self, record: &Record) -> Wants {
        Wants {
            stdout: self.outputs && !self.hides.0,
            stderr: self.outputs && !self.hides.1,
            stdin: self.stdin,
            ends_stdin: self.stdin && record.config.stdin_once,
        }
    }
}

impl Containers {
    /// Starts a container; returns once its program runs, as its monitor's first client.
    ///
    /// `lock` is the container's, from whoever has just made it.
    pub fn start(
        &self,
        store: &Store,
        record: &Record,
        lock: Option<OwnedFd>,
        streams: &Streams,
    ) -> Result<Attachment> {
        let running = || Error::Running { verb: "start", name: record.name.clone() };
        let is_new = lock.is_some();
        let lock = match lock {
            Some(lock) => lock,
            None => self.take(record)?.ok_or_else(running)?,
        };
        self.refuse_mounted("start", record)?;
        let gone = |error| missing(error, Error::NotFound { text: record.name.clone() });
        let record = match is_new {
            true => record.clone(),
            // Read again under the lock: its last run may have ended just now.
            false => Record::read(&self.folder(&record.id)).map_err(gone)?,
        };
        let rights = spec::rights(&record.config, false)?;
        // A first process of kiln's own stays in the container, and needs a file that nobody can write.
        let fits = |ahead: &Ahead| ahead.may_run(&rights) && !record.config.isolation.init;
        let mut ahead = self.take_ahead(MONITOR).filter(fits);
        let awake = ahead.as_mut().and_then(Ahead::take_awake);
        let mut connection = self.connect(&record, ahead.as_ref())?;
        let pending = self.pending(&record, &mut connection)?;
        let lowers = store.overlay(&record.chain, None).lowers;
        let images = image_mounts(store, &record.config)?;
        let tty = record.config.tty.then(|| streams.size.unwrap_or((24, 80)));
        let mut task = MonitorTask {
            root: self.root.clone(),
            spec: Spec {
                namespaces: self.namespaces(&record.config)?,
                ..spec::spec(&record, &self.folder(&record.id), lowers, tty, &connection, images)?
            },
            foreign: Foreign::of(&record, &self.folder(&record.id))?,
            wants: streams.wants(&record),
            awaits_networks: pending.is_some(),
            state: State {
                wanted: Wanted::Up,
                restarts: 0,
                endpoints: connection.endpoints.clone(),
                ..record.state.clone()
            },
            record,
            fds: Vec::new(),
        };
        let handed = Handed {
            lock: Some(lock),
            namespace: connection.namespace,
            inside: connection.inside,
            leases: connection.leases,
            names: connection.names,
            filter: match pending.is_some() {
                true => Some(network::share_filter().at("open", "the packet filter")?),
                false => network::lend_filter(),
            },
        };
        let (kinds, fds) = handed.into_fds();
        task.fds = kinds;
        let socket = hand_over(ahead, MONITOR, &task, &fds)
            .at("start the monitor in", self.folder(&task.record.id))?;
        drop(fds);
        if let Some(mut pending) = pending {
            pending.give_over();
            self.plug_beside(&socket, &task.record, pending)?;
        }
        // It takes a moment, and the monitor works now.
        store.rest();
        let attachment = started(socket, &task.record)?.while_awake(awake);
        self.retell_links(&task.record);
        Ok(attachment)
    }
}

impl Containers {
    /// Makes the links now, where the monitor has something to do with them before the program runs: what leads to its ports.
    fn pending(&self, record: &Record, connection: &mut Connection) -> Result<Option<Pending>> {
        let pending = connection.pending.take();
        if record.config.ports.is_empty() && !record.config.publish_all {
            return Ok(pending);
        }
        if let Some(pending) = pending {
            connection.endpoints = self.plug(record, pending)?;
        }
        Ok(None)
    }

    /// Makes the links while the monitor gets the program ready, and tells it.
    fn plug_beside(&self, socket: &OwnedFd, record: &Record, pending: Pending) -> Result<()> {
        match self.plug(record, pending) {
            Ok(endpoints) => {
                // One that has ended is missed by who waits for its word.
                let _ = Packet::Connected(endpoints).send(socket);
                Ok(())
            }
            Err(error) => {
                // It notes the reason, gives the addresses back, and ends.
                let _ = Packet::Failed(reason(&error)).send(socket);
                while let Ok(Some(_)) = wire::receive(socket, RecvFlags::empty()) {}
                Err(error)
            }
        }
    }
}

/// Why the networks could not be connected, as a record keeps it.
fn reason(error: &Error) -> StartError {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    StartError::new("network", text)
}

/// Waits for the monitor's word about the start.
///
/// A monitor that was started ahead has told of its network by a packet of the helper's. Where nobody has read that,
/// because the container has another network, it comes first; it is none of [`Packet`]'s, and `receive` skips it.
fn started(socket: OwnedFd, record: &Record) -> Result<Attachment> {
    let name = record.name.clone();
    match wire::receive(&socket, RecvFlags::empty()) {
        Ok(Some(Packet::Started(_))) => Ok(Attachment::new(socket, record)),
        Ok(Some(Packet::Failed(source))) => Err(Error::Start { name, source }),
        _ => Err(Error::MonitorLost { name }),
    }
}
