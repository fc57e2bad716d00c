//! Starting a container: its network, and its monitor.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read, Seek, Write};
use std::mem::MaybeUninit;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use kiln_cache::Store;
use rustix::fs::MemfdFlags;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::attach::Attachment;
use super::error::{At, Error, Result};
use super::record::{Address, Record, State, Wanted};
use super::wire::{self, Packet, Wants};
use super::{Containers, spec};
use crate::api::NetworkMode;
use crate::network::Endpoint;
use crate::runtime::{Spec, sealed_program};

/// The most descriptors that go with a task: itself, the lock, a namespace, an address.
const TASK_FDS: usize = 4;

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
        let endpoint = match record.config.network {
            NetworkMode::Bridge => Some(self.networks.connect(&record.id)?),
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
        let socket =
            spawn("_monitor", &task, &fds).at("start the monitor in", self.folder(&task.record.id))?;
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

/// Runs this program again, from a clone of it that nobody can write, as `kiln <door>`; gives the socket to it.
///
/// It gets `task` and the descriptors through its standard input, and inherits nothing else.
pub(super) fn spawn<T: Serialize>(door: &str, task: &T, fds: &[OwnedFd]) -> io::Result<OwnedFd> {
    // Its parent is done long before it; the machine's first process reaps it.
    spawn_child(door, task, fds).map(|(socket, _)| socket)
}

/// As [`spawn`], for a parent that lives on and has to reap it.
pub(super) fn spawn_child<T: Serialize>(
    door: &str,
    task: &T,
    fds: &[OwnedFd],
) -> io::Result<(OwnedFd, Child)> {
    let (near, far) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    let program = sealed_program()?;
    let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
    // No working directory here: with one, std forks instead of spawning, and copies this process's page tables.
    command.arg0("kiln").arg(door).env_clear();
    command.stdin(far).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn()?;
    drop(command);
    // The task may be longer than a packet: a file in memory has no limit.
    let mut file = File::from(rustix::fs::memfd_create(c"task", MemfdFlags::CLOEXEC)?);
    file.write_all(&serde_json::to_vec(task)?)?;
    file.rewind()?;
    let mut all = vec![file.as_fd()];
    all.extend(fds.iter().map(AsFd::as_fd));
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(TASK_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&all)) {
        return Err(io::Error::other("too many descriptors"));
    }
    rustix::io::retry_on_intr(|| sendmsg(&near, &[IoSlice::new(b"T")], &mut control, SendFlags::NOSIGNAL))?;
    Ok((near, child))
}

/// The other side of [`spawn`]: leaves the caller's session behind, and gives the socket, the task and the
/// descriptors.
pub(super) fn accept_task<T: DeserializeOwned>() -> io::Result<(OwnedFd, T, Vec<OwnedFd>)> {
    let socket = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let null = File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    drop(null);
    crate::sys::fds::close_all_except(3, &[socket.as_raw_fd()])?;
    rustix::process::chdir("/")?;
    // It fails for a process that leads a group, which one that was just made never does.
    let _ = rustix::process::setsid();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(TASK_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    rustix::io::retry_on_intr(|| {
        recvmsg(&socket, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    let mut fds: Vec<OwnedFd> = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if fds.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut text = Vec::new();
    File::from(fds.remove(0)).read_to_end(&mut text)?;
    Ok((socket, serde_json::from_slice(&text)?, fds))
}
