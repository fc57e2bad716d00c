//! The process that stands behind a running container.
//!
//! It has one thread and a poll loop, and opens no store while the program runs. It is the parent of the
//! program's first process, which the kernel kills if the monitor dies. It owns the program's pipes or the
//! master of its terminal, writes the log, serves clients, records the end, and starts the program again when the
//! user or the container's policy wants that.
//!
//! At the last end the order is: record, exit code to the clients, then the slow part (mount, cgroup, layer).
//! With `--rm` the record and the name are gone before the exit code is told.

mod changes;
mod clients;
mod health;
mod holding;
mod keeper;
mod names;
mod networking;
mod oom;
mod pause;
mod ports;
mod restart;
mod serve;
mod stopping;
mod streams;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kiln_cache::Store;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};

use self::changes::Changes;
pub(super) use self::clients::Clients;
use self::health::Checks;
use self::holding::Holding;
use self::keeper::Keeper;
use self::names::Names;
pub use self::names::resolver_main;
use self::networking::Networking;
use self::oom::Oom;
use self::pause::Pausing;
pub use self::ports::proxy_main;
use self::restart::Delay;
pub(super) use self::restart::is_wanted_again;
pub(super) use self::serve::{Duties, Hands, Running, serve};
use self::stopping::Stopping;
pub(super) use self::streams::Streams;
use super::attach::socket_address;
use super::error::Error;
use super::helper::{self, Given};
use super::launch::{Handed, MonitorTask};
use super::log::{self, Sink};
use super::record::{Record, Wanted};
use super::wire::{self, Packet};
use super::{Containers, now, remove_folder, spec};
use crate::api::ContainerState;
use crate::network::{self, Namespace};
use crate::runtime::{self, At, Process, StartError, Stdio, Waiting};
use crate::sys;
use crate::sys::signals::Signals;
use crate::volume::{Held, Volumes};

/// The kernel's choice when memory is short must not be the monitor; the program has its own value by then.
const OOM_SCORE: &[u8] = b"-999";
/// What lists of processes show: what the caller typed may hold secrets, and is the caller's.
const TITLE: &str = "kiln _monitor";
/// Exit codes of the monitor itself, which nobody reads but a debugger.
const FAILED: i32 = 1;

/// The door `kiln _monitor [<id>]`: to be called before any thread starts; gives the process's exit code.
///
/// With an id a first process is got ready for that container before the task comes.
pub fn monitor_main(id: Option<&str>) -> i32 {
    helper::settle_in().map_or(FAILED, |socket| work(socket, id))
}

/// What a monitor does, in which way it was started.
pub(super) fn work(socket: OwnedFd, id: Option<&str>) -> i32 {
    let ended = begin(socket, id).and_then(|monitor| monitor.map_or(Ok(None), Monitor::run));
    let code = if ended.is_ok() { 0 } else { FAILED };
    network::close_late(ended.unwrap_or_default());
    code
}

fn begin(socket: OwnedFd, id: Option<&str>) -> io::Result<Option<Monitor>> {
    let waiting = id.and_then(|id| get_ready(id, &socket));
    let Some(Given { task, fds, program }) = helper::receive_task::<MonitorTask>(&socket)? else {
        return Ok(None);
    };
    let Handed { lock, namespace, inside, leases, names, filter } = Handed::of(&task.fds, fds);
    filter.into_iter().for_each(network::keep_filter);
    let own = match (&namespace, inside) {
        (Some(namespace), Some(inside)) => Namespace::of(vec![namespace.try_clone()?, inside]),
        _ => None,
    };
    let waiting = waiting.filter(|_| task.foreign.is_none());
    let waiting = waiting.filter(|waiting| waiting.fits(&task.spec) && waiting.is_in(namespace.as_ref()));
    let containers = Containers::new(&task.root);
    let record = Record { state: task.state.clone(), ..task.record.clone() };
    Ok(Some(Monitor {
        lasting: vec![Box::new(Names::new(names, &record))],
        networking: Some(Networking::new(own, leases)),
        keeper: Keeper::new(containers, record, namespace),
        clients: Clients::new(socket, task.wants),
        log: None,
        listener: None,
        waiting,
        held: None,
        volumes: Vec::new(),
        _lock: lock,
        task,
        _program: program,
    }))
}

/// Starts a first process for a container that is still to be made, and tells what its network is.
fn get_ready(id: &str, socket: &OwnedFd) -> Option<Waiting> {
    let mut waiting = Waiting::begin(spec::plain(id)).ok();
    let network = waiting.as_ref().and_then(|waiting| Namespace::enter(waiting.network().ok()?).ok());
    let fds: Vec<_> = network.iter().flat_map(Namespace::fds).collect();
    helper::send(socket, &fds).ok()?;
    waiting.iter_mut().for_each(Waiting::rehearse);
    waiting
}

struct Monitor {
    keeper: Keeper,
    task: MonitorTask,
    clients: Clients,
    /// Between two runs.
    log: Option<Box<dyn Sink>>,
    listener: Option<OwnedFd>,
    /// What the first run begins with.
    waiting: Option<Waiting>,
    /// Until it is one of the lasting duties.
    networking: Option<Networking>,
    /// What is mounted on its volumes.
    held: Option<Vec<Held>>,
    /// Its volumes that are to be deleted with it.
    volumes: Vec<PathBuf>,
    _lock: Option<OwnedFd>,
    /// Duties of its whole life, between two runs too.
    lasting: Duties<Keeper>,
    _program: OwnedFd,
}

/// Waits until the starter has connected the networks, where it does that beside.
fn wait_for_networks(awaited: &mut bool, keeper: &mut Keeper, clients: &Clients) -> Result<(), StartError> {
    if !std::mem::take(awaited) {
        return Ok(());
    }
    let packet = clients.starter().map(|socket| wire::receive(socket, RecvFlags::empty()));
    let error = match packet {
        Some(Ok(Some(Packet::Connected(endpoints)))) => {
            keeper.record.state.endpoints = endpoints;
            return Ok(());
        }
        Some(Ok(Some(Packet::Failed(error)))) => error,
        _ => StartError::new("network", "who started the container ended before its networks were connected"),
    };
    // Answers may be left in it.
    drop(network::lend_filter());
    Err(error)
}

/// What is done beside a program.
fn duties() -> Duties<Keeper> {
    // Who copies what they write to comes before who lets them go on.
    vec![
        Box::new(Holding::default()),
        Box::new(Stopping::default()),
        Box::new(Changes),
        Box::new(Pausing::default()),
    ]
}

type Run = (Box<dyn Running>, Streams);

impl Monitor {
    /// Gives the network that nothing is in any more.
    fn run(mut self) -> io::Result<Option<Namespace>> {
        // Ends of terminals and sessions are nothing to it; only SIGKILL, and the end of its program, end it.
        let _signals = Signals::take(&[libc::SIGHUP, libc::SIGINT, libc::SIGTERM, libc::SIGQUIT])?;
        let (mut process, mut streams) = match self.hold_ports().and_then(|()| self.start()) {
            Ok(started) => started,
            Err(error) => {
                // What the starter is still making is taken away after it.
                let _ = wait_for_networks(&mut self.task.awaits_networks, &mut self.keeper, &self.clients);
                return self.failed(error);
            }
        };
        self.listener = Some(listen(&self.keeper.folder)?);
        self.running(&*process)?;
        let _ = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE);
        let _ = sys::title::set(TITLE);
        loop {
            let mut duties = duties();
            duties.push(Box::new(Oom::new(&*process, &self.keeper)));
            if let Some(check) = self.keeper.record.config.health.clone() {
                duties.push(Box::new(Checks::new(check, &self.keeper)));
            }
            self.attend(Some(&*process), &mut streams, &mut duties)?;
            let code = process.wait()?;
            streams.drain(&mut self.clients);
            let oom_killed = process.oom_killed();
            self.keeper.ended(code, oom_killed);
            let Some(delay) = self.keeper.next_start() else { return self.close(process, code, oom_killed) };
            self.restarting(delay, code, oom_killed)?;
            process.finish()?;
            (process, streams) = match self.start_again(streams, delay)? {
                Some(started) => started,
                None => return self.give_up(),
            };
        }
    }

    /// Takes the ports that lead to the container, for as long as this process lives.
    fn hold_ports(&mut self) -> Result<(), StartError> {
        let Some(mut networking) = self.networking.take() else { return Ok(()) };
        networking.hold_ports(&mut self.keeper)?;
        // What it changes the others follow in the same turn.
        self.lasting.insert(0, Box::new(networking));
        Ok(())
    }

    fn start(&mut self) -> Result<Run, StartError> {
        let pipes = |error: io::Error| StartError::new("pipe", format!("cannot make pipes: {error}"));
        let record = &self.keeper.record;
        let log = match self.log.take() {
            Some(log) => Some(log),
            None => log::open(&self.keeper.folder, record)
                .map_err(|error| StartError::new("log", format!("cannot open the log: {error}")))?,
        };
        let (stdio, mut streams) =
            Streams::make(record.config.tty, record.config.interactive, log).map_err(pipes)?;
        self.hold_volumes()?;
        let (process, master) = self.run_program(stdio)?;
        if let Some(master) = master {
            streams.set_terminal(master).map_err(pipes)?;
        }
        Ok((process, streams))
    }

    /// Mounts what its volumes need, once.
    fn hold_volumes(&mut self) -> Result<(), StartError> {
        let Keeper { containers, record, .. } = &self.keeper;
        if self.held.is_none() {
            let held = containers.hold_volumes(&record.config);
            let refused = |error: Error| StartError {
                hint: Some("`kiln volume inspect` shows what it is made of".to_owned()),
                ..StartError::new("volume", error.to_string())
            };
            self.held = Some(held.map_err(refused)?);
            containers.tell_volumes(record, "mount");
        }
        Ok(())
    }

    fn run_program(&mut self, stdio: Stdio) -> Result<(Box<dyn Running>, Option<OwnedFd>), StartError> {
        let Monitor { task, keeper, clients, waiting, .. } = self;
        let is_held = task.awaits_networks;
        let mut connected = || wait_for_networks(&mut task.awaits_networks, keeper, clients);
        if let Some(foreign) = &task.foreign {
            connected()?;
            let (process, master) = foreign.start(&task.spec, stdio, keeper.namespace.as_ref())?;
            return Ok((Box::new(process), master));
        }
        let own = |mut process: Process| {
            let master = process.take_pty();
            (Box::new(process) as Box<dyn Running>, master)
        };
        if let (Some(waiting), Stdio::Fds(fds)) = (waiting.take(), &stdio)
            && let Some(process) = waiting.go(&task.spec, fds, is_held.then_some(&mut connected))?
        {
            return Ok(own(process));
        }
        connected()?;
        let clone = |namespace: &OwnedFd| {
            namespace.try_clone().at("network", || "cannot share the container's network namespace")
        };
        let namespace = keeper.namespace.as_ref().map(clone).transpose()?;
        runtime::start(&task.spec, stdio, namespace).map(own)
    }

    /// Records that the program runs, and tells it.
    fn running(&mut self, process: &dyn Running) -> io::Result<()> {
        self.keeper.running(process)?;
        let pid = self.keeper.record.state.process.as_ref().map_or(0, |process| process.pid);
        self.clients.started(pid.unsigned_abs());
        Ok(())
    }

    fn attend(
        &mut self,
        process: Option<&dyn Running>,
        streams: &mut Streams,
        duties: &mut Duties<Keeper>,
    ) -> io::Result<()> {
        let (clients, keeper) = (&mut self.clients, &mut self.keeper);
        let mut hands = Hands { process, streams, clients, keeper, is_over: false };
        let of_run = duties.len();
        duties.append(&mut self.lasting);
        let served = serve(&mut hands, self.listener.as_ref(), duties);
        self.lasting = duties.split_off(of_run);
        served
    }

    /// Records that it will run again, and tells this end to those who followed it.
    fn restarting(&mut self, delay: Duration, code: i32, oom_killed: bool) -> io::Result<()> {
        let state = &mut self.keeper.record.state;
        state.status = ContainerState::Restarting;
        state.restart_at = Some(now().saturating_add(i64::try_from(delay.as_nanos()).unwrap_or(i64::MAX)));
        self.keeper.write()?;
        self.clients.ended(code, oom_killed);
        Ok(())
    }

    /// Waits, and starts the program; `None` when that isn't wanted any more, or failed.
    fn start_again(&mut self, mut streams: Streams, delay: Duration) -> io::Result<Option<Run>> {
        if let Some(until) = Instant::now().checked_add(delay).filter(|_| !delay.is_zero()) {
            let mut duties = duties();
            duties.push(Box::new(Delay { until }));
            self.attend(None, &mut streams, &mut duties)?;
        }
        self.log = streams.into_log();
        if self.keeper.record.state.wanted == Wanted::Down {
            return Ok(None);
        }
        self.keeper.again = false;
        forget_volatile(&self.task.spec);
        // They may have been changed since the last start.
        if let Ok(limits) = spec::limits::limits(&self.keeper.record.config.resources) {
            // Those of devices can't be.
            let devices = std::mem::take(&mut self.task.spec.limits.devices);
            self.task.spec.limits = runtime::Limits { devices, ..limits };
        }
        match self.start() {
            Ok(started) => {
                self.running(&*started.0)?;
                self.clients.pay(&Packet::Done);
                Ok(Some(started))
            }
            Err(error) => {
                let state = &mut self.keeper.record.state;
                state.exit_code = Some(error.exit_code());
                state.error = error.to_string();
                // Whoever hears of it looks at the record next.
                state.status = ContainerState::Exited;
                let _ = self.keeper.write();
                self.clients.pay(&Packet::Failed(error));
                Ok(None)
            }
        }
    }

    /// Records that there was nothing to run, and tells the starter.
    fn failed(mut self, error: StartError) -> io::Result<Option<Namespace>> {
        let state = &mut self.keeper.record.state;
        state.exit_code = Some(error.exit_code());
        state.error = error.to_string();
        let kept = self.close_record();
        self.clients.broadcast(&Packet::Failed(error));
        self.clients.flush_all();
        self.clean(kept, None)
    }

    /// Ends without a program: it isn't started again.
    fn give_up(mut self) -> io::Result<Option<Namespace>> {
        self.keeper.record.state.status = ContainerState::Exited;
        let kept = self.close_record();
        self.tell_the_end();
        self.clean(kept, None)
    }

    fn close(
        mut self,
        mut process: Box<dyn Running>,
        code: i32,
        oom_killed: bool,
    ) -> io::Result<Option<Namespace>> {
        let kept = self.close_record();
        self.clients.ended(code, oom_killed);
        self.tell_the_end();
        let network = process.take_network();
        process.finish()?;
        self.clean(kept, network)
    }

    /// Gives the last answers.
    fn tell_the_end(&mut self) {
        self.clients.pay(&Packet::Done);
        if self.keeper.record.config.remove {
            self.clients.broadcast(&Packet::Removed);
        }
        self.clients.flush_all();
    }

    /// Writes the record for the last time, or takes the container away; then gives its folder's new place.
    fn close_record(&mut self) -> Option<PathBuf> {
        let keeper = &mut self.keeper;
        // What was mounted on its volumes goes before anybody hears that it ended.
        if self.held.take().is_some() {
            keeper.containers.tell_volumes(&keeper.record, "unmount");
        }
        self.task.state.endpoints = std::mem::take(&mut keeper.record.state.endpoints);
        // Who hears of the end finds the name gone.
        for endpoint in self.task.state.endpoints.iter().filter(|endpoint| endpoint.has_names()) {
            keeper.containers.networks.renounce(&endpoint.network, &keeper.record.id);
        }
        keeper.record.state.ports.clear();
        keeper.record.state.restart_at = None;
        // Nobody is left to hear of an error here; the record then says `running`, without a lock: lost.
        let _ = std::fs::remove_file(keeper.folder.join("socket"));
        if keeper.record.config.remove {
            let removed = keeper.containers.take_away(&keeper.record).ok();
            let _ = Store::unpin_at(&self.task.root, &keeper.record.owner());
            self.volumes = keeper.containers.set_volumes_aside(&keeper.record);
            return removed;
        }
        let _ = keeper.write();
        None
    }

    /// The slow part of the end.
    fn clean(self, removed: Option<PathBuf>, network: Option<OwnedFd>) -> io::Result<Option<Namespace>> {
        let Keeper { containers, namespace, .. } = self.keeper;
        let mut network = namespace.or(network).and_then(|network| Namespace::enter(network).ok());
        for endpoint in &self.task.state.endpoints {
            // Whoever gets the address next is the only one to have it.
            let is_silent = network
                .as_mut()
                .is_none_or(|it| it.fall_silent(&endpoint.interface, &endpoint.addresses()).is_ok());
            network = network.filter(|_| is_silent);
            if let Some(address) = endpoint.address {
                containers.networks.give_back(&endpoint.network, address.addr());
            }
        }
        let Some(folder) = removed else { return Ok(network) };
        Volumes::delete(&self.volumes);
        remove_folder(&folder)?;
        Ok(network)
    }
}

/// A volatile overlay leaves a mark that keeps its work folder from a further mount: after a crash of the machine
/// its content would be in doubt. There was none since.
fn forget_volatile(spec: &runtime::Spec) {
    if let (true, Some(work)) = (spec.volatile, &spec.rootfs.work) {
        let _ = std::fs::remove_dir_all(work.join("work/incompat"));
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
