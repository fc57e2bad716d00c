//! Starting a container: its network, and its monitor.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use kiln_cache::Store;
use rustix::net::RecvFlags;
use serde::{Deserialize, Serialize};

use super::ahead::{Ahead, MONITOR, hand_over};
use super::attach::Attachment;
use super::error::{At, Error, Result};
use super::record::{Address, Record, State, Wanted};
use super::wire::{self, Packet, Wants};
use super::{Containers, spec};
use crate::api::NetworkMode;
use crate::network::Endpoint;
use crate::runtime::Spec;

/// What a monitor has to do.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct MonitorTask {
    /// The store.
    pub(super) root: PathBuf,
    pub(super) record: Record,
    /// The record's, which it doesn't bring itself.
    pub(super) state: State,
    pub(super) spec: Spec,
    /// What the starter wants of the streams.
    pub(super) wants: Wants,
    /// Whether a namespace comes with it.
    pub(super) has_namespace: bool,
    /// The address whose holder comes with it.
    pub(super) address: Option<Ipv4Addr>,
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
        let lock = match lock {
            Some(lock) => lock,
            None => self.take(record)?.ok_or_else(running)?,
        };
        self.refuse_mounted("start", record)?;
        // Read again under the lock: its last run may have ended just now.
        let record = Record::read(&self.folder(&record.id))?;
        let ahead = self.take_ahead(MONITOR);
        let endpoint = match record.config.network {
            NetworkMode::Bridge => {
                Some(self.networks.connect_in(ahead.as_ref().and_then(Ahead::network), &record.id)?)
            }
            NetworkMode::None | NetworkMode::Host => None,
        };
        let place = endpoint.as_ref().map(|endpoint| (endpoint.address.addr(), endpoint.gateway));
        let shared = self.shared_network(&record.config)?;
        let donor = shared.as_ref().map(|(_, target)| target);
        let lowers = store.overlay(&record.chain, None).lowers;
        let tty = record.config.tty.then(|| streams.size.unwrap_or((24, 80)));
        let mut task = MonitorTask {
            root: self.root.clone(),
            spec: Spec {
                namespaces: self.namespaces(&record.config)?,
                ..spec::spec(&record, &self.folder(&record.id), lowers, tty, place, donor)?
            },
            wants: streams.wants(&record),
            state: State { wanted: Wanted::Up, restarts: 0, ..record.state.clone() },
            record,
            has_namespace: endpoint.is_some() || shared.is_some(),
            address: place.map(|(address, _)| address),
        };
        task.state.address = endpoint.as_ref().map(|endpoint| self.address(endpoint));
        let mut fds = vec![lock];
        fds.extend(shared.map(|(namespace, _)| namespace));
        if let Some(endpoint) = endpoint {
            let (namespace, holder) = endpoint.hand_over();
            fds.push(namespace);
            fds.extend(holder);
        }
        let socket = hand_over(ahead, MONITOR, &task, &fds)
            .at("start the monitor in", self.folder(&task.record.id))?;
        drop(fds);
        started(socket, &task.record)
    }

    fn address(&self, endpoint: &Endpoint) -> Address {
        let mac: Vec<_> = endpoint.mac.iter().map(|byte| format!("{byte:02x}")).collect();
        Address {
            bridge: self.networks.bridge().to_owned(),
            address: endpoint.address.to_string(),
            gateway: endpoint.gateway.to_string(),
            mac: mac.join(":"),
        }
    }
}

/// Waits for the monitor's word about the start.
fn started(socket: OwnedFd, record: &Record) -> Result<Attachment> {
    let name = record.name.clone();
    match wire::receive(&socket, RecvFlags::empty()) {
        Ok(Some(Packet::Started(_))) => Ok(Attachment::new(socket, record)),
        Ok(Some(Packet::Failed(source))) => Err(Error::Start { name, source }),
        _ => Err(Error::MonitorLost { name }),
    }
}
