//! The process that stands behind a running container.
//!
//! It has one thread and a poll loop, and opens no store while the program runs. It is the parent of the
//! program's first process, which the kernel kills if the monitor dies. It owns the program's pipes or the
//! master of its terminal, writes the log, serves clients, and records the end.
//!
//! At the end the order is: record, exit code to the clients, then the slow part (mount, cgroup, layer). With
//! `--rm` the record and the name are gone before the exit code is told.

mod clients;
mod streams;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use kiln_cache::Store;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

pub(super) use self::clients::Clients;
use self::clients::Request;
pub(super) use self::streams::Streams;
use super::attach::socket_address;
use super::launch::{MonitorTask, accept_task};
use super::wire::Packet;
use super::{Containers, log, now};
use crate::api::ContainerState;
use crate::runtime::{self, Process, StartError};
use crate::sys::signals::Signals;

/// The kernel's choice when memory is short must not be the monitor; the program has its own value by then.
const OOM_SCORE: &[u8] = b"-999";
/// Exit codes of the monitor itself, which nobody reads but a debugger.
const FAILED: i32 = 1;

/// The door `kiln _monitor`: to be called before any thread starts; gives the process's exit code.
pub fn monitor_main() -> i32 {
    let Ok((socket, task, fds)) = accept_task::<MonitorTask>() else { return FAILED };
    let mut fds = fds.into_iter();
    let lock = fds.next();
    let namespace = if task.has_namespace { fds.next() } else { None };
    let monitor = Monitor {
        containers: Containers::new(&task.root),
        folder: task.root.join("containers").join(&task.record.id),
        clients: Clients::new(socket, task.outputs, task.stdin),
        _lock: lock,
        _address: fds.next(),
        task,
    };
    match monitor.run(namespace) {
        Ok(()) => 0,
        Err(_) => FAILED,
    }
}

struct Monitor {
    containers: Containers,
    folder: PathBuf,
    task: MonitorTask,
    clients: Clients,
    _lock: Option<OwnedFd>,
    _address: Option<OwnedFd>,
}

impl Monitor {
    fn run(mut self, namespace: Option<OwnedFd>) -> io::Result<()> {
        // Ends of terminals and sessions are nothing to it; only SIGKILL, and the end of its program, end it.
        let _signals = Signals::take(&[libc::SIGHUP, libc::SIGINT, libc::SIGTERM, libc::SIGQUIT])?;
        let (mut process, mut streams) = match self.start(namespace) {
            Ok(started) => started,
            Err(error) => return self.failed(error),
        };
        let listener = self.running(&process)?;
        let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);
        serve(&process, &mut streams, &mut self.clients, Some(&listener))?;
        let code = process.wait()?.code();
        streams.drain(&mut self.clients);
        self.ended(process, code)
    }

    fn start(&self, namespace: Option<OwnedFd>) -> Result<(Process, Streams), StartError> {
        let pipes = |error: io::Error| StartError::new("pipe", format!("cannot make pipes: {error}"));
        let log = log::path(&self.folder, &self.task.record.id);
        let config = &self.task.record.config;
        let (stdio, mut streams) =
            Streams::make(config.tty, config.interactive, Some(&log)).map_err(pipes)?;
        let mut process = runtime::start(&self.task.spec, stdio, namespace)?;
        if let Some(master) = process.take_pty() {
            streams.set_terminal(master).map_err(pipes)?;
        }
        Ok((process, streams))
    }

    /// Records that the program runs, and begins to listen.
    fn running(&mut self, process: &Process) -> io::Result<OwnedFd> {
        let listener = listen(&self.folder)?;
        let state = &mut self.task.record.state;
        state.status = ContainerState::Running;
        state.process = Some(process.target()?);
        state.started = Some(now());
        state.finished = None;
        state.exit_code = None;
        state.error.clear();
        state.oom_killed = false;
        self.write_record()?;
        self.clients.started();
        Ok(listener)
    }

    /// Records that there was nothing to run, and tells the starter.
    fn failed(mut self, error: StartError) -> io::Result<()> {
        let state = &mut self.task.record.state;
        state.exit_code = Some(error.exit_code());
        state.error = error.to_string();
        state.address = None;
        let kept = self.close_record();
        self.clients.broadcast(&Packet::Failed(error));
        self.clients.flush_all();
        self.clean(kept)
    }

    fn ended(mut self, process: Process, code: i32) -> io::Result<()> {
        let state = &mut self.task.record.state;
        state.status = ContainerState::Exited;
        state.exit_code = Some(code);
        state.oom_killed = process.oom_killed();
        state.finished = Some(now());
        state.process = None;
        state.address = None;
        let kept = self.close_record();
        self.clients.broadcast(&Packet::Exit(code));
        self.clients.flush_all();
        process.finish()?;
        self.clean(kept)
    }

    /// Writes the record for the last time, or takes the container away; then gives its folder's new place.
    fn close_record(&mut self) -> Option<PathBuf> {
        // Nobody is left to hear of an error here; the record then says `running`, without a lock: lost.
        let _ = std::fs::remove_file(self.folder.join("socket"));
        if self.task.record.config.remove {
            return self.containers.take_away(&self.task.record).ok();
        }
        let _ = self.write_record();
        None
    }

    /// The slow part of the end.
    fn clean(self, removed: Option<PathBuf>) -> io::Result<()> {
        if let Some(address) = self.task.address {
            self.containers.networks.give_back(address);
        }
        let Some(folder) = removed else { return Ok(()) };
        self.containers.remove_volumes(&self.task.record, true);
        if let Ok(store) = Store::open(&self.task.root) {
            let _ = store.unpin(&self.task.record.owner());
        }
        std::fs::remove_dir_all(folder)
    }

    fn write_record(&self) -> io::Result<()> {
        self.task.record.write(&self.folder).map_err(io::Error::other)
    }
}

/// Moves bytes, and carries out what clients ask for, until `process` has ended.
pub(super) fn serve(
    process: &Process,
    streams: &mut Streams,
    clients: &mut Clients,
    listener: Option<&OwnedFd>,
) -> io::Result<()> {
    loop {
        let pidfd = process.pidfd();
        let mut fds = vec![PollFd::new(&pidfd, PollFlags::IN)];
        // A client that doesn't take its output holds the program back, as a full pipe would.
        fds.extend(streams.poll_fds(clients.has_room()));
        let end_of_streams = fds.len();
        fds.extend(clients.poll_fds(streams.has_room()));
        let end_of_clients = fds.len();
        fds.extend(listener.map(|listener| PollFd::new(listener, PollFlags::IN)));
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let events: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
        drop(fds);
        streams.handle(&events[1..end_of_streams], clients);
        for request in clients.handle(&events[end_of_streams..end_of_clients]) {
            carry_out(request, process, streams);
        }
        if let (Some(listener), Some(true)) = (listener, events.get(end_of_clients).map(|e| !e.is_empty())) {
            clients.accept(listener);
        }
        if !events[0].is_empty() {
            return Ok(());
        }
    }
}

fn carry_out(request: Request, process: &Process, streams: &mut Streams) {
    match request {
        Request::Stdin(bytes) => streams.feed(&bytes),
        Request::StdinEnd => streams.end_input(),
        Request::Resize(rows, columns) => streams.resize(rows, columns),
        Request::Signal(signal) => drop(process.kill(signal)),
    }
}

fn listen(folder: &Path) -> io::Result<OwnedFd> {
    match std::fs::remove_file(folder.join("socket")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    let folder = std::fs::File::open(folder)?;
    rustix::net::bind(&socket, &socket_address(&folder)?)?;
    rustix::net::listen(&socket, 64)?;
    Ok(socket)
}
